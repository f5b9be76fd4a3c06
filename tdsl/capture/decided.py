"""What a trace decides about sizes that were declared open, and at which of the user's lines.

torch refuses a model that makes a number of a size only when its trace is done, and by then says no line. Of
what a branch takes for granted, where a size was given no range, it says nothing at all. While it traces it
tells its log of every decision, at a time when the line is still on the stack.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from unittest.mock import patch

import sympy
from torch.utils._sympy import functions

from tdsl.frames import is_user_file

Place = tuple[str, int]
"""A file and a line."""

_LOG = logging.getLogger("torch.fx.experimental.symbolic_shapes")
_FIXED = re.compile(
    r"- You marked (?P<name>.+?) as dynamic but your code specialized it to be a constant \((?P<size>\d+)\)"
)
_SYMBOL = re.compile(r"\b[su]\d+\b")


@dataclass(frozen=True, slots=True)
class Assumption:
    """What a branch of the model takes for granted of sizes, as torch writes it, and the branch's line."""

    condition: str
    place: Place

    def broken_by(self, sizes: Mapping[str, int]) -> bool:
        """Whether it is false of these sizes, by torch's symbols; one that is missing leaves it open."""
        found = self._of({symbol: sympy.Integer(size) for symbol, size in sizes.items()})
        return found is not None and bool(found == sympy.false)

    def called(self, names: Mapping[str, str]) -> str:
        """It with the user's names for torch's symbols."""
        found = self._of({symbol: sympy.Symbol(name, integer=True) for symbol, name in names.items()})
        return self.condition if found is None else str(found)

    def _of(self, values: Mapping[str, sympy.Expr]) -> sympy.Basic | None:
        if not set(_SYMBOL.findall(self.condition)) <= set(values):
            return None
        try:
            found: sympy.Basic = sympy.sympify(self.condition, locals={**vars(functions), **values})
        except (TypeError, ValueError, ZeroDivisionError, AttributeError, sympy.SympifyError):
            return None  # an operator of torch's that has no value here
        return found


@dataclass(slots=True)
class Decisions:
    """What was decided, in order."""

    fixed: list[tuple[str, Place | None]] = field(default_factory=list)
    """The numbers that sizes became."""
    assumed: list[Assumption] = field(default_factory=list)
    """What branches of the user's code take for granted; not what operators ask of their operands."""


class _Listener(logging.Filter):
    """Notes decisions, and lets through what the log would have shown anyway."""

    def __init__(self) -> None:
        super().__init__()
        self.found = Decisions()

    def filter(self, record: logging.LogRecord) -> bool:
        text, values = str(record.msg), record.args if isinstance(record.args, tuple) else ()
        if text.startswith("set_replacement"):
            self.found.fixed.append((str(values[1]), _asking()[0]))
        elif "[guard added]" in text:
            place, asked = _asking()
            if place is not None and asked == "__bool__":
                self.found.assumed.append(Assumption(str(values[1]), place))
        return record.levelno > logging.root.manager.disable


def _asking() -> tuple[Place | None, str]:
    """The line of the user's that runs, and the function that it calls there."""
    called = ""
    for frame, line in traceback.walk_stack(sys._getframe()):
        if is_user_file(frame.f_code.co_filename):
            return (frame.f_code.co_filename, line), called
        called = frame.f_code.co_name
    return None, called


@contextlib.contextmanager
def listening() -> Iterator[Decisions]:
    """What torch decides about sizes inside, in order. The user's handlers are told no more than before."""
    listener = _Listener()
    _LOG.addFilter(listener)
    try:
        with patch.object(_LOG, "isEnabledFor", lambda level: level >= logging.INFO):
            yield listener.found
    finally:
        _LOG.removeFilter(listener)


def fixed_size(error: BaseException, decisions: Decisions) -> tuple[str, int, Place | None] | None:
    """The name of a size that the model makes a number of, the number, and the line if it is known.

    `None` where torch refuses a model for another reason.
    """
    found = _FIXED.search(str(error))
    if found is None:
        return None
    places = [place for became, place in decisions.fixed if became == found["size"]]
    return found["name"], int(found["size"]), next((place for place in places if place), None)
