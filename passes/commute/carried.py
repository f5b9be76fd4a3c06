"""Actions carried past the operators that read them, by what is known of each operator."""

from __future__ import annotations

import operator as python_operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tdsl.passes.commute.follows import followers
from tdsl.passes.commute.moves import Held, action_of, each_node, held_by, moved, replaced
from torch import Tensor, fx

from tdsl.engine.driver import Scope
from tdsl.engine.journal import Journal
from tdsl.engine.passes import GraphPass, graph_pass
from tdsl.engine.staged import CannotStage, Staged
from tdsl.engine.workspace import Workspace
from tdsl.ops.targets import calls, operator_of
from tdsl.symmetry.action import Action
from tdsl.symmetry.element import Linear, Permutation
from tdsl.symmetry.infer import passing

MOVEMENTS = frozenset(
    {"permute", "reshape", "squeeze", "unsqueeze", "flip", "roll", "rot90", "index_select"}
    | {"channel_shuffle", "pixel_shuffle", "pixel_unshuffle"}
)
"""Operators that rules carry past factors and matrices, so that these stay in front of them."""


@dataclass(frozen=True)
class Acted:
    """A value as another one acted on: the root, what acts on it, and the nodes that do, last one first."""

    root: fx.Node
    action: Action
    chain: tuple[fx.Node, ...]
    held: tuple[Held, ...]


@graph_pass
class Carried(GraphPass):
    """Carry flips, rolls, other orders of places, factors and orthogonal matrices past what reads them.

    What each operator does with them is what inference knows of it, for any weights: they come out along
    another axis, or end in a sum, at keys beside values, at their inverse. Operands that are acted on alike
    pass together (a mask with its tokens); constants beside them, and the last layers of other operands, are
    made to follow; a layer that reads them takes them into its weight. Nothing is gained by itself, so run it
    in an `attempt`. Axes that are acted on have to have known sizes.
    """

    name = "commute.carried"

    def rewrite(self, module: fx.GraphModule, journal: Journal, scope: Scope | None = None) -> int:
        """Every node once, operands first; what is made anew is behind it."""

        def act(work: Workspace, node: fx.Node) -> bool:
            called = node.op == "call_function" and (scope is None or scope(node))
            return called and _carried(work, node, journal)

        return each_node(module, journal, act)


def _carried(work: Workspace, node: fx.Node, journal: Journal) -> bool:
    """Carry what acts on the operands of a node past it, or join it with what the node does."""
    runs = {one: found for one in node.all_input_nodes if (found := _runs(work, one))}
    if not runs:
        return False
    own = action_of(work, node)
    if own is not None and own[0] in runs:
        return _joined(work, node, own[1], runs[own[0]][0], journal)
    outputs = _results(node)
    if not outputs:
        return False
    tried = [{one: found[0] for one, found in runs.items()}, {one: found[-1] for one, found in runs.items()}]
    return any(
        _past(work, node, operands, outputs, journal)
        for operands in (tried if tried[0] != tried[1] else tried[:1])
    )


def _past(
    work: Workspace,
    node: fx.Node,
    operands: Mapping[fx.Node, Acted],
    outputs: Mapping[fx.Node, int],
    journal: Journal,
) -> bool:
    """Carry what acts on the operands past the node that reads them."""
    operands = {one: acted for one, acted in operands.items() if not _stays(node, one, acted.action)}
    if not operands:
        return False
    acting = {one: acted.action for one, acted in operands.items()}
    for follow in followers(work, node, acting):
        results = passing(work.module, node, {**acting, **follow.acting}, follow.alike)
        if results is not None:
            break
    else:
        return False
    if follow.after is not None:
        results = tuple(one and one.then(follow.after) for one in results)
    if any(not _can_be_made(results[place], one) for one, place in outputs.items()):
        return False
    if calls(node, "pixel_shuffle") and _orders_pixels(acting, results[0]):
        return False
    plain: dict[fx.Node, Any] = {one: acted.root for one, acted in operands.items()}
    plain.update(follow.values)
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda one: _instead(plain, one))
    call = Staged(node.target, tuple(args), dict(kwargs))
    held = [one for acted in operands.values() for one in acted.held]
    values = []
    try:
        for one, place in outputs.items():
            value = call if one is node else Staged(python_operator.getitem, (call, place), {})
            values.append(moved(work, value, results[place], held))
    except CannotStage:
        return False
    chains = [one for acted in operands.values() for one in acted.chain]
    matched = tuple(dict.fromkeys((*outputs, node, *follow.layers, *chains)))
    return replaced(work, Carried.name, tuple(outputs), tuple(values), matched, journal)


def _orders_pixels(acting: Mapping[fx.Node, Action], result: Action | None) -> bool:
    """Whether an order of channels would be one of pixels: it stays where the layer before can take it."""
    pixels = [one for axis, one in result.parts if axis >= result.rank - 2] if result is not None else []
    channels = any(moving.part(moving.rank - 3) is not None for moving in acting.values())
    return channels and any(isinstance(one, Permutation) for one in pixels)


def _stays(node: fx.Node, operand: fx.Node, acting: Action) -> bool:
    """Whether rules bring it the other way: more than a move stays in front of moves, and of attention."""
    operator = operator_of(node.target)
    name = operator.name if operator is not None else ""
    if name in ("squeeze", "unsqueeze") and all(isinstance(one, Linear) for _, one in acting.parts):
        return False
    at_values = name == "attention" and operand is node.args[2]
    return (name in MOVEMENTS or at_values) and not acting.permutes


def _joined(work: Workspace, node: fx.Node, own: Action, before: Acted, journal: Journal) -> bool:
    """One run of actions in the place of a longer one."""
    both = before.action.then(own)
    if not _can_be_made(both, node):
        return False
    value = moved(work, before.root, both, before.held)
    if _length(value) > len(before.chain):
        return False
    return replaced(work, Carried.name, (node,), (value,), (node, *before.chain), journal)


def _runs(work: Workspace, node: fx.Node) -> list[Acted]:
    """A value as others acted on: by the whole run of actions behind it, and by the last ones of one kind."""
    found: list[Acted] = []
    chain: list[fx.Node] = []
    held: list[Held] = []
    total: Action | None = None
    while (last := action_of(work, node)) is not None:
        source, own = last
        if total is not None and own.permutes != total.permutes and not found:
            found.append(Acted(node, total, tuple(chain), tuple(held)))
        chain.append(node)
        held += held_by(node, own)
        total = own if total is None else own.then(total)
        node = source
    return [] if total is None else [Acted(node, total, tuple(chain), tuple(held)), *found]


def _results(node: fx.Node) -> Mapping[fx.Node, int] | None:
    """The tensors that a call gives and that are read, numbered; `None` where one reads them together."""
    if isinstance(node.meta.get("val"), Tensor):
        return {node: 0}
    if any(user.target is not python_operator.getitem for user in node.users):
        return None
    return {user: int(user.args[1]) for user in node.users if user.users}  # type: ignore[arg-type]


def _can_be_made(acting: Action, node: fx.Node) -> bool:
    """Whether an action on a value can be spelt: axes of known size in their order, matrices on the last."""
    shape = node.meta["val"].shape
    return not acting.reorders and all(
        isinstance(shape[axis], int) and (axis == acting.rank - 1 or not isinstance(element, Linear))
        for axis, element in acting.parts
    )


def _instead(values: Mapping[fx.Node, Any], node: fx.Node) -> Any:
    return values.get(node, node)


def _length(value: Any) -> int:
    """How many operators a staged run of actions has."""
    count = 0
    while isinstance(value, Staged):
        count, value = count + 1, value.args[0]
    return count


__all__ = ["Carried"]
