"""What may be written at a cursor: names that fit there, with what they mean."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tdsl.catalog import Entry
from tdsl.lang import tree
from tdsl.lang.imports import importable
from tdsl.lang.library_files import library_path
from tdsl.lang.recovery import RECOVERY
from tdsl.lang.vocabulary import DTYPES, PARAMETER_KINDS, SIDES
from tdsl.lsp.checks import Checks
from tdsl.lsp.context import Context, OpenCall, Section, context_at
from tdsl.lsp.document import Document
from tdsl.lsp.files import parameters_of, selected
from tdsl.lsp.hover import function_text, operator_text, scheme_text
from tdsl.lsp.knowledge import Knowledge
from tdsl.lsp.variables import ATTRIBUTES, literal
from tdsl.lsp.words import Role
from tdsl.ops import Operator, Param
from tdsl.ops.spec import REQUIRED


class Kind(enum.Enum):
    """What an offer is, for its icon and its place in the list."""

    ARGUMENT = 0
    VARIABLE = 1
    RULE = 2
    VALUE = 3
    OPERATOR = 4
    FUNCTION = 5
    TYPE = 6
    KEYWORD = 7
    FILE = 8


@dataclass(frozen=True, slots=True)
class Offer:
    """One line of the list that an editor shows."""

    label: str
    kind: Kind
    detail: str = ""
    doc: str = ""
    snippet: str = ""
    """What is inserted, in the notation of snippets; empty: the label."""


@dataclass(frozen=True, slots=True)
class Offers:
    """What an editor shows, and how much of what stands before the cursor each of them replaces."""

    typed: str
    offers: tuple[Offer, ...]


def complete(document: Document, line: int, column: int, checks: Checks) -> Offers:
    """What fits at a position. The editor filters by what was typed."""
    context = context_at(document, line, column)
    if context is None:
        return Offers("", ())
    found = {offer.label: offer for offer in _offers(document, line, context, checks)}
    return Offers(context.typed, tuple(found.values()))


_TERM = {"NUMBER", "LPAR"}
"""Terminals that are accepted together wherever a term may begin, and nowhere else."""


def _offers(document: Document, line: int, context: Context, checks: Checks) -> Iterator[Offer]:
    accepted, knowledge = context.accepted, checks.knowledge
    broken = not accepted and context.section is not Section.OUTSIDE
    yield from (Offer(word, Kind.KEYWORD) for word in accepted.values() if word.isidentifier())
    if "DOTTED" in accepted:
        yield from _imports(document)
    elif "GLOB" in accepted or (broken and context.section is Section.STEPS and context.call is None):
        visible = checks.files.visible(document)
        yield from _pipelines(visible) if context.before == "run" else _rules(visible)
    elif accepted.keys() >= _TERM or broken:
        yield from _terms(document, line, context, checks)
    elif "CONST" in accepted:
        yield from (Offer(name, Kind.TYPE, "element type") for name in DTYPES)
    elif "NAME" in accepted and context.section is Section.STEPS and context.before == "symmetry":
        for item in (p.item for one in (*checks.files.imported(document), document) for p in one.places):
            if isinstance(item, tree.Symmetry):
                yield Offer(item.name, Kind.VALUE, f"a symmetry of {item.group}", item.doc)
    elif "NAME" in accepted:
        yield from _plain_names(context, knowledge)


def _plain_names(context: Context, knowledge: Knowledge) -> Iterator[Offer]:
    """Where the grammar wants one name and no term."""
    if context.section is Section.PARAMETERS and context.before in (":", "|"):
        if context.before == ":":
            yield from (Offer(name, Kind.TYPE, what) for name, what in PARAMETER_KINDS.items())
        yield from (Offer(name, Kind.TYPE, "class of operators") for name in knowledge.vocabulary.classes)
        for operator in knowledge.vocabulary.operators.values():
            yield Offer(operator.name, Kind.OPERATOR, operator.signature, operator_text(operator))
    elif context.before == "minimize":
        yield from (Offer(name, Kind.VALUE, "what a plan makes small") for name in knowledge.objectives)
    elif context.before == "heal":
        yield from (Offer(name, Kind.VALUE, "how factors are solved anew") for name in RECOVERY)
    elif context.before == "quantize":
        for scheme in knowledge.schemes.values():
            yield Offer(scheme.name, Kind.VALUE, "how weights are stored", scheme_text(scheme))


# ---------------------------------------------------------------- terms


def _terms(document: Document, line: int, context: Context, checks: Checks) -> Iterator[Offer]:
    knowledge, section = checks.knowledge, context.section
    if context.call is not None:
        yield from _in_call(document, context.call, context.step, checks)
    yield from (Offer(name, Kind.VARIABLE) for name in _variables(document, line, context.typed))
    if section is Section.STEPS and context.step in ("check", "to") and context.call is None:
        yield from (Offer(name, Kind.VALUE, what) for name, what in knowledge.metrics.items())
        if context.step == "to":
            yield from (Offer(name, Kind.VALUE, "cost of the model") for name in knowledge.objectives)
        return
    if section in (Section.LEFT, Section.RIGHT, Section.WHERE):
        for operator in knowledge.vocabulary.operators.values():
            snippet = _snippet(operator)
            yield Offer(operator.name, Kind.OPERATOR, operator.signature, operator_text(operator), snippet)
    yield from _functions(section, knowledge)


_CALLED_IN: Mapping[Section, frozenset[str]] = {
    Section.LEFT: frozenset(),
    Section.RIGHT: frozenset({"number", "tensor"}),
    Section.PARAMETERS: frozenset({"number", "rank"}),
    Section.STEPS: frozenset({"number", "rank"}),
}
"""Kinds of functions that each section may call; others may call all."""


def _functions(section: Section, knowledge: Knowledge) -> Iterator[Offer]:
    kinds = _CALLED_IN.get(section)
    for function in knowledge.vocabulary.functions.values():
        if kinds is None or function.kind in kinds:
            operands = [p for p in function.params if not p.endswith("?")]
            snippet = f"{function.name}({_stops(p.removesuffix('...') for p in operands)})"
            detail = f"{function.name}({', '.join(function.params)})"
            yield Offer(function.name, Kind.FUNCTION, detail, function_text(function, knowledge), snippet)


def _snippet(operator: Operator) -> str:
    """The operands and attributes that a call cannot do without."""
    needed = [p for p in operator.params if p.default is REQUIRED and not p.optional]
    by_position = _stops(p.name for p in needed if not p.keyword_only)
    named = [p.name for p in needed if p.keyword_only]
    first = sum(not p.keyword_only for p in needed) + 1
    by_name = [f"{name}=${{{i}:{name}}}" for i, name in enumerate(named, first)]
    return f"{operator.name}({', '.join([by_position, *by_name] if by_position else by_name)})"


def _stops(names: Iterable[str]) -> str:
    """`${1:x}, ${2:weight}`: places that the editor goes through."""
    return ", ".join(f"${{{i}:{name}}}" for i, name in enumerate(names, 1))


def _variables(document: Document, line: int, typed: str) -> list[str]:
    """The names that the declaration around has used so far, that at the cursor left out."""
    part = document.part_at(line)
    last = part.line + part.text.count("\n")
    words = [w for w in document.words if part.line <= w.line <= last and w.role is Role.VARIABLE]
    counts: dict[str, int] = {}
    for word in words:
        counts[word.text] = counts.get(word.text, 0) + 1
    return [name for name, count in counts.items() if name not in SIDES and (name != typed or count > 1)]


# ---------------------------------------------------------------- arguments


def _in_call(document: Document, call: OpenCall, step: str, checks: Checks) -> Iterator[Offer]:
    """Names of the arguments that are not given yet, and what the current one may be."""
    vocabulary = checks.knowledge.vocabulary
    if operator := vocabulary.operators.get(call.callee):
        params = [p for p in operator.params if not p.is_operand]
        before = {p.name for p in operator.params[: call.position]} | set(call.named)
        if not call.argument:
            for param in params:
                if param.name not in before:
                    yield _named(param.name, _about(param))
        current = operator.param(call.argument) if call.argument else None
        if current is None and call.position < len(operator.params):
            current = operator.params[call.position]
        if current is not None and current.kind == "dtype":
            yield from (Offer(name, Kind.TYPE, "element type") for name in DTYPES)
    if function := vocabulary.functions.get(call.callee):
        if "side" in function.params:
            yield from (Offer(side, Kind.VALUE, "a side of the rule, as a whole") for side in SIDES)
    elif operator is None and not call.argument and step == "quantize":
        scheme = checks.knowledge.schemes.get(call.callee)
        for parameter in scheme.parameters if scheme else ():
            if parameter.name not in call.named:
                yield _named(parameter.name, " | ".join(parameter.kinds))
    elif operator is None and not call.argument:
        for entry in selected(checks.files.visible(document), call.callee):
            for parameter in parameters_of(entry, checks.files):
                if parameter.name not in call.named:
                    yield _named(parameter.name, " | ".join(parameter.kinds))


def _named(name: str, about: str) -> Offer:
    return Offer(f"{name}=", Kind.ARGUMENT, about)


def _about(param: Param) -> str:
    default = "" if param.default is REQUIRED else f", by default {literal(param.default)}"
    return ATTRIBUTES[param.kind].replace("`", "") + default


# ---------------------------------------------------------------- rules and files


def _rules(entries: Mapping[str, Entry]) -> Iterator[Offer]:
    """Rules and passes by full name, and globs over the files and folders they are in."""
    globs: dict[str, int] = {}
    for name, entry in entries.items():
        if entry.kind in ("pipeline", "law"):
            continue
        yield Offer(name, Kind.RULE, entry.arrow or entry.kind, entry.doc)
        homes = name.split(".")[:-1]
        for depth in range(1, len(homes) + 1):
            glob = ".".join(homes[:depth]) + ".*"
            globs[glob] = globs.get(glob, 0) + 1
    yield from (Offer(glob, Kind.RULE, f"{count} rules and passes") for glob, count in globs.items())


def _pipelines(entries: Mapping[str, Entry]) -> Iterator[Offer]:
    """What `run` takes."""
    for name, entry in entries.items():
        if entry.kind == "pipeline":
            yield Offer(name, Kind.RULE, "pipeline", entry.doc)


def _imports(document: Document) -> Iterator[Offer]:
    """Files of the standard library, and those beside the document."""
    yield from (Offer(name, Kind.FILE, "standard library") for name in importable(True, [library_path()]))
    folder: Path = document.path.parent
    for name in importable(False, [folder]):
        if name != document.path.name:
            yield Offer(f'"{name}"', Kind.FILE, "beside this file")
