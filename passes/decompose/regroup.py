"""Sums in the order in which they cost least: small terms meet before they are spread over large ones."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx

from tdsl.engine.passes import graph_pass
from tdsl.engine.sizes import elements_at_example
from tdsl.engine.staged import Staged
from tdsl.engine.sweep import Change, SweepPass
from tdsl.engine.workspace import Workspace
from tdsl.ops.targets import operator_of

MOST_TERMS = 32
"""Longer sums are left as they are: every pair of terms is looked at."""


@graph_pass
class RegroupSums(SweepPass):
    """Add the terms of a sum in the order that writes the fewest numbers: a row to a row, not to a matrix."""

    name = "decompose.regroup_sums"

    def at(self, work: Workspace, node: fx.Node) -> Change | None:
        """The sum of three terms or more that ends in a node; dynamic sizes count as in the example."""
        if not _is_sum(node) or _is_part(node):
            return None
        matched = _additions(node)
        terms = list(_terms(node, matched))
        if not 3 <= len(terms) <= MOST_TERMS or not _alike([*terms, *matched]):
            return None
        value, written = _cheapest(work, node.target, terms)
        if written >= sum(elements_at_example(one.meta["val"]) for one in matched):
            return None
        return Change((node,), (value,), tuple(matched))


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
