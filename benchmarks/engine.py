"""The engine alone, on synthetic graphs of up to a million nodes: CPU seconds, the garbage collector off.

python -m benchmarks.engine            # every case
python -m benchmarks.engine 1000000    # up to graphs of so many nodes (by default 300 000)
"""

from __future__ import annotations

import functools
import gc
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import fx

from benchmarks.engine_graphs import ADD, MM, MUL, chain, dense, near_misses, siblings, tower, without_match
from benchmarks.harness import machine, table, write_section
from tdsl import load
from tdsl.capture import capture
from tdsl.engine.census import copied
from tdsl.engine.driver import rewrite
from tdsl.engine.journal import Journal
from tdsl.engine.library import standard_library
from tdsl.engine.rule import Rule

FACTOR = "rule factor { add(mul(x, a), mul(x, b)) => mul(x, add(a, b)) }"
"""A product distributed over a sum, taken back: one node fewer at each place."""


PAIR = """
rule pair {
    p = matmul(x: [n, n], a: [n, n])
    q = matmul(x, b: [n, n])
  =>
    (p, q) = split(matmul(x, concat(a, b, dim=-1)), [n, n], dim=-1)
}
"""
"""Two products of one value become one, and its parts."""

BRACKET = """
rule bracket {
    matmul(matmul(x: [n, n], a: [n, n]), b: [n, n])
  =>
    matmul(x, matmul(a, b))
}
"""
"""Products bracketed to the right."""


TOWER = """
rule tower {{
    {0}({0}({0}(sub(x: [n, n], a: [n, n]), b: [n, n]), c: [n, n]), d: [n, n])
  =>
    {0}(sub(x, a), {0}(b, {0}(c, d)))
}}
"""
"""Three applications of a binary operator above a difference."""


def rules(text: str) -> list[Rule]:
    """The rules of a text, loaded as a user's file is."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.tdsl"
        path.write_text(text)
        loaded = load(path)
    return [loaded.rule(name) for name in loaded.rules]


def by_hand(module: fx.GraphModule) -> int:
    """What a good engineer writes on FX for `FACTOR` alone: the yardstick of the same run."""
    graph, count = module.graph, 0
    for node in reversed(list(graph.nodes)):
        if node.op != "call_function" or node.target is not ADD:
            continue
        left, right = node.args
        if (
            left.target is MUL
            and right.target is MUL
            and left.args[0] is right.args[0]
            and len(left.users) == len(right.users) == 1
        ):
            with graph.inserting_before(node):
                total = graph.call_function(ADD, (left.args[1], right.args[1]))
                product = graph.call_function(MUL, (left.args[0], total))
            node.replace_all_uses_with(product)
            for old in (node, left, right):
                graph.erase_node(old)
            count += 1
    graph.lint()
    return count


Work = Callable[[fx.GraphModule], int]


def with_rules(chosen: Sequence[Rule]) -> Work:
    """Rewriting by rules, the savings of each rewrite left out."""
    return lambda module: rewrite(module, chosen, journal=Journal(measure=False))


def timed(
    cases: Mapping[str, tuple[Callable[[], fx.GraphModule], Work]], rounds: int = 3
) -> dict[str, Timed]:
    """CPU seconds of each case on new graphs, the cases in turn; the garbage collector is off."""
    found: dict[str, list[float]] = {name: [] for name in cases}
    counts = {}
    for _ in range(rounds):
        for name, (make, work) in cases.items():
            module = make()
            gc.collect()
            gc.disable()
            start = time.process_time()
            counts[name] = work(module)
            found[name].append(time.process_time() - start)
            gc.enable()
    return {n: Timed(statistics.median(s), max(s) - min(s), counts[n]) for n, s in found.items()}


@dataclass(frozen=True)
class Timed:
    """Median CPU seconds, largest minus smallest, and how many rewrites there were."""

    seconds: float
    spread: float
    rewrites: int


def slope(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """The exponent of the growth from the first size to the last."""
    return math.log(seconds[-1] / seconds[0]) / math.log(sizes[-1] / sizes[0])


def never(count: int) -> str:
    """That many rules whose root occurs in none of the graphs."""
    return "\n".join(
        f"rule never{i} {{ roll(roll(x, [{i}], [-1]), [1], [-1]) => roll(x, [{i + 1}], [-1]) }}"
        for i in range(count)
    )


def transformer(layers: int) -> fx.GraphModule:
    """An encoder of that many layers as captured, in the normal form that rules see."""
    return capture(Blocks(layers).eval(), (torch.randn(1, 16, 64),)).module


class Blocks(torch.nn.Module):
    """Pre-norm transformer blocks, attention written out: about 65 nodes each."""

    def __init__(self, layers: int, width: int = 64, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.layers = torch.nn.ModuleList(
            torch.nn.ModuleDict(
                {
                    "norm1": torch.nn.LayerNorm(width),
                    "norm2": torch.nn.LayerNorm(width),
                    **{name: torch.nn.Linear(width, width) for name in "qkvo"},
                    "up": torch.nn.Linear(width, 2 * width),
                    "down": torch.nn.Linear(2 * width, width),
                }
            )
            for _ in range(layers)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[b, l, width] → [b, l, width]"""
        for layer in self.layers:
            y = written_out(layer["norm1"], x)
            q, k, v = (self.split(layer[name](y)) for name in "qkv")
            weights = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, dim=-1)
            mixed = (weights @ v).transpose(1, 2).reshape(x.shape)
            x = x + layer["o"](mixed)
            y = layer["up"](written_out(layer["norm2"], x))
            gelu = 0.5 * y * (1 + torch.tanh(0.7978845608 * (y + 0.044715 * y**3)))
            x = x + layer["down"](gelu)
        return x

    def split(self, x: torch.Tensor) -> torch.Tensor:
        """[b, l, h·w] → [b, h, l, w]"""
        return x.reshape(*x.shape[:-1], self.heads, -1).transpose(1, 2)


def written_out(norm: torch.nn.LayerNorm, x: torch.Tensor) -> torch.Tensor:
    """Layer normalisation in elementary operators, as older models have it."""
    centred = x - x.mean(-1, keepdim=True)
    variance = (centred * centred).mean(-1, keepdim=True)
    return centred / torch.sqrt(variance + norm.eps) * norm.weight + norm.bias


def main() -> None:
    """Measure every case and write the section of RESULTS.md."""
    most = int(sys.argv[1]) if len(sys.argv) > 1 else 300_000
    sizes = [n for n in (1_000, 10_000, 100_000, 300_000, 1_000_000) if n <= most]
    factor = with_rules(rules(FACTOR))
    rows = []

    def row(case: str, found: Timed, beside: str) -> None:
        rows.append((case, f"{found.seconds:.3f}", f"{found.spread:.3f}", f"{found.rewrites:,}", beside))

    hand = timed({"by hand": (lambda: dense(100_000), by_hand), "rule": (lambda: dense(100_000), factor)})
    row("dense, 100 000 nodes, by hand on FX", hand["by hand"], "1×")
    ratio = hand["rule"].seconds / hand["by hand"].seconds
    row("dense, 100 000 nodes", hand["rule"], f"{ratio:.2f}× by hand")
    grown = timed({str(n): (functools.partial(dense, n), factor) for n in sizes}, rounds=2)
    exponent = slope(sizes[1:], [grown[str(n)].seconds for n in sizes[1:]])
    row(f"dense, {sizes[-1]:,} nodes", grown[str(sizes[-1])], f"slope {exponent:.2f} from {sizes[1]:,} nodes")

    one, many = rules(FACTOR), rules(FACTOR + "\n" + never(300))
    absent = timed(
        {
            "no match": (lambda: without_match(100_000), factor),
            "near misses": (lambda: near_misses(100_000), factor),
            "one rule": (lambda: dense(100_000), with_rules(one)),
            "and 300": (lambda: dense(100_000), with_rules(many)),
        }
    )
    row("no match possible, 100 000 nodes", absent["no match"], "")
    row("no match, every root tried, 100 000 nodes", absent["near misses"], "")
    ratio = absent["and 300"].seconds / absent["one rule"].seconds
    row("dense, with 300 rules whose root never occurs", absent["and 300"], f"{ratio:.3f}× one rule")

    commutative, ordered = rules(TOWER.format("mul")), rules(TOWER.format("matmul"))
    tried = timed(
        {
            "ordered": (lambda: tower(100_000, MM), with_rules(ordered)),
            "commutative": (lambda: tower(100_000, MUL), with_rules(commutative)),
        }
    )
    ratio = tried["commutative"].seconds / tried["ordered"].seconds
    row("three commutative nodes in a pattern, 100 000 nodes", tried["commutative"], f"{ratio:.2f}× without")

    pair, bracket = with_rules(rules(PAIR)), with_rules(rules(BRACKET))
    growing = (2_400, 24_000)
    for name, build, work in (("two outputs", siblings, pair), ("chain of products", chain, bracket)):
        found = timed({str(n): (functools.partial(build, n), work) for n in growing}, rounds=2)
        exponent = slope(growing, [found[str(n)].seconds for n in growing])
        row(f"{name}, 24 000 nodes", found["24000"], f"slope {exponent:.2f} from 2 400 nodes")

    library = standard_library()
    everything = [library.rule(n) for n in library.select("*") if n in library.rules]
    exact = [rule for rule in everything if not rule.approximate]
    module = transformer(48)
    count = len(module.graph.nodes)
    whole = timed({"all": (lambda: copied(module), with_rules(exact))}, rounds=3)
    row(f"{len(exact)} exact rules of the library, 48 layers, {count:,} nodes", whole["all"], "")
    text = f"""
## The engine

CPU seconds of `rewrite` on synthetic graphs: medians, largest minus smallest, the cases in turn, the garbage
collector off.

{table(("case", "seconds", "spread", "rewrites", ""), rows)}

{machine()}
"""
    write_section("engine", text)


if __name__ == "__main__":
    main()
