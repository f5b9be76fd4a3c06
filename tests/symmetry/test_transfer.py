"""Every law that is claimed of an operator holds when it is measured, for random arguments and actions."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from random_actions import KINDS, random_action
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "ops"))

from operator_samples import SAMPLES, Draw, T, called

from tdsl.ops import OPERATORS, Operator
from tdsl.symmetry import infer  # noqa: F401  (declares transfers)
from tdsl.symmetry.action import Action, identity_on
from tdsl.symmetry.transfer import Breaks, Law, Site, Value, transfer_of, untouched

DRAWS = 25
WITHOUT = {"empty", "empty_like", "new_empty"}


def claims(operator: Operator, seed: int) -> tuple[int, str]:
    """How many laws are claimed of one random call that is acted on, and what is wrong with the first."""
    draw = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    sample = SAMPLES[operator.name](Draw(seed))
    made = {name: _made(value, generator) for name, value in sample.items()}
    everything = draw.random() < 0.5
    kinds = ("flip", "roll", "permutation") if draw.random() < 0.6 else KINDS
    acting: dict[int, Action] = {}
    shared = draw.randrange(10**6)

    def valued(value: Any, first: bool) -> Any:
        if isinstance(value, list):
            return [valued(one, first) for one in value]
        if not isinstance(value, Tensor):
            return value
        shape = tuple(value.shape)
        if (first or everything) and value.is_floating_point():
            acting[id(value)] = random_action(random.Random(shared), shape, kinds)
            return Value(shape, acting[id(value)])
        return Value(shape, identity_on(len(shape)), value)

    arguments: dict[str, Any] = {}
    for param in operator.params:
        value = made.get(param.name, None if param.is_operand else param.default)
        if param.is_operand:
            arguments[param.name] = valued(value, param is operator.operands[0])
        else:
            arguments[param.name] = value
    arguments = {
        p.name: value if p.is_operand else p.canonical(value, _rank(arguments, operator))
        for p in operator.params
        for value in [arguments[p.name]]
    }
    results = _results(called(operator, made, lambda t: t))
    read = (True, *[draw.random() < 0.5] * (len(results) - 1))
    site = Site(operator, arguments, tuple(tuple(one.shape) for one in results), read)
    if not site.values() or any(0 in shape for shape in (*(v.shape for v in site.values()), *site.shapes)):
        return 0, ""
    if all(value.still for value in site.values()):
        return 0, ""
    try:
        passes = transfer_of(operator)
        found: Law = untouched(site) if passes is None else passes(site)
        if passes is None:
            return 0, ""
    except Breaks:
        return 0, ""

    def moved(value: Any) -> Any:
        if isinstance(value, list):
            return [moved(one) for one in value]
        return acting[id(value)].apply(value) if isinstance(value, Tensor) and id(value) in acting else value

    try:
        others = _results(called(operator, {name: moved(value) for name, value in made.items()}, lambda t: t))
    except RuntimeError as reason:
        return 1, f"{operator.name} {sample}: {found.actions} claimed, and it does not run: {reason}"
    for one, other, made_action, is_read in zip(results, others, found.actions, read, strict=True):
        if not is_read:
            continue
        expected = made_action.apply(one)
        rounding = 1e-5 if one.dtype == torch.float32 else 1e-7
        tolerance = rounding + 10 * found.residual.norm * float(one.double().abs().nan_to_num().max())
        same = expected.shape == other.shape and torch.allclose(
            expected.double(), other.double(), rtol=1e-7, atol=tolerance, equal_nan=True
        )
        if not same:
            given = [str(value.action) for value in site.values()]
            return 1, f"{operator.name} {sample} under {given}: {made_action} claimed"
    return 1, ""


def _rank(arguments: dict[str, Any], operator: Operator) -> int | None:
    first = arguments[operator.operands[0].name] if operator.operands else None
    first = first[0] if isinstance(first, list) and first else first
    return first.rank if isinstance(first, Value) else None


def _made(value: Any, generator: torch.Generator) -> Any:
    if isinstance(value, T):
        return value.make(generator)
    return [_made(one, generator) for one in value] if isinstance(value, list) else value


def _results(value: Any) -> list[Tensor]:
    found = list(value) if isinstance(value, list | tuple) else [value]
    return [one for one in found if isinstance(one, Tensor)]


TESTED = sorted(
    name
    for name, operator in OPERATORS.items()
    if name in SAMPLES and name not in WITHOUT and transfer_of(operator) and not operator.random
)


@pytest.mark.parametrize("name", TESTED)
def test_what_is_claimed_of_an_operator_holds(name: str) -> None:
    wrong = [what for seed in range(DRAWS) if (what := claims(OPERATORS[name], seed)[1])]
    assert wrong == []


SILENT = {
    *(f"bitwise_{name}" for name in ("and", "or", "xor", "not")),  # whole numbers, which nothing acts on here
    "slice_scatter",
    "select_scatter",
    "meshgrid",
    "addmm",  # random weights
    *("gather", "take_along_dim", "one_hot"),  # numbers of places; by models, in cases_commute_operands.py
    *("scatter_add", "scatter_reduce"),  # in one order; by models, in cases_commute_orders.py
    *("lstm", "gru", "rnn_tanh", "rnn_relu", "embedding"),  # by models, in test_infer.py
}


def test_claims_are_made_of_most_operators() -> None:
    silent = {name for name in TESTED if not any(claims(OPERATORS[name], s)[0] for s in range(400))}
    assert silent <= SILENT
