"""Sizes that change from call to call: a name alone takes the range that the model's own code allows.

torch refuses a `Dim` whose range is wider than the model allows, and says which range would do: that of a
table of positions, for example. What it can only say as a relation, or not at all, it does not ask of a size
without a name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch.export import Dim

Ranges = Mapping[str, Mapping[str, int]]
"""For the name of a size, the `min` and `max` that are known."""

_NARROWED = re.compile(r"(?P<name>\w+) = Dim\('(?P=name)'(?P<range>(?:, (?:min|max)=\d+)+)\)")
_BOUND = re.compile(r"(min|max)=(\d+)")


def with_dims(spec: Any, ranges: Ranges) -> Any:
    """The specification with every text `"batch"` replaced by `Dim("batch")`, the same for the same text."""
    if isinstance(spec, str):
        return Dim(spec, **ranges.get(spec, {}))
    if isinstance(spec, Mapping):
        return {key: with_dims(value, ranges) for key, value in spec.items()}
    if isinstance(spec, (list, tuple)):
        return type(spec)(with_dims(value, ranges) for value in spec)
    return spec


def without_names(spec: Any) -> Any:
    """The specification with every text replaced by a size of whatever range, equal to no other by name."""
    if isinstance(spec, str):
        return Dim.DYNAMIC
    if isinstance(spec, Mapping):
        return {key: without_names(value) for key, value in spec.items()}
    return type(spec)(map(without_names, spec)) if isinstance(spec, (list, tuple)) else spec


def is_of_sizes(error: Exception) -> bool:
    """Whether torch refuses sizes as they were declared, and not the model."""
    return "Constraints violated" in str(error)


def texts_of(spec: Any) -> set[str]:
    """The names in a specification that say nothing of a range."""
    if isinstance(spec, str):
        return {spec}
    inner = spec.values() if isinstance(spec, Mapping) else spec if isinstance(spec, (list, tuple)) else ()
    return {name for value in inner for name in texts_of(value)}


def narrower(error: Exception, spec: Any, ranges: Ranges) -> Ranges | None:
    """The ranges under which tracing would succeed, as torch says in its refusal.

    `None` where more than that is asked: one size only, a relation between sizes, or other bounds than the
    user wrote.
    """
    fixes = str(error).partition("Suggested fixes:")[2].split("\n\n")[0].split("\n")
    found = [_NARROWED.fullmatch(fix.strip()) for fix in fixes if fix.strip()]
    if not found or not all(fix and fix["name"] in texts_of(spec) for fix in found):
        return None
    new = {fix["name"]: {k: int(v) for k, v in _BOUND.findall(fix["range"])} for fix in found if fix}
    merged = {**ranges, **{name: {**ranges.get(name, {}), **bounds} for name, bounds in new.items()}}
    return None if merged == ranges else merged
