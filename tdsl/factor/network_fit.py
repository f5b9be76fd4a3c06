"""Cores of a tensor network fitted to a tensor, by alternating least squares from several starts.

A network of p cores is a complete graph: core k has one axis of the tensor and one for every other core, of
the rank of the edge between them; where that is 1, there is no edge. Trains, rings, stars and whatever has
no more than p cores are ranks of such a graph. With all cores but one fixed the fit is linear in that one.
Everything is computed in float64 and from fixed seeds.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tdsl.factor.matrix import triplets

Ranks = tuple[int, ...]
"""The rank of every edge, in the order of `edges`."""

STARTS = 10
"""Most random starts; of planted rings three in four lead to the cores, of complete graphs one in five."""
WORK = 3e8
"""Starts are no more than so many multiplications allow, but for a few."""
FEWEST = 3
SWEEPS = 80
"""Most sweeps from a start."""
PATIENCE = 10
"""A start is given up when so many sweeps gain less than a share `GAIN` of the error."""
GAIN = 3e-3
EXACT = 1e-12
"""Below this relative error nothing is left to gain."""
POLISHING = 6
"""Most sweeps without Gram matrices at the end."""
SMALL = 0.1
"""Entries that a core gets new, in those that it has."""
SEED = 0x71E7
_ROUNDING = 1e-13
"""Directions of a mode that hold less than this share are none."""
_RIDGE = 1e-14


@dataclass(frozen=True, slots=True)
class Fit:
    """Cores [d, r, …] of a network, and the relative error of what they stand for."""

    cores: tuple[Tensor, ...]
    error: float


@functools.cache
def edges(count: int) -> tuple[tuple[int, int], ...]:
    """The edges of the complete graph on so many cores."""
    return tuple(itertools.combinations(range(count), 2))


@functools.cache
def _places(core: int, count: int) -> tuple[int, ...]:
    """The numbers of the edges of a core, in the order of its axes."""
    every = edges(count)
    return tuple(every.index((min(core, k), max(core, k))) for k in range(count) if k != core)


def core_shape(core: int, modes: Sequence[int], ranks: Ranks) -> tuple[int, ...]:
    """The sizes of a core: that of its mode, then the ranks of its edges."""
    return (modes[core], *(ranks[edge] for edge in _places(core, len(modes))))


def numbers_of(modes: Sequence[int], ranks: Ranks) -> int:
    """How many numbers the cores hold; one that is a single number goes into another."""
    sizes = (math.prod(core_shape(core, modes, ranks)) for core in range(len(modes)))
    return sum(size for size in sizes if size > 1) or 1


def whole(cores: Sequence[Tensor]) -> Tensor:
    """The tensor of a network. [d₁, r₁₂, …], [d₂, r₁₂, …], … → [d₁, d₂, …]."""
    return _contracted(cores, range(len(cores)), range(len(cores)))


def _contracted(cores: Sequence[Tensor], used: Sequence[int], out: Sequence[int]) -> Tensor:
    """Some cores summed over their common edges, with the axes `out`: modes, and edges from p on."""
    count = len(cores)
    arguments: list[object] = []
    for k in used:
        arguments += [cores[k], [k, *(count + edge for edge in _places(k, count))]]
    found: Tensor = torch.einsum(*arguments, list(out))
    return found


class Fitter:
    """Fits networks to one tensor, and counts how often it does.

    Modes are first projected on the directions that they have (Tucker, 1966), which loses nothing and makes
    what is fitted small: a mode of a network has no more directions than its edges have ranks.
    """

    def __init__(self, tensor: Tensor) -> None:
        self.modes = tuple(tensor.shape)
        self.total = float(tensor.norm())
        self.bases: list[Tensor] = []
        self.evaluations = 0
        core = tensor / self.total if self.total else tensor
        for mode in range(tensor.ndim):
            unfolded = core.movedim(mode, 0).flatten(1)
            found = triplets(unfolded)
            kept = max(1, int((found.values > _ROUNDING * found.values[0]).sum())) if self.total else 1
            basis = found.left[:, :kept]
            core = torch.tensordot(basis, core, ([0], [mode])).movedim(0, mode)
            self.bases.append(basis)
        self.tensor = core.contiguous()

    def fit(
        self, ranks: Ranks, content: Callable[[float], bool], start: Sequence[Tensor] | None = None
    ) -> Fit:
        """The best cores of these ranks from all starts; the first one whose error is `content` is taken.

        `start` [d, r, …] are cores to begin with, for no more starts than that one.
        """
        self.evaluations += 1
        best: Fit | None = None
        generator = torch.Generator().manual_seed(SEED)
        for _ in range(self.starts(ranks) if start is None else 1):
            cores = self._drawn(ranks, generator) if start is None else self._projected(start)
            found = self._swept(cores)
            best = found if best is None or found.error < best.error else best
            if content(best.error):
                break
        assert best is not None
        if content(best.error):
            best = self._polished(best)
        return Fit(self._scaled(best.cores), best.error)

    def starts(self, ranks: Ranks) -> int:
        """How many starts there are at these ranks."""
        shapes = [core_shape(core, self.tensor.shape, ranks) for core in range(len(self.modes))]
        sweep = sum(self.tensor.numel() // shape[0] * math.prod(shape[1:]) ** 2 for shape in shapes)
        return min(STARTS, max(FEWEST, int(WORK / (sweep * SWEEPS / 2))))

    # ------------------------------------------------------------ parts

    def _projected(self, cores: Sequence[Tensor]) -> list[Tensor]:
        """Cores of the tensor as cores of its projection, of norm 1."""
        scale = self.total ** (1 / len(cores)) if self.total else 1.0
        pairs = zip(self.bases, cores, strict=True)
        return [torch.tensordot(basis.T, core, 1) / scale for basis, core in pairs]

    def _scaled(self, cores: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Cores of the projection as cores of the tensor."""
        scale = self.total ** (1 / len(cores))
        pairs = zip(self.bases, cores, strict=True)
        return tuple(torch.tensordot(basis, core, 1) * scale for basis, core in pairs)

    def _drawn(self, ranks: Ranks, generator: torch.Generator) -> list[Tensor]:
        """Normal numbers."""
        shapes = (core_shape(core, self.tensor.shape, ranks) for core in range(len(self.modes)))
        return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]

    def _swept(self, cores: list[Tensor]) -> Fit:
        """Least squares in one core after the other until it is exact or gains little."""
        errors: list[float] = []
        for _ in range(SWEEPS):
            for core in range(len(cores)):
                cores[core], error = self._solved(cores, core)
            errors.append(error)
            if error <= EXACT or (len(errors) > PATIENCE and errors[-PATIENCE - 1] - error <= GAIN * error):
                break
            if not math.isfinite(error):
                return Fit(tuple(cores), math.inf)
        return Fit(tuple(cores), errors[-1])

    def _polished(self, fit: Fit) -> Fit:
        """The fit without what Gram matrices cost in digits."""
        for _ in range(POLISHING):
            cores = list(fit.cores)
            for core in range(len(cores)):
                cores[core], error = self._solved(cores, core, by_gram=False)
            if not error < fit.error:
                break
            fit = Fit(tuple(cores), error)
        return fit

    def _solved(self, cores: list[Tensor], core: int, *, by_gram: bool = True) -> tuple[Tensor, float]:
        """The best core beside the others, balanced with them, and the error with it."""
        count, size = len(cores), self.tensor.shape[core]
        others = [k for k in range(count) if k != core]
        open_ = [count + edge for edge in _places(core, count)]
        around = _contracted(cores, others, [*others, *open_]).reshape(-1, cores[core][0].numel())
        unfolded = self.tensor.movedim(core, 0).reshape(size, -1)
        solution = _by_gram(around, unfolded) if by_gram else None
        if solution is None:
            solution = torch.linalg.lstsq(around, unfolded.T, driver="gelsd").solution
        error = float((unfolded - (around @ solution).T).norm())
        found = solution.T.reshape(cores[core].shape)
        largest = float(found.norm())
        if largest:  # all cores of one size, or least squares lose digits
            share = largest ** (1 / count)
            for k in others:
                cores[k] = cores[k] * share
            found = found / share ** (count - 1)
        return found, error


def _by_gram(around: Tensor, unfolded: Tensor) -> Tensor | None:
    """The least squares solution by Cholesky factors; `None` where they fail."""
    gram = around.T @ around
    gram.diagonal().add_(_RIDGE * float(gram.diagonal().mean()) + torch.finfo(torch.float64).tiny)
    lower, failed = torch.linalg.cholesky_ex(gram)
    return None if int(failed) else torch.cholesky_solve((unfolded @ around).T, lower)


def resized(cores: Sequence[Tensor], ranks: Ranks) -> list[Tensor]:
    """Cores of other ranks as cores of these: what is missing is small, so that they begin there."""
    generator = torch.Generator().manual_seed(SEED)
    modes = [len(core) for core in cores]
    found = []
    for k, core in enumerate(cores):
        new = torch.randn(core_shape(k, modes, ranks), generator=generator, dtype=torch.float64)
        new *= SMALL * float(core.norm()) / core.numel() ** 0.5
        common = tuple(slice(0, min(sizes)) for sizes in zip(core.shape, new.shape, strict=True))
        new[common] = core[common]
        found.append(new)
    return found
