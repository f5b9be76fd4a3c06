"""Averages and canonical copies over finite groups keep the law of any model, and say where they cannot."""

from __future__ import annotations

import math

import pytest
import torch
from imposed_models import classifier, images, segmenter, turns
from torch import Tensor, nn

from tdsl.errors import TdslError
from tdsl.symmetry.action import action, flipped, rolled, rotated, transposed
from tdsl.symmetry.element import Linear, Permutation
from tdsl.symmetry.group import cyclic, dihedral, orthogonal, symmetric
from tdsl.symmetry.impose import (
    Canonicalise,
    GenericScore,
    GroupAverage,
    flattened,
    moves,
    on_axis,
)
from tdsl.symmetry.representation import defining, regular

X = images(2, 3, 9, 9)
D4 = turns(X)


def test_moves_are_those_of_torch_and_an_action() -> None:
    assert torch.equal(D4.generators[0].apply(X), torch.rot90(X, 1, (-2, -1)))
    assert torch.equal(D4.generators[1].apply(X), X.flip(-1))
    assert len(D4.images()) == 8 and D4.defect(X) == 0
    assert len({tuple(act.apply(X).flatten().tolist()) for act in D4.images()}) == 8


@pytest.mark.parametrize("batch", [0, None])
@pytest.mark.parametrize("equivariant", [False, True])
def test_the_average_keeps_the_law_that_the_model_breaks(batch, equivariant) -> None:
    model = segmenter() if equivariant else classifier()
    report = GroupAverage(model, D4, D4 if equivariant else None, batch=batch).check(X)
    assert report.passed, str(report)
    assert max(report.defects.values()) < 1e-14 and report.without > 0.1
    assert report.controls["one element left out"] > 1e-2 and report.variation > 0.1


def test_copies_in_one_batch_are_the_same_as_one_after_the_other() -> None:
    calls = []

    def counted(x):
        calls.append(len(x))
        return model(x)

    model = classifier()
    batched, single = GroupAverage(counted, D4)(X), GroupAverage(counted, D4, batch=None)(X)
    assert calls == [16] + [2] * 8
    torch.testing.assert_close(batched, single)
    mean = torch.stack([model(act.apply(X)) for act in D4.images()]).mean(0)
    torch.testing.assert_close(batched, mean)


@pytest.mark.parametrize("equivariant", [False, True])
def test_copies_may_count_as_a_function_of_them_says(equivariant: bool) -> None:
    model, score = (segmenter() if equivariant else classifier()), GenericScore(X.shape[1:])
    found = GroupAverage(model, D4, D4 if equivariant else None, weights=score)
    report = found.check(X)
    assert report.passed and report.without > 0.1 and report.controls["one element left out"] > 1e-3
    plain = GroupAverage(model, D4, D4 if equivariant else None)(X)
    assert (found(X) - plain).abs().max() > 1e-4  # they do count
    same = GroupAverage(model, D4, D4 if equivariant else None, weights=lambda x: x.new_zeros(len(x)))
    torch.testing.assert_close(same(X), plain)
    sharp = GroupAverage(model, D4, D4 if equivariant else None, weights=lambda x: 1e4 * score(x))
    once = Canonicalise(model, D4, D4 if equivariant else None, score=score)
    torch.testing.assert_close(sharp(X), once(X))  # the copy that counts most, alone
    with pytest.raises(TdslError, match=r"the weights are shape \[2, 3\]"):
        GroupAverage(model, D4, weights=lambda x: x.mean((2, 3)))(X)
    with pytest.raises(TdslError, match="no batch axis"):
        GroupAverage(model, D4, batch=None, weights=score)


def test_images_that_are_not_square_are_averaged_one_by_one() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1))
    wide = images(2, 3, 5, 8)
    mirror = moves(cyclic(2), r=transposed(4, (0, 1, 3, 2)))
    assert GroupAverage(model, mirror, mirror).check(wide).passed
    with pytest.raises(TdslError, match="changes the shape"):
        Canonicalise(model, mirror, score=GenericScore((3, 5, 8)))(wide)
    with pytest.raises(TdslError, match="an axis of size 5 is not one of size 8"):
        GroupAverage(model, turns(wide), turns(wide))(wide)


def test_several_inputs_and_outputs_move_in_their_own_ways() -> None:
    class Weighted(nn.Linear):
        def forward(self, x, weights):
            return super().forward(x) * weights, (super().forward(x) * weights).sum(-1, keepdim=True)

    ring, model = on_axis(defining(cyclic(4)), 2), Weighted(4, 4)
    report = GroupAverage(model, [ring, None], [ring, None]).check(images(3, 4), images(3, 4, seed=1))
    assert report.passed, str(report)
    with pytest.raises(TdslError, match="2 inputs, there are 1"):
        GroupAverage(model, [ring, None])(images(3, 4))


def test_an_average_that_is_zero_is_no_invariant_model() -> None:
    signs = moves(cyclic(2), r=action(2, {1: negation(4)}))
    report = GroupAverage(nn.Linear(4, 3, bias=False), signs).check(images(5, 4))
    assert not report.passed and "same for every input" in " ".join(report.problems)
    assert (
        GroupAverage(nn.Linear(4, 3, bias=False), signs, moves(cyclic(2), r=action(2, {1: negation(3)})))
        .check(images(5, 4))
        .passed
    )


def negation(size: int) -> Linear:
    return Linear(-torch.eye(size, dtype=torch.float64))


def test_a_model_that_has_the_law_is_left_alone() -> None:
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    report = GroupAverage(pooled, D4).check(X)
    assert report.passed and report.without < 1e-14


def test_a_function_that_hides_its_weights_is_told_to_be_a_module() -> None:
    model = classifier()
    with pytest.raises(TdslError, match="does not run in float64") as raised:
        GroupAverage(lambda x: model(x), D4).check(X)
    assert "nn.Module" in str(raised.value.hint)
    with pytest.raises(TdslError, match="nothing to check the law on"):
        GroupAverage(model, D4).check()


def test_moves_that_are_no_action_are_refused() -> None:
    wrong = moves(dihedral(4), r=flipped(X.shape, [-2]), s=rolled(X.shape, [1], [-1]))
    with pytest.raises(TdslError, match="no action of dihedral"):
        GroupAverage(classifier(), wrong).check(X)
    with pytest.raises(TdslError, match="generated by r, s"):
        moves(dihedral(4), r=flipped(X.shape, [-1]))
    with pytest.raises(TdslError, match="infinitely many"):
        GroupAverage(classifier(), on_axis(defining(orthogonal(3)), 4, 1))
    with pytest.raises(TdslError, match="more than 1024"):
        GroupAverage(classifier(), on_axis(defining(symmetric(7)), 2))
    with pytest.raises(TdslError, match="nothing moves"):
        GroupAverage(classifier(), None)
    with pytest.raises(TdslError, match="several groups"):
        GroupAverage(classifier(), D4, on_axis(defining(cyclic(5)), 2))


def test_turned_pixels_whose_channels_change_places_too() -> None:
    ring = on_axis(regular(cyclic(4)), 4, 1)
    x = images(2, 4, 6, 6)
    both = moves(cyclic(4), r=rotated(x.shape, 1, -2, -1)).also(ring)
    assert both.defect(x) == 0
    model = nn.Conv2d(4, 4, 3, padding=1)
    assert GroupAverage(model, both, both).check(x).passed


def test_moves_of_a_flattened_tensor() -> None:
    x = images(1, 2, 3, 3)
    places = flattened(turns(x), x.shape)
    places.check()
    for act, element in zip(turns(x).generators, places.generators, strict=True):
        assert torch.equal(element.apply(x.flatten()), act.apply(x).flatten())
    with pytest.raises(TdslError, match="does not permute"):
        flattened(moves(cyclic(2), r=action(2, {1: negation(4)})), (1, 4))


# ---------------------------------------------------------------- canonical copies


@pytest.mark.parametrize("equivariant", [False, True])
def test_the_canonical_copy_keeps_the_law_in_one_pass(equivariant) -> None:
    seen = []
    inner = segmenter() if equivariant else classifier()

    class Counted(nn.Module):
        def forward(self, x):
            seen.append(len(x))
            return inner.to(x.dtype)(x)

    score = GenericScore(X.shape[1:])
    wrapped = Canonicalise(Counted(), D4, D4 if equivariant else None, score=score)
    wrapped(X)
    assert seen == [2]
    report = wrapped.check(X)
    assert report.passed, str(report)
    assert max(report.defects.values()) < 1e-14 < 0.1 < report.controls["constant score"]
    assert report.margins[0].smallest > 1e-3


def test_every_sample_of_a_batch_is_moved_by_its_own_element() -> None:
    wrapped = Canonicalise(nn.Identity(), D4, score=GenericScore(X.shape[1:]))
    sample = images(1, 3, 9, 9, seed=5)
    orbit = torch.cat([act.apply(sample) for act in D4.images()])
    out = wrapped(orbit)
    assert (out == out[:1]).all() and (orbit == out).flatten(1).all(1).sum() == 1


def test_a_score_that_cannot_tell_copies_apart_is_reported() -> None:
    report = Canonicalise(classifier(), D4, score=lambda x: x.sum((1, 2, 3))).check(X)
    assert not report.passed
    assert any("tie between copies" in problem for problem in report.problems)
    with pytest.raises(TdslError, match="meet a score of 12 numbers"):
        Canonicalise(classifier(), D4, score=GenericScore((3, 4)))(X)
    with pytest.raises(TdslError, match="the score has shape"):
        Canonicalise(classifier(), D4, score=lambda x: x)(X)
    with pytest.raises(TdslError, match="the score is 1"):
        Canonicalise(classifier(), D4, score=lambda x: 1.0)(X)  # type: ignore[arg-type, return-value]


def test_pixels_of_eight_bits_are_drawn_from_those_that_occur() -> None:
    """Where no input is a real number the others vary all the same, and the law is not held of a constant."""

    class FromBytes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = classifier()

        def forward(self, x: Tensor) -> Tensor:
            return self.model(x.to(next(self.model.parameters()).dtype) / 255)

    pixels = (X.abs() * 100).to(torch.uint8)
    report = GroupAverage(FromBytes(), D4).check(pixels)
    assert report.passed and report.variation > 1e-3
    assert report.controls["one element left out"] > 1e-3


def test_nothing_is_held_of_no_sample_or_of_what_is_no_number() -> None:
    with pytest.raises(TdslError, match="has nothing to check the law on"):
        GroupAverage(classifier(), D4).check(X[:0])
    with pytest.raises(TdslError, match="the results for the given input are not finite"):
        GroupAverage(classifier(), D4).check(X * math.nan)


def test_ties_of_symmetric_inputs_matter_where_the_output_moves_along() -> None:
    mirrored = X + X.flip(-1)
    score = GenericScore(X.shape[1:])
    assert Canonicalise(classifier(), D4, score=score).check(mirrored).passed
    report = Canonicalise(segmenter(), D4, D4, score=score).check(mirrored)
    assert not report.passed and report.margins[0].where == "the given input"
    assert GroupAverage(segmenter(), D4, D4).check(mirrored).passed


def test_channels_are_sorted_out_by_a_permutation_group() -> None:
    swap = on_axis(defining(symmetric(3)), 2)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 3))
    x = images(6, 3)
    for outputs in (None, swap):
        assert Canonicalise(model, swap, outputs, score=GenericScore((3,))).check(x).passed
    assert swap.generators[0].apply(x)[0].tolist() == x[0][list(Permutation((1, 0, 2)).places)].tolist()
