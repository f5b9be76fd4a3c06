"""Random actions on tensors of given shapes, and operators of the table as sites of a transfer."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tdsl.symmetry.action import Action, action, identity_on
from tdsl.symmetry.along import Along, Monomial, Turn
from tdsl.symmetry.element import Linear, Permutation


def random_element(draw: random.Random, size: int, kinds: Sequence[str]) -> Along:
    """Something along an axis of that size."""
    kind = draw.choice(list(kinds))
    places = tuple(draw.sample(range(size), size))
    if kind == "flip":
        return Turn(size, size - 1, True)
    if kind == "roll":
        return Turn(size, draw.randrange(size))
    if kind == "permutation":
        return Permutation(places)
    if kind == "positive":
        return Monomial(places, tuple(draw.uniform(0.5, 2) for _ in range(size)))
    if kind == "signs":
        return Monomial(places, tuple(draw.choice((-1.0, 1.0)) for _ in range(size)))
    generator = torch.Generator().manual_seed(draw.randrange(10**6))
    square = torch.randn(size, size, generator=generator, dtype=torch.float64)
    return Linear(torch.linalg.qr(square).Q if kind == "orthogonal" else square)


KINDS = ("flip", "roll", "permutation", "positive", "signs", "orthogonal", "matrix")


def random_action(draw: random.Random, shape: Sequence[int], kinds: Sequence[str] = KINDS) -> Action:
    """One or two axes acted on, or two of equal size exchanged, or both."""
    rank = len(shape)
    if rank == 0 or 0 in shape:
        return identity_on(rank)
    axes = draw.sample(range(rank), draw.randint(0, min(2, rank)))
    parts = {axis: random_element(draw, shape[axis], kinds) for axis in axes}
    order = list(range(rank))
    equal = [(a, b) for a in range(rank) for b in range(a) if shape[a] == shape[b]]
    if equal and draw.random() < 0.4:
        a, b = draw.choice(equal)
        order[a], order[b] = b, a
    return action(rank, parts, order)


def plain(value: Any) -> list[Tensor]:
    """Tensors of a value, lists flattened."""
    if isinstance(value, Tensor):
        return [value]
    return [one for item in value for one in plain(item)] if isinstance(value, list | tuple) else []
