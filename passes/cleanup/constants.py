"""Constant folding: what depends on weights alone is computed once, now."""

from __future__ import annotations

import operator as python_operator

import torch
from torch import fx

from tdsl.engine.driver import Scope
from tdsl.engine.edit import Editor
from tdsl.engine.journal import Journal
from tdsl.engine.nodes import erase
from tdsl.engine.passes import GraphPass, graph_pass
from tdsl.engine.staged import CannotStage, Staged
from tdsl.engine.workspace import Workspace
from tdsl.ops.targets import calls, operator_of
from tdsl.provenance import REWRITE, Rewrite, provenance


@graph_pass
class FoldConstants(GraphPass):
    """Replace every value of an operator of constants, or of zeros and ones, unless they are larger."""

    name = "cleanup.fold_constants"

    def rewrite(self, module: fx.GraphModule, journal: Journal, scope: Scope | None = None) -> int:
        """Fold in one sweep, operands before users, in float64."""
        work = Workspace(module)
        editor = Editor(work)
        count = 0
        for node in list(module.graph.nodes):
            if journal.full:
                break
            if not _foldable(node, work) or (scope is not None and not scope(node)):
                continue
            call = _call(node)
            operands = call.all_input_nodes
            try:
                values = work.evaluate(_staged(node))
                weights = [one for one in operands if one.op == "get_attr"]
                folded = editor.add_parameter(values, node.meta["val"].dtype, weights, "folded")
            except (RuntimeError, CannotStage):
                continue
            freed = _freed(node)
            folded.meta[REWRITE] = Rewrite(journal.next_number, self.name, (provenance(node),))
            node.replace_all_uses_with(folded)
            erase([node])
            erase([call] if call is not node else [])
            erase(operands)
            journal.note(self.name, node, saved_nodes=1, saved_parameters=freed - values.numel())
            count += 1
        if count:
            module.graph.lint()
        return count


def _call(node: fx.Node) -> fx.Node:
    """The call that gives a value: the node itself, or what it takes one of several results of."""
    whole = node.args[0] if node.target is python_operator.getitem else node
    assert isinstance(whole, fx.Node)
    return whole


def _foldable(node: fx.Node, work: Workspace) -> bool:
    """Whether a value is made of constants, and all that its call gives is not larger than they are."""
    if node.op != "call_function" or not isinstance(node.meta.get("val"), torch.Tensor):
        return False
    call = _call(node)
    op = operator_of(call.target)
    if op is None or op.random or op.name in FILLED or not call.all_input_nodes:
        return False
    if any(arg.op != "get_attr" and not _is_filled(arg) for arg in call.all_input_nodes):
        return False
    results = [one.meta["val"] for one in ([node] if call is node else call.users)]
    if any(not isinstance(size, int) for one in results for size in one.shape):
        return False
    stored: int = sum(
        work.tensor(arg).numel()
        for arg in call.all_input_nodes
        if arg.op == "get_attr" and len(arg.users) == 1
    )
    small = VECTOR if all(one.ndim <= 1 for one in results) else 16
    return bool(sum(one.numel() for one in results) <= max(stored, small))


VECTOR = 4096
"""Elements of a scale, shift or bias that is stored though its operands are smaller: layers take it in."""


def _staged(node: fx.Node) -> Staged:
    """The value as something to compute."""
    call = _call(node)
    args, kwargs = fx.node.map_arg((call.args, call.kwargs), _known)
    value = Staged(call.target, tuple(args), dict(kwargs))
    return value if call is node else Staged(python_operator.getitem, (value, node.args[1]), {})


FILLED = {"zeros": 0, "new_zeros": 0, "ones": 1, "new_ones": 1}
"""Operators that give one number throughout, whatever they read."""


def _is_filled(node: fx.Node) -> bool:
    """Whether a value is zeros or ones of known number."""
    val = node.meta.get("val")
    known = isinstance(val, torch.Tensor) and all(isinstance(size, int) for size in val.shape)
    return known and calls(node, *FILLED)


def _known(node: fx.Node) -> fx.Node | Staged:
    if node.op == "get_attr":
        return node
    operator, val = operator_of(node.target), node.meta["val"]
    assert operator is not None
    return Staged(torch.ops.aten.full.default, (list(val.shape), FILLED[operator.name]), {"dtype": val.dtype})


def _freed(node: fx.Node) -> int:
    """How many numbers are not needed any more once the node is gone."""
    call = _call(node)
    if call is not node and len(call.users) > 1:
        return 0
    known = (arg for arg in call.all_input_nodes if arg.op == "get_attr" and len(arg.users) == 1)
    return sum(arg.meta["val"].numel() for arg in known)
