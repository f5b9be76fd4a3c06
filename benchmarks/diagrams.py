"""Weights that commute with S(n) or O(n), found in plain dense layers, and layers written diagram by diagram.

    python -m benchmarks diagrams

Nothing is annotated: the weights of the dense layers are built from random coefficients, the models of order
2 add fifteen terms, each contracted, mixed and spread by itself. Both files are run in turn on one thread of
onnxruntime; the original is written by torch's own exporter. The last rows of the first table are controls,
of which nothing may be found.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import tdsl
from benchmarks.harness import export, latencies, machine, relative_error, session, table, write_section
from tdsl.capture import capture
from tdsl.engine.driver import rewrite
from tdsl.engine.journal import Journal
from tdsl.engine.library import Library, standard_library
from tdsl.lang import parse
from tdsl.symmetry.diagrams import basis

PIPELINE = """
pipeline diagrams {
    repeat cleanup.*, layout.*, fold.*, decompose.diagrams.*, decompose.shared.* until stable
    repeat cleanup.*, decompose.shared.*, decompose.regroup_sums until stable
    check error <= 0.001%
}
"""


@dataclass(frozen=True)
class Dense:
    """A dense layer whose weight is made of diagrams."""

    family: str
    n: int
    orders: tuple[int, int]
    """Axes of the input and of the output."""
    channels: int
    rows: int = 1
    """Inputs in a batch."""
    channels_last: bool = True
    planted: bool = True
    """Whether the weight commutes; otherwise one entry of it is another."""
    pays: bool = True
    """Whether diagrams are expected to be faster; otherwise the layer has to be left alone."""

    @property
    def name(self) -> str:
        """The group, its size, the order and the channels."""
        place = "" if self.channels_last else ", channels first"
        control = "" if self.planted else ", one entry changed"
        control += "" if self.pays else ", too small"
        orders = f"{self.orders[0]} → {self.orders[1]}"
        return f"{self.family}({self.n}), {orders}, {self.channels} channels{place}{control}"

    @property
    def inputs(self) -> int:
        """The width of the input."""
        return int(self.n ** self.orders[0]) * self.channels

    def model(self) -> nn.Module:
        """The layer, with a bias that is the same for all indices."""
        drawn = torch.Generator().manual_seed(0)
        into, out = (self.n**order for order in self.orders)
        layer = nn.Linear(self.inputs, out * self.channels)
        whole = torch.zeros(layer.weight.shape, dtype=torch.float64)
        rows, columns = (
            (positions, self.channels) if self.channels_last else (self.channels, positions)
            for positions in (out, into)
        )
        view = whole.view(*rows, *columns)
        for diagram in basis(self.family, self.n, *self.orders):
            places = diagram.dense(self.n)
            mix = torch.randn(self.channels, self.channels, generator=drawn, dtype=torch.float64)
            mix /= self.channels**0.5 * places.norm(dim=1).max()
            if self.channels_last:
                view += places[:, None, :, None] * mix[None, :, None]
            else:
                view += mix[:, None, :, None] * places[None, :, None]
        bias = torch.randn(self.channels, generator=drawn)
        with torch.no_grad():
            layer.weight.copy_(whole)
            layer.bias.copy_(bias.repeat(out) if self.channels_last else bias.repeat_interleave(out))
            if not self.planted:
                layer.weight[1, 2] += layer.weight.abs().max()
        return layer.eval()


class DiagramByDiagram(nn.Module):
    """The maps of order 2 → 2 that commute with S(n): each one contracts, mixes channels and spreads."""

    def __init__(self, n: int, channels: int, *, mixed_after: bool) -> None:
        super().__init__()
        self.mixed_after = mixed_after
        self.mixes = nn.ModuleList(nn.Linear(channels, channels, bias=False) for _ in range(15))
        self.register_buffer("equal", torch.eye(n)[:, :, None])
        self.bias = nn.Parameter(torch.randn(channels))

    def terms(self, x: Tensor) -> Iterator[tuple[Tensor, Callable[[Tensor], Tensor]]]:
        """What each diagram contracts to, and how it is spread."""

        def rows(v: Tensor) -> Tensor:
            return v[:, :, None].expand_as(x)

        def columns(v: Tensor) -> Tensor:
            return v[:, None].expand_as(x)

        def everywhere(v: Tensor) -> Tensor:
            return v[:, None, None].expand_as(x)

        def diagonal() -> Tensor:
            return torch.diagonal(x, dim1=1, dim2=2).transpose(1, 2)

        yield x, lambda v: v
        yield x.transpose(1, 2), lambda v: v
        for contracted in (diagonal, lambda: x.sum(2), lambda: x.sum(1)):
            yield contracted(), rows
            yield contracted(), columns
            yield contracted(), lambda v: rows(v) * self.equal
        for contracted in (lambda: diagonal().sum(1), lambda: x.sum((1, 2))):
            yield contracted(), everywhere
            yield contracted(), lambda v: everywhere(v) * self.equal

    def forward(self, x: Tensor) -> Tensor:
        """[b, n, n, c] → [b, n, n, c]."""
        found = []
        for mix, (contracted, spread) in zip(self.mixes, self.terms(x), strict=True):
            found.append(mix(spread(contracted)) if self.mixed_after else spread(mix(contracted)))
        total = found[0]
        for term in found[1:]:
            total = total + term
        return total + self.bias


@dataclass(frozen=True)
class Table:
    """A dense layer on arrays of n × m entries whose weight is made of sums of rows and columns."""

    n: int
    m: int
    channels: int
    rows: int = 1
    nested: bool = False
    """Whether only the m entries of a row are alike, and the rows: a wreath product."""
    planted: bool = True
    pays: bool = True

    @property
    def name(self) -> str:
        """The group, its size, the channels."""
        group = f"S({self.m}) ≀ S({self.n})" if self.nested else f"S({self.n}) × S({self.m})"
        return f"{group}, {self.channels} channels{'' if self.planted else ', one entry changed'}"

    @property
    def inputs(self) -> int:
        """The width of the input."""
        return self.n * self.m * self.channels

    def model(self) -> nn.Module:
        """The layer, with a bias."""
        drawn = torch.Generator().manual_seed(0)
        layer = nn.Linear(self.inputs, self.inputs)
        whole = torch.zeros(self.n, self.m, self.channels, self.n, self.m, self.channels, dtype=torch.float64)
        for rows_alike in (False, True):
            for columns_alike in (False, True):
                if self.nested and rows_alike and not columns_alike:
                    continue
                first = torch.ones(self.n, self.n) if rows_alike else torch.eye(self.n)
                second = torch.ones(self.m, self.m) if columns_alike else torch.eye(self.m)
                mix = torch.randn(self.channels, self.channels, generator=drawn, dtype=torch.float64)
                mix /= self.channels**0.5 * float(first[0].norm() * second[0].norm())
                whole += (
                    first[:, None, None, :, None, None]
                    * second[:, None, None, :, None]
                    * mix[:, None, None, :]
                )
        with torch.no_grad():
            layer.weight.copy_(whole.reshape(self.inputs, self.inputs))
            if not self.planted:
                layer.weight[1, 2] += layer.weight.abs().max()
        return layer.eval()


DENSE: tuple[Dense | Table, ...] = (
    Dense("S", 512, (1, 1), 16),
    Dense("S", 128, (1, 1), 16, channels_last=False),
    Dense("S", 64, (1, 1), 16, rows=64),
    Dense("S", 1024, (1, 1), 1),
    Dense("S", 64, (1, 2), 4),
    Dense("S", 64, (2, 1), 4),
    Dense("S", 64, (2, 1), 4, rows=64),
    Dense("S", 64, (2, 1), 4, channels_last=False),
    Dense("S", 64, (2, 0), 8),
    Dense("S", 8, (2, 2), 16),
    Dense("S", 8, (2, 2), 16, rows=64),
    Dense("S", 8, (2, 2), 16, channels_last=False),
    Dense("S", 16, (3, 1), 4),
    Dense("S", 8, (3, 2), 16),
    Dense("S", 8, (3, 3), 4),
    Dense("O", 16, (2, 2), 4),
    Dense("O", 16, (2, 2), 8),
    Dense("O", 16, (2, 2), 16),
    Dense("O", 16, (2, 2), 8, rows=64),
    Dense("O", 16, (1, 3), 4),
    Dense("O", 8, (3, 3), 4),
    Table(32, 16, 8),
    Table(32, 16, 8, rows=64),
    Table(32, 16, 8, nested=True),
    Dense("S", 512, (1, 1), 16, planted=False),
    Dense("S", 64, (2, 1), 4, planted=False),
    Dense("O", 16, (2, 2), 8, planted=False),
    Table(32, 16, 8, planted=False),
    Dense("S", 8, (3, 2), 4, pays=False),
)
ORDER_2 = [(64, 16, rows, mixed_after) for rows in (1, 8) for mixed_after in (False, True)]


def main() -> None:
    """Measure both tables, and write the section."""
    library = standard_library().extended(Library())
    library.add_file(parse(PIPELINE), "bench")
    dense = [of_dense(case, library) for case in DENSE]
    pairs = [of_pairs(*case, library) for case in ORDER_2]
    write_section("diagrams", text(dense, pairs))


def of_dense(case: Dense | Table, library: Library) -> list[str]:
    """The row of a dense layer."""
    model = case.model()
    x = torch.randn(case.rows, case.inputs, generator=torch.Generator().manual_seed(1))
    rules = [library.rule(name) for name in library.select("decompose.diagrams.*")]
    graph = capture(model, (x,)).module
    start = time.perf_counter()
    fired = rewrite(graph, rules, None, Journal())
    seconds = time.perf_counter() - start
    del graph
    assert (fired == 1) == (case.planted and case.pays), f"{case.name}: {fired} rewrites"
    label = f"{case.name}, batch {case.rows}"
    if not fired:
        return [label, *["–"] * 4, "unchanged", "–", f"{seconds:.2f}"]
    return [label, *compared(model, x, library), f"{seconds:.2f}"]


def of_pairs(n: int, channels: int, rows: int, mixed_after: bool, library: Library) -> list[str]:
    """The row of a layer that is written diagram by diagram."""
    model = DiagramByDiagram(n, channels, mixed_after=mixed_after).eval()
    x = torch.randn(rows, n, n, channels, generator=torch.Generator().manual_seed(1))
    how = "mixed after spreading" if mixed_after else "mixed before spreading"
    return [f"{how}, batch {rows}", *compared(model, x, library)]


def compared(model: nn.Module, x: Tensor, library: Library) -> list[str]:
    """Bytes and milliseconds of both files, how much faster the result is, and how far away."""
    with tempfile.TemporaryDirectory() as folder:
        original, result = Path(folder) / "original.onnx", Path(folder) / "result.onnx"
        export(model, x, original)
        tdsl.compile(model, (x,), rules=library, pipeline="bench.diagrams", output=result, latency=False)
        seconds = latencies({"original": original, "result": result}, x)
        outputs = [
            torch.from_numpy(known.run(None, {known.get_inputs()[0].name: x.numpy()})[0])
            for known in map(session, (original, result))
        ]
        sizes = [sum(f.stat().st_size for f in Path(folder).glob(f"{p.name}*")) for p in (original, result)]
    return [
        size_text(sizes[0]),
        size_text(sizes[1]),
        f"{1e3 * seconds['original']:.3f}",
        f"{1e3 * seconds['result']:.3f}",
        f"{seconds['original'] / seconds['result']:.1f}×",
        f"{relative_error(outputs[1], outputs[0]):.0e}",
    ]


def size_text(count: int) -> str:
    """Bytes in kB or MB."""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def enumeration() -> float:
    """Median seconds in which the diagrams of S(64), order 2 → 2, are listed."""
    found = []
    for _ in range(101):
        start = time.perf_counter()
        assert len(basis("S", 64, 2, 2)) == 15
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def text(dense: list[list[str]], pairs: list[list[str]]) -> str:
    """The section of RESULTS.md."""
    costs = ["bytes", "bytes after", "ms", "ms after", "faster", "error"]
    return "\n\n".join(
        [
            "## Diagrams: weights that commute with S(n) or O(n)",
            "Dense layers with planted weights, found without being told what is planted, and controls. The "
            "error is ‖ŷ − y‖ / ‖y‖ between the two files; the seconds are those in which all rules about "
            "diagrams looked at the weight, rewriting included. Files on one thread of onnxruntime, in turn.",
            table(["dense layer", *costs, "seconds"], dense),
            "All maps of order 2 → 2 that commute with S(64), 16 channels, written diagram by diagram in "
            "plain torch (fifteen terms, each with a channel mix of its own); exact rules share what is "
            "contracted and add small terms before they are spread.",
            table(["fifteen terms", *costs], pairs),
            f"The fifteen diagrams are listed in {1e6 * enumeration():.0f} µs.",
            machine(),
        ]
    )


if __name__ == "__main__":
    main()
