"""Meanings of products: dense layers, matrix products, convolutions, attention."""

from __future__ import annotations

from math import prod, sqrt
from typing import Any

from tdsl.ops.meaning import MEANINGS, Algebra, Array, meaning


def transposed(x: Array) -> Array:
    """The last two axes exchanged."""
    return x.transpose([*range(len(x.shape) - 2), len(x.shape) - 1, len(x.shape) - 2])


def shifted(k: Algebra, x: Array, bias: Array | None, axis: int = -1) -> Array:
    """x plus a bias along one axis, counted from the last."""
    if bias is None:
        return x
    return k.add(x, bias.reshape([-1, *[1] * (-axis - 1)]))


@meaning
def linear(k: Algebra, x: Array, weight: Array, bias: Array | None) -> Array:
    """x · weightᵀ + bias."""
    flat = x.reshape([prod(x.shape[:-1]), x.shape[-1]])
    product = k.matmul(flat, transposed(weight)).reshape([*x.shape[:-1], weight.shape[0]])
    return shifted(k, product, bias)


@meaning
def matmul(k: Algebra, x: Array, y: Array) -> Array:
    """The matrix product; a vector is a row on the left and a column on the right."""
    row, column = len(x.shape) == 1, len(y.shape) == 1
    left = x.reshape([1, *x.shape]) if row else x
    right = y.reshape([*y.shape, 1]) if column else y
    product = k.matmul(left, right)
    shape = list(product.shape)
    if column:
        del shape[-1]
    if row:
        del shape[-1 if column else -2]
    return product.reshape(shape)


@meaning
def addmm(k: Algebra, bias: Array, x: Array, weight: Array, beta: float, alpha: float) -> Array:
    """beta · bias + alpha · x · weight."""
    product = k.multiply(k.matmul(x, weight), k.number(alpha))
    return k.add(k.multiply(bias, k.number(beta)), product)


@meaning
def baddbmm(k: Algebra, bias: Array, x: Array, weight: Array, beta: float, alpha: float) -> Array:
    """beta · bias + alpha · x · weight, a product for every entry of the batch."""
    result: Array = addmm(k, bias, x, weight, beta, alpha)
    return result


@meaning
def outer(k: Algebra, x: Array, y: Array) -> Array:
    """Every product."""
    return k.multiply(x.reshape([-1, 1]), y)


@meaning
def einsum(k: Algebra, equation: str, tensors: list[Array], path: Any) -> Array:
    """The sum of products."""
    return k.einsum(equation, *tensors)


# ---------------------------------------------------------------- convolutions


def _conv(
    k: Algebra,
    x: Array,
    weight: Array,
    bias: Array | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> Array:
    """Cross-correlation. [..., c, *size], [o, c / groups, *kernel] → [..., o, *out]."""
    axes = len(stride)
    batch, size = x.shape[: -axes - 1], x.shape[-axes:]
    kernel = weight.shape[2:]
    x = x.reshape([prod(batch), groups, x.shape[-axes - 1] // groups, *size])
    seen = k.windows(x, kernel, stride, padding, dilation, k.number(0))
    filters = weight.reshape([groups, weight.shape[0] // groups, *weight.shape[1:]])
    here, taps = "uvw"[:axes], "xyz"[:axes]
    result = k.einsum(f"bgc{here}{taps},goc{taps}->bgo{here}", seen, filters)
    result = result.reshape([*batch, weight.shape[0], *result.shape[3:]])
    return shifted(k, result, bias, -axes - 1)


def _conv_transpose(
    k: Algebra,
    x: Array,
    weight: Array,
    bias: Array | None,
    stride: list[int],
    padding: list[int],
    output_padding: list[int],
    groups: int,
    dilation: list[int],
) -> Array:
    """The transpose of a convolution. [..., c, *size], [c, o / groups, *kernel] → [..., o, *out].

    The input with zeros between its elements and around it meets the mirrored kernel.
    """
    axes = len(stride)
    batch, size, kernel = x.shape[: -axes - 1], list(x.shape[-axes:]), weight.shape[2:]
    x = x.reshape([prod(batch), x.shape[-axes - 1], *size])
    for i in range(axes):
        at = 2 + i
        spread = x.reshape([*x.shape[: at + 1], 1, *x.shape[at + 1 :]])
        gaps = k.filled([*x.shape[: at + 1], stride[i] - 1, *x.shape[at + 1 :]], 0)
        whole = k.concat([spread, gaps], at + 1)
        x = whole.reshape([*x.shape[:at], x.shape[at] * stride[i], *x.shape[at + 1 :]])
        length = (size[i] - 1) * stride[i] + 1
        x = x[(slice(None),) * at + (slice(0, length),)]
        reach = dilation[i] * (kernel[i] - 1)
        before, behind = reach - padding[i], reach - padding[i] + output_padding[i]
        lead = x[(slice(None),) * at + (slice(-before, None),)] if before < 0 else x
        if before > 0:
            lead = k.concat([k.filled([*x.shape[:at], before, *x.shape[at + 1 :]], 0), x], at)
        if behind < 0:
            lead = lead[(slice(None),) * at + (slice(0, behind),)]
        elif behind > 0:
            lead = k.concat([lead, k.filled([*lead.shape[:at], behind, *lead.shape[at + 1 :]], 0)], at)
        x = lead
    each = weight.shape[0] // groups
    filters = weight.reshape([groups, each, *weight.shape[1:]])
    filters = filters[(slice(None),) * 3 + (slice(None, None, -1),) * axes]
    filters = filters.transpose([0, 2, 1, *range(3, 3 + axes)])
    filters = filters.reshape([groups * weight.shape[1], each, *kernel])
    ones, zeros = [1] * axes, [0] * axes
    result = _conv(k, x, filters, None, ones, zeros, dilation, groups)
    result = result.reshape([*batch, *result.shape[1:]])
    return shifted(k, result, bias, -axes - 1)


for _axes in (1, 2, 3):
    MEANINGS[f"conv{_axes}d"] = _conv
    MEANINGS[f"conv_transpose{_axes}d"] = _conv_transpose


@meaning
def attention(
    k: Algebra,
    query: Array,
    key: Array,
    value: Array,
    mask: Array | None,
    dropout: float,
    causal: bool,
    scale: float | None,
    enable_gqa: bool,
) -> Array:
    """softmax(query · keyᵀ · scale + mask) · value, the softmax over an oracle for exp."""
    if dropout:
        raise NotImplementedError("attention with dropout")
    if enable_gqa:
        key, value = (_shared(k, x, query.shape[-3]) for x in (key, value))
    factor = 1 / sqrt(query.shape[-1]) if scale is None else scale
    scores = k.multiply(k.matmul(query, transposed(key)), k.number(factor))
    if mask is not None:
        scores = k.add(scores, mask)
    weights = k.powers(scores, [len(scores.shape) - 1])
    if causal:
        weights = k.multiply(weights, _lower_triangle(k, *scores.shape[-2:]))
    return k.divide(k.matmul(weights, value), k.total(weights, [-1], True))


def _shared(k: Algebra, x: Array, heads: int) -> Array:
    """Each head so many times in a row that there are as many as of queries (Ainslie et al., 2023)."""
    axis = len(x.shape) - 3
    before: list[Any] = [slice(None)] * axis
    each = [x[(*before, slice(i, i + 1))] for i in range(x.shape[axis])]
    return k.concat([head for head in each for _ in range(heads // len(each))], axis)


def _lower_triangle(k: Algebra, rows: int, columns: int) -> Array:
    """Ones where a row may look: at no later column."""
    lines = [
        k.concat([k.filled([1, min(i + 1, columns)], 1), k.filled([1, max(columns - i - 1, 0)], 0)], 1)
        for i in range(rows)
    ]
    return k.concat(lines, 0)
