"""Actions that are lost at one operator and there again at a later one, as squares and the sum of them.

What acts behind several operators is measured from the last edges on which it is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from torch import fx

from tdsl.symmetry.action import Action
from tdsl.symmetry.step import Known, Step

MOST_BETWEEN = 12
"""So many operators that no action passes may lie before one whose result is measured to be moved again."""


class Measure(Protocol):
    """Asked last: what acts on the results of a node by what it computes (`tdsl.symmetry.measured`)."""

    def __call__(
        self,
        node: fx.Node,
        sources: Sequence[fx.Node],
        moved: Sequence[Action | None],
        between: Sequence[fx.Node] = (),
    ) -> tuple[Action | None, ...] | None:
        """The action on each result, `None` on what nothing reads; `between` lie between node and sources."""


def behind(node: fx.Node, known: Mapping[fx.Node, Known], measure: Measure) -> tuple[Known, Step] | None:
    """What acts on a node behind some that nothing passes, measured from the last edges that are known.

    `None` where nothing does, or these are too far away.
    """
    between: set[fx.Node] = set()
    sources: dict[fx.Node, None] = {}
    waiting = list(node.all_input_nodes)
    while waiting:
        one = waiting.pop()
        what = known[one]
        if what.is_constant or one in between or one in sources:
            continue
        if what.actions[0] is not None and not what.nominal:
            sources[one] = None
            continue
        between.add(one)
        if len(between) > MOST_BETWEEN:
            return None
        waiting += one.all_input_nodes
    if not between or not sources:
        return None
    moved = [known[source].actions[0] for source in sources]
    order = [one for one in node.graph.nodes if one in between]
    found = measure(node, list(sources), moved, order)
    if found is None:
        return None
    origins = tuple(source for source in node.all_input_nodes if not known[source].is_constant)
    return Known(found), Step(node, origins, (None,) * len(origins), found, "measured")


def inside(steps: Mapping[fx.Node, Step], met: set[fx.Node]) -> dict[fx.Node, Step]:
    """Steps that nothing passes, all of whose readers lead to nodes where an action was found again."""
    found: dict[fx.Node, Step] = {}
    for node, step in reversed(list(steps.items())):
        lost = step.nominal or step.strength in ("broken", "unknown")
        if lost and node not in met and all(one in met or one in found for one in node.users):
            nothing = (None,) * len(step.actions)
            found[node] = Step(node, step.sources, (None,) * len(step.inputs), nothing, "inside")
    return found
