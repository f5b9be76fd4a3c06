"""The rewrites that were applied: what was replaced where, what it saved, what it cost in accuracy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx

from tdsl.engine.frame import Frame, Variant
from tdsl.engine.functions import macs, params
from tdsl.engine.rule import Replacement
from tdsl.engine.workspace import Workspace
from tdsl.provenance import origin


@dataclass(frozen=True, slots=True)
class Applied:
    """One rewrite: `saved_*` are differences left minus right, `None` where sizes are not known.

    `error` is the relative error of the weight that was approximated in the metric of its decomposition
    (Frobenius, or that of the layer's output on calibration data), `None` for an exact rule, and for one
    written in Python, whose decomposition is not known.
    """

    number: int
    rule: str
    site: str
    source: str
    replaced: tuple[str, ...]
    saved_nodes: int
    saved_parameters: int | None
    saved_macs: int | None
    error: float | None = None
    approximate: bool = False
    """Whether the rule loses something."""
    details: Mapping[str, Any] = field(default_factory=dict)
    created: tuple[str, ...] = ()
    """Names of the nodes that now stand there: new ones, and one that took the place of its equal."""
    through: tuple[str, ...] = ()
    """Names of nodes that were not replaced and without which it would not have been possible."""


@dataclass
class Journal:
    """Collects rewrites over all steps of a pipeline; `limit` stops rewriting after that many."""

    limit: int | None = None
    entries: list[Applied] = field(default_factory=list)
    measure: bool = True
    """Whether to compute what each rewrite saved (a benchmark of the engine alone does not)."""

    @property
    def full(self) -> bool:
        """Whether the limit is reached."""
        return self.limit is not None and len(self.entries) >= self.limit

    @property
    def next_number(self) -> int:
        """Number of the next rewrite, from 1."""
        return len(self.entries) + 1

    def add(self, entry: Applied) -> None:
        """Record a rewrite."""
        self.entries.append(entry)

    def note(
        self,
        rule: str,
        root: fx.Node,
        replaced: Sequence[fx.Node] = (),
        *,
        saved_nodes: int = 0,
        saved_parameters: int | None = 0,
        saved_macs: int | None = 0,
        created: Sequence[fx.Node] = (),
        through: Sequence[fx.Node] = (),
        details: Mapping[str, Any] | None = None,
        error: float | None = None,
    ) -> None:
        """Add what a pass did to `replaced`, or else to `root`, at whose place in the model it is entered.

        `error` is that of what was approximated, `None` for an exact pass.
        """
        place = origin(root)
        self.add(
            Applied(
                number=self.next_number,
                rule=rule,
                site=place.module,
                source=place.source,
                replaced=tuple([node.name for node in replaced or (root,)]),
                saved_nodes=saved_nodes,
                saved_parameters=saved_parameters,
                saved_macs=saved_macs,
                error=error,
                approximate=error is not None,
                details=details or {},
                created=tuple([node.name for node in created]),
                through=tuple([node.name for node in through]),
            )
        )

    def savings(
        self, replacement: Replacement, variant: Variant, work: Workspace
    ) -> tuple[int | None, int | None]:
        """Parameters and multiply–accumulates that a replacement will save, before it is applied."""
        if not (self.measure and work.typed):
            return None, None
        frame = Frame(work, variant, replacement.matched, dict(replacement.env), {}, _rhs=replacement.values)
        return (
            _plain(params(frame, "lhs") - params(frame, "rhs")),
            _plain(macs(frame, "lhs") - macs(frame, "rhs")),
        )

    def record(
        self,
        replacement: Replacement,
        variant: Variant,
        saved_nodes: int,
        saved: tuple[int | None, int | None],
        created: Sequence[fx.Node] = (),
    ) -> None:
        """Add the entry of a replacement that was applied; `saved` is what `savings` said before."""
        root = origin(replacement.outputs[0])
        self.add(
            Applied(
                number=self.next_number,
                rule=replacement.rule.name,
                site=root.module,
                source=root.source,
                replaced=tuple([node.name for node in replacement.matched]),
                saved_nodes=saved_nodes,
                saved_parameters=saved[0],
                saved_macs=saved[1],
                error=error_of(replacement),
                approximate=replacement.rule.approximate,
                details=_details(replacement, variant),
                created=tuple([node.name for node in created]),
            )
        )


def _details(replacement: Replacement, variant: Variant) -> Mapping[str, Any]:
    """The ranks that the decompositions of a match came to."""
    if not replacement.approximations:
        return {}
    ranks = _ranks(variant)
    found = replacement.env.items()
    return {name: value for name, value in found if isinstance(value, int | float) and name in ranks}


def _ranks(variant: Variant) -> set[str]:
    """Names of the sizes that definitions introduce: the ranks of factors."""
    return set(variant.definitions) - {n for d in variant.definitions.values() for n in d.names}


def _plain(value: Any) -> int | None:
    """A number, or for a symbolic one its value at the traced example."""
    if isinstance(value, torch.SymInt):
        hint = value.node.hint
        return int(hint) if hint is not None else None
    return int(value)


def error_of(replacement: Replacement) -> float | None:
    """The relative error of the weights that a replacement approximates, `None` where it approximates none.

    Each in the metric of its decomposition.
    """
    if not replacement.rule.approximate or not replacement.approximations:
        return None
    squares = [0.0, 0.0]
    for approximation in replacement.approximations:
        lost, whole = approximation.declared.missed_squares(
            approximation.weight, approximation.factors, *approximation.moments
        )
        squares[0] += lost
        squares[1] += whole
    return math.sqrt(squares[0] / squares[1]) if squares[1] else 0.0
