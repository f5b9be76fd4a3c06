"""Group convolutions in a model: lookups between layers, what explanations say, the size of the file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import pytest
import torch
from cases_finite_orders import many, shuffled
from torch import Tensor, nn

import tdsl
from tdsl.capture import capture
from tdsl.engine.explain import explain
from tdsl.engine.library import standard_library
from tdsl.factor.group_channels import group_channels
from tdsl.factor.rank import Error
from tdsl.factor.space_convolutions import products_in_blocks
from tdsl.symmetry.element import Permutation
from tdsl.symmetry.finite import entry_orbits
from tdsl.symmetry.group import Group, cyclic, dihedral
from tdsl.symmetry.representation import Representation, copies, regular

RULE = "decompose.finite_conv.group_conv"


def convolution(matrices: Tensor, groups: int = 1) -> nn.Conv2d:
    """A convolution of 3 × 3 taps, [m, n, 9], at unit scale."""
    rows, columns, _ = matrices.shape
    layer = nn.Conv2d(columns * groups, rows, 3, padding=1, groups=groups)
    layer.weight.data = (matrices / (9 * columns) ** 0.5).reshape(rows, columns, 3, 3).float()
    return layer


def compiled(model: nn.Module, x: Tensor, output: Path) -> tuple[tdsl.Report, Counter[str]]:
    """The report, and the operators of the file."""
    result = tdsl.compile(model.eval(), (x,), pipeline="pipelines.symmetric", output=output, latency=False)
    nodes = onnx.load(output, load_external_data=False).graph.node
    return result.report, Counter(node.op_type for node in nodes)


def test_channels_are_not_put_in_order_between_layers(tmp_path: Path) -> None:
    kernels = [many(16, 16, 9, inside=True) for _ in range(3)]
    layers = [module for one in kernels for module in (convolution(one), nn.ReLU())]
    output = tmp_path / "model.onnx"
    report, operators = compiled(nn.Sequential(*layers), torch.randn(1, 96, 16, 16), output)
    assert Counter(one.rule for one in report.rewrites)[RULE] == 3
    assert operators["Gather"] + operators["Transpose"] == 2  # before the first layer and behind the last one
    assert output.stat().st_size < sum(one.numel() for one in kernels) * 4 / 3


def test_random_channels_stay_as_they_are(tmp_path: Path) -> None:
    layers = [convolution(torch.randn(96, 96, 9)), nn.ReLU()]
    report, operators = compiled(nn.Sequential(*layers), torch.randn(1, 96, 16, 16), tmp_path / "model.onnx")
    assert not report.rewrites and operators["Conv"] == 1


def test_why_a_layer_is_left_alone_is_said() -> None:
    rule = standard_library().rule(RULE, {})
    for weight, reason in (
        (torch.randn(96, 96, 9), "d > 1"),
        (shuffled(many(4, 4, 9, inside=True)), "macs(lhs) - macs(rhs) >= saved"),
    ):
        layer = convolution(weight)
        captured = capture(layer.eval(), (torch.randn(1, layer.in_channels, 8, 8),))
        [site] = explain(rule, captured.module).sites
        assert reason in str(site.failures[0])


def fields(group: Group, of_the_group: int, invariant: int) -> Representation:
    """Regular fields, and channels that no element moves behind them."""
    own = copies(regular(group), of_the_group)
    still = tuple(range(own.size, own.size + invariant))
    images = [image for image in own.generators if isinstance(image, Permutation)]
    moved = tuple(Permutation((*image.places, *still)) for image in images)
    return Representation(group, "fields", own.size + invariant, moved) if invariant else own


def planted(rho: Representation) -> Tensor:
    """Random taps that commute with the group. → [n, n, 9]"""
    orbits = entry_orbits(rho, rho)
    random = torch.Generator().manual_seed(3)
    return torch.randn(int(orbits.max()) + 1, 9, generator=random)[orbits]


def in_blocks(weight: Tensor, block: int) -> int:
    """The multiplications of one tap in blocks."""
    _, kinds, _, entering, _, pairs, _, leaving, row_kinds, _ = group_channels(weight.double(), Error(1e-6))
    return products_in_blocks(kinds, entering, pairs, leaving, row_kinds, block)


def test_channels_of_each_space_are_counted_in_blocks() -> None:
    weight = planted(fields(dihedral(4), 3, 2))[..., :1]  # a line of 5 copies, three of 3, a plane of 6
    assert in_blocks(weight, 1) == 5**2 + 3 * 3**2 + 2 * 6**2
    assert in_blocks(weight, 2) == 6**2 + 3 * 4**2 + 2 * 6**2
    assert in_blocks(weight, 4) == 8**2 + 2 * 3 * 4**2 + 2 * 8**2  # three copies make no block


@pytest.mark.parametrize(
    ("rho", "image", "pays"),
    [
        (fields(dihedral(4), 16, 4), 14, True),  # 1.5 to 3 times as fast
        (fields(dihedral(4), 8, 0), 28, True),  # 1.4 times
        (fields(dihedral(4), 4, 0), 28, False),  # 0.8 times
        (fields(cyclic(8), 8, 0), 14, False),  # 0.8 times
        (fields(cyclic(4), 8, 0), 28, False),  # 0.7 times
    ],
    ids=lambda one: f"{one.group.name} on {one.size}" if isinstance(one, Representation) else str(one),
)
def test_what_is_narrower_than_a_block_is_left_alone(rho: Representation, image: int, pays: bool) -> None:
    layer = convolution(planted(rho))
    captured = capture(layer.eval(), (torch.randn(1, rho.size, image, image),)).module
    asked, forced = (standard_library().rule(RULE, values) for values in ({}, {"saved": 1, "each": 0}))
    assert bool(explain(asked, captured).fires) == pays
    assert explain(forced, captured).fires == 1
    if not pays:
        assert "dense - filled" in str(explain(asked, captured).sites[0].failures[0])
