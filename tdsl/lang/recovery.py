"""What `heal` may be told: the method, and how it is damped."""

from __future__ import annotations

from tdsl.errors import TdslError
from tdsl.lang import tree
from tdsl.spelling import did_you_mean

RECOVERY = ("least_squares",)
"""What `heal` can do."""
DAMPINGS = ("ridge", "nuclear")
"""How directions that the data hardly take may be kept from moving a factor; the first is the default."""


def damping_of(step: tree.Heal) -> str:
    """The damping that a `heal` asks for. Raises `TdslError` for any other argument."""
    damping = DAMPINGS[0]
    for argument in step.arguments:
        if argument.name != "damping":
            said = f"an argument `{argument.name}`" if argument.name else "an argument without a name"
            hint = did_you_mean(argument.name, ["damping"]) if argument.name else None
            raise TdslError(f"`heal` with {said}", argument.span, expected=_expected(), hint=hint)
        if not isinstance(argument.value, tree.Name) or argument.value.id not in DAMPINGS:
            wrong = argument.value.id if isinstance(argument.value, tree.Name) else ""
            raise TdslError(
                "this is no damping", argument.span, expected=_expected(), hint=did_you_mean(wrong, DAMPINGS)
            )
        damping = argument.value.id
    return damping


def _expected() -> str:
    return "`damping=" + "` or `damping=".join(DAMPINGS) + "`"
