"""`tdsl prove --together`: loops of a set of rules, and pairs whose order changes the result."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tdsl.cli import terminal

if TYPE_CHECKING:
    from tdsl.engine.library import Declaration


def prove_together(paths: Sequence[Path], globs: str, as_json: bool) -> bool:
    """Analyse the rules of `paths` and those of the standard library that `globs` name, and print the result.

    Whether there is neither a loop nor a pair of rules that computes other numbers. Without paths and globs
    the set is all of the standard library.
    """
    from tdsl.interplay.analysis import analyse
    from tdsl.interplay.text import loop_text, may_loop_text, pair_text, summary

    began = time.perf_counter()
    with terminal.stages() as progress:
        progress("reading the rules")
        found = analyse(_declarations(paths, globs), progress)
    if as_json:
        terminal.put_json({"format": "tdsl-together/1", **_plain(asdict(found))})
    else:
        blocks = [
            *map(loop_text, found.loops),
            *map(may_loop_text, found.may_loop),
            *(pair_text(pair) for pair in found.pairs),
        ]
        blocks += [f"not looked at: {name}: {reason}\n" for name, reason in found.left_out.items()]
        terminal.put("".join(f"{block}\n" for block in blocks))
        terminal.put(f"{summary(found)} ({time.perf_counter() - began:.1f} s)\n")
    return not found.loops and not any(pair.result == "wrong" for pair in found.pairs)


def _declarations(paths: Sequence[Path], globs: str) -> dict[str, Declaration]:
    from tdsl.engine.library import load, standard_library

    chosen: dict[str, Declaration] = {}
    names = [glob.strip() for glob in globs.split(",") if glob.strip()]
    for glob in names or ([] if paths else ["*"]):
        library = standard_library()
        chosen |= {n: library.rules[n] for n in library.select(glob) if n in library.rules}
    for path in paths:
        chosen |= load(path).rules
    return chosen


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value
