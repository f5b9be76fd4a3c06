"""Weights of several layers in two bases that they share: what the layers do not touch, no rule can match."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tdsl.passes.share.layers import Dense, dense_layers, explanation, linear, require_share
from torch import Tensor, fx

from tdsl.engine.census import macs_of
from tdsl.engine.driver import Scope
from tdsl.engine.edit import Editor
from tdsl.engine.explain import Explanation
from tdsl.engine.journal import Journal
from tdsl.engine.passes import GraphPass, graph_pass
from tdsl.engine.rule import Replacement, Rule
from tdsl.engine.staged import Constant
from tdsl.engine.statistics import Statistics
from tdsl.engine.workspace import Workspace
from tdsl.factor.families import families
from tdsl.factor.shared import Layer, Shared

WIDEST = 4096
"""Longest axis of a weight: bases of a longer one take minutes for every family that is tried."""


@dataclass(frozen=True)
class _Family:
    """Layers and what they share; layers that share nothing, with the reason."""

    members: tuple[Dense, ...]
    means: tuple[Tensor | None, ...]
    shared: Shared | None
    reason: str = ""


@graph_pass
class SharedFactors(GraphPass):
    """Write dense layers of one shape as B·G·A, with A and B stored once for all, where that is smaller.

    `error` bounds what each layer loses: of its weight, or with calibration data of its output. `macs` bounds
    the operations of each layer, as a share of what it takes now: three products in place of one are faster
    only if this is small, and above 100 % a smaller file is paid for in time. Which layers share is found by
    the angles between the spaces that they read and write (`tdsl.factor.families`).
    """

    name = "share.factors"
    parameters = "error: Real = 1%, macs: Ratio = 100%"
    approximate = True

    def rewrite(self, module: fx.GraphModule, journal: Journal, scope: Scope | None = None) -> int:
        """Share what pays; each layer is one entry. Raises `TdslError` for a parameter out of range."""
        work = Workspace(module)
        if not work.typed or journal.full:
            return 0
        kinds = [k for k in _by_kind(module, scope) if len(k) > 1 and max(k[0].kind[:2]) <= WIDEST]
        asked = [request for kind in kinds for dense in kind for request in dense.requests() or ()]
        statistics = self.statistics(module, asked)
        found = [family for family in self._families(work, scope, statistics) if family.shared]
        editor = Editor(work)
        count = 0
        for family in found:
            count += _share(editor, family, journal)
        if count:
            module.graph.lint()
        return count

    def explain(self, module: fx.GraphModule, limit: int = 5) -> Explanation:
        """Which layers would share, and why the others do not; by their weights alone."""
        found = list(self._families(Workspace(module), None, None))
        fired = [dense.node for family in found if family.shared for dense in family.members]
        left = [(dense.node, f.reason) for f in found if not f.shared for dense in f.members]
        return explanation(self.name, fired, left, limit)

    def _families(
        self, work: Workspace, scope: Scope | None, statistics: Statistics | None
    ) -> Iterator[_Family]:
        error, macs = self.values["error"], self.values["macs"]
        require_share("error", error, 1, self.span)
        require_share("macs", macs, 100, self.span)
        for kind in _by_kind(work.module, scope):
            if len(kind) == 1:
                yield _Family(tuple(kind), (None,), None, "no other dense layer has its shape")
                continue
            if max(kind[0].kind[:2]) > WIDEST:
                yield _Family(tuple(kind), (), None, f"an axis of more than {WIDEST} is too long")
                continue
            layers: list[Layer] = []
            alive: list[tuple[Dense, Tensor | None]] = []
            for dense in kind:
                layer, mean = dense.layer(work, statistics)
                if layer is None:
                    yield _Family((dense,), (None,), None, "its weight gives nothing but zeros")
                    continue
                layers.append(layer)
                alive.append((dense, mean))
            for family in families(layers, error, macs) if layers else ():
                members, means = zip(*(alive[i] for i in family.members), strict=True)
                yield _Family(members, means, family.shared, family.reason)


def _by_kind(module: fx.GraphModule, scope: Scope | None) -> list[list[Dense]]:
    """Dense layers of one shape and element type together."""
    found: dict[Any, list[Dense]] = {}
    for dense in dense_layers(module, scope, SharedFactors.name):
        found.setdefault(dense.kind, []).append(dense)
    return list(found.values())


def _share(editor: Editor, family: _Family, journal: Journal) -> int:
    """Rewrite the layers of a family, in graph order; A is applied once to what several of them read."""
    work, shared = editor.work, family.shared
    assert shared is not None
    first = family.members[0]
    into, out = (
        None if basis is None else editor.add_parameter(basis, first.dtype, [first.weight], label)
        for basis, label in ((shared.into, "shared_in"), (shared.out, "shared_out"))
    )
    read: dict[fx.Node, Any] = {}
    count = 0
    for number, (dense, mean) in enumerate(zip(family.members, family.means, strict=True)):
        if journal.full:
            break
        weight = work.evaluate(dense.weight)
        core, size = shared.cores[number], weight.numel()
        bias = dense.corrected_bias(work, weight - shared.rebuilt(number), mean)
        inner = read.setdefault(dense.x, dense.x if into is None else linear(work, dense.x, into))
        core_values = Constant(core, dense.dtype, "core", dense.weight)
        if out is None:
            value = linear(work, inner, core_values, bias)
        else:
            value = linear(work, linear(work, inner, core_values), out, bias)
        before = macs_of(work, (dense.node,))
        rule = Rule(SharedFactors.name, (), approximate=True)
        editor.apply(Replacement(rule, (dense.node,), (value,), (dense.node,)), journal.next_number)
        own = core.numel() + (shared.bases if not number else 0)
        added = len(weight) if dense.bias is None and mean is not None else 0
        journal.note(
            SharedFactors.name,
            dense.node,
            saved_nodes=-((into is not None) + (out is not None)),
            saved_parameters=size - own - added,
            saved_macs=before - before * shared.macs // size,
            details={
                "rank_out": shared.ranks[0],
                "rank_in": shared.ranks[1],
                "layers": len(family.members),
            },
            error=shared.errors[number],
        )
        count += 1
    return count
