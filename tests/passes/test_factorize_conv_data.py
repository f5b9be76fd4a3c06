"""Convolutions factorized for calibration data: the error stated is that of the outputs, and smaller."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from rule_cases import net, number
from torch import Tensor, fx, nn

from tdsl.capture import capture
from tdsl.engine.census import copied
from tdsl.engine.driver import rewrite
from tdsl.engine.journal import Applied, Journal
from tdsl.engine.library import standard_library
from tdsl.plan.calibrate import Data, collect
from tdsl.plan.candidates import Choice, requests_of

KERNEL = number(12, 6, 3, 3)
MIXING = torch.linalg.qr(number(6, 6)).Q * 0.4 ** torch.arange(6, dtype=torch.float64)


def images(seed: int, mean: float = 0.0, blurred: bool = True) -> Tensor:
    """Mixed channels of images whose neighbours depend on each other, or do not."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(6, 6, 14, 14, generator=generator, dtype=torch.float64)
    blur = torch.ones(6, 1, 3, 3, dtype=torch.float64) / 3
    smooth = F.conv2d(noise, blur, padding=1, groups=6) if blurred else noise
    return torch.einsum("st,bthw->bshw", MIXING, smooth) + mean * MIXING.sum(1)[:, None, None]


def model(**window: object) -> nn.Module:
    return net(lambda m, x: F.conv2d(x, m.w, m.b, **window), w=KERNEL, b=number(12))


def factorized(
    rule: str, original: nn.Module, batches: list[Tensor], rank: object = 4, dynamic: object = None
) -> tuple[fx.GraphModule, Applied | None]:
    """The model after one rule, with statistics of these batches if it asks for any."""
    captured = capture(original, (batches[0],), dynamic_shapes=dynamic)
    module, journal = copied(captured.module), Journal()
    known = standard_library().rule(f"factorize.{rule}", {"rank": rank})
    asked = requests_of(module, [Choice(known.name, known.parameters, known)], None)
    answers = collect(module, Data.of(captured, [(batch,) for batch in batches]), asked)
    rewrite(module, [known], None, journal, answers)
    module.recompile()
    return module, journal.entries[0] if journal.entries else None


def output_error(original: nn.Module, module: nn.Module, batches: list[Tensor], centred: bool) -> float:
    """Relative root mean square error of the outputs, against their spread around the mean or around zero."""
    with torch.no_grad():
        expected = torch.cat([original(batch) for batch in batches])
        result = torch.cat([module(batch) for batch in batches])
    level = expected.mean((0, 2, 3), keepdim=True) if centred else original.b[:, None, None]
    return float((expected - result).norm() / (expected - level).norm())


TRAIN, HELD_OUT = [images(s) for s in range(8)], [images(s) for s in range(8, 12)]
WINDOWS = {"plain": {}, "window": {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)}}


@pytest.mark.parametrize("window", WINDOWS)
def test_the_error_of_output_pca_is_the_error_of_the_outputs(window: str) -> None:
    original, batches = model(**WINDOWS[window]), [images(s, mean=2.0) for s in range(8)]
    module, entry = factorized("conv_data.output_pca", original, batches)
    assert entry is not None and entry.error is not None
    real = output_error(original, module, batches, centred=True)
    assert 0.01 < real < 0.9
    assert entry.error == pytest.approx(real, rel=1e-6)


def test_no_mixing_of_as_many_filters_loses_less_than_output_pca() -> None:
    """The bound is the tail of the eigenvalues of the covariance of the outputs."""
    original = model(padding=1)
    module, _ = factorized("conv_data.output_pca", original, TRAIN)
    with torch.no_grad():
        outputs = torch.cat([original(batch) for batch in TRAIN]).movedim(1, -1).reshape(-1, 12)
    values = torch.linalg.eigvalsh(torch.cov(outputs.T, correction=0)).flip(0)
    best = math.sqrt(float(values[4:].sum() / values.sum()))
    assert output_error(original, module, TRAIN, centred=True) == pytest.approx(best, rel=1e-6)


def test_the_mean_of_what_is_lost_stays_in_the_bias() -> None:
    original, batches = model(), [images(s, mean=5.0) for s in range(8)]
    module, _ = factorized("conv_data.output_pca", original, batches)
    with torch.no_grad():
        drift = torch.cat([module(b) - original(b) for b in batches]).mean((0, 2, 3))
        plain, _ = factorized("conv.channel_svd", original, batches)
        drift_without = torch.cat([plain(b) - original(b) for b in batches]).mean((0, 2, 3))
    assert float(drift.abs().max()) < 1e-9
    assert float(drift_without.abs().max()) > 0.1


PAIRS = [
    ("conv_data.output_pca", "conv.channel_svd", 0.8),
    ("conv_data.whitened_channel", "conv.channel_svd", 0.95),
    ("conv_data.whitened_input", "conv.input_svd", 0.95),
    ("conv_data.whitened_spatial", "conv.spatial_svd", 0.9),
    ("conv_data.whitened_tucker2", "conv.tucker2", 0.95),
    ("conv_data.two_sided_tucker2", "conv.tucker2", 1.0),
    ("conv_data.two_sided_spatial", "conv.spatial_svd", 1.0),
    ("conv_data.two_sided_pca", "conv.channel_svd", 1.0),
]


@pytest.mark.parametrize(("weighted", "plain", "share"), PAIRS)
def test_less_is_lost_on_held_out_data_than_without_statistics(
    weighted: str, plain: str, share: float
) -> None:
    original = model(padding=1)
    errors = [
        output_error(original, factorized(rule, original, TRAIN)[0], HELD_OUT, centred=False)
        for rule in (weighted, plain)
    ]
    assert errors[0] < share * errors[1]


@pytest.mark.parametrize("rule", ["output_pca", "two_sided_pca"])
def test_patches_are_looked_at_where_the_batch_may_have_any_size(rule: str) -> None:
    original = model(padding=1)
    module, entry = factorized(f"conv_data.{rule}", original, TRAIN, dynamic=({0: "batch"},))
    assert entry is not None
    fixed, _ = factorized(f"conv_data.{rule}", original, TRAIN)
    smaller = TRAIN[0][:2]
    with torch.no_grad():
        assert float((module(smaller) - fixed(smaller)).norm() / fixed(smaller).norm()) < 1e-6


@pytest.mark.parametrize(
    "rule", ["whitened_channel", "whitened_input", "whitened_spatial", "whitened_tucker2"]
)
def test_of_independent_positions_the_stated_error_is_that_of_the_outputs(rule: str) -> None:
    batches = [images(s, blurred=False) for s in range(20)]
    original = model()
    module, entry = factorized(f"conv_data.{rule}", original, batches)
    assert entry is not None and entry.error is not None
    assert entry.error == pytest.approx(output_error(original, module, batches, centred=False), rel=0.05)


@pytest.mark.parametrize("rule", [weighted for weighted, _, _ in PAIRS])
def test_without_data_nothing_happens(rule: str) -> None:
    module, journal = copied(capture(model(), (TRAIN[0],)).module), Journal()
    known = standard_library().rule(f"factorize.{rule}", {"rank": 2})
    assert rewrite(module, [known], None, journal) == 0
