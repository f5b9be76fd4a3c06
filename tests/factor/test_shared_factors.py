"""Bases that several weights share: planted ones are found at their size, independent ones are refused."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor.cosine import cosines, transform, waves
from tdsl.factor.families import Alone, families
from tdsl.factor.shared import Layer, Shared, shared_factors

M, N = 40, 30


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def planted(count: int, out: int, into: int, seed: int = 0) -> list[Tensor]:
    """Weights [M, N] that write `out` directions and read `into`, the same for all of them."""
    left, right = drawn(M, out, seed=seed), drawn(into, N, seed=seed + 1)
    return [left @ drawn(out, into, seed=seed + 2 + i) @ right for i in range(count)]


def independent(count: int, rank: int) -> list[Tensor]:
    return [drawn(M, rank, seed=100 + 2 * i) @ drawn(rank, N, seed=101 + 2 * i) for i in range(count)]


def moments(count: int) -> list[Tensor]:
    """Second moments of inputs, every layer's own."""
    mixed = [drawn(200, N, seed=300 + i) @ drawn(N, N, seed=400 + i) for i in range(count)]
    return [x.T @ x / 200 for x in mixed]


def layers_of(weights: list[Tensor], of_inputs: list[Tensor] | None = None) -> list[Layer]:
    made = [Layer.of(w, None if of_inputs is None else of_inputs[i]) for i, w in enumerate(weights)]
    return [layer for layer in made if layer is not None]


def share(weights: list[Tensor], error: float, of_inputs: list[Tensor] | None = None) -> Shared:
    found = shared_factors(layers_of(weights, of_inputs), error, macs=4)
    assert found is not None
    return found


@pytest.mark.parametrize("of_inputs", [None, moments(5)], ids=["weights", "inputs"])
def test_planted_bases_are_found_at_their_size(of_inputs: list[Tensor] | None) -> None:
    weights = planted(5, out=4, into=6)
    found = share(weights, 1e-6, of_inputs)
    assert found.ranks == (4, 6)
    assert found.numbers == 4 * M + 6 * N + 5 * 4 * 6
    for i, weight in enumerate(weights):
        torch.testing.assert_close(found.rebuilt(i), weight, rtol=0, atol=1e-9)


def test_one_side_alone_is_shared_where_only_that_is_common() -> None:
    right = drawn(5, N, seed=1)
    found = share([drawn(M, 5, seed=10 + i) @ right for i in range(4)], 1e-6)
    assert found.out is None and found.into is not None and found.ranks == (M, 5)
    left = drawn(M, 5, seed=1)
    found = share([left @ drawn(5, N, seed=10 + i) for i in range(4)], 1e-6)
    assert found.into is None and found.out is not None and found.ranks == (5, N)


def test_the_bases_do_not_follow_the_loudest_layer() -> None:
    quiet, loud = planted(2, 4, 4), [1e4 * w for w in independent(1, 8)]
    found = share([*quiet, *loud], 0.05)
    assert max(found.errors) <= 0.05
    stacked = torch.cat([*quiet, *loud], dim=1)  # control: not scaled, the loudest alone decides
    basis = torch.linalg.svd(stacked, full_matrices=False)[0][:, : found.ranks[0] - 4]
    assert float((quiet[0] - basis @ (basis.T @ quiet[0])).norm() / quiet[0].norm()) > 0.3


@given(st.integers(2, 4), st.floats(0.01, 0.6), st.booleans())
def test_no_layer_is_beyond_the_error(count: int, error: float, by_inputs: bool) -> None:
    weights = [drawn(9, 7, seed=i) * torch.logspace(0, -2, 7, dtype=torch.float64) for i in range(count)]
    of_inputs = [m[:7, :7] for m in moments(count)] if by_inputs else None
    found = share(weights, error, of_inputs)
    assert max(found.errors) <= error * (1 + 1e-9)
    for i, layer in enumerate(layers_of(weights, of_inputs)):
        assert layer.error(found.rebuilt(i)) == pytest.approx(found.errors[i])


def test_noise_beside_a_planted_structure_is_left_out_and_the_ranks_grow_with_what_is_asked() -> None:
    noisy = [
        w / w.norm() + 0.02 * drawn(M, N, seed=50 + i) / (M * N) ** 0.5
        for i, w in enumerate(planted(4, 3, 3))
    ]
    assert share(noisy, 0.021).ranks == (3, 3)
    assert share(noisy, 0.01).numbers > 4 * share(noisy, 0.021).numbers


def test_sharing_is_smaller_than_every_layer_alone_and_the_operations_are_bounded() -> None:
    layers = layers_of(planted(6, 5, 5))
    found = shared_factors(layers, 1e-3)
    assert found is not None and found.numbers < sum(Alone.of(layer, 1e-3).numbers for layer in layers) / 3
    assert shared_factors(layers, 1e-3, macs=found.macs / (M * N)) is not None
    fewer = shared_factors(layers, 1e-3, macs=found.macs / (M * N) - 0.01)  # two products in place of three
    assert fewer is not None and fewer.macs < found.macs and fewer.numbers > found.numbers
    assert shared_factors(layers, 1e-3, macs=fewer.macs / (M * N) - 0.01) is None


def test_layers_fall_into_the_families_that_were_planted() -> None:
    weights = [
        *planted(3, 4, 4, seed=0),
        *planted(4, 4, 4, seed=500),
        *independent(2, 4),
        drawn(M, N, seed=9),
    ]
    order = [7, 3, 0, 9, 4, 1, 8, 5, 2, 6]
    found = families(layers_of([weights[i] for i in order]), 1e-3)
    groups = {frozenset(order[i] for i in family.members): family for family in found}
    assert set(groups) == {
        frozenset({0, 1, 2}),
        frozenset({3, 4, 5, 6}),
        frozenset({7}),
        frozenset({8}),
        frozenset({9}),
    }
    alone = [family for members, family in groups.items() if len(members) == 1]
    assert all(family.shared is None and "staying apart" in family.reason for family in alone)


def test_independent_layers_are_refused() -> None:
    found = families(layers_of(independent(5, 6)), 1e-3, macs=4)
    assert [family.members for family in found] == [(0,), (1,), (2,), (3,), (4,)]
    assert all(family.shared is None for family in found)


def test_a_weight_of_zeros_is_no_layer_and_nonsense_is_an_error() -> None:
    assert Layer.of(torch.zeros(3, 2)) is None
    with pytest.raises(TdslError, match="a weight of shape"):
        Layer.of(torch.zeros(3))
    with pytest.raises(TdslError, match="a moment of shape"):
        Layer.of(torch.ones(3, 2), torch.eye(3))


# ---------------------------------------------------------------- cosines


def smooth(size: int = 32) -> Tensor:
    i = torch.arange(size, dtype=torch.float64)
    return torch.exp(-(((i[:, None] - i) / size) ** 2) * 10)  # Toeplitz


def lost(weight: Tensor, columns: Tensor) -> float:
    rows = transform(weight.shape[1])[columns]
    return float((weight - weight @ rows.T @ rows).norm() / weight.norm())


def test_the_transform_is_orthonormal_and_its_rows_are_the_waves() -> None:
    q = transform(12)
    torch.testing.assert_close(q @ q.T, torch.eye(12, dtype=torch.float64), rtol=0, atol=1e-12)
    rows = waves(torch.arange(12), 12)
    torch.testing.assert_close(rows / rows.norm(dim=1, keepdim=True), q, rtol=0, atol=1e-12)


def test_no_other_choice_of_as_many_columns_is_better() -> None:
    weight = drawn(5, 8, seed=3) * torch.logspace(0, -1, 8, dtype=torch.float64)
    [layer] = layers_of([weight])
    found = cosines(layer, 0.5)
    rank = len(found.frequencies)
    assert 1 < rank < 8 and found.error <= 0.5
    others = [lost(weight, torch.tensor(c)) for c in itertools.combinations(range(8), rank)]
    assert found.error == pytest.approx(min(others))
    fewer = [lost(weight, torch.tensor(c)) for c in itertools.combinations(range(8), rank - 1)]
    assert min(fewer) > 0.5
    spectrum = torch.linalg.svdvals(weight)
    assert found.error >= float(spectrum[rank:].norm() / spectrum.norm()) - 1e-12
    assert found.error**2 <= 1 - rank / 8


def test_smooth_weights_need_few_columns_and_random_ones_nearly_all() -> None:
    [layer] = layers_of([smooth()])
    found = cosines(layer, 0.01)
    assert len(found.frequencies) <= 2 * Alone.of(layer, 0.01).rank <= 12
    torch.testing.assert_close(found.rebuilt(), layer.weight, rtol=0, atol=0.05)
    [layer] = layers_of([drawn(32, 32, seed=5)])
    assert len(cosines(layer, 0.01).frequencies) == 32
    [layer] = layers_of([drawn(32, 3, seed=5) @ drawn(3, 32, seed=6)])  # low rank in no smooth basis
    assert len(cosines(layer, 0.01).frequencies) > 28


def test_columns_are_chosen_and_fitted_for_the_inputs_that_come() -> None:
    of_inputs = moments(1)[0]
    weight = smooth(N)
    [layer], [plain] = layers_of([weight], [of_inputs]), layers_of([weight])
    found, blind = cosines(layer, 0.02), cosines(plain, 0.02)
    assert found.error <= 0.02
    assert layer.error(found.rebuilt()) == pytest.approx(found.error)
    same = torch.isin(found.frequencies, blind.frequencies)
    assert layer.error(blind.rebuilt()) > found.error or not bool(same.all())
