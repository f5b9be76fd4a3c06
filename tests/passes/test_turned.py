"""Group convolutions by few products behind shifted features: the same function, and only where it pays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from rule_cases import net
from torch import Tensor, fx, nn
from turned_kernels import GROUPS, tied

import tdsl
from tdsl.capture import capture
from tdsl.engine.journal import Journal
from tdsl.engine.library import standard_library
from tdsl.factor.turned_taps import turned_taps

PASS = "decompose.turned_convolutions"


def rewritten(model: nn.Module, x: Tensor, saved: int = 1, **options: object) -> tuple[nn.Module, Journal]:
    captured = capture(model.eval(), (x,), **options)
    journal = Journal()
    standard_library().passes[PASS]({"saved": saved}).rewrite(captured.module, journal)
    captured.module.recompile()  # what is run is what was rewritten
    return captured.module, journal


def in_groups(group: str, groups: int, *, inside: bool = True, size: int = 3) -> list[Tensor]:
    """Kernels of as many groups of a convolution, their places in one order."""
    places = len(GROUPS[group])
    whole = tied(group, 3 * groups, 2, size, inside=inside)
    if inside:
        return list(whole.split(3 * places))
    apart = whole.reshape(places, 3 * groups, *whole.shape[1:])
    return [part.reshape(-1, *whole.shape[1:]) for part in apart.split(3, 1)]


def shuffled(*kernels: Tensor) -> list[Tensor]:
    """Their rows and columns in a random order, one for all."""
    random = torch.Generator().manual_seed(7)
    rows, columns = (torch.randperm(size, generator=random) for size in kernels[0].shape[:2])
    return [kernel[rows][:, columns] for kernel in kernels]


def layer_of(kernels: list[Tensor], transposed: bool = False, **options: Any) -> nn.Module:
    """A convolution with a kernel [O, I, k, k] for each group."""
    (rows, columns, size, _), groups = kernels[0].shape, len(kernels)
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    layer = kind(columns * groups, rows * groups, size, groups=groups, **options).double()
    layer.weight.data = torch.cat(
        [one.transpose(0, 1) if transposed else one for one in kernels]
    ).contiguous()
    return layer


def convolution(kernel: Tensor, padding: int = 1, *, bias: bool = True) -> nn.Conv2d:
    layer = nn.Conv2d(kernel.shape[1], kernel.shape[0], kernel.shape[2], padding=padding, bias=bias).double()
    layer.weight.data = kernel.clone()
    return layer


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize(("size", "padding"), [(3, 1), (2, 0), (5, 2)])
def test_the_same_function_by_few_products(group: str, inside: bool, size: int, padding: int) -> None:
    kernel = tied(group, 3, 2, size, inside=inside)
    model = convolution(kernel, padding, bias=size == 3)
    x = torch.randn(2, kernel.shape[1], 6, 7, dtype=torch.float64)
    module, journal = rewritten(model, x)
    [event] = journal.entries
    assert event.details == {
        "places": len(GROUPS[group]),
        "products": {"turns": 5, "mirrors": 4}.get(group, 11),
    }
    assert event.error is not None and event.error < 1e-12
    assert event.saved_macs > 0 or group != "turns and mirrors"
    expected = model(x).detach()
    assert float(expected.std()) > 0.1
    torch.testing.assert_close(module(x), expected, rtol=1e-9, atol=1e-9)


def test_any_batch() -> None:
    model = convolution(tied("turns", 4, 2, 3, inside=True))
    x = torch.randn(2, 8, 5, 5, dtype=torch.float64)
    batch = torch.export.Dim("batch")
    module, journal = rewritten(model, x, dynamic_shapes={"input": {0: batch}})
    assert len(journal.entries) == 1
    other = torch.randn(5, 8, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(module(other), model(other), rtol=1e-9, atol=1e-9)


def test_what_is_not_tied_is_left_alone() -> None:
    kernel = tied("turns and mirrors", 3, 2, 3, inside=True)
    perturbed = kernel.clone()
    perturbed[5, 7, 1, 2] *= 1.01
    untwisted = torch.einsum("ghpq,ij->gphqij", torch.ones(4, 4, 2, 2), torch.randn(3, 3)).reshape(8, 8, 3, 3)
    for other in (torch.randn_like(kernel), perturbed, kernel[:, :15], untwisted.double()):
        assert turned_taps(other) is None
        x = torch.randn(1, other.shape[1], 6, 6, dtype=torch.float64)
        assert not rewritten(convolution(other), x)[1].entries


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"stride": 2},
        {"dilation": 2},
        {"stride": (1, 3), "dilation": (2, 1), "padding": (2, 0)},
        {"padding_mode": "circular", "padding": 1},
    ],
    ids=str,
)
def test_strides_and_dilations_are_those_of_the_shifts(options: dict[str, object], inside: bool) -> None:
    kernel = tied("turns", 4, 2, 3, inside=inside)
    layer = nn.Conv2d(8, 16, 3, **options).double()  # type: ignore[arg-type]
    layer.weight.data = kernel
    for sizes in ((7, 7), (8, 10)):  # strides that end at the border, and before it
        x = torch.randn(1, 8, *sizes, dtype=torch.float64)
        module, journal = rewritten(layer, x)
        assert len(journal.entries) == 1
        torch.testing.assert_close(module(x), layer(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("order", ["fastest", "slowest", "shuffled"])
@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize(
    ("groups", "transposed", "options"),
    [
        (1, False, {"padding": 1, "stride": 2}),
        (2, False, {"padding": 1}),
        (3, False, {"padding": 2, "dilation": 2, "stride": (1, 2), "bias": False}),
        (1, True, {"padding": 1}),
        (2, True, {"padding": 1, "dilation": 2}),
    ],
    ids=str,
)
def test_groups_transposes_and_channels_in_any_order(
    group: str, order: str, groups: int, transposed: bool, options: dict[str, Any]
) -> None:
    kernels = in_groups(group, groups, inside=order != "slowest")
    layer = layer_of(shuffled(*kernels) if order == "shuffled" else kernels, transposed, **options)
    x = torch.randn(2, layer.in_channels, 6, 7, dtype=torch.float64)
    module, journal = rewritten(layer, x)
    [event] = journal.entries
    assert event.error is not None and event.error < 1e-12
    assert operators_of(module) & {"conv2d", "conv_transpose2d"} == set()
    expected = layer(x).detach()
    assert float(expected.std()) > 0.1
    torch.testing.assert_close(module(x), expected, rtol=1e-9, atol=1e-9)


def operators_of(module: nn.Module) -> set[str]:
    """The operators of a rewritten module."""
    assert isinstance(module, fx.GraphModule)
    return {str(node.target).split(".")[1] for node in module.graph.nodes if node.op == "call_function"}


def test_kernels_of_groups_that_are_not_tied_alike_stay() -> None:
    one, other = in_groups("turns", 2)
    assert turned_taps(torch.cat([one, other]), groups=2) is not None
    perturbed = other.clone()
    perturbed[3, 5, 0, 1] *= 1.01
    mirrored = other.flip(-1)  # tied, but its places turn the other way round
    for second in (torch.randn_like(one), perturbed, mirrored, other.roll(1, 1)):
        assert turned_taps(torch.cat([one, second]), groups=2) is None
        layer = layer_of([one, second], padding=1)
        assert not rewritten(layer, torch.randn(1, layer.in_channels, 6, 6, dtype=torch.float64))[1].entries


def test_shuffled_channels_that_are_not_tied_stay() -> None:
    [kernel] = shuffled(tied("turns and mirrors", 3, 2, 3, inside=True))
    assert turned_taps(kernel) is not None
    perturbed = kernel.clone()
    perturbed[5, 7, 1, 2] += 1e-2
    exchanged = kernel.clone()
    exchanged[4] = kernel[4].transpose(-1, -2)  # the same numbers in all orbits of taps
    untwisted = kernel.sum((2, 3), keepdim=True).expand_as(kernel).clone()
    untwisted[..., 0, 1] *= 2
    for other in (perturbed, exchanged, kernel + 1e-4 * torch.randn_like(kernel), untwisted):
        assert turned_taps(other) is None


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.Conv2d(8, 8, 3, groups=2), "its 4 outputs of each group are too few"),
        (nn.ConvTranspose2d(8, 8, 3, stride=2), "it is transposed and has a stride"),
        (nn.ConvTranspose2d(8, 8, 3, padding=3), "it is transposed, and its borders are cut"),
        (nn.Conv2d(256, 256, 3), "its kernel is not tied by symmetries of the square"),
        (nn.ConvTranspose2d(512, 512, 2, groups=2), "tied by symmetries of the square in all groups alike"),
        (nn.Conv2d(8, 8, 1), "1 × 1 taps, which do not turn"),
        (nn.Conv2d(8, 8, (3, 2)), "3 × 2 taps, which do not turn"),
        (nn.Conv2d(8, 8, 3), "its 8 outputs are too few"),
    ],
    ids=lambda one: str(one)[:20],
)
def test_the_reason_is_said(layer: nn.Module, reason: str) -> None:
    found = (
        standard_library()
        .passes[PASS]()
        .explain(capture(layer, (torch.randn(1, layer.in_channels, 7, 7),)).module)
    )
    assert found.candidates == 1 and not found.fires
    assert reason in found.sites[0].failures[0].message


def test_a_kernel_that_is_read_twice_stays() -> None:
    def twice(m: nn.Module, x: Tensor) -> Tensor:
        return torch.conv2d(torch.conv2d(x, m.w, padding=1), m.w, padding=1)

    model = net(twice, w=tied("turns and mirrors", 2, 2, 3, inside=True))
    assert not rewritten(model, torch.randn(1, 16, 6, 6, dtype=torch.float64))[1].entries


@pytest.mark.parametrize(
    ("group", "channels", "pays"),
    [
        ("turns and mirrors", 64, True),
        ("turns and mirrors", 32, False),
        ("turns", 128, True),
        ("turns", 64, False),
    ],
)
def test_wide_layers_pay(group: str, channels: int, pays: bool) -> None:
    model = convolution(tied(group, channels, channels, 3, inside=True).float()).float()
    x = torch.randn(1, model.in_channels, 4, 4)
    module, journal = rewritten(model, x, saved=250)
    assert bool(journal.entries) == pays
    torch.testing.assert_close(module(x), model(x), rtol=1e-4, atol=1e-3)
    captured = capture(model, (x,)).module
    explained = standard_library().passes[PASS]().explain(captured)
    assert explained.fires == pays
    if not pays:
        assert "would pay" in explained.sites[0].failures[0].message


def test_by_the_pipeline_for_symmetric_models(tmp_path: Path) -> None:
    model = nn.Sequential(convolution(tied("turns and mirrors", 40, 40, 3, inside=True)), nn.ReLU()).float()
    output = tmp_path / "model.onnx"
    x = torch.randn(1, 320, 6, 6)
    result = tdsl.compile(model.eval(), (x,), pipeline="pipelines.symmetric", output=output, latency=False)
    assert [one.rule for one in result.report.rewrites] == [PASS]
    assert output.stat().st_size < model[0].weight.numel() * 4 / 5
