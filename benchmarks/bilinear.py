"""Constant bilinear maps: the file of the model as it is written against the compiled one, in turn.

    python -m benchmarks.bilinear

Clebsch–Gordan and Gaunt products, algebras, and complex layers; one thread of onnxruntime, medians of pairs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tdsl
from benchmarks.harness import machine, table, write_section
from tdsl.factor.bilinear_grid import grid_terms
from tdsl.factor.bilinear_harmonics import clebsch_gordan

RULES = """
pipeline bilinear {
    repeat cleanup.*, layout.*, fold.* until stable
    repeat decompose.bilinear_regions, decompose.bilinear.* until stable
    repeat cleanup.* until stable
    check error <= 1e-5
}
"""


class Einsum(nn.Module):
    """A map given by its tensor."""

    def __init__(self, tensor: Tensor, equation: str = "zi,zj,ijk->zk") -> None:
        super().__init__()
        self.tensor = nn.Buffer(tensor.float())
        self.equation = equation

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """x [z, …, i], y [z, j] → [z, …, k]."""
        return torch.einsum(self.equation, x, y, self.tensor)


class FullyConnected(nn.Module):
    """Every path l₁ ⊗ l₂ → l₃ up to a degree, with a weight for each triple of channels."""

    def __init__(self, degree: int, first: int, second: int, third: int) -> None:
        super().__init__()
        self.degree, self.channels = degree, (first, second, third)
        generator = torch.Generator().manual_seed(0)
        self.paths = [
            (one, two, three)
            for three in range(degree + 1)
            for one in range(degree + 1)
            for two in range(degree + 1)
            if abs(one - two) <= three <= one + two
        ]
        for place, (one, two, three) in enumerate(self.paths):
            self.register_buffer(f"cg{place}", torch.from_numpy(clebsch_gordan(one, two, three)).float())
            weight = torch.randn(first, second, third, generator=generator) / (first * second) ** 0.5
            setattr(self, f"w{place}", nn.Parameter(weight))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """x [z, u · (L + 1)²], y [z, v · (L + 1)²] → [z, w · (L + 1)²], degree by degree."""
        first, second, _ = self.channels
        degrees = range(self.degree + 1)
        ones = x.split([first * (2 * level + 1) for level in degrees], -1)
        twos = y.split([second * (2 * level + 1) for level in degrees], -1)
        results: list[Tensor | None] = [None for _ in degrees]
        for place, (one, two, three) in enumerate(self.paths):
            path = torch.einsum(
                "zui,zvj,ijk,uvw->zwk",
                ones[one].reshape(-1, first, 2 * one + 1),
                twos[two].reshape(-1, second, 2 * two + 1),
                getattr(self, f"cg{place}"),
                getattr(self, f"w{place}"),
            )
            known = results[three]
            results[three] = path if known is None else known + path
        return torch.cat([r.reshape(len(x), -1) for r in results if r is not None], -1)


class Complex(nn.Module):
    """(A + iB)(x + iy), four products of matrices."""

    def __init__(self, width: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.a, self.b = (
            nn.Parameter(torch.randn(width, width, generator=generator) / width**0.5) for _ in range(2)
        )

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Real and imaginary parts in and out."""
        return F.linear(x, self.a) - F.linear(y, self.b), F.linear(x, self.b) + F.linear(y, self.a)


class Quaternions(nn.Module):
    """Hamilton's product, written out."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """[…, 4], […, 4] → […, 4]."""
        a, b, c, d = x.unbind(-1)
        e, f, g, h = y.unbind(-1)
        parts = (
            a * e - b * f - c * g - d * h,
            a * f + b * e + c * h - d * g,
            a * g - b * h + c * e + d * f,
            a * h + b * g - c * f + d * e,
        )
        return torch.stack(parts, -1)


class Numbers(nn.Module):
    """The complex product, written out."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """[…, 2], […, 2] → […, 2]."""
        (a, b), (c, d) = x.unbind(-1), y.unbind(-1)
        return torch.stack([a * c - b * d, a * d + b * c], -1)


def gaunt(degree: int) -> np.ndarray:
    """∫ Y_i Y_j Y_k, all up to a degree."""
    terms = grid_terms(((degree + 1) ** 2,) * 3)
    assert terms is not None
    return np.einsum("ip,jp,kp->ijk", *terms)


def geometric(dimensions: int) -> np.ndarray:
    """The product of the Clifford algebra of Euclidean space."""
    size = 1 << dimensions
    tensor = np.zeros((size, size, size))
    for left in range(size):
        for right in range(size):
            swaps = sum((left >> (axis + 1)).bit_count() for axis in range(dimensions) if right >> axis & 1)
            tensor[left, right, left ^ right] = (-1) ** swaps
    return tensor


def cases() -> Iterator[tuple[str, nn.Module, tuple[int, ...], tuple[int, ...]]]:
    """What is measured: a name, a model, the shapes of its two inputs."""
    products = Einsum(torch.from_numpy(gaunt(8)))
    for batch in (1, 32, 256):
        yield f"Gaunt product, L = 8, batch {batch}", products, (batch, 81), (batch, 81)
    for batch in (32, 256):
        yield (
            f"Gaunt product, L = 2, batch {batch}",
            Einsum(torch.from_numpy(gaunt(2))),
            (batch, 9),
            (batch, 9),
        )
    connected = FullyConnected(2, 8, 1, 8)
    for batch in (32, 256):
        yield f"fully connected, L = 2, 8 × 1 → 8, batch {batch}", connected, (batch, 72), (batch, 9)
    connected = FullyConnected(2, 4, 4, 4)
    for batch in (32, 256):
        yield f"fully connected, L = 2, 4 × 4 → 4, batch {batch}", connected, (batch, 36), (batch, 36)
    split = np.concatenate([clebsch_gordan(1, 1, level) for level in (0, 1, 2)], axis=2)
    channels = Einsum(torch.from_numpy(split), "zui,zj,ijk->zuk")
    yield "1 ⊗ 1 → 0 ⊕ 1 ⊕ 2, 16 channels, batch 256", channels, (256, 16, 3), (256, 3)
    algebra = Einsum(torch.from_numpy(geometric(3)))
    yield "Cl(3, 0), einsum, batch 1024", algebra, (1024, 8), (1024, 8)
    for batch in (64, 4096):
        yield f"quaternions written out, batch {batch}", Quaternions(), (batch, 4), (batch, 4)
    yield "complex numbers written out, batch 4096", Numbers(), (4096, 2), (4096, 2)
    for width, batch in ((128, 1), (128, 32), (512, 32), (512, 256)):
        yield (
            f"complex layer, {width} × {width}, batch {batch}",
            Complex(width),
            (batch, width),
            (batch, width),
        )


def main() -> None:
    """Write the section of RESULTS.md."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        rules = Path(folder, "rules.tdsl")
        rules.write_text(RULES)
        for name, model, first, second in cases():
            generator = torch.Generator().manual_seed(1)
            inputs = (torch.randn(first, generator=generator), torch.randn(second, generator=generator))
            result = tdsl.compile(
                model.eval(),
                inputs,
                rules=rules,
                pipeline="rules.bilinear",
                output=Path(folder, "model.onnx"),
            )
            seen = result.report.latency
            assert seen is not None
            rows.append(
                (
                    name,
                    f"{1e3 * seen.original_ms:.1f}",
                    f"{1e3 * seen.result_ms:.1f}",
                    f"{1 / seen.ratio:.2f}×",
                    " → ".join(applied(result)),
                )
            )
            print(*rows[-1], flush=True)
    text = (
        "## Bilinear maps\n\n"
        "The file of the model as it is written, and the compiled one, in turn; microseconds for a run.\n\n"
        f"{table(('map', 'as written', 'compiled', 'speed', 'rewrites'), rows)}\n\n{machine('scipy')}"
    )
    write_section("bilinear", text)


def applied(result: tdsl.Result) -> list[str]:
    """The bilinear rewrites of a compiled model, each once, in order."""
    names = [entry.rule for entry in result.report.rewrites if entry.rule.startswith("decompose.bilinear")]
    return [name.rpartition(".")[2] for name in dict.fromkeys(names)] or ["–"]


if __name__ == "__main__":
    main()
