"""The words of a declaration: each with its place and what it was written as.

Where the declaration is complete, the grammar says what a word is; while it is being written, its
neighbours do.
"""

from __future__ import annotations

import enum
import functools
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from lark import Token, Tree

from tdsl.errors import TdslError
from tdsl.lang.syntax import parse_words


class Role(enum.Enum):
    """What a word is written as."""

    DECLARED = "the name of a declaration"
    VARIABLE = "a variable, a size, a parameter"
    CALLEE = "what is called"
    ARGUMENT = "the name of an argument"
    KIND = "the kind of a parameter"
    DTYPE = "an element type"
    REFERENCE = "a rule or a glob over rules"
    IMPORT = "what is imported"
    METHOD = "a method of `heal` or `quantize`"
    OBJECTIVE = "what a plan makes small"
    OTHER = "anything else"


@dataclass(frozen=True, slots=True)
class Word:
    """A word at a place; `owner` counts the declarations of the text."""

    text: str
    role: Role
    line: int
    column: int
    owner: int = 0

    @property
    def end(self) -> int:
        """The column behind it."""
        return self.column + len(self.text)


_WRITTEN_AS = {
    "name": Role.VARIABLE,
    "declared": Role.VARIABLE,
    "declared_optional": Role.VARIABLE,
    "parameter": Role.VARIABLE,
    "call": Role.CALLEE,
    "named_argument": Role.ARGUMENT,
    "kinds": Role.KIND,
    "type": Role.DTYPE,
    "rule": Role.DECLARED,
    "law": Role.DECLARED,
    "pipeline": Role.DECLARED,
    "reference": Role.REFERENCE,
    "import_file": Role.IMPORT,
    "import_library": Role.IMPORT,
    "heal": Role.METHOD,
    "quantize": Role.METHOD,
    "choose": Role.OBJECTIVE,
}
"""Production of the grammar → what the words directly in it are."""

_WORD_TERMINALS = ("NAME", "GLOB", "DOTTED")


@functools.lru_cache(maxsize=4096)
def words_of(text: str) -> tuple[Word, ...]:
    """The words of `text`, in order."""
    try:
        tree = parse_words(text)
    except TdslError:
        return tuple(_by_neighbours(text))
    return tuple(
        word
        for owner, item in enumerate(tree.children)
        if isinstance(item, Tree)
        for word in _below(item, owner)
    )


def _below(root: Tree[Token], owner: int) -> Iterator[Word]:
    """The words below a node of lark's tree; by a stack, since nesting has no limit yet."""
    stack: list[tuple[Token | Tree[Token] | None, str]] = [(root, "")]
    while stack:
        node, production = stack.pop()
        if isinstance(node, Tree):
            stack.extend((child, str(node.data)) for child in reversed(node.children))
        elif node is not None and (
            node.type in _WORD_TERMINALS or (node.type == "STRING" and production == "import_file")
        ):
            role = _WRITTEN_AS.get(production, Role.OTHER)
            yield Word(str(node), role, (node.line or 1) - 1, (node.column or 1) - 1, owner)


# ---------------------------------------------------------------- while it is being written

PIECE = re.compile(r'//[^\n]*|"(?:[^"\\\n]|\\.)*"?|[\w*]+(?:\.[\w*]+)*|[=<>~!]=|[=~]>|\S')
"""A comment, a text (perhaps not closed), a word with its dots and stars, or a sign."""
_HEAD = re.compile(r"(?:\s|//[^\n]*)*(?P<keyword>[^\W\d]\w*)\s+(?P<name>[\w*]+(?:\.[\w*]+)*)")
_NAMED_BY = {**dict.fromkeys(("rule", "law", "pipeline"), Role.DECLARED), "import": Role.IMPORT}


def _by_neighbours(text: str) -> Iterator[Word]:
    """The words of a text that does not parse; keywords too, where they are not those of the head."""
    head = _HEAD.match(text)
    keyword = head["keyword"] if head else ""
    pieces = [piece for piece in PIECE.finditer(text) if not piece.group().startswith(("//", '"'))]
    followers = [*(piece.group() for piece in pieces[1:]), ""][: len(pieces)]
    starts = [0, *(found.end() for found in re.finditer("\n", text))]
    depth = 0
    for piece, after in zip(pieces, followers, strict=True):
        found, at = piece.group(), piece.start()
        depth += (found in "([") - (found in ")]")
        if not re.match(r"[^\W\d]|[*]\.", found) or (head and at == head.start("keyword")):
            continue
        if head and at == head.start("name"):
            role = _NAMED_BY.get(keyword, Role.REFERENCE)
        elif keyword == "pipeline" and depth == 0:
            role = Role.REFERENCE
        elif after == "(":
            role = Role.CALLEE
        elif after == "=" and depth:
            role = Role.ARGUMENT
        else:
            role = Role.VARIABLE
        line = bisect_right(starts, at) - 1
        yield Word(found, role, line, at - starts[line])
