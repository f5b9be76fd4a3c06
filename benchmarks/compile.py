"""From a model to a verified file under the exact pipeline, beside a plain `torch.onnx.export` of it.

    python -m benchmarks compile

Wall seconds in one process on one thread, export and compilation in turn, after one run of each that warms
caches up; medians. Verification and the export of the original for comparison are reported apart: a plain
export does neither. Memory is measured in a process for each model, and start-up in one for each command.
"""

from __future__ import annotations

import gc
import itertools
import logging
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import crepe
import minilm

import tdsl
from benchmarks.crepe import forget_peak, used
from benchmarks.harness import machine, session, table, write_section

Made = tuple[nn.Module, tuple[Tensor, ...], dict[str, Any]]

COMMANDS = {
    "tdsl --help": ("--help",),
    "tdsl list": ("list",),
    "tdsl fmt of a file": ("fmt", "--check", "passes/fold/merge.tdsl"),
    "tdsl prove of the library, on record": ("prove",),
}
STARTS = 5

OURS = ("capture", "rewrite", "emit")
APART = ("verify", "compare with the original's export")
ROUNDS = 3


class Block(nn.Module):
    """A pre-norm transformer block with PyTorch's own attention; `causal` for a decoder."""

    def __init__(self, width: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[b, l, width] → [b, l, width]"""
        parts = self.qkv(self.norms[0](x)).chunk(3, dim=-1)
        q, k, v = (p.unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in parts)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.down(nn.functional.gelu(self.up(self.norms[1](x))))


class Vit(nn.Module):
    """A small vision transformer: 224 × 224 images in patches of 16, 12 blocks of width 192."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 192, 16, 16)
        self.places = nn.Parameter(torch.randn(1, 196, 192))
        self.blocks = nn.Sequential(*(Block(192, 3, causal=False) for _ in range(12)))
        self.norm, self.head = nn.LayerNorm(192), nn.Linear(192, 1000)

    def forward(self, image: Tensor) -> Tensor:
        """[b, 3, 224, 224] → [b, 1000]"""
        tokens = self.patches(image).flatten(2).transpose(1, 2) + self.places
        return self.head(self.norm(self.blocks(tokens)).mean(1))


class Decoder(nn.Module):
    """A small language model: 8 000 words, 8 blocks of width 256."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(8000, 256), nn.Embedding(128, 256)
        self.blocks = nn.Sequential(*(Block(256, 4, causal=True) for _ in range(8)))
        self.norm, self.head = nn.LayerNorm(256), nn.Linear(256, 8000, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        """[b, l] → [b, l, 8000]"""
        x = self.words(ids) + self.places(torch.arange(ids.shape[1]))
        return self.head(self.norm(self.blocks(x)))


def _vit() -> Made:
    return Vit().eval(), (torch.randn(1, 3, 224, 224),), {}


def _decoder() -> Made:
    return Decoder().eval(), (torch.randint(0, 8000, (1, 64)),), {}


MODELS: Mapping[str, Callable[[], Made]] = {
    "MiniLM": minilm.model,
    "CREPE full": crepe.full,
    "ViT": _vit,
    "decoder": _decoder,
}


def exported(
    model: nn.Module, args: tuple[Tensor, ...], axes: Mapping[str, Any], path: Path | None = None
) -> float:
    """Seconds of a plain export; `axes` are those that vary, by input."""
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = torch.onnx.export(model, args, dynamo=True, verbose=False, dynamic_shapes=axes or None)
    seconds = time.perf_counter() - start
    if path is not None:
        made.save(path)
    return seconds


def compiled(model: nn.Module, args: tuple[Tensor, ...], axes: Mapping[str, Any]) -> dict[str, float]:
    """Seconds of each stage of `tdsl.compile`."""
    marks: list[tuple[str, float]] = []
    tdsl.compile(
        model,
        args,
        pipeline="exact",
        latency=False,
        progress=lambda stage: marks.append((stage, time.perf_counter())),
        dynamic_shapes=axes or None,
    )
    return {name: end - start for (name, start), (_, end) in itertools.pairwise(marks)}


def memory(name: str) -> tuple[float, float, float]:
    """The most memory of compiling a model under `exact`, in sizes of the model, for a process of its own.

    Beyond what is in use once the model is loaded and was compiled before, so that everything is imported and
    caches are warm: until there is a file to verify, until it is written, and with latencies measured.
    """
    torch.set_num_threads(1)
    model, args, axes = MODELS[name]()
    weights = {id(w): w for w in (*model.parameters(), *model.buffers())}.values()
    whole = sum(w.numel() * w.element_size() for w in weights)
    peaks: dict[str, int] = {}

    def make(folder: str, latency: bool) -> int:
        gc.collect()
        forget_peak()
        before = used()
        tdsl.compile(
            model,
            args,
            pipeline="exact",
            latency=latency,
            dynamic_shapes=axes or None,
            output=Path(folder, "model.onnx"),
            progress=lambda stage: peaks.update({stage: used() - before}),
        )
        return used() - before

    with tempfile.TemporaryDirectory() as folder:
        make(folder, True)
        written = make(folder, False)
        emitted = peaks["verify"]
        timed = make(folder, True)
    return emitted / whole, written / whole, timed / whole


def opened(path: Path) -> int:
    """The most bytes that opening a file in onnxruntime takes, for a process of its own."""
    forget_peak()
    before = used()
    session(path)
    return used() - before


def apart(measure: Callable[..., Any], *args: Any) -> Any:
    """What `measure` gives in a fresh process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, *args).result()


def started(arguments: tuple[str, ...]) -> float:
    """Seconds of a command, in a process of its own."""
    start = time.perf_counter()
    program = Path(sys.executable).with_name("tdsl")
    subprocess.run(
        [program, *arguments], check=True, capture_output=True, cwd=Path(__file__).parents[1], env=os.environ
    )
    return time.perf_counter() - start


def main() -> None:
    """Measure every model and write the section of RESULTS.md."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    rows = []
    for name, make in MODELS.items():
        model, args, axes = make()
        exports, stages = [], []
        for turn in range(ROUNDS + 1):
            plain, ours = exported(model, args, axes), compiled(model, args, axes)
            if turn:  # the first of each loads libraries and fills caches
                exports.append(plain)
                stages.append(ours)
        part = {s: statistics.median(run.get(s, 0.0) for run in stages) for s in (*OURS, *APART)}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "plain.onnx")
            exported(model, args, axes, path)
            alone = apart(opened, path) / path.stat().st_size
        ratios = [sum(run[s] for s in OURS) / plain for run, plain in zip(stages, exports, strict=True)]
        rows.append(
            (
                name,
                f"{statistics.median(exports):.2f}",
                *(f"{part[s]:.2f}" for s in OURS),
                f"{statistics.median(ratios):.2f}×",
                *(f"{part[s]:.2f}" for s in APART),
                " / ".join(f"{peak:.1f}" for peak in apart(memory, name)),
                f"{alone:.1f}",
            )
        )
        print(*rows[-1], flush=True)
    header = ("model", "export", *OURS, "ratio", "verify", "original's export", "memory", "file alone")
    starts = [
        (f"`{name}`", f"{statistics.median(started(arguments) for _ in range(STARTS)):.2f}")
        for name, arguments in COMMANDS.items()
    ]
    text = f"""
## Compiling

Wall seconds of `tdsl.compile` under `exact`, stage by stage, and of `torch.onnx.export` (dynamo) of the
same model, in turn, medians of {ROUNDS}. The ratio is that of capture, rewriting and emission to the export;
a plain export neither verifies nor compares. Memory is the most that a process takes beyond what it has in
use with the model loaded and compiled once before, in sizes of the model: until there is a file to verify,
until it is written, and with the latencies of both files measured. Beside it the most that a process takes
for opening the file of the plain export in onnxruntime, and nothing else, in sizes of the file.

{table(header, rows)}

Seconds from the start of a process to its end, medians of {STARTS}:

{table(("command", "seconds"), starts)}

{machine("onnx", "onnxscript")}
"""
    write_section("compile", text)


if __name__ == "__main__":
    main()
