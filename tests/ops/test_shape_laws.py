"""The shape laws against torch: the same shapes, and the same refusals, on random arguments."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from operator_samples import SAMPLES, Draw, Sample, T, called, shapes

from tdsl.ops import OPERATORS, Operator
from tdsl.ops.laws import LAWS
from tdsl.ops.laws_window import channels_agree
from tdsl.ops.shapes import NoShapeLaw, ShapeMismatch, result_shape

DRAWS = 25

NOT_COMPARED = {"getitem", "size", "item"}
"""Operators whose argument or result is no tensor: tested by example below."""

OTHER_ON_META = {"native_batch_norm"}
"""On the meta device its statistics are not empty, as they are on the CPU, where models are traced."""

LAX = {"masked_scatter"}
"""Laws that do not check all that torch does: the number of true elements."""

STRICTER = {
    "linear",
    "native_batch_norm",
    "native_batch_norm_of_batch",
    "weight_norm",
    "attention",
    "pad",
    "conv2d",
    "conv_transpose1d",
    "adaptive_avg_pool2d",
    "index_copy",
    "index_fill",
    "lstm",
    "gru",
    "rnn_tanh",
    "rnn_relu",
}
"""Where a kernel takes what the operator does not mean, some reading out of bounds: a bias without axes or
with two, a length with too few, key and value of different lengths, a ring that is cropped and then wrapped
beyond what is left, a stride of 0 on an empty batch, an image without channels, many slices of a number,
weights of a recurrent layer that are too small. What the law refuses there is not run."""


def shape_of(result: Any) -> Any:
    """The shape of a tensor, or the shapes of several."""
    return tuple(result.shape) if isinstance(result, torch.Tensor) else tuple(tuple(r.shape) for r in result)


def on_meta(op: Operator, found: Sample) -> Any:
    device = "cpu" if op.name in OTHER_ON_META else "meta"
    return shape_of(called(op, found, lambda t: t.make(device=device)))


def on_cpu(op: Operator, found: Sample) -> Any:
    """With real elements, since many kernels check less on the meta device; every index is 0."""
    generator = torch.Generator().manual_seed(0)
    return shape_of(called(op, found, lambda t: T(t.shape, t.role).make(generator)))


def lawful() -> list[str]:
    return [n for n, op in OPERATORS.items() if n not in NOT_COMPARED and op.result != "unknown"]


def broken(found: Sample, d: Draw) -> Sample:
    """The sample with one size, one rank or one axis changed: often, not always, invalid."""
    names = [
        n for n, v in found.items() if isinstance(v, T) or (isinstance(v, list) and v) or n.startswith("dim")
    ]
    if not names:
        return found
    name = d.pick(*names)
    value = found[name]
    if isinstance(value, list) and value:
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


@pytest.mark.parametrize("name", [n for n in lawful() if n not in LAX])
def test_a_law_refuses_what_torch_refuses(name: str) -> None:
    op = OPERATORS[name]
    for seed in range(DRAWS):
        d = Draw(seed)
        found = broken(SAMPLES[name](d), d)
        try:
            ours = result_shape(op, shapes(found))
        except ShapeMismatch:
            ours = ShapeMismatch
            if name in STRICTER:
                continue
        try:
            expected = on_cpu(op, found)
        except (RuntimeError, IndexError, ValueError):
            expected = ShapeMismatch
        assert ours == expected, found


def test_the_samples_reach_refusals_and_empty_tensors() -> None:
    refused = empty = 0
    for name in ("matmul", "concat", "conv2d", "reshape", "add", "gather"):
        for seed in range(DRAWS):
            d = Draw(seed)
            found = SAMPLES[name](d)
            empty += 0 in on_meta(OPERATORS[name], found)
            try:
                result_shape(OPERATORS[name], shapes(broken(found, d)))
            except ShapeMismatch:
                refused += 1
    assert refused > 20
    assert empty > 20


def test_a_wrong_law_is_found_by_the_comparison() -> None:
    wrong = replace(OPERATORS["sum"], result="like")
    assert any(
        result_shape(wrong, shapes(found)) != on_meta(wrong, found)
        for found in (SAMPLES["sum"](Draw(seed)) for seed in range(DRAWS))
    )


def test_every_operator_has_a_law_and_samples_or_says_unknown() -> None:
    for name, op in OPERATORS.items():
        assert not isinstance(op.result, str) or op.result == "unknown" or op.result in LAWS, name
        assert name in SAMPLES or op.result == "unknown" or name in NOT_COMPARED, name
    assert set(LAWS) == {op.result for op in OPERATORS.values() if isinstance(op.result, str)} - {"unknown"}


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("linear", {"x": (2, 5, 3), "weight": (4, 3)}, (2, 5, 4)),
        ("linear", {"x": (3,), "weight": (4, 3), "bias": None}, (4,)),
        ("add", {"x": (2, 1, 3), "y": 1.5}, (2, 1, 3)),
        ("add", {"x": (2, 1, 3), "y": (4, 1)}, (2, 4, 3)),
        ("conv2d", {"x": (1, 3, 8, 8), "weight": (6, 3, 3, 3), "stride": 2, "padding": 1}, (1, 6, 4, 4)),
        ("avg_pool2d", {"x": (1, 3, 8, 8), "kernel": 2}, (1, 3, 4, 4)),
        ("concat", {"tensors": [(2, 3), (2, 0), (2, 5)], "dim": -1}, (2, 8)),
        ("split", {"x": (7, 2), "sizes": [3, 4]}, ((3, 2), (4, 2))),
        ("getitem", {"x": ((3, 2), (4, 2)), "index": 1}, (4, 2)),
        ("mean", {"x": (2, 3, 4), "dim": None}, ()),
        ("size", {"x": (2, 3), "dim": -1}, ()),
        ("item", {"x": (1, 1)}, ()),
        ("lstm", {
            "x": (5, 2, 3), "states": [(1, 2, 4), (1, 2, 4)], "weights": [(16, 3), (16, 4), (16,), (16,)],
            "has_biases": True, "num_layers": 1, "dropout": 0.0, "train": False, "bidirectional": False,
            "batch_first": False,
        }, ((5, 2, 4), (1, 2, 4), (1, 2, 4))),
    ],
)  # fmt: skip
def test_shapes_by_example(name: str, arguments: dict[str, Any], expected: Any) -> None:
    assert result_shape(OPERATORS[name], arguments) == expected


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("linear", {"x": (2, 3), "weight": (4, 5)}),
        ("add", {"x": (2,), "y": (3,)}),
        ("matmul", {"x": (2, 3), "y": (2, 3)}),
        ("reshape", {"x": (2, 3), "shape": [4]}),
        ("permute", {"x": (2, 3), "dims": [0, 0]}),
        ("select", {"x": (2, 3), "dim": 0, "index": 2}),
        ("getitem", {"x": ((3, 2),), "index": 1}),
        ("softmax", {"x": (2, 3), "dim": 2}),
        ("item", {"x": (2,)}),
        ("size", {"x": (2, 3), "dim": 2}),
        ("split", {"x": (7, 2), "sizes": [3, 3]}),
    ],
)
def test_mismatches_by_example(name: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ShapeMismatch):
        result_shape(OPERATORS[name], arguments)


@pytest.mark.parametrize("name", ["conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d"])
def test_channels_agree_where_some_kernel_fits_and_only_there(name: str) -> None:
    op = OPERATORS[name]
    answers = set()
    for axes, o, i, channels, groups in itertools.product((1, 2, 3, 4), (2, 3), (1, 2), (1, 2, 4), (0, 1, 2)):
        x, weight = (3, channels, 5, 5)[:axes], (o, i, *[2] * int(name[-2]))
        answer = channels_agree(op, x, weight, groups)
        try:
            result_shape(op, {"x": x, "weight": weight, "groups": groups})
        except ShapeMismatch:
            assert not answer
        else:
            assert answer
        answers.add(answer)
    assert answers == {True, False}


def test_a_shape_that_depends_on_values_has_no_law() -> None:
    with pytest.raises(NoShapeLaw):
        result_shape(OPERATORS["nonzero"], {"x": (3,)})
    with pytest.raises(NoShapeLaw):
        result_shape(OPERATORS["one_hot"], {"x": (3,)})
    assert result_shape(OPERATORS["one_hot"], {"x": (3,), "classes": 5}) == (3, 5)


def test_a_missing_or_unknown_argument_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="needs weight"):
        result_shape(OPERATORS["linear"], {"x": (2, 3)})
    with pytest.raises(TypeError, match="no parameter wieght"):
        result_shape(OPERATORS["linear"], {"x": (2, 3), "wieght": (4, 3)})
    with pytest.raises(TypeError, match="needs dims"):
        result_shape(OPERATORS["permute"], {"x": (2, 3)})
