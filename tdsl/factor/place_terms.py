"""Layers on channels that a group permutes: channels put in order and mixed over places, and back.

Orders of channels are constants with one row for each group of the convolution, whose channels all have that
order. Channels are looked up, also where places ran fastest: lookups of neighbouring layers become one, or
none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tdsl.factor.declare import TermFunction, Terms


def places_read(terms: Terms, x: Any, into: Any, order: Any) -> Any:
    """T [r, d] on the places of channels of x [n, c, …], which stand at order [g, d·q]. → [n, r·g·q, …]"""
    count, channels, *sizes = terms.shape(x)
    groups, stand = terms.shape(order)
    r, d = terms.shape(into)
    each = channels // groups
    within = (terms.known(order) % each).reshape(groups, d, stand // d)
    start = each * torch.arange(groups)[:, None, None]
    placed = _picked(terms, x, (within + start).transpose(0, 1).flatten())
    mixed = terms("matmul", into, terms("reshape", placed, [count, d, -1]))
    return terms("reshape", mixed, [count, r * groups * (stand // d), *sizes])


def places_written(terms: Terms, y: Any, back: Any, order: Any, bias: Any = None) -> Any:
    """B [a, r] on y [n, r·g·p, …], and of the channels [n, a·g·p, …] those at order [g, m]. → [n, g·m, …]

    A bias [g·m] is added.
    """
    count, channels, *sizes = terms.shape(y)
    groups, made = terms.shape(order)
    a, r = terms.shape(back)
    each = channels // (r * groups)
    mixed = terms("matmul", back, terms("reshape", y, [count, r, -1]))
    placed = terms("reshape", mixed, [count, a * groups * each, *sizes])
    within = terms.known(order) % (a * each)
    start = each * torch.arange(groups)[:, None]
    found = _picked(terms, placed, (within // each * groups * each + start + within % each).flatten())
    if bias is None:
        return found
    return terms("add", found, terms("reshape", bias, [groups * made, *[1] * len(sizes)]))


def place_kernels(terms: Terms, products: Any, weight: Any) -> Any:
    """The kernel of a convolution of r·g groups, taps as in `weight`. S [r, p, q, g·t] → [r·g·p, q, …]"""
    return _kernels(terms, products, weight, (0, 3, 1, 2, 4))


def place_kernels_transposed(terms: Terms, products: Any, weight: Any) -> Any:
    """The same of a transposed convolution. S [r, p, q, g·t] → [r·g·q, p, …]"""
    return _kernels(terms, products, weight, (0, 3, 2, 1, 4))


def _kernels(terms: Terms, products: Any, weight: Any, order: Sequence[int]) -> Any:
    r, p, q, count = terms.shape(products)
    taps = terms.shape(weight)[2:]
    groups = count // math.prod(taps)
    apart = terms("reshape", products, [r, p, q, groups, -1])
    sizes = (r, p, q)
    return terms(
        "reshape",
        terms("permute", apart, list(order)),
        [r * groups * sizes[order[2]], sizes[order[3]], *taps],
    )


def channels_at(terms: Terms, x: Any, order: Any) -> Any:
    """The channels of x at these places, which go round. [n, c, …], [w] → [n, w, …]"""
    return _picked(terms, x, terms.known(order) % terms.shape(x)[1])


def _picked(terms: Terms, x: Any, places: Tensor) -> Any:
    """The channels of x at these places. [n, c, …], [w] → [n, w, …]"""
    channels = terms.shape(x)[1]
    if len(places) == channels and bool((places == torch.arange(channels)).all()):
        return x
    return terms("index_select", x, 1, terms.constant(places))


def _read_shape(x: Sequence[int], into: Sequence[int], order: Sequence[int]) -> tuple[int, ...]:
    """The shape of `places_read`. Raises `ValueError` where the sizes do not fit."""
    if len(x) < 2 or x[1] % order[0] or order[1] % into[1]:
        raise ValueError(
            f"{into[1]} places of {order[1]} channels in {order[0]} groups, of a value of shape {list(x)}"
        )
    return x[0], into[0] * order[0] * (order[1] // into[1]), *x[2:]


def _written_shape(
    y: Sequence[int], back: Sequence[int], order: Sequence[int], bias: Sequence[int] | None = None
) -> tuple[int, ...]:
    """The shape of `places_written`. Raises `ValueError` where the sizes do not fit."""
    if len(y) < 2 or y[1] % (back[1] * order[0]):
        raise ValueError(f"{back[1]} products in {order[0]} groups, of a value of shape {list(y)}")
    return y[0], order[0] * order[1], *y[2:]


def _picked_shape(x: Sequence[int], order: Sequence[int]) -> tuple[int, ...]:
    """The shape of `channels_at`. Raises `ValueError` where there are no channels."""
    if len(x) < 2:
        raise ValueError(f"channels of a value of shape {list(x)}")
    return x[0], order[0], *x[2:]


def _kernel_shape(products: Sequence[int], weight: Sequence[int]) -> tuple[int, ...]:
    return _kernels_shape(products, weight, 1, 2)


def _transposed_shape(products: Sequence[int], weight: Sequence[int]) -> tuple[int, ...]:
    return _kernels_shape(products, weight, 2, 1)


def _kernels_shape(products: Sequence[int], weight: Sequence[int], left: int, right: int) -> tuple[int, ...]:
    """The shape of kernels. Raises `ValueError` where the taps do not fit."""
    taps = math.prod(weight[2:])
    if products[3] % taps:
        raise ValueError(f"{products[3]} matrices are not as many for each of {taps} taps")
    return products[0] * (products[3] // taps) * products[left], products[right], *weight[2:]


DECLARED = (
    TermFunction(
        "places_read",
        ("x", "T", "order"),
        places_read,
        _read_shape,
        "Channels of x [n, c, …] at order [g, d·q] mixed over places by T [r, d] → [n, r·g·q, …].",
    ),
    TermFunction(
        "places_written",
        ("y", "B", "order", "b?"),
        places_written,
        _written_shape,
        "y [n, r·g·p, …] mixed over places by B [a, r], channels at order [g, m], a bias → [n, g·m, …].",
    ),
    TermFunction(
        "channels_at",
        ("x", "order"),
        channels_at,
        _picked_shape,
        "The channels of x [n, c, …] at places order [w] → [n, w, …].",
    ),
    TermFunction(
        "place_kernels",
        ("S", "W"),
        place_kernels,
        _kernel_shape,
        "Kernels S [r, p, q, g·t] of r·g groups, taps as those of W → [r·g·p, q, …].",
    ),
    TermFunction(
        "place_kernels_transposed",
        ("S", "W"),
        place_kernels_transposed,
        _transposed_shape,
        "The same for transposed convolutions → [r·g·q, p, …].",
    ),
)
