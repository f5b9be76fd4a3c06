"""Hidden units that compute the same: a fact about all weights that a group of axes stands in."""

from __future__ import annotations

from torch import fx

from tdsl.engine.census import macs_of
from tdsl.engine.driver import Scope
from tdsl.engine.journal import Journal
from tdsl.engine.passes import GraphPass, graph_pass
from tdsl.engine.weights import prune_weights
from tdsl.engine.workspace import Workspace
from tdsl.symmetry.hidden.merging import merges


@graph_pass
class MergeDuplicates(GraphPass):
    """Merge hidden units with equal incoming weights, and put units that are constant into biases."""

    name = "merge.duplicates"

    def rewrite(self, module: fx.GraphModule, journal: Journal, scope: Scope | None = None) -> int:
        """Merge group by group, as long as there is something; each group is one entry."""
        count = 0
        if journal.full:
            return count
        macs = _macs(module)
        for group in merges(module, (lambda node: True) if scope is None else scope):
            before, macs = macs, _macs(module)
            first = group.nodes[0]
            journal.note(
                self.name,
                first,
                group.nodes,
                saved_parameters=group.saved_parameters,
                saved_macs=before - macs,
                details={
                    "units": group.size,
                    "duplicates": group.duplicates,
                    "constants": group.constants,
                },
            )
            count += 1
            if journal.full:
                break
        if count:
            prune_weights(module)
            module.graph.lint()
        return count


def _macs(module: fx.GraphModule) -> int:
    nodes = tuple(node for node in module.graph.nodes if node.op == "call_function")
    return macs_of(Workspace(module), nodes)
