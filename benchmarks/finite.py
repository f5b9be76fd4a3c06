"""Layers that commute with a group, circulant layers, tied kernels: latency and bytes of the files.

Every weight is planted, given to `tdsl.compile` without a word about its group, and the file is timed
against that of the original, in turn. A file that tdsl leaves as it was says so.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

import tdsl
from benchmarks.harness import export, latencies, machine, table, write_section
from tdsl.symmetry.diagrams import basis
from tdsl.symmetry.finite import reynolds
from tdsl.symmetry.group import Group, cyclic, dihedral
from tdsl.symmetry.representation import copies, regular

RULES = """
import decompose.finite
import decompose.signed
import factorize.structured

pipeline groups {
    once decompose.finite.*
    check error <= 0.001%
}

pipeline signed {
    once decompose.signed.*
    check error <= 0.001%
}

pipeline circulants {
    once factorize.structured.circulant_linear
    check error <= 0.001%
}

pipeline tied {
    quantize tied
}
"""
INTRODUCTION = (
    "Dense layers [m, n] that commute with the group (C channels on each element, the weight drawn at random"
    " and averaged, the bias the same on all elements; with a bias of any kind only weights commute), and"
    " layers whose weights commute with rotations or symplectic matrices (C channels in each entry of vectors"
    " or matrices) or are circulant; nothing is annotated. Latencies are medians of files run in turn on one"
    " thread of onnxruntime; bytes are those of the files. Rows marked – are left alone by the cost condition"
    " of the rule."
)


def planted(group: Group, channels: int) -> Tensor:
    """A random weight that commutes with a group on itself, channels running fastest. float32."""
    rho = copies(regular(group), channels)
    drawn = torch.randn(rho.size, rho.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (reynolds(drawn, rho, rho) * (group.order or 1) ** 0.5 / rho.size**0.5).float()


def signed(family: str, size: int, inputs: int, outputs: int, channels: int) -> Tensor:
    """A random weight that commutes with SO(n) or Sp(n), from tensors to tensors, channels last. float32."""
    random = torch.Generator().manual_seed(0)
    total = torch.zeros(size**outputs * channels, size**inputs * channels, dtype=torch.float64)
    for diagram in basis(family, size, inputs, outputs):
        mix = torch.randn(channels, channels, generator=random, dtype=torch.float64)
        total += torch.kron(diagram.dense(size), mix) / channels**0.5
    return total.float()


def circulant(size: int) -> Tensor:
    """A random circulant matrix. float32."""
    first = torch.randn(size, generator=torch.Generator().manual_seed(0)) / size**0.5
    places = torch.arange(size)
    return first[(places[:, None] - places) % size].contiguous()


def layer(weight: Tensor, places: int = 1) -> nn.Module:
    """A dense layer of that weight, with a bias that so many places share."""
    module = nn.Linear(weight.shape[1], weight.shape[0])
    module.weight = nn.Parameter(weight)
    module.bias = nn.Parameter(module.bias.detach()[: len(weight) // places].repeat(places))
    return module.eval()


def measure(name: str, module: nn.Module, example: Tensor, pipeline: str, folder: Path) -> tuple[str, ...]:
    """A row of the table: speed and bytes of the rewritten file against the original's."""
    files = {"original": folder / "original.onnx", "tdsl": folder / "tdsl.onnx"}
    export(module, example, files["original"])
    (folder / "rules.tdsl").write_text(RULES)
    rules = tdsl.load(folder / "rules.tdsl")
    result = tdsl.compile(
        module, (example,), rules=rules, pipeline=pipeline, output=files["tdsl"], latency=False
    )
    seconds = latencies(files, example)
    rewritten = bool(result.report.rewrites) or pipeline == "tied"
    return (
        name,
        str(len(example)),
        f"{seconds['original'] * 1e3:.4f}",
        f"{seconds['tdsl'] * 1e3:.4f}" if rewritten else "–",
        f"{seconds['original'] / seconds['tdsl']:.2f}×" if rewritten else "–",
        f"÷ {size(files['original']) / size(files['tdsl']):.1f}" if rewritten else "–",
    )


def size(path: Path) -> int:
    """Bytes of a file, and of the weights beside it."""
    beside = path.with_name(path.name + ".data")
    return path.stat().st_size + (beside.stat().st_size if beside.exists() else 0)


class KernelsOnce(nn.Module):
    """Two regular convolutions of a group of quarter turns, with or without mirrors."""

    def __init__(self, channels: int, *, mirrors: bool) -> None:
        super().__init__()
        order = 8 if mirrors else 4
        self.layers = nn.ModuleList(
            nn.Conv2d(order * channels, order * channels, 3, padding=1) for _ in range(2)
        )
        random = torch.Generator().manual_seed(order)
        for one in self.layers:
            free = torch.randn(channels, channels, order, 3, 3, generator=random)
            one.weight = nn.Parameter(regular_kernels(free / (9 * order * channels) ** 0.5, mirrors=mirrors))

    def forward(self, x: Tensor) -> Tensor:
        """Images to images."""
        for one in self.layers:
            x = one(x).relu()
        return x


def regular_kernels(free: Tensor, *, mirrors: bool) -> Tensor:
    """Kernels between features on the group: copies of [c, q, g, k, k] → [g·c, g·q, k, k]."""
    group = [(turn, mirror) for mirror in ([False, True] if mirrors else [False]) for turn in range(4)]
    rows = []
    for turn, mirror in group:
        columns = []
        for other_turn, other_mirror in group:
            step = (other_turn - turn) % 4
            kernel = free[:, :, group.index(((-step) % 4 if mirror else step, mirror != other_mirror))]
            columns.append(torch.rot90(kernel.flip(-1) if mirror else kernel, turn, (-2, -1)))
        rows.append(torch.stack(columns, 1).flatten(1, 2))
    return torch.cat(rows)


def main() -> None:
    """Write the section."""
    square, turns, mirror = dihedral(4), cyclic(4), cyclic(2)
    groups: list[tuple[str, Callable[[], Tensor], int]] = [
        *((f"D4, C = {c}", lambda c=c: planted(square, c), 8) for c in (16, 64, 256)),
        ("D4, C = 256, bias of any kind", lambda: planted(square, 256), 1),
        *((f"C4, C = {c}", lambda c=c: planted(turns, c), 4) for c in (64, 128, 256)),
        *((f"mirror, C = {c}", lambda c=c: planted(mirror, c), 2) for c in (128, 256, 512)),
    ]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, weight, places in groups:
            for batch in (1, 16, 256):
                drawn = weight()
                example = torch.randn(batch, drawn.shape[1])
                rows.append(measure(name, layer(drawn, places), example, "groups", Path(folder)))
                print(*rows[-1], flush=True)
        for name, family, size, inputs, outputs, channels in (
            ("SO(3), pairs of vectors to vectors, C = 128", "SO", 3, 2, 1, 128),
            ("SO(3), vectors to pairs, C = 128", "SO", 3, 1, 2, 128),
            ("Sp(4), matrices to matrices, C = 64", "Sp", 4, 2, 2, 64),
        ):
            for batch in (1, 64):
                drawn = signed(family, size, inputs, outputs, channels)
                example = torch.randn(batch, drawn.shape[1])
                rows.append(measure(name, layer(drawn), example, "signed", Path(folder)))
                print(*rows[-1], flush=True)
        for length in (1024, 4096):
            for batch in (1, 16):
                module = layer(circulant(length))
                example = torch.randn(batch, length)
                rows.append(measure(f"circulant {length}", module, example, "circulants", Path(folder)))
                print(*rows[-1], flush=True)
        for name, mirrors in (("C4 convolutions, C = 16, stored once", False), ("D4, the same", True)):
            net = KernelsOnce(16, mirrors=mirrors).eval()
            example = torch.randn(1, (8 if mirrors else 4) * 16, 16, 16)
            rows.append(measure(name, net, example, "tied", Path(folder)))
            print(*rows[-1], flush=True)
    header = ("weight", "batch", "ms, original", "ms, tdsl", "speed", "bytes")
    write_section(
        "finite groups", f"## Finite groups\n\n{INTRODUCTION}\n\n{table(header, rows)}\n\n{machine()}"
    )


if __name__ == "__main__":
    main()
