"""all-MiniLM-L6-v2 with fewer numbers in its dense layers: what its embeddings keep, by method.

    python -m benchmarks minilm

Sentences are those of the docstrings of Python's standard library: 1 000 to calibrate, 2 000 others to judge.
Sizes are shares of the parameters of the 36 dense layers (10.6 M of 22.6 M; embeddings stay as they are).
Judged by the mean cosine to the original embedding and the overlap of the ten nearest neighbours. No method
sees a label or trains; ours and the whitened ones see the calibration sentences.
"""

from __future__ import annotations

import argparse
import ast
import random
import sys
import sysconfig
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, fx, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import minilm

from benchmarks.harness import machine, table, write_section
from tdsl.capture import Captured, capture
from tdsl.engine.census import census, copied
from tdsl.engine.journal import Journal
from tdsl.engine.library import Library
from tdsl.lang import parse
from tdsl.prepare import prepare
from tdsl.sweeper import sweep

SIZES = (0.9, 0.75, 0.6, 0.5)
TARGETS = (0.995, 0.98, 0.955, 0.92)
CALIBRATION, JUDGED = 1000, 2000
NEIGHBOURS = 10
FEED_FORWARD = 2 / 3
"""Share of the dense parameters that are in the feed-forward layers."""

PIPELINES = """
pipeline plain(rank: Rank) {
    repeat cleanup.*, layout.*, fold.* until stable
    once factorize.linear.svd_linear(rank=rank)
    check error <= 1000%
}

pipeline whitened(rank: Rank) {
    repeat cleanup.*, layout.*, fold.* until stable
    once factorize.linear.whitened_linear(rank=rank)
    check error <= 1000%
}

pipeline neurons(rank: Rank) {
    repeat cleanup.*, layout.*, fold.* until stable
    once factorize.linear.interpolative_neurons(rank=rank)
    check error <= 1000%
}

pipeline planned {
    repeat cleanup.*, layout.*, fold.* until stable
    choose
            factorize.linear.interpolative_neurons_weighted,
            factorize.attention.query_key,
            factorize.attention.value_output_weighted
        minimize error
        subject to parameters <= 50%
    check error <= 1000%
}

pipeline healed {
    repeat cleanup.*, layout.*, fold.* until stable
    choose
            factorize.linear.interpolative_neurons_weighted,
            factorize.attention.query_key,
            factorize.attention.value_output_weighted
        minimize error
        subject to parameters <= 50%
    heal least_squares
    check error <= 1000%
}
"""
UNIFORM: dict[str, tuple[str, Callable[[float], float]]] = {
    "plain SVD, one ratio": ("plain", lambda size: size),
    "whitened SVD, one ratio": ("whitened", lambda size: size),
    "neurons removed, one ratio": ("neurons", lambda size: 1 - (1 - size) / FEED_FORWARD),
}
PLANNED = {"tdsl, planned": "planned", "tdsl, planned and healed": "healed"}


def sentences(count: int) -> list[str]:
    """That many sentences of the standard library's docstrings, in an order fixed by a seed."""
    found: set[str] = set()
    for path in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        if {"site-packages", "test", "tests"} & set(path.parts):
            continue
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                found.update(minilm._prose(ast.get_docstring(node) or ""))
    ordered = sorted(found)
    random.Random(0).shuffle(ordered)
    return ordered[:count]


def batches(items: Sequence[str], size: int) -> list[tuple[Tensor, ...]]:
    """Sentences of like length together, the batches in an order fixed by a seed."""
    ordered = sorted(items, key=len)
    made = [minilm.tokenise(ordered[i : i + size]) for i in range(0, len(ordered), size)]
    random.Random(1).shuffle(made)
    return made


class Judge:
    """Holds embeddings against the original's."""

    def __init__(self, model: nn.Module, judged: Sequence[tuple[Tensor, ...]]) -> None:
        self.judged = judged
        self.expected = self.embed(model)
        self.near = self._nearest(self.expected)

    def embed(self, model: nn.Module) -> Tensor:
        """The embedding of every judged sentence, a row each."""
        with torch.no_grad():
            return torch.cat([model(*batch) for batch in self.judged])

    def score(self, model: nn.Module) -> tuple[float, float]:
        """Mean cosine to the original embedding, and share of the ten nearest neighbours that stay."""
        found = self.embed(model)
        cosine = torch.nn.functional.cosine_similarity(self.expected, found).mean()
        kept = (self._nearest(found)[:, :, None] == self.near[:, None, :]).any(2).float().mean()
        return float(cosine), float(kept)

    def _nearest(self, rows: Tensor) -> Tensor:
        similar = rows @ rows.T
        return similar.fill_diagonal_(-torch.inf).topk(NEIGHBOURS).indices


def dense_parameters(module: nn.Module) -> int:
    """Numbers in the matrices of a module that are not embeddings."""
    return sum(p.numel() for n, p in module.named_parameters() if p.dim() == 2 and "embeddings" not in n)


def main() -> None:
    """Run every method at every size, write the section of RESULTS.md."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", type=lambda text: tuple(map(float, text.split(","))), default=SIZES)
    parser.add_argument("--only", help="a method whose name begins so")
    chosen = parser.parse_args()
    model, args, dynamic = minilm.model()
    texts = sentences(CALIBRATION + JUDGED)
    known = batches(texts[:CALIBRATION], 16)
    judge = Judge(model, batches(texts[CALIBRATION:], 32))
    captured = capture(model, args, dynamic_shapes=dynamic)
    library = Library()
    library.add_file(parse(PIPELINES, "bench"), "")
    dense, whole = dense_parameters(model), census(captured.module).parameters
    results: dict[str, dict[float, tuple[float, float, float]]] = {}
    seconds: dict[str, float] = {}

    def wanted(name: str) -> bool:
        return chosen.only is None or name.startswith(chosen.only)

    def record(name: str, size: float, module: fx.GraphModule) -> None:
        left = dense_parameters(module) / dense
        assert left <= size + 0.02, f"{name} at {size} keeps {left}"
        results.setdefault(name, {})[size] = (*judge.score(module), left)
        print(name, size, *(f"{value:.4f}" for value in results[name][size]), flush=True)

    for name, (pipeline, ratio) in UNIFORM.items():
        start = time.perf_counter()
        for size in chosen.sizes if wanted(name) else ():
            record(name, size, rewritten(captured, library, pipeline, ratio(size), known))
        seconds[name] = time.perf_counter() - start
    for name, pipeline in PLANNED.items():
        if not wanted(name):
            continue
        start = time.perf_counter()
        shares = {1 - (1 - size) * dense / whole: size for size in chosen.sizes}
        sweep(
            captured,
            pipeline=pipeline,
            rules=library,
            calibration=known,
            shares=tuple(shares),
            visit=lambda share, module, name=name, shares=shares: record(name, shares[share], module),
        )
        seconds[name] = time.perf_counter() - start
    write_section("minilm", section(results, seconds, chosen.sizes))


def rewritten(
    captured: Captured, library: Library, pipeline: str, rank: float, known: Sequence[tuple[Tensor, ...]]
) -> fx.GraphModule:
    """The model under one of the pipelines with one ratio everywhere."""
    prepared = prepare(
        captured, pipeline=pipeline, parameters={"rank": rank}, rules=library, calibration=known
    )
    module = copied(captured.module)
    prepared.runner.run(module, Journal())
    return module


def section(
    results: dict[str, dict[float, tuple[float, float, float]]],
    seconds: dict[str, float],
    sizes: Sequence[float],
) -> str:
    """The table of the results, targets first."""
    rows = [["target", *(f"{t:.3f}" for s, t in zip(SIZES, TARGETS, strict=True) if s in sizes), ""]]
    for name, found in results.items():
        cells = [f"{found[s][0]:.4f} / {found[s][1]:.3f}" if s in found else "" for s in sizes]
        rows.append([name, *cells, f"{seconds[name]:.0f}"])
    header = ["share of the dense parameters", *(f"{s:g}" for s in sizes), "seconds"]
    return "\n".join(
        [
            "## MiniLM: embeddings kept by method",
            "",
            f"Mean cosine to the original embedding / overlap of the {NEIGHBOURS} nearest neighbours, on "
            f"{JUDGED} sentences that nothing was computed from; {CALIBRATION} others calibrate.",
            "",
            table(header, rows),
            "",
            machine("transformers"),
        ]
    )


if __name__ == "__main__":
    main()
