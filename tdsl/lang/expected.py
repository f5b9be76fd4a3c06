"""Syntax errors in words: what stood there, what may stand there, and which keyword was meant."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from lark.exceptions import UnexpectedInput, UnexpectedToken

from tdsl.errors import Source, Span, TdslError
from tdsl.spelling import did_you_mean, nearest

_TERM = ("a name", "a number", "(", "[")
"""Where all of these may stand, an expression may."""

_BEGINS_TERM = {*_TERM, "50%", "a text in quotes", "true", "false", "none", "-", "not"}
_OPERATORS = ("+", "-", "*", "/", "div", "%", "@", "**", ".T")
_COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")
_STEPS = (
    "repeat",
    "once",
    "run",
    "first",
    "attempt",
    "top_down",
    "bottom_up",
    "at",
    "choose",
    "heal",
    "quantize",
    "check",
)
_DECLARATIONS = ("import", "rule", "law", "example", "group", "action", "symmetry", "pipeline")

_DESCRIBED = {
    "NAME": "a name",
    "NUMBER": "a number",
    "PERCENT": "50%",
    "STRING": "a text in quotes",
    "DOTTED": "a dotted name such as `cleanup.identity`",
    "GLOB": "a rule's name or a glob such as `cleanup.*`",
    "DOC": "a doc comment",
    "_NL": "a new line",
    "$END": "the end of the file",
}

_MEANT = {
    "->": "the arrows are `=>` (exact), `~>` (approximate) and, in a law, `==`",
    "→": "an exact rule has the arrow `=>`",
    "&&": "write `and`",
    "||": "write `or`",
    "!": "write `not`",
    "^": "a power is `**`",
    "·": "a product is `*`, a matrix product `@`",
    ";": "equations and conditions are separated by new lines",
    "#": "a comment begins with `//`",
    "'": 'text stands in double quotes: `"…"`',
    "…": "write three dots: `...`",
    "≤": "write `<=`",
    "≥": "write `>=`",
    "≠": "write `!=`",
}


def spelling(pattern: str) -> str:
    """The pattern of a keyword without what has to stand behind it."""
    return pattern.removesuffix(r"(?!\()").removesuffix(r"\b")


def terminal_words(terminals: Mapping[str, str]) -> dict[str, str]:
    """Terminal → what a person calls it, from terminal → pattern."""
    spelt = {name: spelling(pattern).replace("\\", "") for name, pattern in terminals.items()}
    return {**spelt, **_DESCRIBED}


def in_words(accepted: Iterable[str]) -> str:
    """`accepted` words as one phrase: families of them by their family name, then the rest in quotes."""
    words = sorted(set(accepted))
    if "(" in words and "{" in words:
        words.remove("{")  # of a repetition, which is rarely what was meant
    if "rule" in words and "a new line" in words:
        words.remove("a new line")
    phrases: list[str] = []

    def family(members: Iterable[str], phrase: str, needed: Iterable[str]) -> None:
        if all(n in words for n in needed):
            phrases.append(phrase)
            words[:] = [w for w in words if w not in set(members)]

    family(_BEGINS_TERM, "a term", _TERM)
    family(_OPERATORS, "an operator such as `+`", ("+", "*"))
    family(_COMPARISONS, "a comparison such as `<`", ("<", ">"))
    family(("and", "or"), "`and` or `or`", ("and", "or"))
    family(("=>", "~>", "=="), "an arrow (`=>`, `~>` or `==`)", ("=>", "~>", "=="))
    family(("=>", "~>"), "an arrow (`=>` or `~>`)", ("=>", "~>"))
    family((*_DECLARATIONS, "a doc comment"), "a declaration (`rule`, `law`, `pipeline`, …)", ("rule", "law"))
    family(_STEPS, "a step (`repeat`, `once`, `choose`, `check`, …)", ("repeat", "once"))
    plain = set(_DESCRIBED.values()) - {"50%"}
    phrases += [w if w in plain else f"`{w}`" for w in words]
    if len(phrases) < 2:
        return "".join(phrases)
    return f"{', '.join(phrases[:-1])} or {phrases[-1]}"


def syntax_error(source: Source, error: UnexpectedInput, accepted: Iterable[str]) -> TdslError:
    """The diagnostic for `error`, where any of the words `accepted` could have stood."""
    accepted = sorted(set(accepted))
    at_end = isinstance(error, UnexpectedToken) and error.token.type == "$END"
    lines = source.text.split("\n")
    if at_end:
        line = max((i for i, text in enumerate(lines, 1) if text.strip()), default=1)
        column, found = len(lines[line - 1].rstrip()) + 1, ""
    else:
        line, column = error.line, error.column
        found = _word(lines[line - 1][column - 1 :])
    span = Span(source, line, column, line, column + max(1, len(found)))
    if at_end:
        message = "the file ends in the middle of a declaration"
    elif not found:
        message = "the line ends too early"
    elif found.startswith('"') and not re.fullmatch(r'"(?:[^"\\\n]|\\["\\nt])*"', found):
        message = "this text has no closing quote, or an unknown escape in it"
    else:
        message = f"unexpected `{found}`"
    return TdslError(
        message,
        span,
        expected=in_words(accepted) or None,
        hint=_hint(lines, line, column, found, accepted),
    )


def _unclosed(lines: list[str], line: int, column: int) -> str | None:
    """The last bracket before a place that nothing closes there."""
    before = [*lines[: line - 1], lines[line - 1][: column - 1]]
    open_ones: list[tuple[str, int]] = []
    for number, text in enumerate(before, start=1):
        for sign in re.findall(r"[(\[)\]]", re.sub(r'"[^"]*"|//.*', "", text)):
            if sign in "([":
                open_ones.append((sign, number))
            elif open_ones:
                open_ones.pop()
    return f"the `{open_ones[-1][0]}` in line {open_ones[-1][1]} is not closed" if open_ones else None


def _word(rest: str) -> str:
    """What a person takes for one token at the start of `rest`."""
    match = re.match(r'"[^"]*"?|\w+|->|=>|~>|&&|\|\||\S', rest)
    return match.group() if match else ""


def _hint(lines: list[str], line: int, column: int, found: str, accepted: list[str]) -> str | None:
    """The remedy that fits: a known foreign spelling, a misspelt keyword here or just before."""
    text = lines[line - 1]
    if found == ">" and text[column - 2 : column] == "->":
        return _MEANT["->"]
    if found in _MEANT:
        return _MEANT[found]
    if text[column - 2 : column - 1] == "%":
        return "a `%` that touches the number before it is a percentage; a remainder is `a % b`"
    closing = next((c for c in (")", "]", "}") if c in accepted), None)
    if closing and line == len(lines) and not found:
        return f"`{closing}` is missing"
    if found in ("=>", "~>") or (found == ">" and text[column - 2 : column] == "=>"):
        return _unclosed(lines, line, column)
    if not found and ")" in accepted:
        return "a comma may be missing; a line that begins with an operator continues the one before"
    keywords = [w for w in accepted if w.isidentifier()]
    if found.isidentifier() and (hint := did_you_mean(found, keywords, 0.55)):
        return hint
    before = re.findall(r"\w+", text[: column - 1])[-1:] + [
        above.strip() for above in lines[max(0, line - 3) : line - 1] if above.strip().isidentifier()
    ]
    for word in before:
        meant = nearest(word, ("where", "rule", "div", "const"), 0.75)
        if meant and meant != word:
            return f"did you mean `{meant}` instead of `{word}`?"
    if found == ":":
        return "a type stands in an argument list or in parentheses: `x * (s: const)`"
    if "," in accepted and (found.isidentifier() or found.isdigit()):
        return "a comma may be missing"
    if "a new line" in accepted and "rule" not in accepted:
        return "each equation and each condition has a line of its own"
    return None
