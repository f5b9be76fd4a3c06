"""A net called on moved copies of one value that were joined along the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tdsl.passes.commute.moves import each_node, moved, replaced
from tdsl.passes.merge.call_regions import Calls
from tdsl.passes.merge.orbits import TOLERANCE, VARIES, between, is_floating, origins
from torch import Tensor, fx

from tdsl.engine.census import macs_of
from tdsl.engine.driver import Scope
from tdsl.engine.journal import Journal
from tdsl.engine.passes import GraphPass, graph_pass
from tdsl.engine.stage import stage
from tdsl.engine.staged import CannotStage, Staged
from tdsl.engine.workspace import Workspace
from tdsl.errors import TdslError
from tdsl.ops import OPERATORS
from tdsl.ops.targets import calls, operator_of
from tdsl.symmetry.action import Action
from tdsl.symmetry.infer import infer
from tdsl.symmetry.probe import relative
from tdsl.verify.wide import widened_graph, widened_value

MULTIPLIED, MOVED, JOINED = 0.04, 1.5, 0.3
"""Nanoseconds for a multiply–accumulate of a convolution, a number that is reflected or turned, and a number
that is joined, in onnxruntime on one thread."""

RESIZING = {"reshape": 1, "expand": 1}
"""Operators that are told the size of the batch, and where."""


@dataclass(frozen=True)
class Joined:
    """Moved copies of one value side by side: blocks along the batch, or each image beside its copies."""

    node: fx.Node
    copies: tuple[fx.Node, ...]
    first: fx.Node
    """The copy that the net will be called on: one that is not moved, if there is such."""
    acting: tuple[Action, ...]
    """What makes each copy of that one."""
    interleaved: bool
    between: tuple[fx.Node, ...] = ()
    """Nodes that join them before the last one does."""

    @property
    def images(self) -> int:
        """How many images one copy has."""
        count: int = self.first.meta["val"].shape[0]
        return count


@graph_pass
class MergeCopies(GraphPass):
    """Call a net on one value in the place of flips, turns and rolls of it that are joined along the batch.

    Test-time augmentation of an equivariant net, spelt `net(cat([x, x.flip(-1)]))`. What acts on the results
    is inferred, through weights as well; the results for the other copies are those of one of them acted on
    (Cohen & Welling, 2016). What that needs is measured, too, in float64 on random values: that copies pass
    the net without seeing one another, and that it is equivariant up to rounding. Where a part of the net
    is, that part is called once. Sizes have to be numbers.
    """

    name = "merge.copies"

    def rewrite(self, module: fx.GraphModule, journal: Journal, scope: Scope | None = None) -> int:
        """Every place where copies are joined once, operands first."""
        if not any(calls(node, "concat", "stack") for node in module.graph.nodes):
            return 0

        def act(work: Workspace, node: fx.Node) -> bool:
            joined = _joined(work, node)
            return joined is not None and _called_once(work, Calls(module, scope), joined, journal)

        return each_node(module, journal, act)


def _joined(work: Workspace, node: fx.Node) -> Joined | None:
    """The copies that a value is put together from, where they are moved copies of the first one."""
    if node.op != "call_function" or not is_floating(node):
        return None
    inner, interleaved = node, False
    rank = node.meta["val"].ndim
    if calls(node, "reshape") and calls(node.args[0], "stack"):
        inner = node.args[0]
        if inner.args[1] not in (-rank - 1, -rank) or len(inner.all_input_nodes) < 2:
            return None
        interleaved = inner.args[1] == -rank
    elif not calls(node, "concat") or node.args[1] != -rank:
        return None
    copies: Any = inner.args[0]
    first = min(copies, key=lambda one: len(origins(one)))
    sizes = first.meta["val"].shape
    wanted = [len(copies) * sizes[0], *sizes[1:]]
    if len(copies) < 2 or any(not isinstance(size, int) for size in sizes):
        return None
    if list(node.meta["val"].shape) != wanted or sizes[0] == 0:
        return None
    acting = [between(work, first, one) for one in copies]
    found = [one for one in acting if one is not None and _keeps_images(one)]
    if len(found) < len(copies):
        return None
    middle = () if inner is node else (inner,)
    return Joined(node, tuple(copies), first, tuple(found), interleaved and sizes[0] > 1, middle)


def _keeps_images(acting: Action) -> bool:
    """Whether an action moves what is in an image, and no image."""
    return acting.permutes and acting.order[0] == 0 and acting.part(0) is None


def _called_once(work: Workspace, found: Calls, joined: Joined, journal: Journal) -> bool:
    """Replace the results for all copies by those for the first one, acted on."""
    nodes = _behind(found, joined)
    acting = _equivariant(work, joined, nodes)
    exits = [node for node in acting if any(user not in acting for user in node.users)]
    if (
        not acting
        or not _pays(work, joined, acting, exits)
        or not _same(work, joined, list(acting), exits, acting)
    ):
        return False
    known: dict[fx.Node, Any] = {joined.node: joined.first}
    for node in acting:
        args, kwargs = _arguments(node, joined)
        args, kwargs = fx.node.map_arg((args, kwargs), lambda one: known.get(one, one))
        known[node] = Staged(node.target, tuple(args), dict(kwargs))
    try:
        values = tuple(
            _together(work, joined, node, [moved(work, known[node], one) for one in acting[node]])
            for node in exits
        )
    except CannotStage:
        return False
    matched = (*acting, joined.node, *joined.between)
    return replaced(work, MergeCopies.name, tuple(exits), values, matched, journal)


def _behind(found: Calls, joined: Joined) -> list[fx.Node]:
    """The calls that read the copies and nothing else that is known at run time alone, in order."""
    inside = {joined.node}
    nodes = []
    count = joined.node.meta["val"].shape[0]
    for node in found.module.graph.nodes:
        operator = operator_of(node.target) if node.op == "call_function" else None
        value = node.meta.get("val")
        if operator is None or operator.random or not isinstance(value, Tensor):
            continue
        if not any(one in inside for one in node.all_input_nodes) or not value.ndim:
            continue
        if any(one not in inside and one not in found.constant for one in node.all_input_nodes):
            continue
        if value.shape[0] != count or any(not isinstance(size, int) for size in value.shape):
            continue
        if operator.name in RESIZING and _told(node) != count:
            continue
        if found.allowed is None or found.allowed(node):
            inside.add(node)
            nodes.append(node)
    return nodes


def _told(node: fx.Node) -> Any:
    """The size of the batch that a call is told."""
    operator = operator_of(node.target)
    assert operator is not None
    sizes: Any = node.args[RESIZING[operator.name]]
    return sizes[0]


def _arguments(node: fx.Node, joined: Joined) -> tuple[Any, Any]:
    """The arguments of a call on one copy."""
    operator = operator_of(node.target)
    assert operator is not None
    place = RESIZING.get(operator.name)
    if place is None:
        return node.args, node.kwargs
    args = list(node.args)
    sizes: Any = args[place]
    args[place] = [joined.images, *sizes[1:]]
    return tuple(args), node.kwargs


def _pays(
    work: Workspace,
    joined: Joined,
    acting: dict[fx.Node, tuple[Action, ...]],
    exits: Sequence[fx.Node],
) -> bool:
    """Whether fewer products are worth more than copies of results in the place of copies of one value."""
    copies = len(joined.copies)
    saved = MULTIPLIED * macs_of(work, tuple(acting)) * (copies - 1) / copies
    before = _moving(joined.node, joined.acting)
    return saved + before > sum(_moving(node, acting[node]) for node in exits)


def _moving(node: fx.Node, acting: Sequence[Action]) -> float:
    """What it takes to act on a value once for each copy, and to join them, in nanoseconds."""
    moves = sum(bool(one.parts) or one.reorders for one in acting)
    numbers: int = node.meta["val"].numel()
    return numbers * (MOVED * moves / len(acting) + JOINED)


def _one_copy(
    module: fx.GraphModule, joined: Joined, nodes: Sequence[fx.Node], *, apart: bool
) -> tuple[fx.GraphModule, dict[fx.Node, fx.Node]]:
    """The calls as a module of one copy, or of all of them; and its nodes, by those here."""
    graph = fx.Graph()
    first = graph.placeholder("value")
    first.meta["val"] = (joined.first if apart else joined.node).meta["val"]
    known = {joined.node: first}

    def copied(node: fx.Node) -> fx.Node:
        if node not in known:
            known[node] = graph.node_copy(node, copied)
        return known[node]

    for node in nodes:
        made = copied(node)
        if apart:
            args, kwargs = _arguments(node, joined)
            made.args, made.kwargs = fx.node.map_arg((args, kwargs), copied)
            made.meta["val"] = node.meta["val"][: joined.images]
    graph.output(tuple(known[node] for node in nodes))
    return fx.GraphModule(module, graph), known


def _equivariant(
    work: Workspace, joined: Joined, nodes: Sequence[fx.Node]
) -> dict[fx.Node, tuple[Action, ...]]:
    """What acts on the result of each call for each copy, as far as the net is equivariant."""
    if not nodes:
        return {}
    alone, known = _one_copy(work.module, joined, nodes, apart=True)
    good: dict[fx.Node, list[Action]] = {node: [] for node in nodes}
    for acting in joined.acting:
        try:
            steps = infer(alone, [acting]).steps
        except TdslError:
            return {}
        for node in nodes:
            step = steps.get(known[node])
            before = [one for one in node.all_input_nodes if one in known and one in nodes]
            exact = step is not None and step.strength in ("structural", "weights")
            passed = exact and step is not None and step.action is not None and _keeps_images(step.action)
            if node in good and passed and all(one in good for one in before):
                assert step is not None and step.action is not None
                good[node].append(step.action)
            else:
                good.pop(node, None)
    return {node: tuple(acting) for node, acting in good.items()}


def _together(work: Workspace, joined: Joined, node: fx.Node, values: Sequence[Any]) -> Any:
    """The results for all copies side by side, as the copies were."""
    rank = node.meta["val"].ndim
    if not joined.interleaved:
        return stage(work, OPERATORS["concat"], {"tensors": list(values), "dim": -rank})
    stacked = stage(work, OPERATORS["stack"], {"tensors": list(values), "dim": -rank})
    return stage(work, OPERATORS["reshape"], {"x": stacked, "shape": list(node.meta["val"].shape)})


def _same(
    work: Workspace,
    joined: Joined,
    nodes: Sequence[fx.Node],
    exits: Sequence[fx.Node],
    acting: dict[fx.Node, tuple[Action, ...]],
) -> bool:
    """Whether results for all copies are those for one acted on, measured on random values; and vary."""
    generator = torch.Generator().manual_seed(0)
    apart, _ = _one_copy(work.module, joined, nodes, apart=True)
    together, _ = _one_copy(work.module, joined, nodes, apart=False)
    sizes = joined.first.meta["val"].shape
    first, other = (widened_value(torch.randn(sizes, generator=generator)) for _ in range(2))
    dim = 1 if joined.interleaved else 0
    copies = torch.stack([one.apply(first) for one in joined.acting], dim).flatten(0, 1)
    with torch.no_grad():
        plain, varied = (fx.Interpreter(widened_graph(apart)).run(value) for value in (first, other))
        whole = fx.Interpreter(widened_graph(together)).run(copies)
    for place, node in enumerate(nodes):
        if node in exits:
            moves = torch.stack([one.apply(plain[place]) for one in acting[node]], dim).flatten(0, 1)
            if moves.shape != whole[place].shape or relative(whole[place], moves) > TOLERANCE:
                return False
            if relative(plain[place], varied[place]) <= VARIES:
                return False
    return True


__all__ = ["MergeCopies"]
