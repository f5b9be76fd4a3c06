"""Names in messages: the one that was meant, and the first of many."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def nearest(word: str, names: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The one of `names` that `word` is most likely a misspelling of."""
    import difflib

    found = difflib.get_close_matches(word, list(names), n=1, cutoff=cutoff)
    return found[0] if found else None


def did_you_mean(word: str, names: Iterable[str], cutoff: float = 0.6) -> str | None:
    """A hint with the nearest name, if one is near."""
    found = nearest(word, names, cutoff)
    return asking_for(found) if found else None


def asking_for(name: str) -> str:
    """The hint that somebody meant that name."""
    return f"did you mean `{name}`?"


def some_of(names: Sequence[str], most: int = 6) -> str:
    """The first of many names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
