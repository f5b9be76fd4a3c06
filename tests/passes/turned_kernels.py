"""Kernels of convolutions that commute with symmetries of the square, the places in a random order."""

from __future__ import annotations

import torch
from torch import Tensor

from tdsl.factor.turned_taps import ELEMENTS, moved


def table(elements: list[tuple[int, bool]]) -> list[list[int]]:
    """`table[g][h]`: the place of g⁻¹·h, by what the elements do to a square of different numbers."""
    square = torch.arange(9.0).reshape(3, 3)
    images = [moved(square, element) for element in elements]
    return [
        [next(k for k, image in enumerate(images) if torch.equal(moved(image, g), whole)) for whole in images]
        for g in elements
    ]


GROUPS = {
    "turns and mirrors": list(ELEMENTS),
    "turns": [(turns, False) for turns in range(4)],
    "mirrors": [(0, False), (0, True), (2, False), (2, True)],
}


def tied(group: str, p: int, q: int, size: int, *, inside: bool, seed: int = 0) -> Tensor:
    """A kernel [d·p, d·q, k, k] with W[g, h](t) = K[g⁻¹h](g⁻¹t), its places in a random order."""
    random = torch.Generator().manual_seed(seed)
    elements = GROUPS[group]
    free = torch.randn(p, q, len(elements), size, size, generator=random, dtype=torch.float64)
    rows = [moved(free[:, :, table(elements)[g]], element) for g, element in enumerate(elements)]
    whole = torch.stack(rows)[:, :, :, torch.randperm(len(elements), generator=random)]  # [d, p, q, d, k, k]
    order = (1, 0, 2, 3, 4, 5) if inside else (0, 1, 3, 2, 4, 5)
    return whole.permute(order).reshape(len(elements) * p, len(elements) * q, size, size)
