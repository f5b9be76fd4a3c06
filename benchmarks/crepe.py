"""CREPE full, with its real weights, made small and fast: bytes, latency and pitch error, before and after.

    python -m benchmarks crepe

Compiled as fast as an error budget allows, from tones that the judged ones are not among. Before is the
plain export by `torch.onnx.export`. Latencies are medians of runs in turn, on one thread of onnxruntime;
the pitch error is the median over 512 held-out tones of known pitch; the memory is what the process that
compiles takes at most, beyond what it has in use once everything is imported and the model is loaded, in
sizes of the model: until the rewriting is done, and until the file is written.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import multiprocessing
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import crepe

import tdsl
from benchmarks.harness import export, latencies, machine, session, table, write_section
from tdsl.engine.library import Library
from tdsl.lang import parse
from tdsl.memory import give_back

PIPELINE = """
pipeline fast(drop: Ratio = 5%) {
    repeat cleanup.*, layout.*, fold.* until stable
    choose factorize.conv_data.whitened_input(rank=6.25%), factorize.conv_data.whitened_input(rank=12.5%),
            factorize.conv_data.whitened_input(rank=25%), factorize.conv_data.whitened_tucker2(rank=6.25%),
            factorize.conv_data.whitened_tucker2(rank=12.5%), factorize.conv_data.whitened_tucker2(rank=25%)
        minimize latency
        subject to bytes <= 70%, error <= drop
    heal least_squares
    repeat cleanup.*, fold.* until stable
    quantize f16
    check error <= drop
}
"""
"""Few ranks are tried, since everything here is tried on a model that takes long to run."""
BUDGETS = (0.05,)
CALIBRATION, JUDGED = 128, 512
"""Tones to compile from and tones to judge by."""
BATCHES = (1, 16)
"""Frames at once of which latencies are measured."""
KILOBYTE = 1024 if sys.platform != "darwin" else 1


@dataclass(frozen=True)
class Made:
    """What a compilation left, and what it took."""

    path: Path
    seconds: float
    error: float
    memory: tuple[float, float]
    """Most bytes that were in use beyond those before, until the rewriting was done, and until the end."""
    notes: tuple[str, ...] = ()


def used() -> int:
    """The most bytes of memory that this process has used since `forget_peak`."""
    status = Path("/proc/self/status")
    if status.exists():  # what `getrusage` says begins with what the parent used
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KILOBYTE


def forget_peak() -> None:
    """Let `used` begin anew with what is in use now, where the system (Linux) can."""
    gc.collect()
    give_back()
    peak = Path("/proc/self/clear_refs")
    if peak.exists():
        peak.write_text("5")


def compiled(pipeline: str, parameters: dict[str, float], path: Path) -> Made:
    """CREPE full by a pipeline. For a process of its own, whose memory is measured."""
    torch.set_num_threads(1)
    library = Library()
    library.add_file(parse(PIPELINE, "bench"), "")
    known = [(batch,) for batch in crepe.tones(CALIBRATION, seed=1)[0].split(16)]

    peaks: dict[str, int] = {}

    def make(
        model: tuple[nn.Module, tuple[Tensor, ...], dict[str, Any]], parameters: dict[str, float]
    ) -> tdsl.Result:
        network, args, dynamic_shapes = model
        return tdsl.compile(
            network,
            args,
            dynamic_shapes=dynamic_shapes,
            pipeline=pipeline,
            latency=False,
            parameters=parameters,
            rules=library,
            calibration=known,
            output=path,
            progress=lambda stage: peaks.setdefault(stage, used()),
        )

    with contextlib.suppress(tdsl.TdslError):  # whatever it comes to, everything is imported then
        make(crepe.tiny(), dict.fromkeys(parameters, 0.9))
    model = crepe.full()
    peaks.clear()
    forget_peak()
    before, start = used(), time.perf_counter()
    result = make(model, parameters)
    seconds, memory = time.perf_counter() - start, (peaks["emit"] - before, used() - before)
    notes = tuple(note.text for note in result.report.notes if note.kind == "plan")
    return Made(path, seconds, _error(result), memory, notes)


def _error(result: tdsl.Result) -> float:
    """The relative error of the output on held-out samples."""
    return next(group.metrics.error for group in result.report.correctness.errors if group.decides)


def apart(pipeline: str, parameters: dict[str, float], path: Path) -> Made:
    """`compiled` in a fresh process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(compiled, pipeline, parameters, path).result()


def pitch_error(path: Path) -> float:
    """That of a file, in cents."""
    runner = session(path)
    name = runner.get_inputs()[0].name

    def heard(frames: Tensor) -> Tensor:
        return torch.from_numpy(runner.run(None, {name: frames.numpy()})[0])

    return crepe.pitch_error(heard, JUDGED)


def size(path: Path) -> int:
    """Bytes of a file and of the weights beside it."""
    return sum(part.stat().st_size for part in path.parent.glob(f"{path.name}*"))


def main() -> None:
    """Compile, measure, print the table and write it down."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--budget", type=float, action="append", help="an error budget, 0.05 for example")
    given = parser.parse_args()
    torch.set_num_threads(1)
    network, _, _ = crepe.full()
    numbers = 4 * sum(weight.numel() for weight in network.parameters())
    frames = crepe.tones(max(BATCHES), seed=3)[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plain = {batch: folder / f"plain.{batch}.onnx" for batch in BATCHES}
        for batch, path in plain.items():
            export(network, frames[:batch], path)
        todo = {f"fast, {100 * b:g} %": ("fast", {"drop": b}) for b in given.budget or BUDGETS}
        todo = {"edge": ("pipelines.edge", {}), **todo}
        made = {}
        for number, (label, (pipeline, parameters)) in enumerate(todo.items()):
            made[label] = apart(pipeline, parameters, folder / f"{number}.onnx")
            print(label, made[label], file=sys.stderr, flush=True)
        found = {
            batch: latencies(
                {"plain": plain[batch], **{label: made[label].path for label in made}}, frames[:batch], 15
            )
            for batch in BATCHES
        }
        with torch.no_grad():
            expected = crepe.pitch_error(network, JUDGED)
        whole = size(plain[1])
        rows = [
            ["plain export", f"{whole / 1e6:.1f}", "100 %"]
            + [cell for b in BATCHES for cell in (f"{1e3 * found[b]['plain']:.1f}", "1.00×")]
            + [f"{expected:.2f}", "–", "–", "–"]
        ]
        for label, one in made.items():
            bytes_ = size(one.path)
            rows.append(
                [f"`{label}`" if label == "edge" else label, f"{bytes_ / 1e6:.1f}"]
                + [f"{100 * bytes_ / whole:.1f} %"]
                + [
                    cell
                    for b in BATCHES
                    for cell in (
                        f"{1e3 * found[b][label]:.1f}",
                        f"{found[b]['plain'] / found[b][label]:.2f}×",
                    )
                ]
                + [f"{pitch_error(one.path):.2f}", f"{100 * one.error:.2f} %"]
                + [f"{one.seconds:.0f}", " / ".join(f"{peak / numbers:.1f}" for peak in one.memory)]
            )
    header = ["", "MB", "of plain"]
    header += [cell for b in BATCHES for cell in (f"ms, {b} frame{'s' * (b > 1)}", "speed")]
    header += ["pitch error, cents", "error", "seconds to compile", "memory"]
    said = [f"* {label}: {note}" for label, one in made.items() for note in one.notes]
    text = f"{table(header, rows)}\n\nWhat the plans say:\n\n" + "\n".join(said)
    if given.budget:
        print(text)
    else:
        about = __doc__.split("\n\n")[2].replace("\n", " ")
        write_section("crepe", f"## A pitch tracker made small and fast\n\n{about}\n\n{text}\n\n{machine()}")


if __name__ == "__main__":
    main()
