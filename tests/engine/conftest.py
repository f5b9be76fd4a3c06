"""The rules of these tests show how the engine works, whether they are right or wrong."""

from __future__ import annotations

import pytest

from tdsl.lang.resolve import Resolved
from tdsl.lang.typecheck import check_types
from tdsl.prove.verdict import Verdict


@pytest.fixture(autouse=True)
def rules_are_not_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Types are checked, meanings are not."""

    def typed(resolved: Resolved, made: dict[str, Verdict]) -> Verdict:
        return Verdict("unchecked", check_types(resolved) or "a test")

    monkeypatch.setattr("tdsl.engine.library.known", lambda rule: None)
    monkeypatch.setattr("tdsl.engine.library.new_verdict", typed)
