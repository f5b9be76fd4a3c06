"""What was found about a set of rules, for people: a few lines a loop, a few lines a pair."""

from __future__ import annotations

import textwrap

from tdsl.interplay.analysis import MayLoop, Together
from tdsl.interplay.pairs import CriticalPair
from tdsl.interplay.run import Loop

SHOWN = 6
"""Most steps of a loop whose graphs are shown."""


def loop_text(loop: Loop) -> str:
    """The circle of rules, the graph that runs into it, and the graph after each step."""
    lines = [f"loop: {' → '.join((*loop.circle, loop.circle[0]))}", _indented(loop.start)]
    for number, step in enumerate(loop.steps[:SHOWN], 1):
        lines += [f"  {step.rule}", _indented(step.state)]
        if loop.kind == "repeats" and number == len(loop.steps):
            where = f"step {loop.returns_to}" if loop.returns_to else "the start"
            lines.append(f"  as at {where}")
    if loop.kind == "grows":
        lines.append(f"  and so on, without an end after {_counted(len(loop.steps), 'rewrite')}")
    elif len(loop.steps) > SHOWN:
        where = f"step {loop.returns_to}" if loop.returns_to else "the start"
        lines.append(f"  step {len(loop.steps)} is as {where}")
    return "\n".join(lines) + "\n"


def may_loop_text(circle: MayLoop) -> str:
    """Rules that enable each other, and why that may go on."""
    return f"may loop: {', '.join(circle.rules)}\n  {circle.missing}; no graph tried runs into a loop\n"


def pair_text(pair: CriticalPair) -> str:
    """Both rules, the peak, and what comes of it."""
    first, second = pair.rules
    if pair.result == "wrong":
        title = f"wrong: {first} and {second} compute other numbers than"
    elif pair.result == "endless":
        title = f"endless: {first} and {second}, and the rules after them, come to no end at"
    else:
        title = f"order matters: {first} and {second} at"
    lines = [title, _indented(pair.peak)]
    if pair.result != "endless":
        names = pair.rules if first != second else (f"{first}, here", f"{second}, there")
        for name, form, operators in zip(names, pair.normal_forms, pair.operators, strict=True):
            lines += [f"  {name} first: {_counted(operators, 'operator')}", _indented(form)]
    return "\n".join(lines) + "\n"


def summary(found: Together) -> str:
    """Counts, on one line."""
    loops = _counted(len(found.loops), "loop") if found.loops else "no loop"
    parts = [loops]
    if found.may_loop:
        parts.append(f"{_counted(len(found.may_loop), 'circle')} that may loop")
    if found.joinable:
        parts.append(f"{_counted(found.joinable, 'critical pair')} join{'s' if found.joinable == 1 else ''}")
    if found.apart:
        verb = "does" if found.apart == 1 else "do"
        parts.append(f"{_counted(found.apart, 'critical pair')} {verb} not join")
    if not found.joinable and not found.apart:
        parts.append("no critical pairs")
    impossible = found.overlaps - found.joinable - found.apart
    if impossible:
        parts.append(f"{_counted(impossible, 'overlap')} without a graph")
    return f"{_counted(len(found.rules), 'rule')}: {', '.join(parts)}"


def _indented(graph: str) -> str:
    return textwrap.indent(graph.rstrip("\n"), "    ")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
