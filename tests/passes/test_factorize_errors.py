"""Factorized weights: the error a rewrite states is the real one, and each kind of rank keeps its word."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from rule_cases import net, number, stored_bytes
from torch import Tensor, fx, nn

from tdsl.capture import capture
from tdsl.engine.census import copied
from tdsl.engine.driver import rewrite
from tdsl.engine.journal import Applied, Journal
from tdsl.engine.library import load, standard_library
from tdsl.engine.strategy import Runner
from tdsl.engine.weights import prune_weights
from tdsl.factor.rank import Auto, Energy, Error, Ratio


@dataclass(frozen=True)
class Site:
    """A layer whose response to `probe` is its weight, up to order, zeros and a constant factor."""

    rule: str
    model: Callable[[Tensor], nn.Module]
    weight: Tensor
    probe: Tensor


def decaying(*sizes: int) -> Tensor:
    """A random weight whose singular values fall off, so that every kind of rank finds something to drop."""
    flat = number(sizes[0], number(*sizes[1:]).numel())
    left, values, right = torch.linalg.svd(flat, full_matrices=False)
    return (left * (values * 0.5 ** torch.arange(len(values)))) @ right


def impulses(channels: int) -> Tensor:
    """One image of one pixel for each channel: with a border as wide as the kernel it returns the kernel."""
    return torch.eye(channels, dtype=torch.float64)[:, :, None, None]


KERNEL = decaying(9, 8, 3, 3).reshape(9, 8, 3, 3)

SITES = {
    "linear": Site(
        "factorize.linear.svd_linear",
        lambda w: net(lambda m, x: F.linear(x, m.w), w=w),
        decaying(14, 12),
        torch.eye(12, dtype=torch.float64),
    ),
    "embedding": Site(
        "factorize.embedding.svd_embedding",
        lambda w: net(lambda m, x: F.embedding(x, m.w), w=w),
        decaying(30, 10),
        torch.arange(30),
    ),
    "spatial": Site(
        "factorize.conv.spatial_svd",
        lambda w: net(lambda m, x: F.conv2d(x, m.w, padding=2), w=w),
        KERNEL,
        impulses(8),
    ),
    "channel": Site(
        "factorize.conv.channel_svd",
        lambda w: net(lambda m, x: F.conv2d(x, m.w, padding=2), w=w),
        KERNEL,
        impulses(8),
    ),
    "tucker": Site(
        "factorize.conv.tucker2",
        lambda w: net(lambda m, x: F.conv2d(x, m.w, padding=2), w=w),
        KERNEL,
        impulses(8),
    ),
}

SITES |= {
    name: Site(rule, lambda w: net(lambda m, x: F.conv2d(x, m.w, padding=2), w=w), KERNEL, impulses(8))
    for name, rule in [
        ("separable", "factorize.conv.depthwise_separable"),
        ("cp", "factorize.conv_cp.cp"),
        ("cp separable", "factorize.conv_cp.cp_separable"),
    ]
}
SITES["transposed"] = Site(
    "factorize.conv_transpose.input_svd_transposed",
    lambda w: net(lambda m, x: F.conv_transpose2d(x, m.w), w=w),
    KERNEL,
    impulses(9),
)

RANKS = {"number": 2, "percent": 0.5, "ratio": Ratio(0.3), "energy": Energy(0.9), "error": Error(0.3)}


def factorized(site: Site, rank: Any) -> tuple[nn.Module, fx.GraphModule, Applied]:
    """The original, the rewritten module and the one rewrite."""
    model = site.model(site.weight)
    module, journal = copied(capture(model, (site.probe,)).module), Journal()
    rule = standard_library().rule(site.rule, {"rank": rank})
    assert rewrite(module, [rule], None, journal) == 1
    prune_weights(module)
    module.recompile()
    return model, module, journal.entries[0]


def difference(site: Site, model: nn.Module, module: nn.Module) -> float:
    """Relative Frobenius error of the weight, read off the responses."""
    with torch.no_grad():
        expected, result = model(site.probe), module(site.probe)
    return float((expected - result).norm() / expected.norm())


@pytest.mark.parametrize("kind", RANKS)
@pytest.mark.parametrize("name", SITES)
def test_the_stated_error_is_the_error_of_the_weight(name: str, kind: str) -> None:
    site = SITES[name]
    model, module, entry = factorized(site, RANKS[kind])
    real = difference(site, model, module)
    assert entry.error is not None
    assert 1e-4 < real < 0.9
    assert abs(entry.error - real) <= 1e-9
    assert entry.saved_parameters is not None and entry.saved_parameters > 0


@pytest.mark.parametrize("name", SITES)
def test_energy_and_error_bound_the_error_and_a_tighter_bound_costs_more(name: str) -> None:
    site = SITES[name]
    sizes = []
    for bound in (0.5, 0.2, 0.1):
        by_error = factorized(site, Error(bound))
        assert difference(site, *by_error[:2]) <= bound
        by_energy = factorized(site, Energy(1 - bound**2))
        assert difference(site, *by_energy[:2]) <= bound
        sizes.append(stored_bytes(by_error[1]))
    assert sizes[0] <= sizes[1] <= sizes[2] and sizes[0] < sizes[2]


@pytest.mark.parametrize("name", ["linear", "embedding", "spatial", "channel"])
def test_a_ratio_is_the_share_of_numbers_left(name: str) -> None:
    site = SITES[name]
    _, module, _ = factorized(site, 0.5)
    assert 0.3 < stored_bytes(module) / (site.weight.numel() * 8) <= 0.5


def test_automatic_rank_finds_the_signal_in_noise() -> None:
    signal = number(40, 3) @ number(3, 30)
    noisy = signal + 0.01 * torch.randn(
        40, 30, generator=torch.Generator().manual_seed(3), dtype=torch.float64
    )
    site = Site("factorize.linear.svd_linear", SITES["linear"].model, noisy, torch.eye(30).double())
    _, module, entry = factorized(site, Auto())
    assert stored_bytes(module) == 3 * (40 + 30) * 8
    assert entry.error is not None and 0 < entry.error < 0.02


def test_a_rank_that_one_site_cannot_have_leaves_that_site_alone() -> None:
    model = net(
        lambda m, x: m.narrow(m.wide(x)),
        wide=nn.Linear(24, 24, bias=False),
        narrow=nn.Linear(24, 3, bias=False),
    )
    module, journal = copied(capture(model, (torch.randn(2, 24).double(),)).module), Journal()
    rule = standard_library().rule("svd_linear", {"rank": 8})
    assert rewrite(module, [rule], None, journal) == 1
    assert [entry.replaced for entry in journal.entries] == [("linear",)]
    assert {str(n.target) for n in module.graph.find_nodes(op="get_attr")} >= {"narrow.weight"}


def test_factors_are_not_factorized_again() -> None:
    """The wide factor of a first truncation would allow a second one."""
    site = SITES["linear"]
    _, module, _ = factorized(site, 4)
    rule = standard_library().rule("svd_linear", {"rank": 1})
    assert rewrite(module, [rule], None, Journal()) == 0
    fresh = site.model(module.get_parameter("w_svd").detach().clone())
    fresh_module = copied(capture(fresh, (site.probe,)).module)
    assert rewrite(fresh_module, [rule], None, Journal()) == 1


@pytest.mark.parametrize(
    ("text", "share"),
    [("8", 0.56), ("50%", 0.5), ("ratio(0.5)", 0.5), ("energy(99%)", 0.4), ("error(10%)", 0.4)],
)
def test_a_pipeline_sets_ranks_of_every_kind(tmp_path: Any, text: str, share: float) -> None:
    path = tmp_path / "ranks.tdsl"
    path.write_text(
        f"pipeline small {{\n    once factorize.linear.*(rank={text})\n    check error <= 90%\n}}\n"
    )
    library = standard_library().extended(load(path))
    values = 0.3 ** torch.arange(20, dtype=torch.float64)
    weight = torch.linalg.qr(number(40, 20)).Q * values @ torch.linalg.qr(number(20, 20)).Q
    model = SITES["linear"].model(weight)
    module, journal = copied(capture(model, (torch.eye(20).double(),)).module), Journal()
    name = next(n for n in library.pipelines if n.endswith("small"))
    assert Runner(library, library.pipelines[name]).run(module, journal) == 1
    assert stored_bytes(module) <= (share + 1e-9) * weight.numel() * 8 * 1.08
