"""Which pairs of places of a weight look alike, or opposite.

Rows are pairs of a place and a channel, and so are columns. Two pairs of places whose numbers for some few
channels agree get one label, and the opposite one where they agree but for the sign. Where no label comes
twice there is no group, and that is seen on a few entries.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

SEED = 0xC4A2
CHANNELS = 4
"""As many channels of each side are looked at."""
EXACT = 1e-5
"""Pairs of places are alike when their numbers differ by less than this share of the mean size of numbers."""
NEARLY = 0.1
"""The same, where a weight is asked for that is only near to one with a group."""
FEW = 8
"""Of fewer numbers some may agree by chance, and all have to agree exactly."""
PART = 64
"""So many places of each side are looked at before all are."""
LOOKS = 256
"""Pairs of alike pairs of places that are looked at again."""
AGAIN = 16
"""Channels of each that are."""
BLOCK = 256
"""Rows that are summed up at once."""
PROBES = 8
"""Pairs of places one of which has to come again."""
SIGHTS = 3
"""Random combinations of numbers by which pairs of places are told apart."""


def labels(blocks: Tensor, nearly: bool) -> Tensor | None:
    """A label from 1 on for each pair of places, opposite labels for opposite ones, 0 for nothing.

    [a, b, p, q] → [a, b] int64; `None` when nothing comes twice, or what seems to does not where one looks
    again. `nearly` allows a tenth for noise.
    """
    rows, columns, p, q = blocks.shape
    if not comes_again(blocks[:, :, 0, 0], blocks[:, :, p // 2, q - 1], NEARLY if nearly else EXACT):
        return None
    if not nearly and max(rows, columns) > PART and _labels(_part(blocks), exactly=True) is None:
        return None
    found = _labels(blocks, exactly=not nearly)
    return found if found is not None and bool(found.any()) else None


def _labels(blocks: Tensor, *, exactly: bool) -> Tensor | None:
    """As `labels`, of pairs of places that may all differ."""
    seen = _sampled(blocks)
    flat = seen.flatten(0, 1)
    size = float(flat.square().mean().sqrt()) * flat.shape[1] ** 0.5
    if not size:
        return torch.zeros(seen.shape[:2], dtype=torch.int64)
    if exactly or flat.shape[1] < FEW:
        found = alike(flat / size)
        return found.reshape(seen.shape[:2]) if _stands(blocks, found, size / flat.shape[1] ** 0.5) else None
    return _near(flat, NEARLY * size).reshape(seen.shape[:2])


def _part(blocks: Tensor) -> Tensor:
    """A few places of both sides, evenly spread."""
    rows, columns = (-(-n // PART) for n in blocks.shape[:2])
    return blocks[::rows, ::columns]


def _stands(blocks: Tensor, found: Tensor, size: float) -> bool:
    """Whether pairs of places of one label are alike at a few channels that were not looked at."""
    random = np.random.default_rng(SEED)
    names = np.abs(found.numpy())
    order = np.argsort(names, kind="stable")
    same = ((np.diff(names[order]) == 0) & (names[order[1:]] > 0)).nonzero()[0]
    same = same[:: max(1, len(same) // LOOKS)]
    one, other = (np.repeat(order[place], AGAIN) for place in (same, same + 1))
    p, q = (random.integers(0, n, len(one)) for n in blocks.shape[2:])
    columns = blocks.shape[1]
    values = [
        blocks[tuple(map(torch.from_numpy, (places // columns, places % columns, p, q)))].to(torch.float64)
        for places in (one, other)
    ]
    signs = found.sign()[one] * found.sign()[other]
    return bool(((values[0] - signs * values[1]).abs() <= EXACT * size).all())


def corners(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Where two opposite corners of a weight come again, up to their sign. [m, n] → places of m·n, two times

    They are the first channel at the first place and the last one at the last, whatever the number of places,
    and come again at other places of that channel, unless the group leaves these places where they are.
    """
    sizes = weight.flatten().to(torch.float32).abs()
    near = _near_size(weight)

    def again(place: int) -> Tensor:
        if not len(sizes) or float(sizes[place]) <= near:  # where nothing is nothing comes again
            return torch.zeros(0, dtype=torch.int64)
        return ((sizes - sizes[place]).abs_() <= near).nonzero().flatten()

    return again(0), again(-1)


class Corners:
    """Whether corners of a weight come again at so many places. `found` is what `corners` returns."""

    def __init__(self, weight: Tensor, found: tuple[Tensor, Tensor]) -> None:
        self.weight = weight.numpy()
        self.near = _near_size(weight)
        rows, columns = weight.shape
        self.again = [
            (row, column, *np.divmod(places.numpy(), columns))
            for row, column, places in zip((0, rows - 1), (0, columns - 1), found, strict=True)
            if len(places)
        ]

    def come_again(self, rows: int, columns: int, *, channels_last: bool) -> int:
        """How often one does for so many places, its neighbour of another channel with it."""
        p, q = self.weight.shape[0] // rows, self.weight.shape[1] // columns
        most = 0
        for row, column, i, j in self.again:
            toward = -1 if row else 1
            if channels_last:
                here = ((i - row) % p == 0) & ((j - column) % q == 0)
                down, aside = toward * (p > 1), toward * (q > 1)
            else:
                here = (i // rows == row // rows) & (j // columns == column // columns)
                down, aside = toward * rows * (p > 1), toward * columns * (q > 1)
            beside = np.abs(self.weight[i[here] + down, j[here] + aside])
            apart = np.abs(beside - np.abs(self.weight[row + down, column + aside]))
            most = max(most, int((apart <= self.near).sum()) - 1)
        return most


def _near_size(weight: Tensor) -> float:
    norm = float(torch.linalg.vector_norm(weight))
    return EXACT * norm / math.sqrt(max(1, weight.numel()))


def comes_again(first: Tensor, second: Tensor, share: float) -> bool:
    """Whether one of a few pairs of places is like another, by two numbers of each. [a, b], [a, b]"""
    one, other = (values.flatten().to(torch.float64).numpy() for values in (first, second))
    probes = np.arange(PROBES) * (len(one) - 1) // PROBES
    near = share * float(np.sqrt((one @ one + other @ other) / (2 * len(one))))
    for sign in (1, -1):
        places, like = np.nonzero(np.abs(one - sign * one[probes, None]) <= near)
        alike = np.abs(other[like] - sign * other[probes[places]]) <= near
        if bool((alike & (like != probes[places])).any()):
            return True
    return False


def lines_alike(weight: Tensor, *, signed: bool) -> tuple[Tensor, Tensor]:
    """Names of rows and of columns, the same where two have the same numbers in any order, 0 for zeros.

    [m, n] → [m], [n] int64. Two numbers of opposite sign are the same unless `signed`. Different rows have
    one name by chance only: sums, sizes and extremes are compared.
    """
    rows, columns = weight.shape
    down = [weight.new_zeros(columns), weight.new_zeros(columns)]
    most, least = weight.new_full((columns,), -math.inf), weight.new_full((columns,), math.inf)
    across = []
    for block in torch.split(weight, BLOCK):
        values, squares = block if signed else block.abs(), block.square()
        across.append(torch.stack([values.sum(1), squares.sum(1), values.amax(1), values.amin(1)]))
        down = [total + part.sum(0) for total, part in zip(down, (values, squares), strict=True)]
        most, least = torch.maximum(most, values.amax(0)), torch.minimum(least, values.amin(0))
    found = []
    size = math.sqrt(float(down[1].sum()) / weight.numel()) or 1.0
    for (sums, energy, *extremes), count in (
        (torch.cat(across, 1), columns),
        (torch.stack([*down, most, least]), rows),
    ):
        sights = [sums / count**0.5, (energy / count).sqrt(), *extremes]
        found.append(alike(torch.stack(sights, 1).to(torch.float64) / size).abs())
    return found[0], found[1]


def may_be_permuted(weight: Tensor) -> bool:
    """Whether two rows, or two columns, of [m, n] have the same numbers, as those that a group moves have."""
    if not weight.numel():
        return False
    return any(len(np.unique(names.numpy())) < len(names) for names in lines_alike(weight, signed=False))


def _sampled(blocks: Tensor) -> Tensor:
    """Numbers of a few channels on both sides. [a, b, p, q] → [a, b, up to CHANNELS²]."""
    random = torch.Generator().manual_seed(SEED)
    p, q = (torch.randperm(n, generator=random)[:CHANNELS] for n in blocks.shape[2:])
    return blocks[:, :, p[:, None], q].flatten(2).to(torch.float64)


def alike(flat: Tensor) -> Tensor:
    """Labels of what is equal but for rounding, by sorting. [n, numbers of size 1] → [n] int64"""
    random = torch.Generator().manual_seed(SEED)
    sights = (flat @ torch.randn(flat.shape[1], SIGHTS, generator=random, dtype=torch.float64)).numpy()
    nothing = np.abs(sights).max(1) <= EXACT
    signs = np.where(nothing, 0, np.where(sights[:, 0] < 0, -1, 1))
    found = np.where(nothing, 0, 1).astype(np.int64)
    for sight in (sights * signs[:, None]).T:
        order = np.lexsort((sight, found))
        steps = (np.diff(found[order]) > 0) | (np.diff(sight[order]) > EXACT)
        found[order] = np.concatenate([[0], np.cumsum(steps)]) + (1 if found[order[0]] else 0)
    return torch.from_numpy(found * signs)


def _near(flat: Tensor, near: float) -> Tensor:
    """Labels of what is not further than `near` from the first of the label. [n, numbers] → [n] int64"""
    sizes = flat.norm(dim=1)
    found = torch.zeros(len(flat), dtype=torch.int64)
    waiting = sizes > near
    count = 0
    for place in range(len(flat)):
        if not waiting[place]:
            continue
        count += 1
        for sign in (1, -1):
            alike = waiting & ((flat - sign * flat[place]).norm(dim=1) <= near)
            found[alike] = sign * count
            waiting &= ~alike
    return found
