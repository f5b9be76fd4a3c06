"""Makes a graph functional: no operator writes into a tensor that another one reads.

Most in-place operators of real models (`relu_` after a normalisation, `+=` on a fresh sum) overwrite a value
that nobody looks at again, and become their functional namesakes where they stand. Anything subtler is left
to torch's own functionalization, which is slower and takes composite operators apart.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram

aten = torch.ops.aten

# A composite operator's schema does not tell whether its result is new or its operand (`type_as`, `einsum`,
# `dropout` at inference). Of these it is always new; every other composite operator is taken to alias.
_FRESH = frozenset(
    {
        aten.adaptive_avg_pool1d,
        aten.adaptive_avg_pool2d,
        aten.avg_pool1d,
        aten.conv1d,
        aten.conv2d,
        aten.conv3d,
        aten.conv_transpose1d,
        aten.conv_transpose2d,
        aten.conv_transpose3d,
        aten.group_norm,
        aten.gru,
        aten.layer_norm,
        aten.linear,
        aten.log_softmax,
        aten.lstm,
        aten.matmul,
        aten.max_pool1d,
        aten.max_pool2d,
        aten.max_pool3d,
        aten.rms_norm,
        aten.scaled_dot_product_attention,
        aten.softmax,
    }
)
# The same of these, if the flag at this position says inference: in training they write running statistics.
_FRESH_AT_INFERENCE = {aten.batch_norm.default: 5}


def is_mutable(node: fx.Node) -> bool:
    """Whether the operator of `node` writes into one of its operands."""
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def _namesake(target: torch._ops.OpOverload) -> Any | None:
    """The functional overload of an in-place one: `aten.add_.Tensor` → `aten.add.Tensor`."""
    name = target._schema.name.removeprefix("aten::")
    written = [a for a in target._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    if not name.endswith("_") or name.endswith("__") or len(written) != 1:
        return None
    packet = getattr(aten, name[:-1], None)
    return getattr(packet, target._overloadname, None)


def _may_alias(node: fx.Node) -> list[fx.Node]:
    """The operands that the result of `node` may share memory with."""
    target = node.target
    if not isinstance(target, torch._ops.OpOverload):
        return list(node.all_input_nodes)
    flag = _FRESH_AT_INFERENCE.get(target)
    if flag is not None and len(node.args) > flag and node.args[flag] is False:
        return []
    if target.overloadpacket in _FRESH:
        return []
    schema = target._schema
    if _is_composite(target) or torch.Tag.maybe_aliasing_or_mutating in target.tags:
        return list(node.all_input_nodes)
    if not any(result.alias_info for result in schema.returns):
        return []
    aliased = [i for i, argument in enumerate(schema.arguments) if argument.alias_info]
    operands = fx.node.map_arg([node.args[i] for i in aliased if i < len(node.args)], lambda n: n)
    found: list[fx.Node] = []
    fx.node.map_arg(operands, found.append)
    return found


def _is_composite(target: torch._ops.OpOverload) -> bool:
    name = target._schema.name, target._schema.overload_name
    qualified = ".".join(part for part in name if part)
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(qualified, "CompositeImplicitAutograd"))


def functionalized(program: ExportedProgram) -> ExportedProgram:
    """The program without in-place operators, by torch's own functionalization.

    Composite operators that may return a view are decomposed: torch keeps those it does not mark so
    (`einsum`, `type_as`) whole, and then misses what is written through them.
    """
    known = torch.export.default_decompositions()
    table: dict[Any, Any] = {}
    for node in program.graph.nodes:
        target: Any = node.target
        if (
            isinstance(target, torch._ops.OpOverload)
            and _is_composite(target)
            and target.overloadpacket not in _FRESH
            and torch.Tag.maybe_aliasing_or_mutating not in target.tags  # torch sees to these itself
            and target in known
        ):
            table[target] = known[target]
    functional: ExportedProgram = _without_idle_dropout(program).run_decompositions(table)
    return functional


def _without_idle_dropout(program: ExportedProgram) -> ExportedProgram:
    """The program with dropout at inference left out: it returns its operand, where torch assumes a copy."""
    graph = fx.Graph()
    result = graph.graph_copy(program.graph, {})
    graph.output(result)
    for node in graph.find_nodes(op="call_function", target=aten.dropout.default):
        if node.args[2] is False and not any(user.op == "output" for user in node.users):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    module = fx.GraphModule(program.graph_module, graph)
    module.meta.update(program.graph_module.meta)
    return program._update(module, program.graph_signature)


def _same_type(functional: Any, node: fx.Node) -> bool:
    """Whether the functional operator gives the dtype and shape of the tensor that was written."""
    if "val" not in node.meta:
        return True
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: n.meta.get("val"))
    try:
        value = functional(*args, **kwargs)
    except Exception:  # whatever torch objects to, its own functionalization may know better
        return False
    expected = node.meta["val"]
    return bool(value.dtype == expected.dtype and value.shape == expected.shape)


def make_functional(gm: fx.GraphModule) -> bool:
    """Replace in-place operators where that is plainly exact; returns whether none is left."""
    order = {node: i for i, node in enumerate(gm.graph.nodes)}
    memory: dict[fx.Node, set[fx.Node]] = {}  # node → every node that may share its memory, itself included
    for node in gm.graph.nodes:
        sharers = {node}
        for operand in _may_alias(node):
            sharers |= memory[operand]
        for sharer in sharers:
            memory[sharer] = sharers
        if not is_mutable(node):
            continue
        functional = _namesake(node.target)
        written = node.args[0]
        before = sharers - {node}
        if (
            functional is None
            or not isinstance(written, fx.Node)
            or any(sharer.op in ("placeholder", "get_attr") for sharer in before)
            or any(order[u] > order[node] for s in before - {written} for u in s.users)
            or not _same_type(functional, node)
        ):
            return False
        for user in [u for u in written.users if order[u] > order[node]]:
            user.replace_input_with(written, node)
        node.target = functional
        memory[node] = {node}
    return True
