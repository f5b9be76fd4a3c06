"""A program that is traced again only where torch would take an operator of it apart.

The exporter runs decompositions on every program, which traces it a second time: about a third of an export.
In the normal form there is mostly nothing to take apart, once the few operators that torch always replaces
(they may return a view of their input) are spelt as it would spell them.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx
from torch._export.utils import _is_cia_op, _is_preservable_cia_op
from torch._ops import OpOverload
from torch.export import ExportedProgram

aten = torch.ops.aten


class SettledProgram(ExportedProgram):
    """An exported program that is its own decomposition where a table says nothing about its operators."""

    def run_decompositions(
        self, decomp_table: Mapping[Any, Any] | None = None, decompose_custom_triton_ops: bool = False
    ) -> ExportedProgram:
        """The program with the operators in `decomp_table` taken apart: itself where it has none of them."""
        if decomp_table is not None and all(_stays(node, decomp_table) for node in self.graph.nodes):
            return self
        table: Any = decomp_table
        traced: ExportedProgram = super().run_decompositions(table, decompose_custom_triton_ops)
        return traced


def _stays(node: fx.Node, table: Mapping[Any, Any]) -> bool:
    """Whether torch's decomposition would leave a node as it is."""
    target = node.target
    if node.op != "call_function" or not isinstance(target, OpOverload):
        return node.op != "get_attr" and not isinstance(target, torch._ops.HigherOrderOperator)
    if target in table or target._schema.is_mutable:
        return False
    return not _is_cia_op(target) or _is_preservable_cia_op(target)


def settle(graph: fx.Graph) -> None:
    """Spell what torch replaces in every export as it does, in place."""
    for node in list(graph.nodes):
        spell = _SPELT.get(node.target) if node.op == "call_function" else None
        value = node.meta.get("val")
        if spell is not None and isinstance(value, torch.Tensor):
            with graph.inserting_before(node):
                result = spell(node)
            if result is not None:
                node.replace_all_uses_with(result)
                graph.erase_node(node)


def _call(node: fx.Node, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
    """A call in the place of `node`, with its description."""
    name = target.__name__.partition(".")[0]  # `view` and not `view_default`: names fill small files
    made = node.graph.create_node("call_function", target, args, kwargs, name)
    made.meta = dict(node.meta)
    return made


def _same(node: fx.Node) -> fx.Node | None:
    """The operand of a node that changes nothing of it."""
    source = node.args[0]
    assert isinstance(source, fx.Node)
    return source


def _view(node: fx.Node) -> fx.Node | None:
    """A view of a copy in one piece: of another, torch can take none. The copy is not exported."""
    source = node.args[0]
    assert isinstance(source, fx.Node)
    copy = _call(node, aten.clone.default, source, memory_format=torch.contiguous_format)
    copy.meta["val"] = source.meta["val"].clone(memory_format=torch.contiguous_format)
    return _call(node, aten.view.default, copy, node.args[1])


def _dropout(node: fx.Node) -> fx.Node | None:
    return None if node.args[2] else _same(node)


def _cast(node: fx.Node) -> fx.Node | None:
    source = node.args[0]
    assert isinstance(source, fx.Node)
    if source.meta["val"].dtype == node.args[1]:
        return source
    return _call(node, aten._to_copy.default, source, dtype=node.args[1])


def _batch_norm(node: fx.Node) -> fx.Node | None:
    x, weight, bias, mean, variance, training, momentum, epsilon, *_ = node.args
    if training:
        return None
    target = aten._native_batch_norm_legit_no_training.default
    whole = _call(node, target, x, weight, bias, mean, variance, momentum, epsilon)
    value, statistics = node.meta["val"], node.meta["val"].new_empty(0)
    whole.meta["val"] = (value, statistics, statistics)
    return _call(node, operator.getitem, whole, 0)


def _difference(node: fx.Node) -> fx.Node | None:
    """A number less whole numbers, as in `1.0 - mask`: torch finds no operator for it when it casts them."""
    number, source = node.args[:2]
    value = node.meta["val"]
    if not isinstance(source, fx.Node) or isinstance(number, fx.Node) or node.kwargs:
        return None
    if source.meta["val"].dtype == value.dtype:
        return None
    cast = _call(node, aten._to_copy.default, source, dtype=value.dtype)
    cast.meta["val"] = source.meta["val"].to(value.dtype)
    return _call(node, aten.sub.Tensor, number, cast)


def _expand_as(node: fx.Node) -> fx.Node | None:
    other = node.args[1]
    assert isinstance(other, fx.Node)
    sizes = [_size(node, other, axis) for axis in range(other.meta["val"].dim())]
    return _call(node, aten.expand.default, node.args[0], sizes)


def _size(node: fx.Node, of: fx.Node, axis: int) -> Any:
    """A size as a number, or as a node before `node` that computes it: one that is there, or a new one."""
    size = of.meta["val"].shape[axis]
    if not isinstance(size, torch.SymInt):
        return size
    for known in node.graph.nodes:
        if known is node:
            break
        value = known.meta.get("val")
        if isinstance(value, torch.SymInt) and value.node.expr == size.node.expr:
            return known
    made = _call(node, aten.sym_size.int, of, axis)
    made.meta["val"] = size
    return made


def _squeeze(node: fx.Node) -> fx.Node | None:
    result, axes = node.args
    assert isinstance(result, fx.Node) and isinstance(axes, (list, tuple))
    for axis in sorted((int(str(axis)) for axis in axes), reverse=True):
        value = result.meta["val"].squeeze(axis)
        result = _call(node, aten.squeeze.dim, result, axis)
        result.meta["val"] = value
    return result


def _mean_of_positions(node: fx.Node) -> fx.Node | None:
    if list(node.args[1]) != [1, 1]:  # type: ignore[arg-type]
        return None
    return _call(node, aten.mean.dim, node.args[0], [-1, -2], True)


_SPELT: Mapping[Any, Callable[[fx.Node], fx.Node | None]] = {
    aten.reshape.default: _view,
    aten.contiguous.default: _same,
    aten.dropout.default: _dropout,
    aten.to.dtype: _cast,
    aten.batch_norm.default: _batch_norm,
    aten.sub.Tensor: _difference,
    aten.expand_as.default: _expand_as,
    aten.squeeze.dims: _squeeze,
    aten.adaptive_avg_pool2d.default: _mean_of_positions,
}
