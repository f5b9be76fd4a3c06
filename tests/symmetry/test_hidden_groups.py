"""Axis groups: every element keeps the function, none is missing, none has a member too few."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from hidden_models import EXPECTED, made
from torch import Tensor, fx, nn
from zoo import ZOO

from tdsl.capture import Captured, capture
from tdsl.errors import TdslError
from tdsl.symmetry.hidden import AxisGroup, axis_groups, hidden_symmetry, weights_of, with_weights

INERT = {
    ("attention", "k.bias"): "adds the same to the scores of all keys, which a softmax does not see",
    ("shared_keys", "k.bias"): "as above",
}
"""Weights of a group that change nothing: to leave one out breaks nothing."""


@functools.cache
def captured(name: str) -> Captured:
    torch.manual_seed(0)
    return capture(*EXPECTED[name][0]())


@functools.cache
def groups_of(name: str) -> list[AxisGroup]:
    return list(axis_groups(captured(name)))


GROUPS_OF_THE_ZOO = {
    "resnet": 6,  # two streams, two blocks in each
    "mobilenet": 5,
    "vit": 9,  # the stream; in each block heads, queries with keys, values, hidden units
    "bert": 8,  # the stream is an output
    "gpt2": 9,
    "densenet": 8,
    "unet": 7,
    "swin": 10,
    "t5": 7,  # one bias of positions ties the heads of all blocks
}


def outputs(found: Captured, module: nn.Module) -> list[Tensor]:
    with torch.no_grad():
        return found.flat_outputs(module(*found.args, **found.kwargs))


def change(found: Captured, weights: dict[str, Tensor]) -> float:
    """The largest relative change of an output when these weights take the place of the model's."""
    before = outputs(found, found.module)
    after = outputs(found, with_weights(found.module, weights))
    return max(float((a - b).abs().max() / a.abs().max()) for a, b in zip(before, after, strict=True))


def moved(group: AxisGroup, seed: int = 0) -> np.ndarray:
    """A random element that is not the identity in any block."""
    permutation = group.random(np.random.default_rng(seed))
    blocks = permutation.reshape(-1, group.size)
    for block in blocks:
        if np.array_equal(block, np.arange(group.size)):
            block[:] = np.roll(block, 1)
    return blocks.reshape(group.shape)


def differing(found: Captured, weights: dict[str, Tensor]) -> set[str]:
    own = weights_of(found.module)
    return {path for path, tensor in weights.items() if not torch.equal(tensor, own[path])}


@pytest.mark.parametrize("name", EXPECTED)
def test_the_groups_are_those_that_there_are(name: str) -> None:
    found = [(group.size, group.over_sizes) for group in groups_of(name)]
    assert sorted(found) == sorted(EXPECTED[name][1])


@pytest.mark.parametrize("name", EXPECTED)
def test_every_element_keeps_the_function(name: str) -> None:
    found = captured(name)
    for group in groups_of(name):
        for seed in (0, 1):
            weights = group.permute(moved(group, seed))
            assert differing(found, weights) == set(weights), group.text
            assert change(found, weights) <= 1e-10, group.text


@pytest.mark.parametrize("name", EXPECTED)
def test_a_member_left_out_breaks_it(name: str) -> None:
    found = captured(name)
    for group in groups_of(name):
        weights = group.permute(moved(group))
        for path in weights:
            if (name, path) in INERT or len(weights) == 1:
                continue
            fewer = {other: tensor for other, tensor in weights.items() if other != path}
            assert change(found, fewer) > 1e-6, (group.text, path)


@pytest.mark.parametrize("name", ZOO)
def test_every_group_of_the_zoo(name: str) -> None:
    model, args, dynamic = ZOO[name]()
    args = tuple(x.double() if x.is_floating_point() else x for x in args)
    found = capture(model.double(), args, dynamic_shapes=dynamic)
    groups = axis_groups(found)
    assert len(groups) == GROUPS_OF_THE_ZOO.get(name, len(groups)) >= 3
    for group in groups:
        weights = group.permute(moved(group))
        assert differing(found, weights), group.text
        assert change(found, weights) <= 1e-10, group.text


def _between(middle: object, channels: int = 6) -> Captured:
    """A function between two dense layers, over whose channels it may do something in order."""
    torch.manual_seed(0)
    return capture(
        *made(
            lambda m, x: m.b(middle(m.a(x))),  # type: ignore[operator]
            torch.randn(3, 5),
            a=nn.Linear(5, 6),
            b=nn.Linear(channels, 2),
        )
    )


@pytest.mark.parametrize(
    ("middle", "reason"),
    [
        (lambda h: h.cumsum(-1), "cumsum depends on the order"),
        (lambda h: h.sort(-1)[0], "sort depends on the order"),
        (lambda h: h.flip(-1), "flip depends on the order"),
        (lambda h: h.roll(1, -1), "roll depends on the order"),
        (lambda h: h * torch.arange(6.0, dtype=h.dtype), "has different values"),
        (lambda h: h[:, [0, 2, 1, 3, 5, 4]], "named by values"),
        (lambda h: torch.nn.functional.max_pool1d(h[:, None], 3, 1, 1)[:, 0], "windows slide"),
        (lambda h: torch.linalg.matrix_exp(h[:, :, None] * h[:, None, :])[:, 0], "may see the order"),
    ],
)
def test_what_sees_the_order_is_refused_with_its_reason(middle: object, reason: str) -> None:
    found = hidden_symmetry(_between(middle))
    assert not any(member.path == "a.weight" for group in found.groups for member in group.members)
    with pytest.raises(TdslError, match=reason):
        found.group("a.weight", 0)
    pinned = next(pin for pin in found.pinned if (pin.path, pin.axis) == ("a.weight", 0))
    assert ".py:" in pinned.reason


@pytest.mark.parametrize(
    "middle",
    [
        lambda h: h.softmax(-1),
        lambda h: h - h.mean(-1, keepdim=True),
        lambda h: h * h.max(-1, keepdim=True)[0],
        lambda h: torch.where(h > 0, h, -h).clamp(max=0.5),
        lambda h: h.erf(),
    ],
)
def test_what_does_not_see_the_order_needs_no_law_of_its_own(middle: object) -> None:
    found = _between(middle)
    (group,) = axis_groups(found)
    assert change(found, group.permute(moved(group))) <= 1e-10


def test_slices_divide_a_group() -> None:
    found = _between(lambda h: torch.cat([h[:, :2].relu(), h[:, 2:].tanh()], -1))
    assert [group.size for group in axis_groups(found)] == [2, 4]


def test_inputs_and_outputs_are_pinned() -> None:
    found = hidden_symmetry(captured("mlp"))
    reasons = {(pin.path, pin.axis): pin.reason for pin in found.pinned}
    assert reasons["a.weight", 1].endswith("a graph input")
    assert reasons["c.weight", 0].endswith("a graph output")


def test_a_permutation_that_is_none_is_refused() -> None:
    (first, _) = axis_groups(captured("mlp"))
    with pytest.raises(TdslError, match="cannot be permuted"):
        first.permute([0, 0, 1, 2, 3, 4, 5])
    with pytest.raises(TdslError, match="cannot be permuted"):
        first.permute([1, 0])


def test_permutations_compose_and_invert() -> None:
    found = captured("transformer")
    for group in axis_groups(found):
        permutation = moved(group)
        there = group.permute(permutation)
        back = group.permute(np.argsort(permutation, axis=-1), there)
        assert not differing(found, back)


def test_a_graph_without_shapes_is_refused() -> None:
    with pytest.raises(TdslError, match="no shapes"):
        axis_groups(fx.symbolic_trace(nn.Linear(2, 3)))
