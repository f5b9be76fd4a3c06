"""Calls of a net on moved copies of one value, whose results are moved copies of one result."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from tdsl.passes.commute.moves import moved
from tdsl.passes.merge.call_regions import Calls, Region, parted, regions
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from tdsl.engine.driver import Scope
from tdsl.engine.edit import Editor
from tdsl.engine.journal import Journal
from tdsl.engine.passes import GraphPass, graph_pass
from tdsl.engine.rule import Replacement, Rule
from tdsl.engine.staged import CannotStage
from tdsl.engine.workspace import Workspace
from tdsl.errors import TdslError
from tdsl.ops.targets import operator_of
from tdsl.symmetry.action import Action
from tdsl.symmetry.infer import infer
from tdsl.symmetry.probe import relative
from tdsl.symmetry.transfer_moves import factored
from tdsl.verify.wide import widened_graph, widened_value

MOVES = frozenset({"flip", "roll", "rot90", "permute", "index_select"})
"""Operators that a copy may be made by."""

MOST_PLACES = 1 << 22
"""Larger values are not followed place by place."""

TOLERANCE = 1e-13
"""Largest relative defect in float64, which is rounding: weights have to be tied to the last bit."""

VARIES = 1e-6
"""Results that differ by less from one value to another say nothing."""


@graph_pass
class MergeOrbits(GraphPass):
    """Call a net once where it is called on several flips, turns or orders of one value, and is equivariant.

    What acts on the results is inferred, through weights as well (channels may be permuted), and measured in
    float64 on random values. It takes the place of the other calls; averages of what is then equal are rules.
    Axes whose size is dynamic must not be acted on, at any edge, so that what is found holds for every size.
    Test-time augmentation of an equivariant net ends so (Cohen & Welling, 2016).
    """

    name = "merge.orbits"

    def rewrite(self, module: fx.GraphModule, journal: Journal, scope: Scope | None = None) -> int:
        """One call of a region at a time is replaced, until none is left that another one tells."""
        work = Workspace(module)
        count = 0
        if not any(_is_move(node) for node in module.graph.nodes):
            return count
        in_vain: set[tuple[fx.Node, fx.Node]] = set()
        while work.typed and not journal.full and self._one(work, journal, scope, in_vain):
            count += 1
        if count:
            module.graph.lint()
        return count

    def _one(
        self, work: Workspace, journal: Journal, scope: Scope | None, in_vain: set[tuple[fx.Node, fx.Node]]
    ) -> bool:
        calls = Calls(work.module, scope, dynamic=True)
        for region in regions(calls):
            for second in range(1, region.copies):
                for first in range(second):
                    pair = (region.bundles[0][first], region.bundles[0][second])
                    if pair not in in_vain and self._apply(work, calls, region, first, second, journal):
                        return True
                    in_vain.add(pair)
        return False

    def _apply(
        self, work: Workspace, calls: Calls, region: Region, first: int, second: int, journal: Journal
    ) -> bool:
        """Have one call's results follow from another's; whether they do."""
        told = _told(work, calls, region, first, second)
        if told is None:
            return False
        region, acting, found = told
        try:
            values = tuple(moved(work, way[first], one) for way, one in zip(region.exits, found, strict=True))
        except CannotStage:
            return False
        outputs = tuple(way[second] for way in region.exits)
        own = [bundle[second] for bundle in region.bundles]
        moves = [node for way in region.entries for node in origins(way[second])[:-1] if _only_for(node, own)]
        matched = (*own, *moves)
        replacement = Replacement(Rule(self.name, ()), outputs, values, matched)
        created = Editor(work).apply(replacement, journal.next_number).created
        journal.note(
            self.name,
            matched[0],
            matched,
            saved_nodes=len(matched) - len(created),
            created=created,
            details={"inputs": ", ".join(map(str, acting)), "results": ", ".join(map(str, found))},
        )
        return True


def _is_move(node: fx.Node) -> bool:
    operator = operator_of(node.target) if node.op == "call_function" else None
    return operator is not None and operator.name in MOVES


def is_floating(node: fx.Node) -> bool:
    """Whether a node gives one tensor of floating-point numbers."""
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.is_floating_point()


def between(work: Workspace, first: fx.Node, second: fx.Node) -> Action | None:
    """What makes the second value of the first, where both are moved copies of one; `None` elsewhere."""
    one, other = origins(first), origins(second)
    root = next((node for node in one if node in other), None)
    if root is None:
        return None
    before, after = _action(work, root, one), _action(work, root, other)
    return None if before is None or after is None else before.inverse().then(after)


def origins(node: fx.Node) -> list[fx.Node]:
    """A value and those that it is a moved copy of, one after the other."""
    found = [node]
    while _is_move(found[-1]):
        source, *others = found[-1].all_input_nodes
        if source is not found[-1].args[0] or any(one.op != "get_attr" for one in others):
            break
        found.append(source)
    return found


def _only_for(node: fx.Node, own: Sequence[fx.Node]) -> bool:
    """Whether nothing but some calls reads a move, or moves of it."""
    return all(user in own or (_is_move(user) and _only_for(user, own)) for user in node.users)


def _action(work: Workspace, root: fx.Node, chain: Sequence[fx.Node]) -> Action | None:
    """What the moves from a root on do to it, read off the numbers of its places.

    `None` where they act on an axis whose size is dynamic. Such an axis has more places here than any number
    in a move, so that no move leaves it alone by chance.
    """
    moves = chain[: chain.index(root)]
    most = max((_largest(work, node) for node in moves), default=0)
    sizes = root.meta["val"].shape
    shape = [size if isinstance(size, int) else most + 2 + axis for axis, size in enumerate(sizes)]
    if prod(shape) > MOST_PLACES:
        return None
    places = torch.arange(prod(shape)).reshape(shape)
    for node in reversed(moves):

        def known(one: fx.Node, places: Tensor = places) -> Tensor:
            return work.tensor(one) if one.op == "get_attr" else places

        assert callable(node.target)
        places = node.target(*fx.node.map_arg(node.args, known), **fx.node.map_arg(node.kwargs, known))
    found = factored(places) if list(places.shape) == shape else None
    return found if found is not None and _still(found, sizes) else None


def _largest(work: Workspace, move: fx.Node) -> int:
    """The largest number in the arguments of a move, and the largest size of its tensors of places."""
    found = [0]

    def known(one: fx.Node) -> fx.Node:
        found.extend(work.tensor(one).shape if one.op == "get_attr" else ())
        return one

    leaves = pytree.tree_leaves(fx.node.map_arg((move.args, move.kwargs), known))
    return max(*found, *(abs(leaf) for leaf in leaves if isinstance(leaf, int)), 0)


def _first_sizes(node: fx.Node) -> Sequence[int | torch.SymInt]:
    """The sizes of a value, of the first one where there are several."""
    value = node.meta["val"]
    while isinstance(value, list | tuple):
        value = value[0]
    shape: Sequence[int | torch.SymInt] = value.shape
    return shape


def _still(acting: Action | None, sizes: Sequence[int | torch.SymInt]) -> bool:
    """Whether axes whose sizes are dynamic are left alone."""
    if acting is None:
        return True
    moved = {axis for axis, _ in acting.parts} | {a for a, b in enumerate(acting.order) if a != b}
    return all(isinstance(sizes[axis], int) for axis in moved)


def _told(
    work: Workspace, calls: Calls, region: Region, first: int, second: int
) -> tuple[Region, list[Action], list[Action]] | None:
    """The part of a region at whose results one call tells another's, and what acts on inputs and results.

    Operators that no action passes are left out, and what is behind them. `None` where nothing is left.
    """
    if not all(is_floating(node) for way in (*region.entries, *region.exits) for node in way):
        return None
    ways = [between(work, way[first], way[second]) for way in region.entries]
    acting = [one for one in ways if one is not None]
    if len(acting) < len(ways) or not acting:
        return None
    alone, known = _alone(work.module, calls, region, first)
    given = [isinstance(one.meta["val"], Tensor) for one in alone.graph.find_nodes(op="placeholder")]
    free = sum(given) - len(acting)
    into: list[Action | None] = [*acting, *(None for _ in range(free))]
    try:
        inference = infer(alone, into)
    except TdslError:
        return None
    lost = {node for node, step in inference.steps.items() if step.strength not in ("structural", "weights")}
    if lost:
        refused = {bundle for bundle in region.bundles if known[bundle[first]] in lost}
        parts = parted(calls, region.bundles, refused.__contains__)
        return next((one for part in parts if (one := _told(work, calls, part, first, second))), None)
    found = [one for one in inference.outputs if one is not None and one.permutes]
    still = all(_still(step.action, _first_sizes(step.node)) for step in inference.steps.values())
    if len(found) < len(region.exits) or not still or _measured(alone, into, found) > TOLERANCE:
        return None
    return region, acting, found


def _alone(
    module: fx.GraphModule, calls: Calls, region: Region, copy: int
) -> tuple[fx.GraphModule, dict[fx.Node, fx.Node]]:
    """One call as a module, what is moved first, then what all calls read; and its nodes, by those here."""
    graph = fx.Graph()
    known: dict[fx.Node, fx.Node] = {}

    def given(node: fx.Node) -> None:
        known[node] = graph.placeholder(f"given_{len(known)}")
        known[node].meta["val"] = node.meta["val"]

    def copied(node: fx.Node) -> fx.Node:
        if node not in known:
            known[node] = graph.node_copy(node, copied)
        return known[node]

    for way in region.entries:
        given(way[copy])
    inside = {bundle[copy] for bundle in region.bundles}
    own = sorted(inside, key=calls.order.__getitem__)
    shared = dict.fromkeys(
        source
        for node in own
        for source in calls.operands(node)
        if source not in inside and source not in known
    )
    for source in shared:
        given(source)
    for node in own:
        for source in node.all_input_nodes:
            if isinstance(source.meta.get("val"), torch.SymInt) and source not in known:
                given(source)
    for node in own:
        copied(node)
    graph.output(tuple(known[way[copy]] for way in region.exits))
    return fx.GraphModule(module, graph), known


def _measured(alone: fx.GraphModule, into: Sequence[Action | None], out: Sequence[Action]) -> float:
    """The largest defect on random values, in float64; infinite where results do not vary."""
    generator = torch.Generator().manual_seed(0)
    wide = widened_graph(alone)
    samples = [
        [_drawn(node.meta["val"], generator) for node in alone.graph.find_nodes(op="placeholder")]
        for _ in range(2)
    ]
    with torch.no_grad():
        plain, other = (fx.Interpreter(wide).run(*sample) for sample in samples)
        waiting = iter(into)
        acting = [next(waiting) if isinstance(value, Tensor) else None for value in samples[0]]
        moved = [
            value if one is None else one.apply(value) for value, one in zip(samples[0], acting, strict=True)
        ]
        results = fx.Interpreter(wide).run(*moved)
    defects = [
        relative(found, one.apply(value)) for found, value, one in zip(results, plain, out, strict=True)
    ]
    varies = all(relative(one, two) > VARIES for one, two in zip(plain, other, strict=True))
    return max(defects) if varies else float("inf")


def _drawn(like: Tensor | torch.SymInt, generator: torch.Generator) -> Any:
    """A random value of the sizes of the example; a size is that of the example."""
    if isinstance(like, torch.SymInt):
        return _of_example(like)
    shape = [_of_example(size) for size in like.shape]
    if like.is_floating_point():
        return widened_value(torch.randn(shape, generator=generator))
    return torch.zeros(shape, dtype=like.dtype)


def _of_example(size: int | torch.SymInt) -> int:
    return size if isinstance(size, int) else int(size.node.hint)


__all__ = ["MergeOrbits", "between", "is_floating", "origins"]
