"""Layers moved past sums, means, resizes and joins: files before and after, from plain traces.

    python -m benchmarks mixing

Channel mixing (1×1 convolutions, dense layers) and what works on positions, tokens or edges act on different
axes: the first is done where there are fewer of the second, and additions at places that a constant index
names become sums. Nothing is annotated: each model is a plain module with random weights, compiled with the
default pipeline. Both files are run in turn on one thread of onnxruntime; the original is written by torch's
exporter. The last row is a control, of which nothing may be moved.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tdsl
from benchmarks.harness import export, machine, session, table, write_section
from tdsl.verify.latency import Latency, session_latency


class Enlarged(nn.Module):
    """An image enlarged four times along each axis, then its channels mixed."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode, self.conv = mode, nn.Conv2d(256, 21, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[1, 256, h, w] → [1, 21, 4 h, 4 w]."""
        return self.conv(F.interpolate(x, scale_factor=4, mode=self.mode))  # type: ignore[no-any-return]


class Pooled(nn.Module):
    """Channels mixed at every position, then the mean over positions."""

    def __init__(self, between: nn.Module) -> None:
        super().__init__()
        self.conv, self.between = nn.Conv2d(512, 1000, 1), between

    def forward(self, x: Tensor) -> Tensor:
        """[1, 512, h, w] → [1, 1000]."""
        return torch.flatten(F.adaptive_avg_pool2d(self.between(self.conv(x)), 1), 1)


def transition(channels: int) -> nn.Module:
    """The layers between two blocks of a DenseNet (Huang et al., 2017)."""
    conv = nn.Conv2d(channels, channels // 2, 1, bias=False)
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(), conv, nn.AvgPool2d(2, 2))


class Head(nn.Module):
    """The decode head of SegFormer-B0 as transformers writes it, on the features of four stages."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import SegformerConfig
        from transformers.models.segformer.modeling_segformer import SegformerDecodeHead

        self.head: Any = SegformerDecodeHead(SegformerConfig(num_labels=150))  # type: ignore

    def forward(self, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
        """[1, 32, h, w], [1, 64, h/2, w/2], … → [1, 150, h, w]."""
        return self.head((a, b, c, d))  # type: ignore[no-any-return]


class Readout(nn.Module):
    """The sums over the nodes of each graph of a batch, as PyTorch Geometric scatters them."""

    batch: Tensor

    def __init__(self, nodes: int, graphs: int) -> None:
        super().__init__()
        self.graphs = graphs
        self.register_buffer("batch", torch.arange(graphs).repeat_interleave(nodes // graphs))

    def forward(self, x: Tensor) -> Tensor:
        """[nodes, d] → [graphs, d]."""
        index = self.batch.view(-1, 1).expand_as(x)
        return x.new_zeros(self.graphs, x.shape[1]).scatter_add_(0, index, x)


class DeepSet(nn.Module):
    """A network on sets (Zaheer et al., 2017): one on each element, their sum, another on that."""

    def __init__(self, into: int, width: int) -> None:
        super().__init__()
        self.phi = nn.Sequential(nn.Linear(into, width), nn.ReLU(), nn.Linear(width, width))
        self.rho = nn.Sequential(nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, x: Tensor) -> Tensor:
        """[1, elements, into] → [1, 10]."""
        return self.rho(self.phi(x).sum(1))  # type: ignore[no-any-return]


class SetReadout(nn.Module):
    """The end of a network on sets alone: a layer of every element, their sum, a layer of that."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.last, self.first = nn.Linear(width, width), nn.Linear(width, 64)

    def forward(self, x: Tensor) -> Tensor:
        """[1, elements, width] → [1, 64]."""
        return self.first(self.last(x).sum(1)).relu()  # type: ignore[no-any-return]


class Messages(nn.Module):
    """The first layer of the messages of an equivariant graph network (Satorras et al., 2021)."""

    ends: Tensor

    def __init__(self, nodes: int, edges: int, width: int) -> None:
        super().__init__()
        drawn = torch.Generator().manual_seed(0)
        self.register_buffer("ends", torch.randint(nodes, (2, edges), generator=drawn))
        self.layer = nn.Linear(2 * width + 1, width)

    def forward(self, h: Tensor, distances: Tensor) -> Tensor:
        """[nodes, d], [edges, 1] → [edges, d]."""
        return F.silu(self.layer(torch.cat([h[self.ends[0]], h[self.ends[1]], distances], -1)))


class Points(nn.Module):
    """Features of points beside one of their cloud, mixed (Qi et al., 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1088, 512, 1)

    def forward(self, cloud: Tensor, points: Tensor) -> Tensor:
        """[1, 1024], [1, 64, n] → [1, 512, n]."""
        everywhere = cloud.view(1, 1024, 1).repeat(1, 1, points.shape[2])
        return self.conv(torch.cat([everywhere, points], 1)).relu()  # type: ignore[no-any-return]


def cases() -> dict[str, tuple[nn.Module, tuple[Tensor, ...]]]:
    """The models with their inputs, by what the table calls them."""
    torch.manual_seed(0)

    def image(channels: int, size: int) -> Tensor:
        return torch.randn(1, channels, size, size)

    stages = tuple(image(c, s) for c, s in ((32, 128), (64, 64), (160, 32), (256, 16)))
    return {
        "bilinear ×4, 1×1 (256 → 21), 32²": (Enlarged("bilinear"), (image(256, 32),)),
        "nearest ×4, 1×1 (256 → 21), 32²": (Enlarged("nearest"), (image(256, 32),)),
        "1×1 (512 → 1000), global pooling, 14²": (Pooled(nn.Identity()), (image(512, 14),)),
        "DenseNet-121, transition 1, 56²": (transition(256), (image(256, 56),)),
        "DenseNet-121, transition 2, 28²": (transition(512), (image(512, 28),)),
        "DenseNet-121, transition 3, 14²": (transition(1024), (image(1024, 14),)),
        "SegFormer-B0, decode head, 512² image": (Head(), stages),
        "scatter to one segment, 1024 × 64": (Readout(1024, 1), (torch.randn(1024, 64),)),
        "scatter to 16 segments, 1024 × 64": (Readout(1024, 16), (torch.randn(1024, 64),)),
        "DeepSets readout, n = 1024, d = 128": (SetReadout(128), (torch.randn(1, 1024, 128),)),
        "DeepSets of 16 numbers, n = 1024, d = 128": (DeepSet(16, 128), (torch.randn(1, 1024, 16),)),
        "messages, 64 nodes, 1024 edges, d = 64": (
            Messages(64, 1024, 64),
            (torch.randn(64, 64), torch.rand(1024, 1)),
        ),
        "PointNet, 1088 → 512, 1024 points": (Points(), (torch.randn(1, 1024), torch.randn(1, 64, 1024))),
        "control: 1×1, relu, global pooling, 14²": (Pooled(nn.ReLU()), (image(512, 14),)),
    }


def randomise(model: nn.Module) -> nn.Module:
    """`model` with statistics and factors of its batch norms that are not those of the start."""
    for part in model.modules():
        if (
            isinstance(part, nn.BatchNorm2d)
            and part.running_mean is not None
            and part.running_var is not None
        ):
            nn.init.normal_(part.running_mean, std=0.5)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.5)
    return model.eval()


@dataclass
class Measured:
    """One model before and after."""

    nodes: tuple[int, int]
    latency: Latency
    difference: float
    """Largest difference of an output over its largest value."""

    @property
    def ratio(self) -> float:
        """How many times as fast the result is."""
        return 1 / self.latency.ratio


def measured(model: nn.Module, inputs: tuple[Tensor, ...], folder: Path) -> Measured:
    """The model exported as it is and compiled, both run in turn."""
    before, after = folder / "before.onnx", folder / "after.onnx"
    export(model, inputs, before)
    tdsl.compile(model, inputs, output=after)
    nodes = tuple(len(onnx.load(path, load_external_data=False).graph.node) for path in (before, after))
    sessions = session(before), session(after)
    feeds = [
        {given.name: value.numpy() for given, value in zip(one.get_inputs(), inputs, strict=True)}
        for one in sessions
    ]
    first, second = (one.run(None, feed)[0] for one, feed in zip(sessions, feeds, strict=True))
    difference = float(np.abs(first - second).max() / np.abs(first).max())
    del sessions
    latency = session_latency(lambda: session(before), lambda: session(after), inputs, budget=6)
    return Measured((nodes[0], nodes[1]), latency, difference)


def main() -> None:
    """Measure every model, print the table and write it down."""
    rows = []
    for name, (model, inputs) in cases().items():
        with tempfile.TemporaryDirectory() as folder:
            found = measured(randomise(model), inputs, Path(folder))
        rows.append(
            (
                name,
                f"{found.nodes[0]} → {found.nodes[1]}",
                f"{found.latency.original_ms:.3f}",
                f"{found.latency.result_ms:.3f}",
                f"{found.ratio:.1f}×",
                f"{found.difference:.0e}",
            )
        )
        print(" | ".join(rows[-1]), flush=True)
    header = ("model", "nodes", "ms before", "ms after", "speed", "largest difference")
    about = (__doc__ or "").split("\n\n")[2].replace("\n", " ")
    write_section("mixing", f"## Layers moved past sums\n\n{about}\n\n{table(header, rows)}\n\n{machine()}")


if __name__ == "__main__":
    main()
