"""Which pairs of places of a weight look alike, or opposite.

Rows are pairs of a place and a channel, and so are columns. Two pairs of places whose numbers agree for all
channels get one label, and the opposite one where they agree but for the sign. Where no label comes twice
there is no group, and that is seen on a few entries.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from numpy.typing import NDArray
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
BLOCK = 256
"""Rows that are summed up at once."""
PROBES = 8
"""Pairs of places one of which has to come again."""
SIGHTS = 3
"""Random combinations of numbers by which pairs of places are told apart."""
ROUNDS = 16
"""Passes over a weight that tell its rows and columns apart, at most."""

Names = NDArray[np.int64]


def labels(blocks: Tensor, nearly: bool) -> Tensor | None:
    """A label from 1 on for each pair of places, opposite labels for opposite ones, 0 for nothing.

    [a, b, p, q] → [a, b] int64; `None` when nothing comes twice. `nearly` allows a tenth for noise, and looks
    at few channels.
    """
    p, q = blocks.shape[2:]
    if not comes_again(blocks[:, :, 0, 0], blocks[:, :, p // 2, q - 1], NEARLY if nearly else EXACT):
        return None
    found = _labels_nearly(blocks) if nearly else _labels(blocks)
    return found if bool(found.any()) else None


def _labels(blocks: Tensor) -> Tensor:
    """Labels of pairs of places all of whose numbers agree, by a few random combinations of the channels."""
    rows, columns, p, q = blocks.shape
    size = float(torch.linalg.vector_norm(blocks)) / math.sqrt(rows * columns)
    if not size:
        return torch.zeros(rows, columns, dtype=torch.int64)
    random = torch.Generator().manual_seed(SEED)
    left, right = (torch.randn(n, SIGHTS, generator=random, dtype=torch.float64) for n in (p, q))
    seen = torch.einsum("abpk,pk->abk", blocks.to(torch.float64) @ right, left)
    return _by_sights(seen.flatten(0, 1) / size).reshape(rows, columns)


def _labels_nearly(blocks: Tensor) -> Tensor:
    """The same of pairs of places of which some numbers nearly agree."""
    seen = _sampled(blocks)
    flat = seen.flatten(0, 1)
    size = float(flat.square().mean().sqrt()) * flat.shape[1] ** 0.5
    if not size:
        return torch.zeros(seen.shape[:2], dtype=torch.int64)
    if flat.shape[1] < FEW:
        return alike(flat / size).reshape(seen.shape[:2])
    return _near(flat, NEARLY * size).reshape(seen.shape[:2])


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
    """Names of rows and of columns, the same where a permutation of both may move the one to the other.

    [m, n] → [m], [n] int64, 0 for zeros. Two numbers of opposite sign are the same unless `signed`. Lines of
    one name have the same numbers in any order, as many of them where the other lines have each name: sums,
    sizes and extremes are compared in one pass, then sums and sizes weighted by the names of the others for
    as long as these tell more apart (colour refinement, with numbers for colours of edges).
    """
    names = _named(weight, None, signed)
    for _ in range(ROUNDS):
        counts = [int(one.max()) for one in names]
        if all(count == len(one) for count, one in zip(counts, names, strict=True)):
            break
        names = _named(weight, names, signed)
        if [int(one.max()) for one in names] == counts:
            break
    return torch.from_numpy(names[0]), torch.from_numpy(names[1])


def _named(weight: Tensor, known: tuple[Names, Names] | None, signed: bool) -> tuple[Names, Names]:
    """Names of rows and columns by one pass over the weight, which tell apart what the known ones do."""
    random = torch.Generator().manual_seed(SEED)
    colours = [
        torch.randn(count + 1, generator=random, dtype=torch.float64)[torch.from_numpy(names)].to(weight)
        if known
        else weight.new_ones(count)
        for count, names in zip(weight.shape, known or ((), ()), strict=True)
    ]
    across: list[Tensor] = []
    down = weight.new_zeros(2, weight.shape[1])
    most, least = (weight.new_full((weight.shape[1],), sign * math.inf) for sign in (-1, 1))
    for start, block in zip(itertools.count(0, BLOCK), torch.split(weight, BLOCK), strict=False):
        values, squares = block if signed else block.abs(), block.square()
        ours = colours[0][start : start + BLOCK]
        seen = [values @ colours[1], squares @ colours[1]]
        down += torch.stack([ours @ values, ours @ squares])
        if not known:
            seen += [values.amax(1), values.amin(1)]
            most, least = torch.maximum(most, values.amax(0)), torch.minimum(least, values.amin(0))
        across.append(torch.stack(seen))
    size = math.sqrt(float(torch.linalg.vector_norm(weight)) ** 2 / weight.numel()) or 1.0
    sights = torch.cat(across, 1), torch.cat([down, torch.stack([most, least])]) if not known else down
    found = []
    for side, (sight, count) in enumerate(zip(sights, weight.shape[::-1], strict=True)):
        energy = sight[1] / count**0.5 / size**2
        if not known:
            energy = (energy / count**0.5).sqrt()
        apart = torch.stack([sight[0] / count**0.5 / size, energy, *(sight[2:] / size)])
        before = known[side] if known else (sight[1] > (EXACT * size) ** 2 * count).long().numpy()
        found.append(_told_apart(before, apart.to(torch.float64).numpy()))
    return found[0], found[1]


def _told_apart(names: Names, sights: NDArray[np.float64]) -> Names:
    """Names of what has one name and does not differ by more than `EXACT` in any sight. [n], [k, n] → [n]

    0 stays what it is, and others are from 1 on.
    """
    found = names
    for sight in sights:
        order = np.lexsort((sight, found))
        named, seen = found[order], sight[order]
        steps = (np.diff(named, prepend=-1) > 0) | (np.diff(seen, prepend=-np.inf) > EXACT)
        starts = [*np.flatnonzero(steps), len(seen)]
        for start, end in itertools.pairwise(starts):
            while seen[end - 1] - seen[start] > EXACT:  # a chain of small steps
                start += int(np.searchsorted(seen[start:end], seen[start] + EXACT, side="right"))
                steps[start] = True
        steps &= named > 0
        found = np.empty_like(names)
        found[order] = np.cumsum(steps)
    return found


def places_alike(names: Tensor, places: int, *, channels_last: bool) -> int:
    """How many kinds of places there are whose channels have the same names. [n] → at most `places`"""
    table = names.reshape(places, -1) if channels_last else names.reshape(-1, places).T
    return len(np.unique(table.numpy(), axis=0))


def _sampled(blocks: Tensor) -> Tensor:
    """Numbers of a few channels on both sides. [a, b, p, q] → [a, b, up to CHANNELS²]."""
    random = torch.Generator().manual_seed(SEED)
    p, q = (torch.randperm(n, generator=random)[:CHANNELS] for n in blocks.shape[2:])
    return blocks[:, :, p[:, None], q].flatten(2).to(torch.float64)


def alike(flat: Tensor) -> Tensor:
    """Labels of what is equal but for rounding, by sorting. [n, numbers of size 1] → [n] int64"""
    random = torch.Generator().manual_seed(SEED)
    return _by_sights(flat @ torch.randn(flat.shape[1], SIGHTS, generator=random, dtype=torch.float64))


def _by_sights(seen: Tensor) -> Tensor:
    """The same, by random combinations of the numbers. [n, SIGHTS] → [n] int64"""
    sights = seen.numpy()
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
