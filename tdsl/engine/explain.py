"""Where a rule fires in a model, how far it gets elsewhere, and what stands in its way."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import fx

from tdsl.engine.conditions import refute
from tdsl.engine.frame import Frame, Test, Variant
from tdsl.engine.mismatch import Mismatch, Partial, operator_name, operators_text
from tdsl.engine.near_miss import hint, written_otherwise
from tdsl.engine.partial import Nearest
from tdsl.engine.pattern import Term
from tdsl.engine.rule import Rule
from tdsl.engine.staged import CannotStage
from tdsl.engine.statistics import Statistics
from tdsl.engine.text import call_text
from tdsl.engine.workspace import Workspace
from tdsl.errors import Span
from tdsl.provenance import module_path, source_line

WIDTH = 100
"""Columns of the rendered text."""

RULE_WIDTH = 84
"""Columns of a line of the rule in it."""


@dataclass(frozen=True, slots=True)
class Place:
    """A node of the model: its name, what it computes, the module and source line it comes from."""

    node: str
    text: str
    module: str
    source: str


@dataclass(frozen=True, slots=True)
class Failure:
    """One thing in the way: what it is, where it is written in the rule, where it stands in the model."""

    kind: str
    message: str
    rule_at: str
    rule_line: str
    caret: str
    place: Place | None
    values: tuple[tuple[str, str], ...]
    verdict: str
    hint: str


@dataclass(frozen=True, slots=True)
class Site:
    """A candidate where the rule does not fire: `satisfied` of `total` terms and conditions hold there."""

    root: Place
    satisfied: int
    total: int
    matched: tuple[tuple[str, Place], ...]
    failures: tuple[Failure, ...]
    similar: int
    """How many further candidates fail in the same way."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What `tdsl explain` says of a rule and a model."""

    rule: str
    candidates: int
    """Nodes that an operator at the root of the pattern computes."""
    fires: int
    fired: tuple[Place, ...]
    """The first places where it fires."""
    sites: tuple[Site, ...]
    """The best partial matches, best first."""
    root: str
    nearest: tuple[str, ...]
    """When there is no candidate: the model's operators nearest in name."""
    otherwise: tuple[Place, ...]
    """When there is no candidate: nodes that mean the same in other words."""

    def render(self) -> str:
        """The explanation as text of at most 100 columns where names allow."""
        lines = _headline(self)
        for place in self.fired:
            lines += _place(place, "    ")
        if self.fires > len(self.fired) > 0:
            lines.append(f"    … and {self.fires - len(self.fired)} more")
        for site in self.sites:
            lines += ["", *_site(site)]
        return "\n".join(line.rstrip() for line in lines) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """The explanation as plain data for JSON."""
        return _plain(self)  # type: ignore[no-any-return]


def explain(
    rule: Rule, module: fx.GraphModule, limit: int = 5, statistics: Statistics | None = None
) -> Explanation:
    """Say where `rule` fires in `module` and what is in the way at its `limit` best partial matches.

    `statistics` answers what the rule asks about calibration data. The graph is not changed. Sites that
    fail in the same way count as one.
    """
    search = _Explainer(rule, module, statistics)
    fired: list[fx.Node] = []
    attempts: list[_Attempt] = []
    candidates = 0
    for order, node in enumerate(module.graph.nodes):
        ways = search.at(node, order)
        if ways is None:
            continue
        candidates += 1
        if ways:
            attempts.append(max(ways, key=lambda way: way.merit))
        else:
            fired.append(node)
    attempts.sort(key=lambda way: (tuple(-m for m in way.merit), way.order))
    groups: dict[Any, list[_Attempt]] = {}
    for attempt in attempts:
        groups.setdefault(attempt.alike, []).append(attempt)
    firsts = list(groups.values())[:limit]
    nearest_names, otherwise = ((), ()) if candidates else search.instead_of_root(limit)
    return Explanation(
        rule=rule.name,
        candidates=candidates,
        fires=len(fired),
        fired=tuple(place_of(node) for node in fired[:limit]),
        sites=tuple(search.site(group[0], len(group) - 1) for group in firsts),
        root=operators_text(rule.variants[0].pattern.roots[0]),
        nearest=nearest_names,
        otherwise=otherwise,
    )


# ---------------------------------------------------------------- the search


_Refusal = tuple[str, Test | None, Frame]
"""The reason, the condition (`None` if something could not be computed), and the match."""


@dataclass(frozen=True, slots=True, eq=False)
class _Attempt:
    """A variant tried at a node without success: refused by a condition, or matched in part only."""

    node: fx.Node
    order: int
    variant: Variant
    partial: Partial
    refusal: _Refusal | None = None
    passed: int = 0
    """Conditions that held."""

    @property
    def merit(self) -> tuple[int, int]:
        """How far it got; more is better."""
        terms, mismatches = self.partial.merit
        return terms + self.passed, mismatches

    @property
    def alike(self) -> Any:
        """What attempts that fail in the same way have in common."""
        if self.refusal is not None:
            reason, test, _ = self.refusal
            return id(self.variant), reason if test is None else id(test)
        return id(self.variant), tuple(_kind_of(mismatch) for mismatch in self.partial.mismatches)


class _Explainer:
    def __init__(self, rule: Rule, module: fx.GraphModule, statistics: Statistics | None) -> None:
        self.rule = rule
        self.module = module
        self.refused: list[_Refusal] = []
        work = Workspace(module)
        work.statistics = statistics
        self.ways = [
            (variant, frozenset(roots), Nearest(variant.pattern), rule.attempt(variant, work, self._hear))
            for variant, roots in zip(rule.variants, rule.roots, strict=True)
        ]

    def _hear(self, reason: str, test: Any, frame: Frame) -> None:
        self.refused.append((reason, test, frame))

    def at(self, node: fx.Node, order: int) -> list[_Attempt] | None:
        """The failed attempts at `node`: none if the rule fires there, `None` if it is no candidate."""
        attempts: list[_Attempt] | None = None
        for variant, roots, search, attempt in self.ways:
            if node.target not in roots:
                continue
            self.refused.clear()
            if attempt(node) is not None:
                return []
            attempts = attempts or []
            partial = search.at(node)
            tries = [
                _Attempt(node, order, variant, partial, refusal, _passed(variant, refusal))
                for refusal in self.refused
            ]
            whole = max(tries, key=lambda way: way.passed, default=None)
            attempts.append(whole or _Attempt(node, order, variant, partial))
        return attempts

    def site(self, attempt: _Attempt, similar: int) -> Site:
        terms = list(attempt.variant.pattern.terms())
        matched = tuple(
            (term_text(term), place_of(nodes[0])) for term, nodes in attempt.partial.matched if nodes
        )
        if attempt.refusal is not None:
            failures: tuple[Failure, ...] = (self.refusal(*attempt.refusal),)
        else:
            failures = tuple(_failure(mismatch) for mismatch in attempt.partial.mismatches)
        total = len(terms) + len(attempt.variant.tests)
        satisfied = attempt.partial.satisfied + attempt.passed
        return Site(place_of(attempt.node), satisfied, total, matched, failures, similar)

    def refusal(self, reason: str, test: Test | None, frame: Frame) -> Failure:
        """A complete match that a condition, a definition, or the right side refuses."""
        if test is None and frame.failed is not None:
            return _written("definition", reason, frame.failed)
        if test is None:
            source = self.rule.source
            span = source.rhs[0].span if source is not None and source.rhs else None
            return _written("right side", reason, span)
        refuted = refute(test, frame)
        return _written(
            "condition", refuted.text, refuted.span, None, refuted.values, refuted.verdict, refuted.hint
        )

    def instead_of_root(self, limit: int) -> tuple[tuple[str, ...], tuple[Place, ...]]:
        """Operators of the model with names like the root's, and nodes that mean the same."""
        nodes = [n for n in self.module.graph.nodes if n.op == "call_function"]
        present = sorted({operator_name(n.target) for n in nodes})
        wanted = sorted({operator_name(t) for roots in self.rule.roots for t in roots})
        near = [n for name in wanted for n in difflib.get_close_matches(name, present, n=3, cutoff=0.6)]
        alike = [n for n in nodes if any(written_otherwise(name, n) for name in wanted)]
        return tuple(dict.fromkeys(near))[:limit], tuple(place_of(n) for n in alike[:limit])


def _passed(variant: Variant, refusal: _Refusal) -> int:
    """How many conditions held before one did not, or could not be computed."""
    _, failed, frame = refusal
    for count, test in enumerate(variant.tests):
        if test is failed:
            return count
        try:
            test.evaluate(frame.extended())
        except CannotStage:
            return count
    return len(variant.tests)


def _kind_of(mismatch: Mismatch) -> tuple[Any, ...]:
    value = mismatch.value
    found = operator_name(value.target) if isinstance(value, fx.Node) and value.op == "call_function" else ""
    return mismatch.kind, id(mismatch.term), str(mismatch.span), found


def _failure(mismatch: Mismatch) -> Failure:
    place = place_of(mismatch.value) if isinstance(mismatch.value, fx.Node) else None
    return _written(mismatch.kind, mismatch.message, mismatch.span, place, hint=hint(mismatch))


def _written(
    kind: str,
    message: str,
    span: Span | None,
    place: Place | None = None,
    values: tuple[tuple[str, str], ...] = (),
    verdict: str = "",
    hint: str = "",
) -> Failure:
    line, caret = _pointed(span) if span is not None else ("", "")
    return Failure(kind, message, str(span or ""), line, caret, place, values, verdict, hint)


def _pointed(span: Span) -> tuple[str, str]:
    """The first line of a span and carets under it, without indentation, cut around them where it is long."""
    text = span.source.line(span.line)
    line = text.strip()
    start = span.column - 1 - (len(text) - len(text.lstrip()))
    stop = start + span.end_column - span.column if span.end_line == span.line else len(line)
    if len(line) > RULE_WIDTH:
        first = max(0, min(start - RULE_WIDTH // 4, len(line) - RULE_WIDTH))
        last = first + RULE_WIDTH
        line = (
            ("…" if first else line[0]) + line[first + 1 : last - 1] + ("…" if last < len(line) else line[-1])
        )
        start, stop = start - first, min(stop - first, RULE_WIDTH)
    return line, " " * start + "^" * max(1, stop - start)


def term_text(term: Term) -> str:
    """A term of a pattern as it was written."""
    span = term.span
    if span is None:
        return f"{getattr(term, 'label', '') or operators_text(term)}(…)"
    lines = span.source.text.split("\n")[span.line - 1 : span.end_line]
    lines[-1] = lines[-1][: span.end_column - 1]
    lines[0] = lines[0][span.column - 1 :]
    return " ".join(part for line in lines for part in line.split())


def place_of(node: fx.Node) -> Place:
    """A node of the model as an explanation shows it."""
    known = {"placeholder": "an input of the model", "output": "the outputs of the model"}
    text = known.get(node.op) or (f"weight {node.target}" if node.op == "get_attr" else call_text(node))
    return Place(node.name, text, module_path(node), source_line(node))


# ---------------------------------------------------------------- as text


def _headline(found: Explanation) -> list[str]:
    if found.candidates == 0:
        lines = [f"{found.rule} cannot fire: {found.root} occurs nowhere in the model"]
        if found.nearest:
            lines.append(f"    operators of the model with names like it: {', '.join(found.nearest)}")
        if found.otherwise:
            lines.append("    the same in other words:")
        for place in found.otherwise:
            lines += _place(place, "      ")
        return lines
    count = f"{found.candidates} candidate{'' if found.candidates == 1 else 's'} ({found.root})"
    where = f"at {found.fires} of {count}" if found.fires else f"nowhere among {count}"
    return [f"{found.rule} fires {where}"]


def _place(place: Place, indent: str, head: str = "") -> list[str]:
    lines = _wrapped(f"{place.node} = {place.text}", indent + head)
    origin = _origin(place)
    return [*lines, *(_wrapped(origin, indent + " " * (len(head) + 2)) if origin else [])]


def _origin(place: Place) -> str:
    return ", ".join(part for part in (place.module and f"in {place.module}", place.source) if part)


def _site(site: Site) -> list[str]:
    likewise = f", and likewise at {site.similar} more" if site.similar else ""
    lines = [f"{site.satisfied} of {site.total} terms and conditions hold{likewise}"]
    lines += _place(site.root, "  ", "at ")
    for text, place in site.matched:
        lines += _wrapped(f"{text}  is  {place.node}", "    matched  ")
    for failure in site.failures:
        lines += _lines_of(failure)
    return lines


def _lines_of(failure: Failure) -> list[str]:
    inner = " " * 13
    lines = _wrapped(failure.message, "    failed   ")
    if failure.values:
        lines += _wrapped(", ".join(f"{name} = {value}" for name, value in failure.values), inner)
    if failure.verdict:
        lines += _wrapped(failure.verdict, inner)
    if failure.place is not None and _origin(failure.place):
        lines += _wrapped(f"{failure.place.node}: {_origin(failure.place)}", inner)
    if failure.rule_at:
        lines += [f"{inner}{failure.rule_at}", f"{inner}  {failure.rule_line}", f"{inner}  {failure.caret}"]
    if failure.hint:
        lines += _wrapped(failure.hint, "    hint     ")
    return lines


def _wrapped(text: str, head: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=head, subsequent_indent=" " * len(head), break_long_words=False
    ) or [head]


def _plain(value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
