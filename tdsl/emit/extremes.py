"""Extremes of all entries: a second trace drops an argument that torch's lowerings ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from onnxscript.onnx_opset import opset18

op: Any = opset18
aten = torch.ops.aten


def _largest(x: Any, dim: Sequence[int] = (), keepdim: bool = False) -> Any:
    return op.ReduceMax(x, _axes(dim), keepdims=keepdim)


def _smallest(x: Any, dim: Sequence[int] = (), keepdim: bool = False) -> Any:
    return op.ReduceMin(x, _axes(dim), keepdims=keepdim)


def _axes(dim: Sequence[int]) -> Any:
    """No axes are all of them."""
    return op.Constant(value_ints=list(dim)) if len(dim) else None


EXTREMES: Mapping[Any, Callable[..., Any]] = {aten.amax.default: _largest, aten.amin.default: _smallest}
"""Lowerings that do without `dim`."""
