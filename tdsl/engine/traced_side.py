"""Replacements that are traced graphs: at each match, as staged terms of the engine.

In a graph with shapes the replacement is traced once more on the shapes of the match, into ATen calls in
normal form: methods, indexing and sizes then need no rules of their own. Elsewhere it stays as written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx
from torch.fx.experimental.proxy_tensor import make_fx

from tdsl.capture.normal import respell
from tdsl.engine.staged import CannotStage, Constant, Staged, map_values, tensors_in
from tdsl.engine.workspace import Workspace

Attribute = Callable[[fx.Node], Any]
"""The value of a `get_attr` node, or the path of a called module, of a replacement."""


def stage_graph(
    graph: fx.Graph, inputs: Mapping[fx.Node, Any], attribute: Attribute, work: Workspace, *, aten: bool
) -> tuple[Any, ...]:
    """The returned values of `graph` as staged terms, its placeholders standing for `inputs`.

    With `aten` every call is in normal form. Nothing is folded.
    Raises `CannotStage` when an operator refuses its operands.
    """
    leaves: dict[fx.Node, Any] = dict(inputs)
    leaves.update((node, attribute(node)) for node in graph.nodes if node.op in ("get_attr", "call_module"))
    handles = list(dict.fromkeys(tensors_in(list(leaves.values()))))
    vals = [work.val(handle) for handle in handles]
    if aten and work.typed and all(val is not None for val in vals):
        return _on_shapes(graph, leaves, handles, vals, work)
    return _as_written(graph, leaves, aten=aten)


def _as_written(graph: fx.Graph, leaves: Mapping[fx.Node, Any], *, aten: bool) -> tuple[Any, ...]:
    """One staged term a call."""
    copy = fx.Graph()
    # Numbers stand in the copy itself, so that a call takes the overload for numbers.
    plain = {p: v for p, v in leaves.items() if p.op == "placeholder" and not tensors_in(v)}
    copies: dict[fx.Node, Any] = dict(plain)
    result = copy.graph_copy(graph, copies)
    originals = {new: old for old, new in copies.items() if old not in plain}
    staged: dict[fx.Node, Any] = {}
    for node in copy.nodes:
        old = originals[node]
        if node.op in ("placeholder", "get_attr"):
            staged[node] = leaves[old]
            continue
        if aten:
            respell(node)
        target = leaves[old] if node.op == "call_module" else node.target
        args, kwargs = _filled_in(node.args, staged), _filled_in(node.kwargs, staged)
        staged[node] = Staged(target, args, kwargs, _const=False, op=node.op)
    return _flat(_filled_in(result, staged))


def _on_shapes(
    graph: fx.Graph, leaves: Mapping[fx.Node, Any], handles: list[Any], vals: list[Any], work: Workspace
) -> tuple[Any, ...]:
    """The ATen calls that `graph` makes on operands of these shapes, as staged terms."""

    def run(*tensors: Any) -> tuple[Any, ...]:
        given = dict(zip(map(id, handles), tensors, strict=True))
        return _evaluate(graph, {k: map_values(v, lambda h: given[id(h)]) for k, v in leaves.items()})

    mode = work.mode()
    assert mode is not None
    try:
        with torch.no_grad(), mode:
            calls = make_fx(run, pre_dispatch=True, _allow_non_fake_inputs=True)(*vals)
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as reason:
        raise CannotStage(str(reason).splitlines()[0]) from None
    remaining = iter(handles)
    staged: dict[fx.Node, Any] = {}
    for node in calls.graph.nodes:
        if node.op == "placeholder":
            staged[node] = next(remaining)
        elif node.op == "get_attr":
            tensor = getattr(calls, str(node.target))
            staged[node] = Constant(tensor, tensor.dtype)
        elif node.op == "output":
            return _flat(_filled_in(node.args[0], staged))
        else:
            respell(node)
            args, kwargs = _filled_in(node.args, staged), _filled_in(node.kwargs, staged)
            staged[node] = Staged(node.target, args, kwargs, _const=False, _val=node.meta.get("val"))
    raise AssertionError("a graph ends in its output")


def _evaluate(graph: fx.Graph, known: Mapping[fx.Node, Any]) -> tuple[Any, ...]:
    """Run `graph` with its placeholders and attributes as `known`."""
    values = dict(known)
    for node in graph.nodes:
        if node.op == "output":
            return _flat(_filled_in(node.args[0], values))
        if node.op in ("call_function", "call_method"):
            args, kwargs = _filled_in(node.args, values), _filled_in(node.kwargs, values)
            function = node.target if node.op == "call_function" else getattr(type(args[0]), str(node.target))
            values[node] = function(*args, **kwargs)
        elif node.op == "call_module":
            raise TypeError(f"the module {node.target} cannot be called in an exported graph")
    raise AssertionError("a graph ends in its output")


def _filled_in(value: Any, known: Mapping[fx.Node, Any]) -> Any:
    """`value` with the nodes of a traced graph replaced by what they stand for."""
    return map_values(value, lambda node: known[node])


def _flat(value: Any) -> tuple[Any, ...]:
    """The returned values, whatever tuple, list or dictionary they are returned in."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return tuple(leaf for item in value for leaf in _flat(item))
    return (value,)
