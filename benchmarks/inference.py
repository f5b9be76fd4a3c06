"""The action of D4 recovered in a convolutional net of 1.5 million weights with shuffled hidden channels.

    python -m benchmarks inference

The net is equivariant by tied filters. A net with random filters is the control, of which nothing may be
claimed; in a third net one weight is off by a thousandth. Seconds are those of inferring what both generators
do to every edge of the captured graph, on one thread.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import torch
from torch import fx, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "symmetry"))

from p4m import P4M

from benchmarks.harness import machine, table, write_section
from tdsl.capture import capture
from tdsl.symmetry.action import flipped, rotated
from tdsl.symmetry.infer import Inference, infer

ROUNDS = 7
FIBRES = (36, 36, 36)
EXAMPLE = torch.randn(2, 3, 16, 16)
GENERATORS = (rotated(EXAMPLE.shape, 1, -2, -1), flipped(EXAMPLE.shape, (-1,)))


def nets() -> dict[str, nn.Module]:
    """The tied net, one with random filters, and one with a single weight changed."""
    torch.manual_seed(0)
    tied, free, bent = (P4M(FIBRES).eval() for _ in range(3))
    for layer in free.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.normal_(layer.weight)
    with torch.no_grad():
        bent.layers[3].weight[5, 7, 1, 2] *= 1.001
    return {"tied": tied, "random": free, "one weight × 1.001": bent}


def claimed(found: list[Inference]) -> tuple[str, str]:
    """What is said of the output, and the layers whose law holds up to a residual."""
    acting = " and ".join("nothing" if one.outputs[0] is None else str(one.outputs[0]) for one in found)
    near = {step.node.name for one in found for step in one.steps.values() if step.strength == "approximate"}
    worst = max(one.residual for one in found)
    return acting, f"{', '.join(sorted(near))}: {worst:.0e}" if near else ""


def main() -> None:
    """Time the nets in turn and write the section of RESULTS.md."""
    torch.set_num_threads(1)
    models = nets()
    graphs: dict[str, fx.GraphModule] = {n: capture(net, (EXAMPLE,)).module for n, net in models.items()}
    seconds: dict[str, list[float]] = {name: [] for name in graphs}
    said = {}
    for _ in range(ROUNDS):
        for name, graph in graphs.items():
            start = time.perf_counter()
            found = [infer(graph, [element]) for element in GENERATORS]
            seconds[name].append(time.perf_counter() - start)
            said[name] = claimed(found)
    rows = [(name, f"{statistics.median(seconds[name]):.3f}", *said[name]) for name in graphs]
    weights = sum(p.numel() for p in models["tied"].parameters())
    text = f"""
## Actions inferred

D4 (quarter turns and a flip) on the input of a net of {weights:,} weights; the channels of each hidden
layer are shuffled. Median seconds of {ROUNDS} runs for both generators, the nets in turn.

{table(("filters", "seconds", "acts on the output", "laws up to a residual"), rows)}

{machine()}
"""
    write_section("inference", text)


if __name__ == "__main__":
    main()
