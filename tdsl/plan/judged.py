"""How far a rewritten module is from the original on samples that judge plans, and how sure that is.

Samples are a draw: on others the same module has another error. How far apart the errors of single samples
are says by how much, to the accuracy of a standard error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from tdsl.plan.calibrate import Data, samples_in
from tdsl.verify.compare import Difference, Metrics, compare, over_outputs, over_samples

Outputs = Sequence[Sequence[Tensor]]
"""The outputs on each of some batches, or parts of them."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Metrics over all judging samples at once; `spread` is the standard error of `metrics.error`.

    It is `None` for fewer than two samples and where an error is not finite.
    """

    metrics: Metrics
    samples: int
    spread: float | None = None


def outputs_of(module: fx.GraphModule, data: Data, memory: int) -> list[list[Tensor]]:
    """The outputs of `module` on each batch, on large ones part by part, whose sizes the original tells.

    As many samples run at once as hold about `memory` bytes of values.
    """
    found = []
    original = data.captured.module
    for batch in data.batches:
        for part in data.pieces(batch, memory, original):
            run = data.execution(module, part)
            run.advance()
            found.append([out.detach() for out in run.outputs])
    return found


def judged(found: Outputs, expected: Outputs, data: Data) -> Judged:
    """Outputs held against those expected, batch by batch of `data`."""
    pairs = [list(zip(*outputs, strict=True)) for outputs in zip(expected, found, strict=True)]
    columns = list(zip(*pairs, strict=True))  # for each output, what was expected and found on each batch
    each = [over_samples(compare(*pair) for pair in column) for column in columns]
    spread = None
    if each:
        worst = max(range(len(each)), key=lambda i: each[i].error)
        singles = [one for pair in columns[worst] for one in _single(*pair)]
        spread = standard_error([(one.squares, one.reference_squares) for one in singles])
    return Judged(over_outputs(each), sum(map(samples_in, data.batches)), spread)


def standard_error(squares: Sequence[tuple[float, float]]) -> float | None:
    """Of √(Σeᵢ / Σrᵢ), for the squared errors e and references r of samples drawn alike.

    By the delta method for a ratio: its variance is n / (n − 1) · Σ(eᵢ − R·rᵢ)² / (Σrᵢ)² (Cochran, 1977).
    """
    count, whole = len(squares), sum(r for _, r in squares)
    ratio = sum(e for e, _ in squares) / whole if whole else math.nan
    if count < 2 or not math.isfinite(ratio):
        return None
    if not ratio:
        return 0.0
    scatter = sum((e - ratio * r) ** 2 for e, r in squares) / whole**2
    return math.sqrt(count / (count - 1) * scatter) / (2 * math.sqrt(ratio))


def _single(expected: Tensor, found: Tensor) -> list[Difference]:
    """An output sample by sample, along its first axis."""
    if expected.dim() < 2 or expected.shape != found.shape:
        return [compare(expected, found)]
    return [compare(a, b) for a, b in zip(torch.unbind(expected), torch.unbind(found), strict=True)]
