"""From a model to a verified file under the exact pipeline, beside a plain `torch.onnx.export` of it.

    python -m benchmarks compile

Wall seconds in one process on one thread, export and compilation in turn, after one run of each that warms
caches up; medians. Verification and the export of the original for comparison are reported apart: a plain
export does neither.
"""

from __future__ import annotations

import itertools
import logging
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import crepe
import minilm

import tdsl
from benchmarks.harness import machine, table, write_section

Made = tuple[nn.Module, tuple[Tensor, ...], dict[str, Any]]

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


def exported(model: nn.Module, args: tuple[Tensor, ...], axes: Mapping[str, Any]) -> float:
    """Seconds of a plain export; `axes` are those that vary, by input."""
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, args, dynamo=True, verbose=False, dynamic_shapes=axes or None)
    return time.perf_counter() - start


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
        ratios = [sum(run[s] for s in OURS) / plain for run, plain in zip(stages, exports, strict=True)]
        rows.append(
            (
                name,
                f"{statistics.median(exports):.2f}",
                *(f"{part[s]:.2f}" for s in OURS),
                f"{statistics.median(ratios):.2f}×",
                *(f"{part[s]:.2f}" for s in APART),
            )
        )
        print(*rows[-1], flush=True)
    header = ("model", "export", *OURS, "ratio", "verify", "original's export")
    text = f"""
## Compiling

Wall seconds of `tdsl.compile` under `exact`, stage by stage, and of `torch.onnx.export` (dynamo) of the
same model, in turn, medians of {ROUNDS}. The ratio is that of capture, rewriting and emission to the export;
a plain export neither verifies nor compares.

{table(header, rows)}

{machine("onnx", "onnxscript")}
"""
    write_section("compile", text)


if __name__ == "__main__":
    main()
