"""Which argument of a call is which parameter of an operator."""

from __future__ import annotations

from tdsl.errors import TdslError
from tdsl.lang import tree
from tdsl.ops import Operator, Param
from tdsl.ops.spec import REQUIRED
from tdsl.spelling import did_you_mean

Bound = dict[str, "tree.Expr | tuple[tree.Expr, ...]"]


def is_nary(call: tree.Call, operator: Operator) -> bool:
    """Whether the call is the n-ary form of an associative operator: `add(a, b, rest...)`."""
    positional = [a.value for a in call.arguments if a.name is None]
    splat = any(isinstance(v, tree.Splat) for v in positional)
    return operator.associative and (splat or len(positional) > len(operator.operands))


def bind(call: tree.Call, operator: Operator) -> Bound:
    """The arguments of `call` by the names of the operator's parameters.

    By position in order, then by name. A list of tensors takes the positional arguments up to its end, or
    one `[a, b]`. In the n-ary form of an associative operator its first parameter has the tuple of all
    operands and the second is absent. Omitted attributes are absent: they mean their defaults; under an
    operator variable (`call.callee` is not the operator's name) anything may be omitted, and means
    whatever the matched operator has. Raises `TdslError`.
    """
    positional = [a for a in call.arguments if a.name is None]
    named = [a for a in call.arguments if a.name is not None]
    variable = call.callee != operator.name
    bound: Bound = {}
    if is_nary(call, operator):
        bound[operator.params[0].name] = tuple(a.value for a in positional)
        positional = []
        filled = {p.name for p in operator.operands}
    else:
        filled = set()
        _by_position(call, operator, positional, bound)
    for argument in named:
        _by_name(call, operator, argument, bound, filled)
    if not variable and not filled:
        _refuse_missing(call, operator, bound)
    return bound


def _by_position(call: tree.Call, operator: Operator, positional: list[tree.Argument], bound: Bound) -> None:
    params = list(operator.params)
    waiting = list(positional)
    while waiting:
        param = params.pop(0) if params else None
        if param is None or param.keyword_only:
            raise _too_many(call, operator, waiting[0], param)
        first = waiting[0].value
        if param.kind != "tensors":
            if isinstance(first, tree.Splat):
                raise TdslError(
                    f"`{param.name}` of `{call.callee}` is one tensor, not a list of them",
                    first.span,
                    expected=_signature(operator),
                )
            bound[param.name] = waiting.pop(0).value
        elif isinstance(first, tree.ListOf):
            bound[param.name] = first.items
            waiting.pop(0)
        else:
            bound[param.name] = tuple(a.value for a in waiting)
            waiting = []


def _by_name(
    call: tree.Call, operator: Operator, argument: tree.Argument, bound: Bound, filled: set[str]
) -> None:
    name = argument.name or ""
    param = operator.param(name)
    if param is None:
        raise TdslError(
            f"`{call.callee}` has no parameter `{name}`",
            argument.span,
            expected=_signature(operator),
            hint=did_you_mean(name, [p.name for p in operator.params]),
        )
    if name in bound or name in filled:
        raise TdslError(f"`{name}` of `{call.callee}` is given twice", argument.span)
    if param.kind == "tensors":
        value = argument.value
        bound[name] = value.items if isinstance(value, tree.ListOf) else (value,)
    else:
        bound[name] = argument.value


def _refuse_missing(call: tree.Call, operator: Operator, bound: Bound) -> None:
    missing = [
        p.name for p in operator.params if p.default is REQUIRED and not p.optional and p.name not in bound
    ]
    if missing:
        raise TdslError(
            f"too few arguments: `{call.callee}` needs {' and '.join(f'`{m}`' for m in missing)}",
            call.span,
            expected=_signature(operator),
        )


def _too_many(call: tree.Call, operator: Operator, extra: tree.Argument, param: Param | None) -> TdslError:
    if param is not None:
        return TdslError(
            f"`{param.name}` of `{call.callee}` is given by name",
            extra.span,
            expected=_signature(operator),
            hint=f"write `{param.name}=…`",
        )
    most = sum(not p.keyword_only for p in operator.params)
    return TdslError(
        f"too many arguments: `{call.callee}` takes {most}", extra.span, expected=_signature(operator)
    )


def _signature(operator: Operator) -> str:
    return operator.signature.partition("->")[0].strip()
