"""Parameters given as `--set name=value`: parsed as expressions of the language, checked, and evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tdsl.errors import TdslError
from tdsl.lang import parse_expression, tree
from tdsl.lang.expected import did_you_mean
from tdsl.lang.walk import walk


def parameters_from(
    settings: Sequence[str], owner: str, declared: Sequence[tree.Parameter]
) -> dict[str, Any]:
    """The values of `settings` for the `declared` parameters of `owner` (`pipeline edge`).

    Raises `TdslError` for a setting that is not `name=value`, an unknown parameter, or a value that is not
    of the parameter's kind.
    """
    known = {parameter.name: parameter for parameter in declared}
    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = (part.strip() for part in setting.partition("="))
        if not (name and equals and text):
            raise TdslError(f"`--set {setting}` sets nothing", expected="--set NAME=VALUE")
        if name not in known:
            raise TdslError(
                f"{owner} has no parameter {name}",
                expected=f"one of {', '.join(known)}" if known else "no --set: it has no parameters",
                hint=did_you_mean(name, known),
            )
        values[name] = _value(parse_expression(text, f"--set {name}"), known[name])
    return values


def _value(expression: tree.Expr, parameter: tree.Parameter) -> Any:
    from tdsl.engine.library import constant_value

    _require_functions(expression)
    try:
        value = constant_value(expression)
    except ArithmeticError as reason:
        raise TdslError(f"this has no value: {reason}", expression.span) from None
    if not any(_fits(kind, value) for kind in parameter.kinds):
        kinds = " or ".join(_MEANING.get(kind, kind) for kind in parameter.kinds)
        raise TdslError(f"this is no value for {parameter.name}", expression.span, expected=kinds)
    return value


def _require_functions(expression: tree.Expr) -> None:
    """Only functions of numbers, with as many arguments as they take, can be called without a model."""
    from tdsl.engine.library import vocabulary

    functions = {f.name: f for f in vocabulary().functions.values() if f.kind in ("number", "rank")}
    for node in walk(expression):
        if isinstance(node, tree.Name):
            raise TdslError(f"unknown name {node.id}", node.span, expected="a value: nothing has a name here")
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


_MEANING = {
    "Rank": "a rank: a number (64), a ratio (50%), or a rule such as energy(0.9)",
    "Real": "a number",
    "Ratio": "a ratio such as 99% or 0.99",
    "Int": "a whole number",
    "Bool": "true or false",
    "Text": 'a text in quotes: "…"',
}


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
