"""What the parts of the benchmark share: latencies of files run in turn, and the sections of RESULTS.md."""

from __future__ import annotations

import datetime
import logging
import multiprocessing
import os
import platform
import re
import resource
import statistics
import time
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

RESULTS = Path(__file__).with_name("RESULTS.md")
TITLE = "# Results\n\nWritten by `make bench`, a section for each part.\n"
SHORTEST = 0.02
"""Seconds that one timing lasts at least."""
MEMORY = 6 * 2**30
"""Bytes of address space that a peer's file may take in onnxruntime."""
PATIENCE = 15.0
"""Seconds that loading and running a peer's file twice may take."""


def export(module: nn.Module, example: Tensor | tuple[Tensor, ...], path: Path) -> None:
    """Write `module` as an ONNX file for inputs of the shape of `example`, one tensor or several."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inputs = example if isinstance(example, tuple) else (example,)
        torch.onnx.export(module, inputs, path, dynamo=True, verbose=False)


def session(path: Path) -> onnxruntime.InferenceSession:
    """The file in onnxruntime on one thread of the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def latencies(paths: Mapping[str, Path], example: Tensor, rounds: int = 25) -> dict[str, float]:
    """Median seconds of one run of each file, the files timed in turn, round by round."""
    feed_of = {}
    for name, path in paths.items():
        known = session(path)
        feed = {known.get_inputs()[0].name: np.ascontiguousarray(example.numpy())}
        known.run(None, feed)
        start = time.perf_counter()
        known.run(None, feed)
        feed_of[name] = (known, feed, max(1, min(50, round(SHORTEST / (time.perf_counter() - start)))))
    seconds: dict[str, list[float]] = {name: [] for name in paths}
    for turn in range(rounds):
        order = list(feed_of)
        for name in order[turn % len(order) :] + order[: turn % len(order)]:
            known, feed, times = feed_of[name]
            start = time.perf_counter()
            for _ in range(times):
                known.run(None, feed)
            seconds[name].append((time.perf_counter() - start) / times)
    return {name: statistics.median(found) for name, found in seconds.items()}


def runs(path: Path, example: Tensor) -> bool:
    """Whether onnxruntime runs a file twice in a process of its own, within `MEMORY` and `PATIENCE`."""
    trial = multiprocessing.get_context("spawn").Process(target=_try, args=(path, example.numpy()))
    trial.start()
    trial.join(PATIENCE)
    if trial.is_alive():
        trial.kill()
        trial.join()
    return trial.exitcode == 0


def _try(path: Path, inputs: np.ndarray) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    known = session(path)
    for _ in range(2):
        known.run(None, {known.get_inputs()[0].name: inputs})


def relative_error(found: Tensor, expected: Tensor) -> float:
    """‖found − expected‖ / ‖expected‖."""
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def machine(*packages: str) -> str:
    """This machine, the versions of some packages, and today."""
    model = platform.processor() or platform.machine()
    cpus = Path("/proc/cpuinfo")
    if cpus.exists():
        found = re.search(r"model name\s*:\s*(.+)", cpus.read_text())
        model = found[1] if found else model
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "onnxruntime", *packages))
    today = datetime.datetime.now(datetime.UTC).date()
    return f"{model}, {os.cpu_count()} cores; Python {platform.python_version()}, {versions}; {today}."


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its columns padded so that it reads in a terminal as well."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([line(header), rule, *map(line, rows)])


def write_section(name: str, text: str, path: Path = RESULTS) -> None:
    """Put `text` between the markers of section `name`; the sections of other parts stay as they are."""
    opening, closing = f"<!-- {name} -->", f"<!-- end of {name} -->"
    section = f"{opening}\n{text.strip()}\n{closing}"
    before = path.read_text() if path.exists() else TITLE
    present = re.compile(re.escape(opening) + ".*?" + re.escape(closing), re.DOTALL)
    if present.search(before):
        after = present.sub(lambda _: section, before)
    else:
        after = f"{before.rstrip()}\n\n{section}\n"
    path.write_text(after)
    print(text.strip(), flush=True)
