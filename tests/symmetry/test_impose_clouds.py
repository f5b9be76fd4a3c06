"""Point clouds: frames, bases of their own and sorted points, and where each of them breaks."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from imposed_models import Cloud, Forces, images
from torch import nn

from tdsl.errors import TdslError
from tdsl.symmetry.group import special_orthogonal
from tdsl.symmetry.impose import AffineInvariant, FrameAverage, GramSchmidt, PointKey, SortPoints
from tdsl.symmetry.impose.frames import spread
from tdsl.symmetry.impose.jacobi import eigen3, gap

X = images(4, 10, 3)


def symmetric_matrices(count: int, seed: int = 0) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    half = torch.randn(count, 3, 3, generator=random, dtype=torch.float64)
    return half + half.mT


def off_diagonal(matrix: torch.Tensor, sweeps: int) -> float:
    _, vectors = eigen3(matrix, sweeps)
    turned = vectors.mT @ matrix @ vectors
    return float((turned - torch.diag_embed(turned.diagonal(dim1=1, dim2=2))).abs().max())


def test_four_sweeps_of_jacobi_are_enough_and_three_are_not() -> None:
    matrices = symmetric_matrices(5000)
    assert off_diagonal(matrices, 4) < 1e-13 < 1e-6 < off_diagonal(matrices, 3)
    values, vectors = eigen3(matrices)
    torch.testing.assert_close(values, torch.linalg.eigvalsh(matrices).flip(1), rtol=0, atol=1e-13)
    torch.testing.assert_close(vectors.mT @ vectors, torch.eye(3).double().expand_as(matrices))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([0.0, 1.0, -2.0, 1e-9, 1e6]), min_size=6, max_size=6))
def test_eigenvectors_of_matrices_with_zeros_and_ties(entries: list[float]) -> None:
    a, b, c, d, e, f = entries
    matrix = torch.tensor([[[a, b, c], [b, d, e], [c, e, f]]], dtype=torch.float64)
    values, vectors = eigen3(matrix)
    size = max(1.0, float(matrix.abs().max()))
    assert float((matrix @ vectors - vectors * values[:, None, :]).abs().max()) < 1e-12 * size
    assert (values[:, :-1] >= values[:, 1:]).all() and 0 <= float(gap(values)) <= 2


@pytest.mark.parametrize("group", ["O", "SO", "E", "SE"])
def test_frames_keep_the_law_of_any_model(group) -> None:
    report = FrameAverage(Cloud(10), group).check(X)
    assert report.passed, str(report)
    assert max(report.defects.values()) < 1e-13 and report.without > 0.5
    assert report.controls["right-handed frames under a reflection"] > 1e-3
    assert ("reflection" in report.defects) == (group in ("O", "E"))
    assert ("translation" in report.defects) == (group in ("E", "SE"))


@pytest.mark.parametrize(
    ("group", "output"), [("O", "vectors"), ("SO", "vectors"), ("E", "points"), ("SE", "points")]
)
def test_vectors_and_points_turn_along(group, output) -> None:
    report = FrameAverage(Forces(10), group, output).check(X)
    assert report.passed, str(report)
    assert max(report.defects.values()) < 1e-13


def test_frames_are_eight_or_four_in_one_batch() -> None:
    seen = []

    def counted(x):
        seen.append(tuple(x.shape))
        return x.sum((1, 2))

    FrameAverage(counted, "O")(X)
    FrameAverage(counted, "SE")(X)
    assert seen == [(32, 10, 3), (16, 10, 3)]


def test_features_of_the_points_are_repeated() -> None:
    class Weighted(nn.Module):
        def forward(self, x, weights):
            return (x.exp() * weights).sum(1)

    assert FrameAverage(Weighted(), "SO").check(X, images(4, 10, 1, seed=1)).passed


def test_an_odd_model_averages_to_zero_and_that_is_said() -> None:
    report = FrameAverage(Cloud(10, bias=False), "O").check(X)
    assert max(report.defects.values()) < 1e-13
    assert not report.passed and "the law holds of a constant" in report.problems[0]
    assert FrameAverage(Cloud(10, bias=False), "SO").check(X).passed


def degenerate(gap_wanted: float) -> torch.Tensor:
    """A cloud with two variances that differ by a share of `gap_wanted`."""
    x = X[:1].double() - X[:1].double().mean(1, keepdim=True)
    _, vectors = spread(x)
    x = x @ vectors
    size = (x.square().mean(1, keepdim=True)).sqrt()
    scale = torch.tensor([1.0, (1 - gap_wanted) ** 0.5, 0.5], dtype=torch.float64)
    return x / size * scale


@pytest.mark.parametrize("wanted", [1e-2, 1e-4, 1e-6])
def test_the_gap_is_measured_and_a_small_one_is_a_problem(wanted) -> None:
    x = degenerate(wanted)
    assert float(FrameAverage(Cloud(10), "O", gap=True).double()(x)[1]) == pytest.approx(wanted, rel=1e-3)
    report = FrameAverage(Cloud(10), "O").check(x)
    assert report.margins[0].smallest == pytest.approx(wanted, rel=1e-3)
    assert report.passed is (wanted == 1e-2)


def jump(model: nn.Module, x: torch.Tensor) -> float:
    """How far noise of 1e-8 moves the output."""
    noise = 1e-8 * images(*x.shape, seed=9).double()
    with torch.no_grad():
        return float((model(x + noise) - model(x)).abs().max())


def distances(x: torch.Tensor) -> torch.Tensor:
    """Invariant by itself: no frames needed. [B, N, 3] → [B, 4]."""
    lengths = torch.cdist(x, x).sum((1, 2))
    return torch.stack([lengths * k for k in (0.1, 0.2, 0.3, 0.4)], dim=1)


def test_near_equal_eigenvalues_make_outputs_jump_and_a_fallback_takes_over() -> None:
    x = degenerate(1e-6)
    plain = FrameAverage(Cloud(10), "O").double()
    guarded = FrameAverage(Cloud(10), "O", fallback=distances, threshold=1e-3).double()
    assert jump(plain, x) > 1e-5 > 1e-6 > jump(guarded, x)
    assert jump(plain, degenerate(0.3)) < 1e-6
    assert guarded.check(x).passed
    torch.testing.assert_close(guarded(x), distances(x))
    torch.testing.assert_close(guarded(degenerate(0.3)), plain(degenerate(0.3)))
    between = [
        float((guarded(degenerate(g)) - plain(degenerate(g))).detach().abs().max())
        for g in (1.1e-3, 1.5e-3, 1.9e-3)
    ]
    assert between == sorted(between, reverse=True) and between[-1] > 0


def test_exactly_equal_eigenvalues_break_the_frames() -> None:
    corners = torch.tensor([[[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]]]).double()
    report = FrameAverage(Cloud(6), "O").check(corners)
    assert max(report.defects.values()) > 0.01 and report.margins[0].smallest < 1e-12
    assert not report.passed


# ---------------------------------------------------------------- one basis, and sorting


@pytest.mark.parametrize(
    ("group", "output"), [("O", "invariant"), ("SO", "vectors"), ("E", "points"), ("SE", "points")]
)
def test_a_basis_of_the_clouds_own_vectors(group, output) -> None:
    model = Cloud(10) if output == "invariant" else Forces(10)
    report = GramSchmidt(model, group, output).check(X)
    assert report.passed, str(report)
    assert max(report.defects.values()) < 1e-12


def test_bases_in_the_plane_and_in_five_dimensions() -> None:
    torch.manual_seed(0)
    plane = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 3))
    assert GramSchmidt(plane, "SO", size=2).check(images(3, 6, 2)).passed
    five = nn.Sequential(nn.Flatten(), nn.Linear(40, 8), nn.Tanh(), nn.Linear(8, 3))
    assert GramSchmidt(five, "E", size=5).check(images(3, 8, 5)).passed
    with pytest.raises(TdslError, match="not supported"):
        GramSchmidt(five, "SO", size=5)


def test_collinear_points_have_no_basis() -> None:
    line = images(1, 10, 1) * torch.tensor([1.0, 2.0, -1.0])
    report = GramSchmidt(Cloud(10), "SO").check(line)
    assert report.margins[0].smallest < 1e-12 and report.margins[0].where == "the given input"
    assert not report.passed


def test_vectors_that_do_not_turn_along_are_found_out() -> None:
    fixed = GramSchmidt(
        Cloud(10), "O", vectors=lambda x: torch.eye(3, dtype=x.dtype).expand(len(x), 3, 3) + 0 * x[:, :1]
    )
    assert not fixed.check(X).passed


def test_what_there_is_not() -> None:
    with pytest.raises(TdslError, match="no group"):
        FrameAverage(Cloud(10), "SU")
    with pytest.raises(TdslError, match="points do not move along"):
        FrameAverage(Forces(10), "O", "points")
    with pytest.raises(TdslError, match="no vectors of 3"):
        FrameAverage(Cloud(10), "O", "vectors")(X)
    for wrapper in (FrameAverage, GramSchmidt, AffineInvariant):
        for wrong in (X[0], X[..., :2]):
            with pytest.raises(TdslError, match="no batch of point clouds"):
                wrapper(Cloud(10))(wrong)
        with pytest.raises(TdslError, match="a cloud of int64"):
            wrapper(Cloud(10))((10 * X).long())
    with pytest.raises(TdslError, match="no batch of sets"):
        SortPoints(Cloud(10), PointKey(3))(X[0, 0])
    with pytest.raises(TdslError, match="the key has shape"):
        SortPoints(Cloud(10), lambda x: x)(X)
    with pytest.raises(TdslError, match="threshold"):
        FrameAverage(Cloud(10), "O", threshold=0.0)
    with pytest.raises(TdslError, match="no batch of point clouds"):
        FrameAverage(Cloud(10), "O").check(X[..., :2])
    with pytest.raises(TdslError, match=r"the fallback gives \[\[4\]\], the model \[\[4, 4\]\]"):
        FrameAverage(Cloud(10), "O", fallback=lambda x: x.sum((1, 2)))(X)
    with pytest.raises(TdslError, match=r"`vectors` gives \[4, 2, 3\]"):
        GramSchmidt(Cloud(10), "O", vectors=lambda x: x[:, :2])(X)
    with pytest.raises(TdslError, match="points of 3 coordinates meet a key of 4"):
        SortPoints(Cloud(10), PointKey(4))(X)
    with pytest.raises(TdslError, match="nothing for each of 10 points"):
        SortPoints(Cloud(10), PointKey(3), "points")(X)


@pytest.mark.parametrize("output", ["invariant", "points"])
def test_sorted_points_forget_their_order(output) -> None:
    model = Cloud(10) if output == "invariant" else Forces(10)
    report = SortPoints(model, PointKey(3), output).check(X)
    assert report.passed, str(report)
    assert max(report.defects.values()) == 0 and report.controls["constant key"] > 0.1


def test_repeated_points_are_harmless_only_where_nothing_tells_them_apart() -> None:
    twice = torch.cat([X[:, :5], X[:, :5]], dim=1)
    assert SortPoints(Cloud(10), PointKey(3)).check(twice).passed
    report = SortPoints(Forces(10), PointKey(3), "points").check(twice)
    assert not report.passed and report.margins[0].smallest == 0
    tied = SortPoints(Cloud(10), lambda x: x[..., 0].round()).check(X)
    assert not tied.passed and any("tie" in problem for problem in tied.problems)


def test_both_wrappers_together_forget_order_and_pose() -> None:
    wrapped = FrameAverage(SortPoints(Cloud(10), PointKey(3)), "SE")
    report = wrapped.check(X)
    assert report.passed
    turn = special_orthogonal(3).sample(1)[0]
    x = X.double()
    moved = (x @ turn + 2.0)[:, torch.randperm(10, generator=torch.Generator().manual_seed(0))]
    exact = wrapped.double()
    torch.testing.assert_close(exact(moved), exact(x), rtol=0, atol=1e-12)
