"""Small models in float64 whose hidden symmetries are known: builders of (model, example inputs)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Built = tuple[nn.Module, tuple[Tensor, ...]]


class Made(nn.Module):
    """Submodules by name and a function of them and the inputs."""

    def __init__(self, function: Callable[..., Tensor], **parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(self, *inputs)


def made(function: Callable[..., Tensor], *inputs: Tensor, **parts: nn.Module | nn.Parameter) -> Built:
    """The model in evaluation mode and float64, every constant initial value made random."""
    model = Made(function, **parts).double().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.5, 1.5)
    return model, tuple(x.double() if x.is_floating_point() else x for x in inputs)


def mlp() -> Built:
    return made(
        lambda m, x: m.c(torch.tanh(m.b(torch.relu(m.a(x))))),
        torch.randn(3, 5),
        a=nn.Linear(5, 7),
        b=nn.Linear(7, 6),
        c=nn.Linear(6, 2),
    )


def cnn_flatten() -> Built:
    """A flatten between convolution and dense layer: channels are blocks of 16 positions."""
    return made(
        lambda m, x: m.fc(F.max_pool2d(F.relu(m.norm(m.conv(x))), 2).flatten(1)),
        torch.randn(2, 3, 8, 8),
        conv=nn.Conv2d(3, 5, 3, padding=1),
        norm=nn.BatchNorm2d(5),
        fc=nn.Linear(5 * 16, 4),
    )


def residual() -> Built:
    """Two blocks on one stream."""

    def run(m: nn.Module, x: Tensor) -> Tensor:
        x = F.relu(m.stem(x))
        for one, two in ((m.a1, m.a2), (m.b1, m.b2)):
            x = F.relu(x + two(F.relu(one(x))))
        return m.head(x.mean((2, 3)))

    def conv(i: int, o: int) -> nn.Conv2d:
        return nn.Conv2d(i, o, 3, padding=1)

    return made(
        run,
        torch.randn(2, 3, 6, 6),
        stem=conv(3, 6),
        a1=conv(6, 5),
        a2=conv(5, 6),
        b1=conv(6, 4),
        b2=conv(4, 6),
        head=nn.Linear(6, 3),
    )


def depthwise() -> Built:
    return made(
        lambda m, x: m.c(F.relu6(m.b(F.relu6(m.a(x))))),
        torch.randn(2, 3, 6, 6),
        a=nn.Conv2d(3, 6, 1),
        b=nn.Conv2d(6, 6, 3, groups=6),
        c=nn.Conv2d(6, 2, 1),
    )


def grouped() -> Built:
    """Groups of channels change places as a whole, channels within each group as they like."""
    return made(
        lambda m, x: m.c(F.relu(m.b(F.relu(m.a(x))))),
        torch.randn(2, 3, 6, 6),
        a=nn.Conv2d(3, 12, 1),
        b=nn.Conv2d(12, 6, 3, groups=3),
        c=nn.Conv2d(6, 2, 1),
    )


def group_norm() -> Built:
    return made(
        lambda m, x: m.c(F.relu(m.norm(m.a(x)))),
        torch.randn(2, 3, 6, 6),
        a=nn.Conv2d(3, 12, 1),
        norm=nn.GroupNorm(3, 12),
        c=nn.Conv2d(12, 2, 1),
    )


def shuffle() -> Built:
    """Grouped convolutions with a channel shuffle between them."""
    return made(
        lambda m, x: m.d(F.relu(m.c(F.channel_shuffle(F.relu(m.b(F.relu(m.a(x)))), 3)))),
        torch.randn(2, 3, 5, 5),
        a=nn.Conv2d(3, 12, 1),
        b=nn.Conv2d(12, 12, 1, groups=3),
        c=nn.Conv2d(12, 12, 3, padding=1, groups=12),
        d=nn.Conv2d(12, 2, 1),
    )


def concat() -> Built:
    return made(
        lambda m, x: m.c(torch.cat([h := F.relu(m.a(x)), F.relu(m.b(h))], 1)),
        torch.randn(2, 3, 5, 5),
        a=nn.Conv2d(3, 6, 3, padding=1),
        b=nn.Conv2d(6, 4, 3, padding=1),
        c=nn.Conv2d(10, 2, 1),
    )


def _heads(x: Tensor, count: int) -> Tensor:
    return x.view(*x.shape[:-1], count, -1).transpose(-2, -3)


def attention() -> Built:
    """Heads as blocks; the width of queries and keys, and that of values, another order in each head."""

    def run(m: nn.Module, x: Tensor) -> Tensor:
        q, k, v = (_heads(part(x), 3) for part in (m.q, m.k, m.v))
        weights = (q @ k.transpose(-1, -2) / 2).softmax(-1)
        return m.o((weights @ v).transpose(1, 2).flatten(2))

    parts = {name: nn.Linear(8, 12) for name in "qkv"}
    return made(run, torch.randn(2, 5, 8), **parts, o=nn.Linear(12, 4))


def transformer() -> Built:
    """Pre-norm block between an embedding and a head, queries, keys and values in one weight."""

    def run(m: nn.Module, tokens: Tensor) -> Tensor:
        x = m.embed(tokens)
        q, k, v = m.qkv(m.norm1(x)).reshape(2, 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
        x = x + m.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(2, 5, 8))
        x = x + m.down(F.gelu(m.up(m.norm2(x))))
        return m.head(m.norm3(x))

    norms = {f"norm{i}": nn.LayerNorm(8) for i in (1, 2, 3)}
    return made(
        run,
        torch.randint(0, 11, (2, 5)),
        embed=nn.Embedding(11, 8),
        qkv=nn.Linear(8, 24),
        o=nn.Linear(8, 8),
        up=nn.Linear(8, 16),
        down=nn.Linear(16, 8),
        head=nn.Linear(8, 3),
        **norms,
    )


def shared_keys() -> Built:
    """Grouped queries: two heads of queries share one of keys and values, which `expand` repeats."""

    def run(m: nn.Module, x: Tensor) -> Tensor:
        q = _heads(m.q(x), 4)
        k, v = (
            _heads(part(x), 2)[:, :, None].expand(2, 2, 2, 5, 3).reshape(2, 4, 5, 3) for part in (m.k, m.v)
        )
        return m.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(2, 5, 12))

    return made(
        run,
        torch.randn(2, 5, 8),
        q=nn.Linear(8, 12),
        k=nn.Linear(8, 6),
        v=nn.Linear(8, 6),
        o=nn.Linear(12, 2),
    )


def shared_head_norm() -> Built:
    """One norm for all heads of queries and keys: their width has the same order in each head."""

    def run(m: nn.Module, x: Tensor) -> Tensor:
        q, k = (m.norm(_heads(part(x), 3)) for part in (m.q, m.k))
        weights = (q @ k.transpose(-1, -2)).softmax(-1)
        return m.o((weights @ _heads(m.v(x), 3)).transpose(1, 2).flatten(2))

    parts = {name: nn.Linear(8, 12) for name in "qkv"}
    return made(run, torch.randn(2, 5, 8), **parts, norm=nn.LayerNorm(4), o=nn.Linear(12, 2))


def rotary() -> Built:
    """Rotary positions turn pairs of channels: pairs change places in all heads, and in the tables."""
    angle = torch.arange(5.0)[:, None] * torch.tensor([1.0, 0.1])
    cos, sin = angle.cos().repeat(1, 2), angle.sin().repeat(1, 2)

    def turned(x: Tensor) -> Tensor:
        one, two = x.chunk(2, -1)
        return x * cos.double() + torch.cat([-two, one], -1) * sin.double()

    def run(m: nn.Module, x: Tensor) -> Tensor:
        q, k = (turned(_heads(part(x), 3)) for part in (m.q, m.k))
        return m.o(F.scaled_dot_product_attention(q, k, _heads(m.v(x), 3)).transpose(1, 2).flatten(2))

    parts = {name: nn.Linear(8, 12) for name in "qkv"}
    return made(run, torch.randn(2, 5, 8), **parts, o=nn.Linear(12, 2))


def interleaved_rotary() -> Built:
    """The same with the two channels of a pair side by side, taken apart by slices with a step."""
    angle = torch.arange(5.0)[:, None] * torch.tensor([1.0, 0.1])
    cos, sin = (table.double() for table in (angle.cos(), angle.sin()))

    def turned(x: Tensor) -> Tensor:
        one, two = x[..., ::2], x[..., 1::2]
        return torch.stack([one * cos - two * sin, one * sin + two * cos], -1).flatten(-2)

    def run(m: nn.Module, x: Tensor) -> Tensor:
        q, k = (turned(_heads(part(x), 3)) for part in (m.q, m.k))
        return m.o(F.scaled_dot_product_attention(q, k, _heads(m.v(x), 3)).transpose(1, 2).flatten(2))

    parts = {name: nn.Linear(8, 12) for name in "qkv"}
    return made(run, torch.randn(2, 5, 8), **parts, o=nn.Linear(12, 2))


def unlike_heads() -> Built:
    """A slope for each head, and q, k and v of a head side by side in one weight: nothing permutes heads."""
    slopes = torch.tensor([0.5, 0.25, 0.125]).double()[:, None, None] * torch.arange(5.0).double()

    def run(m: nn.Module, x: Tensor) -> Tensor:
        fused = m.qkv(x).view(2, 5, 3, 3, 4)
        q, k, v = (fused[..., i, :].transpose(1, 2) for i in range(3))
        weights = (q @ k.transpose(-1, -2) + slopes * torch.arange(1, 4).view(3, 1, 1)).softmax(-1)
        return m.o((weights @ v).transpose(1, 2).flatten(2))

    return made(run, torch.randn(2, 5, 8), qkv=nn.Linear(8, 36), o=nn.Linear(12, 2))


def gated() -> Built:
    """Value and gate in one weight (GLU)."""
    return made(
        lambda m, x: m.down(F.glu(m.up(x))), torch.randn(3, 5), up=nn.Linear(5, 12), down=nn.Linear(6, 2)
    )


def recurrent() -> Built:
    return made(
        lambda m, x: m.head(m.lstm(x)[0][:, -1]),
        torch.randn(2, 4, 3),
        lstm=nn.LSTM(3, 5, num_layers=2, batch_first=True),
        head=nn.Linear(5, 2),
    )


def both_ways() -> Built:
    return made(
        lambda m, x: m.head(m.lstm(x)[0].mean(1)),
        torch.randn(2, 4, 3),
        lstm=nn.LSTM(3, 5, num_layers=2, batch_first=True, bidirectional=True),
        head=nn.Linear(10, 2),
    )


def einsum() -> Built:
    return made(
        lambda m, x: torch.einsum("bhe,heo->bo", torch.relu(torch.einsum("bd,dhe->bhe", x, m.a)), m.b),
        torch.randn(3, 5),
        a=nn.Parameter(torch.randn(5, 2, 4)),
        b=nn.Parameter(torch.randn(2, 4, 3)),
    )


EXPECTED: dict[str, tuple[Callable[[], Built], list[tuple[int, tuple[int, ...]]]]] = {
    "mlp": (mlp, [(7, ()), (6, ())]),
    "cnn_flatten": (cnn_flatten, [(5, ())]),
    "residual": (residual, [(6, ()), (5, ()), (4, ())]),
    "depthwise": (depthwise, [(6, ())]),
    "grouped": (grouped, [(3, ()), (4, (3,)), (2, (3,))]),
    "group_norm": (group_norm, [(3, ()), (4, (3,))]),
    "shuffle": (shuffle, [(3, ()), (4, (3,)), (4, (3,))]),
    "concat": (concat, [(6, ()), (4, ())]),
    "attention": (attention, [(3, ()), (4, (3,)), (4, (3,))]),
    "transformer": (transformer, [(8, ()), (2, ()), (4, (2,)), (4, (2,)), (16, ())]),
    "shared_keys": (shared_keys, [(2, ()), (2, (2,)), (3, (2,)), (3, (2,))]),
    "shared_head_norm": (shared_head_norm, [(3, ()), (4, ()), (4, (3,))]),
    "rotary": (rotary, [(3, ()), (2, ()), (4, (3,))]),
    "interleaved_rotary": (interleaved_rotary, [(3, ()), (2, ()), (4, (3,))]),
    "unlike_heads": (unlike_heads, [(4, ())] * 6),
    "gated": (gated, [(6, ())]),
    "recurrent": (recurrent, [(5, ()), (5, ())]),
    "both_ways": (both_ways, [(5, ())] * 4),
    "einsum": (einsum, [(2, (4,)), (4, (2,))]),
}
"""Name → builder, and the sizes of all groups, with those of what their permutation may depend on."""
