"""A graph as text in the notation of the rules: one line an operator, defaults left out.

x: f32[2, 8]
h = linear(x, fc.weight, fc.bias)        f32[2, 4]
y = relu(h)                              f32[2, 4]
return y
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from tdsl.engine.sizes import describe
from tdsl.ops import Operator
from tdsl.ops.spec import REQUIRED
from tdsl.ops.targets import DTYPES, operator_of

_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def graph_text(module: fx.GraphModule, *, types: bool = True) -> str:
    """`module`'s graph: inputs, operators in order, outputs; with element types and sizes unless told not."""
    lines: list[tuple[str, str]] = []
    for node in module.graph.nodes:
        known = node.meta.get("val")
        described = describe(node) if types and isinstance(known, torch.Tensor) else ""
        if node.op == "placeholder":
            lines.append((f"{node.name}: {described}" if described else node.name, ""))
        elif node.op == "output":
            lines.append((f"return {value_text(node.args[0])}", ""))
        elif node.op != "get_attr":
            lines.append((f"{node.name} = {call_text(node)}", described))
    width = min(max((len(left) for left, right in lines if right), default=0), 72)
    return "\n".join(f"{left:<{width}}  {right}".rstrip() if right else left for left, right in lines) + "\n"


def call_text(node: fx.Node) -> str:
    """The operator application of a node: `conv2d(x, weight, stride=[2, 2])`; weights by their paths."""
    op = operator_of(node.target)
    if op is None:
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", node.target)
        parts = [value_text(a) for a in node.args] + [f"{k}={value_text(v)}" for k, v in node.kwargs.items()]
        return f"{name}({', '.join(parts)})"
    if op.name == "getitem":
        return f"{value_text(node.args[0])}[{node.args[1]}]"
    return f"{op.name}({', '.join(_arguments(op, node))})"


def _arguments(op: Operator, node: fx.Node) -> list[str]:
    shown: list[str] = []
    by_position = True
    positional = [p for p in op.params if not p.keyword_only]
    for param, value in zip(positional, node.args, strict=False):
        if param.is_operand and value is None:
            by_position = False
            continue
        if param.default is not REQUIRED and not param.is_operand and value == param.canonical(param.default):
            by_position = False
            continue
        if param.kind == "tensors" and isinstance(value, list | tuple):
            shown.extend(value_text(item) for item in value)
            by_position = False
        else:
            named = not by_position or not (param.is_operand or param.default is REQUIRED)
            shown.append(f"{param.name}={value_text(value)}" if named else value_text(value))
    return [*shown, *(f"{name}={value_text(value)}" for name, value in node.kwargs.items())]


def value_text(value: Any) -> str:
    """An argument in the notation of the rules: weights by their paths, other nodes by their names."""
    if isinstance(value, fx.Node):
        return str(value.target) if value.op == "get_attr" else value.name
    if isinstance(value, list):
        return f"[{', '.join(value_text(item) for item in value)}]"
    if isinstance(value, tuple):
        return f"({', '.join(value_text(item) for item in value)})"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{k}: {value_text(v)}' for k, v in value.items())}}}"
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    return _NAMES.get(value, str(value)) if isinstance(value, torch.dtype) else str(value)
