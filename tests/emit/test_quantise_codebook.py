"""Weights by tables: planted ones are found, groups pay where scales differ, arguments are checked."""

from __future__ import annotations

import numpy as np
import pytest
from quantising import convolution, correlated, normal, optimised, product, stored, table

from tdsl.errors import TdslError
from tdsl.quantise.codebook import Codes, by_scale, lloyd, tables

UNEVEN = np.array([-3, -1.5, -1.4, -0.2, 0.1, 0.15, 2, 7], dtype=np.float32)


@pytest.mark.parametrize(
    ("make", "x"),
    [
        (lambda w: product(w.reshape(96, 60)), normal(20, 96, seed=1)),
        (lambda w: convolution(w.reshape(40, 16, 3, 3)), normal(2, 16, 9, 8, seed=1)),
        (lambda w: table(w.reshape(96, 60)), np.arange(96)),
    ],
    ids=["product", "convolution", "table"],
)
@pytest.mark.parametrize("groups", [1, 5])
def test_planted_entries_are_found_in_every_layout(make, x, groups):
    weight = np.random.default_rng(0).choice(UNEVEN, 5760)
    found = stored(make(weight), f"codebook(entries=8, groups={groups})", x)
    assert found.storage.error < 1e-6 and found.error < 1e-6
    assert found.before - found.after > 0.8 * found.storage.weights[0].before
    assert not {"Cast", "Add"} & set(optimised(found.model))
    fewer = stored(make(weight), f"codebook(entries=7, groups={groups}, error=100%)", x)
    assert fewer.error > 1e-3


def test_normal_weights_lose_what_the_best_sixteen_entries_lose():
    found = stored(product(normal(256, 128)), "codebook(groups=1)", normal(200, 256, seed=1))
    assert found.storage.error**2 == pytest.approx(0.0095, rel=0.05)  # Max, 1960: 16 levels, normal
    even = stored(product(normal(256, 128)), "int4(block=256)", normal(200, 256, seed=1))
    assert found.storage.error < even.storage.error


def test_groups_of_like_scale_pay_where_rows_have_two_scales():
    scales = np.where(np.arange(64) % 2, 1.0, 0.02)
    weight = (normal(64, 200) * scales[:, None]).astype(np.float32)
    ones = np.ones(200)

    def error(labels: np.ndarray) -> float:
        codes = Codes(tables(weight, labels, 16, ones), labels, 200)
        codes.round(weight)
        missed = (codes.rebuilt() - weight) / scales[:, None]
        return float(np.sqrt((missed**2).mean()))  # each row at its own scale

    labels = by_scale(weight, 2)
    assert set(labels[::2]) == {0} and set(labels[1::2]) == {1}
    single, grouped, unsorted = error(np.zeros(64, dtype=np.int32)), error(labels), error(np.arange(64) // 32)
    assert grouped < 0.25 * single
    assert unsorted > 0.9 * single  # neighbours that have nothing in common
    alike = normal(64, 200)
    assert np.ptp(np.sqrt((alike**2).mean(1))) < 0.5 < np.ptp(np.sqrt((weight**2).mean(1)))


def test_a_file_with_groups_is_as_large_and_loses_less():
    scales = np.where(np.arange(80) % 2, 1.0, 0.02)
    weight = normal(256, 80) * scales
    x = normal(100, 256, seed=1)
    grouped, single = (stored(product(weight), f"codebook(groups={g})", x) for g in (2, 1))
    assert grouped.after < 1.06 * single.after  # labels and a second table
    assert grouped.storage.error < single.storage.error
    small = scales < 0.5
    lost = [np.linalg.norm((f.found - f.expected)[:, small]) for f in (grouped, single)]
    assert lost[0] < 0.2 * lost[1]
    automatic = stored(product(weight), "codebook", x)
    assert automatic.after < 1.06 * single.after


def test_more_than_sixteen_entries_take_a_byte():
    x = normal(100, 96, seed=1)
    nibbles, whole = (
        stored(product(normal(96, 80)), f"codebook(entries={e}, groups=1)", x) for e in (16, 64)
    )
    codes = [f.model.proto.graph.initializer[0] for f in (nibbles, whole)]
    assert len(codes[0].raw_data) == 96 * 80 // 2 and whole.model.weights["w.codes"].nbytes == 96 * 80
    assert whole.error < 0.4 * nibbles.error


def test_errors_are_fed_to_later_inputs_where_the_data_have_few_directions():
    weight, data = normal(96, 64), correlated(3000, 96)
    plain = stored(product(weight), "codebook", data[2000:])
    fed = stored(product(weight), "codebook", data[2000:], [data[:2000]])
    assert fed.storage.weights[0].how == "error feedback"
    assert fed.error < 0.6 * plain.error


def test_entries_lie_where_numbers_matter():
    values = np.concatenate([np.linspace(-1, 0, 500), np.linspace(10, 11, 500)])
    even = lloyd(values, np.ones(1000), 8)
    tilted = lloyd(values, np.where(values > 5, 1e4, 1.0), 8)
    assert (even > 5).sum() == 4 and (np.diff(even) > 0).all()
    assert (tilted > 5).sum() > 4
    assert np.array_equal(lloyd(np.full(9, 2.5), np.ones(9), 4), np.full(4, 2.5))


@pytest.mark.parametrize(
    "written", ["codebook(entries=257)", "codebook(entries=1)", "codebook(groups=0)", "codebook(error=0%)"]
)
def test_arguments_out_of_range_are_refused_where_they_stand(written):
    with pytest.raises(TdslError, match="codebook cannot have") as caught:
        stored(product(normal(64, 40)), written, normal(4, 64))
    assert caught.value.span is not None and caught.value.span.column > len("pipeline p { quantize codebook(")
