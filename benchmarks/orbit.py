"""One subnetwork called on several values, in one call: files before and after, from plain traces.

    python -m benchmarks orbit

Test-time augmentation, siamese towers and shared heads call one subnetwork several times. Compiled with the
default pipeline, the calls become one on values that are joined along their first axis, where that pays.
Both files are run in turn on one thread of onnxruntime; the original is written by torch's exporter, and a
third column has the default pipeline without `merge.calls`. The last rows are controls, which are left as
they are: dense layers on batches, towers with different weights, a mean over the batch, and convolutions that
are busy computing.
"""

from __future__ import annotations

import itertools
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

import tdsl
from benchmarks.harness import export, machine, session, table, write_section
from benchmarks.mixing import randomise
from tdsl.verify.latency import Latency, session_latency


class Augmented(nn.Module):
    """The mean over the eight symmetries of the square of what a net says of an image."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """[1, c, n, n] → [1, classes]."""
        turned = [torch.rot90(x, turn, (2, 3)) for turn in range(4)]
        views = [view for one in turned for view in (one, one.flip(3))]
        return torch.stack([self.net(view) for view in views]).mean(0)


class Towers(nn.Module):
    """A net for each of several values: the same one, or one of its own."""

    def __init__(self, *nets: nn.Module) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        """What the net makes of each value."""
        return tuple(self.nets[i % len(self.nets)](value) for i, value in enumerate(values))


class Compared(nn.Module):
    """How similar two values are to a siamese net (Bromley et al., 1993)."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """[1, d] twice → [1]."""
        return torch.cosine_similarity(self.net(a), self.net(b))


class OverBatch(nn.Module):
    """A net that takes means over its batch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[b, width] → [b, width]."""
        hidden = self.first(x)
        return self.last((hidden - hidden.mean(0, keepdim=True)).relu())  # type: ignore[no-any-return]


class Last(nn.Module):
    """The last state of a recurrent layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.LSTM(width, width, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """[b, steps, width] → [b, width]."""
        return self.layer(x)[0][:, -1]  # type: ignore[no-any-return]


def images(width: int, depth: int, size: int) -> nn.Module:
    """A convolutional classifier, which no symmetry of the square leaves alone."""
    layers: list[nn.Module] = []
    for i in range(depth):
        layers += [nn.Conv2d(width if i else 3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        if i % 2:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * (size >> depth // 2) ** 2, 10))


def dense(*widths: int) -> nn.Module:
    """Dense layers with GELU between them."""
    layers = [part for a, b in itertools.pairwise(widths) for part in (nn.Linear(a, b), nn.GELU())]
    return nn.Sequential(*layers[:-1])


def head(width: int, depth: int) -> nn.Module:
    """A head of a detector: convolutions that all levels share, then boxes."""
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(width, 4, 3, padding=1))


def cases() -> dict[str, tuple[nn.Module, tuple[Tensor, ...]]]:
    """The models with their inputs, by what the table calls them."""
    torch.manual_seed(0)

    def several(count: int, *sizes: int) -> tuple[Tensor, ...]:
        return tuple(torch.randn(*sizes) for _ in range(count))

    encoder = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
    return {
        "D4 augmentation, 6 convolutions, 8²": (Augmented(images(8, 6, 8)), several(1, 1, 3, 8, 8)),
        "D4 augmentation, 4 convolutions, 16²": (
            Augmented(images(16, 4, 16)),
            several(1, 1, 3, 16, 16),
        ),
        "siamese dense layers, 512 – 1024 – 512": (Compared(dense(512, 1024, 512)), several(2, 1, 512)),
        "8 candidates, dense 256 – 256 – 256": (Towers(dense(256, 256, 256)), several(8, 1, 256)),
        "head on 5 levels of 4², 16 channels": (Towers(head(16, 4)), several(5, 1, 16, 4, 4)),
        "transformer layer on 4 texts of 8 tokens": (Towers(encoder), several(4, 1, 8, 64)),
        "siamese LSTM of 256, 16 steps": (Compared(Last(256)), several(2, 1, 16, 256)),
        "control: siamese dense layers, batch 16": (Compared(dense(512, 1024, 512)), several(2, 16, 512)),
        "control: towers with their own weights": (
            Towers(dense(256, 256, 256), dense(256, 256, 256)),
            several(2, 1, 256),
        ),
        "control: a mean over the batch": (Towers(OverBatch(16)), several(2, 4, 16)),
        "control: head on 3 levels of 32², 64 channels": (Towers(head(64, 4)), several(3, 1, 64, 32, 32)),
    }


@dataclass
class Measured:
    """One model: operators without and with `merge.calls`, times against the original and against without."""

    nodes: str
    original: Latency
    apart: Latency
    difference: float
    """Largest difference of an output over its largest value."""


def measured(model: nn.Module, inputs: tuple[Tensor, ...], folder: Path) -> Measured:
    """The model exported as it is, compiled without `merge.calls`, and compiled with it, run in turn."""
    before, apart, after = (folder / f"{name}.onnx" for name in ("before", "apart", "after"))
    export(model, inputs, before)
    tdsl.compile(model, inputs, output=after, latency=False)
    rules = folder / "apart.tdsl"
    text = (Path(tdsl.__file__).parent.parent / "passes/pipelines/exact.tdsl").read_text()
    rules.write_text("".join(line for line in text.splitlines(True) if "merge.calls" not in line))
    tdsl.compile(model, inputs, output=apart, rules=rules, pipeline="apart.exact", latency=False)
    sessions = [session(path) for path in (before, apart, after)]
    feeds = [
        {given.name: value.numpy() for given, value in zip(one.get_inputs(), inputs, strict=True)}
        for one in sessions
    ]
    results = [one.run(None, feed) for one, feed in zip(sessions, feeds, strict=True)]
    pairs = list(zip(results[0], results[2], strict=True))
    difference = max(float(np.abs(a - b).max() / np.abs(a).max()) for a, b in pairs)
    counts = [len(onnx.load(path, load_external_data=False).graph.node) for path in (apart, after)]
    return Measured(
        f"{counts[0]} → {counts[1]}",
        session_latency(lambda: session(before), lambda: session(after), inputs, budget=8),
        session_latency(lambda: session(apart), lambda: session(after), inputs, budget=8),
        difference,
    )


def main() -> None:
    """Measure every model, print the table and write it down."""
    rows = []
    for name, (model, inputs) in cases().items():
        with tempfile.TemporaryDirectory() as folder:
            found = measured(randomise(model), inputs, Path(folder))
        rows.append(
            (
                name,
                found.nodes,
                f"{found.original.original_ms:.3f}",
                f"{found.original.result_ms:.3f}",
                f"{1 / found.original.ratio:.2f}×",
                f"{1 / found.apart.ratio:.2f}×",
                f"{found.difference:.0e}",
            )
        )
        print(" | ".join(rows[-1]), flush=True)
    header = (
        "model",
        "nodes without → with",
        "ms before",
        "ms after",
        "speed",
        "by merge.calls",
        "difference",
    )
    about = (__doc__ or "").split("\n\n")[2].replace("\n", " ")
    write_section("orbit", f"## Calls on an orbit in one\n\n{about}\n\n{table(header, rows)}\n\n{machine()}")


if __name__ == "__main__":
    main()
