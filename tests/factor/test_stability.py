"""The number of terms that disturbed data agree on: the planted one at moderate noise, none of noise."""

from __future__ import annotations

import math

import pytest
import tensorly
import torch
from tensorly.decomposition import non_negative_parafac
from torch import Tensor

import tdsl
from tdsl.engine.library import Library
from tdsl.errors import TdslError
from tdsl.factor.cp import cp, cp_product
from tdsl.factor.matrix import svd
from tdsl.factor.rank import Auto, Stable, Tiled
from tdsl.factor.rank_one import SEED, fit, rebuilt
from tdsl.factor.stability import COMPACT, silhouettes, stable_rank
from tdsl.lang import parse


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def planted(shape: tuple[int, ...], terms: int, noise: float, seed: int) -> Tensor:
    """A sum of normal terms of unit entries, and noise of that size beside."""
    whole = rebuilt([gaussian(size, terms, seed=10 * seed + mode) for mode, size in enumerate(shape)])
    return whole / whole.norm() * math.sqrt(whole.numel()) + noise * gaussian(*shape, seed=99 + seed)


def polyadic(data: Tensor, terms: int, seed: int) -> list[Tensor]:
    return fit(data, terms, seed=SEED + seed)


def nonnegative(data: Tensor, terms: int, seed: int) -> list[Tensor]:
    """A nonnegative factorization of a matrix: not convex, and unique where parts occur alone."""
    assert tensorly.get_backend() == "numpy"
    found = non_negative_parafac(
        data.clamp_min(0).numpy(), terms, n_iter_max=300, init="random", tol=1e-9, random_state=seed
    )
    return [torch.from_numpy(factor) for factor in found.factors]


@pytest.mark.parametrize(
    ("shape", "terms", "noise"),
    [
        ((16, 12, 9), 4, 0.0),
        ((16, 12, 9), 4, 0.3),
        ((24, 20, 9), 5, 0.5),
        ((10, 8, 9), 6, 0.1),
        ((10, 8, 9), 10, 0.1),  # more than the shortest axis has places
        ((10, 8, 3, 5), 3, 0.3),
    ],
)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_planted_rank_comes_out_at_moderate_noise(shape, terms, noise, seed):
    assert stable_rank(planted(shape, terms, noise, seed), polyadic, terms + 3) == terms


@pytest.mark.parametrize("shape", [(16, 12, 9), (24, 20, 9), (6, 5, 9), (4, 4, 4)])
@pytest.mark.parametrize("seed", [0, 1])
def test_noise_alone_has_no_term(shape, seed):
    """The control; and a planted term that noise drowns is none."""
    assert stable_rank(gaussian(*shape, seed=seed), polyadic, 6) <= 1
    assert stable_rank(planted(shape, 3, noise=30.0, seed=seed), polyadic, 6) <= 1


def test_parts_of_a_nonnegative_matrix_are_counted():
    """Disjoint parts and a little noise; the control is the same matrix with its entries in any order."""
    parts = torch.kron(torch.eye(3, dtype=torch.float64), torch.ones(6, 1).double())
    weights = gaussian(3, 20).abs()
    matrix = (parts @ weights + 0.1 * gaussian(18, 20, seed=2)).clamp_min(0)
    assert stable_rank(matrix, nonnegative, 5) == 3
    mixed = matrix.flatten()[torch.randperm(matrix.numel(), generator=torch.Generator().manual_seed(4))]
    assert stable_rank(mixed.reshape(18, 20), nonnegative, 5) <= 1


def test_more_terms_than_there_are_come_out_otherwise_each_time():
    data = planted((16, 12, 9), 4, 0.2, 1)

    def least(terms: int) -> float:
        fits = [polyadic(data + 0.2 * gaussian(*data.shape, seed=run), terms, run) for run in range(4)]
        return float(silhouettes(fits).min())

    assert least(4) > COMPACT > 0.5 > least(5)


def test_a_silhouette_knows_order_sign_and_scale_from_another_term():
    factors = [gaussian(size, 3, seed=size) for size in (8, 9, 10)]
    turned = [factor[:, [2, 0, 1]] for factor in factors]
    turned[0], turned[1] = -3 * turned[0], -turned[1]
    assert silhouettes([factors, turned]).allclose(torch.ones(3).double(), atol=1e-9)
    other = [factor.clone() for factor in factors]
    other[0][:, 1] *= -1
    values = silhouettes([factors, other])
    assert values[1] < 0 < 0.9 < values[[0, 2]].min()


def test_it_is_a_rank_of_kernels():
    kernel = planted((10, 8, 9), 6, 0.1, 1).reshape(10, 8, 3, 3)
    found = cp(kernel, Stable(8))
    assert found[0].shape[0] == 6
    assert float((kernel - cp_product(*found)).norm() / kernel.norm()) < 0.15
    assert cp(kernel, Tiled(Stable(8), 4))[0].shape[0] == 6  # in tiles of two, the axes are short
    assert cp(kernel, Auto())[0].shape[0] != 6  # axes of ten places have too few singular values to tell
    noise = gaussian(10, 8, 3, 3)
    left = cp(noise, Stable(8))
    assert sum(factor.numel() for factor in left) > noise.numel()  # so that no rule takes it
    assert torch.equal(cp_product(*left), noise)


def test_a_pipeline_says_it():
    pipeline = """
    pipeline stably {
        once factorize.conv_cp.cp(rank=stable(8))
        check error <= 30%
    }
    """
    library = Library()
    library.add_file(parse(pipeline), "rules")
    layers = torch.nn.Conv2d(8, 10, 3), torch.nn.Conv2d(10, 10, 3)
    layers[0].weight.data = planted((10, 8, 9), 4, 0.1, 1).reshape(10, 8, 3, 3).float()
    model, x = torch.nn.Sequential(*layers).eval(), torch.randn(1, 8, 12, 12)
    result = tdsl.compile(model, (x,), pipeline="rules.stably", rules=library, latency=False)
    [entry] = result.report.rewrites  # the control: the other layer is noise
    shapes = [tuple(p.shape) for p in result.module.parameters() if p.dim() == 4]
    assert (4, 8, 1, 1) in shapes and (10, 10, 3, 3) in shapes, entry


def test_where_singular_values_decide_it_is_refused():
    with pytest.raises(TdslError, match="no rank of a decomposition that singular values decide") as caught:
        svd(gaussian(8, 6), Stable())
    assert "auto()" in str(caught.value.expected)
    for wrong in (0, True, 2.5):
        with pytest.raises(TdslError, match="no number of terms"):
            Stable(wrong)
