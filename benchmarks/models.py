"""The models and inputs that factorizations are compared on: synthetic, spectra like those of trained ones.

Every matrix has singular values i^-0.8 and random singular vectors; a kernel has a Gaussian core whose four
axes are scaled by i^-0.8 and turned at random, so that each of its unfoldings decays like that. Layers are
then scaled to outputs of unit variance. Inputs are anisotropic: features with covariance spectrum i^-1,
images with power spectrum 1/f² and correlated colours. Needs torch alone, so that peers can load it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DECAY = 0.8
"""Singular values of the weights are i^-DECAY."""
INPUT_DECAY = 1.0
"""Eigenvalues of the covariance of the inputs are i^-INPUT_DECAY."""


@dataclass(frozen=True)
class Task:
    """A model to compress, to a share of the numbers in some of its weights, and data."""

    name: str
    model: nn.Module
    example: Tensor
    """The input that latency is measured on."""
    calibration: tuple[Tensor, ...]
    held_out: Tensor
    ratio: float
    treated: tuple[str, ...]
    """The layers whose weights count, by module path."""

    @property
    def weights(self) -> int:
        """Numbers in the weights of the treated layers."""
        return sum(self.model.get_submodule(name).weight.numel() for name in self.treated)

    @property
    def parameters(self) -> int:
        """All numbers of the model."""
        return sum(p.numel() for p in self.model.parameters())


class Draw:
    """Seeded random tensors."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *sizes: int) -> Tensor:
        """Independent standard normal numbers."""
        return torch.randn(*sizes, generator=self.generator)

    def orthonormal(self, rows: int, columns: int) -> Tensor:
        """Random orthonormal columns, or rows where there are fewer of those."""
        if rows < columns:
            return self.orthonormal(columns, rows).T
        return torch.linalg.qr(self.normal(rows, columns)).Q

    def matrix(self, rows: int, columns: int, decay: float = DECAY) -> Tensor:
        """A matrix with singular values i^-decay."""
        rank = min(rows, columns)
        return (self.orthonormal(rows, rank) * _powers(rank, decay)) @ self.orthonormal(rank, columns)

    def kernel(self, *sizes: int, decay: float = DECAY) -> Tensor:
        """A tensor each of whose unfoldings has a spectrum of about i^-decay."""
        whole = self.normal(*sizes)
        for axis, size in enumerate(sizes):
            turn = self.orthonormal(size, size) * _powers(size, decay)
            whole = torch.tensordot(whole, turn, dims=([axis], [1])).movedim(-1, axis)
        return whole

    def features(self, *sizes: int, basis: Tensor) -> Tensor:
        """Vectors whose covariance has eigenvectors `basis` and eigenvalues i^-INPUT_DECAY; mean square 1."""
        spread = _powers(len(basis), INPUT_DECAY / 2)
        return (self.normal(*sizes, len(basis)) * spread / spread.square().mean().sqrt()) @ basis.T

    def images(self, count: int, size: int, colours: Tensor) -> Tensor:
        """Images with power spectrum 1/f² whose channels `colours` [3, 3] mixes, of mean square 1."""
        rows, columns = torch.fft.fftfreq(size)[:, None], torch.fft.rfftfreq(size)[None, :]
        falling = 1 / (rows.square() + columns.square()).sqrt().clamp_min(1 / size)
        plain = torch.fft.irfft2(torch.fft.rfft2(self.normal(count, 3, size, size)) * falling, s=(size, size))
        mixed = torch.einsum("oc,bchw->bohw", colours, plain)
        return mixed / mixed.square().mean().sqrt()


class Mlp(nn.Module):
    """Dense layers with GELU between them."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(n, m) for n, m in pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        """[batch, n] → [batch, m]."""
        for layer in self.layers[:-1]:
            x = F.gelu(layer(x))
        return self.layers[-1](x)


class Block(nn.Module):
    """One layer of a transformer encoder, normalised after each sum as in BERT."""

    def __init__(self, width: int, inner: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, positions, width] → the same."""
        batch, length, width = x.shape
        q, k, v = (
            layer(x).reshape(batch, length, self.heads, width // self.heads).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, length, width)
        x = self.norm_1(x + self.out(mixed))
        return self.norm_2(x + self.down(F.gelu(self.up(x))))


class Residual(nn.Module):
    """Two 3×3 convolutions beside a shortcut, as in ResNet-18."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm_1 = nn.BatchNorm2d(outputs)
        self.conv_2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm_2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            plain = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(plain, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """[batch, inputs, h, w] → [batch, outputs, h / stride, w / stride]."""
        y = F.relu(self.norm_1(self.conv_1(x)))
        return F.relu(self.norm_2(self.conv_2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """A stem, two residual blocks for each width, the mean over positions and a dense layer."""

    def __init__(self, widths: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        blocks = []
        for before, width in zip((widths[0], *widths), widths, strict=False):
            blocks += [Residual(before, width, 1 if width == before else 2), Residual(width, width, 1)]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, 3, h, w] → [batch, classes]."""
        x = self.blocks(F.relu(self.norm(self.stem(x))))
        return self.head(x.mean((2, 3)))


def mlp(
    sizes: tuple[int, ...] = (512, 1024, 1024, 1024, 256), ratio: float = 0.25, batches: int = 128
) -> Task:
    """A perceptron of four layers."""
    draw = Draw(1)
    basis = draw.orthonormal(sizes[0], sizes[0])
    model = _weighted(Mlp(sizes), draw)
    known = tuple(draw.features(64, basis=basis) for _ in range(batches))
    _scaled(model, known[0])
    held_out = draw.features(1024, basis=basis)
    return Task("mlp", model, held_out[:32], known, held_out, ratio, _layers(model, nn.Linear))


def transformer(
    depth: int = 4,
    width: int = 256,
    inner: int = 1024,
    heads: int = 8,
    ratio: float = 0.34,
    batches: int = 64,
) -> Task:
    """An encoder; the tokens of a sequence share a quarter of their variance."""
    draw = Draw(2)
    basis = draw.orthonormal(width, width)

    def tokens(count: int, length: int) -> Tensor:
        own, common = draw.features(count, length, basis=basis), draw.features(count, 1, basis=basis)
        return 0.75**0.5 * own + 0.5 * common

    model = _weighted(nn.Sequential(*(Block(width, inner, heads) for _ in range(depth))), draw)
    known = tuple(tokens(4, 64) for _ in range(batches))
    _scaled(model, known[0])
    held_out = tokens(32, 64)
    return Task("transformer", model, held_out[:1], known, held_out, ratio, _layers(model, nn.Linear))


def cnn(
    widths: tuple[int, ...] = (32, 64, 128, 256), size: int = 32, ratio: float = 0.29, batches: int = 48
) -> Task:
    """A residual network of the shape of ResNet-18."""
    draw = Draw(3)
    colours = torch.eye(3) + 0.5 * draw.normal(3, 3)
    model = _weighted(ResNet(widths, 100), draw)
    known = tuple(draw.images(4, size, colours) for _ in range(batches))
    _scaled(model, torch.cat(known[:8]))
    _counted(model, torch.cat(known[:16]), draw)
    held_out = draw.images(64, size, colours)
    treated = tuple(
        name
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Conv2d) and layer.in_channels > 3 and layer.kernel_size == (3, 3)
    )
    return Task("cnn", model, held_out[:1], known, held_out, ratio, treated)


TASKS: dict[str, Callable[[], Task]] = {"mlp": mlp, "transformer": transformer, "cnn": cnn}


def _powers(count: int, decay: float) -> Tensor:
    return torch.arange(1, count + 1) ** -decay


def _layers(model: nn.Module, kind: type[nn.Module]) -> tuple[str, ...]:
    return tuple(name for name, layer in model.named_modules() if isinstance(layer, kind))


def _weighted(model: nn.Module, draw: Draw) -> nn.Module:
    """The model with drawn weights, evaluated."""
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.Linear):
                layer.weight.copy_(draw.matrix(*layer.weight.shape))
            elif isinstance(layer, nn.Conv2d):
                layer.weight.copy_(draw.kernel(*layer.weight.shape))
            if isinstance(layer, nn.Linear):
                layer.bias.copy_(0.1 * draw.normal(len(layer.bias)))
    return model.eval()


def _scaled(model: nn.Module, inputs: Tensor) -> None:
    """Scale every weight, in order, so that its outputs have unit variance."""

    def scale(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        plain = (
            layer._conv_forward(args[0], layer.weight, None)
            if isinstance(layer, nn.Conv2d)
            else (F.linear(args[0], layer.weight))
        )
        layer.weight.div_(plain.std())

    hooks = [
        layer.register_forward_pre_hook(scale)
        for layer in model.modules()
        if isinstance(layer, nn.Linear | nn.Conv2d)
    ]
    with torch.no_grad():
        model(inputs)
    for hook in hooks:
        hook.remove()


def _counted(model: nn.Module, inputs: Tensor, draw: Draw) -> None:
    """Batch normalisations with the statistics of `inputs` and drawn scales and shifts."""
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    with torch.no_grad():
        for layer in norms:
            layer.weight.copy_(1 + 0.2 * draw.normal(len(layer.weight)))
            layer.bias.copy_(0.2 * draw.normal(len(layer.bias)))
            layer.momentum = None
        model.train()(inputs)
    model.eval()
