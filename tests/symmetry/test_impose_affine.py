"""Clouds that are the same for every affine map, and where that breaks."""

from __future__ import annotations

import pytest
import torch
from imposed_models import Cloud, images

from tdsl.capture import capture
from tdsl.emit import emit, run, session
from tdsl.symmetry.impose import AffineInvariant, GramSchmidt
from tdsl.symmetry.impose.affine import general_linear, whitened

X = images(4, 12, 3)


@pytest.mark.parametrize("reflects", [True, False])
def test_the_law_holds_for_stretches_and_would_not_for_a_rotation_invariant_model(reflects) -> None:
    report = AffineInvariant(Cloud(12), reflects=reflects).check(X)
    assert report.passed, str(report)
    assert max(report.defects.values()) < 1e-10 < 1e-2 < report.controls["not whitened"]
    assert ("reflection" in report.defects) is reflects
    assert {"stretch 1", "stretch 2", "translation", "rotation 1"} <= set(report.defects)
    assert GramSchmidt(Cloud(12), "E").check(X).passed


def test_the_polar_factors_give_the_elements_back() -> None:
    for reflects in (True, False):
        for matrix in general_linear(20, reflects):
            stretches = torch.linalg.svdvals(matrix)
            assert float(stretches.min()) >= 0.5 and float(stretches.max()) <= 2
            left, _, right = torch.linalg.svd(matrix)
            turn = left @ right
            positive = turn.T @ matrix
            torch.testing.assert_close(positive, positive.T)
            torch.testing.assert_close(turn @ positive, matrix)
            assert reflects or float(torch.linalg.det(matrix)) > 0
    signs = [float(torch.linalg.det(m)) > 0 for m in general_linear(20)]
    assert any(signs) and not all(signs)


def test_whitened_clouds_have_equal_variances_whatever_their_size() -> None:
    x = torch.cat([X, 1e3 * X, 1e-3 * X]).double()
    cloud = whitened(x)
    unit = torch.eye(3, dtype=torch.float64).expand(len(x), 3, 3)
    torch.testing.assert_close(cloud.mT @ cloud, unit, rtol=0, atol=1e-12)


def test_flat_clouds_are_reported() -> None:
    report = AffineInvariant(Cloud(12)).check(X * torch.tensor([1.0, 1.0, 0.0]))
    assert not report.passed and any("flat cloud" in problem for problem in report.problems)


def test_the_file_gives_the_same() -> None:
    module = AffineInvariant(Cloud(12)).eval()
    model = emit(capture(module, (X,)))
    moved = X @ general_linear(1)[0].float() + 1.0
    (found,), (image,) = (run(session(model), {model.graph.input[0].name: x}).values() for x in (X, moved))
    torch.testing.assert_close(torch.tensor(found), module(X), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(torch.tensor(found), torch.tensor(image), rtol=1e-2, atol=1e-3)
