"""Channels that a group permutes, put in the order of its places and back: lookups of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tdsl.factor.declare import TermFunction, Terms


def channels_at(terms: Terms, x: Any, order: Any) -> Any:
    """The channels of x at these places, which go round. [n, c, …], [w] → [n, w, …]"""
    return picked(terms, x, terms.known(order) % terms.shape(x)[1])


def picked(terms: Terms, x: Any, places: Tensor, axis: int = 1) -> Any:
    """What x has at these places of an axis, the channels by default. [n, c, …], [w] → [n, w, …]"""
    count = terms.shape(x)[axis]
    if len(places) == count and bool((places == torch.arange(count)).all()):
        return x
    return terms("index_select", x, axis, terms.constant(places))


def _picked_shape(x: Sequence[int], order: Sequence[int]) -> tuple[int, ...]:
    """The shape of `channels_at`. Raises `ValueError` where there are no channels."""
    if len(x) < 2:
        raise ValueError(f"channels of a value of shape {list(x)}")
    return x[0], order[0], *x[2:]


DECLARED = (
    TermFunction(
        "channels_at",
        ("x", "order"),
        channels_at,
        _picked_shape,
        "The channels of x [n, c, …] at places order [w] → [n, w, …].",
    ),
)
