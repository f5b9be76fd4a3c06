"""The rules that the default pipeline repeats together: no loop, every pair whose order matters explained.

Those that run in its `attempt` are kept only where they leave fewer operators; `tdsl prove --together` looks
at them, and takes some minutes.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from tdsl.engine.library import Declaration, standard_library
from tdsl.interplay.analysis import Together, analyse
from tdsl.interplay.text import pair_text
from tdsl.lang import tree
from tdsl.lang.walk import walk

LISTED = Path(__file__).with_name("order_matters.txt")
CIRCLE = "may loop: "


def listed() -> Iterator[tuple[str, tuple[str, ...]]]:
    """What kind each line of the list is of, with the rules that it speaks of."""
    for line in LISTED.read_text().splitlines():
        if line and not line.startswith("#"):
            kind = CIRCLE if line.startswith(CIRCLE) else ""
            names, _, reason = line.removeprefix(CIRCLE).partition(": ")
            assert reason
            yield kind, tuple(names.split(", "))


@pytest.fixture(scope="module")
def found() -> Together:
    return analyse(repeated())


def repeated() -> dict[str, Declaration]:
    """The rules of the steps of the default pipeline before and after its `attempt` that are repeated."""
    library = standard_library()
    steps = [
        step for step in library.pipeline("exact").steps if not isinstance(step, tree.Attempt | tree.Once)
    ]
    patterns = {node.pattern for step in steps for node in walk(step) if isinstance(node, tree.RuleRef)}
    return {n: rule for n, rule in library.rules.items() if any(fnmatchcase(n, p) for p in patterns)}


def test_every_exact_rule_is_looked_at(found: Together) -> None:
    exact = [name for name, declared in repeated().items() if declared.source.arrow == "=>"]
    assert list(found.rules) == exact
    assert len(exact) > 100
    assert not found.left_out


def test_there_is_no_loop(found: Together) -> None:
    assert not found.loops
    explained = [names for kind, names in listed() if kind == CIRCLE]
    for circle in found.may_loop:
        assert any(circling(circle.rules, names) for names in explained), circle.rules


def circling(rules: tuple[str, ...], patterns: tuple[str, ...]) -> bool:
    """Whether every rule of a circle is one that a line speaks of."""
    return all(any(fnmatchcase(rule, pattern) for pattern in patterns) for rule in rules)


def test_most_critical_pairs_join_and_none_is_wrong(found: Together) -> None:
    assert found.joinable > 200
    assert {pair.result for pair in found.pairs} == {"differ"}


def matches(rules: tuple[str, ...], patterns: tuple[str, ...]) -> bool:
    """Whether two rules are those of a line, in either order; a line may speak of many with `*`."""
    return any(all(map(fnmatchcase, some, patterns)) for some in (rules, rules[::-1]))


def test_pairs_whose_order_matters_are_explained(found: Together) -> None:
    explained = [names for kind, names in listed() if not kind]
    new = [pair for pair in found.pairs if not any(matches(pair.rules, names) for names in explained)]
    assert not new, "\n".join(map(pair_text, new))


def test_explanations_are_of_rules_that_there_are() -> None:
    rules = list(standard_library().rules)
    patterns = {name for _, some in listed() for name in some}
    assert not [pattern for pattern in patterns if not fnmatch.filter(rules, pattern)]


def test_a_graph_of_numbers_alone_is_no_peak() -> None:
    """0 + 0 is an instance of both rules, which no model has."""
    names = ("cleanup.identity.add_zero", "commute.averaging.sum_of_equals")
    found = analyse({name: standard_library().rules[name] for name in names})
    assert list(found.rules) == list(names) and not found.pairs
