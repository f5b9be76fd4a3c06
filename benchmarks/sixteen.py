"""Sixteen small graphs in which a symmetry action provably disappears: how many operators optimisers leave.

    python -m benchmarks sixteen

Each graph (`sixteen_graphs.py`) is exported plainly, optimised by onnxruntime (all levels, the graph it
saves) and by onnxslim and onnxsim where they can be imported, and compiled by tdsl. Counted are the operators
of the ONNX files, constants not. `equal` says whether tdsl's file gives the original's numbers to rounding on
two random inputs; `speed` is the time of the plain export over that of tdsl's file in onnxruntime on one
thread, medians of runs in turn.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import onnx
import onnxruntime
import torch

import tdsl
from benchmarks.harness import export, latencies, machine, session, table, write_section
from benchmarks.sixteen_graphs import Graph, sixteen

ROUNDING = 1e-5
"""Largest difference of float32 outputs, relative to the largest of them."""


def operators(model: onnx.ModelProto) -> int:
    """The operators of a file that are not constants."""
    return sum(node.op_type != "Constant" for node in model.graph.node)


def by_onnxruntime(path: Path) -> onnx.ModelProto:
    """What onnxruntime makes of a file before it runs it."""
    saved = path.with_suffix(".ort.onnx")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.optimized_model_filepath = str(saved)
    options.log_severity_level = 4
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return onnx.load(saved)


def by_onnxslim(path: Path) -> onnx.ModelProto:
    """onnxslim's simplification of a file."""
    found: onnx.ModelProto = importlib.import_module("onnxslim").slim(onnx.load(path))
    return found


def by_onnxsim(path: Path) -> onnx.ModelProto:
    """onnxsim's simplification of a file. Raises `RuntimeError` where its own check fails."""
    found, right = importlib.import_module("onnxsim").simplify(onnx.load(path))
    if not right:
        raise RuntimeError("onnxsim's result differs from the original")
    simplified: onnx.ModelProto = found
    return simplified


def peers() -> Mapping[str, Callable[[Path], onnx.ModelProto]]:
    """The optimisers that are here, by name."""
    every = {"onnxslim": by_onnxslim, "onnxsim": by_onnxsim}
    return {
        "onnxruntime": by_onnxruntime,
        **{name: function for name, function in every.items() if importlib.util.find_spec(name)},
    }


def equal(graph: Graph, path: Path) -> bool:
    """Whether a file gives the module's numbers on two random inputs, to rounding; the numbers must vary."""
    known, outputs = session(path), []
    for seed in range(2):
        x = torch.randn(graph.example.shape, generator=torch.Generator().manual_seed(seed))
        (found,) = known.run(None, {known.get_inputs()[0].name: x.numpy()})
        with torch.no_grad():
            expected = graph.module(x)
        if (torch.from_numpy(found) - expected).abs().max() > ROUNDING * expected.abs().max():
            return False
        outputs.append(expected)
    return bool((outputs[0] - outputs[1]).abs().max() > 0.01 * outputs[0].abs().max())


def row(graph: Graph, number: int, folder: Path) -> tuple[tuple[str, ...], bool]:
    """The line of one graph, and whether tdsl leaves what has to be, with equal numbers."""
    plain, ours = folder / f"{number}.plain.onnx", folder / f"{number}.onnx"
    export(graph.module, graph.example, plain)
    result = tdsl.compile(graph.module, (graph.example,), latency=False, output=ours)
    counts = []
    for optimise in peers().values():
        with contextlib.redirect_stdout(io.StringIO()):
            try:
                counts.append(str(operators(optimise(plain))))
            except Exception as reason:  # whatever a peer raises is its result
                counts.append(type(reason).__name__)
    found, right = operators(result.onnx), equal(graph, ours)
    seconds = latencies({"plain": plain, "ours": ours}, graph.example)
    cells = (
        graph.name,
        str(operators(onnx.load(plain))),
        *counts,
        str(found),
        str(graph.ideal),
        "yes" if right else "no",
        f"{seconds['plain'] / seconds['ours']:.2f}×",
    )
    return cells, right and found == graph.ideal


def main() -> None:
    """Compile all of them, print the table and write it down."""
    with tempfile.TemporaryDirectory() as folder:
        lines = [row(graph, i, Path(folder)) for i, graph in enumerate(sixteen())]
    ideal = sum(reached for _, reached in lines)
    header = ("graph", "plain export", *peers(), "tdsl", "ideal", "equal", "speed")
    about = (__doc__ or "").split("\n\n")[2].replace("\n", " ").strip()
    counted = f"tdsl reaches the ideal on {ideal} of {len(lines)}."
    text = f"{table(header, [cells for cells, _ in lines])}\n\n{counted}"
    packages = [name for name in peers() if name != "onnxruntime"]
    write_section("sixteen", f"## Actions that disappear\n\n{about}\n\n{text}\n\n{machine(*packages)}")


if __name__ == "__main__":
    main()
