"""Calls of one subnetwork on different values: parts of a graph that differ in what they are applied to only.

A `Bundle` is the same call once for each copy: one operator, the same attributes, the same weights. Bundles
that feed one another form a region. It is grown from calls that share a weight, along operands and users, as
far as all copies have the same call; what goes in is gathered from the copies, and so is what comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import getitem
from typing import Any

import torch
from torch import fx

from tdsl.capture.normal import attribute
from tdsl.engine.driver import Scope
from tdsl.ops.targets import operator_of

Bundle = tuple[fx.Node, ...]
"""The same call in every copy."""


@dataclass(frozen=True)
class Region:
    """A subnetwork that occurs several times: its calls in order, what goes in, what is used elsewhere."""

    bundles: tuple[Bundle, ...]
    entries: tuple[Bundle, ...]
    """What goes in, for each copy; nodes of the graph, not of the region."""
    exits: tuple[Bundle, ...]

    @property
    def copies(self) -> int:
        """How often the subnetwork occurs."""
        return len(self.bundles[0])

    @property
    def nodes(self) -> tuple[fx.Node, ...]:
        """The calls of all copies."""
        return tuple(node for bundle in self.bundles for node in bundle)


class Calls:
    """The calls of a graph, what each depends on, and which of them are constants.

    With `dynamic` calls whose sizes are not known are looked at as well: these are alike if they are the same
    expressions, and sizes that are computed are constants.
    """

    def __init__(
        self, module: fx.GraphModule, allowed: Scope | None = None, *, dynamic: bool = False
    ) -> None:
        self.module = module
        self.allowed = allowed
        self.dynamic = dynamic
        self.order = {node: place for place, node in enumerate(module.graph.nodes)}
        self.behind: dict[fx.Node, int] = {}
        """For each node the set of those it depends on, a bit for each place in the order."""
        self.constant: set[fx.Node] = set()
        self._keys: dict[fx.Node, Any] = {}
        for node in module.graph.nodes:
            inputs = node.all_input_nodes
            behind = 0
            for source in inputs:
                behind |= self.behind[source] | 1 << self.order[source]
            self.behind[node] = behind
            if node.op == "get_attr" or (_computes(node) and all(one in self.constant for one in inputs)):
                self.constant.add(node)
            if dynamic and isinstance(node.meta.get("val"), torch.SymInt):
                self.constant.add(node)

    def depends(self, node: fx.Node, on: int) -> bool:
        """Whether a node depends on one of a set."""
        return bool(self.behind[node] & on)

    def bits(self, nodes: Iterable[fx.Node]) -> int:
        """A set of nodes."""
        found = 0
        for node in nodes:
            found |= 1 << self.order[node]
        return found

    def operands(self, node: fx.Node) -> list[fx.Node]:
        """The operands that are not constant, one for each place where it stands."""
        found: list[fx.Node] = []
        fx.node.map_arg((node.args, node.kwargs), lambda one: found.append(one))
        return [one for one in found if one not in self.constant]

    def key(self, node: fx.Node) -> Any:
        """What calls that differ in their operands only have in common; `None` for what stays by itself."""
        if node not in self._keys:
            self._keys[node] = self._key(node)
        return self._keys[node]

    def like(self, node: fx.Node) -> Any:
        """Operator, attributes and weights as a key, whatever the sizes."""
        return (node.target, self._plain(node.args), self._plain(node.kwargs))

    def _key(self, node: fx.Node) -> Any:
        if node.op != "call_function" or node in self.constant:
            return None
        operator = operator_of(node.target)
        if node.target is not getitem and (operator is None or operator.random):
            return None
        if self.allowed is not None and not self.allowed(node):
            return None
        sizes = _sizes(node.meta.get("val"), self.dynamic)
        ways = [_sizes(one.meta.get("val"), self.dynamic) for one in self.operands(node)]
        if sizes is None or not ways or None in ways:
            return None
        return (*self.like(node), sizes, tuple(ways))

    def _plain(self, value: Any) -> Any:
        """An argument as a key: constants are themselves, other operands all the same."""
        if isinstance(value, fx.Node):
            if value.op == "get_attr":
                return ("weight", id(attribute(self.module, str(value.target))))
            return ("constant", value) if value in self.constant else "operand"
        if isinstance(value, list | tuple):
            return tuple(self._plain(one) for one in value)
        if isinstance(value, dict):
            return tuple((name, self._plain(one)) for name, one in sorted(value.items()))
        return (type(value).__name__, repr(value))


def regions(calls: Calls) -> Iterator[Region]:
    """The largest subnetworks that occur several times, those that begin first in the graph first."""
    taken: set[fx.Node] = set()
    for seed in _seeds(calls):
        free = tuple(node for node in seed if node not in taken)
        if len(free) < 2:
            continue
        for found in parted(calls, _Growth(calls, taken).grown(free), lambda bundle: False):
            taken.update(found.nodes)
            yield found


def of_dynamic_sizes(calls: Calls) -> Iterator[Bundle]:
    """Calls that share a weight, and whose sizes are not known."""
    groups: dict[Any, list[fx.Node]] = {}
    for node in calls.order:
        weighted = node.op == "call_function" and any(one.op == "get_attr" for one in node.all_input_nodes)
        if weighted and node not in calls.constant and _sizes(node.meta.get("val")) is None:
            groups.setdefault(calls.like(node), []).append(node)
    yield from (tuple(group) for group in groups.values() if len(group) > 1)


def parted(calls: Calls, bundles: Sequence[Bundle], refused: Callable[[Bundle], bool]) -> Iterator[Region]:
    """What is left of some bundles without those that are refused: the parts that hang together."""
    left = [bundle for bundle in bundles if not refused(bundle)]
    home = {node: i for i, bundle in enumerate(left) for node in bundle}
    group = list(range(len(left)))

    def root(i: int) -> int:
        while group[i] != i:
            i = group[i]
        return i

    for i, bundle in enumerate(left):
        for source in calls.operands(bundle[0]):
            if source in home:
                group[root(i)] = root(home[source])
    for first in dict.fromkeys(root(i) for i in range(len(left))):
        part = [bundle for i, bundle in enumerate(left) if root(i) == first]
        wrong = _offending(calls, part)
        if wrong:
            yield from parted(calls, part, wrong.__contains__)
        else:
            yield _region(calls, part)


def _region(calls: Calls, bundles: Sequence[Bundle]) -> Region:
    """The region of bundles of which none offends."""
    ordered = tuple(sorted(bundles, key=lambda bundle: max(calls.order[node] for node in bundle)))
    own = set(ordered)
    inside = {node for bundle in ordered for node in bundle}
    ways = (way for bundle in ordered for way in _ways(calls, bundle))
    entries = tuple(dict.fromkeys(way for way in ways if way not in own and len(set(way)) > 1))
    exits = tuple(b for b in ordered if any(user not in inside for node in b for user in node.users))
    return Region(ordered, entries, exits)


def _ways(calls: Calls, bundle: Bundle) -> Iterator[Bundle]:
    """What a call is applied to, operand by operand, in every copy."""
    return zip(*(calls.operands(node) for node in bundle), strict=True)


def _offending(calls: Calls, bundles: Collection[Bundle]) -> set[Bundle]:
    """Bundles that cannot be part of one call with the others.

    They read another copy, or what is computed outside from the others, or one of several results of a call
    outside; or they have several results themselves, and one of these is read outside.
    """
    own = set(bundles)
    inside = {node for bundle in bundles for node in bundle}
    everything = calls.bits(inside)

    def outside(one: fx.Node) -> bool:
        val = one.meta.get("val")
        return (
            isinstance(val, torch.Tensor)
            and val.ndim > 0
            and one not in inside
            and not calls.depends(one, everything)
        )

    wrong = {b for b in bundles if any(w not in own and not all(map(outside, w)) for w in _ways(calls, b))}
    several = (b for b in bundles if not isinstance(b[0].meta["val"], torch.Tensor))
    return wrong | {b for b in several if any(user not in inside for node in b for user in node.users)}


def _seeds(calls: Calls) -> Iterator[Bundle]:
    """Calls that share a weight and do not depend on one another."""
    groups: dict[Any, list[fx.Node]] = {}
    for node in calls.order:
        if node.op == "call_function" and any(one.op == "get_attr" for one in node.all_input_nodes):
            key = calls.key(node)
            if key is not None:
                groups.setdefault(key, []).append(node)
    for group in groups.values():
        levels: dict[int, list[fx.Node]] = {}  # a layer that a copy calls twice: first calls, second calls
        together = calls.bits(group)
        for node in group:
            levels.setdefault((calls.behind[node] & together).bit_count(), []).append(node)
        yield from (tuple(level) for level in levels.values() if len(level) > 1)


class _Growth:
    """Grows a region from one bundle."""

    def __init__(self, calls: Calls, taken: set[fx.Node]) -> None:
        self.calls = calls
        self.taken = taken
        self.bundles: dict[Bundle, None] = {}
        self.inside: set[fx.Node] = set()

    def grown(self, seed: Bundle) -> list[Bundle]:
        """The largest region around a bundle: operands first, then users, one after the other."""
        waiting = [seed]
        while waiting:
            bundle = waiting.pop(0)
            if not self._fits(bundle):
                continue
            added = [bundle]
            if bundle[0].target is getitem:  # goes with what has the results
                added = [*(way for way in _ways(self.calls, bundle) if way not in self.bundles), bundle]
            if all(map(self._fits, added[:-1])) and self._joins(added):
                for one in added:
                    self.bundles[one] = None
                    self.inside.update(one)
                    waiting += [way for way in _ways(self.calls, one) if way not in self.bundles]
                for one in added:
                    waiting += self._users(one)
        return list(self.bundles)

    def _joins(self, added: Sequence[Bundle]) -> bool:
        """Whether nothing outside would lie between two calls of the region."""
        together = {**self.bundles, **dict.fromkeys(added)}
        wrong = _offending(self.calls, together)
        return all(isinstance(bundle[0].meta["val"], tuple | list) for bundle in wrong)  # results come later

    def _users(self, bundle: Bundle) -> Iterator[Bundle]:
        """The users of the first copy with the calls that stand for them in the others."""
        for user in sorted(bundle[0].users, key=self.calls.order.__getitem__):
            key = self.calls.key(user)
            place = self._place(user, bundle[0])
            found = [user]
            for node in bundle[1:]:
                like = (
                    other
                    for other in sorted(node.users, key=self.calls.order.__getitem__)
                    if other not in found
                    and self.calls.key(other) == key
                    and self._place(other, node) == place
                )
                found += [other for other in [next(like, None)] if other is not None]
            if key is not None and len(found) == len(bundle):
                yield tuple(found)

    def _place(self, user: fx.Node, node: fx.Node) -> list[int]:
        return [i for i, one in enumerate(self.calls.operands(user)) if one is node]

    def _fits(self, bundle: Bundle) -> bool:
        """Whether all copies have this call, none of them depends on another, and none is used already."""
        if bundle in self.bundles or len(set(bundle)) < len(bundle):
            return False
        key = self.calls.key(bundle[0])
        if key is None or any(self.calls.key(node) != key for node in bundle[1:]):
            return False
        if any(node in self.inside or node in self.taken for node in bundle):
            return False
        all_of = self.calls.bits(bundle)
        return not any(self.calls.depends(node, all_of) for node in bundle)


def _computes(node: fx.Node) -> bool:
    """Whether a node is an operator that gives the same for the same operands."""
    operator = operator_of(node.target) if node.op == "call_function" else None
    return node.target is getitem or (operator is not None and not operator.random)


def _sizes(value: Any, dynamic: bool = False) -> Any:
    """Element type and sizes of a value as a key; `None` where they are not known, or dynamic."""
    if isinstance(value, list | tuple):
        parts = tuple(_sizes(one, dynamic) for one in value)
        return None if None in parts else parts
    if not isinstance(value, torch.Tensor):
        return None
    if not dynamic and not all(isinstance(size, int) for size in value.shape):
        return None
    return (value.dtype, tuple(size if isinstance(size, int) else str(size) for size in value.shape))
