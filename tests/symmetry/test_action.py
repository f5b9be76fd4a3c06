"""Actions as symbolic objects: what they do, that equal ones compare equal, and the laws of composition."""

from __future__ import annotations

import random

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from random_actions import random_action

from tdsl.errors import TdslError
from tdsl.symmetry.action import (
    Action,
    action,
    alike,
    flipped,
    identity_on,
    rolled,
    rotated,
    same,
    transposed,
)
from tdsl.symmetry.along import Monomial, Turn, along, flip, roll
from tdsl.symmetry.element import Linear, Permutation

SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=4)
SEEDS = st.integers(0, 10**6)


def scaled(*scales: float) -> Action:
    """Places along the second of four axes, each multiplied by a number of its own."""
    return action(4, {1: Monomial(tuple(range(len(scales))), scales)})


def shaped(one: Action, shape: list[int]) -> list[int]:
    return [shape[axis] for axis in one.order]


@settings(max_examples=100, deadline=None)
@given(SHAPES, SEEDS)
def test_acting_one_after_the_other_is_acting_with_both(shape: list[int], seed: int) -> None:
    draw = random.Random(seed)
    x = torch.randn(shape, dtype=torch.float64)
    first = random_action(draw, shape)
    second = random_action(draw, shaped(first, shape))
    third = random_action(draw, shaped(second, shaped(first, shape)))
    assert torch.allclose(first.then(second).apply(x), second.apply(first.apply(x)), atol=1e-9)
    assert same(first.then(second).then(third), first.then(second.then(third)))


@settings(max_examples=100, deadline=None)
@given(SHAPES, SEEDS)
def test_an_inverse_undoes_from_both_sides(shape: list[int], seed: int) -> None:
    x = torch.randn(shape, dtype=torch.float64)
    one = random_action(random.Random(seed), shape, ("flip", "roll", "permutation", "positive", "orthogonal"))
    assert torch.allclose(one.inverse().apply(one.apply(x)), x, atol=1e-9)
    assert same(one.then(one.inverse()), identity_on(len(shape)))
    assert same(one.inverse().then(one), identity_on(len(shape)))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 9), st.integers(-20, 20), st.integers(-20, 20))
def test_turns_are_known_by_size_alone(n: int, k: int, m: int) -> None:
    assert flip(n).then(flip(n)) == Turn(n, 0)
    assert roll(n, k).then(roll(n, m)) == roll(n, (k + m) % n)
    assert flip(n).then(roll(n, k)) == roll(n, -k).then(flip(n))
    assert along(Permutation(roll(n, k).places)) == roll(n, k)


def test_they_do_what_the_operators_do() -> None:
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(flipped(x.shape, (-1, 1)).apply(x), x.flip(-1, 1))
    assert torch.equal(rolled(x.shape, (1, -2), (2, 3)).apply(x), x.roll((1, -2), (2, 3)))
    for turns in range(-4, 5):
        assert torch.equal(rotated(x.shape, turns, 2, 3).apply(x), torch.rot90(x, turns, (2, 3)))
    assert torch.equal(transposed(4, (0, 1, 3, 2)).apply(x), x.mT)
    assert torch.equal(scaled(2, 3, 4).apply(x), x * torch.tensor([2.0, 3, 4]).reshape(3, 1, 1))
    assert torch.equal(action(4, {1: Permutation((2, 0, 1))}).apply(x), x[:, [2, 0, 1]])


def test_quarter_turns_have_their_relations() -> None:
    r, s = rotated((6, 6), 1, 0, 1), flipped((6, 6), (1,))
    assert r.then(r).then(r).then(r).is_identity
    assert not r.then(r).is_identity
    assert s.then(r).then(s) == r.inverse()


def test_a_tensor_power_acts_on_every_axis() -> None:
    q = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64)).Q
    x = torch.randn(5, 3, 3, dtype=torch.float64)
    assert torch.allclose(alike(3, Linear(q), (1, 2)).apply(x), q @ x @ q.T)
    signs = torch.diag(torch.tensor([1.0, -1, -1], dtype=torch.float64))
    assert alike(2, Linear(signs), (0, 1)).then(alike(2, Linear(signs), (0, 1))).is_identity


@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1])
def test_a_rotated_image_through_a_rotated_kernel_is_the_rotated_output(turns: int, padding: int) -> None:
    x, kernel = torch.randn(2, 3, 8, 8).double(), torch.randn(5, 3, 3, 3).double()
    r = rotated(x.shape, turns, 2, 3)
    turned = r.on_weight(kernel, {2: 2, 3: 3})
    plain = F.conv2d(x, kernel, padding=padding)
    there = rotated(plain.shape, turns, 2, 3)
    assert torch.allclose(F.conv2d(r.apply(x), turned, padding=padding), there.apply(plain), atol=1e-12)
    assert not torch.allclose(F.conv2d(r.apply(x), kernel, padding=padding), there.apply(plain), atol=1e-2)


@pytest.mark.parametrize(
    ("one", "text"),
    [
        (rotated((2, 3, 8, 8), 1, -2, -1), "rot90(H, W)"),
        (rotated((2, 3, 8, 8), 3, -2, -1), "rot90(W, H)"),
        (rotated((2, 3, 8, 8), 2, -2, -1), "flip(H) · flip(W)"),
        (rolled((2, 3, 8, 8), (-3,), (3,)), "roll(W, -3)"),
        (transposed(4, (0, 1, 3, 2)), "transpose(H, W)"),
        (action(4, {1: Permutation((1, 0, 2, 3))}), "permute(C)"),
        (scaled(1, 2, 3), "scale(C)"),
        (scaled(1, -1, 1), "signs(C)"),
        (identity_on(4), "1"),
        (flipped((2, 3, 8, 8), (3,)).then(rolled((2, 3, 8, 8), (2,), (3,))), "flip(W) · roll(W, 2)"),
    ],
)
def test_in_words(one: Action, text: str) -> None:
    assert one.text("NCHW") == text


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(TdslError, match="an axis of size 7 is not one of size 8"):
        flipped((8,), (0,)).apply(torch.randn(7))
    with pytest.raises(TdslError, match="there is no axis 4 in a tensor of 2"):
        action(2, {4: flip(3)})
    with pytest.raises(TdslError, match="is no order of 2 axes"):
        action(2, {}, (0, 0))
