"""The root mean square as language models write it, whose summand no rule can make an attribute."""

from __future__ import annotations

from typing import Any

from torch import fx

from tdsl.engine.passes import graph_pass
from tdsl.engine.stage import stage
from tdsl.engine.sweep import Change, SweepPass, with_unneeded
from tdsl.engine.workspace import Workspace
from tdsl.ops import OPERATORS
from tdsl.ops.targets import operator_of


@graph_pass
class SpeltNorms(SweepPass):
    """Write x · rsqrt(mean(x²) + ε) over the last axis as one operator, whose width can then be changed."""

    name = "narrow.spelt_norms"

    def at(self, work: Workspace, node: fx.Node) -> Change | None:
        """The norm that ends in a product."""
        for x, factor in ((0, 1), (1, 0)) if _name(node) == "mul" and len(node.args) == 2 else ():
            root = node.args[factor]
            found = _mean_square(root)
            if found is None or found[0] is not node.args[x]:
                continue
            value, eps = found
            size = value.meta["val"].shape[-1]
            norm = stage(work, OPERATORS["rms_norm"], {"x": value, "shape": [size], "eps": eps})
            gone = tuple(sorted(with_unneeded((node,), (value,))))
            return Change((node,), (norm,), gone, saved_nodes=len(gone) - 1)
        return None


def _mean_square(node: Any) -> tuple[fx.Node, float] | None:
    """x and ε of rsqrt(mean(x², -1) + ε)."""
    if _name(node) != "rsqrt" or _name(node.args[0]) != "add":
        return None
    mean, eps = node.args[0].args[:2]
    if isinstance(mean, float | int):
        mean, eps = eps, mean
    if _name(mean) != "mean" or not isinstance(eps, float | int) or list(mean.args[1]) != [-1]:
        return None
    if len(mean.args) < 3 or mean.args[2] is not True:
        return None
    square = mean.args[0]
    name = _name(square)
    args: tuple[Any, ...] = getattr(square, "args", ())
    if name == "pow" and args[1] in (2, 2.0):
        return args[0], float(eps)
    if name == "mul" and args[0] is args[1] and isinstance(args[0], fx.Node):
        return args[0], float(eps)
    return None


def _name(node: Any) -> str:
    op = operator_of(node.target) if isinstance(node, fx.Node) and node.op == "call_function" else None
    return op.name if op is not None else ""
