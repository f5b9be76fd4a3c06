"""Expressions as canonical text: on one line, or wrapped where that is too long."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TypeVar

from tdsl.lang import tree

# Binding strength, weakest first; an operand that binds weaker than its place asks for gets parentheses.
ELEMENT, OR, AND, NOT, COMPARISON, SUM, PRODUCT, MINUS, POWER, POSTFIX = range(10)

_STRENGTH = {
    "or": OR,
    "and": AND,
    **dict.fromkeys(("<", "<=", ">", ">=", "==", "!="), COMPARISON),
    **dict.fromkeys(("+", "-"), SUM),
    **dict.fromkeys(("*", "/", "//", "%", "@"), PRODUCT),
    "**": POWER,
}
_SPELT = {"//": "div"}
_PLACES = {"not": NOT, "-": MINUS, "T": POSTFIX}
INDENT = "    "

_Part = TypeVar("_Part")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of output, and the lines of the source it was written on (0: not known)."""

    text: str
    start: int = 0
    end: int = 0


# ---------------------------------------------------------------- on one line


def number(value: int | float) -> str:
    """A number the way a person writes it: `1e-6`, not `1e-06`."""
    if isinstance(value, int):
        return str(value)
    mantissa, mark, exponent = repr(value).partition("e")
    return f"{mantissa}e{int(exponent)}" if mark else mantissa


def quoted(text: str) -> str:
    """Text in double quotes, escaped."""
    for plain, escape in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\t", "\\t")):
        text = text.replace(plain, escape)
    return f'"{text}"'


def _constant(node: tree.Constant) -> str:
    match node.value:
        case None:
            return "none"
        case bool():
            return "true" if node.value else "false"
        case str():
            return quoted(node.value)
        case _ if node.percent:
            return f"{(Decimal(repr(node.value)) * 100).normalize():f}%"
        case _:
            return number(node.value)


def _repeat(node: tree.Repeat | None) -> str:
    if node is None:
        return ""
    if node.most is None:
        return {0: "{*}", 1: "{+}"}.get(node.least, f"{{{node.least},}}")
    return f"{{{node.least}}}" if node.least == node.most else f"{{{node.least},{node.most}}}"


def _places(node: tree.Binary) -> tuple[int, int, int]:
    """Strength of an infix term, and what its two places ask for."""
    own = _STRENGTH[node.operator]
    if own == COMPARISON:
        return own, SUM, SUM
    if own == POWER:
        return own, POSTFIX, MINUS
    return own, own, own + 1


def _strength(node: tree.Expr) -> int:
    match node:
        case tree.Splat() | tree.Declared():
            return ELEMENT
        case tree.Binary():
            return _STRENGTH[node.operator]
        case tree.Unary():
            return _PLACES[node.operator]
        case _:
            return POSTFIX


def flat(node: tree.Expr, place: int = OR) -> str:
    """`node` on one line, in parentheses if it binds weaker than `place` asks for."""
    if _strength(node) < place:
        return f"({flat(node, ELEMENT)})"
    match node:
        case tree.Name():
            return node.id
        case tree.Constant():
            return _constant(node)
        case tree.ListOf():
            return f"[{_items(node.items)}]"
        case tree.TupleOf():
            return f"({_items(node.items)})"
        case tree.Splat():
            return f"{flat(node.value)}..."
        case tree.Call():
            return f"{node.callee}{_repeat(node.repeat)}({arguments(node.arguments)})"
        case tree.Unary("T"):
            return f"{flat(node.operand, POSTFIX)}.T"
        case tree.Unary():
            space = " " if node.operator == "not" else ""
            return f"{node.operator}{space}{flat(node.operand, _PLACES[node.operator])}"
        case tree.Binary():
            _, left, right = _places(node)
            sign = _SPELT.get(node.operator, node.operator)
            return f"{flat(node.left, left)} {sign} {flat(node.right, right)}"
        case tree.Declared():
            return declared(node)
        case tree.Alternatives():
            return f"({' | '.join(map(_option, node.options))})"


def _items(nodes: Sequence[tree.Expr]) -> str:
    return ", ".join(flat(n, ELEMENT) for n in nodes)


def arguments(nodes: Sequence[tree.Argument]) -> str:
    """The inside of a call's parentheses."""
    return ", ".join((f"{a.name}=" if a.name else "") + flat(a.value, ELEMENT) for a in nodes)


def declared(node: tree.Declared) -> str:
    """`b?: const [m]`."""
    mark = "?" if node.optional else ""
    return f"{node.name}{mark}" + (f": {tensor_type(node.type)}" if node.type else "")


def tensor_type(node: tree.TensorType) -> str:
    """`const f32 [..., n]`."""
    parts = ["const"] if node.const else []
    parts += [node.dtype] if node.dtype else []
    if node.dims is not None:
        sizes = ("..." if isinstance(d, tree.Ellipsis_) else flat(d, SUM) for d in node.dims)
        parts.append(f"[{', '.join(sizes)}]")
    return " ".join(parts)


def parameter(node: tree.Parameter) -> str:
    """`rank: Rank = energy(0.95)`."""
    default = f" = {flat(node.default)}" if node.default is not None else ""
    return f"{node.name}: {' | '.join(node.kinds)}{default}"


def targets(node: tree.Definition) -> str:
    """The left side of a definition."""
    names = ", ".join(map(declared, node.targets))
    return f"({names})" if len(node.targets) > 1 else names


def clause(node: tree.Clause) -> str:
    """A condition or a definition on one line."""
    if isinstance(node, tree.Condition):
        return flat(node.test)
    return f"{targets(node)} = {flat(node.value)}"


def _option(node: tree.Option) -> str:
    where = f" where {', '.join(map(clause, node.where))}" if node.where else ""
    return flat(node.term) + where


# ---------------------------------------------------------------- wrapped


def _around(lines: list[Line], before: str = "", after: str = "") -> list[Line]:
    lines[0] = replace(lines[0], text=before + lines[0].text)
    lines[-1] = replace(lines[-1], text=lines[-1].text + after)
    return lines


def _indented(lines: Sequence[Line]) -> list[Line]:
    return [replace(line, text=INDENT + line.text) for line in lines]


def wrapped(node: tree.Expr, room: int, place: int = OR) -> list[Line]:
    """`node` on as few lines as fit into `room` columns, breaking the outermost brackets first."""
    start, end = node.span.line, node.span.end_line
    text = flat(node, place)
    if len(text) <= room:
        return [Line(text, start, end)]
    if _strength(node) < place:
        return _around(wrapped(node, room - 2, ELEMENT), "(", ")")

    def bracketed(opening: str, parts: Iterator[list[Line]], closing: str) -> list[Line]:
        inside = [line for part in parts for line in _indented(part)]
        if not inside:
            return [Line(text, start, end)]
        return [Line(opening, start, start), *inside, Line(closing, end, end)]

    match node:
        case tree.Call():
            opening = f"{node.callee}{_repeat(node.repeat)}("
            return bracketed(opening, _each(node.arguments, _argument, room), ")")
        case tree.ListOf():
            return bracketed("[", _each(node.items, _element, room), "]")
        case tree.TupleOf():
            return bracketed("(", _each(node.items, _element, room), ")")
        case tree.Alternatives():
            return bracketed("(", _branches(node, room), ")")
        case tree.Splat():
            return _around(wrapped(node.value, room - 3), after="...")
        case tree.Unary("T"):
            return _around(wrapped(node.operand, room - 2, POSTFIX), after=".T")
        case tree.Unary():
            sign = "not " if node.operator == "not" else "-"
            return _around(wrapped(node.operand, room - len(sign), _PLACES[node.operator]), sign)
        case tree.Binary():
            _, left, right = _places(node)
            sign = _SPELT.get(node.operator, node.operator) + " "
            first = wrapped(node.left, room, left)
            second = wrapped(node.right, room - len(INDENT + sign), right)
            return [*first, *_indented(_around(second, sign))]
        case _:
            return [Line(text, start, end)]


def _each(
    parts: Sequence[_Part], render: Callable[[_Part, int], list[Line]], room: int
) -> Iterator[list[Line]]:
    for part in parts:
        yield _around(render(part, room - len(INDENT) - 1), after=",")


def _argument(node: tree.Argument, room: int) -> list[Line]:
    name = f"{node.name}=" if node.name else ""
    return _around(wrapped(node.value, room - len(name), ELEMENT), name)


def _element(node: tree.Expr, room: int) -> list[Line]:
    return wrapped(node, room, ELEMENT)


def _branches(node: tree.Alternatives, room: int) -> Iterator[list[Line]]:
    for i, option in enumerate(node.options):
        bar = "| " if i else ""
        text = bar + _option(option)
        if len(text) <= room - len(INDENT):
            yield [Line(text, option.span.line, option.span.end_line)]
            continue
        lines = _around(wrapped(option.term, room - len(INDENT + bar)), bar)
        for j, part in enumerate(option.where):
            word = "where " if j == 0 else "      "
            comma = "," if j + 1 < len(option.where) else ""
            lines += _indented(_around(wrapped_clause(part, room - 15), word, comma))
        yield lines


def wrapped_clause(node: tree.Clause, room: int) -> list[Line]:
    """A condition or definition on as few lines as fit."""
    if isinstance(node, tree.Condition):
        return wrapped(node.test, room)
    left = targets(node) + " = "
    lines = _around(wrapped(node.value, room - len(left)), left)
    lines[0] = replace(lines[0], start=node.span.line)
    return lines
