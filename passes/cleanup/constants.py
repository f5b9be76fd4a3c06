"""Constant folding: what depends on weights alone is computed once, now."""

from __future__ import annotations

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
    """Replace every operator of constants, or of zeros and ones, by its value, unless that is larger."""

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
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), _known)
            value = Staged(node.target, tuple(args), dict(kwargs))
            try:
                values = work.evaluate(value)
                weights = [one for one in node.all_input_nodes if one.op == "get_attr"]
                folded = editor.add_parameter(values, node.meta["val"].dtype, weights, "folded")
            except (RuntimeError, CannotStage):
                continue
            freed = _freed(node)
            folded.meta[REWRITE] = Rewrite(journal.next_number, self.name, (provenance(node),))
            node.replace_all_uses_with(folded)
            operands = node.all_input_nodes
            erase([node])
            erase(operands)
            journal.note(self.name, node, saved_nodes=1, saved_parameters=freed - values.numel())
            count += 1
        if count:
            module.graph.lint()
        return count


def _foldable(node: fx.Node, work: Workspace) -> bool:
    """Whether the value is a single tensor of constants, and not larger than what it is made of."""
    val = node.meta.get("val")
    if node.op != "call_function" or not isinstance(val, torch.Tensor):
        return False
    op = operator_of(node.target)
    if op is None or op.random or op.name in FILLED or not node.all_input_nodes:
        return False
    if any(arg.op != "get_attr" and not _is_filled(arg) for arg in node.all_input_nodes):
        return False
    if any(not isinstance(size, int) for size in val.shape):
        return False
    stored = sum(
        work.tensor(arg).numel()
        for arg in node.all_input_nodes
        if arg.op == "get_attr" and len(arg.users) == 1
    )
    return val.numel() <= max(stored, 16)


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
    known = (arg for arg in node.all_input_nodes if arg.op == "get_attr" and len(arg.users) == 1)
    return sum(arg.meta["val"].numel() for arg in known)
