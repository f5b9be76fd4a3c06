"""Trying a rule: loaded as from a file, then as examples of several sizes, which say whether it holds."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import fx

from tdsl.derive.function import Function
from tdsl.derive.trace import captured_with
from tdsl.derive.wording import Side, declared
from tdsl.engine.census import copied
from tdsl.engine.driver import rewrite
from tdsl.engine.example import run_example
from tdsl.engine.journal import Journal
from tdsl.engine.library import Library
from tdsl.engine.same_graph import Comparison, Expected
from tdsl.engine.unparse import NOWHERE, literal
from tdsl.errors import TdslError
from tdsl.lang import format_file, parse, tree
from tdsl.lang.example import plain
from tdsl.lang.library_files import full_name

PREFIX = "derived"
"""What the file of the rule would be called."""

ENOUGH = 3
"""On so many sizes besides its own a rule is tried."""


@dataclass(frozen=True)
class Operands:
    """What is known of the operands of a rule: sizes in its variables, and in the example."""

    types: Mapping[str, tree.TensorType]
    """All sizes, const and element type, as in the example, with variables for sizes that may vary."""
    numbers: Mapping[str, int]
    """Variables as they are in the example."""
    relaxed: frozenset[str]
    """Operands whose leading axes the rule leaves open."""


@dataclass(frozen=True)
class Trial:
    """What became of a rule: `refuted` says on what it fails, empty if it holds everywhere it was tried."""

    text: str
    library: Library
    sizes: int
    """On how many sizes it was tried, its own included."""
    refuted: str = ""


def try_rule(rule: tree.Rule, operands: Operands) -> Trial:
    """Load a rule and run it on examples. Raises `TdslError` for a rule that is refused when it is loaded."""
    for backwards in (False, True) if len(rule.lhs) > 1 else (False,):
        trial = _try_rule(rule, operands, backwards)
        if not trial.refuted:
            break
    return trial


def _try_rule(rule: tree.Rule, operands: Operands, backwards: bool) -> Trial:
    first = example_of(rule, operands, operands.numbers, {}, backwards)
    text = text_of(rule, first)
    file = parse(text, f"{PREFIX}.tdsl")
    library = Library()
    library.add_file(file, PREFIX)
    count, least = 0, _least(rule)
    for numbers, axes in _sizes(operands, least):
        example = first if not count else example_of(rule, operands, numbers, axes, backwards)
        try:
            outcome = run_example(_parsed(rule, example), library, PREFIX)
        except TdslError:
            if not count:
                raise
            continue  # these sizes do not fit each other
        count += 1
        if not outcome.passed:
            shown = ", ".join(f"{name} = {number}" for name, number in numbers.items())
            problem = f"{outcome.problem} for {shown}" if shown else outcome.problem
            return Trial(text, library, count, problem)
        if count > ENOUGH + 2 * len(operands.relaxed):
            break
    return Trial(text, library, count)


def refuted_by_functions(
    trial: Trial, name: str, before: Function, after: Function, values: Mapping[str, torch.Tensor]
) -> str:
    """Whether the rule turns the graph of one function into that of the other; why not, if it does not."""
    weights = {o.name: values[o.name] for o in before.operands if o.const}
    inputs = {name: value for name, value in values.items() if name not in weights}
    module, journal = copied(captured_with(before, inputs, weights)), Journal(measure=False)
    rule = trial.library.rule(full_name(PREFIX, name))
    rewrite(module, [rule], None, journal)
    if not journal.entries:
        return f"the rule does not fire in {before.name} itself"
    wanted = captured_with(after, {**inputs, **weights}, {})
    names = [str(node.target) for node in wanted.graph.find_nodes(op="placeholder")]
    held = dict(zip(names[len(inputs) :], weights.values(), strict=True))
    expected = Expected(wanted, held, frozenset())
    same = Comparison(module, expected).same()
    # Of results that are alike a match may take either for the first: then the operators are the same.
    same = same or (len(trial.library.rules[rule.name].source.lhs) > 1 and _same_operators(module, expected))
    return "" if same else f"what the rule makes of {before.name} is not {after.name}"


def _same_operators(found: fx.GraphModule, expected: Expected) -> bool:
    """Whether two graphs call the same operators at run time, each as often."""
    wanted = [n for n in expected.module.graph.nodes if expected.weight(n) is None]
    counts = [
        Counter(n.target for n in nodes if n.op == "call_function") for nodes in (found.graph.nodes, wanted)
    ]
    return counts[0] == counts[1]


def text_of(rule: tree.Rule, *examples: tree.Example) -> str:
    """The rule and its examples as a file in canonical form."""
    text = format_file(tree.File(items=(rule, *examples), span=NOWHERE))
    return format_file(parse(text))


def _parsed(rule: tree.Rule, example: tree.Example) -> tree.Example:
    item = parse(text_of(rule, example), f"{PREFIX}.tdsl").items[-1]
    assert isinstance(item, tree.Example)
    return item


# ---------------------------------------------------------------- sizes to try


def _sizes(
    operands: Operands, least: Mapping[str, int]
) -> Iterator[tuple[Mapping[str, int], Mapping[str, int]]]:
    """Numbers for the variables, and how many leading axes are added; those of the example first."""
    yield operands.numbers, {}
    for change in (1, -1):
        yield from ((operands.numbers, {name: change}) for name in sorted(operands.relaxed))
        if len(operands.relaxed) > 1:
            yield operands.numbers, dict.fromkeys(operands.relaxed, change)
    shuffled = random.Random(0)
    names = list(operands.numbers)
    for _ in range(16 if names else 0):
        drawn = shuffled.sample(range(2, 6 + len(names)), len(names))
        yield {n: max(d, least.get(n, 0)) for n, d in zip(names, drawn, strict=True)}, {}


def _least(rule: tree.Rule) -> dict[str, int]:
    """What the conditions of the rule ask of its sizes."""
    found: dict[str, int] = {}
    for clause in rule.where:
        match clause:
            case tree.Condition(
                test=tree.Binary(
                    operator=">=", left=tree.Name(id=name), right=tree.Constant(value=int() as n)
                )
            ):
                found[name] = n
    return found


# ---------------------------------------------------------------- examples


def example_of(
    rule: tree.Rule,
    operands: Operands,
    numbers: Mapping[str, int],
    axes: Mapping[str, int],
    backwards: bool,
) -> tree.Example:
    """The rule at sizes in numbers; `axes` says by how many leading axes an operand differs.

    A pattern with several results may take either for its first: `backwards` writes them the other way.
    """
    numbers = {**numbers, **_attributes(rule, numbers)}
    lhs: Side = _numbered(plain(rule.lhs), numbers)
    types = {name: _at(type_, numbers, axes.get(name, 0)) for name, type_ in operands.types.items()}
    return tree.Example(
        reference=tree.RuleRef(pattern=rule.name, span=NOWHERE),
        lhs=declared(lhs[::-1] if backwards else lhs, types, frozenset()),
        arrow="=>",
        rhs=_numbered(plain(rule.rhs), numbers),
        span=NOWHERE,
    )


def _attributes(rule: tree.Rule, numbers: Mapping[str, int]) -> dict[str, int]:
    """The attributes that conditions of the rule compute from sizes."""
    found: dict[str, int] = {}
    for clause in rule.where:
        match clause:
            case tree.Condition(test=tree.Binary(operator="==", left=tree.Name(id=name), right=value)):
                number = _integer(_numbered(value, numbers))
                if number is not None:
                    found[name] = number
    return found


def _at(type_: tree.TensorType, numbers: Mapping[str, int], extra: int) -> tree.TensorType:
    dims = tuple(_numbered(dim, numbers) for dim in type_.dims or ())
    leading = tuple(literal(2) for _ in range(extra))
    return replace(type_, dims=(*leading, *dims[max(0, -extra) :]))


def _numbered(value: Any, numbers: Mapping[str, int]) -> Any:
    """A term with numbers for the names of sizes, arithmetic on them carried out."""
    if isinstance(value, tree.Name) and value.id in numbers:
        return literal(numbers[value.id])
    if isinstance(value, tuple):
        return tuple(_numbered(part, numbers) for part in value)
    if not isinstance(value, tree.Node):
        return value
    parts = [f.name for f in fields(value) if f.name != "span"]
    value = replace(value, **{name: _numbered(getattr(value, name), numbers) for name in parts})
    if isinstance(value, tree.Binary):
        left, right = _integer(value.left), _integer(value.right)
        if left is not None and right is not None and value.operator in _COMPUTED:
            return literal(_COMPUTED[value.operator](left, right))
    return value


_COMPUTED: Mapping[str, Any] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
}


def _integer(value: tree.Expr) -> int | None:
    match value:
        case tree.Constant(value=int() as number) if not isinstance(number, bool):
            return number
        case tree.Unary(operator="-", operand=tree.Constant(value=int() as number)):
            return -number
        case _:
            return None
