"""Meanings of sums, statistics, normalisation, pooling and recurrences."""

from __future__ import annotations

from math import prod
from typing import Any

from tdsl.ops.meaning import MEANINGS, Algebra, Array, meaning


def _axes(x: Array, dim: Any) -> list[int]:
    if dim is None or dim == []:
        return list(range(len(x.shape)))
    return [d % max(len(x.shape), 1) for d in ([dim] if isinstance(dim, int) else dim)]


def _mean(k: Algebra, x: Array, axes: list[int], keepdim: bool) -> Array:
    count = prod(x.shape[a] for a in axes)
    return k.divide(k.total(x, axes, keepdim), k.number(count))


@meaning
def sum_(k: Algebra, x: Array, dim: Any, keepdim: bool, dtype: Any) -> Array:
    """The sum along axes."""
    return k.total(x, _axes(x, dim), keepdim)


@meaning
def mean(k: Algebra, x: Array, dim: Any, keepdim: bool, dtype: Any) -> Array:
    """The mean along axes."""
    return _mean(k, x, _axes(x, dim), keepdim)


@meaning
def prod_(k: Algebra, x: Array, dim: int, keepdim: bool, dtype: Any) -> Array:
    """The product along an axis."""
    axis = dim % len(x.shape)
    parts = [x[(slice(None),) * axis + (slice(i, i + 1),)] for i in range(x.shape[axis])]
    result = parts[0]
    for part in parts[1:]:
        result = k.multiply(result, part)
    return result if keepdim else result.reshape([*x.shape[:axis], *x.shape[axis + 1 :]])


def _variance(k: Algebra, x: Array, axes: list[int], correction: float, keepdim: bool) -> Array:
    apart = k.subtract(x, _mean(k, x, axes, True))
    count = prod(x.shape[a] for a in axes) - correction
    return k.divide(k.total(k.multiply(apart, apart), axes, keepdim), k.number(count))


@meaning
def var(k: Algebra, x: Array, dim: Any, correction: Any, keepdim: bool) -> Array:
    """The variance along axes, divided by the count less the correction."""
    return _variance(k, x, _axes(x, dim), 1 if correction is None else correction, keepdim)


@meaning
def std(k: Algebra, x: Array, dim: Any, correction: Any, keepdim: bool) -> Array:
    """The root of the variance."""
    return MEANINGS["sqrt"](k, var(k, x, dim, correction, keepdim))


@meaning
def var_mean(k: Algebra, x: Array, dim: Any, correction: Any, keepdim: bool) -> tuple[Array, Array]:
    """The variance and the mean."""
    return var(k, x, dim, correction, keepdim), _mean(k, x, _axes(x, dim), keepdim)


@meaning
def amax(k: Algebra, x: Array, dim: Any, keepdim: bool) -> Array:
    """The greatest element along axes."""
    return k.greatest(x, _axes(x, dim), keepdim)


@meaning
def amin(k: Algebra, x: Array, dim: Any, keepdim: bool) -> Array:
    """The least element along axes."""
    return k.negative(k.greatest(k.negative(x), _axes(x, dim), keepdim))


@meaning
def softmax(k: Algebra, x: Array, dim: int, dtype: Any) -> Array:
    """exp(x) / sum(exp(x)), over an oracle for exp."""
    powers = k.powers(x, _axes(x, dim))
    return k.divide(powers, k.total(powers, _axes(x, dim), True))


@meaning
def log_softmax(k: Algebra, x: Array, dim: int, dtype: Any) -> Array:
    """The logarithm of the softmax, over an oracle for log."""
    return k.oracle("log", softmax(k, x, dim, dtype))


# ---------------------------------------------------------------- normalisation


def _normalised(k: Algebra, x: Array, center: Array, variance: Array, eps: float) -> Array:
    return k.divide(k.subtract(x, center), MEANINGS["sqrt"](k, k.add(variance, k.number(eps))))


def _scaled(k: Algebra, x: Array, weight: Array | None, bias: Array | None) -> Array:
    x = x if weight is None else k.multiply(x, weight)
    return x if bias is None else k.add(x, bias)


def _of_channel(x: Array | None, rank: int) -> Array | None:
    return None if x is None else x.reshape([-1, *[1] * (rank - 2)])


@meaning
def batch_norm(
    k: Algebra,
    x: Array,
    weight: Array | None,
    bias: Array | None,
    mean: Array | None,
    var: Array | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn: bool,
) -> Array:
    """Every channel normalised by given statistics, or by those of the batch."""
    rank = len(x.shape)
    if training or mean is None or var is None:
        axes = [0, *range(2, rank)]
        center, variance = _mean(k, x, axes, True), _variance(k, x, axes, 0, True)
    else:
        center, variance = _of_channel(mean, rank), _of_channel(var, rank)
    result = _normalised(k, x, center, variance, eps)
    return _scaled(k, result, _of_channel(weight, rank), _of_channel(bias, rank))


@meaning
def instance_norm(
    k: Algebra,
    x: Array,
    weight: Array | None,
    bias: Array | None,
    mean: Array | None,
    var: Array | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn: bool,
) -> Array:
    """Every channel of every sample normalised by its own statistics, or by given ones."""
    rank = len(x.shape)
    if not use_input_stats:
        return batch_norm(k, x, weight, bias, mean, var, False, momentum, eps, cudnn)
    axes = list(range(2, rank))
    result = _normalised(k, x, _mean(k, x, axes, True), _variance(k, x, axes, 0, True), eps)
    return _scaled(k, result, _of_channel(weight, rank), _of_channel(bias, rank))


@meaning
def layer_norm(
    k: Algebra,
    x: Array,
    shape: list[int],
    weight: Array | None,
    bias: Array | None,
    eps: float,
    cudnn: bool,
) -> Array:
    """The last axes normalised together."""
    axes = list(range(len(x.shape) - len(shape), len(x.shape)))
    result = _normalised(k, x, _mean(k, x, axes, True), _variance(k, x, axes, 0, True), eps)
    return _scaled(k, result, weight, bias)


@meaning
def rms_norm(k: Algebra, x: Array, shape: list[int], weight: Array | None, eps: float | None) -> Array:
    """The last axes divided by their root mean square."""
    axes = list(range(len(x.shape) - len(shape), len(x.shape)))
    squares = _mean(k, k.multiply(x, x), axes, True)
    smallest = 2.0**-52 if eps is None else eps
    return _scaled(k, _normalised(k, x, k.number(0), squares, smallest), weight, None)


@meaning
def group_norm(
    k: Algebra,
    x: Array,
    groups: int,
    weight: Array | None,
    bias: Array | None,
    eps: float,
    cudnn: bool,
) -> Array:
    """Each group of channels normalised together."""
    apart = x.reshape([x.shape[0], groups, prod(x.shape[1:]) // groups])
    result = _normalised(k, apart, _mean(k, apart, [2], True), _variance(k, apart, [2], 0, True), eps)
    rank = len(x.shape)
    return _scaled(k, result.reshape(x.shape), _of_channel(weight, rank), _of_channel(bias, rank))


# ---------------------------------------------------------------- pooling


def _max_pool(
    k: Algebra,
    x: Array,
    kernel: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    ceil_mode: bool,
) -> Array:
    """The greatest element of each window; for what lies outside, one that lies inside is seen twice."""
    axes = len(kernel)
    shape = list(x.shape[: len(x.shape) - axes])
    for i, size in enumerate(kernel):
        axis = len(x.shape) - axes + i
        taps = _taps(x.shape[axis], size, (stride or kernel)[i], padding[i], dilation[i], ceil_mode)
        x = _taken(k, x, axis, taps)
        shape += [len(taps) // size, size]
    return k.greatest(x.reshape(shape), [len(shape) - 1 - 2 * i for i in range(axes)])


_LEAST = -1e6
"""The greatest of no elements, where -∞ is no number."""


def _taps(count: int, size: int, step: int, width: int, apart: int, ceil_mode: bool) -> list[int]:
    """The places that the windows along an axis of `count` see, `size` for each; -1 where none is inside."""
    room = count + 2 * width - apart * (size - 1) - 1
    windows = room // step + 1
    if ceil_mode and room % step and windows * step < count + width:
        windows += 1
    taps: list[int] = []
    for first in range(-width, windows * step - width, step):
        seen = [first + apart * j for j in range(size)]
        inside = [place for place in seen if 0 <= place < count]
        taps += [place if place in inside else inside[0] if inside else -1 for place in seen]
    return taps


def _taken(k: Algebra, x: Array, axis: int, places: list[int]) -> Array:
    """Slices along an axis, side by side; at -1 the least number."""
    before: list[Any] = [slice(None)] * axis
    slices = [x[(*before, slice(place, place + 1))] for place in range(x.shape[axis])]
    return k.concat([*slices, k.filled(slices[0].shape, _LEAST)], axis)[(*before, places)]


for _axes_of_window in (1, 2, 3):
    MEANINGS[f"max_pool{_axes_of_window}d"] = _max_pool


@meaning
def weight_norm(k: Algebra, direction: Array, length: Array, dim: int) -> Array:
    """The direction over its norm, times the length."""
    rank = len(direction.shape)
    axes = [a for a in range(rank) if dim == -1 or a != dim % rank]
    size = MEANINGS["sqrt"](k, k.total(k.multiply(direction, direction), axes, True))
    return k.divide(k.multiply(direction, length), size)


@meaning
def glu(k: Algebra, x: Array, dim: int) -> Array:
    """The first half times an oracle for the sigmoid of the second."""
    axis = dim % len(x.shape)
    half = x.shape[axis] // 2
    before = (slice(None),) * axis
    return k.multiply(
        x[(*before, slice(0, half))], MEANINGS["sigmoid"](k, x[(*before, slice(half, 2 * half))])
    )
