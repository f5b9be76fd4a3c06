"""What an editor shows beside a word: signatures, promises, sources of methods, types, proofs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tdsl.catalog import Entry
from tdsl.errors import TdslError
from tdsl.lang import format_file, tree
from tdsl.lang.resolve import Resolved
from tdsl.lang.terms import parameter
from tdsl.lang.vocabulary import PARAMETER_KINDS, Function
from tdsl.lang.walk import walk
from tdsl.lsp.checks import Checks
from tdsl.lsp.document import Document
from tdsl.lsp.files import meant, parameters_of, selected
from tdsl.lsp.knowledge import Knowledge
from tdsl.lsp.navigate import imported_by
from tdsl.lsp.proofs import proof_state
from tdsl.lsp.variables import ATTRIBUTES, describe, literal
from tdsl.lsp.words import Role, Word
from tdsl.ops import Operator
from tdsl.ops.spec import REQUIRED
from tdsl.quantise.declare import Scheme

MOST = 12
"""Names shown of what a glob selects."""

_ARROWS = {
    "=>": "exact, used from left to right",
    "~>": "approximate",
    "==": "a law: exact, holds both ways, never fires on its own",
}


def hover(document: Document, line: int, column: int, checks: Checks) -> str | None:
    """Markdown about the word at a position, or `None`."""
    word = document.word_at(line, column)
    if word is None:
        return None
    knowledge = checks.knowledge
    match word.role:
        case Role.REFERENCE:
            found = meant(checks.files.visible(document), document, word)
            return _reference(document, word.text, found, checks)
        case Role.DECLARED:
            return next((_entry(e, checks) for e in document.entries if e.line == word.line + 1), None)
        case Role.IMPORT:
            return _import(document, word, checks)
        case Role.KIND:
            return _kind(word.text, knowledge)
        case Role.ARGUMENT:
            return _argument(document, word, checks)
        case Role.DTYPE:
            return _titled(word.text, ["An element type."])
        case Role.METHOD if scheme := knowledge.schemes.get(word.text):
            return scheme_text(scheme)
        case Role.OBJECTIVE:
            return _titled(word.text, ["What the plan makes as small as the bounds allow."])
    return _variable(document, word, checks) or _name(word.text, knowledge)


def _titled(code: str, paragraphs: list[str]) -> str:
    return "\n\n".join([f"```tdsl\n{code}\n```", *(p for p in paragraphs if p)])


# ---------------------------------------------------------------- operators and functions


def _name(name: str, knowledge: Knowledge) -> str | None:
    """An operator, a function or both: `abs` is one of tensors and one of numbers."""
    found = []
    if operator := knowledge.vocabulary.operators.get(name):
        found.append(operator_text(operator))
    if function := knowledge.vocabulary.functions.get(name):
        found.append(function_text(function, knowledge))
    if name in knowledge.metrics and not found:
        found.append(_titled(name, [knowledge.metrics[name].capitalize() + "."]))
    return "\n\n---\n\n".join(found) or None


def operator_text(operator: Operator) -> str:
    """Signature, meaning and algebraic facts of an operator."""
    facts = ", ".join(_facts(operator))
    spelt = ", ".join(f"`{one}`" for one in operator.torch)
    return _titled(
        operator.signature,
        [operator.doc, f"*{facts}*" if facts else "", f"PyTorch: {spelt}" if spelt else ""],
    )


def _facts(operator: Operator) -> Iterator[str]:
    for fact in (
        "commutative",
        "associative",
        "pointwise",
        "elementwise",
        "odd",
        "even",
        "homogeneous",
        "random",
    ):
        if getattr(operator, fact):
            yield fact
    if operator.moves:
        yield "moves data only"
    if operator.rowwise:
        yield "treats rows alike"
    if operator.reduces:
        yield "reduces axes"
    if operator.linear_in:
        yield f"linear in {' and in '.join(operator.linear_in)}"


def function_text(function: Function, knowledge: Knowledge) -> str:
    """Signature and meaning of a function; of a decomposition also its promise, shapes and source."""
    paragraphs = [f"*{function.kind}*. {function.doc}"]
    if known := knowledge.decompositions.get(function.name):
        shapes = "; ".join(
            f"`[{', '.join(form.operand)}]` → {', '.join('`[' + ', '.join(r) + ']`' for r in form.results)}"
            for form in known.forms
        )
        paragraphs += [f"Promise: `{known.promise_text}`", f"Shapes: {shapes}", f"Method: {known.source}"]
    return _titled(f"{function.name}({', '.join(function.params)})", paragraphs)


def scheme_text(scheme: Scheme) -> str:
    """How `quantize` writes a scheme, what it does, whose method it is."""
    source = f"Method: {scheme.source}" if scheme.source else ""
    return _titled(f"quantize {scheme.signature}", [scheme.doc, source])


def _kind(kind: str, knowledge: Knowledge) -> str | None:
    if kind in PARAMETER_KINDS:
        return _titled(kind, [PARAMETER_KINDS[kind].capitalize() + "."])
    if kind in knowledge.vocabulary.classes:
        members = [operator.name for operator in knowledge.vocabulary.members(kind)]
        return _titled(kind, [f"A class of {len(members)} operators: {', '.join(members)}."])
    return _name(kind, knowledge)


def _argument(document: Document, word: Word, checks: Checks) -> str | None:
    """The parameter that the name of an argument means, of an operator or of a rule that is applied."""
    place = document.place_of(word)
    if place is None:
        return None
    call = _call_around(place.item, word.line - place.part.line + 1, word.column + 1)
    if isinstance(call, tree.Quantize):
        scheme = checks.knowledge.schemes.get(call.scheme)
        known = (p for p in (scheme.parameters if scheme else ()) if p.name == word.text)
        return next((_titled(parameter(p), [_kind_in_words(p.kinds[0])]) for p in known), None)
    if isinstance(call, tree.RuleRef):
        entries = selected(checks.files.visible(document), call.pattern)
        found = (p for entry in entries for p in parameters_of(entry, checks.files) if p.name == word.text)
        return next((_titled(parameter(p), [_kind_in_words(p.kinds[0])]) for p in found), None)
    operators = checks.knowledge.vocabulary.members(call.callee) if call else ()
    for operator in operators[:1]:
        if param := operator.param(word.text):
            default = "" if param.default is REQUIRED else f" By default {literal(param.default)}."
            kind = ATTRIBUTES.get(param.kind, "a tensor")
            return _titled(operator.signature, [f"`{param.name}`: {kind}.{default}"])
    return None


def _kind_in_words(kind: str) -> str:
    return PARAMETER_KINDS[kind].capitalize() + "." if kind in PARAMETER_KINDS else ""


def _call_around(root: tree.Node, line: int, column: int) -> tree.Call | tree.RuleRef | tree.Quantize | None:
    """The call, scheme or reference to rules, an argument of which begins with its name at a place."""
    for node in walk(root):
        if isinstance(node, tree.Call | tree.RuleRef | tree.Quantize):
            for argument in node.arguments:
                if (argument.span.line, argument.span.column) == (line, column):
                    return node
    return None


# ---------------------------------------------------------------- rules and pipelines


def _reference(document: Document, pattern: str, found: list[Entry], checks: Checks) -> str | None:
    if len(found) == 1:
        return _entry(found[0], checks)
    if not found:
        return None
    lines = [f"- `{entry.name}` {entry.arrow} {entry.summary}" for entry in found[:MOST]]
    more = [f"- … and {len(found) - MOST} more"] if len(found) > MOST else []
    return "\n".join([f"`{pattern}`: {len(found)} rules and passes", "", *lines, *more])


def _entry(entry: Entry, checks: Checks) -> str:
    """A declaration: its documentation, what its arrow promises, how far it is proved, its text."""
    if entry.kind == "pass":
        return _titled(entry.name, [f"*A pass in Python.* {entry.doc}"])
    try:
        document = checks.files.get(entry.path)
    except TdslError:
        return _titled(entry.name, [entry.doc])
    place = next((p for p in document.places if p.first_line == entry.line - 1), None)
    if place is None:
        return _titled(entry.name, [entry.doc])
    item = place.item
    bare = tree.File((_without_doc(item),), span=item.span)
    promise = f"*{_ARROWS[entry.arrow]}*" if entry.arrow else ""
    return _titled(format_file(bare).rstrip("\n"), [entry.doc, promise, _proof(entry, document, checks)])


def _import(document: Document, word: Word, checks: Checks) -> str | None:
    """What the file declares that is imported."""
    found = [checks.files.get(target.path) for target in imported_by(document, word)]
    if not found:
        return None
    lines = [f"- `{entry.name}` {entry.arrow or entry.kind} {entry.summary}" for entry in found[0].entries]
    more = [f"- … and {len(lines) - MOST} more"] if len(lines) > MOST else []
    return "\n".join([f"`{found[0].path.name}`", "", *lines[:MOST], *more])


def _without_doc(item: tree.Item) -> tree.Item:
    return replace(item, doc="") if isinstance(item, tree.Rule | tree.Pipeline) else item


def _proof(entry: Entry, document: Document, checks: Checks) -> str:
    library = checks.knowledge.library
    known = library.rules.get(entry.name) if library else None
    if known is None or document in checks.files.open:
        place = next(p for p in document.places if p.first_line == entry.line - 1)
        found = checks.declaration(document, place)
        known = None if isinstance(found, TdslError) else found
    return proof_state(known) if known else ""


# ---------------------------------------------------------------- variables


def _variable(document: Document, word: Word, checks: Checks) -> str | None:
    place = document.place_of(word)
    if place is None:
        return None
    if word.role is Role.CALLEE and not document.same_variable(word):
        return None
    resolved = checks.resolved(document, place)
    known = resolved if isinstance(resolved, Resolved) else None
    try:
        found = describe(place.item, word.text, known, checks.knowledge)
    except TdslError:  # a call that does not fit its operator, which the diagnostics say
        return None
    return _titled(found[0], [" ".join(found[1])]) if found else None
