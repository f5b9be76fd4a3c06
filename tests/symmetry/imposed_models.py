"""Small models without any symmetry, on which symmetry is imposed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tdsl.symmetry.action import flipped, rotated
from tdsl.symmetry.group import dihedral
from tdsl.symmetry.impose import Moves, moves


def classifier(channels: int = 3, size: int = 9) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(channels, 6, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 4, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4 * ((size + 1) // 2) ** 2, 5),
    ).eval()


def segmenter(channels: int = 3) -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(
        nn.Conv2d(channels, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 2, 3, padding=1)
    ).eval()


class Cloud(nn.Module):
    """[B, N, 3] → [B, 4]; without biases it is odd."""

    def __init__(self, points: int, bias: bool = True) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first = nn.Linear(3 * points, 16, bias=bias)
        self.last = nn.Linear(16, 4, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.first(x.flatten(1))))


class Forces(Cloud):
    """[B, N, 3] → [B, N, 3]."""

    def forward(self, x: Tensor) -> Tensor:
        seen = super().forward(x)
        return x * seen[:, :1, None] + seen[:, None, 1:]


def images(*sizes: int, seed: int = 0) -> Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(seed))


def turns(x: Tensor) -> Moves:
    """The symmetries of the square, on images."""
    return moves(dihedral(4), r=rotated(x.shape, 1, -2, -1), s=flipped(x.shape, [-1]))
