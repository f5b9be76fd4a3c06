"""One call in place of several: test-time augmentation, siamese towers, shared heads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from operator import getitem
from typing import Any

from tdsl.passes.merge.call_axis import Axes, axes_of, joined_values
from tdsl.passes.merge.call_cost import cheapest, cost_of
from tdsl.passes.merge.call_readout import put_together, whole
from tdsl.passes.merge.call_regions import Bundle, Calls, Region, of_dynamic_sizes, parted, regions
from torch import fx

from tdsl.engine.driver import Scope
from tdsl.engine.edit import Editor
from tdsl.engine.explain import Explanation, Failure, Place, Site, place_of
from tdsl.engine.journal import Journal
from tdsl.engine.passes import GraphPass, graph_pass
from tdsl.engine.rule import Replacement, Rule
from tdsl.engine.sizes import same_shape
from tdsl.engine.stage import stage
from tdsl.engine.staged import CannotStage, Staged
from tdsl.engine.workspace import Workspace
from tdsl.ops import OPERATORS


@dataclass(frozen=True)
class _Candidate:
    """A subnetwork that is called several times, and what is in the way of one call: nothing, or reasons."""

    region: Region
    axes: Axes
    reason: str
    at: Bundle

    @property
    def fires(self) -> bool:
        return not self.reason


@graph_pass
class BatchCalls(GraphPass):
    """Call a subnetwork once on all the values it is called on, joined into one, where that costs less."""

    name = "merge.calls"

    def rewrite(self, module: fx.GraphModule, journal: Journal, scope: Scope | None = None) -> int:
        """One sweep; what goes in is joined by `concat`, what comes out taken apart by `split`."""
        work = Workspace(module)
        count = 0
        left_alone: set[Bundle] = set()
        while work.typed and not journal.full:
            candidates = (c for c in _candidates(work, scope, left_alone) if c.fires)
            found = next((c for c in candidates if c.region.bundles[0] not in left_alone), None)
            if found is None:
                break
            try:
                self._apply(work, found, journal)
                count += 1
            except CannotStage:
                left_alone.add(found.region.bundles[0])
        if count:
            module.graph.lint()
        return count

    def explain(self, module: fx.GraphModule, limit: int = 5) -> Explanation:
        """Which calls would be one, and what is in the way of the others."""
        found = list(_candidates(Workspace(module), None, set()))
        for bundle in of_dynamic_sizes(Calls(module)):
            found.append(_Candidate(Region((bundle,), (), ()), Axes({}, {}), _DYNAMIC, bundle))
        fired = [place_of(candidate.at[0]) for candidate in found if candidate.fires]
        others = [_site(candidate) for candidate in found if not candidate.fires]
        return Explanation(
            rule=self.name,
            candidates=len(found),
            fires=len(fired),
            fired=tuple(fired[:limit]),
            sites=tuple(others[:limit]),
            root="a subnetwork that is called twice",
            nearest=(),
            otherwise=(),
        )

    def _apply(self, work: Workspace, found: _Candidate, journal: Journal) -> None:
        region = found.region
        calls = Calls(work.module)
        joined = joined_values(calls, region, found.axes)
        results = _results(work, region, found.axes, joined)
        matched = (*region.nodes, *(node for node in results if node not in region.nodes))
        replacement = Replacement(Rule(self.name, ()), tuple(results), tuple(results.values()), matched)
        created = Editor(work).apply(replacement, journal.next_number).created
        journal.note(
            self.name,
            region.bundles[0][0],
            matched,
            saved_nodes=len(matched) - len(created),
            created=created,
            details={"calls": region.copies, "operators": len(region.bundles)},
        )


_DYNAMIC = "its sizes are dynamic, so that it is not known whether one call pays"


def _candidates(work: Workspace, scope: Scope | None, left_alone: set[Bundle]) -> Iterator[_Candidate]:
    """Subnetworks that are called several times, in order, judged; those known to be in vain are left out."""
    calls = Calls(work.module, scope)
    for region in regions(calls):
        if region.bundles[0] in left_alone:
            continue
        judged = list(_judged(work, calls, region))
        if not any(candidate.fires for candidate in judged):
            left_alone.add(region.bundles[0])
        yield from judged


def _judged(work: Workspace, calls: Calls, region: Region) -> Iterator[_Candidate]:
    """A region, or what is left of it without the operators that mix what is called."""
    region, cost = cheapest(work, calls, region)
    if not cost.pays:
        yield _Candidate(region, Axes({}, {}), cost.text(), region.bundles[0])
        return
    axes = axes_of(work, calls, region)
    if axes.refused:
        at, reason = next(iter(axes.refused.items()))
        yield _Candidate(region, axes, reason, at)
        for part in parted(calls, region.bundles, axes.refused.__contains__):
            yield from _judged(work, calls, part)
        return
    if axes.entry and not (cost := cost_of(work, calls, region, lambda one: axes.place[one].axis)).pays:
        yield _Candidate(region, axes, cost.text(), region.bundles[0])
        return
    yield _Candidate(region, axes, "", region.bundles[0])


def _results(work: Workspace, region: Region, axes: Axes, joined: dict[Bundle, Staged]) -> dict[fx.Node, Any]:
    """What is used outside of the region, and what takes its place: whole again, or taken apart."""
    values: dict[fx.Node, Any] = {}
    for bundle in region.exits:
        val = bundle[0].meta["val"]
        axis = axes.place[bundle].axis
        if (user := put_together(bundle, axis)) is not None:
            values[user] = whole(work, user, joined[bundle])
            continue
        sizes = [val.shape[axis]] * region.copies
        parts = stage(work, OPERATORS["split"], {"x": joined[bundle], "sizes": sizes, "dim": axis - val.ndim})
        values |= {node: Staged(getitem, (parts, number), {}) for number, node in enumerate(bundle)}
    for node, value in values.items():
        own, wanted = work.val(value), node.meta["val"]
        if not same_shape(own.shape, wanted.shape) or own.dtype != wanted.dtype:
            raise CannotStage(f"{node.name} would have another type")
    return values


def _site(candidate: _Candidate) -> Site:
    """A candidate that is left alone, as `tdsl explain` shows it."""
    region = candidate.region
    matched: list[tuple[str, Place]] = [
        (f"call {number + 1}", place_of(node)) for number, node in enumerate(region.bundles[0])
    ]
    failure = Failure("condition", candidate.reason, "", "", "", place_of(candidate.at[0]), (), "", "")
    operators = len(region.bundles)
    return Site(place_of(region.bundles[0][0]), operators, operators + 1, tuple(matched), (failure,), 0)
