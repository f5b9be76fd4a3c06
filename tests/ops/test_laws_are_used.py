"""What the table says of an operator is used: an action and its inverse around it leave the operator alone.

The facts themselves are tested in `test_operator_facts.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from operator_samples import SAMPLES, Draw, T, called
from torch import Tensor, fx, nn

from tdsl.capture import capture
from tdsl.engine.census import copied
from tdsl.engine.journal import Journal
from tdsl.engine.library import standard_library
from tdsl.engine.strategy import Runner
from tdsl.lang.vocabulary import CLASSES
from tdsl.ops import OPERATORS, Operator
from tdsl.ops.targets import operator_of

SHAPE = (3, 4, 5)
"""Folds and rows are along the middle axis."""
ORDER = {3: torch.tensor([1, 0, 2]), 4: torch.tensor([2, 0, 1, 3])}
ATTRIBUTES: dict[str, dict[str, Any]] = {"topk": {"k": 2}, "slice": {"start": 1, "end": 3}}
"""Attributes that a sample would draw for another shape."""
NO_ACTION = {"contiguous", "detach", "cast", "copy"}
"""What other rules take away or put elsewhere."""


@dataclass(frozen=True)
class Action:
    """Something done along an axis, or to two of them, and what undoes it."""

    operator: str
    act: Callable[[Tensor, int], Tensor]
    back: Callable[[Tensor, int], Tensor]


ACTIONS = [
    Action("flip", lambda x, axis: x.flip(axis), lambda x, axis: x.flip(axis)),
    Action("roll", lambda x, axis: x.roll(1, axis), lambda x, axis: x.roll(-1, axis)),
    Action(
        "index_select",
        lambda x, axis: x.index_select(axis, ORDER[x.shape[axis]]),
        lambda x, axis: x.index_select(axis, ORDER[x.shape[axis]].argsort()),
    ),
]


@dataclass(frozen=True)
class Call:
    """An operator on tensors of `SHAPE`, the first of its results."""

    operator: Operator
    found: dict[str, Any]

    @property
    def operands(self) -> dict[str, T]:
        return {name: T(SHAPE, given.role) for name, given in self.found.items() if isinstance(given, T)}

    def __call__(self, *operands: Tensor) -> Tensor:
        given = dict(zip(self.operands, operands, strict=True))
        result = called(self.operator, {**self.found, **given}, lambda made: made.make())
        return result[0] if isinstance(result, tuple | list) else result


def calls(kind: str, **attributes: Any) -> Iterator[Call]:
    """Every operator of a class (sorts with the rows), its attributes as in a sample or as told."""
    for name, op in OPERATORS.items():
        if not (CLASSES[kind](op) or (kind == "rowwise" and op.rowwise)) or name in NO_ACTION:
            continue
        drawn = SAMPLES[name](Draw(0)) | ATTRIBUTES.get(name, {})
        told = {key: value for key, value in attributes.items() if op.param(key) is not None}
        if "dim" in told and op.param("dim").kind != "dim":  # type: ignore[union-attr]
            told["dim"] = [told["dim"]]
        yield Call(op, drawn | told)


class Around(nn.Module):
    """Every call between an action and what undoes it; without the latter where it ends in the call."""

    def __init__(self, found: list[Call], action: Action, axis: int, behind: int | None) -> None:
        super().__init__()
        self.found, self.action, self.axis, self.behind = found, action, axis, behind

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        waiting, results = iter(inputs), []
        for call in self.found:
            operands = [self.action.act(next(waiting), self.axis) for _ in call.operands]
            result = call(*operands)
            results.append(result if self.behind is None else self.action.back(result, self.behind))
        return tuple(results)


def left_with(module: nn.Module, found: list[Call], action: str) -> list[str]:
    """The operators among `found` at which the pipeline `exact` leaves the action; numbers are compared."""

    def inputs(seed: int) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(seed)
        return tuple(operand.make(generator) for call in found for operand in call.operands.values())

    captured = capture(module, inputs(0))
    rewritten = copied(captured.module)
    Runner(standard_library(), standard_library().pipeline("exact"), {}).run(rewritten, Journal())
    for seed in (0, 1):
        for one, other in zip(module(*inputs(seed)), rewritten(*inputs(seed)), strict=True):
            torch.testing.assert_close(other, one, rtol=1e-9, atol=1e-9, equal_nan=True)
    outputs = rewritten.graph.output_node().args[0]
    return [
        call.operator.name for call, output in zip(found, outputs, strict=True) if action in above(output)
    ]


def above(node: fx.Node) -> set[str]:
    """The operators that lead to a value."""
    seen: set[fx.Node] = set()
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if one not in seen:
            seen.add(one)
            waiting.extend(one.all_input_nodes)
    operators = (operator_of(one.target) for one in seen if one.op == "call_function")
    return {operator.name for operator in operators if operator is not None}


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.operator)
@pytest.mark.parametrize("kind", ["pointwise", "binary"])
def test_functions_of_elements_are_passed(kind: str, action: Action) -> None:
    found = list(calls(kind))
    assert len(found) > 20
    assert left_with(Around(found, action, 1, 1), found, action.operator) == []


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.operator)
def test_rows_are_passed(action: Action) -> None:
    found = list(calls("rowwise", dim=1))
    assert len(found) > 8
    assert left_with(Around(found, action, 0, 0), found, action.operator) == []


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.operator)
@pytest.mark.parametrize("keepdim", [False, True])
def test_folds_end_what_acts_along_their_axis_and_are_passed_along_others(
    action: Action, keepdim: bool
) -> None:
    found = list(calls("reduces", dim=1, keepdim=keepdim))
    assert len(found) > 8
    assert left_with(Around(found, action, 1, None), found, action.operator) == []
    assert left_with(Around(found, action, 0, 0), found, action.operator) == []


def test_where_there_is_no_law_the_action_is_left() -> None:
    """Sums so far see the order of their row; two reflections along different axes do not undo each other."""
    scans = [call for call in calls("rowwise", dim=1) if call.operator.name.startswith("cum")]
    assert left_with(Around(scans, ACTIONS[0], 1, 1), scans, "flip") == ["cumsum", "cumprod"]
    folds = [call for call in calls("reduces", dim=1, keepdim=True) if call.operator.name == "amax"]
    assert left_with(Around(folds, ACTIONS[0], 0, 2), folds, "flip") == ["amax"]
