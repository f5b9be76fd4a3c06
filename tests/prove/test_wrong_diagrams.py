"""Wrong fast forms of weights that commute with S(n) or O(n) are refuted, each with a counterexample."""

from __future__ import annotations

from pathlib import Path

import pytest

from tdsl.engine.parameters import vocabulary
from tdsl.errors import TdslError
from tdsl.lang import parse_file, tree
from tdsl.lang.resolve import resolve
from tdsl.prove.check import fresh_verdict

WRONG = [
    i for i in parse_file(Path(__file__).with_name("wrong_diagrams.tdsl")).items if isinstance(i, tree.Rule)
]


def test_there_are_some_of_them() -> None:
    assert len(WRONG) >= 12


@pytest.mark.parametrize("rule", WRONG, ids=[rule.name for rule in WRONG])
def test_a_wrong_form_is_refuted(rule: tree.Rule) -> None:
    try:
        found = fresh_verdict(resolve(rule, vocabulary()))
    except TdslError as error:
        assert "shape" in error.message or "computed" in error.message
        return
    assert found.status == "refuted"
    assert found.counterexample is not None
    assert found.counterexample.left != found.counterexample.right
