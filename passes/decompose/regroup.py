"""Sums in the order in which they cost least: small terms meet before they are spread over large ones."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx

from tdsl.engine.driver import Scope
from tdsl.engine.edit import Editor
from tdsl.engine.journal import Journal
from tdsl.engine.passes import GraphPass, graph_pass
from tdsl.engine.rule import Replacement, Rule
from tdsl.engine.sizes import elements_at_example
from tdsl.engine.staged import CannotStage, Staged, Workspace
from tdsl.ops.targets import operator_of

MOST_TERMS = 32
"""Longer sums are left as they are: every pair of terms is looked at."""


@graph_pass
class RegroupSums(GraphPass):
    """Add the terms of a sum in the order that writes the fewest numbers: a row to a row, not to a matrix."""

    name = "decompose.regroup_sums"

    def rewrite(self, module: fx.GraphModule, journal: Journal, scope: Scope | None = None) -> int:
        """One sweep over the sums of three terms or more; sizes that are dynamic count as in the example."""
        work = Workspace(module)
        if not work.typed:
            return 0
        editor = Editor(work)
        count = 0
        for root in [node for node in module.graph.nodes if _is_sum(node) and not _is_part(node)]:
            if journal.full:
                break
            if scope is not None and not scope(root):
                continue
            matched = _additions(root)
            terms = list(_terms(root, matched))
            if not 3 <= len(terms) <= MOST_TERMS or not _alike([*terms, *matched]):
                continue
            try:
                value, written = _cheapest(work, root.target, terms)
            except CannotStage:
                continue
            before = sum(elements_at_example(node.meta["val"]) for node in matched)
            if written >= before:
                continue
            editor.apply(
                Replacement(Rule(self.name, ()), (root,), (value,), tuple(matched)), journal.next_number
            )
            journal.note(self.name, root, matched)
            count += 1
        if count:
            module.graph.lint()
        return count


def _is_sum(node: Any) -> bool:
    """Whether a node adds two tensors."""
    if not isinstance(node, fx.Node) or node.op != "call_function" or node.kwargs:
        return False
    op = operator_of(node.target)
    return op is not None and op.name == "add" and all(isinstance(arg, fx.Node) for arg in node.args)


def _is_part(node: fx.Node) -> bool:
    """Whether a sum is a term of another one, and of nothing else."""
    return (
        len(node.users) == 1 and _is_sum(user := next(iter(node.users))) and user.args[0] is not user.args[1]
    )


def _additions(root: fx.Node) -> list[fx.Node]:
    """The additions of the sum that ends in `root`."""
    inner = [arg for arg in root.args if isinstance(arg, fx.Node) and _is_sum(arg) and _is_part(arg)]
    return [root, *(node for arg in inner for node in _additions(arg))]


def _terms(node: fx.Node, additions: list[fx.Node]) -> Iterator[fx.Node]:
    """What is added, from the left."""
    for arg in node.args:
        assert isinstance(arg, fx.Node)
        if arg in additions:
            yield from _terms(arg, additions)
        else:
            yield arg


def _alike(nodes: list[fx.Node]) -> bool:
    """Whether all values are tensors of one element type, so that no order of adding promotes them."""
    values = [node.meta.get("val") for node in nodes]
    dtypes = {value.dtype for value in values if isinstance(value, torch.Tensor)}
    return len(dtypes) == 1 and all(isinstance(value, torch.Tensor) for value in values)


def _cheapest(work: Workspace, add: Any, terms: list[fx.Node]) -> tuple[Any, int]:
    """The sum, built from the pairs with the smallest results first, and how many numbers it writes."""
    left: list[Any] = list(terms)
    written = 0
    while len(left) > 1:
        pairs = itertools.combinations(range(len(left)), 2)
        sums = {pair: Staged(add, tuple(left[place] for place in pair), {}) for pair in pairs}
        first, second = min(sums, key=lambda pair: elements_at_example(work.val(sums[pair])))
        left[first] = sums[first, second]
        written += elements_at_example(work.val(left[first]))
        del left[second]
    return left[0], written
