"""Kernels of convolutions that are nearly their own image under a flip or a turn, made exactly so.

A network that was trained on mirrored images has learnt kernels that are nearly symmetric. The nearest
symmetric kernel is the mean over the images of each (Reynolds); the noise in it is smaller by the root of the
number of images. A convolution with a symmetric kernel commutes with the flip or turn. Everything is computed
and returned in float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tdsl.factor.declare import Decomposition, forms
from tdsl.factor.matrix import checked
from tdsl.factor.rank import as_rank_rule
from tdsl.factor.splits import Way, best, enough
from tdsl.symmetry.components import components

Places = tuple[Tensor, ...]
"""What each generator does to the places of a kernel: where every entry of the result comes from."""


def mirrored_kernel(weight: Tensor, rank: object) -> tuple[Tensor]:
    """The nearest kernel that reads the same from right to left, along the last axis.

    [out, in, …] → the same shape. `rank` is anything `as_rank_rule` takes; where it bounds the error and the
    mirror image is further away, the kernel stays what it is. Raises `TdslError` for a weight that is not
    finite.
    """
    return (_nearest(weight, rank, [(_images(weight)[-1],)]),)


def symmetric_kernel(weight: Tensor, rank: object) -> tuple[Tensor]:
    """The nearest kernel that flips along its axes, or the symmetries of a square, leave alone.

    [out, in, …] → the same shape. `rank` is anything `as_rank_rule` takes: where it bounds the error, the
    kernel has the most symmetries that keep the bound (none always does), otherwise those of the smallest
    error. Raises `TdslError` for a weight that is not finite.
    """
    return (_nearest(weight, rank, _groups(weight)),)


def _images(weight: Tensor) -> list[Tensor]:
    """The flip along each axis of a kernel, as places."""
    sizes = weight.shape[2:]
    places = torch.arange(math.prod(sizes)).reshape(sizes)
    return [places.flip(axis).flatten() for axis in range(places.ndim)]


def _groups(weight: Tensor) -> list[Places]:
    """Generators of the groups that kernels of these sizes may be symmetric under, the trivial one apart."""
    flips = _images(weight)
    all_flips = flips[0]
    for other in flips[1:]:
        all_flips = all_flips[other]
    found: list[Places] = [*((one,) for one in flips), tuple(flips)]
    if len(flips) > 1:
        found.append((all_flips,))  # turned by half, or inverted at the centre
    if len(flips) == 2 and weight.shape[2] == weight.shape[3]:
        places = torch.arange(weight.shape[2] ** 2).reshape(weight.shape[2:])
        across, turn = places.T.flatten(), torch.rot90(places).flatten()
        found += [(across,), (all_flips[across],), (across, all_flips), (turn,), (turn, flips[-1])]
    return found


def _nearest(weight: Tensor, rank: object, groups: Sequence[Places]) -> Tensor:
    exact, rule = checked(weight), as_rank_rule(rank)
    flat = exact.flatten(2)
    size = float(exact.norm())
    means = {0: flat}
    ways = [Way((0,), (1,), exact.numel(), 0.0)] if rule.spectral else []
    for number, generators in enumerate(groups, start=1):
        orbits = components(flat.shape[-1], list(generators))
        mean = _over_orbits(flat, orbits)
        lost = float((flat - mean).norm())
        if rule.spectral and not enough(rule, float(mean.norm()), lost):
            continue
        means[number] = mean
        numbers = exact.numel() // flat.shape[-1] * (int(orbits.max()) + 1)
        ways.append(Way((number,), (1,), numbers, lost / size if size else 0.0))
    chosen = best(rule, ways, exact.numel())
    return means[chosen.sizes[0] if chosen else 0].reshape(exact.shape).clone()


def _over_orbits(flat: Tensor, orbits: Tensor) -> Tensor:
    """Each entry replaced by the mean of its orbit, which of equal ones is exactly that. [o, i, k], [k]."""
    count = int(orbits.max()) + 1
    first = torch.empty(count, dtype=torch.int64)
    first[orbits.flip(0)] = torch.arange(len(orbits)).flip(0)
    start = flat[..., first]
    away = torch.zeros_like(start).index_add_(-1, orbits, flat - start[..., orbits])
    means: Tensor = (start + away / torch.bincount(orbits, minlength=count))[..., orbits]
    return means


_FORMS = forms(
    "[T, S, k] -> [T, S, k]", "[T, S, kh, kw] -> [T, S, kh, kw]", "[T, S, kd, kh, kw] -> [T, S, kd, kh, kw]"
)

DECLARED = (
    Decomposition(
        name="mirrored_kernel",
        params=("W", "rank"),
        results=1,
        function=mirrored_kernel,
        promise_text="W ≈ K, K its own mirror image along the last axis",
        promise=lambda kernel: kernel,
        forms=_FORMS,
        source="the Reynolds projection",
        doc="The nearest kernel that reads the same from right to left.",
    ),
    Decomposition(
        name="symmetric_kernel",
        params=("W", "rank"),
        results=1,
        function=symmetric_kernel,
        promise_text="W ≈ K, K its own image under flips and turns",
        promise=lambda kernel: kernel,
        forms=_FORMS,
        source="the Reynolds projection",
        doc="The nearest kernel that flips, or the symmetries of a square, leave alone.",
    ),
)
