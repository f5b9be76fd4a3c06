"""A residual network made as fast as an error budget allows: latency measured end to end, before and after.

    python -m benchmarks resnet

The network has the shape and the widths of ResNet-18, for images of 32 × 32, and synthetic weights with
decaying spectra (`models.py`). The plan minimizes the latency on this machine within a budget of error;
where no factorization pays, a layer is left alone, and the plan says so. The control is a network a sixteenth
as wide, whose layers are too small for much to pay.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import tdsl
from benchmarks.harness import export, latencies, machine, table, write_section
from benchmarks.models import Task, cnn
from tdsl.engine.library import Library
from tdsl.lang import parse
from tdsl.plan.latency import LatencyTable

PIPELINE = """
pipeline fast(drop: Ratio, limit: Ratio) {
    repeat cleanup.*, fold.* until stable
    choose factorize.conv_windows.*
        minimize latency
        subject to error <= drop
    heal least_squares
    check error <= limit
}
"""
BUDGETS = (0.05,)
SLACK = 2
"""The contract in budgets: held-out images are others than those that judge, and chance is in both."""
WIDTHS = (64, 128, 256, 512)


def compiled(task: Task, budget: float, folder: Path) -> tuple[tdsl.Result, Path, float]:
    """The model compiled within an error budget, its file, and the seconds that took."""
    library = Library()
    library.add_file(parse(PIPELINE, "bench"), "")
    path = folder / f"{budget}.onnx"
    start = time.perf_counter()
    result = tdsl.compile(
        task.model,
        (task.calibration[0],),
        dynamic_shapes=({0: "batch"},),
        pipeline="fast",
        parameters={"drop": budget, "limit": SLACK * budget},
        rules=library,
        calibration=task.calibration,
        held_out=task.held_out.split(4),
        profile=LatencyTable(sizes={"batch": len(task.example)}),
        output=path,
    )
    return result, path, time.perf_counter() - start


def rows(
    label: str, task: Task, budgets: tuple[float, ...], folder: Path
) -> tuple[list[tuple[str, ...]], list[str]]:
    """One row of the table for each budget, and what the plans say."""
    folder.mkdir()
    original = folder / "original.onnx"
    export(task.model, task.example, original)
    made = {budget: compiled(task, budget, folder) for budget in budgets}
    found = latencies({"original": original, **{str(b): made[b][1] for b in budgets}}, task.example)
    lines, notes = [], []
    for budget in budgets:
        result, _, seconds = made[budget]
        before, after = found["original"], found[str(budget)]
        error = next(group.metrics.error for group in result.report.correctness.errors if group.decides)
        lines.append(
            (
                label,
                f"{100 * budget:g} %",
                f"{100 * error:.2f} %",
                f"{1e3 * before:.3f}",
                f"{1e3 * after:.3f}",
                f"{before / after:.2f}×",
                f"{seconds:.0f}",
            )
        )
        notes += [f"* {label}, {100 * budget:g} %: {n.text}" for n in result.report.notes if n.kind == "plan"]
    return lines, notes


def main() -> None:
    """Compile at every budget, print the table and write it down."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--budget", type=float, action="append", help="an error budget, 0.05 for example")
    given = parser.parse_args()
    budgets = tuple(given.budget or BUDGETS)
    with tempfile.TemporaryDirectory() as folder:
        wide, said = rows("ResNet-18", cnn(WIDTHS, batches=24), budgets, Path(folder) / "wide")
        narrow = cnn(tuple(width // 16 for width in WIDTHS), batches=24)
        small, said_too = rows("1/16 as wide", narrow, budgets[:1], Path(folder) / "narrow")
    header = ("model", "error budget", "error", "ms before", "ms after", "speed", "seconds to compile")
    text = f"{table(header, [*wide, *small])}\n\nWhat the plans say:\n\n" + "\n".join([*said, *said_too])
    about = __doc__.split("\n\n")[2].replace("\n", " ")
    if given.budget:
        print(text)
    else:
        write_section("resnet", f"## A residual network made fast\n\n{about}\n\n{text}\n\n{machine()}")


if __name__ == "__main__":
    main()
