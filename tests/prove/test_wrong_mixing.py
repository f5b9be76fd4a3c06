"""Rules that mix channels, sum or scatter wrongly are refuted, every one of them, with a counterexample."""

from __future__ import annotations

from pathlib import Path

import pytest

from tdsl.engine.library import Library
from tdsl.engine.parameters import vocabulary
from tdsl.errors import TdslError
from tdsl.lang import parse, parse_file, tree
from tdsl.lang.resolve import resolve
from tdsl.prove.check import fresh_verdict

FILE = Path(__file__).with_name("wrong_mixing.tdsl")
WRONG = [item for item in parse_file(FILE).items if isinstance(item, tree.Rule)]


def test_there_are_many_of_them() -> None:
    assert len(WRONG) >= 30


@pytest.mark.parametrize("rule", WRONG, ids=[rule.name for rule in WRONG])
def test_a_wrong_rule_is_refuted(rule: tree.Rule) -> None:
    resolved = resolve(rule, vocabulary())
    try:
        found = fresh_verdict(resolved)
    except TdslError as error:
        assert "shape" in error.message or "computed" in error.message
        return
    assert found.status == "refuted", found
    assert found.counterexample is not None
    assert found.counterexample.left != found.counterexample.right


def test_none_of_them_loads() -> None:
    text = "\n".join(line for line in FILE.read_text().splitlines() if not line.startswith("//"))
    first = text.split("rule ")[1]
    with pytest.raises(TdslError, match="wrong"):
        Library().add_file(parse(f"rule {first}"), "mine")
