"""Where a node came from: the chain of rewrites, down to the nodes and source lines of the user's model.

A node the user traced has no record of its own: its origin is read off the metadata that `torch.export`
left. A node that a rewrite made carries the `Rewrite` in `node.meta["rewrite"]`.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import fx

from tdsl.frames import frames_of, shown_path, user_frame

REWRITE = "rewrite"
"""Key of `node.meta` under which a rewrite leaves its record."""

VALUE = "value"
"""Key of `node.meta` for the name of the node whose value this one computes, exactly or approximately."""


@dataclass(frozen=True, slots=True)
class Origin:
    """A node of the model as captured; its module and source line are read when they are asked for."""

    node: str
    stack: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)
    trace: str = field(default="", compare=False, repr=False)

    @property
    def module(self) -> str:
        """Path of the module that the node was traced in, `encoder.layer.0`; empty at the top."""
        if not self.stack:
            return ""
        path = str(next(reversed(list(self.stack.values())))[0])
        return re.sub(r"^L\['self'\]\.?", "", path)

    @property
    def source(self) -> str:
        """`file.py:line` of the innermost frame that the user wrote; empty when none was recorded."""
        if not self.trace:
            return ""
        frame = user_frame(frames_of(self.trace))
        return f"{shown_path(frame[0])}:{frame[1]}" if frame else ""


@dataclass(frozen=True, slots=True)
class Rewrite:
    """One application of a rule; `consumed` is what its matched nodes came from."""

    number: int
    rule: str
    consumed: tuple[Origin | Rewrite, ...]


def origin(node: fx.Node) -> Origin:
    """Where `node` stands in the user's model, by the metadata of the trace."""
    return Origin(node.name, node.meta.get("nn_module_stack"), node.meta.get("stack_trace") or "")


def provenance(node: fx.Node) -> Origin | Rewrite:
    """The rewrite that made `node`, or its origin in the captured model."""
    made: Rewrite | None = node.meta.get(REWRITE)
    return made or origin(node)


def value_name(node: fx.Node) -> str:
    """The name of the node, before any rewrite, whose value `node` stands for; its own name by default."""
    name: str = node.meta.get(VALUE, node.name)
    return name


def module_path(node: fx.Node) -> str:
    """Path of the module that the node was traced in; a rewrite's nodes inherit that of its root."""
    return origin(node).module


def is_within(path: str, globs: Sequence[str]) -> bool:
    """Whether a module, or one that it is inside of, has a path that one of the globs matches."""
    parts = path.split(".") if path else []
    prefixes = [".".join(parts[: i + 1]) for i in range(len(parts))]
    return any(fnmatch.fnmatchcase(prefix, glob) for prefix in prefixes for glob in globs)


def source_line(node: fx.Node) -> str:
    """`file.py:line` that the node was traced from; a rewrite's nodes inherit that of its root."""
    return origin(node).source


def rules_of(record: Origin | Rewrite) -> tuple[str, ...]:
    """Names of the rules on the way to this node, oldest first, each once."""
    found: dict[str, None] = {}
    for item in _walk(record):
        if isinstance(item, Rewrite):
            found.setdefault(item.rule)
    return tuple(found)


def origins_of(record: Origin | Rewrite) -> tuple[Origin, ...]:
    """The captured nodes that this node stands for, in order, each once."""
    return tuple(dict.fromkeys(item for item in _walk(record) if isinstance(item, Origin)))


def _walk(record: Origin | Rewrite) -> list[Origin | Rewrite]:
    """Every record below `record` and itself, oldest first, shared ones once; chains may be long."""
    order: list[Origin | Rewrite] = []
    seen: set[int] = set()
    stack: list[tuple[Origin | Rewrite, bool]] = [(record, False)]
    while stack:
        item, done = stack.pop()
        if done:
            order.append(item)
        elif id(item) not in seen:
            seen.add(id(item))
            stack.append((item, True))
            if isinstance(item, Rewrite):
                stack.extend((below, False) for below in reversed(item.consumed))
    return order
