"""Convolutions, plain and transposed, over one to three spatial axes."""

from __future__ import annotations

from math import prod
from typing import Any

from tdsl.ops.spec import Conversion, Converted, Operand, Operator, Shape, operator


def _named_padding(
    x: Operand, weight: Operand, bias: Any, stride: Any, padding: str, dilation: Any, groups: int
) -> Converted:
    """`padding="same"` as numbers, where both sides of each axis get equally much."""
    if weight.shape is None:
        return None
    kernel = weight.shape[2:]
    if padding == "valid":
        return x, weight, bias, stride, [0] * len(kernel), dilation, groups
    dilations = list(dilation) * len(kernel) if len(dilation) == 1 else list(dilation)
    totals = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
    if any(total % 2 for total in totals):
        return None
    return x, weight, bias, stride, [total // 2 for total in totals], dilation, groups


def _from_convolution(axes: int, transposed: bool) -> Conversion:
    """`aten.convolution` is every convolution; this one takes those of `axes` spatial axes."""

    def convert(
        x: Operand,
        weight: Operand,
        bias: Any,
        stride: Any,
        padding: Any,
        dilation: Any,
        is_transposed: bool,
        output_padding: Any,
        groups: int,
    ) -> Converted:
        if weight.rank != axes + 2 or is_transposed != transposed:
            return None
        if transposed:
            return x, weight, bias, stride, padding, output_padding, groups, dilation
        return x, weight, bias, stride, padding, dilation, groups

    return convert


def _conv_macs(weight: Shape, result: Shape, **_: Any) -> Any:
    """Each output element takes one product for every weight of its filter."""
    return prod(result) * prod(weight[1:])


def _transposed_macs(x: Shape, weight: Shape, **_: Any) -> Any:
    """Each input element is multiplied by every weight that it meets."""
    return prod(x) * prod(weight[1:])


def _family(axes: int, aten_transposed: str) -> tuple[Operator, Operator]:
    ones, zeros, kind = [1] * axes, [0] * axes, f"ints{axes}"
    return (
        operator(
            f"conv{axes}d(x, weight: [o, ...], bias?: [o] = 0, stride: {kind} = {ones}, "
            f"padding: {kind} = {zeros}, dilation: {kind} = {ones}, groups: int = 1) -> conv",
            aten=f"aten.conv{axes}d.default",
            spellings={
                f"aten.conv{axes}d.padding": _named_padding,
                "aten.convolution.default": _from_convolution(axes, transposed=False),
            },
            torch=f"F.conv{axes}d",
            linear_in=("x", "weight"),
            macs=_conv_macs,
            doc="Cross-correlation of x [b, c, …] with weight [o, c / groups, …].",
        ),
        operator(
            f"conv_transpose{axes}d(x, weight, bias?: [o] = 0, stride: {kind} = {ones}, "
            f"padding: {kind} = {zeros}, output_padding: {kind} = {zeros}, groups: int = 1, "
            f"dilation: {kind} = {ones}) -> conv_transpose",
            aten=aten_transposed,
            spellings={"aten.convolution.default": _from_convolution(axes, transposed=True)},
            torch=f"F.conv_transpose{axes}d",
            linear_in=("x", "weight"),
            macs=_transposed_macs,
            doc="The transpose of a convolution: x [b, c, …] with weight [c, o / groups, …].",
        ),
    )


CONVOLUTION = (
    *_family(1, "aten.conv_transpose1d.default"),
    *_family(2, "aten.conv_transpose2d.input"),
    *_family(3, "aten.conv_transpose3d.input"),
)
