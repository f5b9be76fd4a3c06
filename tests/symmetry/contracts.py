"""Contracts that the tests hold models against, and models that keep and break them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tdsl.lang import parse
from tdsl.symmetry.contract import Contract
from tdsl.symmetry.declarations import Declarations

D4 = """\
group D4 = dihedral(4)

action square of D4 on [..., H, W] {
    generator: rot90(x, dims=(H, W))
    generator: flip(x, dims=[W])
}

symmetry invariant {
    group D4
    input image: [N, C, H, W] by square
    output output: [N, K] invariant
    tolerance 1e-9
}
"""

SETS = """\
group Sn = S(n)

action shuffle of Sn on [..., n, d] {
    generator: g @ x
}

symmetry layer {
    group Sn
    input points: [b, n, d] by shuffle
    output output: [b, n, k] by shuffle
}
"""

O3 = """\
group R = O(3)

action rotate of R on [..., 3] {
    generator: x @ g.T
}

symmetry rigid {
    group R
    input points: [b, n, 3] by rotate
    output output: [b, 3] by rotate
    tolerance 1e-9
}
"""


def declared(text: str) -> Declarations:
    """What a text declares. Raises `TdslError`."""
    found = Declarations()
    for item in parse(text).items:
        found.add(item)
    return found


def contract(text: str, name: str | None = None) -> Contract:
    """A contract of a text."""
    return declared(text).contract(name)


class DeepSet(nn.Module):
    """Each point by itself, plus the mean of all: symmetric under any permutation of points."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.own, self.mean = nn.Linear(width, 6), nn.Linear(width, 6, bias=False)

    def forward(self, points: Tensor) -> Tensor:
        """[b, n, width] → [b, n, 6]."""
        return torch.relu(self.own(points) + self.mean(points.mean(1, keepdim=True)))


class Weighted(nn.Module):
    """Vectors times what their lengths say: equivariant under rotations and reflections."""

    def __init__(self, leak: float = 0.0) -> None:
        super().__init__()
        self.weigh = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
        self.leak = leak

    def forward(self, points: Tensor) -> Tensor:
        """[b, n, 3] → [b, 3]."""
        centred = points - points.mean(1, keepdim=True)
        lengths = torch.linalg.vector_norm(centred, dim=-1, keepdim=True)
        found = (self.weigh(lengths) * centred).sum(1)
        return found + self.leak * torch.relu(points).sum(1) if self.leak else found
