"""Wrong bilinear rules are refuted, each with a counterexample, and the right ones are proved."""

from __future__ import annotations

from pathlib import Path

import pytest

from tdsl.engine.library import standard_library
from tdsl.engine.parameters import vocabulary
from tdsl.lang import parse_file, tree
from tdsl.lang.resolve import resolve
from tdsl.prove.check import fresh_verdict

HERE = Path(__file__).with_name("wrong_bilinear.tdsl")
WRONG = [item for item in parse_file(HERE).items if isinstance(item, tree.Rule)]


@pytest.mark.parametrize("rule", WRONG, ids=[rule.name for rule in WRONG])
def test_a_wrong_rule_is_refuted(rule: tree.Rule) -> None:
    found = fresh_verdict(resolve(rule, vocabulary()))
    assert found.status == "refuted"
    assert found.counterexample is not None
    assert found.counterexample.left != found.counterexample.right


@pytest.mark.parametrize("name", ["bilinear_map", "bilinear_channels", "complex_linear"])
def test_the_rules_of_the_library_are_proved(name: str) -> None:
    rule = standard_library().rules[f"decompose.bilinear.{name}"]
    found = fresh_verdict(resolve(rule.source, vocabulary()))
    assert found.status == "proved"
    assert found.error_probability < 1e-12
