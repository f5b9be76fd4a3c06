"""Many rules at once are proved by several processes, with the outcomes that one process has."""

from __future__ import annotations

import dataclasses

import pytest

from tdsl.errors import TdslError
from tdsl.lang import parse, tree
from tdsl.prove import workers
from tdsl.prove.verdict import Verdict

RULES = """
rule right { relu(relu(x)) => relu(x) }
rule another_value { relu(x: [n]) + (y: [n]) => relu(x + y) }
rule another_shape { relu(x: [n, m]) => reshape(relu(x), [n * m]) }
rule known_of_none { relu(x) => x where nothing_of_that_name(x) }
"""


def rules() -> list[tree.Rule]:
    return [item for item in parse(RULES).items if isinstance(item, tree.Rule)]


def plain(outcome: Verdict | TdslError) -> object:
    return outcome if isinstance(outcome, Verdict) else outcome.render()


def test_several_processes_find_what_one_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = [plain(outcome) for outcome in workers.outcomes_of(rules())]
    monkeypatch.setattr(workers, "FEW", 1)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert [plain(outcome) for outcome in workers.outcomes_of(rules())] == alone
    assert [getattr(outcome, "status", "mistake") for outcome in alone] == [
        "proved",
        "refuted",
        "mistake",
        "mistake",
    ]


def test_a_bug_in_a_process_is_raised_with_its_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "FEW", 0)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    broken = dataclasses.replace(rules()[0], rhs=None)  # type: ignore[arg-type]
    with pytest.raises(TypeError) as raised:
        list(workers.outcomes_of([broken, broken]))
    assert "resolve" in str(raised.value.__cause__)
