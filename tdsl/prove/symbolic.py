"""Both sides of a rule on sizes that stand for every number."""

from __future__ import annotations

from typing import Any

from tdsl.lang import tree
from tdsl.lang.shapes import COMPARISONS, Absent, Shaped, UnknownValueError
from tdsl.lang.typecheck import speaks_of_rhs
from tdsl.ops import Operator
from tdsl.ops.laws import UndecidedCondition, UndecidedSize
from tdsl.ops.shapes import ShapeMismatch
from tdsl.prove.sides import Sides
from tdsl.prove.size import Path


class Undefined(Exception):
    """A definition that cannot be computed."""


class Unmeasured(float):
    """A number that nothing is known of: the root of a size."""

    def _same(self, *_: Any) -> Unmeasured:
        return self

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _same
    __pow__ = __rpow__ = __neg__ = _same

    def _unknown(self, *_: Any) -> bool:
        raise UnknownValueError("the root of a size")

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __bool__ = _unknown
    __hash__ = None  # type: ignore[assignment]


class SymbolicSides(Sides):
    """The shapes of both sides; its leaves are in `env` from the start."""

    def infix(self, sign: str, left: Any, right: Any) -> Any:
        """`left sign right`; a comparison of sizes is a condition, not decided yet."""
        sizes = isinstance(left, UndecidedSize) or isinstance(right, UndecidedSize)
        if sizes and sign in COMPARISONS and all(isinstance(v, UndecidedSize | int) for v in (left, right)):
            return COMPARISONS[sign](left, right)
        return super().infix(sign, left, right)

    def _call(self, call: tree.Call, in_graph: bool) -> Any:
        if call.callee in ("sqrt", "log2") and isinstance(self.value(call.arguments[0].value), UndecidedSize):
            return Unmeasured("nan")
        return super()._call(call, in_graph)

    def arguments(self, call: tree.Call, operator: Operator, in_graph: bool) -> dict[str, Any]:
        """The call's arguments; on the left side what an absent operand stands for has to fit as well."""
        given = self.given(call, operator, in_graph)
        arguments = {n: self.argument(v, operator.param(n)) for n, v in given.items()}
        for name, value in given.items():
            if self.matching and isinstance(value, Absent):
                self.apply(operator, {**arguments, name: value.shape})
        return arguments

    def define(self, clause: tree.Definition) -> None:
        """Give the targets of a definition their shapes: those of their types, where they have them."""
        targets = clause.targets
        try:
            value = self.value(clause.value)
            values = list(value) if len(targets) > 1 else [value]
        except UnknownValueError:
            values = [None] * len(targets)
        for target, found in zip(targets, values, strict=True):
            dims = target.type.dims if target.type is not None else None
            sizes = [d for d in dims or () if not isinstance(d, tree.Ellipsis_)]
            if dims is not None and len(sizes) == len(dims):
                declared = Shaped(tuple(self.value(d) for d in sizes))
                if isinstance(found, Shaped) and not same_shape(found.shape, declared.shape):
                    raise ShapeMismatch(f"`{target.name}` has the shape {list(found.shape)}")
                self.env[target.name] = declared
            elif found is not None:
                self.env[target.name] = found
            elif dims is None and self._gives_numbers(clause.value):
                self.env[target.name] = Shaped(())

    def _gives_numbers(self, value: tree.Expr) -> bool:
        function = self.vocabulary.functions.get(value.callee) if isinstance(value, tree.Call) else None
        return function is not None and function.kind == "decomposition" and function.results == 0


def matches(sides: SymbolicSides, path: Path) -> bool:
    """Whether the conditions hold, those that are not decided by sizes left out.

    From then on what they say is known. Raises `Undefined` where a definition cannot be computed.
    """
    late: list[tree.Condition] = []
    for clause in sides.rule.where:
        if isinstance(clause, tree.Definition):
            path.matching = False
            try:
                sides.define(clause)
            except ShapeMismatch as mismatch:
                raise Undefined(f"whether {mismatch}") from None
            finally:
                path.matching = True
        elif speaks_of_rhs(clause):
            late.append(clause)
        elif not _holds(sides, clause.test):
            return False
    if late:
        sides.env["rhs"] = sides.term(sides.rule.rhs[0].term)
    return all(_holds(sides, clause.test) for clause in late)


def _holds(sides: SymbolicSides, test: tree.Expr) -> bool:
    if isinstance(test, tree.Binary) and test.operator == "and":
        return _holds(sides, test.left) and _holds(sides, test.right)
    try:
        value = sides.value(test)
        return value.assumed() if isinstance(value, UndecidedCondition) else bool(value)
    except (UnknownValueError, ZeroDivisionError, ShapeMismatch):
        return True


def compare(sides: SymbolicSides) -> str:
    """What differs between the sides, nothing where they have the same shapes."""
    for _, before, after in sides.right():
        left, right = _shapes(before), _shapes(after)
        if len(left) != len(right):
            return f"there are {len(left)} or {len(right)} results"
        for first, second in zip(left, right, strict=True):
            if not same_shape(first, second):
                return f"{list(first)} is {list(second)}"
    return ""


def same_shape(first: tuple[Any, ...], second: tuple[Any, ...]) -> bool:
    """Whether two shapes are the same."""
    return len(first) == len(second) and all(bool(a == b) for a, b in zip(first, second, strict=True))


def _shapes(value: Any) -> list[tuple[Any, ...]]:
    if isinstance(value, tuple | list):
        return [shape for part in value for shape in _shapes(part)]
    return [value.shape if isinstance(value, Shaped | Absent) else ()]
