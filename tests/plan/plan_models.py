"""Small models for the tests of plans: inputs on few directions, a planted rank, a masked one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tdsl.capture import Captured, capture
from tdsl.engine.library import Library, standard_library
from tdsl.engine.strategy import Runner
from tdsl.lang import parse
from tdsl.plan.calibrate import Data
from tdsl.plan.latency import LatencyTable
from tdsl.planner import DataPlanner


def drawn(*sizes: int, seed: int = 0) -> Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(seed))


def decaying(rows: int, columns: int, power: float = 0.8, seed: int = 0) -> Tensor:
    """A matrix whose i-th singular value is i^-power."""
    left = torch.linalg.qr(drawn(rows, min(rows, columns), seed=seed)).Q
    right = torch.linalg.qr(drawn(columns, min(rows, columns), seed=seed + 1)).Q
    return (left * torch.arange(1, min(rows, columns) + 1) ** -power) @ right.T


class Perceptron(nn.Module):
    """Three dense layers; the middle one has a weight of rank `planted`. Without: spectra that decay."""

    def __init__(self, planted: int | None = 8) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(48, 96), nn.Linear(96, 96), nn.Linear(96, 24)
        with torch.no_grad():
            for number, layer in enumerate((self.first, self.middle, self.last)):
                rows, columns = layer.weight.shape
                layer.weight.copy_(drawn(rows, columns, seed=number) / columns**0.5)
                if planted is None:
                    layer.weight.copy_(2 * decaying(rows, columns, power=1.0, seed=30 + 2 * number))
                layer.bias.copy_(0.1 * drawn(rows, seed=20 + number))
            if planted is not None:
                low_rank = drawn(96, planted, seed=2) @ drawn(planted, 96, seed=3)
                self.middle.weight.copy_(low_rank / 20 / planted**0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.middle(torch.relu(self.first(x)))))


class Masked(nn.Module):
    """Tokens to a mean over those that are not padding."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 6)
        self.dense = nn.Linear(6, 5)
        with torch.no_grad():
            self.table.weight.copy_(drawn(20, 6, seed=5))
            self.dense.weight.copy_(drawn(5, 6, seed=6))

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        weight = mask[..., None].float()
        return (torch.tanh(self.dense(self.table(ids))) * weight).sum(1) / weight.sum(1)


def perceptron(planted: int | None = 8) -> Captured:
    return capture(Perceptron(planted).eval(), (drawn(4, 48),), dynamic_shapes={"x": {0: "batch"}})


def batches(count: int = 12, rows: int = 16, seed: int = 10) -> list[tuple[Tensor, ...]]:
    """Inputs most of whose energy lies on a few directions."""
    shape = decaying(48, 48, power=0.5, seed=7) * 5
    return [(drawn(rows, 48, seed=seed + i) @ shape,) for i in range(count)]


def planned(
    captured: Captured, pipeline: str, known: list[tuple[Tensor, ...]], table: LatencyTable | None = None
) -> tuple[Runner, DataPlanner]:
    """A runner of the only pipeline of a text, with its planner."""
    library = Library()
    library.add_file(parse(pipeline), "test")
    library = standard_library().extended(library)
    [name] = [n for n in library.pipelines if n.startswith("test.")]
    data = Data.of(captured, known[: len(known) * 3 // 4])
    judges = Data.of(captured, known[len(known) * 3 // 4 :])
    planner = DataPlanner(library, data, judges, table or LatencyTable())
    return Runner(library, library.pipelines[name], {}, planner), planner
