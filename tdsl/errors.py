"""Errors that teach: what was wrong, where, what was expected, what to do.

`TdslError` is a mistake of the user's (a rule, a model, a file, a budget): the command line prints
its rendering and no traceback. Anything else that escapes is a bug of ours and shows a traceback.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Source:
    """A text and the name a person knows it by (a path, or `<string>`)."""

    name: str
    text: str = field(repr=False)

    def line(self, number: int) -> str:
        """The 1-based line `number`, without its newline; empty past the end."""
        lines = self.text.split("\n")
        return lines[number - 1] if 0 < number <= len(lines) else ""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a source text; lines and columns count from 1, the end column is exclusive."""

    source: Source
    line: int
    column: int
    end_line: int
    end_column: int

    def __str__(self) -> str:
        return f"{self.source.name}:{self.line}:{self.column}"

    def until(self, other: Span) -> Span:
        """The span from the start of this one to the end of `other`."""
        return Span(self.source, self.line, self.column, other.end_line, other.end_column)


class TdslError(Exception):
    """A mistake of the user's, with its place and its remedy.

    `message` says what was wrong, `span` where (or `None`, when no text is to blame), `expected` what
    would have been right, `hint` what to do about it.
    """

    def __init__(
        self,
        message: str,
        span: Span | None = None,
        *,
        expected: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.span = span
        self.expected = expected
        self.hint = hint

    def __str__(self) -> str:
        return self.render()

    def render(self) -> str:
        """The diagnostic as text: position, message, the source line with a caret, remedy."""
        lines = [f"{self.span}: error: {self.message}" if self.span else f"error: {self.message}"]
        if self.span:
            text = self.span.source.line(self.span.line)
            stop = self.span.end_column if self.span.end_line == self.span.line else len(text) + 1
            lines.append(f"    {text}")
            margin = "".join("\t" if c == "\t" else " " for c in text[: self.span.column - 1])
            lines.append("    " + margin + "^" * max(1, stop - self.span.column))
        if self.expected:
            lines.append(f"  expected: {self.expected}")
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)


class NotSupportedYet(TdslError):
    """Valid tdsl whose meaning this version does not implement."""

    def __init__(self, what: str, span: Span | None = None) -> None:
        super().__init__(f"not supported yet: {what}", span)


def kind_of(value: object) -> str:
    """The type of a value with its article, as messages name it: `an int`, `a Linear`."""
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
