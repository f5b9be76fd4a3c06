"""all-MiniLM-L6-v2 with its weights in few bits: bytes, what embeddings keep, what loading and running cost.

    python -m benchmarks quantise

256 sentences calibrate, 200 others judge: those of `examples/minilm.py`. Each file is loaded and run by
onnxruntime on one thread in a process of its own, which says how long loading takes and how much memory it
needs at most; latencies are of the files in turn.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import minilm

from benchmarks.harness import SHORTEST, machine, session, table, write_section
from tdsl.capture import Captured, capture
from tdsl.emit import save
from tdsl.engine.census import copied
from tdsl.engine.journal import Journal
from tdsl.engine.library import Library
from tdsl.lang import parse
from tdsl.prepare import prepare
from tdsl.storing import Storing

STEPS = {
    "float32": "",
    "f16": "quantize f16",
    "int8, no data": "quantize int8",
    "int8": "quantize int8",
    "int8(fused=true)": "quantize int8(fused=true)",
    "int4, no data": "quantize int4",
    "int4": "quantize int4",
    "int4(fused=true)": "quantize int4(fused=true)",
    "codebook, no data": "quantize codebook",
    "codebook": "quantize codebook",
    "mixed": "quantize mixed",
}
"""Rows of the table, and the step that makes the file."""
PIPELINE = """
pipeline bench {
    repeat cleanup.*, layout.*, fold.* until stable
    bottom_up { repeat cleanup.*, merge.siblings.* until stable }
    %s
    check error <= 1000%%
}
"""
ROUNDS = 11

PROBE = """
import json, sys, time
import numpy as np, onnxruntime

def kept(key):
    return int(open("/proc/self/status").read().split(key)[1].split()[0]) / 1024

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
options.log_severity_level = 4
inputs = {name: np.ones((1, 16), np.int64) for name in ("input_ids", "attention_mask")}
before, start = kept("VmRSS:"), time.process_time()
known = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
seconds = time.process_time() - start
known.run(None, inputs)
print(json.dumps([seconds, kept("VmRSS:") - before, kept("VmHWM:") - before]))
"""


def emitted(captured: Captured, name: str, path: Path) -> float:
    """Write the file of one row; returns the seconds that storing its weights took."""
    library = Library()
    library.add_file(parse(PIPELINE % STEPS[name], "bench"), "")
    known = () if "no data" in name else minilm.calibration()
    prepared = prepare(
        captured, pipeline="bench", rules=library, calibration=known, held_out=minilm.held_out()
    )
    module = copied(captured.module)
    prepared.runner.run(module, Journal())
    start = time.thread_time()
    storing = Storing(prepared.runner.storage, prepared.planner.data, None, False, lambda stage: None)
    model, _ = storing.emit(captured, module)
    seconds = time.thread_time() - start
    save(model, path)
    return seconds


def embedded(path: Path, batches: list[tuple[Tensor, ...]]) -> Tensor:
    """The embeddings of some sentences, a row each."""
    known = session(path)
    names = [value.name for value in known.get_inputs()]
    rows = [
        known.run(None, {n: t.numpy() for n, t in zip(names, batch, strict=True)})[0] for batch in batches
    ]
    return torch.cat([torch.from_numpy(row) for row in rows])


def loaded(path: Path) -> tuple[float, float, float]:
    """Seconds to load a file, and MB of memory after a run and at most; the medians of three processes."""
    found = [
        json.loads(
            subprocess.run([sys.executable, "-c", PROBE, path], capture_output=True, check=True).stdout
        )
        for _ in range(3)
    ]
    seconds, after, most = (statistics.median(column) for column in zip(*found, strict=True))
    return seconds, after, most


def timed(paths: Mapping[str, Path]) -> dict[str, float]:
    """Median seconds of the thread for a sentence of 16 tokens, the files in turn."""
    ones = {name: torch.ones(1, 16, dtype=torch.int64).numpy() for name in ("input_ids", "attention_mask")}
    known = {name: session(path) for name, path in paths.items()}
    seconds: dict[str, list[float]] = {name: [] for name in paths}
    for _ in range(ROUNDS):
        for name, one in known.items():
            one.run(None, ones)
            start, times = time.thread_time(), 0
            while time.thread_time() - start < SHORTEST:
                one.run(None, ones)
                times += 1
            seconds[name].append((time.thread_time() - start) / times)
    return {name: statistics.median(found) for name, found in seconds.items()}


def main() -> None:
    """Write every file, measure all, write the section of RESULTS.md."""
    torch.set_num_threads(1)
    network, args, dynamic = minilm.model()
    captured = capture(network, args, dynamic_shapes=dynamic)
    held = minilm.held_out()
    with torch.no_grad():
        expected = torch.cat([network(*batch) for batch in held])
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder) / f"{i}.onnx" for i, name in enumerate(STEPS)}
        made = {name: emitted(captured, name, path) for name, path in paths.items()}
        seconds = timed(paths)
        whole = paths["float32"].stat().st_size
        for name, path in paths.items():
            cosines = torch.nn.functional.cosine_similarity(embedded(path, held), expected)
            load, after, most = loaded(path)
            size = path.stat().st_size
            rows.append(
                [
                    name,
                    f"{size / 1e6:.1f} / {size / whole:.3f}",
                    f"{cosines.mean():.5f} / {cosines.min():.4f}",
                    f"{seconds[name] / seconds['float32']:.2f}",
                    f"{load:.2f}",
                    f"{after:.0f} / {most:.0f}",
                    f"{made[name]:.0f}",
                ]
            )
            print(*rows[-1], sep=" | ", flush=True)
    header = [
        "weights",
        "MB / of float32",
        "cosine, mean / lowest",
        "latency",
        "load, s",
        "memory, MB / peak",
        "stored in, s",
    ]
    text = f"""
## MiniLM with its weights in few bits

Files of the exact rules with all large weights, embeddings too, stored by one step of `quantize`. Cosines to
the original embeddings of {len(expected)} sentences that nothing was computed from; 256 others calibrate, but
for the rows without data. Latency of 16 tokens relative to float32, the files in turn; load in seconds of the
processor; memory of the process beyond what it had, after a run and at most.

{table(header, rows)}

{machine("transformers")}
"""
    write_section("quantise", text)


if __name__ == "__main__":
    main()
