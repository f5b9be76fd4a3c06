"""Factorized convolutions keep every stride, border and dilation, or are left alone.

Every kernel here has exactly the structure and the rank that is asked for, so that nothing may be lost.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conv_sites import PLAIN, SITES, Site, planted
from rule_cases import net, number, relative_error
from torch import Tensor, fx, nn

import tdsl
from tdsl.capture import capture
from tdsl.engine.census import copied
from tdsl.engine.driver import rewrite
from tdsl.engine.journal import Journal
from tdsl.engine.library import Library, standard_library
from tdsl.engine.weights import prune_weights
from tdsl.lang import parse

EXACT = 1e-9


def rewritten(site: Site, model: nn.Module, image: Tensor, library: Library | None = None) -> tuple[Any, int]:
    """The module after the site's rule, and how often the rule applied."""
    module = copied(capture(model, (image,)).module)
    rule = (library or standard_library()).rule(site.rule, {"rank": site.rank})
    count = rewrite(module, [rule], None, Journal())
    prune_weights(module)
    module.recompile()
    return module, count


def difference(model: nn.Module, module: fx.GraphModule, image: Tensor) -> float:
    with torch.no_grad():
        expected, result = model(image), module(image)
    assert expected.shape == result.shape
    return relative_error(expected, result)


def holds(site: Site, model: nn.Module, image: Tensor) -> None:
    """The rule applies once, and changes no value."""
    module, count = rewritten(site, model, image)
    assert count == 1
    assert difference(model, module, image) <= EXACT
    assert sum(p.numel() for p in module.parameters()) < site.weight.numel() + site.filters


def functional(site: Site, bias: bool = True, **window: Any) -> nn.Module:
    return net(
        lambda m, x: site.conv(x, m.w, m.b, groups=site.groups, **window),
        w=site.weight,
        b=number(site.filters) if bias else None,
    )


# ---------------------------------------------------------------- windows

WINDOWS: dict[str, dict[str, tuple[int, ...]]] = {
    "plain": {},
    "dilated": {"dilation": (2, 1, 2)},
    "strided and padded": {"stride": (2, 3, 2), "padding": (1, 2, 1)},
    "everything": {"stride": (1, 2, 1), "padding": (2, 3, 2), "dilation": (1, 2, 2)},
}


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("name", SITES)
def test_every_window_is_kept(name: str, window: str) -> None:
    site = SITES[name]
    numbers = {key: value[: site.axes] for key, value in WINDOWS[window].items()}
    holds(site, functional(site, **numbers), site.image())


@pytest.mark.parametrize("name", [n for n in SITES if n not in PLAIN])
def test_output_padding_of_transposed_convolutions(name: str) -> None:
    site = SITES[name]
    window = {"stride": (2, 3, 2), "padding": (1, 0, 1), "output_padding": (1, 2, 0)}
    holds(site, functional(site, **{k: v[: site.axes] for k, v in window.items()}), site.image())


@pytest.mark.parametrize("name", SITES)
def test_without_bias_and_without_batch(name: str) -> None:
    site = SITES[name]
    holds(site, functional(site, bias=False, stride=2), site.image(batch=None))


@pytest.mark.parametrize("name", PLAIN)
def test_padding_by_name(name: str) -> None:
    """An even kernel has borders of two widths: whatever the graph then holds, its values stay."""
    site = SITES[name]
    for padding in ("same", "valid"):
        model, image = functional(site, padding=padding), site.image()
        if padding == "valid" or all(size % 2 for size in site.kernel):
            holds(site, model, image)
        else:
            module, _ = rewritten(site, model, image)
            assert difference(model, module, image) <= EXACT


@pytest.mark.parametrize("even", [(4, 4), (4, 3), (2, 2)])
def test_same_padding_of_even_kernels(even: tuple[int, int]) -> None:
    weight = planted("channel_svd", (8, 6, *even), 2)
    site = Site("factorize.conv.channel_svd", F.conv2d, 6, weight, 2)
    model, image = functional(site, padding="same"), site.image()
    module, _ = rewritten(site, model, image)
    assert difference(model, module, image) <= EXACT


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("name", PLAIN)
def test_borders_that_repeat_the_image(name: str, mode: str) -> None:
    """They stand before the convolution as an operator of their own, which nothing may move into it."""
    site = SITES[name]
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[site.axes - 1]
    layer = kind(
        site.channels, site.filters, site.kernel, 2, 1, groups=site.groups, padding_mode=mode
    ).double()
    with torch.no_grad():
        layer.weight.copy_(site.weight)
    model = nn.Sequential(layer).eval()
    holds(site, model, site.image())
    zeros = functional(site, stride=2, padding=1)
    assert difference(model, rewritten(site, zeros, site.image())[0], site.image()) > 1e-3


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "transposed": lambda x: x.transpose(-1, -2),
    "every second": lambda x: torch.cat([x, x], -1)[..., ::2],
    "expanded": lambda x: x[:1].expand(3, *x.shape[1:]),
    "channels last": lambda x: x.movedim(1, -1).contiguous().movedim(-1, 1),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", [n for n in SITES if SITES[n].axes == 2])
def test_inputs_in_any_memory_layout(name: str, layout: str) -> None:
    site = SITES[name]
    image = LAYOUTS[layout](site.image())
    assert not image.is_contiguous()
    model = functional(site, stride=2, padding=1)
    holds(site, model, image)
    module, _ = rewritten(site, model, image.contiguous())
    assert difference(model, module, image) <= EXACT


@pytest.mark.parametrize("name", SITES)
def test_dynamic_sizes_stay_dynamic(name: str) -> None:
    site = SITES[name]
    model, image = functional(site, padding=1), site.image()
    sizes = {axis: torch.export.Dim(f"n{axis}", min=6, max=64) for axis in range(2, image.ndim)}
    captured = capture(model, (image,), dynamic_shapes={"x": {0: torch.export.Dim("b", max=9), **sizes}})
    module = copied(captured.module)
    rule = standard_library().rule(site.rule, {"rank": site.rank})
    assert rewrite(module, [rule], None, Journal()) == 1
    module.recompile()
    for other in (image, number(3, site.channels, *(15, 11, 9)[: site.axes])):
        assert difference(model, module, other) <= EXACT


@pytest.mark.parametrize("name", SITES)
def test_weights_of_single_precision_stay_single(name: str) -> None:
    site = SITES[name]
    model, image = functional(site, padding=1).float(), site.image().float()
    module, count = rewritten(site, model, image)
    assert count == 1
    assert {weight.dtype for weight in module.parameters()} == {torch.float32}
    assert difference(model, module, image) <= 1e-4


@pytest.mark.parametrize(
    "name",
    [
        "conv.spatial_svd",
        "conv.depthwise_separable",
        "conv1d.tucker2_1d",
        "conv3d.spatial_svd_3d",
        "conv_cp.cp_separable",
        "conv_grouped.grouped_channel_svd",
        "depthwise by 2",
        "spatial_svd_transposed",
        "tucker2_transposed",
    ],
)
def test_the_file_computes_the_same(name: str, tmp_path: Path) -> None:
    site = SITES[name]
    path = tmp_path / "small.tdsl"
    steps = f"once {site.rule}(rank={site.rank})\n    check error <= 0.01%"
    path.write_text(f"pipeline small {{\n    {steps}\n}}\n")
    dilation = 1 if "transpose" in name else 2
    model = functional(site, stride=2, padding=1, dilation=dilation).float()
    image = site.image().float()
    result = tdsl.compile(model, (image,), pipeline="small", rules=path, latency=False)
    assert result.report.correctness.passed
    assert [record.rule for record in result.report.rewrites] == [site.rule]


# ---------------------------------------------------------------- shared weights


class Twice(nn.Module):
    """One convolution, called for two inputs."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.site = site
        self.w = nn.Parameter(site.weight.clone())

    def forward(self, x: Tensor) -> Tensor:
        y = self.site.conv(x, self.w, groups=self.site.groups)
        return y + self.site.conv(x.flip(-1), self.w, groups=self.site.groups)


class Tied(Twice):
    """Two parameters that are one tensor."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.v = self.w

    def forward(self, x: Tensor) -> Tensor:
        y = self.site.conv(x, self.w, groups=self.site.groups)
        return y + self.site.conv(x.tanh(), self.v, groups=self.site.groups)


class Watched(Twice):
    """The weight is read by something else as well."""

    def forward(self, x: Tensor) -> Tensor:
        return self.site.conv(x, self.w, groups=self.site.groups) * self.w.square().mean()


@pytest.mark.parametrize("kind", [Twice, Tied, Watched])
@pytest.mark.parametrize("name", SITES)
def test_a_weight_with_two_readers_is_left_alone(name: str, kind: type[Twice]) -> None:
    site = SITES[name]
    module, count = rewritten(site, kind(site).eval(), site.image())
    assert count == 0
    assert difference(kind(site).eval(), module, site.image()) == 0
    holds(site, functional(site, bias=False), site.image())


def test_a_module_called_twice_is_left_alone() -> None:
    site = Site("factorize.conv.channel_svd", F.conv2d, 6, planted("channel_svd", (6, 6, 3, 3), 1), 1)
    layer = nn.Conv2d(6, 6, 3, padding=1).double()
    with torch.no_grad():
        layer.weight.copy_(site.weight)
    assert rewritten(site, nn.Sequential(layer, nn.Tanh(), layer).eval(), site.image())[1] == 0
    assert rewritten(site, nn.Sequential(layer, nn.Tanh()).eval(), site.image())[1] == 1


# ---------------------------------------------------------------- what a rule may not touch


@pytest.mark.parametrize("name", [n for n in SITES if SITES[n].groups == 1])
def test_groups_are_left_to_the_rules_for_groups(name: str) -> None:
    site = SITES[name]
    transposed = name not in PLAIN
    inputs = site.weight.shape[1 - transposed]
    grouped = net(lambda m, x: site.conv(x, m.w, groups=2), w=site.weight)
    image = number(2, inputs * (1 if transposed else 2), *site.image().shape[2:])
    assert rewritten(site, grouped, image)[1] == 0


def test_one_group_is_left_to_the_rules_without() -> None:
    for name in PLAIN:
        site = SITES[name]
        if site.groups > 1:
            weight = site.weight[: site.filters // site.groups]
            alone = net(lambda m, x, conv=site.conv: conv(x, m.w), w=weight)
            image = number(2, weight.shape[1], *site.image().shape[2:])
            assert rewritten(site, alone, image)[1] == 0


def test_an_input_is_no_weight() -> None:
    for site in SITES.values():
        model = net(lambda m, x, conv=site.conv, g=site.groups: conv(m.x, x, groups=g), x=site.image())
        assert rewritten(site, model, site.weight)[1] == 0


# ---------------------------------------------------------------- controls: what a wrong rule would show

RIGHT = """
rule spatial(rank: Rank = 2) {
    conv2d(x, W: const [o, i, kh, kw], b?, stride=[sh, sw], padding=[ph, pw], dilation=[dh, dw])
  ~>
    conv2d(
        conv2d(x, A, stride=[sh, 1], padding=[ph, 0], dilation=[dh, 1]),
        B, b, stride=[1, sw], padding=[0, pw], dilation=[1, dw]
    )
  where
    (A, B) = spatial_svd(W, rank)
}
"""
WRONG = {
    "the stride on both": ("stride=[sh, 1]", "stride=[sh, sw]"),
    "the borders exchanged": ("padding=[ph, 0]", "padding=[pw, 0]"),
    "the dilation forgotten": ("dilation=[dh, 1]", "dilation=[1, 1]"),
    "the kernel upside down": ("svd(W, rank)", "svd(flip(W, [2]), rank)"),
    "the bias forgotten": ("B, b, ", "B, "),
}


def spatially_factorized(text: str) -> float:
    """How far a model is off after the rule of that text; infinite where the rule fits no types."""
    library = Library()
    library.add_file(parse(text), "controls")
    site = SITES["conv.spatial_svd"]
    model, image = functional(site, stride=(1, 2), padding=(1, 3), dilation=(2, 1)), site.image()
    named = Site("controls.spatial", site.conv, site.channels, site.weight, site.rank)
    module, count = rewritten(named, model, image, library)
    return difference(model, module, image) if count else float("inf")


def test_the_right_rule_is_seen_to_be_right() -> None:
    assert spatially_factorized(RIGHT) <= EXACT


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_rule_is_seen_to_be_wrong(fault: str) -> None:
    wrong = RIGHT.replace(*WRONG[fault])
    assert wrong != RIGHT
    assert spatially_factorized(wrong) > 1e-3
