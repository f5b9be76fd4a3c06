"""The truncated SVD is exact at full rank, optimal below, deterministic, and honest about its error."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor import krylov, matrix
from tdsl.factor.matrix import decompose, spectrum, svd, truncate, truncate_randomized
from tdsl.factor.memo import MEMORY, Memory, digest, memoised
from tdsl.factor.rank import Energy


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def orthonormal(rows: int, columns: int, seed: int) -> Tensor:
    return torch.linalg.qr(gaussian(rows, columns, seed=seed)).Q


def with_spectrum(values: Tensor, rows: int, columns: int, seed: int = 0) -> Tensor:
    """A matrix with those singular values and random singular vectors."""
    k = len(values)
    return orthonormal(rows, k, seed) * values @ orthonormal(columns, k, seed + 1).T


def error(weight: Tensor, factors: tuple[Tensor, Tensor]) -> float:
    return float((weight - factors[0] @ factors[1]).norm() / weight.norm())


KINDS = {
    "random": gaussian(12, 9),
    "wide": gaussian(7, 20),
    "rank deficient": gaussian(12, 3) @ gaussian(3, 9, seed=1),
    "repeated values": with_spectrum(torch.tensor([2.0, 2, 2, 1, 1, 1], dtype=torch.float64), 10, 8),
    "graded": with_spectrum(10.0 ** -torch.arange(8, dtype=torch.float64), 10, 9),
    "orthogonal": orthonormal(8, 8, 3),
}


@pytest.mark.parametrize("kind", KINDS)
def test_full_rank_is_exact_and_balanced(kind):
    weight = KINDS[kind]
    left, right = svd(weight, min(weight.shape))
    assert error(weight, (left, right)) < 1e-12
    assert torch.allclose(left.T @ left, right @ right.T, atol=1e-12)
    assert error(weight, svd(weight, 1)) > 1e-3  # one term is not enough, or the test says nothing


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rank", [1, 2, 5])
def test_truncation_is_optimal(kind, rank):
    weight = KINDS[kind]
    best = float(torch.linalg.svdvals(weight)[rank:].square().sum().sqrt() / weight.norm())
    found = truncate(weight, rank)
    assert error(weight, svd(weight, rank)) == pytest.approx(best, abs=1e-13)
    assert found.error == pytest.approx(best, abs=1e-13)
    # The projector onto the left factor keeps all that a projector of this rank can (subspaces are
    # compared by what they keep: equal singular values leave the vectors themselves open).
    projector = found.left @ found.left.T
    assert torch.allclose(projector @ projector, projector, atol=1e-12)
    assert float((weight - projector @ weight).norm() / weight.norm()) == pytest.approx(best, abs=1e-13)


def test_other_directions_are_worse():
    weight = KINDS["random"]
    trailing = decompose(weight).left[:, -3:]
    assert float((weight - trailing @ trailing.T @ weight).norm()) > 1.5 * error(weight, svd(weight, 3))


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 0)])
def test_an_empty_matrix_has_empty_factors(shape):
    left, right = svd(torch.zeros(shape), 0.5)
    assert (left.shape, right.shape) == ((shape[0], 0), (0, shape[1]))
    assert torch.equal(left @ right, torch.zeros(shape, dtype=torch.float64))
    assert len(spectrum(torch.zeros(shape))) == 0


def test_a_zero_matrix_has_zero_factors():
    left, right = svd(torch.zeros(4, 3), Energy(0.9))
    assert (left.shape, right.shape) == ((4, 1), (1, 3))
    assert not (left @ right).any()
    assert truncate(torch.zeros(4, 3), 2).error == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int8])
def test_any_real_type_is_computed_in_float64(dtype):
    weight = (4 * gaussian(6, 5)).to(dtype)
    left, right = svd(weight, 5)
    assert left.dtype == right.dtype == torch.float64
    assert error(weight.double(), (left, right)) < 1e-14


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(bad):
    weight = gaussian(3, 4)
    weight[1, 2] = bad
    with pytest.raises(TdslError, match=r"NaN or infinite values in a weight of shape \[3, 4\]: 1 of 12"):
        svd(weight, 2)


def test_what_is_no_real_matrix_is_refused():
    with pytest.raises(TdslError, match=r"\[3, 4, 5\]"):
        svd(gaussian(3, 4, 5), 2)
    with pytest.raises(TdslError, match="complex"):
        svd(torch.ones(3, 4, dtype=torch.complex64), 2)


def test_signs_are_fixed_whatever_the_algorithm():
    weight = with_spectrum(0.5 ** torch.arange(40, dtype=torch.float64), 120, 100)
    full, projected = truncate(weight, 6), truncate_randomized(weight, 6)
    assert (full.left.gather(0, full.left.abs().argmax(0)[None]) > 0).all()
    assert torch.allclose(full.left, projected.left, atol=1e-8)
    assert torch.allclose(full.right, projected.right, atol=1e-8)
    assert not torch.allclose(full.left, -projected.left, atol=1e-8)


class TestRandomProjection:
    DECAYING = with_spectrum(torch.arange(1, 301, dtype=torch.float64) ** -0.6, 400, 300)

    @pytest.mark.parametrize("rank", [10, 40, 80])
    def test_comes_within_a_fifth_of_a_percent_of_the_optimum(self, rank):
        values = torch.arange(1, 301, dtype=torch.float64) ** -0.6
        best = float(values[rank:].norm() / values.norm())
        found = truncate_randomized(self.DECAYING, rank)
        measured = float((self.DECAYING - (found.left * found.values) @ found.right).norm()) / float(
            self.DECAYING.norm()
        )
        assert best * (1 - 1e-12) <= measured <= 1.002 * best
        assert found.error == pytest.approx(measured, rel=1e-12)

    def test_with_a_short_basis_it_would_not(self, monkeypatch):
        monkeypatch.setattr(krylov, "STEPS", 2)
        monkeypatch.setattr(krylov, "CONVERGED", 1e9)
        values = torch.arange(1, 301, dtype=torch.float64) ** -0.6
        found = truncate_randomized.__wrapped__(self.DECAYING, 40)
        assert found.error > 1.002 * float(values[40:].norm() / values.norm())

    def test_a_basis_too_short_for_its_rank_grows(self, monkeypatch):
        monkeypatch.setattr(krylov, "STEPS", 2)
        widths = []
        real = torch.linalg.eigh
        monkeypatch.setattr(torch.linalg, "eigh", lambda g: widths.append(len(g)) or real(g))
        values = torch.arange(1, 301, dtype=torch.float64) ** -0.6
        found = truncate_randomized.__wrapped__(self.DECAYING, 50)
        assert found.error <= 1.002 * float(values[50:].norm() / values.norm())
        assert widths.pop() == 50  # the last one is the decomposition inside the range
        assert widths == sorted(set(widths)) and len(widths) > 1

    @pytest.mark.parametrize("large", [40, 70])
    def test_repeated_values_beyond_a_block_are_all_found(self, large):
        values = torch.ones(300, dtype=torch.float64)
        values[:large] = 5.0
        weight = with_spectrum(values, 320, 310, seed=5)
        best = float(values[large:].norm() / values.norm())
        assert truncate_randomized(weight, large).error <= 1.002 * best
        assert truncate_randomized(weight, large - 1).error > 1.002 * best

    @pytest.mark.parametrize("decay", [0.8, 0.5])
    def test_what_single_precision_does_not_resolve_is_done_in_double(self, decay):
        values = decay ** torch.arange(150, dtype=torch.float64)
        weight = with_spectrum(values, 200, 180, seed=7)
        for rank in (5, 25, 45):
            best = float(values[rank:].norm() / values.norm())
            found = truncate_randomized(weight, rank)
            measured = float((weight - (found.left * found.values) @ found.right).norm() / weight.norm())
            assert found.error == pytest.approx(measured, rel=1e-6)
            assert best * (1 - 1e-9) - 1e-14 <= measured <= 1.002 * best + 1e-14
            assert torch.allclose(found.left.T @ found.left, torch.eye(rank, dtype=torch.float64), atol=1e-12)
            assert torch.allclose(
                found.right @ found.right.T, torch.eye(rank, dtype=torch.float64), atol=1e-12
            )

    def test_a_scale_beyond_single_precision_changes_nothing(self):
        plain = truncate_randomized(self.DECAYING, 20)
        for scale in (2.0**200, 2.0**-200):
            found = truncate_randomized(self.DECAYING * scale, 20)
            assert found.error == pytest.approx(plain.error, rel=1e-12)
            assert torch.allclose(found.values / scale, plain.values, rtol=1e-9)

    def test_is_exact_on_a_matrix_of_that_rank(self):
        weight = gaussian(200, 5) @ gaussian(5, 150, seed=1)
        assert truncate_randomized(weight, 5).error < 1e-13
        assert truncate_randomized(weight, 4).error > 1e-2

    def test_does_not_depend_on_the_global_generator(self):
        torch.manual_seed(1)
        first = truncate_randomized.__wrapped__(self.DECAYING, 12)
        torch.manual_seed(2)
        second = truncate_randomized.__wrapped__(self.DECAYING, 12)
        assert torch.equal(first.left, second.left) and torch.equal(first.right, second.right)

    def test_is_taken_for_a_small_known_rank_of_a_large_matrix_only(self, monkeypatch):
        monkeypatch.setattr(matrix, "RANDOMIZED_ABOVE", 64)
        taken = []
        monkeypatch.setattr(
            matrix, "truncate_randomized", lambda w, r: taken.append(r) or truncate_randomized(w, r)
        )
        weight = gaussian(100, 90)
        for rank in (20, 0.2, 40, 0.9, Energy(0.3)):
            svd(weight, rank)
        assert taken == [20, 9]
        svd(gaussian(64, 64), 8)
        assert taken == [20, 9]

    def test_is_taken_whatever_was_computed_before(self, monkeypatch):
        monkeypatch.setattr(matrix, "RANDOMIZED_ABOVE", 64)
        weight = gaussian(100, 90, seed=7)
        MEMORY.clear()
        fresh = svd(weight, 5)
        MEMORY.clear()
        spectrum(weight)
        later = svd(weight, 5)
        assert torch.equal(fresh[0], later[0]) and torch.equal(fresh[1], later[1])


class TestOrthonormalColumns:
    @pytest.mark.parametrize("kind", ["random", "graded", "dependent", "zero"])
    def test_product_and_columns(self, kind):
        columns = {
            "random": gaussian(40, 6),
            "graded": gaussian(40, 6) * 10.0 ** -torch.arange(6, dtype=torch.float64),
            "dependent": gaussian(40, 3) @ gaussian(3, 6, seed=1),
            "zero": torch.zeros(40, 6, dtype=torch.float64),
        }[kind]
        unit, triangle = krylov.orthonormal(columns)
        assert torch.allclose(unit @ triangle, columns, atol=1e-13)
        assert torch.allclose(unit.T @ unit, torch.eye(6, dtype=torch.float64), atol=1e-13)
        assert not triangle.tril(-1).any()


class TestMemory:
    def test_many_ranks_and_copies_cost_one_decomposition(self, monkeypatch):
        calls = []
        real = torch.linalg.svd
        monkeypatch.setattr(torch.linalg, "svd", lambda *a, **k: calls.append(1) or real(*a, **k))
        weight = gaussian(20, 15, seed=11)
        for rank in (1, 5, Energy(0.5), Energy(0.9)):
            svd(weight, rank)
        svd(weight.clone(), 7)
        spectrum(weight)
        assert len(calls) == 1
        weight[0, 0] += 1  # the same object with another content is another weight
        svd(weight, 5)
        assert len(calls) == 2

    def test_callers_cannot_spoil_what_is_remembered(self):
        weight = gaussian(6, 6, seed=12)
        before = spectrum(weight)
        for factor in svd(weight, 3):
            factor.zero_()
        spectrum(weight).zero_()
        assert torch.equal(spectrum(weight), before)
        assert before.all()

    def test_content_is_dtype_shape_and_bits(self):
        zeros = torch.zeros(2, 3)
        assert digest(zeros) == digest(torch.zeros(3, 2).T.contiguous()) == digest(torch.zeros(3, 2).T)
        different = [
            zeros.reshape(3, 2),
            zeros.double(),
            torch.eye(2, 3),
            torch.zeros(2, 3, dtype=torch.int32),
        ]
        assert all(digest(other) != digest(zeros) for other in different)

    def test_arguments_that_are_equal_as_keys_are_kept_apart(self):
        describe = memoised(lambda x: type(x).__name__)
        assert [describe(1), describe(1.0), describe(True)] == ["int", "float", "bool"]

    def test_the_least_recently_used_goes_first(self):
        memory = Memory(capacity=100)
        computed = []

        def recall(key: str) -> Tensor:
            return memory.recall(key, lambda: computed.append(key) or torch.zeros(5, dtype=torch.float64))

        for key in ("a", "b", "a", "c", "a", "b"):
            recall(key)
        assert computed == ["a", "b", "c", "b"]

    def test_one_entry_beyond_the_bound_is_kept_until_the_next(self):
        memory = Memory(capacity=10)
        memory.recall("large", lambda: torch.zeros(100))
        memory.recall("large", lambda: pytest.fail("computed twice"))
        memory.recall("small", lambda: torch.zeros(1))
        assert len(memory) == 1
