"""A compiled rule: what it matches, what must hold, and what it puts in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import torch
from torch import fx

from tdsl.engine.frame import Approximation, Frame, Test, Variant
from tdsl.engine.order import disconnected, in_turn
from tdsl.engine.pattern import targets_of
from tdsl.engine.sizes import compare, describe
from tdsl.engine.staged import CannotStage
from tdsl.engine.workspace import Workspace
from tdsl.lang import tree


@dataclass(frozen=True, slots=True)
class Replacement:
    """A match that may be applied: old nodes and the staged values that take their places."""

    rule: Rule
    outputs: tuple[fx.Node, ...]
    values: tuple[Any, ...]
    matched: tuple[fx.Node, ...]
    approximations: tuple[Approximation, ...] = ()
    env: Mapping[str, Any] = field(default_factory=dict)
    in_turn: bool = False
    """Whether some outputs are computed from others, so that each value takes its place by itself."""


Refusal = Callable[[str, Test | None, Frame], None]
"""Hears why a complete structural match was not applied: the reason, the condition, the frame."""


@dataclass(frozen=True)
class Rule:
    """A rule with its parameters set, ready to run."""

    name: str
    variants: tuple[Variant, ...]
    source: tree.Rule | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    approximate: bool = False
    doc: str = ""

    @cached_property
    def roots(self) -> tuple[tuple[Any, ...], ...]:
        """Root targets of each variant."""
        return tuple(targets_of(variant.pattern.roots[0]) for variant in self.variants)

    @cached_property
    def depth(self) -> int:
        """Longest path of the pattern: how far above a new node another match may begin."""
        return max(variant.pattern.depth() for variant in self.variants)

    def attempt(
        self, variant: Variant, work: Workspace, refused: Refusal | None = None
    ) -> Callable[[fx.Node], Replacement | None]:
        """From a candidate for the root to the first match there for which every condition holds.

        The matcher is written when there is a first candidate.
        """

        def accept(nodes: tuple[fx.Node, ...], env: dict[str, Any]) -> Replacement | None:
            return self._accept(variant, nodes, env, work, refused)

        def attempt(node: fx.Node) -> Replacement | None:
            found: Replacement | None = variant.matcher(self.name)(node, accept)
            return found

        return attempt

    @cached_property
    def shrinks(self) -> bool:
        """Whether every application leaves fewer nodes: then the rule alone cannot go on for ever."""
        return self.source is not None and all(
            sum(1 for _ in v.pattern.terms()) - len(v.pattern.kept) > _operators(self.source.rhs)
            for v in self.variants
        )

    def _accept(
        self,
        variant: Variant,
        nodes: tuple[fx.Node, ...],
        env: dict[str, Any],
        work: Workspace,
        refused: Refusal | None,
    ) -> Replacement | None:
        frame = Frame(work, variant, nodes, env, self.parameters)
        outputs = variant.pattern.output_nodes(nodes, env)
        several = len(outputs) > 1 or variant.pattern.kept
        connected = bool(several) and not disconnected(outputs, env)
        try:
            for test in variant.tests:
                if not test.evaluate(frame):
                    if refused:
                        refused("the condition does not hold", test, frame)
                    return None
            values = frame.rhs
            for old, new in zip(outputs, values, strict=True):
                _require_same_type(old, new, work)
        except CannotStage as reason:
            if refused:
                refused(str(reason), None, frame)
            return None
        if connected and not in_turn(outputs, values):
            if refused:
                refused("one output is computed from another, and its replacement from both", None, frame)
            return None
        matched = (*nodes, *frame.taken)
        lost = tuple(frame.approximations)
        return Replacement(self, outputs, values, matched, lost, frame.env, in_turn=connected)


def _require_same_type(old: fx.Node, new: Any, work: Workspace) -> None:
    """An equation holds between tensors of one type, for every value of the symbols in their sizes.

    Raises `CannotStage` where the replacement has another shape or element type.
    """
    before, after = old.meta.get("val"), work.val(new)
    if not isinstance(before, torch.Tensor) or not isinstance(after, torch.Tensor):
        return
    if work.alike(before, after):
        return
    if before.dtype != after.dtype or not compare("==", list(before.shape), list(after.shape)):
        raise CannotStage(f"the types differ: {describe(before)} would become {describe(after)}")


def _operators(value: Any) -> int:
    """How many graph nodes a right side makes at most."""
    if isinstance(value, tuple):
        return sum(_operators(item) for item in value)
    if not isinstance(value, tree.Node):
        return 0
    own = isinstance(value, tree.Call | tree.Unary | tree.Binary)
    if (isinstance(value, tree.Call) and value.repeat is not None) or isinstance(value, tree.Splat):
        own_count = 1_000_000
    else:
        own_count = int(own)
    return own_count + sum(_operators(getattr(value, f.name)) for f in fields(value) if f.name != "span")
