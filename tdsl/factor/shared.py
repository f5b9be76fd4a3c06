"""Two bases that several weights of one shape share: W_l ≈ B·G_l·A, B and A stored once.

One Tucker decomposition of the stack [l, m, n] on its two last modes (De Lathauwer et al., 2000; for layers
of a network Bershatsky et al., 2024). Every layer is seen through the moment of its own inputs and scaled to
norm one, or the bases would follow the loudest. The ranks are the pair of fewest numbers at which every layer
keeps the error asked for: the energy that each pair keeps is one table of cumulative sums, so that no rank is
guessed. A basis of full rank is left out: then only inputs, or only outputs, are shared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from tdsl.factor.matrix import checked, from_gram
from tdsl.factor.moment import DAMPING, root_of

SWEEPS = 3
"""Most times that the bases are fitted anew to the ranks found, and the ranks to the bases."""
HOPELESS = 1.25
"""Fitting bases anew to their ranks takes less than this factor off the numbers."""


@dataclass(frozen=True)
class Layer:
    """One weight as it is seen: in the metric of its inputs, at norm one."""

    weight: Tensor
    """[m, n], float64."""
    metric: Tensor | None
    """L [n, n] with L·Lᵀ the moment of the inputs; `None` for the identity."""
    scale: float
    """‖W·L‖, positive."""

    @classmethod
    def of(cls, weight: Tensor, moment: Tensor | None = None, damping: float = DAMPING) -> Layer | None:
        """A weight [m, n] and the second moment [n, n] of its inputs; `None` where it gives zero.

        Raises `TdslError` for a weight that is no finite matrix, and for what is no moment.
        """
        exact = checked(weight, ndim=2)
        metric = None if moment is None else root_of(moment, exact.shape[1], "inputs", damping)
        scale = float((exact if metric is None else exact @ metric).norm())
        return cls(exact, metric, scale) if scale else None

    @cached_property
    def seen(self) -> Tensor:
        """W·L / ‖W·L‖, [m, n]."""
        return (self.weight if self.metric is None else self.weight @ self.metric) / self.scale

    def error(self, approximation: Tensor) -> float:
        """The relative error of an approximation [m, n] in the metric of the inputs."""
        missed = self.weight - approximation
        return float((missed if self.metric is None else missed @ self.metric).norm()) / self.scale


@dataclass(frozen=True, slots=True)
class Shared:
    """out [m, r], one core [r, q] for each layer, into [q, n]; a basis that is `None` is the identity."""

    out: Tensor | None
    cores: tuple[Tensor, ...]
    into: Tensor | None
    errors: tuple[float, ...]
    """The relative error of each layer, in the metric of its inputs."""

    @property
    def ranks(self) -> tuple[int, int]:
        """(r, q)."""
        rows, columns = self.cores[0].shape
        return rows, columns

    @property
    def bases(self) -> int:
        """How many numbers are stored once."""
        return sum(basis.numel() for basis in (self.out, self.into) if basis is not None)

    @property
    def numbers(self) -> int:
        """How many numbers all layers are made of."""
        return self.bases + sum(core.numel() for core in self.cores)

    @property
    def macs(self) -> int:
        """Multiply–accumulates of one layer on one vector."""
        return self.bases + self.cores[0].numel()

    def rebuilt(self, layer: int) -> Tensor:
        """B·G_l·A, [m, n]."""
        found = self.cores[layer] if self.out is None else self.out @ self.cores[layer]
        return found if self.into is None else found @ self.into


def shared_factors(
    layers: Sequence[Layer], error: float, macs: float = 1.0, wanted: float = math.inf
) -> Shared | None:
    """Bases for weights of one shape [m, n], the fewest numbers with no layer beyond a relative `error`.

    `macs` bounds the multiply–accumulates of a layer, as a share of m·n; `None` where no ranks are within.
    Bases that are far from the number of numbers that is `wanted` are not fitted further.
    """
    into = _input_basis(layers, None)
    out = _output_basis(layers, [layer.seen for layer in layers])
    best: _Choice | None = None
    for _ in range(SWEEPS):
        reads = [reading(layer, into) for layer in layers]
        found = _ranks(layers, out, reads, error, macs)
        if found is None or (best is not None and found[0] >= best.numbers):
            break
        numbers, (rows, columns) = found
        best = _Choice(numbers, (rows, columns), out, into)
        if numbers > HOPELESS * wanted:
            break
        inner = [layer.seen @ read.across[:, :columns] for layer, read in zip(layers, reads, strict=True)]
        out = _output_basis(layers, inner)
        into = _input_basis(layers, out[:, :rows])
    return None if best is None else _made(layers, best)


@dataclass(frozen=True, slots=True)
class _Choice:
    numbers: int
    ranks: tuple[int, int]
    out: Tensor
    into: Tensor


@dataclass(frozen=True, slots=True)
class Reading:
    """Lᵀ·Aᵀ = across·triangle: what rows of A read, in the metric of one layer, orthonormal and nested."""

    across: Tensor
    triangle: Tensor | None


def reading(layer: Layer, into: Tensor) -> Reading:
    """What rows of a basis [q, n] read of a layer's inputs; without a metric they have to be orthonormal."""
    if layer.metric is None:
        return Reading(into.T, None)  # whose rows are orthonormal as they are
    across, triangle = torch.linalg.qr(layer.metric.T @ into.T)
    return Reading(across, triangle)


def _output_basis(layers: Sequence[Layer], seen: Sequence[Tensor]) -> Tensor:
    """All directions of the outputs, those that the layers use most first. → [m, m], orthogonal."""
    gram = torch.zeros(len(layers[0].weight), len(layers[0].weight), dtype=torch.float64)
    for matrix in seen:
        gram.addmm_(matrix, matrix.T)
    return from_gram(gram)[0]


def _input_basis(layers: Sequence[Layer], out: Tensor | None) -> Tensor:
    """All directions that inputs are read along, those used most first. → [n, n], of full rank.

    Found in the mean metric of the layers: where all have one, it is theirs, and the basis optimal.
    """
    size = layers[0].weight.shape[1]
    metrics = [layer.metric for layer in layers]
    mean: Tensor | None = None
    if any(metric is not None for metric in metrics):
        unit = torch.eye(size, dtype=torch.float64)
        moments = [unit if metric is None else metric @ metric.T for metric in metrics]
        mean = root_of(sum(m * (size / float(m.trace())) for m in moments), size, "inputs")  # type: ignore[arg-type]
    gram = torch.zeros(size, size, dtype=torch.float64)
    for layer in layers:
        seen = layer.weight if mean is None else layer.weight @ mean
        seen = (seen if out is None else out.T @ seen) / layer.scale
        gram.addmm_(seen.T, seen)
    rows = from_gram(gram)[0].T
    if mean is None:
        return rows
    turned: Tensor = torch.linalg.solve(mean.T, rows.T)
    return turned.T.contiguous()


def _ranks(
    layers: Sequence[Layer], out: Tensor, reads: Sequence[Reading], error: float, macs: float
) -> tuple[int, tuple[int, int]] | None:
    """The fewest numbers that prefixes of these bases take, and their ranks: those of fewest operations."""
    m, n = layers[0].weight.shape
    within = torch.ones(m, n, dtype=torch.bool)
    for layer, read in zip(layers, reads, strict=True):
        kept = (out.T @ layer.seen @ read.across).square().cumsum(0).cumsum(1)
        within &= 1 - kept <= error**2
    rows, columns = torch.arange(1, m + 1)[:, None], torch.arange(1, n + 1)
    bases = m * rows * (rows < m) + columns * n * (columns < n)
    work = bases + rows * columns
    within &= work <= macs * m * n
    if not within.any():
        return None
    numbers = torch.where(within, bases + len(layers) * rows * columns, torch.iinfo(torch.int64).max)
    fewest = int(numbers.min())
    place = int(torch.where(numbers == fewest, work, torch.iinfo(torch.int64).max).argmin())
    return fewest, (place // n + 1, place % n + 1)


def _made(layers: Sequence[Layer], choice: _Choice) -> Shared:
    """The factors at the ranks chosen, each core the best one for its layer."""
    (rows, columns), (m, n) = choice.ranks, layers[0].weight.shape
    out = None if rows == m else choice.out[:, :rows]
    into = None if columns == n else torch.linalg.qr(choice.into[:columns].T)[0].T
    cores = []
    for layer in layers:
        core = layer.weight if out is None else out.T @ layer.weight
        if into is not None:
            read = reading(layer, into)
            core = core @ into.T if read.triangle is None else regressed(core, layer, read)
        cores.append(core)
    found = Shared(out, tuple(cores), into, ())
    errors = tuple(layer.error(found.rebuilt(i)) for i, layer in enumerate(layers))
    return Shared(out, found.cores, into, errors)


def regressed(wanted: Tensor, layer: Layer, read: Reading) -> Tensor:
    """G with G·A nearest to `wanted` in the metric of a layer's inputs. [r, n] → [r, q]."""
    assert layer.metric is not None and read.triangle is not None
    seen = wanted @ layer.metric @ read.across
    core: Tensor = torch.linalg.solve_triangular(read.triangle.T, seen, upper=False, left=False)
    return core
