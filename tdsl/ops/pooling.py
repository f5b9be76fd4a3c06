"""Pooling over windows, plain and adaptive, over one to three spatial axes."""

from __future__ import annotations

from typing import Any

from tdsl.ops.spec import Converted, Operand, Operator, operator


def _own_stride(x: Operand, kernel: Any, stride: Any, *rest: Any) -> Converted:
    """Without a stride the windows lie side by side."""
    return x, kernel, stride or kernel, *rest


def _average(axes: int) -> tuple[Operator, ...]:
    kind, zeros = f"ints{axes}", [0] * axes
    divisor = ", divisor: int = None" if axes > 1 else ""
    return (
        operator(
            f"avg_pool{axes}d(x, kernel: {kind}, stride: {kind} = [], padding: {kind} = {zeros}, "
            f"ceil_mode: bool = False, count_include_pad: bool = True{divisor}) -> pool",
            aten=f"aten.avg_pool{axes}d.default",
            normal=_own_stride,
            torch=f"F.avg_pool{axes}d",
            linear_in=("x",),
            doc="The mean of every window.",
        ),
        operator(
            f"adaptive_avg_pool{axes}d(x, size: {kind}) -> adaptive_pool",
            aten=f"aten.adaptive_avg_pool{axes}d.default",
            spellings={f"aten._adaptive_avg_pool{axes}d.default": None} if axes > 1 else None,
            torch=f"F.adaptive_avg_pool{axes}d",
            linear_in=("x",),
            doc="The means of so many windows of (nearly) equal size.",
        ),
    )


def _maximum(axes: int) -> tuple[Operator, ...]:
    kind, zeros, ones = f"ints{axes}", [0] * axes, [1] * axes
    window = (
        f"x, kernel: {kind}, stride: {kind} = [], padding: {kind} = {zeros}, dilation: {kind} = {ones}, "
        "ceil_mode: bool = False"
    )
    return (
        operator(
            f"max_pool{axes}d({window}) -> pool",
            aten=f"aten.max_pool{axes}d.default",
            normal=_own_stride,
            torch=f"F.max_pool{axes}d",
            doc="The largest element of every window.",
        ),
        operator(
            f"max_pool{axes}d_with_indices({window}) -> pool_two",
            aten=f"aten.max_pool{axes}d_with_indices.default",
            normal=_own_stride,
            results=2,
            doc="The largest element of every window, and where it is.",
        ),
        operator(
            f"adaptive_max_pool{axes}d(x, size: {kind}) -> adaptive_pool_two",
            aten=f"aten.adaptive_max_pool{axes}d.default",
            results=2,
            doc="The largest element of so many windows of (nearly) equal size, and where it is.",
        ),
    )


POOLING = (
    *(op for axes in (1, 2, 3) for op in _average(axes)),
    *(op for axes in (1, 2, 3) for op in _maximum(axes)),
)
