"""Wrong forms of weights that commute with a finite group are refuted, each with a counterexample."""

from __future__ import annotations

from pathlib import Path

import pytest

from tdsl.engine.parameters import vocabulary
from tdsl.lang import parse_file, tree
from tdsl.lang.resolve import resolve
from tdsl.prove.check import fresh_verdict

WRONG = [
    i for i in parse_file(Path(__file__).with_name("wrong_finite.tdsl")).items if isinstance(i, tree.Rule)
]


def test_there_are_some_of_them() -> None:
    assert len(WRONG) == 7


@pytest.mark.parametrize("rule", WRONG, ids=[rule.name for rule in WRONG])
def test_a_wrong_form_is_refuted(rule: tree.Rule) -> None:
    found = fresh_verdict(resolve(rule, vocabulary()))
    assert found.status == "refuted"
    assert found.counterexample is not None
    assert found.counterexample.left != found.counterexample.right
