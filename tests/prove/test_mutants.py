"""Changed rules of the library are refuted, unless the change makes no difference."""

from __future__ import annotations

import random

import pytest
from mutations import mutants

from tdsl.engine.library import standard_library
from tdsl.errors import TdslError
from tdsl.factor.table import vocabulary
from tdsl.lang import tree
from tdsl.lang.resolve import Resolved, resolve
from tdsl.lang.typecheck import check_types
from tdsl.prove.examine import examine
from tdsl.prove.proof import cases_of, findings_of

MUTANTS_OF_EACH = 2
FURTHER = range(20_000, 20_300)
"""Seeds of instances that the prover does not look at."""


def refuted(resolved: Resolved) -> bool:
    try:
        check_types(resolved)
    except TdslError:
        return True
    findings = findings_of(cases_of(resolved))
    return bool(findings) and findings[-1].differs


def equivalent(resolved: Resolved) -> bool:
    """Whether a rule that the prover accepts is right on many further instances."""
    found = (examine(case, seed) for case in cases_of(resolved) for seed in FURTHER)
    return not any(finding is not None and finding.differs for finding in found)


def survivors(rule: tree.Rule, chosen: list[tuple[str, tree.Rule]]) -> list[str]:
    """The changes in words after which the rule is neither refused nor equivalent."""
    alive = []
    for words, changed in chosen:
        try:
            mutant = resolve(changed, vocabulary())
        except TdslError:
            continue
        if not refuted(mutant) and not equivalent(mutant):
            alive.append(words)
    return alive


RULES = {name: d.source for name, d in standard_library().rules.items()}


@pytest.mark.parametrize("name", RULES)
def test_no_change_survives_that_makes_a_difference(name: str) -> None:
    every = list(mutants(RULES[name]))
    chosen = random.Random(name).sample(every, min(MUTANTS_OF_EACH, len(every)))
    assert survivors(RULES[name], chosen) == []


def test_an_axis_that_is_taken_for_another_shows_where_their_sizes_agree() -> None:
    """Of an image without a batch axis rows would be shuffled, which fits only as many rows as channels."""
    rule = RULES["commute.shuffles.conv_of_shuffle"]
    wrong = dict(mutants(rule))["without condition 1"]
    assert not refuted(resolve(rule, vocabulary()))
    assert refuted(resolve(wrong, vocabulary()))


def test_there_is_something_to_change_in_nearly_every_rule() -> None:
    assert sum(bool(list(mutants(rule))) for rule in RULES.values()) > 0.7 * len(RULES)
