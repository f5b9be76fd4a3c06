"""Factorization against its peers at equal parameters: error on held-out inputs, latency, seconds.

    python -m benchmarks factorize             # every model and method; about five minutes
    python -m benchmarks.factorize --task mlp --method tdsl

Three synthetic models (`models.py`): singular values of weights i^-0.8, covariance spectra of inputs i^-1.
All methods keep the same share of the numbers in the same weights and see the same calibration inputs, if
any; none trains. The error is ‖ŷ − y‖ / ‖y‖ over held-out inputs. Latencies are medians of ONNX files
written by one exporter, run in turn on one thread of onnxruntime. Seconds are those of the compression on
one thread, without the export. Peers run with the interpreter of an environment of their own, which `make
bench` builds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from benchmarks import reference
from benchmarks.harness import (
    MEMORY,
    PATIENCE,
    export,
    latencies,
    machine,
    relative_error,
    runs,
    table,
    write_section,
)
from benchmarks.models import TASKS, Task
from tdsl.engine.census import census, copied
from tdsl.engine.journal import Journal
from tdsl.engine.library import Library
from tdsl.lang import parse
from tdsl.plan.latency import LatencyTable
from tdsl.prepare import prepare

PEERS = Path(__file__).parents[1] / ".venv-peers" / "bin" / "python"
LIMIT = 30.0
"""Seconds after which a peer is stopped."""

PIPELINE = """
pipeline exactly {{
    repeat cleanup.*, fold.* until stable
}}

pipeline planned(size: Real) {{
    repeat cleanup.*, fold.* until stable
    choose {rules}
        minimize {objective}
        subject to {bounds}
    heal least_squares
    check error <= 100%
}}
"""
ABOUT = "## Factorization at equal parameters\n\n"
RULES = {
    "mlp": "factorize.linear.*",
    "transformer": "factorize.linear.*",
    "cnn": "factorize.conv_windows.*, factorize.conv_data.two_sided_pca",
}
SIZE = "parameters <= size"
PLANS = {
    "mlp": {"tdsl, planned and healed": ("error", SIZE)},
    "transformer": {"tdsl, planned and healed": ("error", SIZE)},
    "cnn": {
        "tdsl, least error": ("error", SIZE),
        "tdsl, least error at 46 % of the latency": ("error", f"{SIZE}, latency <= 46%"),
        "tdsl, fastest within 7 % error": ("latency", f"{SIZE}, error <= 7%"),
    },
}
"""Objective and budgets. Kernels differ in how often they are used: an equal size is not an equal speed."""


@dataclass
class Result:
    """One method on one task. `share` is what is left of the treated weights' numbers."""

    method: str
    share: float | None = None
    error: float | None = None
    seconds: float | None = None
    path: Path | None = None
    note: str = ""
    latency: float | None = None


def planned(task: Task, label: str, steps: list[str]) -> tuple[nn.Module, float]:
    """The model as tdsl's plan makes it, and the numbers that it saves. What was done is added to `steps`."""
    objective, bounds = PLANS[task.name][label]
    text = PIPELINE.format(rules=RULES[task.name], objective=objective, bounds=bounds)
    library = Library()
    library.add_file(parse(text, "bench"), "")
    fixed = {"rules": library, "calibration": task.calibration, "held_out": [task.held_out[:1]]}
    batch = {"dynamic_shapes": ({0: "batch"},)}
    exact = prepare(task.model, (task.calibration[0],), pipeline="exactly", **batch, **fixed)
    folded = copied(exact.captured.module)
    exact.runner.run(folded, Journal())
    size = census(folded).parameters
    prepared = prepare(
        exact.captured,
        pipeline="planned",
        parameters={"size": size - (1 - task.ratio) * task.weights},
        profile=LatencyTable(sizes={"batch": len(task.example)}),
        **fixed,
    )
    module = copied(prepared.captured.module)
    prepared.runner.run(module, Journal())
    for outcome in prepared.planner.outcomes:
        steps += [
            f"{c.root}: {c.choice.name} {dict(c.details)} predicted {c.error:.3f}" for c in outcome.chosen
        ]
    steps += [f"healed {h.site}: {h.before:.4f} → {h.after:.4f}" for h in prepared.planner.healed]
    return module, float(size - census(module).parameters)


def in_torch(task: Task) -> dict[str, Callable[[], nn.Module]]:
    """The baselines for a task, by their labels."""
    everywhere, greedy = reference.everywhere, reference.greedy
    data = "greedy {} SVD (our implementation of AIMET's published algorithm)"

    def by_moment(kind: Callable[..., reference.Truncate]) -> nn.Module:
        known = reference.moments(task)
        return everywhere(task, {name: kind(*known[name]) for name in task.treated})

    if task.name == "cnn":
        return {
            "spatial SVD, one ratio": lambda: everywhere(task, reference.spatial_svd),
            "Tucker, one ratio": lambda: everywhere(task, reference.tucker),
            "output PCA, one ratio": lambda: by_moment(reference.output_pca),
            data.format("spatial"): lambda: greedy(task, reference.spatial_svd),
        }
    return {
        "SVD, one ratio": lambda: everywhere(task, reference.svd),
        "input-whitened SVD, one ratio": lambda: by_moment(reference.whitened),
        data.format("weight"): lambda: greedy(task, reference.svd),
    }


def peers_of(task: Task) -> dict[str, str]:
    """Which methods of `peers.py` run on a task, with their labels."""
    forms = {
        "tucker": "Tucker",
        "cp": "CP",
        **({"tt": "TT"} if task.name == "cnn" else {"blocktt": "block TT"}),
    }
    return {
        "greenformer": "Greenformer, svd",
        **{f"tensorly-{form}": f"tensorly-torch, {shown}" for form, shown in forms.items()},
    }


def own_result(task: Task, label: str, make: Callable[[], tuple[nn.Module, float]], folder: Path) -> Result:
    """Run something of this process, and write its file."""
    start = time.perf_counter()
    module, saved = make()
    seconds = time.perf_counter() - start
    with torch.no_grad():
        error = relative_error(module(task.held_out), task.model(task.held_out))
    path = folder / f"{task.name}.{len(list(folder.iterdir()))}.onnx"
    export(module, task.example, path)
    return Result(label, 1 - saved / task.weights, error, seconds, path)


def peer_result(task: Task, method: str, label: str, folder: Path, python: Path) -> Result:
    """Run a peer in its own interpreter."""
    command = [str(python), "-m", "benchmarks.peers", method, task.name, str(folder)]
    told, complaint, timed_out = _run(command, LIMIT)
    outputs, path = folder / f"{task.name}.{method}.pt", folder / f"{task.name}.{method}.onnx"
    if not told:
        reason = f"not done after {LIMIT:.0f} s" if timed_out else f"failed: {complaint}"
        return Result(label, note=reason)
    answer = json.loads(told)
    with torch.no_grad():
        error = relative_error(torch.load(outputs), task.model(task.held_out))
    saved = task.parameters - answer["parameters"]
    usable, note = None, ""
    if not path.exists() or timed_out:
        note = "no ONNX file: " + (f"not done after {LIMIT:.0f} s" if timed_out else complaint)
    elif runs(path, task.example):
        usable = path
    else:
        note = f"onnxruntime does not run its file in {PATIENCE:.0f} s and {MEMORY >> 30} GiB"
    return Result(label, 1 - saved / task.weights, error, answer["seconds"], usable, note)


def _run(command: Sequence[str], limit: float) -> tuple[str, str, bool]:
    """The first line that a command prints, the last line of its complaints, and whether it was stopped."""
    with subprocess.Popen(
        command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            out, complaints = process.communicate(timeout=limit)
            timed_out = False
        except subprocess.TimeoutExpired:
            process.kill()
            out, complaints = process.communicate()
            timed_out = True
    first = next(iter(out.splitlines()), "")
    last = next((line for line in reversed(complaints.splitlines()) if line.strip()), "")
    return first, last[:120], timed_out


def compared(task: Task, methods: str, folder: Path, python: Path, verbose: bool) -> list[Result]:
    """Every method whose label contains `methods` on one task, timed in turn at the end."""
    torch.save(
        {
            "model": task.model,
            "example": task.example,
            "held_out": task.held_out,
            "ratio": task.ratio,
            "treated": task.treated,
            "weights": task.weights,
            "parameters": task.parameters,
        },
        folder / f"{task.name}.pt",
    )
    steps: list[str] = []
    todo: dict[str, Callable[[], Result]] = {}

    def mine(label: str, make: Callable[[], tuple[nn.Module, float]]) -> None:
        todo[label] = lambda: own_result(task, label, make, folder)

    mine("original", lambda: (task.model, 0.0))
    for label in PLANS[task.name]:
        mine(label, lambda plan=label: planned(task, plan, steps))
    for label, make in in_torch(task).items():
        mine(label, lambda make=make: _counted(task, make()))
    for method, label in peers_of(task).items():
        todo[label] = lambda m=method, shown=label: peer_result(task, m, shown, folder, python)
    results = []
    for label, run in todo.items():
        if methods in label or label == "original":
            print(f"{task.name}: {label} …", file=sys.stderr, flush=True)
            results.append(run())
            print(results[-1], file=sys.stderr, flush=True)
    if verbose:
        print("\n".join(steps))
    found = latencies({r.method: r.path for r in results if r.path}, task.example)
    for result in results:
        result.latency = found.get(result.method)
    return results


def _counted(task: Task, module: nn.Module) -> tuple[nn.Module, float]:
    """A module and the weights that it saves; biases that came into being count as well."""
    return module, float(task.parameters - sum(p.numel() for p in module.parameters()))


def shown(task: Task, results: Sequence[Result]) -> str:
    """The table of one task."""
    base = next(r.latency for r in results if r.method == "original")
    rows = []
    for r in results:
        speed = f"{base / r.latency:.2f}×" if r.latency and base else "–"
        rows.append(
            (
                r.method,
                "–" if r.share is None else f"{100 * r.share:.1f} %",
                "–" if r.error is None else f"{r.error:.4f}",
                speed,
                "–" if r.latency is None else f"{1e3 * r.latency:.3f}",
                "–" if r.seconds is None else f"{r.seconds:.1f}",
                r.note,
            )
        )
    header = ("method", "weights left", "error", "speed", "ms", "seconds", "")
    return f"### {task.name}, {100 * task.ratio:.0f} % of the treated weights\n\n{table(header, rows)}"


def main() -> None:
    """Compare, print the tables and write them down."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--task", choices=list(TASKS), action="append")
    parser.add_argument("--method", default="", help="only methods whose label contains this text")
    parser.add_argument("--peers", type=Path, default=PEERS, help="the peers' Python interpreter")
    parser.add_argument("--verbose", action="store_true", help="show what the plan chose and recovery did")
    given = parser.parse_args()
    torch.manual_seed(0)
    about = __doc__.split("\n\n")[2].replace("\n", " ")
    with tempfile.TemporaryDirectory() as folder:
        for name in given.task or TASKS:
            task = TASKS[name]()
            text = shown(task, compared(task, given.method, Path(folder), given.peers, given.verbose))
            if given.method:
                print(text, flush=True)
            else:
                text = text if name != next(iter(TASKS)) else f"{ABOUT}{about}\n\n{text}"
                write_section(f"factorize {name}", f"{text}\n\n{machine('scipy')}")


if __name__ == "__main__":
    main()
