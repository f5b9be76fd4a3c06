"""Laws of windows over spatial axes: convolution, pooling, columns, resizing."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, prod
from typing import Any

from tdsl.ops.laws import Shapes, law, per_axis, require, require_each, require_same
from tdsl.ops.spec import Operator, Shape


def spatial_axes(op: Operator) -> int:
    """The number of spatial axes, from the operator's name: `conv2d`, `max_pool1d_with_indices`."""
    return int(op.name.partition("d_with")[0].rstrip("d_a")[-1])


def channels_agree(op: Operator, x: Shape, weight: Shape, groups: int) -> bool:
    """Whether a convolution or a transposed one may take x and a weight; no other kernel helps where not."""
    axes = spatial_axes(op)
    if len(x) not in (axes + 1, axes + 2) or groups < 1 or weight[0] % groups:
        return False
    return bool(x[-axes - 1] == (weight[1] * groups if op.result == "conv" else weight[0]))


def _windows(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil: bool = False) -> int:
    """How many windows lie along an axis; rounded up, a window must still start inside."""
    span = size + 2 * padding - dilation * (kernel - 1) - 1
    count = (-(-span // stride) if ceil else span // stride) + 1
    return count - 1 if ceil and (count - 1) * stride >= size + padding else count


def _convolution(x: Shape, weight: Shape, axes: int, **window: Sequence[int]) -> tuple[bool, list[list[int]]]:
    """Whether x comes in a batch, and the window's numbers for every axis."""
    require(len(weight) == axes + 2, f"weight {weight} of a convolution over {axes} axes")
    require(len(x) in (axes + 1, axes + 2), f"{x} in a convolution over {axes} axes")
    numbers = [per_axis(value, axes, name) for name, value in window.items()]
    require_each(
        (n > 0 for n in (*window["stride"], *window["dilation"])), "stride and dilation are positive"
    )
    require_each((p >= 0 for p in window["padding"]), f"padding {window['padding']} is negative")
    return len(x) == axes + 2, numbers


@law
def conv(
    op: Operator,
    x: Shape,
    weight: Shape,
    bias: Shape | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> Shape:
    """x [b, c, …] or [c, …] with weight [o, c / groups, …] to [b, o, …]."""
    axes = spatial_axes(op)
    batched, numbers = _convolution(x, weight, axes, stride=stride, padding=padding, dilation=dilation)
    channels, own = x[-axes - 1], x[-axes:]
    require(groups > 0 and weight[0] % groups == 0, f"{groups} groups do not divide {weight[0]} filters")
    require(channels == weight[1] * groups, f"{channels} channels for weight {weight} in {groups} groups")
    require_same(weight[:1] if bias is None else bias, weight[:1], f"bias {bias} for {weight[0]} filters")
    result = [
        _windows(n, k, s, p, d)
        for n, k, (s, p, d) in zip(own, weight[2:], zip(*numbers, strict=True), strict=True)
    ]
    fits = (
        n + 2 * p >= d * (k - 1) + 1
        for n, k, (_, p, d) in zip(own, weight[2:], zip(*numbers, strict=True), strict=True)
    )
    require_each(fits, f"the kernel {weight[2:]} is larger than the padded input {own}")
    return (*x[:1][: int(batched)], weight[0], *result)


@law
def conv_transpose(
    op: Operator,
    x: Shape,
    weight: Shape,
    bias: Shape | None,
    stride: list[int],
    padding: list[int],
    output_padding: list[int],
    groups: int,
    dilation: list[int],
) -> Shape:
    """x [b, c, …] or [c, …] with weight [c, o / groups, …] to [b, o, …]."""
    axes = spatial_axes(op)
    batched, numbers = _convolution(
        x, weight, axes, stride=stride, padding=padding, output_padding=output_padding, dilation=dilation
    )
    filters = weight[1] * groups
    require(x[-axes - 1] == weight[0], f"{x[-axes - 1]} channels for weight {weight}")
    require(groups > 0 and weight[0] % groups == 0, f"{groups} groups do not divide {weight[0]} channels")
    require_same((filters,) if bias is None else bias, (filters,), f"bias {bias} for {filters} filters")
    result = [
        (n - 1) * s - 2 * p + d * (k - 1) + more + 1
        for n, k, (s, p, more, d) in zip(x[-axes:], weight[2:], zip(*numbers, strict=True), strict=True)
    ]
    for stride_, _, more, dilation_ in zip(*numbers, strict=True):
        require_each(
            (more >= 0, more < max(stride_, dilation_)),
            f"output padding {more} is not below stride or dilation",
        )
    require_each((n > 0 for n in result), f"nothing is left of {x}")
    return (*x[:1][: int(batched)], filters, *result)


@law
def pool(
    op: Operator,
    x: Shape,
    kernel: list[int],
    stride: list[int],
    padding: list[int],
    ceil_mode: bool,
    dilation: list[int] | None = None,
    **_: Any,
) -> Shape:
    """As many windows along each spatial axis as fit; without a stride side by side."""
    axes = spatial_axes(op)
    require(len(x) in (axes + 1, axes + 2), f"{x} in a pooling over {axes} axes")
    numbers = [
        per_axis(value, axes, "window")
        for value in (kernel, stride or kernel, padding, dilation or [1] * axes)
    ]
    result = []
    for n, (k, s, p, d) in zip(x[-axes:], zip(*numbers, strict=True), strict=True):
        require_each((k > 0, s > 0, d > 0), "kernel, stride and dilation are positive")
        require_each((p >= 0, p <= k // 2), f"padding {p} is more than half the kernel {k}")
        if op.name == "avg_pool3d":  # which torch alone compares with the input before padding
            require(n >= k, f"the window {kernel} is larger than the input {x}")
        result.append(_windows(n, k, s, p, d, ceil_mode))
    require_each((n > 0 for n in result), f"the window {kernel} is larger than the padded input {x}")
    return (*x[:-axes], *result)


@law
def pool_two(op: Operator, **arguments: Any) -> Shapes:
    """Values and places."""
    shape = pool(op, **arguments)
    return shape, shape


@law
def adaptive_pool(op: Operator, x: Shape, size: list[int]) -> Shape:
    """The wanted sizes."""
    axes = spatial_axes(op)
    require(len(x) in (axes + 1, axes + 2), f"{x} in a pooling over {axes} axes")
    wanted = per_axis(size, axes, "size")
    return (*x[:-axes], *wanted)


@law
def adaptive_pool_two(op: Operator, **arguments: Any) -> Shapes:
    """Values and places."""
    shape = adaptive_pool(op, **arguments)
    return shape, shape


def _columns(size: Sequence[int], numbers: Sequence[Sequence[int]]) -> int:
    kernel, dilation, padding, stride = (per_axis(value, 2, "window") for value in numbers)
    require_each((n > 0 for n in (*kernel, *dilation, *stride)), "kernel, dilation and stride are positive")
    require_each((p >= 0 for p in padding), f"padding {padding} is negative")
    counts = [
        _windows(n, k, s, p, d) for n, (k, d, p, s) in zip(size, zip(*numbers, strict=True), strict=True)
    ]
    require_each((n > 0 for n in counts), f"no window fits into {tuple(size)}")
    return prod(counts)


@law
def im2col(
    op: Operator, x: Shape, kernel: list[int], dilation: list[int], padding: list[int], stride: list[int]
) -> Shape:
    """[b, c, h, w] to [b, c · kh · kw, windows]."""
    require(len(x) in (3, 4), f"{x} is no image")
    columns = _columns(x[-2:], (kernel, dilation, padding, stride))
    return (*x[:-3], x[-3] * prod(kernel), columns)


@law
def col2im(
    op: Operator,
    x: Shape,
    size: list[int],
    kernel: list[int],
    dilation: list[int],
    padding: list[int],
    stride: list[int],
) -> Shape:
    """[b, c · kh · kw, windows] to [b, c, h, w]."""
    require(len(x) in (2, 3), f"{x} is no batch of columns")
    columns = _columns(size, (kernel, dilation, padding, stride))
    require(x[-2] % prod(kernel) == 0, f"{x[-2]} rows are no multiple of the kernel {kernel}")
    require(columns == x[-1], f"{x[-1]} columns, not {columns}")
    return (*x[:-2], x[-2] // prod(kernel), *size)


@law
def resize(op: Operator, x: Shape, size: list[int] | None, scale: list[float] | None, **_: Any) -> Shape:
    """The wanted sizes, or the own ones times the scale, rounded down."""
    axes = spatial_axes(op)
    require(len(x) == axes + 2, f"{x} in a resizing of {axes} axes")
    require((size is None) != (scale is None), "one of size and scale is given")
    own = x[2:]
    wanted = list(size) if size is not None else [floor(n * s) for n, s in zip(own, scale or (), strict=True)]
    require(len(wanted) == axes, f"{len(wanted)} sizes for {axes} axes")
    require_each((n > 0 for n in (*wanted, *own)), f"{x} to {wanted}: no axis may be empty")
    return (*x[:2], *wanted)
