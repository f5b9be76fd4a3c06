"""The file that the exact pipeline emits, beside the plain export and what graph optimisers make of that.

    python -m benchmarks files

Every file runs in onnxruntime on one thread with all of its own optimisations. The optimisers run with the
interpreter of the peers' environment, which `make bench` builds; without it their columns stay empty.
"""

from __future__ import annotations

import logging
import math
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from zoo import ZOO

import tdsl
from benchmarks.compile import MODELS
from benchmarks.harness import SHORTEST, machine, session, table, write_section

PEERS = Path(__file__).parents[1] / ".venv-peers" / "bin"
OPTIMISERS = ("onnxslim", "onnxsim")
ROUNDS = 15


@dataclass(frozen=True)
class File:
    """What is told of a file."""

    nodes: int
    size: int
    seconds: float


def plain(model: nn.Module, args: tuple[Any, ...], axes: Any, path: Path) -> None:
    """torch's own export."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.onnx.export(model, args, dynamo=True, verbose=False, dynamic_shapes=axes or None)
    exported.save(path)


def optimised(source: Path, path: Path) -> None:
    """What onnxruntime would compute, saved before it chooses kernels of this machine."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 4
    onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def by_peer(name: str, source: Path, path: Path) -> bool:
    """What an optimiser writes; false when it is not there, or fails."""
    command = PEERS / name
    if not command.exists():
        return False
    done = subprocess.run([command, source, path], capture_output=True, timeout=300)
    return done.returncode == 0 and path.exists()


def timed(paths: Mapping[str, Path], args: Sequence[Tensor]) -> dict[str, float]:
    """Median seconds of one run of each file, the files in turn, each round in a new session.

    Where a session happens to put its buffers changes its speed by up to a factor of two, for as long as it
    lives. Seconds are those of the thread that computes, so that what else the machine does counts little.
    """
    found: dict[str, list[float]] = {name: [] for name in paths}
    order = list(paths)
    for turn in range(ROUNDS):
        for name in order[turn % len(order) :] + order[: turn % len(order)]:
            known = session(paths[name])
            inputs = {
                i.name: np.ascontiguousarray(a.numpy()) for i, a in zip(known.get_inputs(), args, strict=True)
            }
            for _ in range(3):
                start = time.thread_time()
                known.run(None, inputs)
                once = max(time.thread_time() - start, 1e-6)
            times = max(1, min(500, round(SHORTEST / once)))
            start = time.thread_time()
            for _ in range(times):
                known.run(None, inputs)
            found[name].append((time.thread_time() - start) / times)
    return {name: statistics.median(seconds) for name, seconds in found.items()}


def files(model: nn.Module, args: tuple[Any, ...], axes: Any, folder: Path) -> dict[str, File]:
    """The plain export, what others make of it, and ours."""
    paths = {name: folder / f"{name}.onnx" for name in ("plain", "onnxruntime", *OPTIMISERS, "tdsl")}
    plain(model, args, axes, paths["plain"])
    optimised(paths["plain"], paths["onnxruntime"])
    for name in OPTIMISERS:
        if not by_peer(name, paths["plain"], paths[name]):
            del paths[name]
    tdsl.compile(
        model, args, pipeline="exact", dynamic_shapes=axes or None, output=paths["tdsl"], latency=False
    )
    seconds = timed(paths, args)
    return {
        name: File(len(onnx.load(path, load_external_data=False).graph.node), size(path), seconds[name])
        for name, path in paths.items()
    }


def size(path: Path) -> int:
    """Bytes of a file, with the weights that it keeps beside itself."""
    beside = path.with_name(path.name + ".data")
    return path.stat().st_size + (beside.stat().st_size if beside.exists() else 0)


def main() -> None:
    """Measure every model and write the section of RESULTS.md."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    makers = {**MODELS, **{f"{name} (small)": make for name, make in ZOO.items()}}
    others = ("onnxruntime", *OPTIMISERS, "tdsl")
    rows = []
    ratios: dict[str, list[float]] = {name: [] for name in others}
    for name, make in makers.items():
        model, args, axes = make()
        with tempfile.TemporaryDirectory() as folder:
            found = files(model, args, axes, Path(folder))
        base = found["plain"]
        cells = [name, f"{base.nodes} / {base.size / 1e3:.0f}"]
        for other in others:
            one = found.get(other)
            if one is None:
                cells.append("–")
                continue
            ratios[other].append(base.seconds / one.seconds)
            cells.append(f"{one.nodes} / {one.size / base.size:.3f} / {base.seconds / one.seconds:.2f}×")
        rows.append(tuple(cells))
        print(*cells, sep=" | ", flush=True)
    means = [math.exp(statistics.fmean(map(math.log, r))) if r else math.nan for r in ratios.values()]
    rows.append(("geometric mean", "", *(f"{mean:.3f}×" for mean in means)))
    text = f"""
## Emitted files, exact rules alone

Operators / kB of the plain export; operators / bytes relative to it / speed relative to it, of what others
make of that file and of what `tdsl.compile` under `exact` emits. Files run in turn in onnxruntime on one
thread, all its optimisations on; medians of {ROUNDS} rounds, each in a new session.

{table(("model", "plain export", *others), rows)}

{machine("onnx")}
"""
    write_section("files", text)


if __name__ == "__main__":
    main()
