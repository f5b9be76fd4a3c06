"""How well conditioned the factors are that approximate rewrites left in a graph."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, fx

from tdsl.capture.normal import attribute

PIECE = 2**20
"""Entries that are in float64 at one time."""
LARGEST = 2048
"""No eigenvalues of larger matrices are computed: these are layers that were hardly made smaller."""


def conditions(module: fx.GraphModule, created: Iterable[Sequence[str]]) -> list[float | None]:
    """For each rewrite, by the nodes that it made, the largest condition number of their weights.

    A weight counts as the matrix from all that comes in to what goes out; `None` where none is left in
    `module` that is one, with both sides longer than 1 and the shorter no longer than `LARGEST`.
    """
    nodes = {node.name: node for node in module.graph.nodes}
    known: dict[str, float | None] = {}
    found = []
    for names in created:
        read = [operand for name in names if name in nodes for operand in nodes[name].all_input_nodes]
        values = []
        for path in dict.fromkeys(str(node.target) for node in read if node.op == "get_attr"):
            if path not in known:
                value = attribute(module, path)
                known[path] = condition(value) if isinstance(value, Tensor) else None
            values.append(known[path])
        found.append(max((value for value in values if value is not None), default=None))
    return found


@torch.no_grad()
def condition(weight: Tensor) -> float | None:
    """The largest singular value of `weight` [out, …] over its smallest; ∞ beyond what float32 resolves.

    From the eigenvalues of the smaller Gram matrix, in float64.
    """
    if weight.dim() < 2 or not weight.is_floating_point():
        return None
    matrix = weight.detach().flatten(1)
    if len(matrix) > matrix.shape[1]:
        matrix = matrix.T
    if not 1 < len(matrix) <= LARGEST:
        return None
    gram = torch.zeros(len(matrix), len(matrix), dtype=torch.float64)
    for part in torch.split(matrix, max(1, PIECE // len(matrix)), 1):
        exact = part.double()
        gram.addmm_(exact, exact.T)
    values = torch.linalg.eigvalsh(gram)
    least, most = float(values[0]), float(values[-1])
    if not math.isfinite(most) or most <= 0:
        return None
    resolved = torch.finfo(torch.float32).eps ** 2
    return math.sqrt(most / least) if least > resolved * most else math.inf
