"""Values that need no model: parameters of rules and pipelines, and what may be written for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from tdsl.engine.expression import compile_expression
from tdsl.engine.frame import Frame, Variant
from tdsl.engine.pattern import Pattern
from tdsl.engine.staged import CannotStage
from tdsl.errors import Span, TdslError
from tdsl.factor.table import vocabulary
from tdsl.lang import parse_expression, tree
from tdsl.lang.vocabulary import PARAMETER_KINDS
from tdsl.lang.walk import walk
from tdsl.spelling import did_you_mean


def parameter_values(
    owner: str,
    declared: Sequence[tree.Parameter],
    given: Mapping[str, Any],
    span: Span | None = None,
    written: Mapping[str, Span] = MappingProxyType({}),
) -> dict[str, Any]:
    """The values of the `declared` parameters of `owner` (`rule svd_linear`), defaults where none is given.

    A default may speak of the parameters before it; `written` says where the values stand. Raises `TdslError`
    for a missing or unknown parameter, a kind that there is not, or a value of another kind.
    """
    known = {parameter.name: parameter for parameter in declared}
    for name in given:
        if name not in known:
            raise TdslError(
                f"{owner} has no parameter {name}",
                span,
                expected=f"one of {', '.join(known)}" if known else "no values: it has no parameters",
                hint=did_you_mean(name, known),
            )
    values: dict[str, Any] = {}
    for parameter in declared:
        _require_kinds(parameter)
        if parameter.name in given:
            value = given[parameter.name]
            _require_value(parameter, value, written.get(parameter.name, parameter.span))
            values[parameter.name] = value
        elif parameter.default is not None:
            values[parameter.name] = constant_value(parameter.default, values)
        else:
            raise TdslError(f"{owner} needs a value for {parameter.name}", parameter.span)
    return values


def as_written(declared: Sequence[tree.Parameter], given: Mapping[str, Any]) -> dict[str, Any]:
    """`given` with a text read as in the language (`"energy(0.9)"`, `"50%"`), unless it is for a `Text`.

    Raises `TdslError` for a text that is no constant expression.
    """
    plain = {parameter.name for parameter in declared if "Text" in parameter.kinds}
    return {
        name: constant_value(parse_expression(value, name))
        if isinstance(value, str) and name not in plain
        else value
        for name, value in given.items()
    }


def constant_value(expr: tree.Expr, names: Mapping[str, Any] | None = None) -> Any:
    """The value of an expression without a match: `energy(0.95)`, `50%`, `64`, a pipeline's parameter.

    Raises `TdslError` for an unknown name, a function that needs a model, or arithmetic without a result.
    """
    _require_constant(expr, names or {})
    frame = Frame(_NO_MODEL, _NO_VARIANT, (), dict(names or {}), {})
    try:
        return compile_expression(expr, {})(frame)
    except CannotStage as reason:
        raise TdslError(str(reason), expr.span) from None


_NO_MODEL: Any = None
_NO_VARIANT = Variant(Pattern(()), (), {}, lambda _: ())


def _require_constant(expr: tree.Expr, names: Mapping[str, Any]) -> None:
    """Only known names, and functions of numbers with as many arguments as they take."""
    functions = {f.name: f for f in vocabulary().functions.values() if f.kind in ("number", "rank")}
    for node in walk(expr):
        if isinstance(node, tree.Name) and node.id not in names:
            expected = None if names else "a value: nothing has a name here"
            hint = did_you_mean(node.id, names)
            if node.id in functions:
                hint = f"it is a function: `{node.id}({', '.join(functions[node.id].params)})`"
            raise TdslError(f"unknown name {node.id}", node.span, expected=expected, hint=hint)
        if not isinstance(node, tree.Call):
            continue
        function = functions.get(node.callee)
        if function is None:
            raise TdslError(
                f"unknown function {node.callee}", node.span, hint=did_you_mean(node.callee, functions)
            )
        count = len(node.arguments)
        if count < function.least or (function.most is not None and count > function.most):
            signature = f"{function.name}({', '.join(function.params)})"
            raise TdslError(f"wrong number of arguments: {count}", node.span, expected=signature)


def _require_kinds(parameter: tree.Parameter) -> None:
    """Refuse a kind that there is not: of a rule's parameter it is looked at before, of a pipeline's here."""
    for kind in parameter.kinds:
        if kind not in PARAMETER_KINDS:
            raise TdslError(
                f"`{kind}` is no kind of parameter",
                parameter.span,
                expected=f"one of {', '.join(PARAMETER_KINDS)}",
                hint=did_you_mean(kind, PARAMETER_KINDS),
            )


def _require_value(parameter: tree.Parameter, value: Any, span: Span) -> None:
    """Refuse a value that is neither of the parameter's kind nor its default (`none`)."""
    is_default = isinstance(parameter.default, tree.Constant) and parameter.default.value == value
    if not is_default and not any(_fits(kind, value) for kind in parameter.kinds):
        kinds = " or ".join(PARAMETER_KINDS.get(kind, kind) for kind in parameter.kinds)
        raise TdslError(f"this is no value for {parameter.name}", span, expected=kinds)


def _fits(kind: str, value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match kind:
        case "Real" | "Ratio":
            return number
        case "Int":
            return number and isinstance(value, int)
        case "Bool":
            return isinstance(value, bool)
        case "Text":
            return isinstance(value, str)
        case "Rank":
            return number or hasattr(value, "select")
        case _:
            return False
