"""What there is by name: rules, laws, passes, pipelines, symmetries. Reads text only: listing needs no torch.

Names are those of `tdsl.engine.library`. The standard library is known to be right, so of its files only the
outline is read: doc comments and the heads of declarations. A hand-written pass is found in its source: a
class under `@graph_pass` with a `name` and a docstring.
"""

from __future__ import annotations

import ast
import fnmatch
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tdsl.errors import TdslError
from tdsl.lang.library_files import full_name, library_path, prefix_of, standard_files
from tdsl.spelling import did_you_mean

if TYPE_CHECKING:
    from tdsl.lang import tree

Kind = Literal["rule", "law", "pass", "pipeline", "group", "action", "symmetry"]

_PLURALS: dict[str, Kind] = {
    "rules": "rule",
    "laws": "law",
    "passes": "pass",
    "pipelines": "pipeline",
    "groups": "group",
    "actions": "action",
    "symmetries": "symmetry",
}

APPLIED: tuple[Kind, ...] = ("rule", "law", "pass", "pipeline")
"""Kinds that a pipeline may name."""

_HEAD = re.compile(
    r"(?P<doc>(?:^///.*\n)*)^(?P<kind>rule|law|pipeline|example|group|action|symmetry)\s+(?P<name>\w+)",
    re.MULTILINE,
)
_COMMENT = re.compile(r"//.*")


@dataclass(frozen=True, slots=True)
class Entry:
    """A name, what it stands for, and where it is declared."""

    name: str
    kind: Kind
    arrow: str
    """`=>`, `~>` or `==` of a rule or law; empty for others."""
    doc: str
    path: Path
    line: int

    @property
    def summary(self) -> str:
        """The first sentence of the documentation, or its first paragraph."""
        paragraph = " ".join(self.doc.partition("\n\n")[0].split())
        return re.split(r"\.(?= [A-Z]|$)", paragraph)[0]

    def source(self) -> str:
        """The declaration as text: canonical for the language, as written for Python."""
        return _python_source(self) if self.kind == "pass" else _rule_source(self)

    def examples(self) -> str:
        """The examples beside the declaration that name it, in canonical form; empty if there are none."""
        from tdsl.lang import format_file, parse_file, tree

        items = parse_file(self.path).items if self.kind != "pass" else ()
        called = (self.name, self.name.rpartition(".")[2])
        found = [i for i in items if isinstance(i, tree.Example) and i.reference.pattern in called]
        return format_file(tree.File(items=tuple(found), span=found[0].span)) if found else ""


def catalog(rules: Path | None = None) -> list[Entry]:
    """The standard library, and what `rules` and its imports declare beside it, file by file as they stand.

    Raises `TdslError` when `rules` does not parse; its rules are not checked further.
    """
    entries = {entry.name: entry for entry in _passes()}
    for prefix, path in standard_files():
        entries |= {entry.name: entry for entry in _outline(path, prefix)}
    if rules:
        from tdsl.lang.imports import load_files  # the parser, which the library's outline needs not

        for file in load_files([rules]):
            path = Path(file.span.source.name)
            entries |= {entry.name: entry for entry in declared(file, path, prefix_of(path))}
    return sorted(entries.values(), key=lambda entry: entry.name.rpartition(".")[0])


def matching(entries: Sequence[Entry], pattern: str, beside: Sequence[str] = ()) -> list[Entry]:
    """Entries whose name matches a glob or contains a text, or all of a kind (`laws`).

    Raises `TdslError` with the nearest name when there is none; one of `beside` may have been meant, too.
    """
    if pattern in _PLURALS:
        return [entry for entry in entries if entry.kind == _PLURALS[pattern]]
    glob = pattern if any(c in pattern for c in "*?[") else f"*{pattern}*"
    found = [entry for entry in entries if fnmatch.fnmatchcase(entry.name, glob)]
    if not found:
        raise _operator(pattern, "listed") or TdslError(
            f"nothing is called {pattern}", hint=_nearest(pattern, entries, (*_PLURALS, *beside))
        )
    return found


def named(entries: Sequence[Entry], name: str) -> Entry:
    """The entry of that full name, or the only one whose name ends so.

    Raises `TdslError` when there is none, or several.
    """
    found = [entry for entry in entries if entry.name == name or entry.name.endswith(f".{name}")]
    exact = [entry for entry in found if entry.name == name]
    if not found:
        raise _operator(name, "shown") or TdslError(
            f"no rule, pass or pipeline is called {name}", hint=_nearest(name, entries)
        )
    if len(found) > 1 and not exact:
        raise TdslError(f"{name} is ambiguous", expected=f"one of {', '.join(entry.name for entry in found)}")
    return (exact or found)[0]


def _operator(name: str, done: str) -> TdslError | None:
    """What to say where somebody asks for an operator, which is declared in no file of the language."""
    from tdsl.ops import OPERATORS  # of no use to most of what is listed, which is to be quick

    if name not in OPERATORS:
        return None
    return TdslError(
        f"{name} is an operator, and only what is declared in a file is {done}",
        hint=f"its signature is `{OPERATORS[name].signature}`; `tdsl list operators` has them all",
    )


def _nearest(name: str, entries: Sequence[Entry], others: Sequence[str] = ()) -> str:
    known = {entry.name.rpartition(".")[2]: entry.name for entry in entries}
    return did_you_mean(name, [*known, *known.values(), *others]) or "`tdsl list` shows all names"


# ---------------------------------------------------------------- the language


def _outline(path: Path, prefix: str) -> Iterator[Entry]:
    """The declarations of a file that is known to be right."""
    text = path.read_text(encoding="utf-8")
    heads = list(_HEAD.finditer(text))
    ends = [*(head.start() for head in heads[1:]), len(text)]
    for head, end in zip(heads, ends, strict=True):
        if head["kind"] == "example":
            continue
        kind: Kind = head["kind"]  # type: ignore[assignment]  # the pattern has no others
        body = _COMMENT.sub("", text[head.end() : end])
        arrow = "==" if kind == "law" else "" if kind != "rule" else "~>" if "~>" in body else "=>"
        doc = "\n".join(line[3:].removeprefix(" ").rstrip() for line in head["doc"].splitlines())
        line = text.count("\n", 0, head.start("kind")) + 1
        yield Entry(full_name(prefix, head["name"]), kind, arrow, doc, path, line)


def declared(file: tree.File, path: Path, prefix: str) -> Iterator[Entry]:
    """The declarations of a file that was parsed from `path`, under `prefix`."""
    from tdsl.lang import tree

    for item in file.items:
        if isinstance(item, tree.Rule | tree.Pipeline):
            arrow = item.arrow if isinstance(item, tree.Rule) else ""
            kind: Kind = "pipeline" if not arrow else "law" if arrow == "==" else "rule"
            yield Entry(full_name(prefix, item.name), kind, arrow, item.doc, path, item.span.line)
        elif isinstance(item, tree.Group | tree.Action | tree.Symmetry):
            what: Kind = type(item).__name__.lower()  # type: ignore[assignment]  # the kinds of that name
            yield Entry(full_name(prefix, item.name), what, "", item.doc, path, item.span.line)


def _rule_source(entry: Entry) -> str:
    """The declaration with its comments, formatted as a file of its own."""
    from tdsl.lang import format_file, parse_file, tree

    file = parse_file(entry.path)
    item = next(item for item in file.items if item.span.line == entry.line)
    first = entry.line - (entry.doc.count("\n") + 1 if entry.doc else 0)
    comments = tuple((at, text) for at, text in file.comments if first <= at <= item.span.end_line)
    return format_file(tree.File(items=(item,), comments=comments, span=file.span))


# ---------------------------------------------------------------- Python


def _passes() -> Iterator[Entry]:
    for path in sorted(library_path().rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        for found in ast.parse(text).body if "graph_pass" in text else ():
            if isinstance(found, ast.ClassDef) and any(map(_declares, found.decorator_list)):
                yield Entry(_name_of(found), "pass", "", ast.get_docstring(found) or "", path, found.lineno)


def _declares(decorator: ast.expr) -> bool:
    return isinstance(decorator, ast.Name) and decorator.id == "graph_pass"


def _name_of(declared: ast.ClassDef) -> str:
    """The value of the class attribute `name`."""
    for statement in declared.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id="name")], value=ast.Constant(value=str(name))):
                return name
    raise ValueError(f"{declared.name} has no name")


def _python_source(entry: Entry) -> str:
    text = entry.path.read_text(encoding="utf-8")
    classes = (node for node in ast.parse(text).body if isinstance(node, ast.ClassDef))
    found = next(node for node in classes if node.lineno == entry.line)
    start = min(found.lineno, *(decorator.lineno for decorator in found.decorator_list))
    return "".join(text.splitlines(keepends=True)[start - 1 : found.end_lineno])
