"""What stays of an instance when every size and every number of an attribute becomes a variable."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tdsl.lang import tree
from tdsl.lang.bind import bind
from tdsl.lang.instance import Instance
from tdsl.lang.resolve import Role
from tdsl.lang.shapes import Absent, Shaped
from tdsl.lang.walk import walk
from tdsl.prove.polynomial import Polynomial
from tdsl.prove.size import Path, Size
from tdsl.prove.symbolic import SymbolicSides

SIZES = frozenset({"shape", "extents", "spread"})
"""Kinds of attributes that are sizes of a result: 1 at least, or -1, which is left as it is."""
NUMBERS = SIZES | {"int", "ints", "ints1", "ints2", "ints3"}
"""Kinds whose numbers laws of shape compute with."""

Made = Callable[[str, int], Any]
"""What stands for a variable of that name, which is so much in the instance."""


class Outline:
    """Ranks, lists, operators and attributes of an instance, with variables in the place of sizes."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.kinds = dict(_kinds(instance))
        self.values: dict[str, int] = {}
        """The variables, with what they are in the instance."""
        self.positive: set[str] = set()
        self.axes = max((len(v.shape) for v in instance.env.values() if isinstance(v, Shaped)), default=0)
        """Of the tensor that has most."""
        self.key = ""
        """What tells outlines apart."""
        text: list[str] = []

        def noted(name: str, value: int) -> int:
            self.values[name] = value
            text.append("?")
            return value

        for name, value in self._leaves(noted).items():
            text.append(f"{name}={_plan(value)}")
        chosen = {n: (op.result, op.name if len(a) else "") for n, (op, a) in self._chosen(noted).items()}
        self.key = f"{text} {chosen}"

    def sides(self, path: Path) -> SymbolicSides:
        """The sides with variables for sizes."""
        return self._sides(lambda name, _: Size(path, Polynomial.variable(name)))

    def sides_at(self, values: Mapping[str, int]) -> SymbolicSides:
        """The sides at these sizes."""
        return self._sides(lambda name, _: values[name])

    def _sides(self, made: Made) -> SymbolicSides:
        instance = self.instance
        sides = SymbolicSides(instance.resolved, self._chosen(made), instance.random)
        sides.env.update(self._leaves(made))
        for name, written in instance.resolved.matched_types.items():
            for at in _places(sides.env.get(name)):
                sides.env[name] = _typed(sides, sides.env[name], written, at)
        return sides

    # ------------------------------------------------------------ leaves

    def _leaves(self, made: Made) -> dict[str, Any]:
        env, roles = self.instance.env, self.instance.resolved.roles
        leaves: dict[str, Any] = {}
        for name in self.instance.order:
            value = env[name]
            kinds = self.kinds.get(name, frozenset())
            role = roles.get(name)
            sized = role is Role.DIMENSION or (role is Role.PARAMETER and value > 0)
            leaves[name] = self._leaf(name, value, sized, kinds, made)
        return leaves

    def _leaf(self, name: str, value: Any, sized: bool, kinds: frozenset[str], made: Made) -> Any:
        if isinstance(value, Shaped):
            return Shaped(self._shape(name, value.shape, made))
        if isinstance(value, Absent):
            return Absent(self._shape(name, value.shape, made), value.fill)
        if isinstance(value, list) and value and isinstance(value[0], Shaped):
            return [Shaped(self._shape(f"{name}.{i}", v.shape, made)) for i, v in enumerate(value)]
        if isinstance(value, list) and kinds and kinds <= NUMBERS:
            return [self._leaf(f"{name}[{i}]", v, sized, kinds, made) for i, v in enumerate(value)]
        if isinstance(value, bool) or not isinstance(value, int):
            return value
        if sized or (kinds & SIZES and kinds <= NUMBERS and value > 0):
            self.positive.add(name)
            return made(name, value)
        return made(name, value) if kinds and kinds <= NUMBERS and not kinds & SIZES else value

    def _shape(self, name: str, shape: tuple[int, ...], made: Made) -> tuple[Any, ...]:
        names = [f"{name}.{i}" for i in range(len(shape))]
        self.positive.update(names)
        return tuple(made(each, size) for each, size in zip(names, shape, strict=True))

    def _chosen(self, made: Made) -> dict[str, Any]:
        """Operator variables; the numbers that a pattern leaves to the operator are variables too."""
        found = {}
        for name, (operator, attributes) in self.instance.shapes.chosen.items():
            lifted = {}
            for each, value in attributes.items():
                param = operator.param(each)
                if param is not None and not param.is_operand:
                    lifted[each] = self._leaf(f"{name}.{each}", value, False, frozenset({param.kind}), made)
            found[name] = (operator, lifted)
        return found


def _plan(value: Any) -> str:
    """A leaf without its sizes."""
    if isinstance(value, Shaped | Absent):
        return f"{type(value).__name__}{len(value.shape)}"
    if isinstance(value, list):
        return f"[{', '.join(map(_plan, value))}]"
    return "?" if isinstance(value, int) and not isinstance(value, bool) else repr(value)


def _places(value: Any) -> Iterator[int | None]:
    """Where the leaves of a typed variable are: one, or several in a list."""
    if isinstance(value, list):
        yield from range(len(value))
    elif isinstance(value, Shaped | Absent):
        yield None


def _typed(sides: SymbolicSides, value: Any, written: tree.TensorType, at: int | None) -> Any:
    """A leaf with the sizes that its type says."""
    if at is not None:
        return [_typed(sides, v, written, None) if i == at else v for i, v in enumerate(value)]
    dims = list(written.dims or ())
    shape = list(value.shape)
    dots = next((i for i, d in enumerate(dims) if isinstance(d, tree.Ellipsis_)), len(dims))
    behind = len(dims) - dots - 1
    for i, dim in enumerate(dims):
        if not isinstance(dim, tree.Ellipsis_):
            shape[i if i < dots else len(shape) - behind + (i - dots - 1)] = sides.value(dim)
    return Absent(tuple(shape), value.fill) if isinstance(value, Absent) else Shaped(tuple(shape))


def _kinds(instance: Instance) -> Iterator[tuple[str, frozenset[str]]]:
    """As what attributes each name stands on the left side."""
    found: dict[str, set[str]] = {}
    resolved = instance.resolved
    for call in resolved.matched_calls:
        chosen = instance.shapes.chosen.get(call.callee)
        operator = chosen[0] if chosen else resolved.vocabulary.operators.get(call.callee)
        if operator is None:
            continue
        for name, written in bind(call, operator).items():
            param = operator.param(name)
            if param is None or param.is_operand or isinstance(written, tuple):
                continue
            for node in walk(written):
                if isinstance(node, tree.Name):
                    found.setdefault(node.id, set()).add("shape" if name == "size" else param.kind)
    for name, kinds in found.items():
        yield name, frozenset(kinds)
