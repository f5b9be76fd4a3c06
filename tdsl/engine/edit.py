"""Putting a replacement into a graph: local, in order, and with a record of where every node came from."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import fx
from torch.utils import _pytree as pytree

from tdsl.engine.arithmetic import origins_of
from tdsl.engine.nodes import erase, insert_after
from tdsl.engine.order import by_place, dependents_before, shorten_keys
from tdsl.engine.rule import Replacement
from tdsl.engine.staged import CannotStage, Constant, Filled, Staged, Value, map_values, parts_of, tensors_in
from tdsl.engine.symbols import SizeNodes
from tdsl.engine.weights import STANDS_FOR, add_weight, leading
from tdsl.engine.workspace import Workspace
from tdsl.ops.targets import operator_of
from tdsl.provenance import REWRITE, VALUE, Rewrite, provenance, value_name

_INHERITED = ("nn_module_stack", "stack_trace")


class Edit(NamedTuple):
    """What a replacement changed in a graph."""

    created: list[fx.Node]
    """The new nodes, in graph order."""
    operands: Collection[fx.Node]
    """What the replaced nodes had used, gone or not."""
    erased: int
    """How many of the replaced nodes are gone."""


class Editor:
    """Applies replacements to one graph module and keeps it well-formed after each of them."""

    def __init__(self, work: Workspace) -> None:
        self.work = work
        self.module = work.module
        self.graph = work.module.graph
        self.sizes = SizeNodes(self.graph)

    def apply(self, replacement: Replacement, number: int) -> Edit:
        """Replace the outputs and remove what is dead.

        The replacement stands after its last input; nodes that use an output and stood before that point
        move behind it. Of outputs that are computed from others each is replaced at its place. Raises
        `CannotStage`, with the graph as it was, where the values need a size that no node before that point
        tells.
        """
        outputs, matched = replacement.outputs, replacement.matched
        root = outputs[0]
        record = Rewrite(number, replacement.rule.name, tuple([provenance(node) for node in matched]))
        builder = _Builder(self, record, replacement.rule.name, root)
        first = root if len(outputs) == 1 else min(outputs)
        late: list[fx.Node] = []
        if not replacement.in_turn and (len(outputs) > 1 or root < max(matched)):
            inputs = [part for part in parts_of(replacement.values) if isinstance(part, fx.Node)]
            late = [node for node in inputs if not node < first]
        if not late:
            builder.before(first)
        else:
            builder.after(max(late))
        try:
            if replacement.in_turn:
                results = builder.in_turn(outputs, replacement.values)
            else:
                results = [builder.node(value) for value in replacement.values]
        except CannotStage:
            erase(builder.created)
            raise
        touched = [node for node in builder.created if node.op != "get_attr"]
        if late:
            # The users of the outputs that stood before the new nodes now follow them, in their old order.
            place = builder.last
            for node in dependents_before(outputs, place):
                if node not in matched:
                    place.append(node)
                    place = node
                    touched.append(node)
        for old, new in zip(outputs, results, strict=True):
            if new in builder.created:
                new.meta[VALUE] = value_name(old)
            old.replace_all_uses_with(new)
        _require_order(touched)
        operands: dict[fx.Node, None] = {}
        for node in matched:
            operands.update(node._input_nodes)
        erased = erase(matched)
        weights = [operand for operand in operands if operand.op == "get_attr"]
        if weights:
            erase(weights)
        return Edit(builder.created, operands, erased)

    def add_parameter(
        self,
        values: torch.Tensor,
        dtype: torch.dtype,
        made_of: Sequence[fx.Node],
        label: str,
        like: fx.Node | None = None,
    ) -> fx.Node:
        """A new weight at the top of the graph, named after `like`, by default what leads all it is made of.

        Raises `CannotStage` where `dtype` overflows by values that are finite.
        """
        stored = values.to(dtype)
        if stored.is_floating_point() and not bool(stored.isfinite().all()) and bool(values.isfinite().all()):
            raise CannotStage(f"a weight would overflow {str(dtype).removeprefix('torch.')}")
        kind = leading(self.module, made_of)
        like = kind if like is None else like
        path = add_weight(self.module, stored.contiguous().clone(), kind, like, label)
        with self.graph.inserting_before(next(iter(self.graph.nodes))):
            node = self.graph.get_attr(path)
        if like is not None:
            own = (str(like.target), self.work.tensor(like).shape)
            node.meta[STANDS_FOR] = like.meta.get(STANDS_FOR, own)
        mode = self.work.mode()
        if mode is not None:
            node.meta["val"] = mode.from_tensor(self.work.tensor(node), static_shapes=True)
        return node


class _Builder:
    """Creates the nodes of one replacement, one after the other."""

    def __init__(self, editor: Editor, record: Rewrite, label: str, root: fx.Node) -> None:
        self.editor = editor
        self.record = record
        self.label = label.rpartition(".")[2]
        self.inherited = {key: root.meta[key] for key in _INHERITED if key in root.meta}
        self.inherited[REWRITE] = record
        self.created: list[fx.Node] = []
        self.constants: dict[Constant, fx.Node] = {}
        self.last: fx.Node = root

    def before(self, node: fx.Node) -> None:
        self.last = node.prev

    def after(self, node: fx.Node) -> None:
        self.last = node

    def in_turn(self, outputs: Sequence[fx.Node], values: Sequence[Any]) -> list[Any]:
        """Each value made right before the output that it replaces, the first in the graph first."""
        made = {}
        places = dict(zip(outputs, values, strict=True))
        for output in by_place(places):
            self.before(output)
            made[output] = self.node(places[output])
        return [made[output] for output in outputs]

    def node(self, value: Any) -> Any:
        """The graph node of a staged value, created now if need be; plain values as they are."""
        if isinstance(value, fx.Node):
            return value
        if isinstance(value, Staged):
            if value.node is None:
                value.node = self.constant(value) if self.editor.work.is_const(value) else self.call(value)
            return value.node
        if isinstance(value, Constant):
            if value not in self.constants:
                label = value.label or self.label
                made_of = [] if value.origin is None else [value.origin]
                made = self.editor.add_parameter(value.values, value.dtype, made_of, label)
                self.constants[value] = self.mark(made)
            return self.constants[value]
        if isinstance(value, Filled):
            work = self.editor.work
            return self.mark(self.editor.add_parameter(work.evaluate(value), value.dtype, [], self.label))
        return self.editor.sizes.plain(value, self)

    def constant(self, value: Staged) -> fx.Node:
        work = self.editor.work
        values = work.evaluate(value)
        if values.is_floating_point() and not bool(values.isfinite().all()) and _finite(value, work):
            raise CannotStage("a weight would not be finite")
        val = work.val(value)
        dtype = val.dtype if val is not None else _dtype_from(value, work)
        origins = origins_of([value])
        alike = (weight for weight in origins if work.tensor(weight).shape == values.shape)
        like = next(alike, origins[0] if origins else None)
        return self.mark(self.editor.add_parameter(values, dtype, origins, self.label, like))

    def call(self, value: Staged) -> fx.Node:
        args = tuple([a if type(a) is fx.Node else self.argument(a) for a in value.args])
        kwargs = {name: self.argument(a) for name, a in value.kwargs.items()}
        return self.place(value.target, args, kwargs, self.editor.work.val(value), value.op)

    def place(
        self,
        target: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        val: Any,
        kind: str = "call_function",
    ) -> fx.Node:
        """A new node behind the last one."""
        op = operator_of(target)
        node = insert_after(self.last, kind, target, args, kwargs, op.name if op else None)
        self.last = node
        shorten_keys(self.editor.graph, node)
        if val is not None:
            node.meta["val"] = val
        node.meta.update(self.inherited)
        self.created.append(node)
        return node

    def argument(self, value: Any) -> Any:
        if isinstance(value, Value):
            return self.node(value)
        if value is None or isinstance(value, int | float | str):
            return value
        return self.editor.sizes.plain(map_values(value, self.node), self)

    def mark(self, node: fx.Node) -> fx.Node:
        node.meta[REWRITE] = self.record
        self.created.append(node)
        return node


def _require_order(nodes: Iterable[fx.Node]) -> None:
    """What a lint of the whole graph would find wrong after one edit, looked for where the edit was."""
    for node in nodes:
        wrong = node._erased
        for operand in node._input_nodes:
            wrong = wrong or operand._erased or not operand < node
        if wrong:
            raise RuntimeError(f"the edit left {node.name} before one of its operands")


def _finite(value: Staged, work: Workspace) -> bool:
    """Whether all that a constant term is made of is finite; a mask of infinities is made of one."""
    for part in parts_of([value]):
        if isinstance(part, fx.Node) and not bool(work.tensor(part).isfinite().all()):
            return False
        numbers = pytree.tree_leaves((part.args, part.kwargs)) if isinstance(part, Staged) else ()
        if not all(math.isfinite(number) for number in numbers if isinstance(number, float)):
            return False
    return True


def _dtype_from(value: Staged, work: Workspace) -> torch.dtype:
    """Element type of a constant term in an untyped graph: the one its weights promote to."""
    parts = tensors_in(value.args)
    dtypes = [
        work.tensor(p).dtype
        if isinstance(p, fx.Node)
        else p.dtype
        if isinstance(p, Constant | Filled)
        else None
        for p in parts
    ]
    known = [d for d in dtypes if d is not None] or [
        _dtype_from(p, work) for p in parts if isinstance(p, Staged)
    ]
    result = known[0]
    for dtype in known[1:]:
        result = torch.promote_types(result, dtype)
    return result
