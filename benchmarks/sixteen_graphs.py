"""Sixteen small graphs in which a symmetry action provably disappears, as plain PyTorch modules.

Each is written as a user writes it; what is left when the action is gone is known beforehand (`ideal`:
operators of an ONNX file, constants not counted). Needs torch alone. Weights are drawn from a fixed seed;
those that have to be symmetric are made so here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CHANNELS, SIZE, TOKENS, WIDTH = 8, 12, 10, 16


@dataclass(frozen=True)
class Graph:
    """One of the sixteen: a module in eval mode, an example input, and how many operators are needed."""

    name: str
    module: nn.Module
    example: Tensor
    ideal: int
    """Operators of the ONNX file without the action."""
    operators: int
    """The same, counted in the captured graph."""


class Function(nn.Module):
    """A function of the module itself and one input; layers and constants are keyword arguments."""

    def __init__(self, function: Callable[[Function, Tensor], Tensor], **parts: nn.Module | Tensor) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            if isinstance(part, nn.Module):
                self.add_module(name, part)
            else:
                self.register_buffer(name, part)

    def forward(self, x: Tensor) -> Tensor:
        """The function at x."""
        return self.function(self, x)


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """The channels seen as groups × members, transposed (ShuffleNet; Zhang et al., 2018)."""
    b, c, h, w = x.shape
    return x.reshape(b, groups, c // groups, h, w).transpose(1, 2).reshape(b, c, h, w)


def mirrored(conv: nn.Conv2d) -> nn.Conv2d:
    """The layer with a kernel that is its own mirror image from left to right."""
    with torch.no_grad():
        conv.weight.copy_((conv.weight + conv.weight.flip(-1)) / 2)
    return conv


def rms_norm(x: Tensor) -> Tensor:
    """Each vector divided by its root mean square (Zhang and Sennrich, 2019), as language models write it."""
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


def orthogonal(size: int) -> Tensor:
    """A random orthogonal matrix."""
    return torch.linalg.qr(torch.randn(size, size, dtype=torch.float64))[0].float()


def invariant_net() -> nn.Module:
    """A classifier that does not tell an image from its mirror image."""
    return nn.Sequential(
        mirrored(nn.Conv2d(3, CHANNELS, 3, padding=1)),
        nn.ReLU(),
        nn.MaxPool2d(2),
        mirrored(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(CHANNELS, 5),
    )


def sixteen() -> tuple[Graph, ...]:
    """All of them, with the same weights at each call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return tuple(_sixteen())


def _sixteen() -> list[Graph]:
    image, odd = torch.randn(1, CHANNELS, SIZE, SIZE), torch.randn(1, CHANNELS, SIZE + 1, SIZE + 1)
    photograph, tokens = torch.randn(2, 3, SIZE, SIZE), torch.randn(2, TOKENS, WIDTH)
    channels, places = torch.randperm(CHANNELS), torch.randperm(TOKENS)

    def conv(kernel: int = 3, stride: int = 1) -> nn.Conv2d:
        return nn.Conv2d(CHANNELS, CHANNELS, kernel, stride, padding=kernel // 2)

    def graph(
        name: str,
        ideal: int,
        function: Callable[[Function, Tensor], Tensor],
        example: Tensor = image,
        operators: int = 0,
        **parts: nn.Module | Tensor,
    ) -> Graph:
        return Graph(name, Function(function, **parts).eval(), example, ideal, operators or ideal)

    return [
        graph("flip · flip", 1, lambda m, x: x.flip(-1).flip(-1).relu()),
        graph("flip · relu · flip", 1, lambda m, x: x.flip(-1, -2).relu().flip(-2, -1)),
        graph("flip · conv · flip", 1, lambda m, x: m.conv(x.flip(-1)).flip(-1), conv=conv()),
        graph("rot90 · relu · rot90⁻¹", 1, lambda m, x: x.rot90(1, (2, 3)).relu().rot90(-1, (2, 3))),
        graph(
            "rot90 · conv · rot90⁻¹",
            1,
            lambda m, x: m.conv(x.rot90(1, (2, 3))).rot90(-1, (2, 3)),
            odd,
            conv=conv(stride=2),
        ),
        graph("roll · relu · roll⁻¹", 1, lambda m, x: x.roll((2, 3), (2, 3)).relu().roll((-2, -3), (2, 3))),
        graph(
            "channel permutation · relu · inverse",
            1,
            lambda m, x: x[:, m.order].relu()[:, m.back],
            order=channels,
            back=channels.argsort(),
        ),
        graph(
            "conv · channel permutation · conv",
            2,
            lambda m, x: m.b(m.a(x)[:, m.order]),
            a=conv(),
            b=conv(),
            order=channels,
        ),
        graph(
            "conv · channel shuffle · conv",
            2,
            lambda m, x: m.b(channel_shuffle(m.a(x), 4)),
            a=conv(),
            b=conv(),
        ),
        graph("flip · global pooling", 1, lambda m, x: F.adaptive_avg_pool2d(x.flip(-1), 1)),
        graph("token permutation · sum", 1, lambda m, x: x[:, m.order].sum(1), tokens, order=places),
        graph(
            "transpose · relu · transpose", 1, lambda m, x: x.transpose(1, 2).relu().transpose(1, 2), tokens
        ),
        graph(
            "transpose · softmax · transpose",
            1,
            lambda m, x: x.transpose(1, 2).softmax(-1).transpose(1, 2),
            tokens,
        ),
        graph("× 3 · relu · × ⅓", 1, lambda m, x: (x * 3).relu() * (1 / 3)),
        graph(
            "flip-TTA of an invariant net",
            8,
            lambda m, x: (m.net(x) + m.net(x.flip(-1))) / 2,
            photograph,
            net=invariant_net(),
        ),
        graph(
            "Q · RMSNorm · Qᵀ",
            5,
            lambda m, x: rms_norm(x @ m.q) @ m.q.T,
            tokens,
            q=orthogonal(WIDTH),
        ),
    ]
