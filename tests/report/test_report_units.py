"""Numbers for people: three significant digits and a unit."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tdsl.report import units


@pytest.mark.parametrize(
    ("format", "value", "text"),
    [
        (units.of_bytes, 812, "812 B"),
        (units.of_bytes, 90_912_345, "90.9 MB"),
        (units.of_bytes, 999_600, "1.00 MB"),
        (units.of_bytes, 2_150_000_000, "2.15 GB"),
        (units.count, 22_713_216, "22.7 M"),
        (units.count, 999, "999"),
        (units.count, 1000, "1.00 k"),
        (units.count, -1234, "-1.23 k"),
        (units.count, 0, "0"),
        (units.saved, 0, "–"),
        (units.saved, None, "–"),
        (units.milliseconds, 12.345, "12.3 ms"),
        (units.milliseconds, 0.0456, "45.6 µs"),
        (units.milliseconds, 0.99996, "1.00 ms"),
        (units.milliseconds, 999.9, "1.00 s"),
        (units.percent, 0.0131, "1.31 %"),
        (units.percent, 0.08, "8.00 %"),
        (units.percent, 2e-4, "0.0200 %"),
        (units.percent, 2e-7, "2.00e-07"),
        (units.percent, 0.0, "0"),
        (units.percent, math.inf, "∞"),
        (units.ratio, 0.485, "0.485×"),
        (units.significant, 0.0457, "0.0457"),
        (units.significant, 1.2e-7, "1.20e-07"),
        (units.significant, math.nan, "undefined"),
        (units.cosine, 0.999999, "0.99999"),
        (units.cosine, 1.0, "1.00000"),
        (units.cosine, 0.98, "0.98000"),
    ],
)
def test_a_number_reads_as_a_person_writes_it(format, value, text):
    assert (format(value, 1.0) if format is units.ratio else format(value)) == text


def test_a_ratio_to_nothing_is_not_a_number():
    assert units.ratio(3, 0) == "–"


@given(st.floats(1e-12, 1e12))
def test_a_number_is_within_half_a_percent_of_what_is_written(value):
    assert float(units.significant(value)) == pytest.approx(value, rel=5.01e-3)
    scales = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
    number, _, unit = units.count(round(value)).partition(" ")
    assert float(number) * scales[unit] == pytest.approx(round(value), rel=5.01e-3)


@given(st.floats(-1, 1))
def test_a_cosine_is_never_flattered(value):
    assert float(units.cosine(value)) <= value + 2e-14
