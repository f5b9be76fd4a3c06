"""Dotted names and paths in narrow columns: broken behind a dot or slash, never inside a word."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.text import Text

_INDENT = "  "
_PIECES = re.compile(r"[^./]*[./]|[^./]+")


@dataclass(frozen=True, slots=True)
class DottedName:
    """`cleanup.identity.double_relu` on one line where there is room, else on several, indented."""

    text: str
    style: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        margin = re.match(r" *", self.text)[0] + _INDENT  # type: ignore[index]
        lines = [""]
        for piece in _PIECES.findall(self.text):
            if lines[-1].strip() and len(lines[-1] + piece) > options.max_width:
                lines.append(margin + piece)
            else:
                lines[-1] += piece
        yield Text("\n".join(lines), self.style, overflow="fold")

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        longest = max(map(len, _PIECES.findall(self.text)), default=0)
        return Measurement(min(longest + 2 * len(_INDENT), len(self.text)), len(self.text))
