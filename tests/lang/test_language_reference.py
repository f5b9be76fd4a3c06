"""Every example of `docs/language.md` parses, resolves, has equal shapes, and is in canonical form."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tdsl.errors import NotSupportedYet
from tdsl.factor.table import TERMS
from tdsl.lang import format_file, parse, tree
from tdsl.lang.resolve import resolve
from tdsl.lang.typecheck import check_types
from tdsl.lang.unsupported import refuse_unsupported
from tdsl.lang.vocabulary import BUILT_IN, Function, Vocabulary
from tdsl.lang.walk import walk

REFERENCE = (Path(__file__).parents[2] / "docs" / "language.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```tdsl\n(.*?)```", REFERENCE, re.DOTALL)
VOCABULARY = Vocabulary.standard(
    [
        Function("svd", "decomposition", ("W", "rank"), 2),
        Function("whitened_svd", "decomposition", ("W", "C", "rank"), 2),
        Function("energy", "rank", ("v",)),
        Function("error", "rank", ("v",)),
        Function("diagrams", "decomposition", ("W", "rank"), 4),
        Function("diagram_sum", "term", ("x", "K", "structure..."), shape=TERMS["diagram_sum"].shape),
        Function("interpolative", "decomposition", ("B", "H", "rank", "size?"), 2),
        Function("narrowed", "term", ("x", "P"), shape=TERMS["narrowed"].shape),
        Function("project", "decomposition", ("W", "space"), 0),
        Function("commutant", "space", ("group",)),
        Function("defect", "number", ("W", "space")),
        Function("S", "group", ("n",)),
    ]
)


@pytest.mark.parametrize("text", EXAMPLES)
def test_examples_are_canonical_and_right(text: str) -> None:
    file = parse(text, "docs/language.md")
    assert format_file(file) == text
    for item in file.items:
        if isinstance(item, tree.Rule):
            assert check_types(resolve(item, VOCABULARY)) == ""


def test_every_construct_has_an_example() -> None:
    shown = {type(node).__name__ for text in EXAMPLES for node in walk(parse(text))}
    every = {
        name for name, kind in vars(tree).items() if isinstance(kind, type) and issubclass(kind, tree.Node)
    }
    assert every - shown == {"Node"}


def test_what_the_reference_calls_unsupported_is_refused() -> None:
    refused = 0
    for text in EXAMPLES:
        try:
            refuse_unsupported(parse(text))
        except NotSupportedYet:
            refused += 1
    assert refused == 1


def test_every_built_in_function_is_in_the_reference() -> None:
    assert [f.name for f in BUILT_IN if f"`{f.name}(" not in REFERENCE] == []
