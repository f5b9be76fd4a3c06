"""Digits in any of the eight positions of a square: learnt upright, averaged, and by a network of the group.

    python examples/symmetry.py             # leaves out/symmetry/averaged and out/symmetry/equivariant
    tdsl audit examples/symmetry.py:strided examples/symmetry.tdsl      # which layer breaks it, and why

Networks are held to one contract, `symmetry.tdsl`: a digit is the same in all eight positions. One that
learnt upright digits is refused. Its average over the positions is not, and names few digits; a network of
the group names most, with kernels that are turned and mirrored copies, which the file stores once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import digits
import torch
from torch import Tensor, nn

OUT = Path("out/symmetry")
CONTRACT = Path(__file__).with_suffix(".tdsl")
POSITIONS = [(turns, mirrored) for mirrored in (False, True) for turns in range(4)]  # mirror first, then turn


def positioned(image: Tensor, turns: int, mirrored: bool) -> Tensor:
    """Images or kernels `[..., n, n]`, mirrored or not, then turned by quarters."""
    return torch.rot90(image.flip(-1) if mirrored else image, turns, (-2, -1))


def seen_from(position: tuple[int, bool], other: tuple[int, bool]) -> int:
    """Place in `POSITIONS` of g⁻¹·h: what `other` is for one that stands in `position` itself."""
    (turns, mirrored), (other_turns, other_mirrored) = position, other
    steps = turns - other_turns if mirrored else other_turns - turns
    return POSITIONS.index((steps % 4, mirrored != other_mirrored))


class GroupConv2d(nn.Module):
    """A convolution over the positions of the square as well (Cohen & Welling, 2016), written as a plain one.

    Channels are fields of eight, one for each position; images that come in have one channel for each field.
    """

    def __init__(self, inputs: int, outputs: int, *, lifts: bool = False, stride: int = 1) -> None:
        super().__init__()
        self.seen = 1 if lifts else len(POSITIONS)
        scale = (9 * inputs * self.seen / 2) ** -0.5
        self.weight = nn.Parameter(scale * torch.randn(outputs, inputs, self.seen, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.stride = stride

    def kernel(self) -> Tensor:
        """Kernels `[8·outputs, (8·)inputs, 3, 3]`: every position sees the free ones from where it stands."""
        rows = []
        for position in POSITIONS:
            order = [0] if self.seen == 1 else [seen_from(position, other) for other in POSITIONS]
            rows.append(positioned(self.weight[:, :, order], *position))
        return torch.stack(rows, dim=1).flatten(2, 3).flatten(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Images `[batch, (8·)inputs, n, n]` to `[batch, 8·outputs, n, n]`."""
        bias = self.bias.repeat_interleave(len(POSITIONS))
        return nn.functional.conv2d(x, self.kernel(), bias, stride=self.stride, padding=1)


class FieldNorm(nn.BatchNorm3d):
    """Batch norm with one mean, variance, scale and shift for the eight channels of a field."""

    def forward(self, x: Tensor) -> Tensor:
        """Images `[batch, 8·fields, n, n]` to the same."""
        return super().forward(x.unflatten(1, (-1, len(POSITIONS)))).flatten(1, 2)


class Equivariant(nn.Module):
    """Three layers of the group, a mean over positions and pixels, and a classifier."""

    def __init__(self, fields: int = 16, stride: int = 1) -> None:
        super().__init__()

        def block(inputs: int, outputs: int, **options: Any) -> list[nn.Module]:
            return [GroupConv2d(inputs, outputs, **options), FieldNorm(outputs), nn.ReLU()]

        self.features = nn.Sequential(
            *block(1, fields, lifts=True),
            *block(fields, fields, stride=stride),
            nn.MaxPool2d(2),
            *block(fields, 2 * fields),
        )
        self.classifier = nn.Linear(2 * fields, digits.CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        """Images `[batch, 1, 8, 8]` in 0…1 to logits `[batch, 10]`."""
        fields = self.features(image).unflatten(1, (-1, len(POSITIONS)))
        return self.classifier(fields.mean(dim=(2, 3, 4)))


class Averaged(nn.Module):
    """The mean of what a network says of an image in its eight positions, all of them in one batch."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        from tdsl.symmetry.action import flipped, rotated
        from tdsl.symmetry.group import dihedral
        from tdsl.symmetry.impose import GroupAverage, moves

        shape = (2, 1, digits.SIDE, digits.SIDE)
        square = moves(dihedral(4), r=rotated(shape, 1, -2, -1), s=flipped(shape, [-1]))
        self.mean = GroupAverage(network, square)

    def forward(self, image: Tensor) -> Tensor:
        """Images `[batch, 1, 8, 8]` in 0…1 to logits `[batch, 10]`."""
        return self.mean(image)


upright = functools.cache(digits.cnn)
"""A network that learnt upright digits, and knows no others."""


def averaged() -> tuple[nn.Module, tuple[Tensor, ...], dict[str, Any]]:
    """The same, asked about all eight positions."""
    return digits.with_inputs(Averaged(upright()[0]))


def equivariant() -> tuple[nn.Module, tuple[Tensor, ...], dict[str, Any]]:
    """A network of the group that saw nothing but upright digits."""
    return digits.with_inputs(digits.trained(Equivariant, epochs=8, rate=5e-3))


def strided() -> tuple[nn.Module, tuple[Tensor, ...], dict[str, Any]]:
    """The same, untrained, with a stride of two over eight rows: from one border, and not to the other."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return digits.with_inputs(Equivariant(stride=2).eval())


def accuracies(network: Callable[[Tensor], Tensor]) -> tuple[float, float]:
    """Shares of the held-out digits that are named right, upright and in all eight positions."""
    shares = [
        digits.accuracy(lambda image, p=position: network(positioned(image, *p))) for position in POSITIONS
    ]
    return shares[0], sum(shares) / len(shares)


def main() -> None:
    """Compile the three under the contract, and compare what they know."""
    import tdsl

    rows = []
    for name, build in {"upright": upright, "averaged": averaged, "equivariant": equivariant}.items():
        network, args, dynamic_shapes = build()
        path = OUT / name / "model.onnx"
        print(f"\n{name}")
        try:
            result = tdsl.compile(
                network,
                args,
                dynamic_shapes=dynamic_shapes,
                rules=CONTRACT,
                pipeline="certified",
                output=path,
            )
        except tdsl.TdslError as refused:
            print(refused)
            shares, size = accuracies(network), "no file"
        else:
            print(result)
            shares, size = accuracies(digits.loaded(path)), f"{path.stat().st_size / 1000:.0f} kB"
        rows.append(f"{name:12} {shares[0]:8.1%} {shares[1]:14.1%}   {size}")
    print(f"\n{'':12} {'upright':>8} {'all positions':>14}   file", *rows, sep="\n")


if __name__ == "__main__":
    main()
