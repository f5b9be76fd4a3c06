"""Loops that tracing unrolled, all steps at once: a chain may be of any length, which no rule can say."""

from __future__ import annotations

from typing import Any

from tdsl.passes.layout.lifting import Chain, Lifter, NotAlikeError, stacked
from torch import Tensor, fx

from tdsl.engine.census import macs_of
from tdsl.engine.passes import graph_pass
from tdsl.engine.sizes import elements_at_example, same_shape
from tdsl.engine.stage import stage
from tdsl.engine.staged import CannotStage, Staged, parts_of
from tdsl.engine.sweep import Change, SweepPass, with_unneeded
from tdsl.engine.workspace import Workspace
from tdsl.ops import OPERATORS
from tdsl.ops.targets import operator_of

FEWEST = 8
"""Steps below which a loop stays as it is."""
LIMIT = 0.85
"""The new form has to cost less than this share of the old one."""
MOST_LEFT = 2
"""States that may be read beside the stack of all steps."""

# Nanoseconds on one core, fitted to loops measured in onnxruntime; their ratios are what matters.
PER_OPERATOR = 400.0
PER_NUMBER = 0.08
PER_NUMBER_FAR = 0.7
PER_PRODUCT = 0.025
NEAR = 2**17
"""Numbers of a value beyond which it does not stay in the cache."""
VIEWS = ("reshape", "unsqueeze", "squeeze", "getitem", "expand", "size")


@graph_pass
class Unrolled(SweepPass):
    """The steps of an unrolled loop at once, linear recurrences as products or scans in log depth."""

    name = "layout.unrolled"

    def at(self, work: Workspace, node: fx.Node) -> Change | None:
        """The loop whose steps meet in a node."""
        return _found(work, node) if node.op == "call_function" else None


def _found(work: Workspace, root: fx.Node) -> Change | None:
    """The loop whose steps meet in `root`, where one form for all of them is worth it."""
    if not isinstance(root.meta.get("val"), Tensor):
        return None
    put = stacked(root)
    if put is None or len(put[0]) < FEWEST:
        return None
    steps, axis = put
    lifter = Lifter(work)
    try:
        value = lifter.lifted(steps)
        rank = root.meta["val"].ndim
        place = axis % rank
        if place:
            order = [*range(1, place + 1), 0, *range(place + 1, rank)]
            value = stage(work, OPERATORS["permute"], {"x": value, "dims": order})
        described, wanted = work.val(value), root.meta["val"]
        if not same_shape(described.shape, wanted.shape) or described.dtype != wanted.dtype:
            return None
        matched, read = _dying(root, lifter.chains)
        if len(read) > MOST_LEFT:
            return None
        values = (value, *(_state(work, chain, node) for chain, node in read))
    except (NotAlikeError, CannotStage):
        return None
    outputs = (root, *(node for _, node in read))
    parts = parts_of(values, below=lambda term: not work.is_const(term))
    new = [part for part in parts if isinstance(part, Staged) and not work.is_const(part)]
    before = sum(_cost(node.target, node.meta.get("val")) for node in matched)
    before_macs = macs_of(work, matched)
    before += PER_PRODUCT * before_macs
    macs = sum(_macs(work, term) for term in new)
    after = sum(_cost(term.target, work.val(term)) for term in new) + PER_PRODUCT * macs
    if after > LIMIT * before:
        return None
    return Change(
        outputs,
        values,
        matched,
        saved_nodes=len(matched) - len(new),
        saved_parameters=None,
        saved_macs=before_macs - macs,
        details={"steps": len(steps)},
    )


def _dying(root: fx.Node, chains: list[Chain]) -> tuple[tuple[fx.Node, ...], list[tuple[Chain, fx.Node]]]:
    """The operators that nothing needs once `root` and the chains are replaced, and the states of chains that
    are read by others.
    """
    gone = with_unneeded([root, *(node for chain in chains for node in chain.nodes)])
    read = [(c, node) for c in chains for node in c.nodes if not gone.issuperset(node.users)]
    return tuple(sorted(gone)), read


def _state(work: Workspace, chain: Chain, node: fx.Node) -> Any:
    """One state of a chain."""
    rank = node.meta["val"].ndim + 1
    at = {"x": chain.value, "dim": -rank, "index": chain.nodes.index(node)}
    return stage(work, OPERATORS["select"], at)


def _cost(target: Any, val: Any) -> float:
    """Nanoseconds for a call of an operator and the numbers it writes."""
    op = operator_of(target)
    if op is not None and op.name in VIEWS:
        return 0.0
    numbers = elements_at_example(val) if isinstance(val, Tensor) else 0
    return PER_OPERATOR + (PER_NUMBER if numbers <= NEAR else PER_NUMBER_FAR) * numbers


def _macs(work: Workspace, term: Staged) -> int:
    """Multiply–accumulates of a staged call."""
    op = operator_of(term.target)
    if op is None or op.macs is None or op.name not in ("linear", "matmul"):
        return 0
    left, right = term.args[0], term.args[1]
    result = elements_at_example(work.val(term))
    inner = work.val(right).shape[-1 if op.name == "linear" else -2] if right is not None else 0
    inner = inner if isinstance(inner, int) else work.val(left).shape[-1]
    return int(result * int(inner))
