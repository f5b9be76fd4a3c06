"""The standard library is proved, rule by rule, and what is on record is what the prover finds."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from tdsl.engine.library import standard_library
from tdsl.prove import record
from tdsl.prove.check import fresh_verdict

TESTED = {
    "cleanup.identity.relu_of_nonnegative",
    "cleanup.zeros.zero_linear",
    "commute.exchanged.cosine_of_permutes",
    "commute.exchanged.distance_of_actions",
    "commute.exchanged.distance_of_permutations",
    "commute.exchanged.exchanged_cdist",
    "commute.invariance.largest_of_multiple",
    "commute.invariance.largest_of_shifted",
    "commute.invariance.largest_of_softmax",
    "commute.invariance.places_of_largest_shares",
    "commute.laws.scale_relu",
    "commute.operands.adaptive_max_pool_of_flip",
    "commute.operands.adaptive_max_pool_of_permutation",
    "commute.operands.adaptive_max_pool_of_permute",
    "commute.operands.bucketize_of_permute",
    "commute.operands.gather_of_permutes",
    "commute.operands.largest_of_image",
    "commute.operands.largest_of_sequence",
    "commute.orders.even_of_negation",
    "commute.orders.gather_of_roll",
    "commute.orders.rows_of_flip",
    "commute.orders.rows_of_roll",
    "commute.orders.selection_of_roll",
    "commute.samples.samples_of_flip",
    "commute.samples.samples_of_flipped_channels",
    "commute.samples.samples_of_permuted_channels",
    "commute.scaling.extreme_of_multiple",
    "commute.scaling.extreme_of_scaled_channels",
    "commute.scaling.homogeneous_of_quotient",
    "commute.scaling.homogeneous_of_scaled",
    "commute.scaling.kept_extreme_of_scaled",
    "commute.scaling.max_pool2d_of_scaled",
    "commute.scaling.multiple_of_relu_of_conv",
    "commute.scaling.multiple_of_relu_of_linear",
    "commute.scaling.prelu_of_scaled",
    "commute.scaling.scaled_relu_of_conv",
    "commute.scaling.scaled_relu_of_linear",
    "commute.scatter.extreme_of_one_segment",
    "commute.scatter.extreme_of_segments",
    "commute.scatter.index_copy_of_permutation",
    "commute.scatter.index_put_of_permutation",
    "commute.scatter.mean_of_one_segment",
    "commute.scatter.mean_of_segments",
    "commute.scatter.scatter_of_permutation",
    "commute.tokens.largest_of_permutation",
    "commute.tokens.largest_of_positions",
    "commute.tokens.largest_value",
    "commute.tokens.place_of_largest",
    "commute.tokens.place_of_smallest",
    "commute.tokens.smallest_value",
    "commute.tokens.largest_of_action",
    "commute.tokens.sorted_action",
    "commute.tokens.sorted_permutation",
}
"""A field does not know that a square is never negative, which number is positive, or what sees no sign.

The largest of many elements says little about each of their orders, and nothing in a field; no structure
draws a weight of zeros. Windows of nearly equal size, places between boundaries and what an index names that
is drawn in a field have no exact meaning, nor have cosines and distances.
"""

RULES = standard_library().rules


@pytest.mark.parametrize("name", RULES)
def test_a_shipped_rule_is_proved(name: str) -> None:
    found = fresh_verdict(RULES[name].resolved)
    assert found.status == ("tested" if name in TESTED else "proved"), found
    assert found == RULES[name].verdict, "tdsl prove --anew --record passes/proofs.json"


def test_the_record_holds_the_rules_of_the_library_and_no_others() -> None:
    on_record = record._read(Path(str(files("tdsl.passes").joinpath(record.SHIPPED)))).verdicts
    assert set(on_record) == {record.key_of(d.source) for d in RULES.values()}
    assert {v.status for v in on_record.values()} == {"proved", "tested"}
    assert all(v.error_probability < 1e-6 for v in on_record.values() if v.status == "proved")
