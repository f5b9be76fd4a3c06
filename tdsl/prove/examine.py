"""One instance of a rule under both checkers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch

from tdsl.lang import tree
from tdsl.lang.instance import Instance
from tdsl.lang.resolve import Resolved
from tdsl.lang.shapes import UnknownValueError
from tdsl.lang.terms import flat
from tdsl.lang.typecheck import conditions_hold
from tdsl.ops import Operator
from tdsl.ops.shapes import ShapeMismatch
from tdsl.prove.checker import Known
from tdsl.prove.exact import ExactChecker
from tdsl.prove.facts import Facts
from tdsl.prove.field import P
from tdsl.prove.kernel import NoMeaning
from tdsl.prove.numeric import STYLES, NumericChecker
from tdsl.prove.values import Values

LARGEST_INSTANCE = 3000
"""Most elements of all tensors of an instance, unless the sizes that a rule names ask for more."""

Opinion = Literal["equal", "differs", "unknown"]


@dataclass
class Case:
    """A rule with its alternatives chosen, and its operator variables where they are few."""

    resolved: Resolved
    operators: Mapping[str, Operator]
    complete: bool = False
    """Whether every optional operand is there."""
    refused: str = ""
    """Why the last instance that shapes allowed was none after all."""

    @cached_property
    def facts(self) -> Facts:
        """What is the same in all its instances."""
        return Facts(self.resolved)


@dataclass
class Finding:
    """What the checkers say about one instance."""

    case: Case
    seed: int
    instance: Instance
    exact: Opinion
    numeric: Opinion
    decisive: bool = True
    """Whether the exact opinion would settle a difference: nothing but rational functions took part."""
    reason: str = ""
    degree: int = 1
    choices: int = P
    """From how many elements of the field random ones were drawn."""
    comparands: int = 1
    elements: int = 0
    values: Values | None = field(default=None, repr=False)
    """The numbers of the second checker where the sides differ."""
    sides: tuple[Any, Any] | None = field(default=None, repr=False)

    @property
    def differs(self) -> bool:
        """Whether the rule is wrong on this instance."""
        return self.numeric == "differs" or (self.exact == "differs" and self.decisive)

    @property
    def agrees(self) -> bool:
        """Whether a checker found the sides equal."""
        return "equal" in (self.exact, self.numeric)


def instance_of(case: Case, seed: int) -> Instance | None:
    """The instance of that seed, `None` where the drawn sizes do not fit or a condition fails.

    Raises `UnknownValueError` where shapes do not decide.
    """
    rule = case.resolved.rule
    try:
        instance = Instance(case.resolved, seed, case.operators, case.complete)
        left = instance.left(rule.lhs)
        instance.env["lhs"] = next(iter(left.values()))
        return instance if conditions_hold(instance, rule) else None
    except ShapeMismatch:
        return None


def examine(case: Case, seed: int, style: str = "", largest: int = LARGEST_INSTANCE) -> Finding | None:
    """Both checkers on the instance of that seed; `None` where it is none, or one of too many elements.

    `style` says how the numbers of the second checker are drawn, by default one after the other.
    """
    with np.errstate(over="ignore"):  # the field computes modulo 2⁶⁴ on purpose
        return _examined(case, seed, style, largest)


def _examined(case: Case, seed: int, style: str, largest: int) -> Finding | None:
    try:
        instance = instance_of(case, seed)
    except UnknownValueError as unknown:
        return Finding(case, seed, Instance(case.resolved, seed), "unknown", "unknown", reason=str(unknown))
    if instance is None or instance.elements > largest:
        return None
    finding = Finding(case, seed, instance, "unknown", "unknown")
    drawn = instance.random.getstate()
    values = _exactly(finding, centred=False)
    if values is not None and finding.exact == "differs" and _of_exponentials(values):
        instance.random.setstate(drawn)  # a softmax does not see what a row has in common
        second_look = dataclasses.replace(finding)
        other = _exactly(second_look, centred=True)
        if other is not None and second_look.exact == "equal":
            finding, values = second_look, other
    if values is None:
        return None
    instance.random.setstate(drawn)  # what is not said by shapes is drawn alike for both
    numbers = NumericChecker(seed, style or STYLES[seed % len(STYLES)], case.facts.sensitive)
    second = Values(instance, numbers, case.facts)
    try:
        second.left()
        undefined = numbers.undefined
        known = _pairs(second, case)
        if known:
            different = next((pair for pair in known if numbers.differs(*pair)), None)
            if different and undefined:  # somewhere inside the left side: the right one need not follow
                return None
            finding.numeric = "differs" if different else "equal"
            if different or finding.exact == "differs":
                finding.values, finding.sides = second, different or known[0]
    except (UnknownValueError, NoMeaning) as unknown:
        finding.reason = finding.reason or str(unknown)
    except ShapeMismatch:
        pass
    if values.undecided and finding.exact == "differs":
        finding.reason = f"`{flat(values.undecided[0].test)}` depends on the values of weights"
    if finding.exact == "equal" and values.undecided and finding.numeric == "unknown":
        finding.numeric = "equal"  # it holds without the condition, which no draw happened to fulfil
    return finding


def _exactly(finding: Finding, centred: bool) -> Values | None:
    """Enter what the first checker finds; `None` where the instance is none. `centred` as of its algebra."""
    case, instance = finding.case, finding.instance
    exact = ExactChecker(finding.seed, instance.elements, centred)
    values = Values(instance, exact, case.facts)
    before = 1
    try:
        values.left()
        before, exact.algebra.compared = exact.algebra.comparands, 1
        pairs = _pairs(values, case)
        if not sum(left.value.size for left, _ in pairs):
            return None  # no condition, or nothing to compare
        finding.exact = "differs" if any(exact.differs(*pair) for pair in pairs) else "equal"
        finding.degree = sum(max(known.degree for known in pair) for pair in pairs)
        finding.elements = sum(left.value.size for left, _ in pairs)
    except (UnknownValueError, NoMeaning) as unknown:
        finding.reason = str(unknown)
    except ShapeMismatch as mismatch:
        case.refused = str(mismatch)
        return None
    finding.decisive = exact.decisive and not values.undecided
    finding.choices = exact.choices
    finding.comparands = max(before, exact.algebra.comparands)
    return values


def _of_exponentials(values: Values) -> bool:
    """Whether ratios of exponentials took part, as in a softmax."""
    return isinstance(values.checker, ExactChecker) and values.checker.algebra.exponentials


def least_elements(case: Case) -> int:
    """How many elements the variables of the left side have at least: the sizes that are numbers tell."""
    shapes = [written.dims or () for written in case.resolved.matched_types.values()]
    numbers = [[d.value for d in dims if isinstance(d, tree.Constant)] for dims in shapes]
    return sum(math.prod(n for n in row if isinstance(n, int)) for row in numbers)


def _pairs(values: Values, case: Case) -> list[tuple[Known, Known]]:
    """The values of the left side with those of the right; none where a condition fails or a type differs.

    The engine leaves a site alone where the element types of the sides differ; `case` is told so.
    """
    if not values.conditions_hold():
        return []
    found = []
    for _, left, right in values.right():
        both = zip(left, right, strict=True) if isinstance(left, tuple) else [(left, right)]
        found += [(_tensor(values, a), _tensor(values, b)) for a, b in both]
    if any(_another_type(a, b) for a, b in found):
        case.refused = "the sides have different element types, and such a site is left alone"
        return []
    return found


def _another_type(left: Known, right: Known) -> bool:
    """Whether two values differ in their element types, as far as a checker knows these."""
    if isinstance(left.value, torch.Tensor):
        return bool(left.value.dtype != right.value.dtype)
    return left.dtype != right.dtype


def _tensor(values: Values, value: Any) -> Known:
    value = values.argument(value, None)
    if not isinstance(value, Known):
        raise UnknownValueError("a side that is no tensor")
    return value
