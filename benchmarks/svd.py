"""Truncated SVD of a large weight: tdsl's against `torch.svd_lowrank`, on a spectrum whose optimum is known.

    python benchmarks/svd.py                       # 4096 × 4096, ranks 512 and 256
    python benchmarks/svd.py --size 2048 --rank 128 --rounds 5

Both run in turn, round by round; seconds are medians. The weight is float32 with singular values i^-0.6 and
random singular vectors, so that the best error of each rank is known. The errors are those of the factors
that come back, formed and subtracted in float64.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch import Tensor

from tdsl.factor.matrix import truncate_randomized

DECAY = 0.6


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


def main() -> None:
    """Print one line for each rank."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--size", type=int, default=4096)
    arguments.add_argument("--rank", type=int, action="append", help="may be given several times")
    arguments.add_argument("--rounds", type=int, default=3)
    given = arguments.parse_args()
    weight = planted(given.size)
    values = singular_values(given.size)
    print(f"{'size':>6} {'rank':>5} {'optimum':>8} │ {'tdsl s':>7} {'error':>7} {'over':>7} │ ", end="")
    print(f"{'lowrank s':>9} {'error':>7} {'over':>7} │ {'time ratio':>10}")
    for rank in given.rank or [512, 256]:
        best = float(values[rank:].norm() / values.norm())
        seconds: dict[str, list[float]] = {"ours": [], "low_rank": []}
        errors: dict[str, float] = {}
        for _ in range(given.rounds):
            for name, method in (("ours", ours), ("low_rank", low_rank)):
                start = time.perf_counter()
                left, right = method(weight, rank)
                seconds[name].append(time.perf_counter() - start)
                if name not in errors:
                    exact = weight.double()
                    errors[name] = float((exact - left.double() @ right.double()).norm() / exact.norm())
        mine, theirs = (statistics.median(seconds[name]) for name in ("ours", "low_rank"))
        over = {name: f"{error / best - 1:.3%}" for name, error in errors.items()}
        print(f"{given.size:>6} {rank:>5} {best:>8.5f} │ {mine:>7.2f} {errors['ours']:>7.5f} ", end="")
        print(
            f"{over['ours']:>7} │ {theirs:>9.2f} {errors['low_rank']:>7.5f} {over['low_rank']:>7} │ ", end=""
        )
        print(f"{mine / theirs:>10.2f}", flush=True)


if __name__ == "__main__":
    main()
