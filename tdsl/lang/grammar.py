"""The parser of the grammar, its tables kept for the next process as plain data."""

from __future__ import annotations

import functools
import hashlib
import json
from importlib import resources
from typing import Any

import lark
from lark.grammar import Rule
from lark.lexer import TerminalDef

from tdsl.files import cache_folder, keep, kept

STARTS = ("start", "expr")
"""What a text may be: a file, or one expression."""


@functools.cache
def parser() -> lark.Lark:
    """The parser of `tdsl.lark`. lark's own cache is a pickle, which could run code; here nothing does."""
    path = cache_folder() / "grammar" / f"{grammar_digest()}.json"
    text = kept(path)
    if text is not None:
        return _loaded(*json.loads(text, object_pairs_hook=_with_numbers))
    built = lark.Lark(
        _grammar(), parser="lalr", lexer="contextual", propagate_positions=True, start=list(STARTS)
    )
    keep(path, json.dumps(_plain(built.memo_serialize([TerminalDef, Rule]))))
    return built


@functools.cache
def grammar_digest() -> str:
    """What tells the grammar, and the lark that reads it, from others."""
    return hashlib.sha256(f"{lark.__version__}\n{_grammar()}".encode()).hexdigest()[:16]


def _grammar() -> str:
    return resources.files("tdsl.grammar").joinpath("tdsl.lark").read_text(encoding="utf-8")


def _loaded(data: dict[str, Any], memo: dict[int, Any]) -> lark.Lark:
    """From tables, as parsers do that lark writes out as Python."""
    found: lark.Lark = lark.Lark._load_from_dict(data, memo)  # type: ignore[no-untyped-call]
    return found


_NUMBERED = "numbered"
"""The one key of what stands for a table whose keys are numbers, which JSON has not."""


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        if all(isinstance(key, str) for key in value):
            return {key: _plain(item) for key, item in value.items()}
        return {_NUMBERED: [[key, _plain(item)] for key, item in value.items()]}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return value


def _with_numbers(pairs: list[tuple[str, Any]]) -> dict[Any, Any]:
    if len(pairs) == 1 and pairs[0][0] == _NUMBERED:
        return dict(pairs[0][1])
    return dict(pairs)
