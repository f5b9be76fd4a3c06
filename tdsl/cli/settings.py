"""What options say: parameters (`--set`), whose values are expressions, sizes (`--size`), functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tdsl.errors import Span, TdslError

if TYPE_CHECKING:
    from tdsl.lang import tree


def parameters_from(
    settings: Sequence[str], owner: str, declared: Sequence[tree.Parameter]
) -> dict[str, Any]:
    """The values of `settings` for the `declared` parameters of `owner` (`pipeline edge`).

    Raises `TdslError` for a setting that is not `name=value`, an unknown parameter, or a value that is not
    of the parameter's kind.
    """
    from tdsl.engine.parameters import constant_value, parameter_values
    from tdsl.lang import parse_expression

    given: dict[str, Any] = {}
    written: dict[str, Span] = {}
    for setting in settings:
        name, equals, text = (part.strip() for part in setting.partition("="))
        if not (name and equals and text):
            raise TdslError(f"`--set {setting}` sets nothing", expected="--set NAME=VALUE")
        expression = parse_expression(text, f"--set {name}")
        given[name], written[name] = constant_value(expression), expression.span
    parameter_values(owner, declared, given, written=written)
    return given


def sizes_from(settings: Sequence[str]) -> dict[str, int]:
    """The sizes of axes that `settings` give: `batch=1`. Raises `TdslError` for anything else."""
    sizes: dict[str, int] = {}
    for setting in settings:
        name, _, text = (part.strip() for part in setting.partition("="))
        if not (name and text.isdecimal()):
            raise TdslError(f"`--size {setting}` gives no size", expected="--size AXIS=N, such as batch=1")
        if name in sizes:
            raise TdslError(f"`--size` gives {name} twice", expected="each axis once")
        sizes[name] = int(text)
    return sizes


def function_from(text: str | None) -> str | Callable[..., Any] | None:
    """A function of a Python file for `file.py:function`; any other text is a name that stays as it is."""
    path, colon, name = (text or "").rpartition(":")
    if not colon:
        return text
    from tdsl.capture.spec_file import load_function

    return load_function(path, name)
