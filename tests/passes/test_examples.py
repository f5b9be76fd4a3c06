"""The examples beside the rules of the library hold, and every rule of four rooms has some."""

from __future__ import annotations

import pytest

from tdsl.engine.example import run_example
from tdsl.engine.library import standard_library
from tdsl.lang import parse_file, tree
from tdsl.lang.library_files import full_name, standard_files

EXAMPLES = [
    pytest.param(prefix, item, id=f"{prefix}-{item.span.line}")
    for prefix, path in standard_files()
    for item in parse_file(path).items
    if isinstance(item, tree.Example)
]
ROOMS = ("cleanup.", "fold.", "layout.", "merge.")

WITHOUT_NEAR_MISS = {
    "cleanup.movement.double_slice",  # a captured model counts all slices of known sizes from the front
}


@pytest.mark.parametrize(("prefix", "example"), EXAMPLES)
def test_an_example_holds(prefix: str, example: tree.Example) -> None:
    outcome = run_example(example, standard_library(), prefix)
    assert outcome.passed, outcome.problem


def test_every_rule_has_an_example_that_fires_and_one_that_fails_its_condition() -> None:
    rules = {name: d.source for name, d in standard_library().rules.items() if name.startswith(ROOMS)}
    named: dict[bool, set[str]] = {False: set(), True: set()}
    for prefix, item in (param.values for param in EXAMPLES):
        named[item.unchanged].add(full_name(prefix, item.reference.pattern))
    assert rules.keys() <= named[False]
    assert {name for name, rule in rules.items() if rule.where} - named[True] == WITHOUT_NEAR_MISS


def test_other_numbers_tell_the_same() -> None:
    for prefix, example in (param.values for param in EXAMPLES[::10]):
        assert run_example(example, standard_library(), prefix, seed=7).passed
