"""Group-equivariant convolution nets over D4 (Cohen and Welling, 2016), their channels shuffled.

Weights are tied exactly: every filter of an orbit holds the same numbers in other places. A random
permutation of each hidden layer's channels then hides which channel is which.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

ELEMENTS = tuple((turns, mirrored) for mirrored in (False, True) for turns in range(4))
"""D4 as quarter turns after a possible flip of the last axis."""


def moved(filters: Tensor, element: tuple[int, bool]) -> Tensor:
    """The last two axes acted on by an element."""
    turns, mirrored = element
    return torch.rot90(filters.flip(-1) if mirrored else filters, turns, (-2, -1))


def _table() -> list[list[int]]:
    """`table[g][h]`: the number of g⁻¹·h, found by what elements do to a square of different numbers."""
    square = torch.arange(9.0).reshape(3, 3)
    images = [moved(square, element) for element in ELEMENTS]
    table = []
    for g in range(8):
        row = []
        for h in range(8):
            row.append(next(k for k in range(8) if torch.equal(moved(images[k], ELEMENTS[g]), images[h])))
        table.append(row)
    return table


def lifting(outputs: int, inputs: int, size: int, seed: int) -> Tensor:
    """[8 · outputs, inputs, size, size]: from pixels to functions on D4."""
    base = torch.randn(outputs, inputs, size, size, generator=torch.Generator().manual_seed(seed))
    return torch.stack([moved(base, g) for g in ELEMENTS], 1).flatten(0, 1) / (inputs * size**2) ** 0.5


def regular(outputs: int, inputs: int, size: int, seed: int) -> Tensor:
    """[8 · outputs, 8 · inputs, size, size]: from functions on D4 to functions on D4."""
    base = torch.randn(outputs, inputs, 8, size, size, generator=torch.Generator().manual_seed(seed))
    table = _table()
    rows = [moved(base[:, :, table[g]], ELEMENTS[g]) for g in range(8)]
    return torch.stack(rows, 1).flatten(0, 1).flatten(1, 2) / (8 * inputs * size**2) ** 0.5


class P4M(nn.Module):
    """A lifting convolution, regular ones with batch norm between, a mean over pixels, a classifier."""

    def __init__(
        self, widths: Sequence[int] = (4, 4, 4), classes: int = 5, seed: int = 0, *, shuffled: bool = True
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        random = torch.Generator().manual_seed(seed + 1000)
        before: Tensor | None = None
        for i, width in enumerate(widths):
            weight = lifting(width, 3, 3, seed) if i == 0 else regular(width, widths[i - 1], 3, seed + i)
            bias = torch.randn(width, generator=random).repeat_interleave(8) * 0.1
            if before is not None:
                weight = weight[:, before]
            order = torch.randperm(8 * width, generator=random) if shuffled else torch.arange(8 * width)
            convolution = nn.Conv2d(weight.shape[1], 8 * width, 3, padding=1)
            convolution.weight.data, convolution.bias.data = weight[order].clone(), bias[order].clone()
            layers += [convolution]
            if i + 1 < len(widths):
                norm = nn.BatchNorm2d(8 * width)
                for tensor, least in (
                    (norm.weight.data, 0.5),
                    (norm.bias.data, -0.5),
                    (norm.running_mean, -0.5),
                    (norm.running_var, 0.5),
                ):
                    tensor.copy_((torch.rand(width, generator=random) + least).repeat_interleave(8)[order])
                layers += [norm]
            layers += [nn.ReLU()]
            before = order
        self.layers = nn.Sequential(*layers)
        self.classifier = nn.Linear(8 * widths[-1], classes)
        tied = torch.randn(classes, widths[-1], generator=random).repeat_interleave(8, 1)
        self.classifier.weight.data = tied[:, before].clone() / widths[-1]

    def forward(self, image: Tensor) -> Tensor:
        """Logits, invariant under D4."""
        return self.classifier(self.layers(image).mean((-2, -1)))
