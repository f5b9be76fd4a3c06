"""A report as tables for the terminal: the verdict first, readable at 80 columns and without colours."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from itertools import islice

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tdsl.report import units
from tdsl.report.dotted import DottedName
from tdsl.report.model import Correctness, Note, Promise, Report, RewriteRecord
from tdsl.verify import Task

FEW = 12
"""Up to so many rewrites are listed one by one."""

LARGEST = 5
"""So many of the largest savings are listed when there are more."""


def render(report: Report, *, everything: bool = False) -> RenderableType:
    """The whole report; `everything` lists each rewrite and note, however many there are."""
    return _spaced(
        [
            _headline(
                f"{report.model}, pipeline {report.pipeline}",
                report.correctness,
                "no file was written",
                report.rewrites,
            ),
            _sizes(report),
            *_correctness(report.correctness),
            *_tasks(report.tasks),
            *_rewrites(report.rewrites, everything),
            *_notes(report.notes, everything),
        ]
    )


def render_verdict(title: str, found: Correctness, notes: Sequence[Note] = ()) -> RenderableType:
    """Only whether and how far two models agree, headed by `title`."""
    head = _headline(title, found, "they differ by more than they may")
    return _spaced([head, *_correctness(found), *_notes(notes, everything=True)])


def _spaced(parts: Sequence[RenderableType]) -> RenderableType:
    return Group(*(Padding(part, (0, 0, 1, 0)) for part in parts[:-1]), parts[-1])


def to_text(report: Report, *, everything: bool = False, width: int = 80) -> str:
    """The report as plain text without colours."""
    buffer = io.StringIO()
    console = Console(file=buffer, width=width, color_system=None, force_terminal=False, legacy_windows=False)
    console.print(render(report, everything=everything))
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


# ---------------------------------------------------------------- verdict and sizes


def _headline(
    title: str, found: Correctness, failure: str, rewrites: Sequence[RewriteRecord] = ()
) -> RenderableType:
    if found.passed:
        return Text.assemble(("PASSED", "bold green"), f"  {title}: {_claim(found)}")
    lines: list[RenderableType] = [
        Text.assemble(("FAILED", "bold red"), f"  {title}: {failure}"),
        *(_bullet(text) for text in found.violations),
    ]
    blamed = next((item for item in rewrites if item.number == found.guilty), None)
    if blamed is not None:
        place = f" ({blamed.source})" if blamed.source else ""
        text = f"first broken by rewrite {blamed.number}: {blamed.rule} at {blamed.site}{place}"
        lines.append(_bullet(text))
    return Group(*lines)


def _claim(found: Correctness) -> str:
    where = f"{found.judged_samples} {found.judged_on} sample{'' if found.judged_samples == 1 else 's'}"
    claims = []
    if found.contract:
        claims.append(f"its contract holds on {where}")
    if found.exact:
        claims.append("it equals the original up to rounding")
    return " and ".join(claims) or f"compared on {where}, without a contract"


def _bullet(text: str) -> RenderableType:
    row = Table.grid(padding=(0, 1))
    row.add_row("  -", Text(text))
    return row


def _sizes(report: Report) -> RenderableType:
    table = _table("", "original", "result", "result/original")
    a, b = report.original, report.result
    table.add_row("file", units.of_bytes(a.bytes), units.of_bytes(b.bytes), units.ratio(b.bytes, a.bytes))
    table.add_row(
        "parameters",
        units.count(a.parameters),
        units.count(b.parameters),
        units.ratio(b.parameters, a.parameters),
    )
    if a.macs is not None and b.macs is not None:
        table.add_row("MACs", units.count(a.macs), units.count(b.macs), units.ratio(b.macs, a.macs))
    table.add_row("nodes", str(a.nodes), str(b.nodes), units.ratio(b.nodes, a.nodes))
    time = report.latency
    if time is not None:
        table.add_row(
            "latency, median",
            units.milliseconds(time.original_ms),
            units.milliseconds(time.result_ms),
            units.ratio(time.ratio, 1.0),
        )
        table.add_row(
            "  quartile spread",
            units.milliseconds(time.original_spread_ms),
            units.milliseconds(time.result_spread_ms),
            units.ratio(time.spread, 1.0),
            style="dim",
        )
    return table


# ---------------------------------------------------------------- correctness


def _correctness(found: Correctness) -> Iterable[RenderableType]:
    if found.contract:
        table = _table("contract", "bound", "measured", "")
        for promise in found.contract:
            style = "green" if promise.kept else "bold red"
            table.add_row(
                promise.metric,
                _limit(promise),
                _metric(promise.metric, promise.measured),
                Text("kept" if promise.kept else "BROKEN", style),
            )
        yield table
    if found.errors:
        table = _table("samples", "count", "error", "max error", "cosine min", "mean")
        for group in found.errors:
            m = group.metrics
            table.add_row(
                f"{group.group}{' *' if group.decides else ''}",
                str(group.samples),
                units.percent(m.error),
                units.significant(m.max_error),
                units.cosine(m.cosine) if not math.isnan(m.cosine) else units.NONE,
                units.cosine(m.mean_cosine) if not math.isnan(m.mean_cosine) else units.NONE,
            )
        yield Group(table, Text("  * the contract is judged on these", "dim")) if found.contract else table
    if found.rounding is not None:
        r = found.rounding
        text = f"rounding: at most {units.significant(r.result)} from the original in float64"
        text += f", {units.significant(r.allowed)} is allowed"
        if r.original is not None:
            text += f"; the original in float32 is {units.significant(r.original)} from it"
        yield Text(f"{text} (sample '{r.sample}', output '{r.output}')")


def _tasks(tasks: Sequence[Task]) -> Iterable[RenderableType]:
    """What metrics by labels were and are; a loss of the task is seen here, whatever cosines say."""
    if tasks:
        table = _table("by labels", "samples", "original", "result", "change")
        for one in tasks:
            numbers = (one.original, one.result, one.result - one.original)
            table.add_row(one.metric, str(one.samples), *map(units.significant, numbers))
        yield table


def _limit(promise: Promise) -> str:
    """A limit as a person writes it: `<= 2 %`, `>= 0.98`."""
    relation = ">=" if ">=" in promise.bound else "<="
    share = promise.metric == "error" and promise.limit >= 1e-5
    return f"{relation} {100 * promise.limit:g} %" if share else f"{relation} {promise.limit:g}"


def _metric(name: str, value: float) -> str:
    if "cosine" in name:
        return units.cosine(value)
    return units.percent(value) if name == "error" else units.significant(value)


# ---------------------------------------------------------------- rewrites and notes


def _rewrites(rewrites: Sequence[RewriteRecord], everything: bool) -> Iterable[RenderableType]:
    if not rewrites:
        yield Text("rewrites: none, no rule applied")
        return
    yield _by_rule(rewrites)
    if everything or len(rewrites) <= FEW:
        yield _listed("saved by rewrite", rewrites)
    else:
        largest = sorted(rewrites, key=_saving, reverse=True)[:LARGEST]
        yield Group(
            _listed("largest savings", largest),
            Text(f"  {len(rewrites) - len(largest)} more with --all", "dim"),
        )


def _by_rule(rewrites: Sequence[RewriteRecord]) -> RenderableType:
    """One row a rule, the largest saving first; ties stay in the order of first application."""
    rules: dict[str, list[RewriteRecord]] = {}
    for item in rewrites:
        rules.setdefault(item.rule, []).append(item)
    table = _table("saved by rule", "times", "error max", "parameters", "MACs", "nodes")
    totals = [tuple(map(sum, zip(*map(_saving, items), strict=True))) for items in rules.values()]
    ranked = sorted(zip(rules.items(), totals, strict=True), key=lambda item: item[1], reverse=True)
    for (rule, items), total in ranked:
        table.add_row(
            DottedName(rule), str(len(items)), _error(items), *(units.saved(value) for value in total)
        )
    if len(rules) > 1:
        sums = [sum(column) for column in zip(*totals, strict=True)]
        table.add_section()
        table.add_row("in all", str(len(rewrites)), "", *(units.saved(value) for value in sums))
    return table


def _listed(title: str, rewrites: Iterable[RewriteRecord]) -> RenderableType:
    table = _table(title, "error", "parameters", "MACs", "nodes")
    for item in rewrites:
        where = [DottedName(f"{item.number}. {item.rule}")]
        for line, style in ((item.site or "(top level)", "cyan"), (item.source, "dim")):
            if line:
                where.append(DottedName(f"  {line}", style))
        numbers = (units.saved(value) for value in _saving(item))
        table.add_row(Group(*where), _error([item]), *numbers)
    return table


def _error(items: Iterable[RewriteRecord]) -> str:
    errors = [item.error for item in items if item.error is not None]
    return units.percent(max(errors)) if errors else "exact"


def _saving(item: RewriteRecord) -> tuple[int, int, int]:
    return item.parameters, item.macs or 0, item.nodes


def _notes(notes: Sequence[Note], everything: bool) -> Iterable[RenderableType]:
    if notes:
        shown = notes if everything else tuple(islice(notes, FEW))
        lines = [_bullet(f"{note.kind}: {note.text}") for note in shown]
        rest = len(notes) - len(shown)
        yield Group(Text("notes"), *lines, *([Text(f"  {rest} more with --all", "dim")] if rest else []))


def _table(*columns: str) -> Table:
    """A table with a left column and numbers to the right, ruled under its head only."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for i, name in enumerate(columns):
        table.add_column(name, justify="left" if i == 0 else "right", no_wrap=i > 1)
    return table
