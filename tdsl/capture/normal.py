"""The normal form of a graph: one way to write each operator, whoever traced it.

Models and patterns go through the same function, so that a pattern matches its own trace. What the form
guarantees is listed in `docs/normal-form.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import getitem
from typing import Any

import torch
from torch import fx

from tdsl.capture.bags import look_up_bags
from tdsl.capture.python_calls import to_aten
from tdsl.ops.calls import Call, canonical_call, complete, split_keywords
from tdsl.ops.spec import Operand
from tdsl.ops.targets import operator_of, resolve, spellings_of

aten = torch.ops.aten

_ASSERTIONS = frozenset(
    {
        aten._assert_async.default,
        aten._assert_async.msg,
        aten._assert_scalar.default,
        aten._assert_tensor_metadata.default,
        aten.sym_constrain_range.default,
        aten.sym_constrain_range_for_size.default,
    }
)

_NUMBERS = (torch.SymInt, torch.SymFloat, torch.SymBool)


def normalise(gm: fx.GraphModule) -> fx.GraphModule:
    """Bring `gm` into normal form, in place, and return it. Doing it twice changes nothing.

    Shapes in `node.meta["val"]` are used where they are, to count axes from the last; a graph without any is
    normalised as far as possible.
    """
    for node in list(gm.graph.nodes):
        if node.op == "call_function" and node.target in _ASSERTIONS:
            gm.graph.erase_node(node)
    one_constant_each(gm.graph, gm)
    for node in gm.graph.nodes:
        if node.op in ("call_function", "call_method"):
            respell(node)
    _with_sizes(gm.graph)
    _first_results(gm.graph)
    look_up_bags(gm.graph, respell)
    gm.graph.eliminate_dead_code()
    gm.graph.lint()
    gm.recompile()
    return gm


# ---------------------------------------------------------------- constants


def attribute(gm: torch.nn.Module, path: str) -> Any:
    """What stands at a dotted path of a module; `None` when nothing does."""
    value: Any = gm
    for part in path.split("."):
        value = getattr(value, part, None)
    return value


def weights_of(gm: fx.GraphModule) -> dict[str, torch.Tensor]:
    """The parameters and buffers that the graph reads, by their paths; a branch of a `torch.cond` is none."""
    nodes = gm.graph.find_nodes(op="get_attr")
    return {
        str(node.target): found.detach()
        for node in nodes
        if isinstance(found := attribute(gm, str(node.target)), torch.Tensor)
    }


def _identity(value: Any) -> Any:
    """Equal for two tensors exactly when they are the same memory seen the same way."""
    if not isinstance(value, torch.Tensor) or value.numel() == 0:
        return id(value)
    return value.data_ptr(), value.dtype, value.device, tuple(value.shape), value.stride()


def one_constant_each(graph: fx.Graph, root: torch.nn.Module) -> None:
    """One `get_attr` node for each constant of `root`, between the inputs and what computes."""
    nodes = [node for node in graph.nodes if node.op == "get_attr"]
    kept: dict[Any, fx.Node] = {}
    for node in nodes:
        if not node.users:
            graph.erase_node(node)
            continue
        first = kept.setdefault(_identity(attribute(root, str(node.target))), node)
        if first is not node:
            node.replace_all_uses_with(first)
            graph.erase_node(node)
    computing = next(node for node in graph.nodes if node.op not in ("placeholder", "get_attr"))
    for kind in ("placeholder", "get_attr"):
        for node in graph.find_nodes(op=kind):
            computing.prepend(node)


# ---------------------------------------------------------------- calls


def respell(node: fx.Node) -> None:
    """Give `node` the canonical overload with its complete, canonical arguments, if the table knows it.

    Of numbers, as sizes are, Python's own operator: ATen's makes a tensor of two numbers, or takes none.
    """
    if node.op == "call_function" and isinstance(node.meta.get("val"), _NUMBERS):
        if isinstance(node.target, torch._ops.OpOverload):
            node.target = _of_numbers(node.target)
        if not isinstance(node.target, torch._ops.OpOverload):
            return
    if not isinstance(node.target, torch._ops.OpOverload):
        call = to_aten(node)
        if call is None:
            return
        node.op = "call_function"
        node.target, node.args, node.kwargs = call
    canonical = _canonical(node)
    if canonical is not None:
        target, args, kwargs = canonical
        node.target, node.args, node.kwargs = target, tuple(args), kwargs


def _of_numbers(target: Any) -> Any:
    op = operator_of(target) or next((op for op, _ in spellings_of(target)), None)
    name = next((name for name in op.torch if name.startswith("operator.")), None) if op is not None else None
    return target if name is None else resolve(name)


def _wrap(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_wrap(item) for item in value]
    if not isinstance(value, fx.Node):
        return value
    seen = value.meta.get("val")
    if seen is None:
        return Operand(value, None)
    # A symbolic size is a number to a conversion, not a tensor.
    return Operand(value, tuple(seen.shape), seen.dtype) if isinstance(seen, torch.Tensor) else value


def _canonical(node: fx.Node) -> Call | None:
    """The canonical call that `node` means; `None` for an operator that the table does not know."""
    target: Any = node.target
    full = complete(target, node.args, node.kwargs)
    if full is None:
        return None
    args, kwargs = [_wrap(a) for a in full[0]], {k: _wrap(v) for k, v in full[1].items()}
    op = operator_of(target)
    if op is not None:
        return canonical_call(op, args, kwargs, target)
    for candidate, spelling in spellings_of(target):
        if spelling.convert is None:
            return canonical_call(candidate, args, kwargs)
        converted = spelling.convert(*args, **kwargs)
        if converted is not None:
            return canonical_call(candidate, *split_keywords(converted))
    return None


def _with_sizes(graph: fx.Graph) -> None:
    """`flatten` and `unflatten` of dynamic axes as the reshapes that they are, their sizes read off first."""
    for node in list(graph.nodes):
        if node.target not in (aten.flatten.using_ints, aten.unflatten.int):
            continue
        x, val = node.args[0], node.meta.get("val")
        if not isinstance(val, torch.Tensor) or not isinstance(x, fx.Node):
            continue
        sizes = [_read_off(size, node) for size in val.shape]
        if sizes.count(-1) <= 1:
            node.target, node.args = aten.reshape.default, (x, sizes)
            respell(node)


def _read_off(size: Any, node: fx.Node) -> Any:
    """A size as a number, or as a value read off an input, else off the operand of `node`; else -1."""
    if isinstance(size, int):
        return size
    for value in (*node.graph.find_nodes(op="placeholder"), node.args[0]):
        for axis, own in enumerate(getattr(value.meta.get("val"), "shape", ())):
            if isinstance(own, torch.SymInt) and own.node.expr == size.node.expr:
                return _size_of(value, axis, node)
    return -1


def _size_of(x: fx.Node, axis: int, node: fx.Node) -> fx.Node:
    """The size of an axis, one value for all that ask; it stands behind the inputs or before `node`."""
    for user in x.users:
        if user.target is aten.sym_size.int and user.args == (x, axis) and user < node:
            return user
    computing = (n for n in node.graph.nodes if n.op not in ("placeholder", "get_attr"))
    with node.graph.inserting_before(next(computing) if x.op == "placeholder" else node):
        made = node.graph.call_function(aten.sym_size.int, (x, axis))
    made.meta["val"] = x.meta["val"].shape[axis]
    return made


# ---------------------------------------------------------------- operators of several results

# Decomposed operators whose first result is that of the operator they came from, with its arguments.
_RESTORED: Mapping[Any, tuple[Any, Callable[[Sequence[Any]], tuple[Any, ...]]]] = {
    aten._native_batch_norm_legit_no_training.default: (
        aten.batch_norm.default,
        lambda a: (*a[:5], False, *a[5:], True),
    ),
    aten.native_layer_norm.default: (aten.layer_norm.default, lambda a: (*a, True)),
}


def _first_results(graph: fx.Graph) -> None:
    """A decomposed normalisation of which only the first result is used becomes the operator it came from."""
    for node in list(graph.nodes):
        restored = _RESTORED.get(node.target) if node.op == "call_function" else None
        if restored is None or any(u.target is not getitem or u.args[1] != 0 for u in node.users):
            continue
        target, arguments = restored
        for user in list(node.users):
            user.target, user.args = target, arguments(node.args)
            respell(user)
