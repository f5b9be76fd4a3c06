"""Zeros and low rank leave the file, places counted; what is loaded is the weight, and latency that of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quantising import convolution, normal, optimised, product, stored, table

from tdsl.quantise.declare import Weight
from tdsl.quantise.places import with_steps_of_bytes
from tdsl.quantise.sparse import store_low_rank_sparse, store_sparse


def entries(m: int, n: int, share: float, seed: int = 0) -> np.ndarray:
    """Normal numbers at a share of the places, zeros elsewhere."""
    kept = np.random.default_rng(seed).random((m, n)) < share
    return normal(m, n, seed=seed + 1) * kept


def low_rank_and_entries(m: int, n: int, rank: int = 4, share: float = 0.03) -> np.ndarray:
    low = normal(m, rank, seed=1) @ normal(rank, n, seed=2)
    return (low + 5 * entries(m, n, share)).astype(np.float32)


@pytest.mark.parametrize(("share", "ratio"), [(0.001, 0.002), (0.03, 0.04), (0.1, 0.13), (0.5, 0.54)])
def test_zeros_are_not_stored_and_every_number_stays(share, ratio):
    """A step of a byte and four of a number up to one in eight, then a bit for each place."""
    found = stored(product(entries(256, 192, share)), "sparse", np.eye(256, dtype=np.float32))
    assert found.storage.error == 0 and not found.storage.lossy
    assert np.array_equal(found.found, found.expected)
    assert found.after < ratio * found.before + 1500
    assert set(optimised(found.model)) <= {"MatMul", "Gemm"}


def test_a_file_says_how_many_bytes_it_saves():
    found = stored(product(entries(256, 192, 0.03)), "sparse", normal(3, 256))
    [weight] = found.storage.weights
    assert weight.before - weight.after == found.storage.saved_bytes
    assert found.before - found.after == pytest.approx(found.storage.saved_bytes, abs=2500)  # names of values


@pytest.mark.parametrize("written", ["sparse", "low_rank_sparse(error=1%)", "low_rank_sparse(error=5%)"])
def test_what_is_dense_and_of_full_rank_stays(written):
    found = stored(product(normal(128, 96)), written, normal(3, 128))
    assert found.storage.weights == () and found.after == found.before


def test_zeros_below_zero_are_zeros():
    """Masks make them; nothing that a layer computes tells them apart."""
    weight = normal(128, 96) * (normal(128, 96, seed=2) > 1.5)
    assert np.signbit(weight[weight == 0]).any()
    found = store_sparse(Weight(weight))
    assert found is not None and found.recipe.arrays["values"].size == (weight != 0).sum()


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (lambda: product(low_rank_and_entries(192, 128)), normal(30, 192, seed=9)),
        (
            lambda: convolution(low_rank_and_entries(128, 144).reshape(128, 16, 3, 3)),
            normal(4, 16, 9, 8, seed=9),
        ),
        (lambda: table(low_rank_and_entries(128, 96)), np.arange(128)),
    ],
    ids=["product", "convolution", "table"],
)
def test_both_parts_are_found_and_multiplied_at_load(model, x):
    found = stored(model(), "low_rank_sparse(error=0.1%)", x)
    [weight] = found.storage.weights
    assert weight.error < 1e-3 and found.error < 2e-3
    assert weight.how.startswith("rank 4 and ") and weight.how.endswith(" entries")
    assert found.after < 0.2 * found.before
    assert not {"ScatterElements", "CumSum", "Where", "Mul"} & set(optimised(found.model))


def test_neither_part_alone_is_as_small():
    weight = Weight(low_rank_and_entries(192, 128), rows_first=True)
    both = store_low_rank_sparse(weight, 0.001)
    low = store_low_rank_sparse(Weight(normal(192, 4) @ normal(4, 128, seed=1), rows_first=True), 0.001)
    assert both is not None and low is not None and low.how == "rank 4 and 0 entries"
    assert store_sparse(weight) is None
    permuted = np.random.default_rng(0).permutation(weight.values.reshape(-1)).reshape(192, 128)
    none = store_low_rank_sparse(Weight(permuted, rows_first=True), 0.001)
    assert none is None or none.recipe.nbytes > 4 * both.recipe.nbytes


def test_more_error_is_fewer_bytes_and_is_kept():
    sizes = []
    for error in (0.0001, 0.01, 0.1, 0.3):
        found = store_low_rank_sparse(Weight(low_rank_and_entries(128, 96), rows_first=True), error)
        assert found is not None and found.error <= error
        sizes.append(found.recipe.nbytes)
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] < 0.6 * sizes[0]


def test_inputs_that_are_never_there_may_lose_more():
    weight = product(normal(96, 80) + 0)
    samples = normal(400, 96, seed=3)
    samples[:, 30:] *= 1e-3
    blind = stored(product(normal(96, 80)), "low_rank_sparse(error=5%)", samples[:50])
    seen = stored(weight, "low_rank_sparse(error=5%)", samples[:50], [samples])
    assert not blind.storage.weights
    [one] = seen.storage.weights
    assert one.by_data and seen.error < 0.06 and seen.after < 0.5 * seen.before


@settings(max_examples=60, deadline=None, derandomize=True)
@given(places=st.lists(st.integers(0, 3000), unique=True).map(sorted))
def test_steps_of_a_byte_reach_every_place(places):
    found = with_steps_of_bytes(np.array(places, dtype=np.int64))
    steps = np.diff(found, prepend=-1)
    assert set(places) <= set(found.tolist())
    assert ((steps > 0) & (steps <= 255)).all() and len(found) <= len(places) + 3001 // 255
