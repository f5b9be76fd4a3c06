"""Predicates on index tensors known at compile time, for the conditions of a rule; axes count in a row."""

from __future__ import annotations

import torch
from torch import Tensor

from tdsl.factor.declare import CompileTimeFunction


def is_permutation(index: Tensor) -> bool:
    """Whether an index names each of its n places, 0 to n - 1, once."""
    places = _whole(index)
    return places is not None and torch.equal(places.sort().values, torch.arange(len(places)))


def is_segmented(index: Tensor, segments: int) -> bool:
    """Whether an index names segments in order, as often each: 0 … 0 1 … 1 … up to `segments` - 1."""
    places = _whole(index)
    if places is None or segments < 1 or not len(places) or len(places) % segments:
        return False
    return torch.equal(places, torch.arange(segments).repeat_interleave(len(places) // segments))


def in_order(count: int) -> Tensor:
    """The places 0, 1, …, `count` - 1."""
    return torch.arange(count)


def _whole(index: Tensor) -> Tensor | None:
    """The places in a row; `None` for what is no tensor of integers."""
    if index.is_floating_point() or index.is_complex() or index.dtype == torch.bool:
        return None
    return index.detach().cpu().to(torch.int64).reshape(-1)


DECLARED = (
    CompileTimeFunction(
        "is_permutation",
        "predicate",
        ("index",),
        is_permutation,
        "Whether an index names each place from 0 on once.",
        family="permutation",
    ),
    CompileTimeFunction(
        "is_segmented",
        "predicate",
        ("index", "segments"),
        is_segmented,
        "Whether an index is 0 … 0 1 … 1 …, each as often, up to `segments` - 1.",
    ),
    CompileTimeFunction("in_order", "tensor", ("n",), in_order, "The places 0, 1, …, n − 1."),
)
