"""Operators that other libraries add to torch: experts of a mixture multiply each its own group of rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import onnx_ir as ir
import torch
from onnxscript.onnx_opset import opset18

op: Any = opset18

_END = 2**63 - 1


def _grouped(input: Any, weight: Any, offs: Any) -> Any:
    """Rows up to `offs[0]` by `weight[0]`, those from there to `offs[1]` by `weight[1]`, …; zeros behind.

    One product for each group, of as many rows as there are: nothing is computed for experts that were not
    chosen, and no matrix is copied for a row.
    """
    groups, width = weight.shape[0], weight.shape[2]
    ends = op.Cast(offs, to=ir.DataType.INT64)
    parts, start = [], op.Constant(value_ints=[0])
    for group in range(groups):
        end = op.Slice(ends, [group], [group + 1], [0])
        rows = op.Slice(input, start, end, [0])
        parts.append(op.MatMul(rows, op.Gather(weight, op.Constant(value_int=group), axis=0)))
        start = end
    behind = op.Shape(op.Slice(input, start, [_END], [0]), start=0, end=1)
    zero = op.Constant(value=ir.tensor(0.0, dtype=input.dtype))
    parts.append(op.Expand(zero, op.Concat(behind, op.Constant(value_ints=[width]), axis=0)))
    return op.Concat(*parts, axis=0)


_LOWERINGS: Mapping[str, Callable[..., Any]] = {"transformers.grouped_mm_fallback.default": _grouped}


def added() -> tuple[str, ...]:
    """The operators, of those that this file can write, whose library is loaded."""
    return tuple(name for name in _LOWERINGS if _found(name) is not None)


def lowerings(names: tuple[str, ...]) -> dict[Any, Callable[..., Any]]:
    """How they are written as ONNX."""
    return {_found(name): _LOWERINGS[name] for name in names}


def _found(name: str) -> Any:
    space, packet, overload = name.split(".")
    return getattr(getattr(getattr(torch.ops, space), packet, None), overload, None)
