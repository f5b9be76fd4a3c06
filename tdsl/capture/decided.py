"""Where a model's own code makes a number of a size that was declared open.

torch refuses such a model only when its trace is done, and by then says no line. While it traces it tells its
log of every decision about a size, at a time when the line is still on the stack.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import traceback
from collections.abc import Iterator
from unittest.mock import patch

from tdsl.frames import user_frame

Decisions = list[tuple[str, tuple[str, int] | None]]
"""What sizes became, as torch writes it, and the user's file and line at which they did, if one is known."""

_LOG = logging.getLogger("torch.fx.experimental.symbolic_shapes")
_FIXED = re.compile(
    r"- You marked (?P<name>.+?) as dynamic but your code specialized it to be a constant \((?P<size>\d+)\)"
)


class _Listener(logging.Filter):
    """Notes what sizes become, and lets through what the log would have shown anyway."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Decisions = []

    def filter(self, record: logging.LogRecord) -> bool:
        if str(record.msg).startswith("set_replacement") and isinstance(record.args, tuple):
            frames = [
                (frame.f_code.co_filename, line) for frame, line in traceback.walk_stack(sys._getframe())
            ]
            self.found.append((str(record.args[1]), user_frame(reversed(frames))))
        return record.levelno > logging.root.manager.disable


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


def fixed_size(error: BaseException, decisions: Decisions) -> tuple[str, int, tuple[str, int] | None] | None:
    """The name of a size that the model makes a number of, the number, and the line if it is known.

    `None` where torch refuses a model for another reason.
    """
    found = _FIXED.search(str(error))
    if found is None:
        return None
    places = [place for became, place in decisions if became == found["size"]]
    return found["name"], int(found["size"]), next((place for place in places if place), None)
