"""Small group convolutional nets on the square: kernels of copies that are turned and mirrored."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def moved(kernel: Tensor, turn: int, mirrored: bool) -> Tensor:
    """Turned by `turn` quarters after being mirrored, along the last two axes."""
    return torch.rot90(kernel.flip(-1) if mirrored else kernel, turn, (-2, -1))


def elements(mirrors: bool) -> list[tuple[int, bool]]:
    """The symmetries of a square as (quarter turns, mirrored), without mirrors or with them."""
    return [(turn, mirror) for mirror in ([False, True] if mirrors else [False]) for turn in range(4)]


def lifting(free: Tensor, *, mirrors: bool) -> Tensor:
    """A kernel [c, q, k, k] for each element. → [g·c, q, k, k]."""
    return torch.cat([moved(free, *one) for one in elements(mirrors)])


def regular(free: Tensor, *, mirrors: bool) -> Tensor:
    """Kernels [c, q, g, k, k] between features on the group. → [g·c, g·q, k, k]."""
    group = elements(mirrors)
    rows = []
    for turn, mirror in group:
        columns = []
        for other_turn, other_mirror in group:  # g⁻¹·h, with g = turn ∘ mirror
            step = (other_turn - turn) % 4
            relative = ((-step) % 4 if mirror else step, mirror != other_mirror)
            columns.append(moved(free[:, :, group.index(relative)], turn, mirror))
        rows.append(torch.stack(columns, 1).flatten(1, 2))
    return torch.cat(rows)


class GroupNet(nn.Module):
    """Lifting, two regular layers, pooling over places and the group, a head: invariant under the group."""

    def __init__(self, mirrors: bool, channels: int, seed: int = 0) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(seed)
        order = len(elements(mirrors))
        self.order, self.channels = order, channels

        def draw(*sizes: int) -> Tensor:
            return (
                torch.randn(*sizes, generator=random)
                / (sizes[1] * 9 * (sizes[2] if len(sizes) > 4 else 1)) ** 0.5
            )

        weights = [lifting(draw(channels, 3, 3, 3), mirrors=mirrors)]
        weights += [regular(draw(channels, channels, order, 3, 3), mirrors=mirrors) for _ in range(2)]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(w.shape[1], w.shape[0], 3, padding=1, bias=False) for w in weights
        )
        for layer, weight in zip(self.convolutions, weights, strict=True):
            layer.weight = nn.Parameter(weight.contiguous())  # type: ignore[assignment]
        self.head = nn.Linear(channels, 10)
        with torch.no_grad():
            self.head.weight.copy_(torch.randn(10, channels, generator=random))
            self.head.bias.copy_(torch.randn(10, generator=random))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.convolutions:
            x = layer(x).relu()
        return self.head(x.mean((-2, -1)).reshape(-1, self.order, self.channels).mean(1))
