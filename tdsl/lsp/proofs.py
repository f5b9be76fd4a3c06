"""What the prover found of a rule, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tdsl.engine.library import Declaration


def proof_state(declaration: Declaration) -> str:
    """One line on how sure it is that the rule holds."""
    verdict = declaration.verdict
    chance = verdict.error_probability
    doubt = f", wrong with probability at most {chance:.0e}" if 0 < chance < 1 else ""
    return f"**{verdict.status}**{doubt}" + (f": {verdict.reason}" if verdict.reason else "")
