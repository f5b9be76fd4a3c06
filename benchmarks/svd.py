"""Truncated SVD of a large weight: tdsl's against `torch.svd_lowrank`, on a spectrum whose optimum is known.

    make bench ONLY=svd                                   # 4096 × 4096, ranks 512 and 256
    python -m benchmarks.svd --size 2048 --rank 128 --rounds 5

Both run in turn, round by round; seconds are medians. The weight is float32 with singular values i^-0.6 and
random singular vectors, so that the best error of each rank is known. The errors are those of the factors
that come back, formed and subtracted in float64.

A dense layer of that weight is compiled to each rank as well, from the model to a file that was run against
the original, in a process of its own: memory is what the process takes at most beyond what it has in use once
the model is there, in sizes of the model.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor, nn

import tdsl
from benchmarks.compile import apart
from benchmarks.crepe import forget_peak, used
from benchmarks.harness import machine, table, write_section
from tdsl.engine.library import Library
from tdsl.factor.matrix import truncate_randomized
from tdsl.lang import parse

DECAY = 0.6
PIPELINE = """
pipeline truncated(rank: Rank) {
    once factorize.linear.svd_linear(rank = rank)
    check error <= 100%
}
"""


def planted(size: int) -> Tensor:
    """A float32 matrix [size, size] with singular values i^-DECAY."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(size, size, generator=generator)).Q for _ in range(2))
    return (left * singular_values(size).float()) @ right.T


def singular_values(size: int) -> Tensor:
    """Those of `planted`, descending, float64."""
    return torch.arange(1, size + 1, dtype=torch.float64) ** -DECAY


def low_rank(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Factors by `torch.svd_lowrank` with 64 columns more than wanted and 4 iterations, in float32."""
    left, values, right = torch.svd_lowrank(weight, q=rank + 64, niter=4)
    return left[:, :rank] * values[:rank], right[:, :rank].T


def ours(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Factors by the function under test, without its memory."""
    found = truncate_randomized.__wrapped__(weight, rank)  # type: ignore[attr-defined]
    return found.left * found.values, found.right


def compiled(layer: nn.Linear, rank: int) -> None:
    """A dense layer in two factors, written to a file that is thrown away."""
    library = Library()
    library.add_file(parse(PIPELINE, "bench"), "")
    with tempfile.TemporaryDirectory() as folder:
        tdsl.compile(
            layer.eval(),
            torch.ones(4, layer.in_features),
            dynamic_shapes=({0: "batch"},),
            pipeline="truncated",
            parameters={"rank": rank},
            rules=library,
            latency=False,
            output=Path(folder, "model.onnx"),
        )


def memory(size: int, rank: int) -> float:
    """What compiling a layer of `planted` weights takes at most, in sizes of the layer."""
    torch.set_num_threads(1)
    compiled(nn.Linear(64, 64), 8)  # all that it needs is imported
    layer = nn.Linear(size, size)
    layer.weight.data = planted(size)
    forget_peak()
    before = used()
    compiled(layer, rank)
    return (used() - before) / sum(weight.nbytes for weight in layer.parameters())


METHODS = {"tdsl": ours, "torch.svd_lowrank": low_rank}


def main() -> None:
    """Measure both methods at every rank, print the table and write it down."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--size", type=int, default=4096)
    arguments.add_argument("--rank", type=int, action="append", help="may be given several times")
    arguments.add_argument("--rounds", type=int, default=3)
    given = arguments.parse_args()
    weight = planted(given.size)
    values = singular_values(given.size)
    rows = []
    taken = {}
    for rank in given.rank or [512, 256]:
        taken[rank] = apart(memory, given.size, rank)
        best = float(values[rank:].norm() / values.norm())
        seconds: dict[str, list[float]] = {name: [] for name in METHODS}
        errors: dict[str, float] = {}
        for _ in range(given.rounds):
            for name, method in METHODS.items():
                start = time.perf_counter()
                left, right = method(weight, rank)
                seconds[name].append(time.perf_counter() - start)
                if name not in errors:
                    exact = weight.double()
                    errors[name] = float((exact - left.double() @ right.double()).norm() / exact.norm())
        medians = {name: statistics.median(taken) for name, taken in seconds.items()}
        for name in METHODS:
            over, ratio = errors[name] / best - 1, medians["torch.svd_lowrank"] / medians[name]
            rows.append(
                (
                    f"{given.size}²",
                    str(rank),
                    name,
                    f"{errors[name]:.5f}",
                    f"{over:.3%}",
                    f"{medians[name]:.2f}",
                    f"{ratio:.2f}×",
                )
            )
            print(" | ".join(rows[-1]), flush=True)
    header = ("weight", "rank", "method", "error", "above the optimum", "seconds", "speed")
    about, compiling = (part.replace("\n", " ") for part in (__doc__ or "").split("\n\n")[2:])
    most = table(
        ("layer", "rank", "memory"), [(f"{given.size}²", str(r), f"{m:.1f}") for r, m in taken.items()]
    )
    write_section(
        "svd",
        f"## Truncated SVD of a large weight\n\n{about}\n\n{table(header, rows)}\n\n"
        f"{compiling}\n\n{most}\n\n{machine()}",
    )


if __name__ == "__main__":
    main()
