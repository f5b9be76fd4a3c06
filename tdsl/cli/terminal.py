"""Where words go: results to standard output, messages, errors and progress to standard error.

rich is loaded by what is laid out or coloured, not by a line of plain text.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from tdsl.errors import TdslError

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

UNWRAPPED = 10_000
"""Columns of a "terminal" whose lines are never broken: for output that other programs read."""

Progress = Callable[[str], None]
"""Hears the name of each stage as it begins."""


# ---------------------------------------------------------------- results


def put(text: str) -> None:
    """Write `text` to standard output at once.

    Raises `BrokenPipeError` when nobody reads it any more, and `TdslError` where it cannot be written.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as reason:
        _abandon_output()
        if isinstance(reason, BrokenPipeError):
            raise
        raise TdslError(f"cannot write to standard output: {reason.strerror}") from None


def _abandon_output() -> None:
    """Send what is still in the buffer of standard output nowhere, so that leaving Python raises nothing."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def width() -> int:
    """Columns of the terminal; what goes elsewhere is not broken into lines."""
    from rich.console import Console

    out = Console()
    return out.width if out.is_terminal else UNWRAPPED


def show(item: RenderableType, *, wrap: bool = True) -> None:
    """Print `item`, in colours on a terminal; `wrap=False` breaks lines only there."""
    from rich.console import Console

    out = Console()
    page = io.StringIO()  # `put` alone writes to standard output
    console = Console(
        file=page,
        force_terminal=out.is_terminal,
        color_system=out.color_system,  # type: ignore[arg-type]  # a name, or `None` without colours
        width=out.width if wrap else width(),
        highlight=False,
        legacy_windows=False,
    )
    console.print(item)
    put("".join(f"{line.rstrip(' ')}\n" for line in page.getvalue().splitlines()))


def put_json(value: Any) -> None:
    """Write `value`, of plain data only, as one JSON document."""
    put(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


# ---------------------------------------------------------------- messages


def say(message: str) -> None:
    """Write a line for people to standard error."""
    with contextlib.suppress(OSError):
        print(message, file=sys.stderr, flush=True)


def say_error(error: TdslError) -> None:
    """Print a diagnostic, what is wrong in red."""
    from rich.console import Console

    with contextlib.suppress(OSError):
        Console(stderr=True, highlight=False).print(_diagnostic(error), soft_wrap=True)


def put_error(error: TdslError) -> None:
    """Write a diagnostic that is a result, such as an example that failed, to standard output."""
    show(_diagnostic(error), wrap=False)


def _diagnostic(error: TdslError) -> Text:
    from rich.text import Text

    text = Text(error.render())
    text.highlight_regex(r"^(?:\S+:\d+:\d+: )?error:", "bold red")
    text.highlight_regex(r"(?m)^\s*\^+$", "bold red")
    text.highlight_regex(r"(?m)^  (?:expected|hint):", "bold")
    return text


def error_record(error: TdslError) -> dict[str, Any]:
    """A diagnostic as plain data; `file`, `line` and `column` are `None` when no text is to blame."""
    span = error.span
    return {
        "format": "tdsl-error/1",
        "error": error.message,
        "file": span.source.name if span else None,
        "line": span.line if span else None,
        "column": span.column if span else None,
        "expected": error.expected,
        "hint": error.hint,
    }


# ---------------------------------------------------------------- long work


@contextlib.contextmanager
def stages() -> Iterator[Progress]:
    """Shows stages and how long each took while the block runs; nothing when standard error is no terminal.

    One that is counted, `calibrate: batch 3 of 8`, is one stage with a bar, and one line when it is over.
    What models and the libraries under them print meanwhile goes to standard error as well: standard output
    belongs to the result. What libraries will change one day is nothing that the user can do something about.
    """
    from rich.console import Console
    from rich.text import Text

    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        for kind in () if sys.warnoptions else (FutureWarning, DeprecationWarning):
            warnings.simplefilter("ignore", kind)
        console = Console(stderr=True, highlight=False)
        if not console.is_terminal:
            yield lambda stage: None
            return
        shown, current, began = "", "", time.perf_counter()

        def enter(stage: str) -> None:
            nonlocal shown, current, began
            if stage == shown:
                return
            name, bar = _counted(stage)
            if name != current:
                if current:
                    took = f"  {time.perf_counter() - began:6.1f} s  {current}"
                    status.console.print(Text(took, "dim"))
                current, began = name, time.perf_counter()
            shown = stage
            status.update(Text(f"{bar}{stage}"))

        with console.status("starting") as status:
            yield enter


_COUNTED = re.compile(r"(?P<name>\w+)\b.*\b(?P<done>\d+) of (?P<total>\d+)")
WIDTH = 20
"""Columns of a bar."""


def _counted(stage: str) -> tuple[str, str]:
    """What to call a stage when it is over, and a bar of how much is done; none where nothing is counted."""
    found = _COUNTED.fullmatch(stage)
    if found is None:
        return stage, ""
    done = WIDTH * int(found["done"]) // max(1, int(found["total"]))
    return f"{found['name']}, {found['total']} in all", f"{'━' * done}{'┄' * (WIDTH - done)} "
