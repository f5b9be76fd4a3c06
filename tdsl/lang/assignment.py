"""What an attempt at an instance has chosen: sizes, shapes of variables, operators of operator variables.

Sizes are small. The first attempts give every dimension a size of its own, so that two dimensions that
merely look alike are told apart; later ones let sizes coincide, where a left side can only then be typed.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from tdsl.lang import tree
from tdsl.lang.bind import bind
from tdsl.lang.draws import Draws
from tdsl.lang.resolve import Resolved, Role
from tdsl.lang.shapes import Absent, Shaped, Shapes, UnknownValueError
from tdsl.ops import Operator
from tdsl.ops.laws_window import spatial_axes
from tdsl.ops.shapes import ShapeMismatch

DISTINCT_ATTEMPTS = 60
MANY = 20
"""More dimensions than this are mostly of size 1: tensors that have so many axes remain small."""
MOSTLY_ONE = (1, 1, 1, 1, 1, 2, 2, 3)
BOUNDS: Mapping[str, tuple[Any, ...]] = MappingProxyType(
    {"Int": (1, 2, 3), "Ratio": (0.25, 0.5, 0.75), "Real": (0.25, 0.5, 0.75), "Bool": (False, True)}
)
"""What parameters of a kind are drawn from, where conditions alone speak of them, or they are sizes."""
NUMBERS: Mapping[str, tuple[Any, ...]] = MappingProxyType(
    {**BOUNDS, "Int": (-1, 1, 2, 3), "Real": (-1.5, 0.0, 0.25, 0.5, 2.0)}
)
"""The same, where a side computes with them: a user may give any number."""
ALIKE = 1_000_000
"""From this seed on all dimensions have one size: nothing else shows that an axis is taken for another."""


class Assignment:
    """Values of the names of a left side. Methods raise `ShapeMismatch` when this attempt does not type."""

    def __init__(
        self,
        resolved: Resolved,
        seed: int,
        operators: Mapping[str, Operator] = MappingProxyType({}),
        complete: bool = False,
    ) -> None:
        """`operators` says which operator some operator variables are; the others are drawn.

        In a `complete` instance no optional operand is absent.
        """
        self.complete = complete
        self.random = random.Random(seed)
        self.resolved = resolved
        self.shapes = Shapes(resolved.vocabulary, chosen={name: (op, {}) for name, op in operators.items()})
        self.env = self.shapes.env
        self.order: list[str] = []
        larger = random.Random(seed + 1_000_003)  # apart, so that what else is drawn stays the same
        names = [n for n, role in resolved.roles.items() if role is Role.DIMENSION]
        many = len(names) > MANY
        if many:
            sizes = [self.random.choice(MOSTLY_ONE) for _ in names]
        elif seed < DISTINCT_ATTEMPTS:
            sizes = self.random.sample(range(2, 3 + len(names)), len(names))
        else:
            sizes = [self.random.randint(1, 4) for _ in names]
            sizes = [larger.choice((5, 6)) if larger.random() < 0.15 else size for size in sizes]
        more = larger.sample((5, 6, 8), 2) if larger.random() < 0.4 else ()
        pool = {*sizes, 2, 3, 4, *more}
        if seed >= ALIKE and not many:
            pool = {self.random.choice((2, 3, 4, 4))}
            sizes = [*pool] * len(names)
        for name, size in zip(names, sizes, strict=True):
            self.set(name, size)
        self.draws = Draws(self.random, sorted(pool), random.Random(seed + 2_000_003))
        self.types = resolved.matched_types
        self.ranks = dict(self._spatial_ranks())
        for parameter in resolved.rule.parameters:
            kinds = NUMBERS if parameter.name in resolved.computed else BOUNDS
            if values := kinds.get(parameter.kinds[0]):
                self.set(parameter.name, self.random.choice(values))
        if seed % 2:
            self._solve()

    def _spatial_ranks(self) -> Iterator[tuple[str, int]]:
        """How many axes operands of convolutions and poolings have, with a batch and a channel axis.

        The attributes tell over how many axes an operator slides.
        """
        for node in self.resolved.matched_calls:
            try:
                operator = self._operator(node)[0]
            except (UnknownValueError, KeyError):
                continue
            kinds = (p.kind for p in operator.params if p.kind in ("ints1", "ints2", "ints3"))
            axes = next((int(kind[-1]) for kind in kinds), None)
            if operator.result == "resize":
                axes = spatial_axes(operator)
            if axes is None or node.repeat is not None:
                continue
            for name, written in bind(node, operator).items():
                if isinstance(written, tree.Name | tree.Declared) and name in ("x", "weight"):
                    yield written.id if isinstance(written, tree.Name) else written.name, axes + 2

    def _solve(self) -> None:
        """Give sizes that a condition equates with an expression (`i * s == n`) the value of it.

        Random sizes hardly ever satisfy several of these; the other attempts stay as they were drawn.
        """
        for clause in self.resolved.rule.where:
            test = clause.test if isinstance(clause, tree.Condition) else None
            if not isinstance(test, tree.Binary) or test.operator != "==":
                continue
            for side, other in ((test.left, test.right), (test.right, test.left)):
                if isinstance(side, tree.Name) and self.resolved.roles.get(side.id) is Role.DIMENSION:
                    try:
                        value = self.shapes.value(other)
                    except (UnknownValueError, ShapeMismatch):
                        continue
                    if isinstance(value, int) and value > 0:
                        self.set(side.id, value)
                        break

    def set(self, name: str, value: Any) -> None:
        """Give a name its value."""
        if name not in self.env:
            self.order.append(name)
        self.env[name] = value

    @property
    def elements(self) -> int:
        """How many elements all its tensors have."""
        return sum(math.prod(v.shape) for v in self.env.values() if isinstance(v, Shaped))

    def describe(self) -> str:
        """`n = 5, x: [4, 3]`: what this instance chose, in the order it was chosen."""
        shown = []
        for name in self.order:
            value = self.env[name]
            if isinstance(value, Shaped):
                shown.append(f"{name}: {list(value.shape)}")
            elif isinstance(value, Absent):
                shown.append(f"no {name}")
            elif isinstance(value, list) and value and isinstance(value[0], Shaped):
                shown.append(f"{name}: {', '.join(str(list(v.shape)) for v in value)}")
            else:
                shown.append(f"{name} = {value}")
        shown += [f"{name} = {operator.name}" for name, (operator, _) in self.shapes.chosen.items()]
        return ", ".join(shown)

    def typed(
        self, written: tree.TensorType, rank: int | None = None, leading: tuple[int, ...] | None = None
    ) -> Shaped:
        """A tensor of the shape that a type says, of `rank` axes where that is known."""
        shape: list[int] = []
        dims = written.dims or ()
        for dim in dims:
            if isinstance(dim, tree.Ellipsis_):
                count = None if rank is None else rank - len(dims) + 1
                front = self.draws.leading if leading is None else leading
                shape.extend(front if not shape else self.draws.trailing(count))
            else:
                size = self.shapes.value(dim)
                if not isinstance(size, int) or size < 1:
                    raise ShapeMismatch(f"{size} is no size")
                shape.append(size)
        return Shaped(tuple(shape))

    def _variable(self, name: str) -> Any:
        if name not in self.env:
            self.set(name, self.typed(self.types[name], self.ranks.get(name)))
        return self.env[name]

    def _operator(self, call: tree.Call) -> tuple[Operator, dict[str, Any]]:
        if call.callee not in self.resolved.operators:
            return self.resolved.vocabulary.operators[call.callee], {}
        if call.callee not in self.shapes.chosen:
            candidates = [
                op
                for op in self.resolved.operators[call.callee]
                if all(p.name in bind(call, op) or p.optional for p in op.operands)
            ]
            if not candidates:
                raise UnknownValueError(f"no operator fits `{call.callee}`")
            self.shapes.chosen[call.callee] = (self.random.choice(candidates), {})
        return self.shapes.chosen[call.callee]

    def _is_free(self, expr: tree.Expr) -> bool:
        """Whether this is a variable whose shape has to be guessed, or that may be absent."""
        if not isinstance(expr, tree.Name | tree.Declared):
            return False
        name = expr.id if isinstance(expr, tree.Name) else expr.name
        if name in self.env:
            return False
        optional = isinstance(expr, tree.Declared) and expr.optional
        return optional or name not in self.types or is_open(self.types[name])

    def _is_typed(self, written: Any) -> bool:
        return not isinstance(written, tuple) and variable_name(written) in self.types


def is_open(written: tree.TensorType) -> bool:
    """Whether a type leaves some axes open."""
    return any(isinstance(dim, tree.Ellipsis_) for dim in written.dims or ())


def variable_name(expr: tree.Expr) -> str:
    """The name of a variable; empty for other patterns."""
    return expr.id if isinstance(expr, tree.Name) else expr.name if isinstance(expr, tree.Declared) else ""
