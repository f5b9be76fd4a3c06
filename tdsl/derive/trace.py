"""Functions traced for every size at once: graphs in normal form whose inputs are all of the operands."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.export import Dim

from tdsl.capture import Captured, capture
from tdsl.capture.failure import line_span
from tdsl.derive.function import Function
from tdsl.errors import Span, TdslError
from tdsl.frames import frames_of, user_frame

_END = 2**62
"""Where a slice that goes to the end is said to end: beyond this."""


@dataclass(frozen=True)
class Traced:
    """A function as a graph; sizes in it are torch's symbols, or numbers where the function fixes them."""

    function: Function
    module: fx.GraphModule
    inputs: Mapping[str, fx.Node]
    outputs: tuple[fx.Node, ...]
    least: Mapping[Any, int]
    """Smallest size that each symbol may have, where that is more than 2."""

    def line_of(self, node: fx.Node) -> Span:
        """The user's line that a node comes from."""
        frames = frames_of(node.meta.get("stack_trace") or "")
        own = [frame for frame in frames if frame[0] == self.function.path]
        found = own[-1] if own else user_frame(frames)
        return line_span(*found) if found else self.function.span


class _Module(nn.Module):
    """A function as a module: what is among `weights` is held, the other names are inputs."""

    def __init__(
        self, function: Function, names: Sequence[str], weights: Mapping[str, torch.Tensor] | None = None
    ) -> None:
        super().__init__()
        parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
        taken = {operand.name for operand in function.operands}
        self.held = nn.ParameterList([nn.Parameter(v, requires_grad=False) for v in (weights or {}).values()])

        call = _called_forward(function)

        def forward(*inputs: torch.Tensor) -> Any:
            given = dict(zip(names, inputs, strict=True)) | dict(zip(weights or {}, self.held, strict=True))
            return call(**{name: value for name, value in given.items() if name in taken})

        forward.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        self.forward = forward


def captured_with(
    function: Function, inputs: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor]
) -> fx.GraphModule:
    """The function on tensors of these sizes, as a model that holds the weights; what it lacks it ignores."""
    module = _Module(function, list(inputs), weights)
    graph = _capture(function, module, tuple(inputs.values()), None).module
    _drop_full_slices(graph)
    graph.recompile()
    return graph


def _capture(function: Function, module: nn.Module, inputs: tuple[torch.Tensor, ...], sizes: Any) -> Captured:
    try:
        return capture(module.eval(), inputs, dynamic_shapes=sizes)
    except TdslError as reason:
        message = reason.message.replace("the model", function.name, 1)
        raise TdslError(message, reason.span or function.span, hint=reason.hint) from None


def _called_forward(function: Function) -> Callable[..., Any]:
    """The function under the name `forward`: torch records the lines of functions of that name alone."""
    call: Any = function.call
    code = call.__code__.replace(co_name="forward")
    renamed = types.FunctionType(code, call.__globals__, "forward", call.__defaults__, call.__closure__)
    renamed.__kwdefaults__ = call.__kwdefaults__
    return renamed


def trace(function: Function, values: Mapping[str, torch.Tensor]) -> Traced:
    """Trace `function` on those of `values` that it takes. Raises `TdslError` at the user's line."""
    names = [operand.name for operand in function.operands]
    inputs = tuple(values[name] for name in names)
    dynamic = {name: dict.fromkeys(range(values[name].dim()), Dim.AUTO) for name in names}
    captured = _capture(function, _Module(function, names), inputs, dynamic)
    module = captured.module
    _drop_full_slices(module)
    _write_out_sizes(module)
    outputs = tuple(_flat(module.graph.output_node().args[0]))
    for output in outputs:
        if not isinstance(output, fx.Node):
            raise TdslError(
                f"{function.name} returns {output}, which is no tensor",
                function.span,
                expected="a tensor, or a tuple of them",
            )
    least = {
        symbol: int(interval.lower)
        for symbol, interval in captured.range_constraints.items()
        if interval.lower.is_Integer and int(interval.lower) > 2
    }
    placeholders = module.graph.find_nodes(op="placeholder")
    return Traced(function, module, dict(zip(names, placeholders, strict=True)), outputs, least)


def _drop_full_slices(module: fx.GraphModule) -> None:
    """Indexing such as `s[:, None]` leaves slices that take everything."""
    for node in list(module.graph.find_nodes(op="call_function", target=torch.ops.aten.slice.Tensor)):
        operand, _, start, end, step = node.args
        if start == 0 and isinstance(end, int) and end >= _END and step == 1:
            node.replace_all_uses_with(operand)
            module.graph.erase_node(node)


def _write_out_sizes(module: fx.GraphModule) -> None:
    """What -1 stands for in the shape of a reshape, which a captured model says in a number."""
    for node in module.graph.find_nodes(op="call_function", target=torch.ops.aten.reshape.default):
        operand, shape = node.args
        sizes = zip(shape, node.meta["val"].shape, strict=True)
        node.args = (operand, [size if written == -1 else written for written, size in sizes])


def _flat(value: Any) -> list[Any]:
    return [leaf for item in value for leaf in _flat(item)] if isinstance(value, list | tuple) else [value]
