"""Long names in reports: broken behind a dot where they do not fit, never inside a word."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tdsl.report import Correctness, Report, RewriteRecord, Size, to_text
from tdsl.report.dotted import DottedName

SIZE = Size(1000, 100, 100, 10)
NAMES = ("cleanup.identity.dropout_at_inference", "fold.batch_norm.batch_norm_of_conv_transpose")
REPORT = Report(
    model="m",
    pipeline="p",
    correctness=Correctness(True, True, "example", 1),
    original=SIZE,
    result=SIZE,
    rewrites=tuple(
        RewriteRecord(
            i, name, "encoder.layers.0.attention.output.dense", "src/models/encoder.py:12", None, 1_000_000
        )
        for i, name in enumerate(NAMES, start=1)
    ),
    environment={},
)


@pytest.mark.parametrize("width", [80, 100, 120])
def test_no_word_of_a_rule_name_is_broken(width):
    lines = to_text(REPORT, width=width).splitlines()
    assert max(map(len, lines)) <= width
    for name in NAMES:
        assert any(name.rpartition(".")[2] in line for line in lines)


def test_a_name_that_fits_stays_on_one_line():
    text = to_text(REPORT, width=120)
    assert all(f"\n{name} " in text for name in NAMES)
    assert all(f"\n{name} " not in to_text(REPORT, width=80) for name in NAMES)


def test_a_table_without_long_names_is_as_before():
    short = tuple(dataclasses.replace(item, rule=f"r{item.number}") for item in REPORT.rewrites)
    assert "\nr1                  1" in to_text(dataclasses.replace(REPORT, rewrites=short))


@given(st.lists(st.text("ab_1", min_size=1, max_size=12), min_size=1, max_size=5), st.integers(16, 60))
def test_breaking_loses_nothing(parts, width):
    name = ".".join(parts)
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(DottedName(name))
    lines = capture.get().splitlines()
    assert "".join(line.strip() for line in lines) == name
    assert all(line.endswith(".") for line in lines[:-1])
