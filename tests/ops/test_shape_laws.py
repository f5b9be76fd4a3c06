"""The shape laws against torch: the same shapes, and the same refusals, on random arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from operator_samples import SAMPLES, Draw, Sample, T

from tdsl.ops import OPERATORS, Operator
from tdsl.ops.shapes import NoShapeLaw, ShapeMismatch, result_shape
from tdsl.ops.targets import overload_for

DRAWS = 40
WITHOUT_META = {"getitem", "size", "item"}
"""Operators whose result, or argument, is not a tensor: tested by hand below."""

LAX_LAWS = {"lstm", "gru", "rnn_tanh", "rnn_relu"}
"""Laws that do not check every size that torch checks: the sizes of the many weights of a recurrent layer."""


def called(op: Operator, found: Sample, make: Callable[[T], Any]) -> Any:
    """`op` on the sample, its tensors made by `make`."""

    def value(given: Any) -> Any:
        if isinstance(given, T):
            return make(given)
        if isinstance(given, list):
            return [value(item) for item in given]
        return given

    made = {p.name: value(found[p.name]) for p in op.params if p.name in found}
    for p in op.operands:
        made.setdefault(p.name, None)
    positional, keywords = [], {}
    for p in op.params:
        if p.keyword_only:
            if p.name in made:
                keywords[p.name] = made[p.name]
        else:
            positional.append(made.get(p.name, p.default))
    target = overload_for(op, positional)
    names = [a.name for a in target._schema.arguments]
    at = {p.name: names[i] for i, p in enumerate(op.params)}
    return target(*positional, **{at[name]: value for name, value in keywords.items()})


def shapes(found: Sample) -> dict[str, Any]:
    """The sample as `result_shape` takes it."""

    def value(given: Any) -> Any:
        if isinstance(given, T):
            return given.shape
        return [value(item) for item in given] if isinstance(given, list) else given

    return {name: value(given) for name, given in found.items()}


def shape_of(result: Any) -> Any:
    """The shape of a tensor, or the shapes of several."""
    return tuple(result.shape) if isinstance(result, torch.Tensor) else tuple(tuple(r.shape) for r in result)


def on_meta(op: Operator, found: Sample) -> Any:
    return shape_of(called(op, found, lambda t: t.make(device="meta")))


def lawful() -> list[str]:
    return [n for n, op in OPERATORS.items() if n not in WITHOUT_META and op.result != "unknown"]


def broken(found: Sample, d: Draw) -> Sample:
    """The sample with one size, one rank or one axis changed: often, not always, invalid."""
    names = [
        n for n, v in found.items() if isinstance(v, T) or (isinstance(v, list) and v) or n.startswith("dim")
    ]
    if not names:
        return found
    name = d.pick(*names)
    value = found[name]
    if isinstance(value, list):
        at = d.int(0, len(value) - 1)
        changed: Any = [*value[:at], changed_entry(value[at], d), *value[at + 1 :]]
    else:
        changed = changed_entry(value, d)
    return {**found, name: changed}


def changed_entry(value: Any, d: Draw) -> Any:
    if isinstance(value, T):
        shape = list(value.shape)
        kind = d.pick("size", "size", "longer", "shorter")
        if kind == "longer" or not shape:
            shape.insert(d.int(0, len(shape)), d.some())
        elif kind == "shorter":
            shape.pop(d.int(0, len(shape) - 1))
        else:
            shape[d.int(0, len(shape) - 1)] += d.int(1, 2)
        return T(tuple(shape), value.role, value.below)
    if isinstance(value, int) and not isinstance(value, bool):
        return value + d.pick(1, 2, 4, -1)
    return value


@pytest.mark.parametrize("name", lawful())
def test_a_law_gives_the_shape_that_torch_gives(name: str) -> None:
    op = OPERATORS[name]
    for seed in range(DRAWS):
        found = SAMPLES[name](Draw(seed))
        assert result_shape(op, shapes(found)) == on_meta(op, found), found


@pytest.mark.parametrize("name", lawful())
def test_a_law_refuses_what_torch_refuses_and_nothing_else(name: str) -> None:
    op = OPERATORS[name]
    for seed in range(DRAWS):
        d = Draw(seed)
        found = broken(SAMPLES[name](d), d)
        try:
            expected = on_meta(op, found)
        except (RuntimeError, IndexError, ValueError) as refusal:
            if name not in LAX_LAWS:
                with pytest.raises(ShapeMismatch):
                    print(found, "torch:", str(refusal)[:200], "ours:", result_shape(op, shapes(found)))
        else:
            assert result_shape(op, shapes(found)) == expected, found
