"""Kernels as sums of rank-one terms: planted ones are found, and no terms run away where no sum is best."""

from __future__ import annotations

import itertools
import math

import pytest
import tensorly
import torch
import torch.nn.functional as F
from tensorly.decomposition import parafac
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor.cp import (
    ALLOWANCE,
    CANCELLING,
    cp,
    cp_product,
    cp_separable,
    cp_separable_product,
)
from tdsl.factor.rank import Auto, Energy, Error, Ratio, Tiled, UnreachableRankError
from tdsl.factor.rank_one import balance, cancellation, fit, rebuilt, sensitivity, stabilised


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def error(tensor: Tensor, product: Tensor) -> float:
    assert product.shape == tensor.shape
    return float((tensor - product).norm() / tensor.norm())


def planted(shape: tuple[int, ...], terms: int) -> list[Tensor]:
    return [gaussian(size, terms, seed=mode + 1) for mode, size in enumerate(shape)]


def border() -> Tensor:
    """aab + aba + baa: of rank 3, and as near as one likes to sums of two terms, whose norms then diverge."""
    a, b = torch.nn.functional.normalize(gaussian(2, 6), dim=1)
    terms = [(a, a, b), (a, b, a), (b, a, a)]
    return sum((torch.einsum("i,j,k->ijk", *term) for term in terms), torch.zeros(6, 6, 6).double())


def norms(factors: list[Tensor]) -> float:
    """The sum of the squared norms of the terms."""
    return float(math.prod((f.square().sum(0) for f in factors), start=torch.ones(()).double()).sum())


class TestBorderRank:
    def plain(self, sweeps: int) -> list[Tensor]:
        """Alternating least squares by tensorly, without any care for stability."""
        weights, factors = parafac(border().numpy(), 2, n_iter_max=sweeps, init="svd", tol=0)
        assert tensorly.get_backend() == "numpy"
        found = [torch.from_numpy(factor) for factor in factors]
        return [found[0] * torch.from_numpy(weights), *found[1:]]

    def test_plain_least_squares_runs_away(self) -> None:
        """The control: more sweeps, less error, larger terms without end."""
        runs = [self.plain(sweeps) for sweeps in (100, 1000, 10_000)]
        errors = [error(border(), rebuilt(run)) for run in runs]
        assert errors[0] > 2 * errors[1] > 4 * errors[2] > 0
        assert norms(runs[0]) < norms(runs[1]) / 2 < norms(runs[2]) / 4
        assert norms(runs[2]) > 100

    @pytest.mark.parametrize("sweeps", [100, 1000, 10_000])
    def test_the_correction_keeps_the_terms_bounded(self, sweeps: int) -> None:
        run = self.plain(sweeps)
        bound = max(ALLOWANCE, error(border(), rebuilt(run)))
        stable = stabilised(border(), run, bound)
        assert error(border(), rebuilt(stable)) <= bound * (1 + 1e-9)
        assert norms(stable) < 35
        assert sensitivity(stable) <= sensitivity(balance(run)) * (1 + 1e-9)

    def test_the_decomposition_corrects_by_itself(self) -> None:
        first, middle, last = cp(border(), 2)
        factors = [last.flatten(1), first.flatten(1).T, middle.flatten(1).T]
        assert error(border(), cp_product(first, middle, last)) < 2 * ALLOWANCE
        assert cancellation(factors) < 10
        assert error(border(), cp_product(*cp(border(), 3))) < 0.02

    def test_a_larger_error_allows_smaller_terms(self) -> None:
        found = [cp(border(), Error(bound)) for bound in (0.02, 0.05, 0.2)]
        assert all(f[0].shape[0] == 2 for f in found)
        sizes = [sensitivity([f[2].flatten(1), f[0].flatten(1).T, f[1].flatten(1).T]) for f in found]
        assert sizes[0] > 1.2 * sizes[1] > 1.2**2 * sizes[2]
        for factors, bound in zip(found, (0.02, 0.05, 0.2), strict=True):
            assert 0.9 * bound <= error(border(), cp_product(*factors)) <= bound


class TestSensitivity:
    def test_formula_and_experiment_agree(self) -> None:
        factors, generator = planted((8, 6, 9), 4), torch.Generator().manual_seed(3)
        step, changes = 1e-4, []
        for _ in range(2000):
            moved = [
                f + step * torch.randn(f.shape, generator=generator, dtype=torch.float64) for f in factors
            ]
            changes.append(float((rebuilt(moved) - rebuilt(factors)).square().sum()) / step**2)
        assert sensitivity(factors) == pytest.approx(sum(changes) / len(changes), rel=0.05)

    def test_the_corrected_factors_suffer_less_from_noise(self) -> None:
        kernel = gaussian(24, 20, 9)
        plain = fit(kernel, 16)
        stable = stabilised(kernel, plain, 0.0)
        assert error(kernel, rebuilt(stable)) == pytest.approx(error(kernel, rebuilt(plain)), rel=1e-6)
        assert sensitivity(stable) < 0.9 * sensitivity(plain)

        def suffered(factors: list[Tensor]) -> float:
            noise = [1e-3 * gaussian(*factor.shape, seed=9) for factor in factors]
            moved = [f + n for f, n in zip(factors, noise, strict=True)]
            return float((rebuilt(moved) - rebuilt(factors)).norm())

        assert suffered(stable) < 0.97 * suffered(plain)

    def test_balanced_factors_are_the_least_sensitive_of_a_product(self) -> None:
        factors = planted((8, 6, 9), 3)
        balanced = balance([f.clone() for f in factors])
        assert error(rebuilt(factors), rebuilt(balanced)) < 1e-13
        assert sensitivity(balanced) < sensitivity(factors)
        for scale in (0.9, 1.1):
            moved = [balanced[0] * scale, balanced[1] / scale, balanced[2]]
            assert sensitivity(moved) > sensitivity(balanced)

    def test_orthogonal_terms_do_not_cancel(self) -> None:
        orthogonal = [torch.linalg.qr(gaussian(n, 3, seed=n)).Q for n in (8, 6, 9)]
        assert cancellation(orthogonal) == pytest.approx(1)
        opposite = [torch.stack([v, v + 0.01 * w], 1) for v, w in gaussian(3, 2, 6).unbind(0)]
        opposite[0][:, 1] *= -1
        assert cancellation(opposite) > 100 * CANCELLING


class TestRanks:
    @pytest.mark.parametrize("terms", [1, 2, 4])
    def test_planted_kernels_are_found_and_fewer_terms_do_not_do(self, terms: int) -> None:
        last, first, middle = planted((10, 8, 9), terms)
        kernel = rebuilt([last, first, middle]).reshape(10, 8, 3, 3)
        found = cp(kernel, terms)
        assert [tuple(f.shape) for f in found] == [(terms, 8, 1, 1), (terms, 1, 3, 3), (10, terms, 1, 1)]
        assert error(kernel, cp_product(*found)) < 1e-9
        assert terms == 1 or error(kernel, cp_product(*cp(kernel, terms - 1))) > 1e-2
        assert cp(kernel, Error(1e-6))[0].shape[0] == terms

    def test_a_planted_separable_kernel_is_found_and_a_diagonal_is_not(self) -> None:
        kernel = rebuilt(planted((10, 8, 3, 5), 2))
        assert error(kernel, cp_separable_product(*cp_separable(kernel, 2))) < 1e-9
        diagonal = torch.eye(3, dtype=torch.float64).expand(1, 1, 3, 3)
        assert error(diagonal, cp_product(*cp(diagonal, 1))) < 1e-12
        assert error(diagonal, cp_separable_product(*cp_separable(diagonal, 1))) > 0.5

    def test_rules_of_every_kind(self) -> None:
        kernel = rebuilt(planted((16, 12, 9), 6)).reshape(16, 12, 3, 3) + 0.05 * gaussian(16, 12, 3, 3)
        limit = (kernel.numel() - 1) // (16 + 12 + 9)
        assert cp(kernel, Ratio(0.5))[0].shape[0] == limit // 2
        assert sum(f.numel() for f in cp(kernel, Ratio(0.5))) <= 0.5 * kernel.numel()
        assert cp(kernel, Tiled(Ratio(0.5), 8))[0].shape[0] == 24
        assert 3 <= cp(kernel, Auto())[0].shape[0] <= 8
        for bound in (0.5, 0.3, 0.2):
            assert error(kernel, cp_product(*cp(kernel, Error(bound)))) <= bound
            assert error(kernel, cp_product(*cp(kernel, Energy(1 - bound**2)))) <= bound
        more = [cp(kernel, Error(bound))[0].shape[0] for bound in (0.5, 0.3, 0.2)]
        assert more[0] <= more[1] <= more[2] and more[0] < more[2]

    def test_an_error_that_no_smaller_sum_has_gives_the_exact_form(self) -> None:
        noise = gaussian(6, 5, 3, 3)
        found = cp(noise, Error(1e-3))
        assert found[0].shape[0] == 6 * 5 and sum(f.numel() for f in found) > noise.numel()
        assert error(noise, cp_product(*found)) == 0

    def test_what_cannot_be_is_refused(self) -> None:
        with pytest.raises(UnreachableRankError, match="rank 31 asked"):
            cp(gaussian(6, 5, 3, 3), 31)
        with pytest.raises(TdslError, match="two spatial axes"):
            cp_separable(gaussian(6, 5, 3, 3, 3), 2)
        with pytest.raises(TdslError, match="0 spatial axes"):
            cp(gaussian(6, 5), 2)

    def test_empty_and_zero_kernels_stay_what_they_are(self) -> None:
        for shape in ((0, 4, 3, 3), (4, 0, 3, 3), (4, 3, 3, 3)):
            zero = torch.zeros(shape, dtype=torch.float64)
            assert torch.equal(cp_product(*cp(zero, 0.5)), zero)

    def test_the_same_kernel_gives_the_same_factors(self) -> None:
        kernel = gaussian(8, 7, 3, 3)
        assert all(map(torch.equal, cp(kernel, 5), cp(kernel.clone(), 5)))


WINDOWS = list(itertools.product([(1, 1), (2, 3)], [(0, 0), (1, 2)], [(1, 1), (2, 1)]))


@pytest.mark.parametrize(("stride", "padding", "dilation"), WINDOWS)
def test_the_chains_are_the_convolution_with_what_they_rebuild(
    stride: tuple[int, int], padding: tuple[int, int], dilation: tuple[int, int]
) -> None:
    kernel, image = gaussian(6, 4, 3, 5), gaussian(2, 4, 17, 19, seed=9)
    first, middle, last = cp(kernel, 4)
    chain = F.conv2d(F.conv2d(image, first), middle, None, stride, padding, dilation, groups=4)
    whole = F.conv2d(image, cp_product(first, middle, last), None, stride, padding, dilation)
    assert torch.allclose(F.conv2d(chain, last), whole, atol=1e-10)
    first, rows, columns, last = cp_separable(kernel, 4)
    (s, z), (p, q), (d, e) = stride, padding, dilation
    chain = F.conv2d(F.conv2d(image, first), rows, None, (s, 1), (p, 0), (d, 1), groups=4)
    chain = F.conv2d(F.conv2d(chain, columns, None, (1, z), (0, q), (1, e), groups=4), last)
    whole = F.conv2d(image, cp_separable_product(first, rows, columns, last), None, stride, padding, dilation)
    assert torch.allclose(chain, whole, atol=1e-10)
