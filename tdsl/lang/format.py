"""The canonical form of a file: `format_file`. Idempotent, comments kept, lines of at most 100 columns.

A declaration is laid out from its tree as lines that remember where they stood in the source; comments
are then woven in: one on a line of its own goes before the line it stood before, one behind code stays
behind the line that code is now on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from tdsl.lang import tree
from tdsl.lang.terms import (
    INDENT,
    SUM,
    Line,
    arguments,
    flat,
    number,
    parameter,
    quoted,
    tensor_type,
    wrapped,
    wrapped_clause,
)

WIDTH = 100

_Documented = tree.Rule | tree.Example | tree.Group | tree.Action | tree.Symmetry | tree.Pipeline


def format_file(file: tree.File) -> str:
    """The canonical text of `file`; `parse(format_file(t)) == t`."""
    lines: list[Line] = []
    for i, item in enumerate(file.items):
        if i and not (isinstance(item, tree.Import) and isinstance(file.items[i - 1], tree.Import)):
            lines.append(Line(""))
        lines += _item(item)
    if file.comments:
        lines = _with_comments(lines, file)
    return "".join(f"{line.text}\n" for line in lines)


def format_side(side: Sequence[tree.Equation]) -> list[str]:
    """The lines of one side of a rule or example, without indentation."""
    return [line.text for line in _equations(side)]


# ---------------------------------------------------------------- declarations


def _item(item: tree.Item) -> list[Line]:
    match item:
        case tree.Import():
            path = item.path if item.library else quoted(item.path)
            return [Line(f"import {path}", item.span.line, item.span.end_line)]
        case tree.Rule():
            return [*_doc(item), *_rule(item)]
        case tree.Example():
            return [*_doc(item), *_example(item)]
        case tree.Group():
            lines = wrapped(item.value, WIDTH - len(f"group {item.name} = "))
            first = Line(f"group {item.name} = {lines[0].text}", item.span.line, lines[0].end)
            return [*_doc(item), first, *lines[1:]]
        case tree.Action():
            head = f"action {item.name} of {item.group} on {tensor_type(item.type)}"
            body = [line for g in item.generators for line in _prefixed("generator: ", g.value)]
            return [*_doc(item), *_braced(head, _indented(body), item)]
        case tree.Symmetry():
            return [*_doc(item), *_braced(f"symmetry {item.name}", _indented(list(_contract(item))), item)]
        case tree.Pipeline():
            body = [line for step in item.steps for line in _step(step)]
            return [*_doc(item), *_headed("pipeline", item, _indented(body))]


def _doc(item: _Documented) -> list[Line]:
    text = item.doc.split("\n") if item.doc else []
    first = item.span.line - len(text)
    return [Line(f"/// {t}".rstrip(), first + i, first + i) for i, t in enumerate(text)]


def _indented(lines: Sequence[Line]) -> list[Line]:
    return [replace(line, text=INDENT + line.text) for line in lines]


def _braced(head: str, body: Sequence[Line], node: tree.Node) -> list[Line]:
    first, last = node.span.line, node.span.end_line
    return [Line(f"{head} {{", first, first), *body, Line("}", last, last)]


def _headed(keyword: str, item: tree.Rule | tree.Pipeline, body: Sequence[Line]) -> list[Line]:
    """`rule name(parameters) {`, the indented body, `}`."""
    if not item.parameters:
        return _braced(f"{keyword} {item.name}", body, item)
    parts = [parameter(p) for p in item.parameters]
    head = f"{keyword} {item.name}({', '.join(parts)})"
    if len(head) + 2 <= WIDTH:
        return _braced(head, body, item)
    opening = Line(f"{keyword} {item.name}(", item.span.line, item.span.line)
    listed = [
        Line(f"{text},", p.span.line, p.span.end_line) for text, p in zip(parts, item.parameters, strict=True)
    ]
    return [opening, *_indented(listed), Line(") {"), *body, Line("}", *[item.span.end_line] * 2)]


def _rule(rule: tree.Rule) -> list[Line]:
    keyword = "law" if rule.arrow == "==" else "rule"
    return _headed(keyword, rule, [*_sides(rule), *_where(rule.where, rule.rhs[-1])])


def _where(clauses: Sequence[tree.Clause], before: tree.Node) -> list[Line]:
    if not clauses:
        return []
    body = _indented([line for c in clauses for line in wrapped_clause(c, WIDTH - len(INDENT))])
    return [Line("  where", *_keyword_line("where", before, clauses[0].span.line)), *body]


def _example(example: tree.Example) -> list[Line]:
    body = _indented(list(_equations(example.lhs)))
    after: tree.Node = example.lhs[-1]
    if example.arrow is not None:
        below = (*example.rhs, *example.where)[:1]
        last = below[0].span.line if below else example.span.end_line
        body.append(Line(f"  {example.arrow}", *_keyword_line(example.arrow, after, last)))
    if example.unchanged:
        body.append(Line(f"{INDENT}unchanged"))
    body += _indented(list(_equations(example.rhs)))
    reference = example.reference
    head = f"example {reference.pattern}{_method(reference.arguments)}"
    body += _where(example.where, example.rhs[-1] if example.rhs else after)
    return _braced(head, body, example)


def _sides(rule: tree.Rule) -> list[Line]:
    """Both sides, the arrow half as deep; a law of two plain terms on one line where that fits."""
    if rule.arrow == "==" and len(rule.lhs) == len(rule.rhs) == 1 and not rule.lhs[0].names:
        text = f"{flat(rule.lhs[0].term, SUM)} == {flat(rule.rhs[0].term, SUM)}"
        if not rule.rhs[0].names and len(INDENT + text) <= WIDTH:
            return [Line(INDENT + text, rule.lhs[0].span.line, rule.rhs[0].span.end_line)]
    arrow = Line(f"  {rule.arrow}", *_keyword_line(rule.arrow, rule.lhs[-1], rule.rhs[0].span.line))
    return [*_indented(list(_equations(rule.lhs))), arrow, *_indented(list(_equations(rule.rhs)))]


def _equations(side: Sequence[tree.Equation]) -> Iterator[Line]:
    for equation in side:
        names = ", ".join(equation.names)
        names = f"({names})" if len(equation.names) > 1 else names
        left = f"{names} = " if names else ""
        lines = wrapped(equation.term, WIDTH - len(INDENT) - len(left), SUM)
        yield Line(left + lines[0].text, equation.span.line, lines[0].end)
        yield from lines[1:]


def _keyword_line(keyword: str, before: tree.Node, last: int) -> tuple[int, int]:
    """The source line of a keyword behind `before`, up to line `last`; that of `before` if there is none."""
    for number_ in range(before.span.end_line, last + 1):
        code = before.span.source.line(number_).partition("//")[0]
        if keyword in code and (number_ > before.span.end_line or number_ == last):
            return number_, number_
    return before.span.end_line, before.span.end_line


def _contract(item: tree.Symmetry) -> Iterator[Line]:
    yield Line(f"group {item.group}")
    for edge in item.edges:
        how = f"by {edge.action}" if edge.action else "invariant"
        text = f"{edge.side} {edge.name}: {tensor_type(edge.type)} {how}"
        yield Line(text, edge.span.line, edge.span.end_line)
    if item.tolerance is not None:
        yield from _prefixed("tolerance ", item.tolerance)


def _prefixed(prefix: str, value: tree.Expr) -> list[Line]:
    lines = wrapped(value, WIDTH - len(INDENT) - len(prefix))
    return [replace(lines[0], text=prefix + lines[0].text), *lines[1:]]


# ---------------------------------------------------------------- pipelines


def _step(step: tree.Step) -> list[Line]:
    first, last = step.span.line, step.span.end_line
    match step:
        case tree.Repeated():
            limit = f" limit {number(step.limit)}" if step.limit is not None else ""
            return _rules("repeat ", step.rules, f" until stable{limit}", step)
        case tree.Once():
            return _rules("once ", step.rules, "", step)
        case tree.Run(pipeline=pipeline):
            return _rules("run ", [pipeline], "", step)
        case tree.First():
            attempt, otherwise = _steps(step.attempt), _steps(step.otherwise)
            return [
                Line("first {", first, first),
                *attempt,
                Line("} else {"),
                *otherwise,
                Line("}", last, last),
            ]
        case tree.Attempt():
            return [Line("attempt {", first, first), *_steps(step.steps), Line("}", last, last)]
        case tree.Ordered():
            return [Line(f"{step.order} {{", first, first), *_steps(step.steps), Line("}", last, last)]
        case tree.At():
            paths = ", ".join(map(quoted, step.paths))
            return [Line(f"at {paths} {{", first, first), *_steps(step.steps), Line("}", last, last)]
        case tree.Choose():
            lines = _rules("choose ", step.rules, "", step)
            lines[-1] = replace(lines[-1], end=step.rules[-1].span.end_line)
            lines.append(Line(f"{INDENT}minimize {step.objective}"))
            if step.budgets:
                lines += _listed(f"{INDENT}subject to ", [(flat(b), b) for b in step.budgets], "")
            return lines
        case tree.Heal():
            return [Line(f"heal {step.method}{_method(step.arguments)}", first, last)]
        case tree.Quantize():
            return [Line(f"quantize {step.scheme}{_method(step.arguments)}", first, last)]
        case tree.Check():
            promises: list[tuple[str, tree.Node]] = [(flat(bound), bound) for bound in step.bounds]
            promises += [(_kept(one), one) for one in step.symmetries]
            return _listed("check ", promises, "")


def _kept(node: tree.Kept) -> str:
    return f"symmetry {node.name}" + ("" if node.within is None else f" within {flat(node.within)}")


def _method(nodes: Sequence[tree.Argument]) -> str:
    return f"({arguments(nodes)})" if nodes else ""


def _steps(steps: Sequence[tree.Step]) -> list[Line]:
    return _indented([line for step in steps for line in _step(step)])


def _rules(head: str, rules: Sequence[tree.RuleRef], tail: str, step: tree.Node) -> list[Line]:
    lines = _listed(head, [(r.pattern + _method(r.arguments), r) for r in rules], tail)
    lines[0] = replace(lines[0], start=step.span.line)
    lines[-1] = replace(lines[-1], end=step.span.end_line)
    return lines


def _listed(head: str, parts: Sequence[tuple[str, tree.Node]], tail: str) -> list[Line]:
    """Parts separated by commas, as many on a line as fit."""
    lines = [Line(head, parts[0][1].span.line, parts[0][1].span.line)]
    for i, (text, node) in enumerate(parts):
        text += "," if i + 1 < len(parts) else tail
        current = lines[-1]
        if i and len(INDENT + current.text) + 1 + len(text) > WIDTH:
            lines.append(Line(INDENT * 2 + text, node.span.line, node.span.end_line))
        else:
            space = " " if i else ""
            lines[-1] = replace(current, text=current.text + space + text, end=node.span.end_line)
    return lines


# ---------------------------------------------------------------- comments


def _with_comments(lines: list[Line], file: tree.File) -> list[Line]:
    """`lines` with the comments of `file` woven in."""
    source = file.span.source.text.split("\n")
    before: dict[int, dict[int, list[str]]] = {}
    behind: dict[int, tuple[int, str]] = {}
    for at, text in file.comments:
        code = source[at - 1].partition(text)[0] if text in source[at - 1] else ""
        if code.strip():
            place = _last_started(lines, at)
            if place in behind:
                earlier, displaced = behind[place]
                before.setdefault(place, {})[earlier] = [displaced]
            behind[place] = (at, text)
        else:
            place = next((i for i, line in enumerate(lines) if line.end >= at), len(lines))
            gap = [""] if at < len(source) and not source[at].strip() else []
            outside = place == len(lines) or not re.match(r"[\s)}]", lines[place].text)
            before.setdefault(place, {})[at] = [text, *gap] if outside else [text]
    in_order = {place: [t for at in sorted(texts) for t in texts[at]] for place, texts in before.items()}
    return list(_woven(lines, in_order, behind))


def _last_started(lines: Sequence[Line], at: int) -> int:
    """Index of the last line that began at or before source line `at`."""
    return max((i for i, line in enumerate(lines) if 0 < line.start <= at), default=0)


def _woven(
    lines: Sequence[Line], before: dict[int, list[str]], behind: dict[int, tuple[int, str]]
) -> Iterator[Line]:
    for i in range(len(lines) + 1):
        following = lines[i].text if i < len(lines) else ""
        depth = len(following) - len(following.lstrip())
        if following.lstrip()[:1] in ("}", ")", "]"):
            depth += len(INDENT)
        comments = before.get(i, [])
        if i == len(lines):
            while comments and not comments[-1]:
                comments.pop()
            if comments and lines:
                yield Line("")
        for text in comments:
            yield Line(" " * depth + text if text else "")
        if i < len(lines):
            yield Line(f"{following}  {behind[i][1]}" if i in behind else following)
