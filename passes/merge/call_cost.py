"""What one call in place of several saves, and what it costs to join values and to take results apart.

Saved is the time that it takes onnxruntime to start operators, and to read the weights of a dense layer once
more for a single row: a product of a matrix and a vector takes as long as the matrix takes to be read, one
with several rows does not. What goes in is copied once more, and what comes out. What stays in the cache for
one copy, and not for all of them together, is read from memory. Everything else takes as long as before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from tdsl.passes.merge.call_readout import put_together
from tdsl.passes.merge.call_regions import Bundle, Calls, Region, parted
from torch import fx

from tdsl.engine.sizes import elements_at_example
from tdsl.engine.workspace import Workspace
from tdsl.ops.recurrent import GATES
from tdsl.ops.targets import operator_of

# Nanoseconds on one core, measured in onnxruntime (docs/commute.md); their ratios are what matters.
START = 250.0
"""To start an operator, of two values that are joined, or of two results that are taken apart."""
PER_COPY = 0.07
"""For a number that is copied."""
PER_WEIGHT = 0.035
"""For a weight that is read."""
CACHE = 2**17
"""Numbers that stay in the cache of a core until the next operator reads them; more are read from memory."""
MARGIN = 1.25
"""What is saved has to be so many times what is lost: the figures are those of one machine."""

_DENSE = frozenset({"linear", "matmul", "addmm"})
_WEIGHTED = frozenset({*_DENSE, *(f"conv{n}d" for n in (1, 2, 3))})
_VIEWS = frozenset({"reshape", "unsqueeze", "squeeze"})
"""Operators that onnxruntime starts and that do nothing."""


@dataclass(frozen=True)
class Cost:
    """Nanoseconds: for operators that need not be started, weights that need not be read, and copies."""

    starts: float
    weights: float
    copies: float

    @property
    def pays(self) -> bool:
        """Whether one call takes less time than several."""
        return self.starts + self.weights > MARGIN * self.copies

    def text(self) -> str:
        """In words."""
        return (
            f"it does not pay: {self.starts / 1e3:.1f} µs for operators that need not be started and"
            f" {self.weights / 1e3:.1f} µs for weights that need not be read again,"
            f" against {self.copies / 1e3:.1f} µs for copies"
        )


def cost_of(
    work: Workspace, calls: Calls, region: Region, axis_of: Callable[[Bundle], int] = lambda bundle: 0
) -> Cost:
    """What one call of a region in place of several saves and costs; copies of a result lie along an axis."""
    again = region.copies - 1
    starts = weights = copies = 0.0
    for bundle in region.bundles:
        starts += again * START * _starts(calls, bundle[0])
        weights += again * PER_WEIGHT * _read_for_one_row(work, calls, bundle[0])
        one = elements_at_example(bundle[0].meta["val"])
        if one <= CACHE < region.copies * one:
            copies += PER_COPY * region.copies * one
    apart = [bundle for bundle in region.exits if put_together(bundle, axis_of(bundle)) is None]
    for way in (*region.entries, *apart):
        numbers = sum(elements_at_example(node.meta["val"]) for node in way)
        copies += START * (1 + region.copies) / 2 + PER_COPY * numbers
    return Cost(starts, weights, copies)


def cheapest(work: Workspace, calls: Calls, region: Region) -> tuple[Region, Cost]:
    """The region, or if it does not pay, the part behind some of its calls that saves most."""
    whole = cost_of(work, calls, region)
    if whole.pays:
        return region, whole
    best, saved = (region, whole), 0.0
    for first in range(1, len(region.bundles)):
        kept = set(region.bundles[first:])
        for part in parted(calls, region.bundles, lambda bundle, kept=kept: bundle not in kept):  # type: ignore[misc]
            cost = cost_of(work, calls, part)
            gain = cost.starts + cost.weights - cost.copies
            if cost.pays and gain > saved:
                best, saved = (part, cost), gain
    return best


def _starts(calls: Calls, node: fx.Node) -> int:
    """How many operators onnxruntime starts for a call: none for a view, or where the one before does it."""
    operator = operator_of(node.target)
    if operator is None or operator.name in _VIEWS:
        return 0
    if operator.pointwise:
        sources = [operator_of(one.target) for one in calls.operands(node) if one.op == "call_function"]
        return int(not any(one is not None and one.name in _WEIGHTED for one in sources))
    return 1


def _read_for_one_row(work: Workspace, calls: Calls, node: fx.Node) -> int:
    """How many weights a dense layer reads for its only row, and a recurrent one at every step of one."""
    operator = operator_of(node.target)
    if operator is not None and operator.name in GATES:
        steps, sequences, *_ = calls.operands(node)[0].meta["val"].shape
        if node.args[[param.name for param in operator.params].index("batch_first")]:
            steps, sequences = sequences, steps
        read = sum(work.tensor(one).numel() for one in node.all_input_nodes if one.op == "get_attr")
        return int(steps) * read if sequences == 1 else 0
    if operator is None or operator.name not in _DENSE:
        return 0
    if any(prod(one.meta["val"].shape[:-1]) != 1 for one in calls.operands(node)):
        return 0
    return sum(work.tensor(one).numel() for one in node.all_input_nodes if one.op == "get_attr")
