"""A rule evaluated on values: one instance of its left side, its definitions and its right side.

The evaluation of terms is that of `tdsl.lang.shapes`, on tensors instead of shapes. What a tensor is, and
what an operator does to it, is a `Checker`'s matter: elements of a prime field, or float64 numbers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from tdsl.errors import TdslError
from tdsl.factor.declare import Decomposition
from tdsl.factor.table import DECOMPOSITIONS, FUNCTIONS, TERMS
from tdsl.lang import tree
from tdsl.lang.instance import Instance
from tdsl.lang.shapes import Absent, Shaped, Shapes, UnknownValueError
from tdsl.lang.vocabulary import DTYPES, INFIX, STATISTICS
from tdsl.lang.walk import walk
from tdsl.ops import Operator, Param
from tdsl.ops.shapes import ShapeMismatch
from tdsl.prove.checker import Checker, Known
from tdsl.prove.dtypes import holds
from tdsl.prove.facts import FAMILIES, INDICES, Facts, decomposition_of
from tdsl.prove.selecting import selecting_variables
from tdsl.prove.sides import Sides
from tdsl.prove.structures import ARRANGED
from tdsl.prove.terms import InstanceTerms


class Values(Sides):
    """The values of one instance, drawn when they are first needed.

    Evaluation raises `ShapeMismatch` and `UnknownValueError` as that of shapes does, and `NoMeaning` for an
    operator of which a checker knows nothing.
    """

    def __init__(self, instance: Instance, checker: Checker, facts: Facts) -> None:
        super().__init__(instance.resolved, instance.shapes.chosen, instance.random)
        self.instance = instance
        self.checker = checker
        self.facts = facts
        self.definitions = facts.definitions
        self.statistics: dict[str, Known] = {}
        self.undecided: list[tree.Condition] = []
        """Conditions on weight values that this checker could not decide."""
        self.selecting = dict(selecting_variables(instance))

    # ------------------------------------------------------------ names

    def lookup(self, name: str) -> Any:
        """The value of a name: bound, defined, or a leaf that is drawn now."""
        if name in self.env:
            return self.env[name]
        if name in self.definitions:
            self.define(self.definitions[name])
            return self.env[name]
        found = self.instance.env.get(name)
        if isinstance(found, Shaped):
            self.env[name] = self.leaf(name, found)
            return self.env[name]
        if isinstance(found, list) and found and isinstance(found[0], Shaped):
            self.env[name] = [self.leaf(name, part) for part in found]
            return self.env[name]
        if found is not None or name in self.instance.env:
            return found
        if name in DTYPES:
            return name
        raise UnknownValueError(f"`{name}` has no known value")

    def leaf(self, name: str, shaped: Shaped) -> Known:
        """A variable of the left side."""
        written = self.facts.types.get(name)
        dtype = written.dtype if written is not None and written.dtype else "f32"
        if self.facts.sensitive and (written is None or not written.dtype):
            dtype = self.instance.random.choice(("f32", "bool", "i64", "f16", "f64", "i32", "i8"))
        bound = self.selecting.get(name, 0)
        if name in self.facts.structured:
            family = self._family(name, selects=bound > 0)
            if bound:
                return self.checker.draw(shaped.shape, "i64", family, bound)
            return self.checker.structured(shaped.shape, family)
        return self.checker.draw(
            shaped.shape, "i64" if bound else dtype, "index" if bound else "dense", bound
        )

    def _family(self, name: str, selects: bool) -> str:
        """A structure for a weight or an index: mostly one that a condition asks for, where one does."""
        random = self.instance.random
        known = INDICES if selects else FAMILIES
        asked = [f for f in self.facts.structured[name] if f in (*INDICES, *ARRANGED) or not selects]
        return random.choice(asked if asked and random.random() < 0.8 else known)

    # ------------------------------------------------------------ the rule

    def left(self) -> dict[tuple[str, ...], Any]:
        """The values of the equations of the left side, by their names; decompositions are substituted."""
        for clause in self.facts.decompositions:
            self.substitute(clause)
        return super().left()

    def conditions_hold(self) -> bool:
        """Whether the conditions hold; those on costs are left out, undecided ones are remembered."""
        for clause, on_weights in self.facts.conditions:
            try:
                if not self.value(clause.test):
                    return False
            except UnknownValueError:
                if on_weights:
                    self.undecided.append(clause)
            except ArithmeticError:
                return False
        return True

    def define(self, clause: tree.Definition) -> None:
        """Give the targets of a definition their values. Raises `ShapeMismatch` against a written type."""
        value = self.value(clause.value)
        values = list(value) if len(clause.targets) > 1 else [value]
        for target, found in zip(clause.targets, values, strict=True):
            declared = self.instance.env.get(target.name)
            shapes = {v.shape for v in (declared, found) if isinstance(v, Shaped)}
            if target.type is not None and len(shapes) > 1:
                raise ShapeMismatch(f"{target.name} has the shape {list(found.shape)}")
            self.env[target.name] = found

    # ------------------------------------------------------------ decompositions

    def substitute(self, clause: tree.Definition) -> None:
        """Draw the factors of a decomposition, and make the weight what they stand for."""
        family = decomposition_of(clause)
        assert family is not None and isinstance(clause.value, tree.Call)
        declared = self.bound(family, clause.value)
        if declared.results != len(clause.targets):
            raise ShapeMismatch(
                f"`{declared.name}` gives {declared.results} values here, and there are"
                f" {len(clause.targets)} names"
            )
        factors = []
        for target, role in zip(clause.targets, declared.factor_roles, strict=True):
            shaped = self.instance.env.get(target.name)
            if not isinstance(shaped, Shaped):
                raise UnknownValueError(f"`{target.name}` has no written type")
            dtype = "f32" if role in ("dense", "selection") else "i64"
            factors.append(self.checker.draw(shaped.shape, dtype, role, 0))
        written = clause.value.arguments[0].value
        names = [target.name for target in clause.targets]
        if isinstance(written, tree.Name) and self._is_free_leaf(written.id):
            rebuilt = self.checker.rebuilt(declared, factors)
            wanted = self.instance.env[written.id]
            if rebuilt.shape != wanted.shape:
                raise ShapeMismatch(f"{declared.name} rebuilds a weight of shape {list(rebuilt.shape)}")
            self.env.update({written.id: rebuilt, **dict(zip(names, factors, strict=True))})
            return
        self._solve(clause, declared, written, factors)

    def bound(self, family: Decomposition, call: tree.Call) -> Decomposition:
        """The decomposition of one call, whose promise may depend on what follows the weight."""
        if family.bound is None:
            return family
        try:
            return family.at(*(self.value(a.value) for a in call.arguments[1:]))
        except TdslError as error:
            raise ShapeMismatch(error.message) from None

    def _is_free_leaf(self, name: str) -> bool:
        return (
            name not in self.env
            and name not in self.definitions
            and isinstance(self.instance.env.get(name), Shaped)
        )

    def _solve(
        self, clause: tree.Definition, declared: Decomposition, written: tree.Expr, factors: list[Known]
    ) -> None:
        """Solve `written = promise(factors)` for a leaf of `written` and one factor, the others as drawn."""
        names = [target.name for target in clause.targets]
        saved = dict(self.env)
        leaves = self._leaves(written)
        if leaves and len(leaves) == self._rearranges(written):
            shapes = [self.env.pop(leaf).shape for leaf in leaves]
            rebuilt = self.checker.rebuilt(declared, factors)
            starts = itertools.accumulate(map(math.prod, shapes), initial=0)
            numbers = map(self.checker.numbered, shapes, starts)
            places = self.with_names(dict(zip(leaves, numbers, strict=True))).value(written)
            if places.shape != rebuilt.shape:
                raise ShapeMismatch(f"{declared.name} rebuilds a weight of another shape")
            self.env.update(zip(leaves, self.checker.rearranged(places, rebuilt, shapes), strict=True))
            self.env.update(zip(names, factors, strict=True))
            return
        for leaf in leaves:
            for place in range(len(factors) - 1, -1, -1):
                if declared.factor_roles[place] != "dense":
                    continue
                self.env = dict(saved)
                drawn = self.lookup(leaf)
                known = {n: self.env[n] for n in self._leaves(written, drawn=True) if n in self.env}

                def residual(values: Sequence[Known], place: int = place, known: Any = known) -> Known:
                    self.env = {**saved, **known, leaf: values[0]}  # noqa: B023
                    changed = [*factors[:place], values[1], *factors[place + 1 :]]
                    rebuilt = self.checker.rebuilt(declared, changed)
                    value = self.value(written)
                    if not isinstance(value, Known) or value.shape != rebuilt.shape:
                        raise ShapeMismatch(f"{declared.name} rebuilds a weight of another shape")
                    return self.infix("-", value, rebuilt)  # type: ignore[no-any-return]

                solution = self.checker.solved([drawn, factors[place]], residual)
                if solution is None:
                    continue
                factors[place] = solution[1]
                self.env = {**saved, **known, leaf: solution[0], **dict(zip(names, factors, strict=True))}
                return
        self.env = saved
        raise UnknownValueError(f"no weights were found for which `{declared.name}` is exact")

    def _rearranges(self, expr: tree.Expr) -> int:
        """How many variables an expression has, if it moves their elements and does nothing else; else 0."""
        match expr:
            case tree.Name(id=name) if name in self.definitions:
                return self._rearranges(self.definitions[name].value)
            case tree.Name():
                return 1
            case tree.Unary(operator="T", operand=operand):
                return self._rearranges(operand)
            case tree.Call(callee="reshape" | "permute" | "squeeze" | "unsqueeze", arguments=arguments):
                return self._rearranges(arguments[0].value)
            case tree.Call(callee="concat", arguments=arguments):
                counts = [self._rearranges(given.value) for given in arguments if given.name is None]
                return sum(counts) if all(counts) else 0
            case _:
                return 0

    def _leaves(self, expr: tree.Expr, drawn: bool = False) -> list[str]:
        """The variables of the left side that a value is made of, through definitions."""
        found: dict[str, None] = {}
        stack: list[tree.Node] = [expr]
        while stack:
            for node in walk(stack.pop()):
                if not isinstance(node, tree.Name):
                    continue
                if node.id in self.definitions and decomposition_of(self.definitions[node.id]) is None:
                    stack.append(self.definitions[node.id].value)
                elif (drawn or self._is_free_leaf(node.id)) and isinstance(
                    self.instance.env.get(node.id), Shaped
                ):
                    found[node.id] = None
        for name in found:
            self.lookup(name)
        return list(found)

    # ------------------------------------------------------------ terms

    def infix(self, sign: str, left: Any, right: Any) -> Any:
        """`left sign right`, between numbers, lists or tensors."""
        if not isinstance(left, Shaped | Absent) and not isinstance(right, Shaped | Absent):
            return super().infix(sign, left, right)
        if sign not in INFIX:
            raise UnknownValueError("a comparison of tensors")
        operator = self.vocabulary.operators[INFIX[sign]]
        if operator.commutative and not isinstance(left, Shaped | Absent):
            left, right = right, left
        first, second = operator.operands[:2]
        return self.apply(
            operator, {first.name: self.argument(left, first), second.name: self.argument(right, second)}
        )

    def _unary(self, sign: str, value: Any) -> Any:
        if not isinstance(value, Shaped | Absent):
            return super()._unary(sign, value)
        if sign == "-":
            return self.apply(self.vocabulary.operators["neg"], {"x": self.argument(value, None)})
        count = len(super()._unary(sign, value).shape)
        dims = [*range(count - 2), count - 1, count - 2]
        return self.apply(
            self.vocabulary.operators["permute"], {"x": self.argument(value, None), "dims": dims}
        )

    def argument(self, value: Any, param: Param | None) -> Any:
        """`value` as an operator takes it: a tensor, `None` for an absent one, or what it is."""
        if isinstance(value, Absent):
            optional = param is not None and param.optional
            return None if optional else self.checker.filled(value.shape, value.fill)
        if isinstance(value, list):
            return [self.argument(v, None) for v in value]
        return value

    def _call(self, call: tree.Call, in_graph: bool) -> Any:
        name = call.callee
        if call.repeat is not None or name in self.chosen:
            return super()._call(call, in_graph)
        is_operator = name in self.vocabulary.operators
        if is_operator and (in_graph or name not in self.vocabulary.functions):
            return super()._call(call, in_graph)
        if name in STATISTICS:
            return self._statistic(call)
        if name in ("dtype", "holds"):
            values = [self.value(a.value) for a in call.arguments]
            if name == "dtype" and not hasattr(values[0], "dtype"):
                raise UnknownValueError("`dtype` of a number")
            return values[0].dtype if name == "dtype" else holds(*values)
        if name in FUNCTIONS and FUNCTIONS[name].kind in ("group", "space"):
            return self._algebraic(call)
        if name in FUNCTIONS and FUNCTIONS[name].kind != "rank":
            return self.checker.function(FUNCTIONS[name], [self.value(a.value) for a in call.arguments])
        if name in TERMS:
            operands = [self._evaluate(a.value, True) for a in call.arguments]
            return TERMS[name].function(InstanceTerms(self.checker, self._operated), *operands)
        if name in DECOMPOSITIONS:
            raise UnknownValueError(f"`{name}` stands for what its promise says")
        return super()._call(call, in_graph)

    def _algebraic(self, call: tree.Call) -> Any:
        """A group, a representation or a space, which sizes determine."""
        values = [self.value(a.value) for a in call.arguments]
        if any(isinstance(value, Shaped | Absent) for value in values):
            raise UnknownValueError(f"`{call.callee}` of a weight")
        try:
            return FUNCTIONS[call.callee].function(*values)
        except TdslError as error:
            raise ShapeMismatch(error.message) from None

    def _statistic(self, call: tree.Call) -> Known:
        """Any tensor: a rule holds whatever the data are."""
        key = repr(call)
        if key not in self.statistics:
            shaped = super()._call(call, False)
            self.statistics[key] = self.checker.draw(shaped.shape, "f32", "dense", 0)
        return self.statistics[key]

    def apply(self, operator: Operator, arguments: Mapping[str, Any]) -> Any:
        """The result of an operator: `Known`, or a tuple of them."""
        return self.made(operator, arguments, "")

    def _operated(self, name: str, operands: Sequence[Any]) -> Any:
        operator = self.vocabulary.operators[name]
        given = {p.name: self.argument(v, p) for p, v in zip(operator.params, operands, strict=False)}
        return self.apply(operator, given)

    def made(self, operator: Operator, arguments: Mapping[str, Any], variable: str) -> Any:
        """The result of an operator, of a variable of a class that of any of its functions."""
        operands = [p.name for p in operator.operands]
        first = arguments.get(operands[0]) if operands else None
        if operator.associative and isinstance(first, list):  # the n-ary form
            result = first[0]
            for other in first[1:]:
                result = self.apply(operator, {operands[0]: result, operands[1]: other})
            return result
        Shapes(self.vocabulary).apply(operator, {n: _shape_of(v) for n, v in arguments.items()})
        complete = _complete(operator, arguments)
        if variable and len(self.resolved.operators.get(variable, ())) > 1 and self._is_class(variable):
            return self.checker.unnamed(variable, operator, complete)
        return self.checker.apply(operator, complete)

    def _is_class(self, variable: str) -> bool:
        return any(p.name == variable and p.kinds[0] in self.vocabulary.classes for p in self.rule.parameters)


def _complete(operator: Operator, arguments: Mapping[str, Any]) -> dict[str, Any]:
    first = next((v for v in arguments.values() if isinstance(v, Known | list)), None)
    if isinstance(first, list):
        first = first[0] if first and isinstance(first[0], Known) else None
    rank = len(first.shape) if isinstance(first, Known) else None
    complete: dict[str, Any] = {}
    for param in operator.params:
        if param.is_operand:
            complete[param.name] = arguments.get(param.name)
        else:
            complete[param.name] = param.canonical(arguments.get(param.name, param.default), rank)
    return complete


def _shape_of(value: Any) -> Any:
    if isinstance(value, Shaped):
        return value.shape
    return [_shape_of(v) for v in value] if isinstance(value, list | tuple) else value
