"""Random instances of a left side: shapes and attributes for its variables that its operators take."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from tdsl.lang import tree
from tdsl.lang.assignment import Assignment, variable_name
from tdsl.lang.bind import bind
from tdsl.lang.resolve import Role
from tdsl.lang.shapes import Absent, Shaped, UnknownValueError, as_argument
from tdsl.lang.vocabulary import DTYPES, INFIX
from tdsl.ops import Operator, Param
from tdsl.ops.laws_window import channels_agree, spatial_axes
from tdsl.ops.shapes import ShapeMismatch
from tdsl.ops.spec import REQUIRED

FITTING_ATTEMPTS = 30
RANKLESS = frozenset({"int", "float", "scalar", "bool", "dtype", "text", "border", "ints1", "ints2", "ints3"})
"""Kinds of attributes that can be drawn before the shape of the first operand is known."""


class Instance(Assignment):
    """One attempt at an instance. Its methods raise `ShapeMismatch` when this attempt does not type."""

    # ------------------------------------------------------------ left sides

    def left(self, side: tuple[tree.Equation, ...]) -> dict[tuple[str, ...], Any]:
        """The values of the equations of a left side, by their names."""
        values: dict[tuple[str, ...], Any] = {}
        for equation in side:
            value = self.operand(equation.term)
            values[equation.names] = value
            if len(equation.names) == 1:
                self.env[equation.names[0]] = value
            elif equation.names:
                if not isinstance(value, tuple) or len(value) != len(equation.names):
                    raise ShapeMismatch("another number of results")
                self.env.update(zip(equation.names, value, strict=True))
        return values

    def operand(self, expr: tree.Expr) -> Any:
        """The value of a pattern all of whose variables are known or typed."""
        match expr:
            case tree.Call():
                return self._call(expr)
            case tree.Constant(value=value):
                return value
            case tree.Binary(operator=sign, left=left, right=right):
                arguments = tuple(tree.Argument(e, span=e.span) for e in (left, right))
                return self._call(tree.Call(INFIX[sign], arguments, span=expr.span))
            case tree.Unary(operand=operand):
                arguments = (tree.Argument(operand, span=expr.span),)
                return self._call(tree.Call("neg", arguments, span=expr.span))
            case tree.Alternatives(options=options):
                option = self.random.choice(options)
                value = self.operand(option.term)
                for clause in option.where:
                    if not self.holds(clause):
                        raise ShapeMismatch("a condition of the branch does not hold")
                return value
            case tree.Name(id=name) | tree.Declared(name=name) if name in self.env or name in self.types:
                return self._variable(name)
            case _:
                raise UnknownValueError("a variable of unknown shape stands alone")

    def holds(self, clause: tree.Clause) -> bool:
        """Whether a condition holds, true when shapes do not decide it; a definition is carried out."""
        if isinstance(clause, tree.Definition):
            self.define(clause)
            return True
        try:
            return bool(self.shapes.value(clause.test))
        except (UnknownValueError, ZeroDivisionError, ShapeMismatch):
            return True

    def define(self, clause: tree.Definition) -> None:
        """Give the targets of a definition their values: those of their types, where they have them."""
        targets = clause.targets
        try:
            value = self.shapes.value(clause.value)
            values = list(value) if len(targets) > 1 else [value]
        except UnknownValueError:
            values = [None] * len(targets)
        for target, found in zip(targets, values, strict=True):
            if target.type is not None and target.type.dims is not None:
                declared = self.typed(target.type)
                if isinstance(found, Shaped) and found != declared:
                    raise ShapeMismatch(
                        f"`{target.name}` has the shape {list(found.shape)}, not {list(declared.shape)}"
                    )
                self.env[target.name] = declared
            elif found is not None:
                self.env[target.name] = found
            elif self._gives_numbers(clause.value):
                self.env[target.name] = Shaped(())

    def _gives_numbers(self, value: tree.Expr) -> bool:
        """Whether targets without a type are numbers: coefficients, of a number that only values tell."""
        functions = self.resolved.vocabulary.functions
        function = functions.get(value.callee) if isinstance(value, tree.Call) else None
        return function is not None and function.kind == "decomposition" and function.results == 0

    # ------------------------------------------------------------ calls

    def _call(self, call: tree.Call) -> Any:
        operator, attributes = self._operator(call)
        bound = bind(call, operator)
        operands: dict[str, Any] = {}
        waiting: list[tuple[Param, Any]] = []
        for param in operator.operands:
            written = bound.get(param.name)
            if isinstance(written, tuple):
                free = [isinstance(w, tree.Splat) or self._is_free(w) for w in written]
                if operator.result == "concat" and any(free) and not all(free):
                    operands[param.name] = self._put_together(written, bound.get("dim"))
                elif any(self._is_free(w.value if isinstance(w, tree.Splat) else w) for w in written):
                    waiting.append((param, written))
                else:
                    operands[param.name] = self._several(written, None)
            elif written is not None and self._is_free(written):
                waiting.append((param, written))
            elif written is not None:
                operands[param.name] = self.operand(written)
        early = [p for p in operator.params if p.kind in RANKLESS]
        given = self._attributes(call, bound, early, attributes, ())
        if operator.result in ("conv", "conv_transpose"):  # a weight of a written type, then an image for it
            waiting.sort(key=lambda pair: pair[0].optional or not self._is_typed(pair[1]))
        for param, written in waiting:
            self._guess(operator, param, written, operands, given)
        arguments = {n: as_argument(v, operator.param(n)) for n, v in operands.items()}
        rank = self._first_shape(operator, arguments)
        late = [p for p in operator.params if not p.is_operand and p.kind not in RANKLESS]
        arguments |= given | self._attributes(call, bound, late, attributes, rank)
        if call.callee in self.shapes.chosen:  # the right side has what it does not give anew from here
            attributes.update(arguments)
        for name, value in operands.items():
            if isinstance(value, Absent):  # what it stands for has to fit as well
                self.shapes.apply(operator, {**arguments, name: value.shape})
        result = self.shapes.apply(operator, arguments)
        if call.repeat is not None:
            most = call.repeat.least + 2 if call.repeat.most is None else call.repeat.most
            result = self._chain(operator, arguments, self.random.randint(call.repeat.least, most))
        return result

    def _attributes(
        self,
        call: tree.Call,
        bound: Mapping[str, Any],
        params: Sequence[Param],
        known: dict[str, Any],
        rank: tuple[int, ...],
    ) -> dict[str, Any]:
        """Values of the attributes `params`: written ones, and of an operator variable some left open."""
        found: dict[str, Any] = {}
        for param in params:
            written = bound.get(param.name)
            if written is not None and not isinstance(written, tuple):
                found[param.name] = self._attribute(written, param, rank)
            elif call.callee in self.shapes.chosen and self._varies(param, known):
                found[param.name] = known.setdefault(param.name, self.draws.attribute(param, rank))
        return found

    def _varies(self, param: Param, attributes: Mapping[str, Any]) -> bool:
        """Whether an attribute that a pattern leaves open has another value than its default."""
        if param.default is REQUIRED or param.name in attributes:
            return True
        return param.kind != "any" and self.random.random() < 0.3

    def _chain(self, operator: Operator, arguments: Mapping[str, Any], count: int) -> Any:
        first = operator.operands[0].name
        value: Any = Shaped(arguments[first])
        for _ in range(count):
            value = self.shapes.apply(operator, {**arguments, first: value.shape})
        return value

    def _several(self, written: tuple[tree.Expr, ...], guess: tuple[int, ...] | None) -> list[Any]:
        values: list[Any] = []
        for expr in written:
            if isinstance(expr, tree.Splat):
                values.extend(self._variadic(expr.value, guess))
            elif self._is_free(expr) and isinstance(expr, tree.Name | tree.Declared):
                name = expr.id if isinstance(expr, tree.Name) else expr.name
                known = self.types.get(name)
                if known is not None and known.dims is not None:
                    self.set(name, self.typed(known))
                else:
                    self.set(name, Shaped(guess or self.draws.shape()))
                values.append(self.env[name])
            else:
                values.append(self.operand(expr))
        return values

    def _put_together(self, written: tuple[tree.Expr, ...], dim: Any) -> list[Any]:
        """Operands one after the other along an axis; those of unknown shape get one that fits the others.

        Together all of them often make up another size of the rule, such as that of a weight.
        """
        places = range(len(written))
        free = [isinstance(w, tree.Splat) or self._is_free(w) for w in written]
        values = {i: self._several((written[i],), None) for i in places if not free[i]}
        shapes = [value.shape for several in values.values() for value in several]
        axis = self.shapes.value(dim) if dim is not None else 0
        if not isinstance(axis, int) or any(not -len(s) <= axis < len(s) for s in shapes):
            raise ShapeMismatch("there is no such axis")
        slots = [i for i in places if free[i] for _ in range(self._operands_of(written[i]))]
        rest = self._rest(shapes, axis, len(slots))
        for i in dict.fromkeys(slots):
            mine = [shaped for slot, shaped in zip(slots, rest, strict=True) if slot == i]
            expr = written[i]
            inner = expr.value if isinstance(expr, tree.Splat) else expr
            name = variable_name(inner)
            if name and name not in self.env:
                self.set(name, mine if isinstance(expr, tree.Splat) else mine[0])
            values[i] = self._several((expr,), None)
        return [value for i in places for value in values[i]]

    def _operands_of(self, expr: tree.Expr) -> int:
        """For how many operands an element of a list stands."""
        if not isinstance(expr, tree.Splat):
            return 1
        known = self.env.get(variable_name(expr.value))
        return len(known) if isinstance(known, list) else self.random.randint(1, 3)

    def _rest(self, shapes: list[tuple[int, ...]], axis: int, count: int) -> list[Any]:
        """So many operands that fit beside those of `shapes` along an axis."""
        first = shapes[0]
        taken = sum(shape[axis] for shape in shapes)
        sizes = [self.env[n] for n, role in self.resolved.roles.items() if role is Role.DIMENSION]
        missing = [size - taken for size in sizes if size - taken >= count]
        total = self.random.choice(missing) if missing else count * self.random.choice(self.draws.pool)
        cuts = sorted(self.random.sample(range(1, total), count - 1))
        parts = [end - start for start, end in zip((0, *cuts), (*cuts, total), strict=True)]
        at = axis % len(first)
        return [Shaped((*first[:at], part, *first[at + 1 :])) for part in parts]

    def _variadic(self, expr: tree.Expr, guess: tuple[int, ...] | None) -> list[Any]:
        inner = expr.arguments[0].value if isinstance(expr, tree.Call) else expr
        assert isinstance(inner, tree.Name | tree.Declared)
        name = inner.id if isinstance(inner, tree.Name) else inner.name
        if name not in self.env:
            shape = self.typed(self.types[name]).shape if name in self.types else guess
            each = Shaped(shape or self.draws.shape())
            self.set(name, [each] * self.random.randint(1, 3))
        if not isinstance(expr, tree.Call):
            return list(self.env[name])
        return self.shapes._items(tree.Splat(expr, span=expr.span), in_graph=True)

    def _first_shape(self, operator: Operator, arguments: Mapping[str, Any]) -> tuple[int, ...]:
        for param in operator.operands:
            value = arguments.get(param.name)
            if isinstance(value, list) and value and isinstance(value[0], tuple):
                return value[0]
            if isinstance(value, tuple) and all(isinstance(v, int) for v in value):
                return value
        return ()

    # ------------------------------------------------------------ guesses

    def _guess(
        self,
        operator: Operator,
        param: Param,
        written: Any,
        operands: dict[str, Any],
        given: Mapping[str, Any],
    ) -> None:
        """Choose the shape of a variable that nothing says the shape of, or not all of it."""
        if isinstance(written, tuple):
            shape = self._fitting(operator, param, operands, given, "")
            operands[param.name] = self._several(written, shape)
            return
        name = variable_name(written)
        if name not in self.env:
            shape = self._fitting(operator, param, operands, given, name)
            optional = isinstance(written, tree.Declared) and written.optional
            absent = optional and not self.complete and self.random.random() < 0.5
            fill = float(param.default) if isinstance(param.default, int | float) else 0.0
            self.set(name, Absent(shape, fill) if absent else Shaped(shape))
        operands[param.name] = self.env[name]

    def _fitting(
        self,
        operator: Operator,
        param: Param,
        operands: Mapping[str, Any],
        given: Mapping[str, Any],
        name: str,
    ) -> tuple[int, ...]:
        """A shape for `param` that the operator takes beside the operands known so far, if one is found.

        Raises `ShapeMismatch` where none is.
        """
        known = {n: v.shape for n, v in operands.items() if isinstance(v, Shaped | Absent)}
        arguments = {n: as_argument(v, operator.param(n)) for n, v in operands.items()} | dict(given)
        rank, written = self.ranks.get(name), self.types.get(name)
        shape: tuple[int, ...] = ()
        if param.optional and known:
            with contextlib.suppress(UnknownValueError):  # an attribute is missing that has no value yet
                self.shapes.apply(operator, arguments)  # what does not fit without it does not fit with it
        windows = operator.result in ("conv", "conv_transpose")
        for attempt in range(FITTING_ATTEMPTS if known else 1):
            fitting = None
            if windows and attempt % 2:
                batched = written is not None or rank is not None
                fitting = self.draws.window(operator, param, known, given.get("groups"), batched)
            if written is not None:
                leading = self.draws.in_front(written, rank, known) if attempt else None
                if fitting is not None:
                    leading = fitting[: len(fitting) - len(written.dims or ()) + 1]
                shape = self.typed(written, rank, leading).shape
            elif fitting is not None:
                shape = fitting
            elif param.dims is None:
                shape = self.draws.plausible(known, rank)
            else:
                shape = self.draws.declared(operator, param, known)
            try:
                self.shapes.apply(operator, {**arguments, param.name: shape})
            except ShapeMismatch:
                if windows and param.name == "weight" and self._is_hopeless(operator, name, shape, arguments):
                    break
                continue
            except UnknownValueError:  # an attribute is missing that has no value yet
                pass
            return shape
        if known:
            raise ShapeMismatch(f"no {param.name} was found for {operator.name}")
        return shape

    def _is_hopeless(
        self, operator: Operator, name: str, weight: tuple[int, ...], arguments: Mapping[str, Any]
    ) -> bool:
        """Whether a weight whose type says its channels was refused for these, not for its kernel."""
        written, x, groups = self.types.get(name), arguments.get("x"), arguments.get("groups", 1)
        told = () if written is None or written.dims is None else written.dims[:2]
        if len(told) < 2 or any(isinstance(dim, tree.Ellipsis_) for dim in told):
            return False
        if x is None or len(weight) != spatial_axes(operator) + 2 or not isinstance(groups, int):
            return False
        return not channels_agree(operator, x, weight, groups)

    def _attribute(self, expr: tree.Expr, param: Param, shape: tuple[int, ...]) -> Any:
        match expr:
            case tree.Name(id=name):
                if param.kind == "dtype" and name in DTYPES and name not in self.env:
                    return name
                if self.resolved.roles.get(name) is Role.PARAMETER and name not in self.env:
                    raise UnknownValueError(f"`{name}` has no known value")
                if name not in self.env:
                    self.set(name, self.draws.attribute(param, shape))
                return self.env[name]
            case tree.ListOf(items=items):
                kind = {"axes": "dim", "dims": "dim", "ints1": "each", "ints2": "each", "ints3": "each"}.get(
                    param.kind, "int"
                )
                if param.kind == "shape":
                    self._fill(items, shape)
                return [self._attribute(item, Param(param.name, kind), shape) for item in items]
            case _:
                return self.shapes.value(expr)

    def _fill(self, sizes: Sequence[tree.Expr], shape: tuple[int, ...]) -> None:
        """Give sizes of a new shape that nothing binds values with which no element is lost."""
        free = [e.id for e in sizes if isinstance(e, tree.Name) and e.id not in self.env]
        free = [name for name in dict.fromkeys(free) if self.resolved.roles.get(name) is Role.ATTRIBUTE]
        if not free:
            return
        known = [self.shapes.value(e) for e in sizes if not isinstance(e, tree.Name) or e.id not in free]
        rest, remainder = divmod(math.prod(shape), max(math.prod(known), 1))
        if remainder or any(size < 1 for size in known):
            return
        for name in free[:-1]:
            self.set(name, self.random.choice([d for d in range(1, rest + 1) if rest % d == 0] or [1]))
            rest //= self.env[name]
        self.set(free[-1], rest)
