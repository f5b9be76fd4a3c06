"""Whole models projected onto a symmetry, layer by layer, each within a bound."""

from __future__ import annotations

import pytest
import torch
from imposed_models import images, turns
from torch import nn

from tdsl.errors import TdslError
from tdsl.symmetry.action import flipped, rolled, rotated
from tdsl.symmetry.element import Linear
from tdsl.symmetry.group import cyclic, dihedral, orthogonal
from tdsl.symmetry.impose import Between, flattened, moves, on_axis, symmetrise
from tdsl.symmetry.impose.layers import on_kernel
from tdsl.symmetry.representation import Representation, copies, defining, regular

D4 = dihedral(4)
FEATURES = copies(regular(D4), 2, inside=False)
"""Sixteen channels: two sets of eight that change places with one another's turns."""


class Net(nn.Module):
    """Sixteen channels between that the group exchanges, an image of 17 × 17 in, five numbers out."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.second = nn.Conv2d(16, 16, 3, stride=2, padding=1)
        self.grouped = nn.Conv2d(16, 4, 3, padding=1, groups=2)
        self.head = nn.Linear(4 * 81, 5)
        with torch.no_grad():
            self.norm.weight.copy_(torch.rand(16) + 0.5)
            self.norm.running_mean.copy_(torch.randn(16))

    def forward(self, x):
        x = torch.relu(self.norm(self.first(x)))
        x = torch.relu(self.second(x))
        return self.head(self.grouped(x).flatten(1))


def declared(size: int = 9) -> dict[str, Between]:
    last = torch.zeros(1, 4, size, size)
    return {
        "first": Between(None, FEATURES),
        "norm": Between(FEATURES, FEATURES),
        "second": Between(FEATURES, None),
        "head": Between(flattened(turns(last), last.shape), None),
    }


def test_every_layer_keeps_its_law_and_so_does_the_model() -> None:
    x, model = images(2, 3, 17, 17), Net().eval()
    found = symmetrise(model, kernel=turns(x), layers=declared(), tolerance=1.0)
    report = found.check(x, moves=turns(x))
    assert report.passed, str(report)
    assert max(report.defects.values()) < 1e-7 and report.without > 0.1 and report.variation > 1e-3
    assert [one.name for one in found.layers] == ["first", "norm", "second", "grouped", "head"]
    assert all(one.free < one.numbers for one in found.layers) and found.untouched == ()
    again = symmetrise(found.model, kernel=turns(x), layers=declared(), tolerance=1e-6)
    assert all(one.distance == 0 for one in again.layers)


def test_the_original_is_left_as_it_was() -> None:
    x, model = images(2, 3, 17, 17), Net().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = symmetrise(model, kernel=turns(x), layers=declared(), tolerance=1.0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert found.model is not model


def test_layers_keep_their_law_but_a_border_breaks_that_of_the_model() -> None:
    """A stride of two over 16 rows starts at one end: no projection of weights can mend that."""
    x, model = images(2, 3, 16, 16), Net().eval()
    model.head = nn.Linear(4 * 64, 5)
    found = symmetrise(model, kernel=turns(x), layers=declared(8), tolerance=1.0)
    report = found.check(x, moves=turns(x))
    assert not report.passed and max(report.defects.values()) > 1e-3


def test_what_is_too_far_is_refused_with_its_distance() -> None:
    x = images(2, 3, 17, 17)
    with pytest.raises(TdslError, match=r"too far from dihedral\(4\): first \(9.*%\).*grouped") as raised:
        symmetrise(Net(), kernel=turns(x), layers=declared())
    assert "5.0%" in str(raised.value)


def test_a_nearly_symmetric_layer_is_within_the_bound_at_its_distance() -> None:
    mirror = moves(cyclic(2), r=flipped((1, 3, 9, 9), [-1]))
    layer = nn.Conv2d(3, 4, 3).double()
    with torch.no_grad():
        layer.weight.copy_((layer.weight + layer.weight.flip(-1)) / 2)
        odd = torch.randn_like(layer.weight)
        odd = odd - odd.flip(-1)
        odd *= 0.01 * layer.weight.norm() / odd.norm()
        planted = layer.weight.clone()
        layer.weight += odd
    found = symmetrise(layer, kernel=mirror, tolerance=0.02)
    assert found.layers[0].distance == pytest.approx(0.01, rel=0.05)
    torch.testing.assert_close(found.model.weight, planted)
    with pytest.raises(TdslError, match="too far"):
        symmetrise(layer, kernel=mirror, tolerance=0.005)


def test_the_projection_is_the_nearest_of_all_symmetric_weights() -> None:
    layer, x = nn.Conv2d(2, 3, 3, bias=False).double(), images(1, 2, 9, 9)
    nearest = symmetrise(layer, kernel=turns(x), tolerance=1.0).model.weight.detach()
    distance = (layer.weight - nearest).norm()
    for _ in range(50):
        other = symmetrise(_random_like(layer), kernel=turns(x), tolerance=1.0).model.weight.detach()
        assert (layer.weight - nearest - 0.1 * other).norm() > distance
        assert abs(float(((layer.weight.detach() - nearest) * other).sum())) < 1e-12


def _random_like(layer: nn.Conv2d) -> nn.Conv2d:
    return nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel_size, bias=False).double()


@pytest.mark.parametrize(("group", "order"), [(cyclic(4), 4), (dihedral(4), 8)])
def test_projecting_takes_noise_away_as_the_root_of_the_order(group, order) -> None:
    channels = copies(regular(group), 64 // order)
    clean = symmetrise(
        nn.Linear(64, 64, bias=False).double(), layers={"": Between(channels, channels)}, tolerance=1.0
    ).model.weight.detach()
    noisy = nn.Linear(64, 64, bias=False).double()
    with torch.no_grad():
        noisy.weight.copy_(clean + 0.01 * torch.randn(64, 64, dtype=torch.float64))
    found = symmetrise(noisy, layers={"": Between(channels, channels)}, tolerance=1.0).model.weight
    gained = float((noisy.weight - clean).detach().norm() / (found - clean).detach().norm())
    assert gained == pytest.approx(order**0.5, rel=0.06)  # 2 and 2.83, by chance within a few percent


def test_quarter_turns_of_a_four_by_four_image_leave_64_of_256_numbers() -> None:
    quarter = moves(cyclic(4), r=rotated((1, 1, 4, 4), 1, -2, -1))
    places = flattened(quarter, (1, 1, 4, 4))
    found = symmetrise(nn.Linear(16, 16, bias=False), layers={"": Between(places, places)}, tolerance=1.0)
    assert (found.layers[0].numbers, found.layers[0].free) == (256, 64)


def test_transposed_and_depthwise_convolutions_and_one_dimension() -> None:
    class Up(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.ConvTranspose2d(8, 8, 3, stride=2, padding=1)
            self.each = nn.Conv2d(8, 8, 3, padding=1, groups=8)

        def forward(self, x):
            return self.each(torch.relu(self.up(x)))

    small, large = images(2, 8, 5, 5), torch.zeros(2, 8, 9, 9)
    channels = regular(D4)
    before = turns(small).also(on_axis(channels, 4, 1))
    after = turns(large).also(on_axis(channels, 4, 1))
    found = symmetrise(Up(), kernel=turns(small), layers={"*": Between(channels, channels)}, tolerance=1.0)
    assert found.check(small, moves=before, outputs=after).passed
    line = images(2, 3, 9)
    mirror = moves(cyclic(2), r=flipped(line.shape, [-1]))
    found = symmetrise(nn.Conv1d(3, 3, 3, padding=1), kernel=mirror, tolerance=1.0)
    assert found.check(line, moves=mirror, outputs=mirror).passed


def test_signs_and_rotations_of_channels() -> None:
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    plane = Representation(cyclic(4), "plane", 2, (Linear(turn),))
    found = symmetrise(nn.Linear(2, 2), layers={"": Between(plane, plane)}, tolerance=1.5)
    ring = on_axis(plane, 2)
    assert found.check(images(5, 2), moves=ring, outputs=ring).passed
    assert found.model.bias.abs().max() < 1e-7 and found.layers[0].free == 2
    with pytest.raises(TdslError, match="does not permute channels"):
        symmetrise(nn.LayerNorm(2), layers={"": Between(plane, plane)}, tolerance=1.5)


def test_rolls_leave_kernels_alone_and_turns_need_square_ones() -> None:
    shape = (1, 1, 8, 8)
    rolls = moves(cyclic(8), r=rolled(shape, [1], [-1]))
    assert all(g.is_identity for g in on_kernel(rolls, (3, 3)).generators)
    with pytest.raises(TdslError, match="changes the shape"):
        on_kernel(moves(cyclic(4), r=rotated(shape, 1, -2, -1)), (3, 5))


def test_what_cannot_be_projected_is_said() -> None:
    x, kernel = images(1, 3, 9, 9), turns(images(1, 3, 9, 9))
    for layers, text in (
        ({"nowhere": Between()}, "no layer with weights is called `nowhere`"),
        ({"head": Between(regular(D4), None)}, "has 8 places, the layer 324 channels"),
        ({"grouped": Between(FEATURES, None)}, "in 2 groups of channels"),
        ({"head": Between(defining(cyclic(324)), None)}, "several groups act"),
    ):
        with pytest.raises(TdslError, match=text):
            symmetrise(Net(), kernel=kernel, layers=layers, tolerance=1.0)
    with pytest.raises(TdslError, match="nothing moves"):
        symmetrise(Net())
    with pytest.raises(TdslError, match="infinitely many"):
        symmetrise(nn.Linear(3, 3), layers={"": Between(defining(orthogonal(3)), None)})
    with pytest.raises(TdslError, match="no law that weights could keep"):
        symmetrise(nn.GRU(3, 3), layers={"": Between(None, None)}, kernel=kernel)
    found = symmetrise(Net(), kernel=kernel, tolerance=1.0)
    assert found.untouched == ("norm", "head") and "as they were: norm, head" in str(found)
    assert not found.check(
        x.new_zeros(2, 3, 17, 17) + images(2, 3, 17, 17), moves=turns(images(2, 3, 17, 17))
    ).passed


def test_a_weight_that_two_layers_share_has_one_law() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    ring = defining(cyclic(4))
    assert symmetrise(model, layers={"*": Between(ring, ring)}, tolerance=1.0).layers[1].distance >= 0
    signs = Representation(cyclic(4), "signs", 4, (Linear(-torch.eye(4, dtype=torch.float64)),))
    with pytest.raises(TdslError, match="another law"):
        symmetrise(model, layers={"0": Between(ring, ring), "1": Between(signs, ring)}, tolerance=5.0)


def test_weights_of_one_orbit_stay_equal_when_they_are_quantised() -> None:
    x, model = images(2, 3, 17, 17), Net().eval()
    found = symmetrise(model, kernel=turns(x), layers=declared(), tolerance=1.0)
    for part in found.model.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            step = part.weight.detach().abs().max() / 127
            part.weight.data = (part.weight.data / step).round() * step
    again = symmetrise(found.model, kernel=turns(x), layers=declared(), tolerance=1e-6)
    assert all(one.distance == 0 for one in again.layers)
    assert found.check(x, moves=turns(x)).passed


def test_symmetries_of_different_strength_are_told_apart() -> None:
    """A kernel that is nearly its mirror image and much less its quarter turn, and one that is neither."""
    kernel, shape = images(8, 4, 3, 3, seed=3).double(), (1, 4, 9, 9)
    mirrored = kernel + kernel.flip(-1)
    layer = nn.Conv2d(4, 8, 3, bias=False).double()
    layer.weight.data = mirrored + 0.05 * images(8, 4, 3, 3, seed=4)
    groups = {
        "mirror": moves(cyclic(2), r=flipped(shape, [-1])),
        "other mirror": moves(cyclic(2), r=flipped(shape, [-2])),
        "turn": moves(cyclic(4), r=rotated(shape, 1, -2, -1)),
    }
    distance = {
        name: symmetrise(layer, kernel=kernel, tolerance=1.0).layers[0].distance
        for name, kernel in groups.items()
    }
    assert distance["mirror"] < 0.05 < 0.3 < distance["other mirror"] < distance["turn"]


@pytest.mark.parametrize("tolerance", [-0.1, float("nan")])
def test_a_tolerance_is_a_share(tolerance):
    with pytest.raises(TdslError, match="a tolerance of"):
        symmetrise(nn.Linear(8, 8), layers={"": Between(regular(D4), regular(D4))}, tolerance=tolerance)
