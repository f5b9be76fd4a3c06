"""`law` declarations as a second opinion of the symmetry analysis, where no transfer passes an action.

Around one operator of a model a graph of its own is captured, its operands acted on by operators of the
language (`flip`, `roll`, `rot90`, `permute`, `index_select`). A law runs on it as a rule, from either side.
When what is left is the same call on operands that nothing acts on, with movements behind it, these are the
action on the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from tdsl.capture import capture
from tdsl.engine.census import copied
from tdsl.engine.driver import Settings, rewrite
from tdsl.engine.library import Declaration, Library
from tdsl.engine.lower import lower
from tdsl.engine.rule import Rule
from tdsl.errors import TdslError
from tdsl.factor.table import vocabulary
from tdsl.lang.resolve import Resolved, resolve
from tdsl.ops.targets import operator_of
from tdsl.symmetry.action import Action, action, flipped, identity_on, rolled, rotated, transposed
from tdsl.symmetry.along import Turn
from tdsl.symmetry.element import Permutation
from tdsl.symmetry.infer import Fallback
from tdsl.symmetry.transfer import Law, Site, Value

MOST_REWRITES = 4
"""A law that is used more often on one operator is going round in circles."""


def laws_of(library: Library) -> Fallback | None:
    """The laws of a library as a fallback of `infer`; `None` when it has none."""
    rules = [rule for name, declared in library.rules.items() for rule in _both_ways(name, declared)]
    if not rules:
        return None

    def fallback(site: Site, node: fx.Node) -> Law | None:
        useful = [rule for rule, names in rules if site.operator.name in names]
        return _passed(site, node, useful) if useful and len(site.shapes) == 1 else None

    return fallback


def _both_ways(name: str, declared: Declaration) -> list[tuple[Rule, frozenset[str]]]:
    """A law as two rules, each with the operators that its left side may name; none for what is no law."""
    source = declared.source
    if source.arrow != "==" or declared.parameters:
        return []
    found = []
    for one in (source, replace(source, lhs=source.rhs, rhs=source.lhs)):
        try:
            resolved = declared.resolved if one is source else resolve(one, vocabulary())
            rule = Rule(name, lower(resolved, {}), one, {}, False, source.doc)
        except TdslError:  # the other side does not bind every name
            continue
        found.append((rule, _named(resolved)))
    return found


def _named(resolved: Resolved) -> frozenset[str]:
    names: set[str] = set()
    for call in resolved.matched_calls:
        operators = resolved.operators.get(call.callee) or resolved.vocabulary.members(call.callee)
        names.update(operator.name for operator in operators)
    return frozenset(names)


def _passed(site: Site, node: fx.Node, rules: Sequence[Rule]) -> Law | None:
    """The first law, in the order they are declared, that moves the action behind the operator."""
    varying = [value for value in site.values() if value.constant is None]
    if not all(value.action.permutes for value in varying):
        return None
    for spelt in (_as_rotation, _as_movements):
        movements = [spelt(value) for value in varying]
        if any(one is None for one in movements):
            continue
        around = _Around(site, node, [one for one in movements if one is not None])
        example = tuple(torch.zeros(value.shape) for value in varying)
        try:
            captured = capture(around, example)
        except TdslError:
            continue
        for rule in rules:
            module = copied(captured.module)
            try:
                rewrite(module, [rule], Settings(repeat=False, limit=MOST_REWRITES))
            except TdslError:
                continue
            found = _behind(module, site, node, captured.module)
            if found is not None:
                return Law((found,))
    return None


Movement = Callable[[Tensor], Tensor]


def _as_rotation(value: Value) -> Movement | None:
    """A quarter turn of two axes as one operator; `None` for anything else."""
    for turns in (1, 3):
        for first in range(value.rank):
            for second in range(value.rank):
                if first != second and value.action == rotated(value.shape, turns, first, second):
                    return lambda x, k=turns, d=(first, second): torch.rot90(x, k, d)  # type: ignore[misc]
    return (lambda x: x) if value.still else None


def _as_movements(value: Value) -> Movement:
    """Each part by an operator of its own, then the order of axes."""
    acting = value.action

    def move(x: Tensor) -> Tensor:
        for axis, element in acting.parts:
            if isinstance(element, Turn):
                shift = element.start + 1 if element.mirrored or element.is_flip else -element.start
                if element.mirrored or element.is_flip:
                    x = torch.flip(x, [axis])
                if shift % element.size:
                    x = torch.roll(x, shift % element.size, axis)
            elif isinstance(element, Permutation):
                x = torch.index_select(x, axis, torch.tensor(element.places))
        return x.permute(acting.order) if acting.reorders else x

    return move


class _Around(nn.Module):
    """One call of a model, its operands moved first; constants are its weights."""

    def __init__(self, site: Site, node: fx.Node, movements: Sequence[Movement]) -> None:
        super().__init__()
        self.node = node
        self.movements = tuple(movements)
        self.constants: list[Any] = []
        values = iter(_tensors(node))
        self.sources: dict[fx.Node, Any] = {}
        for value, source in zip(site.values(), values, strict=False):
            if value.constant is None:
                self.sources[source] = None
            else:
                name = f"constant_{len(self.constants)}"
                self.register_buffer(name, value.constant)
                self.constants.append(name)
                self.sources[source] = name

    def forward(self, *operands: Tensor) -> Tensor:
        """The call on moved operands."""
        moved = iter([move(x) for move, x in zip(self.movements, operands, strict=True)])
        env = {
            source: next(moved) if name is None else getattr(self, name)
            for source, name in self.sources.items()
        }
        args = fx.node.map_arg(self.node.args, lambda source: env[source])
        kwargs = fx.node.map_arg(self.node.kwargs, lambda source: env[source])
        assert callable(self.node.target)
        result: Tensor = self.node.target(*args, **kwargs)
        return result


def _tensors(node: fx.Node) -> list[fx.Node]:
    """The tensors of a call, in order."""
    return [source for source in node.all_input_nodes if isinstance(source.meta.get("val"), Tensor)]


def _behind(module: fx.GraphModule, site: Site, node: fx.Node, before: fx.GraphModule) -> Action | None:
    """The movements behind the one call of the operator, if nothing is left before it."""
    result = module.graph.output_node().args[0]
    while isinstance(result, list | tuple) and len(result) == 1:
        result = result[0]
    steps: list[Action] = []
    while isinstance(result, fx.Node) and result.target is not node.target:
        step = _movement(module, result)
        if step is None:
            return None
        steps.append(step)
        result = result.args[0]
    if not isinstance(result, fx.Node) or not _same_call(module, result, node, before):
        return None
    found = identity_on(len(site.shapes[0]))
    for step in reversed(steps):
        found = found.then(step)
    return found


def _same_call(module: fx.GraphModule, call: fx.Node, node: fx.Node, before: fx.GraphModule) -> bool:
    """Whether a call has the attributes and weights of the model's, and takes the inputs as they are."""
    inputs = [one for one in call.all_input_nodes if one.op == "placeholder"]
    if inputs != list(module.graph.find_nodes(op="placeholder")):
        return False
    if any(one.op not in ("placeholder", "get_attr") for one in call.all_input_nodes):
        return False
    original = next(n for n in before.graph.nodes if n.target is node.target)
    plain = [_plain(n.args, m) for n, m in ((call, module), (original, before))]
    return _equal(plain[0], plain[1])


def _plain(value: Any, module: fx.GraphModule) -> Any:
    if isinstance(value, fx.Node):
        return getattr(module, str(value.target)) if value.op == "get_attr" else "input"
    return [_plain(one, module) for one in value] if isinstance(value, list | tuple) else value


def _equal(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return torch.equal(first, second)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_equal, first, second))
    return type(first) is type(second) and bool(first == second)


def _movement(module: fx.GraphModule, node: fx.Node) -> Action | None:
    """What a node of the graph does to its first operand, if it only moves it."""
    operator = operator_of(node.target)
    source = node.args[0] if node.args else None
    if operator is None or not isinstance(source, fx.Node) or not isinstance(source.meta.get("val"), Tensor):
        return None
    shape = tuple(source.meta["val"].shape)
    arguments: list[Any] = list(node.args[1:])
    match operator.name:
        case "flip":
            return flipped(shape, arguments[0])
        case "roll" if len(arguments) > 1 and arguments[1]:
            return rolled(shape, arguments[0], arguments[1])
        case "rot90":
            return rotated(shape, arguments[0], *arguments[1])
        case "permute":
            return transposed(len(shape), arguments[0])
        case "index_select":
            index = _plain(arguments[1], module)
            if isinstance(index, Tensor) and sorted(index.tolist()) == list(range(shape[arguments[0]])):
                return action(len(shape), {arguments[0]: Permutation(tuple(index.tolist()))})
    return None
