# ruff: noqa: D102 (one method a production of the grammar, which says what each is)
"""Terms, types and literals from lark's parse tree to the syntax tree, spans attached."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

from lark import Token, Transformer_NonRecursive, v_args

from tdsl.errors import Source, Span, TdslError
from tdsl.lang import tree

_ESCAPES = {'\\"': '"', "\\\\": "\\", "\\n": "\n", "\\t": "\t"}
_INFIX = {"div": "//"}


@v_args(meta=True)
class TermBuilder(Transformer_NonRecursive[Token, Any]):
    """Builds `tree` nodes; every method takes lark's position record and the built children."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self.source = source
        self.doc_lines: set[int] = set()

    def _span(self, meta: Any) -> Span:
        if meta.empty:
            return Span(self.source, 1, 1, 1, 1)
        return Span(self.source, meta.line, meta.column, meta.end_line, meta.end_column)

    # ------------------------------------------------------------ expressions

    def binary(self, meta: Any, items: list[Any]) -> tree.Binary:
        left, operator, right = items
        spelling = _INFIX.get(str(operator), str(operator))
        return tree.Binary(operator=spelling, left=left, right=right, span=self._span(meta))

    def unary(self, meta: Any, items: list[Any]) -> tree.Unary:
        operator: Any = str(items[0])
        return tree.Unary(operator=operator, operand=items[1], span=self._span(meta))

    def transpose(self, meta: Any, items: list[Any]) -> tree.Unary:
        return tree.Unary(operator="T", operand=items[0], span=self._span(meta))

    def name(self, meta: Any, items: list[Token]) -> tree.Name:
        return tree.Name(id=str(items[0]), span=self._span(meta))

    def number(self, meta: Any, items: list[Token]) -> tree.Constant:
        return tree.Constant(value=self._number(items[0]), span=self._span(meta))

    def percent(self, meta: Any, items: list[Token]) -> tree.Constant:
        self._number(Token("NUMBER", items[0][:-1]), self._span(meta))
        value = float(Decimal(items[0][:-1]) / 100)
        return tree.Constant(value=value, percent=True, span=self._span(meta))

    def text(self, meta: Any, items: list[Token]) -> tree.Constant:
        return tree.Constant(value=unquoted(items[0]), span=self._span(meta))

    def true(self, meta: Any, items: list[Token]) -> tree.Constant:
        return tree.Constant(value=True, span=self._span(meta))

    def false(self, meta: Any, items: list[Token]) -> tree.Constant:
        return tree.Constant(value=False, span=self._span(meta))

    def none(self, meta: Any, items: list[Token]) -> tree.Constant:
        return tree.Constant(value=None, span=self._span(meta))

    def call(self, meta: Any, items: list[Any]) -> tree.Call:
        callee, *repeat, arguments = items
        return tree.Call(
            callee=str(callee),
            arguments=arguments,
            repeat=repeat[0] if repeat else None,
            span=self._span(meta),
        )

    def list_of(self, meta: Any, items: list[Any]) -> tree.ListOf:
        return tree.ListOf(items=tuple(items), span=self._span(meta))

    def grouped(self, meta: Any, items: list[Any]) -> Any:
        return items[0]

    def tuple_of(self, meta: Any, items: list[Any]) -> tree.TupleOf:
        return tree.TupleOf(items=tuple(items), span=self._span(meta))

    def alternatives(self, meta: Any, items: list[tree.Option]) -> tree.Alternatives:
        return tree.Alternatives(options=tuple(items), span=self._span(meta))

    def option(self, meta: Any, items: list[Any]) -> tree.Option:
        term, *where = items
        return tree.Option(term=term, where=tuple(where), span=self._span(meta))

    def repeat_any(self, meta: Any, items: list[Any]) -> tree.Repeat:
        return tree.Repeat(least=0, most=None, span=self._span(meta))

    def repeat_some(self, meta: Any, items: list[Any]) -> tree.Repeat:
        return tree.Repeat(least=1, most=None, span=self._span(meta))

    def repeat_exactly(self, meta: Any, items: list[Token]) -> tree.Repeat:
        count = self._integer(items[0])
        return tree.Repeat(least=count, most=count, span=self._span(meta))

    def repeat_least(self, meta: Any, items: list[Token]) -> tree.Repeat:
        return tree.Repeat(least=self._integer(items[0]), most=None, span=self._span(meta))

    def repeat_between(self, meta: Any, items: list[Token]) -> tree.Repeat:
        least, most = map(self._integer, items)
        if least > most:
            raise TdslError(f"no number is at least {least} and at most {most}", self._span(meta))
        return tree.Repeat(least=least, most=most, span=self._span(meta))

    def arguments(self, meta: Any, items: list[tree.Argument]) -> tuple[tree.Argument, ...]:
        return tuple(items)

    def argument(self, meta: Any, items: list[Any]) -> tree.Argument:
        return tree.Argument(value=items[0], span=self._span(meta))

    def named_argument(self, meta: Any, items: list[Any]) -> tree.Argument:
        return tree.Argument(name=str(items[0]), value=items[1], span=self._span(meta))

    def splat(self, meta: Any, items: list[Any]) -> tree.Splat:
        return tree.Splat(value=items[0], span=self._span(meta))

    # ------------------------------------------------------------ types

    def declared(self, meta: Any, items: list[Any]) -> tree.Declared:
        return tree.Declared(name=str(items[0]), type=items[1], span=self._span(meta))

    def declared_optional(self, meta: Any, items: list[Any]) -> tree.Declared:
        name, *type_ = items
        return tree.Declared(
            name=str(name), type=type_[0] if type_ else None, optional=True, span=self._span(meta)
        )

    def type(self, meta: Any, items: list[Any]) -> tree.TensorType:
        return tree.TensorType(
            const=any(isinstance(i, Token) and i.type == "CONST" for i in items),
            dtype=next((str(i) for i in items if isinstance(i, Token) and i.type == "NAME"), None),
            dims=next((i for i in items if isinstance(i, tuple)), None),
            span=self._span(meta),
        )

    def dims(self, meta: Any, items: list[Any]) -> tuple[Any, ...]:
        return tuple(items)

    def ellipsis(self, meta: Any, items: list[Any]) -> tree.Ellipsis_:
        return tree.Ellipsis_(span=self._span(meta))

    # ------------------------------------------------------------ literals

    def _number(self, token: Token, span: Span | None = None) -> int | float:
        span = span or self._at(token)
        if len(token) > 40:
            raise TdslError("this number has too many digits", span, expected="at most 40 characters")
        if token.isdigit():
            return int(token)
        value = float(token)
        if not math.isfinite(value):
            raise TdslError(f"`{token}` is too large for a number", span)
        return value

    def _integer(self, token: Token) -> int:
        value = self._number(token)
        if not isinstance(value, int):
            raise TdslError(f"`{token}` is not a whole number", self._at(token))
        return value

    def _at(self, token: Token) -> Span:
        line, column = token.line or 1, token.column or 1
        return Span(self.source, line, column, line, column + len(token))


def unquoted(token: Token) -> str:
    """The text between quotation marks, with its escapes carried out."""
    text, out, i = token[1:-1], [], 0
    while i < len(text):
        width = 2 if text[i] == "\\" else 1
        out.append(_ESCAPES[text[i : i + 2]] if width == 2 else text[i])
        i += width
    return "".join(out)
