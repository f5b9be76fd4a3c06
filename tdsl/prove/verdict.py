"""What is known about a rule, and how that is said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["proved", "tested", "refuted", "unchecked", "invalid"]
"""`invalid` is what is no rule: a name that does not exist, sizes that cannot fit."""


@dataclass(frozen=True, slots=True)
class Counterexample:
    """An instance on which the two sides of a rule differ."""

    instance: str
    """`n = 2, x: [2]`: sizes, shapes and attributes."""
    values: tuple[tuple[str, str], ...]
    """Tensors by name, where they are small enough to show."""
    left: str
    right: str
    remedy: str = ""
    """A condition under which no instance tried differs."""

    def __str__(self) -> str:
        lines = [f"for {self.instance}" if self.instance else "for every instance"]
        lines += [f"{name} = {value}" for name, value in self.values]
        lines += [f"left is {self.left}", f"right is {self.right}"]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The state of a proof."""

    status: Status
    reason: str
    """One line: by what means, or why not."""
    error_probability: float = 1.0
    """How likely a wrong rule is called proved; 1 for what is not."""
    instances: int = 0
    """On how many random instances both checkers agreed."""
    counterexample: Counterexample | None = None
    types: str = ""
    """For which sizes both sides are known to have the same shapes, and why no others."""
