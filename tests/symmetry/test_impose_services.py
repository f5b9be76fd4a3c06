"""Relative representations, and functions of matrices by products alone."""

from __future__ import annotations

import pytest
import torch
from imposed_models import images
from torch import nn

from tdsl.capture import capture
from tdsl.emit import emit, run, session
from tdsl.errors import TdslError
from tdsl.symmetry.group import orthogonal, symmetric
from tdsl.symmetry.impose import Relative, Resolvent
from tdsl.symmetry.impose.resolvent import inverse, iterations


def encoder(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 5)).eval()


@pytest.mark.parametrize("centred", [False, True])
def test_cosines_with_anchors_do_not_see_a_rotation(centred) -> None:
    report = Relative(encoder(), images(8, 6), centred=centred).check(images(4, 6, seed=1))
    assert report.passed, str(report)
    assert max(report.defects.values()) < 1e-10 < 0.1 < report.controls["anchors left behind"]
    assert ("translation" in report.defects) == centred


def test_a_rotated_encoder_can_be_put_in_the_place_of_another() -> None:
    one = encoder().double()
    turn = nn.Linear(5, 5, bias=False).double()
    turn.weight.data = 2 * orthogonal(5).sample(1, seed=4)[0]
    anchors, x = images(8, 6).double(), images(4, 6, seed=1).double()
    first, second = Relative(one, anchors), Relative(nn.Sequential(one, turn), anchors)
    torch.testing.assert_close(first(x), second(x))
    moved = nn.Linear(5, 5).double()
    moved.weight.data = torch.eye(5).double()
    shifted = nn.Sequential(one, moved)
    assert (Relative(shifted, anchors)(x) - first(x)).abs().max() > 0.05
    centred = Relative(one, anchors, centred=True)(x)
    torch.testing.assert_close(Relative(shifted, anchors, centred=True)(x), centred)
    with pytest.raises(TdslError, match="of the anchors"):
        Relative(lambda x: x.sum(), anchors)


def symmetric_matrix(n: int, bound: float, seed: int = 0) -> torch.Tensor:
    half = images(2, n, n, seed=seed).double()
    whole = half + half.mT
    return bound * whole / torch.linalg.eigvalsh(whole).abs().amax(1)[:, None, None]


POLES = ([1.0, -0.5, 0.25], [0.0, 1.0, -2.0], [0.5, 1.0, 0.75])


def test_a_function_of_a_matrix_turns_along_with_it() -> None:
    layer = Resolvent(*POLES, bound=2.0, tolerance=1e-12).double()
    matrix = symmetric_matrix(7, 2.0)
    for turn in (*orthogonal(7).sample(3), *(g.matrix() for g in symmetric(7).generators)):
        torch.testing.assert_close(
            layer(turn @ matrix @ turn.T), turn @ layer(matrix) @ turn.T, rtol=0, atol=1e-12
        )
    assert (layer(matrix) - layer(symmetric_matrix(7, 2.0, seed=1))).abs().max() > 0.1


def test_the_real_form_is_the_complex_one_and_half_the_iterations_are_not_enough() -> None:
    layer = Resolvent(*POLES, bound=2.0, tolerance=1e-12).double()
    matrix = symmetric_matrix(6, 2.0)
    one = torch.eye(6, dtype=torch.complex128)
    expected = sum(
        a * torch.linalg.inv(matrix.to(torch.complex128) - complex(c, b) * one).real
        for a, c, b in zip(*POLES, strict=True)
    )
    torch.testing.assert_close(layer(matrix), expected, rtol=0, atol=1e-10)
    layer.iterations //= 2
    assert (layer(matrix) - expected).abs().max() > 1e-4


def test_a_matrix_beyond_the_bound_shows_in_what_is_left() -> None:
    layer = Resolvent(*POLES, bound=2.0, tolerance=1e-9, residual=True).double()
    inside, outside = symmetric_matrix(6, 2.0)[:1], symmetric_matrix(6, 20.0)[:1]
    found, left = layer(torch.cat([inside, outside]))
    assert left.shape == (2,) and left[0] < 1e-9 and not left[1] < 1e-3
    assert torch.equal(found[:1], Resolvent(*POLES, bound=2.0, tolerance=1e-9).double()(inside))


@pytest.mark.parametrize("condition", [1.0, 4.0, 83.0, 1e4])
def test_as_many_iterations_as_the_condition_asks_for(condition) -> None:
    values = torch.linspace(1.0, condition, 9).double()
    turn = orthogonal(9).sample(1)[0]
    matrix = turn @ values.diag() @ turn.T
    count, least, most = iterations(condition, 1e-10), torch.tensor(1.0), torch.tensor(condition)
    one = torch.eye(9).double()
    assert (matrix @ inverse(matrix, least, most, count) - one).norm(2) < 1e-8
    if count:
        assert torch.linalg.matrix_norm(matrix @ inverse(matrix, least, most, count - 1) - one, 2) > 1e-10


def test_what_is_no_pole() -> None:
    for arguments in (([1.0], [0.0], [0.0]), ([1.0], [0.0, 1.0], [1.0]), ([], [], [])):
        with pytest.raises(TdslError):
            Resolvent(*arguments, bound=1.0)
    with pytest.raises(TdslError, match="no batch of square matrices"):
        Resolvent([1.0], [0.0], [1.0], bound=1.0)(torch.ones(2, 3, 4))


def test_both_in_a_file() -> None:
    for module, x in (
        (Relative(encoder(), images(8, 6)), images(4, 6, seed=1)),
        (Resolvent(*POLES, bound=2.0), symmetric_matrix(5, 2.0).float()),
    ):
        model = emit(capture(module.eval(), (x,)))
        assert not {"DFT", "Einsum", "Loop", "If"} & {node.op_type for node in model.graph.node}
        (found,) = run(session(model), {model.graph.input[0].name: x}).values()
        torch.testing.assert_close(torch.tensor(found), module(x), rtol=1e-4, atol=1e-5, check_dtype=True)


def test_anchors_that_the_encoder_does_not_take_are_named():
    with pytest.raises(TdslError, match=r"does not take anchors of shape \[8, 7\]"):
        Relative(nn.Linear(6, 5), torch.zeros(8, 7))
