"""What compiling with a plan takes: memory at the most, in sizes of the model, and seconds.

    python -m benchmarks planned
    python -m benchmarks.planned --only MiniLM

A plan by least error within a budget of parameters, recovery by least squares, verification, the written
file: `tdsl.compile` from end to end, in a process of its own on one thread. Memory is what the process takes
at most beyond what it has in use once everything is imported and the model is loaded, all its weights
read.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import minilm

import tdsl
from benchmarks.compile import MODELS, apart
from benchmarks.crepe import forget_peak, used
from benchmarks.harness import machine, table, write_section
from benchmarks.minilm import CALIBRATION, batches, dense_parameters, sentences
from benchmarks.models import TASKS, Block
from tdsl.engine.library import Library
from tdsl.lang import parse

PIPELINE = """
pipeline planned(size: Real) {{
    repeat cleanup.*, layout.*, fold.* until stable
    choose {rules}
        minimize error
        subject to parameters <= size
    heal least_squares
    check error <= 1000%
}}
"""
NARROWER = """factorize.linear.interpolative_neurons_weighted, factorize.attention.query_key,
            factorize.attention.value_output_weighted"""
"""Rules that shrink transformers without adding a layer."""
IMAGES = 96
STAGES = ("calibrate", "try", "plan", "heal", "emit", "verify", "compare with the original's export", "write")


@dataclass(frozen=True)
class Made:
    """A model, inputs to compile it from, and how small it is to become."""

    model: nn.Module
    args: tuple[Tensor, ...]
    axes: Any
    calibration: Sequence[tuple[Tensor, ...]]
    rules: str
    size: float
    """Numbers that are left at most."""


@dataclass(frozen=True)
class Measured:
    """What a compilation took: bytes by stage, at most, and seconds."""

    bytes: int
    peaks: Mapping[str, int]
    seconds: float
    sites: str


def _numbers(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


def _minilm() -> Made:
    model, args, axes = minilm.model()
    known = batches(sentences(CALIBRATION), 16)
    return Made(model, args, axes, known, NARROWER, _numbers(model) - dense_parameters(model) // 2)


def _vit() -> Made:
    model, (image,), _ = MODELS["ViT"]()
    known = [(one,) for one in torch.randn(IMAGES, *image.shape[1:]).split(8)]
    return Made(model, (known[0][0][:2],), ({0: "batch"},), known, NARROWER, 0.75 * _numbers(model))


def _transformer() -> Made:
    task = TASKS["transformer"]()
    left = _numbers(task.model) - (1 - task.ratio) * task.weights
    known = [(one,) for one in task.calibration]
    return Made(task.model, known[0], ({0: "batch"},), known, "factorize.linear.*", left)


def _tiny(rules: str) -> Made:
    """A block that becomes smaller by the same rules, so that all that they need is imported."""
    known = [(torch.randn(4, 16, 64),) for _ in range(16)]
    model = Block(64, 128, 4).eval()
    return Made(model, known[0], ({0: "batch"},), known, rules, 0.8 * _numbers(model))


PLANNED: Mapping[str, Callable[[], Made]] = {
    "MiniLM": _minilm,
    "ViT": _vit,
    "transformer": _transformer,
}


def compiled(made: Made, progress: Callable[[str], None]) -> tdsl.Result:
    """The model by its plan, written to a file that is thrown away."""
    library = Library()
    library.add_file(parse(PIPELINE.format(rules=made.rules), "bench"), "")
    with tempfile.TemporaryDirectory() as folder:
        return tdsl.compile(
            made.model,
            made.args,
            dynamic_shapes=made.axes,
            pipeline="planned",
            parameters={"size": made.size},
            rules=library,
            calibration=made.calibration,
            latency=False,
            output=Path(folder, "model.onnx"),
            progress=progress,
        )


def measured(name: str) -> Measured:
    """What compiling a model takes, for a process of its own."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    made = PLANNED[name]()
    compiled(_tiny(made.rules), lambda stage: None)
    weights = {id(w): w for w in (*made.model.parameters(), *made.model.buffers())}.values()
    for weight in weights:
        weight.detach().sum()  # those that are mapped from a file are in memory then
    forget_peak()
    before, start = used(), time.perf_counter()
    stage, peaks = "capture", {}

    def next_stage(said: str) -> None:
        nonlocal stage
        peaks[stage] = max(peaks.get(stage, 0), used() - before)
        forgotten = Path("/proc/self/clear_refs")
        if forgotten.exists():
            forgotten.write_text("5")
        stage = next((one for one in STAGES if said.startswith(one)), stage)

    result = compiled(made, next_stage)
    seconds = time.perf_counter() - start
    sites = next(note.text for note in result.report.notes if note.kind == "plan")
    return Measured(sum(w.numel() * w.element_size() for w in weights), peaks, seconds, sites)


def main() -> None:
    """Measure every model and write the section of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=tuple(PLANNED), help="one of the models; nothing is written down")
    only = parser.parse_args().only
    rows, said = [], []
    for name in [only] if only else PLANNED:
        found = apart(measured, name)
        share = {stage: f"{found.peaks[stage] / found.bytes:.1f}" for stage in STAGES}
        most = f"{max(found.peaks.values()) / found.bytes:.1f}"
        rows.append([name, f"{found.bytes / 1e6:.0f}", most, *share.values(), f"{found.seconds:.0f}"])
        said.append(f"* {name}: {found.sites}")
        print(*rows[-1], flush=True)
    header = ["model", "MB", "most", *(stage.split()[0] for stage in STAGES), "seconds"]
    about = __doc__.split("\n\n")[2].replace("\n", " ")
    listed = "\n".join(said)
    text = f"## Compiling with a plan\n\n{about}\n\n{table(header, rows)}\n\n{listed}\n\n{machine()}"
    if only:
        print(text)
    else:
        write_section("planned", text)


if __name__ == "__main__":
    main()
