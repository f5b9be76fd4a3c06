"""Every decomposition on weights that are hard for it: of small rank, repeated, graded, nothing at all (S17).

A decomposition is a projector and a reconstruction: kept whole it rebuilds the weight, cut it loses
no more than everything. Repeated singular values leave vectors open: what is rebuilt is compared.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tdsl.factor import krylov
from tdsl.factor.cur import cur
from tdsl.factor.declare import Decomposition, Form
from tdsl.factor.interpolative import interpolative
from tdsl.factor.matrix import svd, truncate_randomized
from tdsl.factor.rank import Energy, Fixed, UnreachableRankError
from tdsl.factor.structure import relative_error
from tdsl.factor.table import DECOMPOSITIONS

SIDE, PATCH = 8, 4 * 3 * 3


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_spectrum(values: Tensor) -> Tensor:
    left, right = (torch.linalg.qr(gaussian(SIDE, len(values), seed=k)).Q for k in (0, 1))
    return left * values @ right.T


MATRICES = {
    "rank 3": with_spectrum(torch.tensor([3.0, 2, 1], dtype=torch.float64)),
    "one entry": torch.zeros(SIDE, SIDE, dtype=torch.float64).index_fill(0, torch.tensor([0]), 1.0),
    "repeated values": with_spectrum(torch.tensor([2.0] * 3 + [1.0] * 4, dtype=torch.float64)),
    "graded values": with_spectrum(10.0 ** -torch.arange(8, dtype=torch.float64)),
    "graded rows": gaussian(SIDE, SIDE) * 10.0 ** -torch.arange(SIDE, dtype=torch.float64)[:, None],
    "identity": torch.eye(SIDE, dtype=torch.float64),
    "zero": torch.zeros(SIDE, SIDE, dtype=torch.float64),
}
KERNELS = {
    "few channels": torch.einsum("oa,aikl->oikl", gaussian(6, 2), gaussian(2, 4, 3, 3, seed=1)),
    "graded outputs": gaussian(6, 4, 3, 3)
    * 10.0 ** -torch.arange(6, dtype=torch.float64)[:, None, None, None],
    "graded inputs": gaussian(6, 4, 3, 3) * 100.0 ** -torch.arange(4, dtype=torch.float64)[:, None, None],
    "all alike": torch.ones(6, 4, 3, 3, dtype=torch.float64),
    "zero": torch.zeros(6, 4, 3, 3, dtype=torch.float64),
}
SIZES = {"S": 4, "T": 6, "kh": 3, "kw": 3, "patch": PATCH}

ROUNDING = {
    "cur": 1e-8,
    "whitened_cur": 1e-8,
    "interpolative_channels": 2e-6,
    "interpolative_channels_weighted": 2e-6,
}
"""Slices of a graded weight are as ill-conditioned as it is; moments are squares, which end at √ε."""


def moments(decomposition: Decomposition, axes: int) -> list[Tensor]:
    """Statistics of the declared shapes, as positive as they have to be."""
    drawn = []
    for dims in next((f.results for f in decomposition.moments if len(f.operand) == axes), ()):
        sizes = [SIZES.get(dim, SIDE) for dim in dims]
        half = len(sizes) // 2
        if len(dims) % 2 or dims[:half] != dims[half:]:
            drawn.append(gaussian(*sizes, seed=7).square() + 0.1)
            continue
        x = gaussian(2 * math.prod(sizes[:half]), math.prod(sizes[:half]), seed=5)
        drawn.append((x.T @ x / len(x)).reshape(sizes))
    return drawn


FORMS = [
    pytest.param(d, f, id=f"{d.name}-{len(f.operand)}d")
    for d in DECOMPOSITIONS.values()
    for f in d.forms
    if len(f.operand) in (2, 4)
]


@pytest.mark.parametrize(("decomposition", "form"), FORMS)
def test_kept_whole_it_is_the_weight_and_cut_it_is_no_worse_than_nothing(
    decomposition: Decomposition, form: Form
) -> None:
    axes = len(form.operand)
    known = moments(decomposition, axes)
    for kind, weight in (MATRICES if axes == 2 else KERNELS).items():
        whole = decomposition.promise(*decomposition.function(weight, *known, Energy(1.0)))
        assert relative_error(weight, whole) <= ROUNDING.get(decomposition.name, 1e-10), kind
        try:
            factors = decomposition.function(weight, *known, Fixed(4))  # more than some have
        except UnreachableRankError:
            continue
        rebuilt = decomposition.promise(*factors)
        assert all(bool(factor.isfinite().all()) for factor in factors), kind
        assert decomposition.relative_error(weight, rebuilt, *known) <= 1 + 1e-9, kind


@pytest.mark.parametrize("kind", ["rank 3", "repeated values", "graded values", "identity"])
def test_what_is_kept_is_a_projection(kind: str) -> None:
    """P² = P whatever singular vectors were taken, orthogonal for the SVD, oblique for slices."""
    weight, rank = MATRICES[kind], 3
    left, right = svd(weight, rank)
    columns, core, rows = cur(weight, rank)
    unit = torch.eye(SIDE, dtype=torch.float64)
    reading, selection = interpolative(unit, weight.T @ weight + 1e-3 * unit, rank)
    for projector, orthogonal in (
        (left @ torch.linalg.pinv(left), True),
        (columns @ torch.linalg.pinv(columns), True),
        (reading @ selection, False),
    ):
        assert torch.allclose(projector @ projector, projector, atol=1e-9)
        assert torch.allclose(projector, projector.T, atol=1e-9) or not orthogonal
        assert float(projector.trace()) == pytest.approx(rank, abs=1e-9)
    best = float(torch.linalg.svdvals(weight)[rank:].norm() / weight.norm())
    for kept in (left @ right, columns @ core @ rows):
        assert best - 1e-12 <= relative_error(weight, kept) <= 3 * best + 1e-12


def test_too_few_iterations_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: a Krylov basis cut short loses more than the tail of the spectrum."""
    values = torch.arange(1, 201, dtype=torch.float64) ** -0.5
    left, right = (torch.linalg.qr(gaussian(n, 200, seed=n)).Q for n in (240, 220))
    weight, best = left * values @ right.T, float(values[20:].norm() / values.norm())
    assert truncate_randomized(weight, 20).error <= 1.002 * best
    monkeypatch.setattr(krylov, "STEPS", 2)
    monkeypatch.setattr(krylov, "CONVERGED", 1e9)
    assert truncate_randomized.__wrapped__(weight, 20).error > 1.002 * best
