"""The smallest instance on which a rule is wrong, and the condition that would have excluded it."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from tdsl.lang.assignment import DISTINCT_ATTEMPTS
from tdsl.lang.shapes import Absent, Shaped
from tdsl.prove import field
from tdsl.prove.checker import Known
from tdsl.prove.examine import Finding, examine
from tdsl.prove.verdict import Counterexample

SEARCHED = 240
"""Instances that are looked at for a smaller counterexample and for a remedy."""
SHOWN = 12
"""Most elements of a tensor that is shown."""
SUPPORT = 3
"""Instances on which a remedy must have been seen to help."""


def counterexample_of(first: Finding) -> Counterexample:
    """The smallest of the counterexamples found beside `first`, in the same case of the rule."""
    findings = [first]
    for seed in range(DISTINCT_ATTEMPTS, DISTINCT_ATTEMPTS + SEARCHED):
        finding = examine(first.case, seed, "small")
        if finding is not None:
            findings.append(finding)
    wrong = [f for f in findings if f.differs]
    numeric = [f for f in wrong if f.numeric == "differs"]
    smallest = min(numeric or wrong, key=_size)
    left, right = _sides(smallest)
    right_ones = [f for f in findings if not f.differs and "equal" in (f.exact, f.numeric)]
    return Counterexample(
        smallest.instance.describe(), tuple(_shown(smallest)), left, right, _remedy(wrong, right_ones)
    )


def _size(finding: Finding) -> tuple[int, int]:
    return finding.instance.elements, finding.seed


def _shown(finding: Finding) -> Iterator[tuple[str, str]]:
    if finding.values is None:
        return
    leaves = finding.values.instance.env
    for name in finding.instance.order:
        value = finding.values.env.get(name)
        if isinstance(value, Known) and isinstance(leaves.get(name), Shaped) and value.value.numel() <= SHOWN:
            yield name, _text(value.value)


def _text(tensor: torch.Tensor) -> str:
    rows = tensor.tolist()

    def number(value: Any) -> str:
        if isinstance(value, list):
            return "[" + ", ".join(map(number, value)) + "]"
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    return number(rows)


def _sides(finding: Finding) -> tuple[str, str]:
    """Both values, or the first place at which they differ."""
    if finding.sides is None:
        return "one value", "another"
    left, right = (known.value for known in finding.sides)
    if finding.numeric != "differs":
        return f"a tensor of shape {list(left.shape)}", f"another one, by less than rounding (p = {field.P})"
    if left.shape != right.shape:
        return f"of shape {list(left.shape)}", f"of shape {list(right.shape)}"
    if left.numel() <= SHOWN:
        return _text(left), _text(right)
    gap = (left.double() - right.double()).abs().nan_to_num(nan=float("inf"))
    gap = torch.where(left.double().isfinite(), gap, torch.zeros_like(gap))
    place = np.unravel_index(int(gap.argmax()), tuple(left.shape))
    at = tuple(int(i) for i in place)
    return f"{_text(left[at])} at {list(at)}", f"{_text(right[at])} there"


# ---------------------------------------------------------------- remedies

Test = Callable[[Finding], bool]


def _remedy(wrong: list[Finding], right: list[Finding]) -> str:
    """The obvious condition that holds on no instance that is wrong and on the most that are right."""
    best, most = "", SUPPORT - 1
    for text, test in _candidates(wrong[0]):
        if any(test(f) for f in wrong):
            continue
        helped = sum(test(f) for f in right)
        if helped > most:
            best, most = text, helped
    return best


def _candidates(finding: Finding) -> Iterator[tuple[str, Test]]:
    """`n == 1`, `all_equal(p, 0)`, `is_identity(p)`, `n == m`, `b` absent, `f` one operator, and such."""
    env = finding.instance.env
    numbers = [n for n in finding.instance.order if isinstance(env.get(n), int)]
    for name in numbers:
        for each in (0, 1):
            yield f"{name} == {each}", _of(name, functools.partial(operator.eq, each))
        yield f"{name} >= 0", _of(name, lambda value: isinstance(value, int) and value >= 0)
    for name in finding.instance.order:
        value = env.get(name)
        if isinstance(value, list) and value and all(isinstance(v, int) for v in value):
            if sorted(value) == list(range(len(value))):
                yield f"is_identity({name})", _of(name, _is_identity)
                continue
            for each in (0, 1):
                yield f"all_equal({name}, {each})", _of(name, functools.partial(_all_equal, each))
            yield f"square({name})", _of(name, lambda v: len(set(v or [0, 1])) == 1)
        if isinstance(value, Shaped | Absent):
            yield f"`{name}` is absent", _of(name, lambda v: isinstance(v, Absent))
    for i, first in enumerate(numbers):
        for second in numbers[i + 1 :]:
            yield f"{first} == {second}", _same(first, second)
    for name, (member, _) in finding.instance.shapes.chosen.items():
        if name not in finding.case.operators:
            yield f"`{name}` is not {member.name}", _not(name, member.name)


def _of(name: str, holds: Callable[[Any], bool]) -> Test:
    return lambda finding: holds(finding.instance.env.get(name))


def _all_equal(value: int, entries: Any) -> bool:
    return set(entries or []) == {value}


def _is_identity(value: Any) -> bool:
    return isinstance(value, list) and value == list(range(len(value)))


def _same(first: str, second: str) -> Test:
    return lambda f: f.instance.env.get(first) == f.instance.env.get(second)


def _not(name: str, member: str) -> Test:
    return lambda f: f.instance.shapes.chosen[name][0].name != member
