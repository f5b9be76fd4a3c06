"""Tensor networks are found at their planted size, whatever their shape, and none in a random matrix."""

from __future__ import annotations

import itertools
import math
import random

import pytest
import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor import contraction
from tdsl.factor.contraction import ROOM, best_order, network, within_room
from tdsl.factor.kronecker import tensor_train, train_product
from tdsl.factor.kronecker_terms import kronecker_terms, kronecker_terms_product
from tdsl.factor.network import network_product, tensor_network
from tdsl.factor.network_cuts import Bounds, Cuts, Digits
from tdsl.factor.network_fit import Fitter, Ranks, core_shape, edges, numbers_of, whole
from tdsl.factor.network_search import CLOSE, Search
from tdsl.factor.rank import Error, UnreachableRankError

TIGHT = Error(1e-6)


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def apart(outputs: tuple[int, ...], inputs: tuple[int, ...]) -> Digits:
    """Cores with one digit each."""
    return Digits((*outputs, *[1] * len(inputs)), (*[1] * len(outputs), *inputs))


def joined(count: int, pairs: list[tuple[int, int]], ranks: tuple[int, ...]) -> Ranks:
    """Ranks of these edges, in turn, and 1 everywhere else."""
    given = {tuple(sorted(pair)): ranks[place % len(ranks)] for place, pair in enumerate(pairs)}
    return tuple(given.get(edge, 1) for edge in edges(count))


def ring(order: tuple[int, ...], *ranks: int) -> Ranks:
    return joined(len(order), [*itertools.pairwise((*order, order[0]))], ranks)


def train(order: tuple[int, ...], *ranks: int) -> Ranks:
    return joined(len(order), [*itertools.pairwise(order)], ranks)


def star(count: int, *ranks: int) -> Ranks:
    return joined(count, [(k, count - 1) for k in range(count - 1)], ranks)


PLANTED = {
    "a train": (apart((4, 8), (4, 4, 4)), train((0, 1, 2, 3, 4), 2, 4, 3, 2)),
    "a train in another order": (apart((4, 8), (4, 4, 4)), train((0, 3, 1, 2, 4), 2, 3, 4, 2)),
    "a ring of three": (Digits((4, 4, 4), (4, 4, 4)), ring((0, 1, 2), 3)),
    "a ring of four": (apart((6, 6), (6, 6)), ring((0, 2, 1, 3), 3)),
    "a ring of pairs": (Digits((4, 4, 4, 4), (4, 4, 4, 4)), ring((0, 1, 2, 3), 3, 2)),
    "a ring of five": (apart((4, 8), (4, 4, 4)), ring((0, 3, 1, 2, 4), 2, 3)),
    "a ring of six": (apart((4, 4, 4), (4, 4, 4)), ring((0, 3, 1, 2, 5, 4), 2, 3)),
    "a star (Tucker)": (apart((6, 6), (6, 6)).with_hidden(), star(5, 2, 3)),
}


def planted(case: str, seed: int = 0) -> Tensor:
    digits, ranks = PLANTED[case]
    cores = [gaussian(*core_shape(k, digits.modes, ranks), seed=seed + k) for k in range(digits.count)]
    return digits.matrix(whole(cores))


def lost(weight: Tensor, rebuilt: Tensor) -> float:
    return float((weight - rebuilt).norm() / weight.norm())


@pytest.mark.parametrize("case", PLANTED)
def test_a_planted_network_is_found_at_its_size(case: str) -> None:
    digits, ranks = PLANTED[case]
    weight, numbers = planted(case), numbers_of(digits.modes, ranks)
    cores = tensor_network(weight, TIGHT)
    stored = sum(core.numel() for core in cores if core.numel() > 1)
    assert stored <= 1.1 * numbers < weight.numel() / 2
    assert lost(weight, network_product(*cores)) < 1e-8


@pytest.mark.parametrize("shape", [(36, 36), (64, 64), (31, 37), (256, 64)])
def test_a_random_matrix_stays_whole(shape: tuple[int, int]) -> None:
    weight = gaussian(*shape)
    first, *others = tensor_network(weight, TIGHT)
    assert first.shape == (*shape, 1, 1, 1, 1, 1) and all(other.numel() == 1 for other in others)
    assert torch.equal(network_product(first, *others), weight)


def test_noise_beyond_the_tolerance_hides_a_ring_and_noise_within_does_not() -> None:
    weight = planted("a ring of four")
    noise = gaussian(*weight.shape, seed=9) * weight.norm() / weight.numel() ** 0.5
    held = [sum(c.numel() for c in tensor_network(weight + e * noise, TIGHT)) for e in (1e-7, 1e-3)]
    assert held[0] <= 216 + 6 and held[1] >= weight.numel()


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
def test_at_its_size_a_network_loses_no_more_than_a_train(share: float) -> None:
    weight = gaussian(48, 60) / (1 + torch.arange(60, dtype=torch.float64))
    trained, cores = tensor_train(weight, share), tensor_network(weight, share)
    assert sum(core.numel() for core in cores if core.numel() > 1) <= share * weight.numel()
    assert lost(weight, network_product(*cores)) <= lost(weight, train_product(*trained))


def test_a_ring_of_a_size_is_closer_than_a_train_of_that_size() -> None:
    digits, ranks = PLANTED["a ring of three"]
    weight, share = planted("a ring of three"), 433 / 4096
    assert numbers_of(digits.modes, ranks) == 432
    ringed, trained = tensor_network(weight, share), tensor_train(weight, share)
    assert lost(weight, network_product(*ringed)) < 0.99 * lost(weight, train_product(*trained))


# ---------------------------------------------------------------- the search


@pytest.mark.parametrize("case", ["a ring of four", "a ring of five", "a ring of six"])
def test_fewer_fits_than_random_local_sampling(case: str) -> None:
    """The digits are given to the sampling, and only the ranks sought, from the same fits."""
    digits, ranks = PLANTED[case]
    weight, numbers = planted(case), numbers_of(digits.modes, ranks)
    search = Search(weight, TIGHT, weight.numel())
    found = search.run()
    assert found is not None and found.numbers <= 1.1 * numbers
    drawn, fitter, sampled = random.Random(0), Fitter(digits.tensor(weight)), (1,) * len(ranks)
    objective, fits = math.inf, 0
    while fits <= 3 * search.evaluations:
        way = tuple(max(1, rank + drawn.choice((-1, 0, 0, 1))) for rank in sampled)
        fit = fitter.fit(way, lambda error: error < 1e-6)
        fits += 1
        value = math.log(numbers_of(digits.modes, way)) + 20 * fit.error
        if value < objective:
            objective, sampled = value, way
        assert not (fit.error < 1e-4 and numbers_of(digits.modes, way) <= 1.1 * numbers)
    assert fits > search.evaluations >= 1


@pytest.mark.parametrize("case", PLANTED)
def test_the_planted_ranks_explain_every_cut_and_larger_ones_do_not(case: str) -> None:
    digits, ranks = PLANTED[case]
    bounds = Bounds(Cuts(planted(case), TIGHT), digits)
    assert bounds.enough(ranks) and abs(bounds.excess(ranks)) < CLOSE
    larger = tuple(rank + (rank > 1) for rank in ranks)
    assert bounds.enough(larger) and bounds.excess(larger) > 0.1
    assert not bounds.enough(tuple(max(1, rank - 1) for rank in ranks))


def test_what_is_no_weight_and_what_is_too_large() -> None:
    with pytest.raises(TdslError, match="NaN"):
        tensor_network(torch.full((4, 4), math.nan), TIGHT)
    with pytest.raises(UnreachableRankError):
        tensor_network(torch.zeros(2048, 1024), TIGHT)
    with pytest.raises(UnreachableRankError):
        tensor_network(gaussian(6, 4), 1000)
    assert not network_product(*tensor_network(torch.zeros(4, 6), TIGHT)).any()


# ---------------------------------------------------------------- contraction


class Plain:
    """Terms as tensors; what was built is counted."""

    def __init__(self) -> None:
        self.built: list[tuple[str, int]] = []

    def __call__(self, operator: str, *arguments: object) -> Tensor:
        result = getattr(torch, operator)(*arguments)
        self.built.append((operator, result.numel()))
        return result

    def shape(self, value: Tensor) -> tuple[int, ...]:
        return tuple(value.shape)


@pytest.mark.parametrize("seed", range(8))
def test_a_contraction_is_the_product_with_the_matrix(seed: int) -> None:
    drawn = random.Random(seed)
    modes = [(drawn.choice((1, 2, 3)), drawn.choice((1, 2, 3))) for _ in range(6)]
    ranks = tuple(drawn.choice((1, 1, 1, 2, 3)) for _ in edges(6))
    cores = [gaussian(*pair, *core_shape(k, [0] * 6, ranks)[1:], seed=k) for k, pair in enumerate(modes)]
    weight = network_product(*cores)
    x = gaussian(5, weight.shape[1], seed=9)
    assert lost(x @ weight.T, network(Plain(), x, *cores)) < 1e-12


def test_the_order_keeps_values_small(monkeypatch: pytest.MonkeyPatch) -> None:
    digits, ranks = PLANTED["a ring of pairs"]
    shapes = [
        (o, i, *core_shape(k, digits.modes, ranks)[1:])
        for k, (o, i) in enumerate(zip(digits.outputs, digits.inputs, strict=True))
    ]
    order, terms = best_order(shapes), Plain()
    x = gaussian(1, 256)
    network(terms, x, *(gaussian(*shape) for shape in shapes))
    assert order.products < 256 * 256 and order.largest <= ROOM * 256
    assert max(size for operator, size in terms.built if operator == "matmul") <= ROOM * 256
    assert within_room(shapes)
    monkeypatch.setattr(contraction, "ROOM", 4)
    assert not within_room(shapes)


# ---------------------------------------------------------------- terms that share one index


@pytest.mark.parametrize("terms", [1, 3, 4])
def test_planted_terms_are_found_at_their_size(terms: int) -> None:
    factors = gaussian(4, 4, terms), gaussian(terms, 4, 5, seed=1), gaussian(terms, 4, 4, seed=2)
    weight = kronecker_terms_product(*factors)
    found = kronecker_terms(weight, TIGHT)
    assert sum(f.numel() for f in found) <= 1.1 * sum(f.numel() for f in factors) < weight.numel()
    assert lost(weight, kronecker_terms_product(*found)) < 1e-6


def test_a_random_matrix_is_no_sum_of_few_terms() -> None:
    weight = gaussian(64, 80)
    found = kronecker_terms(weight, TIGHT)
    assert sum(f.numel() for f in found) > weight.numel()
    assert torch.equal(kronecker_terms_product(*found), weight)
