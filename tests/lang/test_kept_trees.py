"""What is kept of texts between processes: the grammar's tables and the library's trees, as plain data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tdsl.errors import Source, TdslError
from tdsl.files import keep, kept
from tdsl.lang import grammar, parse, parse_expression, parse_file, standard_trees, tree
from tdsl.lang.library_files import library_path
from tdsl.lang.stored_trees import plain_tree, tree_of
from tdsl.lang.walk import walk

FILES = ("cleanup/identity", "factorize/linear", "decompose/finite", "pipelines/exact", "pipelines/compact")
SYMMETRY = """\
// A mirror.
group C2 = cyclic(2)
action mirror of C2 on [..., W] { generator: flip(x, dims=[-1]) }
symmetry same { group C2
  input x: [N, W] by mirror
  output y: [N, 1] invariant
  tolerance 1e-5 }
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's cache that is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    standard_trees._path.cache_clear()
    grammar.parser.cache_clear()
    yield tmp_path / "cache" / "tdsl"
    standard_trees._path.cache_clear()
    grammar.parser.cache_clear()


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> Path:
    """A library of two files; `parsed` in it lists which of them were parsed."""
    (tmp_path / "one.tdsl").write_text(
        "rule a { relu(relu(x)) => relu(x) }\n\nexample a {\n}\nrule b { -(-x) => x }\n"
    )
    (tmp_path / "two.tdsl").write_text("rule c { abs(abs(x)) => abs(x) }\n")
    monkeypatch.setattr(
        standard_trees, "standard_files", lambda: ((p.stem, p) for p in sorted(tmp_path.glob("*.tdsl")))
    )
    return tmp_path


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were parsed."""
    names: list[str] = []

    def counted(text: str, name: str) -> tree.File:
        names.append(Path(name).stem)
        return parse(text, name)

    monkeypatch.setattr(standard_trees, "parse", counted)
    return names


def same(one: tree.File, other: tree.File) -> bool:
    """Whether two trees agree in all, their places and comments too."""
    spans = [[node.span for node in walk(file)] for file in (one, other)]
    return (
        repr(one) == repr(other) and one == other and spans[0] == spans[1] and one.comments == other.comments
    )


def test_a_tree_is_the_same_after_json() -> None:
    files = [parse_file(library_path() / f"{name}.tdsl") for name in FILES] + [parse(SYMMETRY)]
    for file in files:
        again = tree_of(json.loads(json.dumps(plain_tree(file))), file.span.source)
        assert same(again, file)
    kinds = {type(node) for file in files for node in walk(file)}
    assert {tree.Rule, tree.Example, tree.Choose, tree.Check, tree.Symmetry, tree.Generator} < kinds


def test_what_is_no_tree_is_refused() -> None:
    with pytest.raises((TypeError, ValueError, LookupError)):
        tree_of([0, 1, 1, 1], Source("text", ""))
    with pytest.raises((TypeError, ValueError, LookupError)):
        tree_of([10**6, 1, 1, 1, 1], Source("text", ""))


def test_files_that_have_not_changed_are_not_parsed_again(library: Path, parsed: list[str]) -> None:
    first = standard_trees.standard_trees()
    assert parsed == ["one", "two"]
    again = standard_trees.standard_trees()
    assert parsed == ["one", "two"]
    assert [prefix for prefix, _ in again] == ["one", "two"]
    assert all(same(a, b) for (_, a), (_, b) in zip(first, again, strict=True))
    assert [str(item.span).rpartition("/")[2] for item in again[0][1].items] == [
        "one.tdsl:1:1",
        "one.tdsl:5:1",
    ]


def test_a_file_that_has_changed_is_parsed(library: Path, parsed: list[str]) -> None:
    standard_trees.standard_trees()
    parsed.clear()
    (library / "two.tdsl").write_text("rule d { abs(abs(x)) => abs(x) }\n")
    assert standard_trees.standard_trees()[1][1].items[0].name == "d"
    assert parsed == ["two"]
    (library / "two.tdsl").write_text("rule d { abs(abs(x)) = abs(x) }\n")
    with pytest.raises(TdslError, match=r"two\.tdsl:1:\d+: error"):
        standard_trees.standard_trees()


def test_a_damaged_file_of_trees_is_made_anew(library: Path, parsed: list[str], cache: Path) -> None:
    standard_trees.standard_trees()
    [path] = (cache / "trees").iterdir()
    whole = path.read_text()
    for damaged in (whole[:-40], whole.replace('"b"', '"z"'), "", "[]"):
        path.write_text(damaged)
        parsed.clear()
        names = [item.name for _, file in standard_trees.standard_trees() for item in file.items]
        assert names == ["a", "b", "c"]
        assert parsed == ["one", "two"]
        assert path.read_text() == whole


def test_trees_of_states_of_the_language_long_past_go(library: Path, cache: Path) -> None:
    for state in range(2 * standard_trees.STATES):
        keep(cache / "trees" / f"{state}.json", "{}")
    standard_trees.standard_trees()
    left = sorted((cache / "trees").iterdir())
    assert len(left) == standard_trees.STATES and standard_trees._path() in left


def test_nothing_is_kept_where_nothing_can_be_written(library: Path, cache: Path, parsed: list[str]) -> None:
    cache.parent.write_text("a file, and no folder")
    standard_trees.standard_trees()
    standard_trees.standard_trees()
    assert parsed == ["one", "two"] * 2


def test_the_tables_of_the_grammar_are_plain_data(cache: Path) -> None:
    """Those that are read give the same trees and mistakes as those that are built."""
    texts = (SYMMETRY, "rule a { relu(x) => x", "rule a { relu(x)) => x }", "rule a { x @@ y => x }")

    def outcomes() -> list[str]:
        grammar.parser.cache_clear()
        found = [repr(parse_expression("energy(0.9) + 50%"))]
        for text in texts:
            try:
                found.append(repr(parse(text)))
            except TdslError as mistake:
                found.append(str(mistake))
        return found

    built = outcomes()
    [path] = (cache / "grammar").iterdir()
    text = kept(path)
    assert text is not None
    json.loads(text)
    assert outcomes() == built
    path.write_text(path.read_text().replace("NAME", "MANE"))
    assert outcomes() == built
