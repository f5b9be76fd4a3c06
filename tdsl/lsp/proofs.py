"""What the prover found of a rule, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tdsl.engine.library import Declaration


class Verdict(Protocol):
    """What is asked of a verdict."""

    @property
    def status(self) -> str:
        """`proved`, `tested`, `refuted` or `unchecked`."""

    @property
    def reason(self) -> str:
        """By what means, or why not; one line."""

    @property
    def error_probability(self) -> float:
        """How likely a wrong rule has this status; 1 where nothing is known."""


def proof_state(declaration: Declaration) -> str:
    """One line on how sure it is that the rule holds; empty where nobody tried to prove it."""
    verdict: Verdict | None = getattr(declaration, "verdict", None)
    if verdict is None:
        return ""
    chance = verdict.error_probability
    doubt = f", wrong with probability at most {chance:.0e}" if 0 < chance < 1 else ""
    return f"**{verdict.status}**{doubt}" + (f": {verdict.reason}" if verdict.reason else "")
