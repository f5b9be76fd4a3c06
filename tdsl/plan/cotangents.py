"""Gradients of a random combination of a model's outputs, in which relative errors of all of them count."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tdsl.plan.execute import Execution

NOTHING = 1e-15
"""The norm of an output that counts as zero: squares of what is divided by it would overflow float32."""


def cotangents(outputs: Sequence[Tensor], generator: torch.Generator) -> list[Tensor]:
    """A random cotangent for each output, whose inner product with an error is a relative error of it.

    Zero for an output that is zero, of which no error is a share, and where one is no number.
    """
    return [_cotangent(out.detach(), generator) for out in outputs]


def _cotangent(output: Tensor, generator: torch.Generator) -> Tensor:
    drawn = torch.randn(output.shape, generator=generator, dtype=torch.float32).to(output.dtype)
    norm = float(output.norm())
    if not math.isfinite(norm):
        known = output.isfinite()
        drawn, norm = drawn.where(known, 0), float(output[known].norm())
    return drawn / norm if NOTHING < norm < math.inf else torch.zeros_like(drawn)


def gradients(run: Execution, values: Sequence[Tensor], generator: torch.Generator) -> list[Tensor]:
    """The gradients of one random combination of the outputs of a run with respect to some of its values."""
    outputs = [out for out in run.outputs if out.requires_grad]
    found = torch.autograd.grad(
        outputs, list(values), cotangents(outputs, generator), retain_graph=True, allow_unused=True
    )
    return filled(values, found)


def filled(values: Sequence[Tensor], found: Sequence[Tensor | None]) -> list[Tensor]:
    """Zeros where the outputs do not depend on a value."""
    return [torch.zeros_like(v) if g is None else g for v, g in zip(values, found, strict=True)]
