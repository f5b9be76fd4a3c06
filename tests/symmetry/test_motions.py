"""Contracts of molecules, crystals and frames: motions, periodic images, and invertible maps."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from contracts import contract
from motion_models import CRYSTAL, FRAMES, MOLECULE, Crystal, Frames, Molecule
from torch import Tensor, nn

from tdsl.capture import capture
from tdsl.emit import emit
from tdsl.errors import TdslError
from tdsl.symmetry.action import action, identity_on, rolled, same, translated
from tdsl.symmetry.affine import (
    euclidean,
    general_linear,
    special_euclidean,
    translations,
    whole_translations,
)
from tdsl.symmetry.audit import Audit, audit
from tdsl.symmetry.certify import certify
from tdsl.symmetry.contract import Contract
from tdsl.symmetry.element import Linear
from tdsl.symmetry.group import special_orthogonal


def molecule(leak: float = 0.0) -> Audit:
    names = ["energy", "forces", "moved"]
    captured = capture(Molecule(leak).eval(), (torch.randn(2, 5, 3),), output_names=names)
    return audit(captured, contract(MOLECULE))


def test_energies_forces_and_places_each_move_in_their_own_way() -> None:
    found = molecule()
    assert found.verdict == "kept"
    assert [element.name for element in found.elements] == ["mirror", "random 1", "random 2"]
    assert len(found.algebra) == 6  # three turns, three translations
    assert all(max(one.defects) < 1e-11 for one in found.algebra)
    assert found.elements[1].action == "matrix(-1) + translation on positions"


def test_a_vector_that_is_added_to_places_is_another_translation() -> None:
    class Shifted(nn.Module):
        def forward(self, positions: Tensor) -> Tensor:
            centred = positions - positions.mean(1, keepdim=True)
            return positions + centred + torch.tensor([0.0, 0.0, 0.1])

    places = MOLECULE.partition("    output")[0] + "    output moved: [b, n, 3] by points\n}\n"
    found = audit(capture(Shifted().eval(), (torch.randn(2, 5, 3),)), contract(places))
    assert found.verdict == "broken" and found.first_broken is None
    assert "moved by another translation" in found.elements[1].reason
    assert "from add_1" in found.elements[1].reason


def test_an_absolute_place_is_found_where_it_comes_in() -> None:
    found = molecule(1e-3)
    assert found.verdict == "broken"
    turned, layer = found.first_broken or pytest.fail("nothing breaks it")
    assert (turned.name, layer.operator) == ("random 1", "square")
    assert "does not pass matrix(-1) + translation" in layer.reason
    assert "places relative to their mean" in layer.reason
    squares = [one for one in turned.layers if one.strength == "inside"]
    assert [one.operator for one in squares] == ["mul"]  # its sum is the squared distance, and not to blame
    turns, shifts = found.algebra[:3], found.algebra[3:]
    assert all(one.defects[0] < 1e-11 for one in turns)
    assert all(one.defects[0] > 1e-6 for one in shifts)


def test_forces_that_are_declared_as_places_are_refused() -> None:
    wrong = MOLECULE.replace("forces: [b, n, 3] by vectors", "forces: [b, n, 3] by points")
    names = ["energy", "forces", "moved"]
    captured = capture(Molecule().eval(), (torch.randn(2, 5, 3),), output_names=names)
    found = audit(captured, contract(wrong))
    assert found.verdict == "broken"
    assert found.elements[0].defect < 1e-12  # a mirror alone adds nothing


@pytest.mark.parametrize("name", ["periodic", "shifted", "turned"])
def test_a_crystal_is_the_same_in_every_cell_at_every_place_in_every_pose(name: str) -> None:
    example = torch.rand(2, 4, 3), torch.eye(3) + 0.1 * torch.randn(2, 3, 3)
    kept = audit(capture(Crystal().eval(), example, output_names=["energy"]), contract(CRYSTAL, name))
    assert kept.verdict == "kept"
    dropped = Crystal(images=False).eval()
    found = audit(capture(dropped, example, output_names=["energy"]), contract(CRYSTAL, name))
    assert found.verdict == ("broken" if name == "periodic" else "kept")
    if name == "periodic":
        assert found.first_broken is not None
        assert [one.name for one in found.elements] == ["random 1", "random 2"]  # not each of twelve


def test_frames_move_with_the_whole() -> None:
    rotations = torch.linalg.qr(torch.randn(2, 5, 3, 3)).Q
    example = rotations, torch.randn(2, 5, 3)
    names = ["turned", "placed"]
    kept = audit(capture(Frames().eval(), example, output_names=names), contract(FRAMES))
    assert kept.verdict == "kept"
    broken = audit(capture(Frames(1e-3).eval(), example, output_names=names), contract(FRAMES))
    assert broken.verdict == "broken"
    assert broken.first_broken is not None
    assert broken.first_broken[1].operator == "add"


def test_a_file_of_a_molecule_is_certified_and_one_with_absolute_places_refused(tmp_path: Path) -> None:
    for leak, verdict in ((0.0, "certified"), (1e-3, "refused")):
        captured = capture(
            Molecule(leak).eval(), (torch.randn(2, 5, 3),), output_names=["energy", "forces", "moved"]
        )
        path = tmp_path / f"{verdict}.onnx"
        onnx.save(emit(captured), path)
        assert certify(str(path), onnx.load(path), contract(MOLECULE)).verdict == verdict


# ---------------------------------------------------------------- affine actions


def test_affine_actions_compose_and_have_inverses() -> None:
    x = torch.randn(2, 4, 3, dtype=torch.float64)
    turn = Linear(special_orthogonal(3).sample(1)[0])
    first = action(3, {2: turn}, None, torch.tensor([1.0, 2.0, 3.0]))
    second = rolled(x.shape, [1], [1]).then(translated(identity_on(3), torch.arange(12.0).reshape(4, 3)))
    for one, two in ((first, second), (second, first), (first, first)):
        torch.testing.assert_close(one.then(two).apply(x), two.apply(one.apply(x)))
    for one in (first, second):
        assert same(one.then(one.inverse()), identity_on(3))
        assert same(one.inverse().then(one), identity_on(3))
        assert not one.permutes and not one.is_identity
    assert first.text() == "matrix(-1) + translation"
    with pytest.raises(TdslError, match="it adds to the tensor"):
        first.on_weight(torch.randn(3, 3), {2: 0})


def test_a_translation_by_nothing_is_none_and_equal_ones_are_equal() -> None:
    assert translated(identity_on(2), torch.zeros(3)) == identity_on(2)
    wide = translated(identity_on(2), torch.tensor([[1.0, 2.0]]).expand(4, 2))
    assert wide == translated(identity_on(2), torch.tensor([1.0, 2.0]))
    assert wide != translated(identity_on(2), torch.tensor([1.0, 2.5]))


def line(group: str, term: str) -> Contract:
    return contract(
        f"group G = {group}\naction a of G on [..., 2] {{ generator: {term} }}\n"
        "symmetry s { group G input x: [n, 2] by a output y: [n, 2] by a }\n"
    )


def test_terms_add_lists_of_numbers() -> None:
    x = torch.randn(3, 2, dtype=torch.float64)
    mirrored = line("generated([1, 0])", "-x + [1, 2]").acts({})["a"].generator(0, (3, 2))
    torch.testing.assert_close(mirrored.apply(x), torch.tensor([1.0, 2.0], dtype=torch.float64) - x)


@pytest.mark.parametrize(
    ("group", "term", "said"),
    [
        ("generated([1, 0])", "x + [1, 2]", "is no action of"),  # of order two, which a shift is not
        ("SO(2)", "x @ g.T + t", "elements of this group add nothing"),
        ("T(3)", "x + t", "are added to a tensor of"),
        ("T(2)", "x + x + t", "a tensor and what is added to it"),
        ("Z(2)", "x + [1, 0]", "is not generated by finitely many elements"),
    ],
)
def test_what_cannot_be_added(group: str, term: str, said: str) -> None:
    with pytest.raises(TdslError, match=said):
        line(group, term)


def test_groups_that_add() -> None:
    assert [euclidean(3).degree, len(euclidean(3).algebra), len(euclidean(3).generators)] == [4, 6, 1]
    assert len(special_euclidean(2).algebra) == 3
    assert translations(4, 3).moved == (4, 3)
    whole = whole_translations(2, 3)
    assert not whole.finite and len(whole.generators) == 6
    for matrix in whole.sample(3):
        assert torch.equal(matrix, matrix.round()) and torch.equal(matrix[:-1, :-1], torch.eye(6).double())


# ---------------------------------------------------------------- invertible maps


def test_invertible_matrices_are_drawn_by_their_polar_factors() -> None:
    for matrix in general_linear(3).sample(20):
        turn, stretches, _ = torch.linalg.svd(matrix)
        assert float(torch.linalg.det(matrix)) > 0
        assert float(stretches.min()) >= 0.5 - 1e-9 and float(stretches.max()) <= 2 + 1e-9
        polar = turn @ torch.linalg.svd(matrix).Vh
        stretched = polar.T @ matrix
        torch.testing.assert_close(stretched, stretched.T)
        torch.testing.assert_close(polar @ stretched, matrix)


AFFINE = """\
group Linear = GL(2)

action shear of Linear on [..., 2] {
    generator: x @ g.T
}

symmetry affine {
    group Linear
    input points: [b, n, 2] by shear
    output output: [b, n] invariant
    tolerance 1e-8
}
"""


class Whitened(nn.Module):
    """How far points are from their mean, in the metric of the cloud (Mahalanobis, 1936) or the plane."""

    def __init__(self, *, own_metric: bool) -> None:
        super().__init__()
        self.own_metric = own_metric

    def forward(self, points: Tensor) -> Tensor:
        """[b, n, 2] → [b, n]."""
        centred = points - points.mean(1, keepdim=True)
        if not self.own_metric:
            return centred.square().sum(-1)
        spread = torch.einsum("bni,bnj->bij", centred, centred)
        return (centred * torch.linalg.solve(spread, centred.mT).mT).sum(-1)


def test_an_affine_invariant_is_kept_and_one_of_rotations_alone_is_not() -> None:
    example = (torch.randn(2, 6, 2),)
    assert audit(capture(Whitened(own_metric=True), example), contract(AFFINE)).verdict == "kept"
    broken = audit(capture(Whitened(own_metric=False), example), contract(AFFINE))
    assert broken.verdict == "broken"
    turned = AFFINE.replace("GL(2)", "SO(2)")
    assert audit(capture(Whitened(own_metric=False), example), contract(turned)).verdict == "kept"
