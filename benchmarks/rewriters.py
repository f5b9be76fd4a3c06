"""Other rewriters beside ours, on graphs of their own: tinygrad, onnxscript, inductor, `fx.replace_pattern`.

    python -m benchmarks.rewriters

Every rewriter is measured in a process of its own, which ends after `LIMIT` CPU seconds of rewriting.
tinygrad runs in the peers' environment, which `make bench` builds; the others come with torch and with what
tdsl needs.
"""

from __future__ import annotations

import argparse
import functools
import gc
import json
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PEERS = ROOT / ".venv-peers" / "bin" / "python"
LIMIT = 20
"""CPU seconds after which a rewriter is stopped."""
ROUNDS = 3
IDLE = 300
OUTSIDE = {("tinygrad", "siblings"): "a node has one output"}
"""Cases that a rewriter has no rules for."""
SMALLER = (100_000, 10_000, 1_000)
"""Sizes tried one after the other, until a rewriter is done within the limit."""

Work = Callable[[], int]
"""Rewrites a graph that is made already; returns the number of rewrites."""

CASES = {
    "dense": ("a rewrite for every third node", SMALLER),
    "absent": ("no match possible", SMALLER),
    "idle": (f"every third node, and {IDLE} rules whose root never occurs", SMALLER),
    "siblings": ("two products of one value become one: a rule with two outputs", (2_400, 600)),
}


# ---------------------------------------------------------------- ours


def tdsl(case: str, nodes: int) -> Work:
    """The engine on FX graphs."""
    from benchmarks import engine

    text = engine.PAIR if case == "siblings" else engine.FACTOR
    rules = engine.rules(text + ("\n" + engine.never(IDLE) if case == "idle" else ""))
    return functools.partial(engine.with_rules(rules), fx_graph(case, nodes))


def fx_graph(case: str, nodes: int) -> Any:
    """The graph of a case."""
    from benchmarks.engine_graphs import dense, siblings, without_match

    return {"absent": without_match, "siblings": siblings}.get(case, dense)(nodes)


# ---------------------------------------------------------------- torch's own


def inductor(case: str, nodes: int) -> Work:
    """`torch._inductor`'s pattern objects with handlers that edit the graph, in one pass as inductor does."""
    import torch
    from torch._inductor.pattern_matcher import (
        CallFunction,
        KeywordArg,
        MultiOutputPattern,
        PatternMatcherPass,
        register_graph_pattern,
    )

    from benchmarks.engine_graphs import ADD, MM, MUL

    aten, found = torch.ops.aten, PatternMatcherPass()
    x, a, b = (KeywordArg(name) for name in "xab")

    def factor(match: Any, x: Any, a: Any, b: Any) -> None:
        graph = match.graph
        product = graph.call_function(MUL, (x, graph.call_function(ADD, (a, b))))
        match.output_node().replace_all_uses_with(product)
        match.erase_nodes()

    def merge(match: Any, x: Any, a: Any, b: Any) -> None:
        graph, (first, second) = match.graph, match.output_nodes()
        with graph.inserting_before(min(first, second)):
            product = graph.call_function(MM, (x, graph.call_function(aten.cat.default, ([a, b], -1))))
            parts = graph.call_function(aten.split_with_sizes.default, (product, [8, 8], -1))
            for i, old in enumerate((first, second)):
                old.replace_all_uses_with(graph.call_function(lambda t, i: t[i], (parts, i)))
        match.erase_nodes()

    if case == "siblings":
        both = MultiOutputPattern([CallFunction(MM, x, a), CallFunction(MM, x, b)])
        register_graph_pattern(both, pass_dict=found)(merge)
    else:
        products = CallFunction(MUL, x, a), CallFunction(MUL, x, b)
        register_graph_pattern(CallFunction(ADD, *products), pass_dict=found)(factor)
    for i in range(IDLE if case == "idle" else 0):
        inner = CallFunction(aten.pow.Tensor_Scalar, x, i)
        register_graph_pattern(CallFunction(aten.tanh.default, inner), pass_dict=found)(factor)
    return functools.partial(found.apply, fx_graph(case, nodes))


def replace_pattern(case: str, nodes: int) -> Work:
    """`torch.fx.replace_pattern`, a rule at a time."""
    import torch
    from torch import fx

    from benchmarks.engine_graphs import ADD, MM, MUL, graph_of

    aten = torch.ops.aten

    def side(names: str, build: Callable[..., Any]) -> fx.GraphModule:
        return graph_of(lambda graph: build(graph.call_function, *(graph.placeholder(n) for n in names)))

    rules = [
        (
            side("xab", lambda call, x, a, b: call(ADD, (call(MUL, (x, a)), call(MUL, (x, b))))),
            side("xab", lambda call, x, a, b: call(MUL, (x, call(ADD, (a, b))))),
        )
    ]
    if case == "siblings":

        def merged(call: Any, x: Any, a: Any, b: Any) -> Any:
            product = call(MM, (x, call(aten.cat.default, ([a, b], -1))))
            return [call(aten.slice.Tensor, (product, -1, 8 * i, 8 * i + 8)) for i in range(2)]

        rules = [
            (
                side("xab", lambda call, x, a, b: [call(MM, (x, a)), call(MM, (x, b))]),
                side("xab", merged),
            )
        ]
    for i in range(IDLE if case == "idle" else 0):
        tanh = functools.partial(
            lambda i, call, x: call(aten.tanh.default, (call(aten.pow.Tensor_Scalar, (x, i)),)), i
        )
        rules.append((side("x", tanh), side("x", lambda call, x: call(aten.tanh.default, (x,)))))
    module = fx_graph(case, nodes)
    return lambda: sum(len(fx.replace_pattern(module, old, new)) for old, new in rules)


# ---------------------------------------------------------------- on graphs of their own


def onnxscript(case: str, nodes: int) -> Work:
    """onnxscript's rewriter on its ONNX graphs; one pass over the nodes, as it makes it."""
    from onnxscript import ir
    from onnxscript.rewriter import pattern

    x, a, b = values = [ir.Value(name=name) for name in "xab"]
    made: list[Any] = []

    def call(name: str, *inputs: Any) -> Any:
        made.append(ir.node(name, inputs))
        return made[-1].outputs[0]

    product = "MatMul" if case == "siblings" else "Mul"
    for i in range(nodes if case == "absent" else nodes // 3):
        if case == "absent":
            x = call("Sub" if i % 2 else "Mul", x, a)
        else:
            x = call("Add", call(product, x, a), call(product, x, b))
    graph = ir.Graph(values, [x], nodes=made, opset_imports={"": 20}, name="bench")
    model = ir.Model(graph, ir_version=10)

    def two(op: Any, x: Any, a: Any, b: Any) -> Any:
        return op.MatMul(x, a), op.MatMul(x, b)

    def one(op: Any, x: Any, a: Any, b: Any) -> Any:
        return op.Split(op.MatMul(x, op.Concat(a, b, axis=-1)), axis=-1, num_outputs=2, _outputs=2)

    def idle(i: int) -> Any:
        return pattern.RewriteRule(
            lambda op, x: op.Tanh(op.LeakyRelu(x, alpha=float(i))), lambda op, x: op.Tanh(x)
        )

    factor = pattern.RewriteRule(
        lambda op, x, a, b: op.Add(op.Mul(x, a), op.Mul(x, b)), lambda op, x, a, b: op.Mul(x, op.Add(a, b))
    )
    # Without the condition a product alone would be both of the two, again and again.
    merge = pattern.RewriteRule(two, one, lambda context, x, a, b: a is not b)
    rules = [merge if case == "siblings" else factor]
    rules += [idle(i) for i in range(IDLE if case == "idle" else 0)]
    return functools.partial(pattern.RewriteRuleSet(rules).apply_to_model, model)


def tinygrad(case: str, nodes: int) -> Work:
    """tinygrad's `graph_rewrite` on its UOps, which have one output each."""
    from tinygrad.uop.ops import Ops, PatternMatcher, UOp, UPat, graph_rewrite

    x, a, b = (UOp.variable(name, 0, 10) for name in "xab")
    kind, count = x.dtype, 0

    def call(op: Any, *inputs: Any) -> Any:
        return UOp(op, kind, inputs)

    for i in range(nodes if case == "absent" else nodes // 3):
        if case == "absent":
            x = call(Ops.SUB if i % 2 else Ops.MUL, x, a)
        else:
            x = call(Ops.ADD, call(Ops.MUL, x, a), call(Ops.MUL, x, b))

    def factor(x: Any, a: Any, b: Any) -> Any:
        nonlocal count
        count += 1
        return call(Ops.MUL, x, call(Ops.ADD, a, b))

    products = [UPat(Ops.MUL, src=(UPat.var("x"), UPat.var(name))) for name in "ab"]
    rules: list[Any] = [(UPat(Ops.ADD, src=tuple(products)), lambda ctx, x, a, b: ctx(x, a, b))]
    for i in range(IDLE if case == "idle" else 0):
        rules.append((UPat(Ops.XOR, src=(UPat.var("x"), UPat.const(i))), lambda x: x))
    matcher = PatternMatcher(rules)

    def work() -> int:
        graph_rewrite(x, matcher, ctx=factor)  # a rule may hold no variable of its surroundings
        return count

    return work


REWRITERS: dict[str, Callable[[str, int], Work]] = {
    "tdsl": tdsl,
    "tinygrad": tinygrad,
    "onnxscript": onnxscript,
    "inductor": inductor,
    "fx.replace_pattern": replace_pattern,
}


# ---------------------------------------------------------------- measuring


@dataclass(frozen=True)
class Found:
    """CPU seconds and rewrites of one measurement."""

    seconds: float
    rewrites: int


class Worker:
    """A process that measures one rewriter; another takes its place where it was stopped."""

    def __init__(self, rewriter: str, python: Path | str) -> None:
        self.rewriter = rewriter
        self.command = [str(python), "-m", "benchmarks.rewriters", "--worker", rewriter]
        self.process: subprocess.Popen[str] | None = None

    def ask(self, case: str, nodes: int) -> Found | None:
        """One measurement; `None` when it was not done within the limit."""
        if self.process is None:
            pipe = subprocess.PIPE
            self.process = subprocess.Popen(self.command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True)
        assert self.process.stdin is not None and self.process.stdout is not None
        print(case, nodes, file=self.process.stdin, flush=True)
        for line in self.process.stdout:
            if line.startswith("{"):
                return Found(**json.loads(line))
        code = self.process.wait()
        if code not in (-signal.SIGXCPU, -signal.SIGKILL):
            raise RuntimeError(f"{self.rewriter} ended with {code} at {case}, {nodes} nodes")
        self.process = None
        return None

    def end(self) -> None:
        """Let the process end."""
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()
            self.process.wait()


def answer(rewriter: str) -> None:
    """Measure what is asked on standard input, a case and a number of nodes on each line."""
    for line in sys.stdin:
        case, nodes = line.split()
        work = REWRITERS[rewriter](case, int(nodes))
        gc.collect()
        gc.disable()
        _, most = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + LIMIT + 1, most))
        start = time.process_time()
        count = work()
        seconds = time.process_time() - start
        resource.setrlimit(resource.RLIMIT_CPU, (most, most))
        gc.enable()
        del work
        print(json.dumps({"seconds": seconds, "rewrites": int(count)}), flush=True)


def compared(workers: Mapping[str, Worker], case: str) -> list[tuple[str, ...]]:
    """The rows of one case: each rewriter at the largest size that it gets done, all in turn with ours."""
    words, sizes = CASES[case]
    found: dict[tuple[str, int], list[Found]] = {}
    for name in workers:
        for size in sizes:
            first = None if (name, case) in OUTSIDE else workers[name].ask(case, size)
            if first is not None:
                found[name, size] = [first]
                break
    for size in {size for _, size in found}:
        found.setdefault(("tdsl", size), [])
    for turn in range(ROUNDS):
        for (name, size), measurements in found.items():
            one = workers[name].ask(case, size) if len(measurements) <= turn else None
            if one is not None:
                measurements.append(one)
    rows = []
    for name in [name for name in workers if name != "tdsl"]:
        size = next((size for other, size in found if other == name), None)
        if size is None:
            why = OUTSIDE.get((name, case), f"not done after {LIMIT} s")
            rows.append((words, name, why, "", "", "", ""))
            continue
        theirs, ours = found[name, size], found["tdsl", size]
        ratio = middle(theirs) / middle(ours)
        cut = f" (of {sizes[0]:,} not done after {LIMIT} s)" if size != sizes[0] else ""
        counts = f"{theirs[0].rewrites:,} and {ours[0].rewrites:,}"
        rows.append((words, name, f"{ratio:.1f}×", spread(theirs), spread(ours), f"{size:,}{cut}", counts))
    return rows


def middle(found: list[Found]) -> float:
    """Median of the seconds."""
    return statistics.median(one.seconds for one in found)


def spread(found: list[Found]) -> str:
    """Median of the seconds, and half of largest minus smallest."""
    seconds = [one.seconds for one in found]
    return f"{middle(found):.4f} ± {(max(seconds) - min(seconds)) / 2:.4f}"


def main() -> None:
    """Measure every case and write the section of RESULTS.md."""
    parser = argparse.ArgumentParser(description="Measure other rewriters beside ours.")
    parser.add_argument("--peers", type=Path, default=PEERS, help="the peers' Python interpreter")
    parser.add_argument("--worker", choices=list(REWRITERS), help="be the process that measures one of them")
    given = parser.parse_args()
    if given.worker:
        answer(given.worker)
        return
    from benchmarks.harness import machine, table, write_section  # not there in tinygrad's environment

    names = [name for name in REWRITERS if name != "tinygrad" or given.peers.exists()]
    workers = {name: Worker(name, given.peers if name == "tinygrad" else sys.executable) for name in names}
    rows = [row for case in CASES for row in compared(workers, case)]
    for worker in workers.values():
        worker.end()
    header = ("case", "rewriter", "its time / ours", "seconds", "ours", "nodes", "rewrites, its and ours")
    text = f"""
## The engine beside other rewriters

CPU seconds on synthetic graphs, each rewriter on graphs of its own kind and in a process of its own, in turn
with ours at the largest size that it gets done within {LIMIT} s: medians of {ROUNDS}, and half of largest
less smallest; the garbage collector off. The graphs of tinygrad and onnxscript are lighter than FX's;
onnxscript and inductor make one pass, which is enough here.

{table(header, rows)}

{machine("onnxscript")}
"""
    write_section("rewriters", text)


if __name__ == "__main__":
    main()
