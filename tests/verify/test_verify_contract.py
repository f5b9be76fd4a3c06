"""Bounds: what they say, and which ones are refused."""

import math

import pytest

from tdsl.errors import TdslError
from tdsl.verify import Bound, Contract


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("error <= 2%", Bound("error", "<=", 0.02)),
        ("cosine>=0.98", Bound("cosine", ">=", 0.98)),
        (" max_error <= 1e-3 ", Bound("max_error", "<=", 1e-3)),
    ],
)
def test_a_bound_is_read_as_it_is_written(text, bound):
    assert Bound.parse(text) == bound


def test_a_contract_reads_as_its_bounds():
    assert str(Contract.parse("error <= 2%", "cosine >= 0.98")) == "error <= 0.02, cosine >= 0.98"


@pytest.mark.parametrize(
    "text", ["error < 1%", "error <= ", "error <= x", "<= 1", "error <= 1%%", "error <= e"]
)
def test_what_is_no_bound_is_refused(text):
    with pytest.raises(TdslError, match="is not a bound"):
        Bound.parse(text)


def test_a_misspelt_metric_gets_the_nearest_name():
    with pytest.raises(TdslError, match="did you mean `cosine`"):
        Bound.parse("cosin >= 0.9")


def test_a_bound_on_the_wrong_side_is_refused():
    with pytest.raises(TdslError, match="cannot bound cosine with '<='"):
        Bound.parse("cosine <= 0.9")


def test_a_cosine_may_be_asked_to_be_one_and_no_more():
    assert Bound.parse("cosine >= 100%").holds(1.0)
    with pytest.raises(TdslError, match="no cosine is as large as 98"):
        Bound.parse("cosine >= 98")


def test_the_limit_itself_keeps_a_bound_and_nan_never_does():
    assert Bound("error", "<=", 0.5).holds(0.5)
    assert not Bound("error", "<=", 0.5).holds(0.51)
    assert not Bound("error", "<=", math.inf).holds(math.nan)
    assert not Bound("cosine", ">=", -math.inf).holds(math.nan)
