"""Attention under a constant mask, block by block: scores that the mask puts out are not computed.

The mask and its blocks are values of a constant, and an infinity stands where nothing is seen, so that no
rule can say this over a field.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tdsl.passes.layout.known import known_value
from torch import Tensor, fx

from tdsl.engine.census import macs_of
from tdsl.engine.passes import graph_pass
from tdsl.engine.sizes import same, same_shape
from tdsl.engine.stage import stage
from tdsl.engine.staged import Constant
from tdsl.engine.sweep import Change, SweepPass
from tdsl.engine.workspace import Workspace
from tdsl.factor.mask_blocks import Blocks, mask_blocks
from tdsl.ops import OPERATORS
from tdsl.ops.targets import operator_of

FEWEST = 128
"""Queries below which dispatch eats the gain: with 128 of width 32 it is 1.2 ×, measured in onnxruntime."""
LIMIT = 0.75
"""The blocks hold at most this share of the scores: then they were 1.3 × as fast, at a quarter twice."""
UNSEEN = -1e9
"""A summand below this leaves a key no share that a number of 64 bits could tell from 0."""


@graph_pass
class AttentionBlocks(SweepPass):
    """Attention whose mask is constant, over blocks of queries and the keys that they see."""

    name = "layout.attention_blocks"

    def at(self, work: Workspace, node: fx.Node) -> Change | None:
        """Attention that ends in a node, be it one operator or a softmax between two products."""
        found = _attention(work, node)
        blocks = None if found is None else _blocks(found)
        if found is None or blocks is None:
            return None
        value = _blockwise(work, found, blocks)
        if not same_shape(work.val(value).shape, node.meta["val"].shape):
            return None
        share = blocks.width / found.seen.shape[-1]
        return Change(
            (node,),
            (value,),
            found.matched,
            saved_parameters=found.seen.numel() - blocks.keys.numel() * (1 + blocks.size),
            saved_macs=int(macs_of(work, found.matched) * (1 - share)),
            details={"blocks": blocks.count, "queries": blocks.size, "keys": blocks.width},
        )


@dataclass(frozen=True, slots=True)
class _Attention:
    """softmax(scale · query · keys + mask) · value, with `keys` transposed or not."""

    query: fx.Node
    key: fx.Node
    transposed: bool
    """Whether `key` is [..., d, u]."""
    value: fx.Node
    scales: tuple[tuple[str, float], ...]
    """What scores are multiplied or divided by, in order."""
    seen: Tensor
    """Which key a query sees. [..., t, u], bool."""
    added: Tensor | None
    """What is added to the scores that are seen, of that shape."""
    matched: tuple[fx.Node, ...]


# ---------------------------------------------------------------- what is attention


def _attention(work: Workspace, root: fx.Node) -> _Attention | None:
    """The attention that ends in `root`, if its mask is constant."""
    match _call(root):
        case "attention":
            found = _fused(work, root)
        case "matmul":
            found = _spelt_out(work, root)
        case _:
            return None
    if found is None:
        return None
    values = [node.meta["val"] for node in (root, found.query, found.key, found.value)]
    if not all(isinstance(v, Tensor) and v.dtype == values[0].dtype and v.ndim >= 2 for v in values):
        return None
    _, q, k, v = (list(value.shape) for value in values)
    k = [*k[:-2], k[-1], k[-2]] if found.transposed else k
    wanted = [*found.seen.shape[-2:], q[-1], v[-1]]
    known = [q[-2], k[-2], k[-1], v[-1]]
    fits = all(isinstance(size, int) for size in known) and known == wanted and same(v[-2], k[-2])
    return found if fits and len(q) == len(k) == len(v) >= found.seen.ndim else None


def _fused(work: Workspace, root: fx.Node) -> _Attention | None:
    """Attention as one operator."""
    arguments = dict(zip((p.name for p in OPERATORS["attention"].params), root.args, strict=False))
    query, key, value, mask = (arguments.get(name) for name in ("query", "key", "value", "mask"))
    plain = not arguments.get("dropout") and not arguments.get("causal") and not root.kwargs.get("enable_gqa")
    nodes = (query, key, value, mask)
    if not plain or not all(isinstance(node, fx.Node) for node in nodes):
        return None
    assert isinstance(query, fx.Node) and isinstance(key, fx.Node) and isinstance(value, fx.Node)
    table = known_value(work, mask)
    width = query.meta["val"].shape[-1]
    if table is None or table.ndim < 2 or not isinstance(width, int):
        return None
    scale: Any = root.kwargs.get("scale")
    scales = (("mul", float(width**-0.5 if scale is None else scale)),)
    seen, added = (table, None) if table.dtype == torch.bool else (table > UNSEEN, table)
    return _Attention(query, key, False, value, scales, seen, added, (root,))


def _spelt_out(work: Workspace, root: fx.Node) -> _Attention | None:
    """A softmax between two products, with a mask in front of it."""
    weights, value = root.args
    if not isinstance(weights, fx.Node) or not isinstance(value, fx.Node) or _call(weights) != "softmax":
        return None
    masked, axis, dtype = weights.args
    if not isinstance(masked, fx.Node) or axis != -1 or dtype not in (None, masked.meta["val"].dtype):
        return None
    unmasked = _unmasked(work, masked)
    if unmasked is None:
        return None
    scores, seen, added = unmasked
    matched, scales = [root, weights, masked], []
    while _call(scores) in ("mul", "div"):
        factor = _number(work, scores.args[1])
        if factor is None or not isinstance(scores.args[0], fx.Node):
            return None
        scales.append((_call(scores), factor))
        matched.append(scores)
        scores = scores.args[0]
    matched.append(scores)
    if _call(scores) != "matmul" or any(len(node.users) > 1 for node in matched[1:]):
        return None
    query, key = scores.args
    if not isinstance(query, fx.Node) or not isinstance(key, fx.Node) or seen.ndim < 2:
        return None
    return _Attention(query, key, True, value, tuple(reversed(scales)), seen, added, tuple(sorted(matched)))


def _unmasked(work: Workspace, node: fx.Node) -> tuple[fx.Node, Tensor, Tensor | None] | None:
    """The scores in front of a mask, what is seen of them, and what is added to it."""
    name = _call(node)
    if name == "add" and len(node.args) > 1 and not node.kwargs and node.args[2:] in ((), (1,)):
        for scores, mask in (node.args[:2], node.args[1::-1]):
            table = known_value(work, mask)
            if isinstance(scores, fx.Node) and table is not None and table.is_floating_point():
                return scores, table > UNSEEN, table
    if name == "masked_fill":
        scores, mask, fill = node.args
        table, low = known_value(work, mask), _number(work, fill)
        if isinstance(scores, fx.Node) and table is not None and low is not None and low <= UNSEEN:
            return scores, ~table, None
    if name == "where":
        mask, one, other = node.args
        table = known_value(work, mask)
        if table is None or table.dtype != torch.bool:
            return None
        for scores, fill, seen in ((one, other, table), (other, one, ~table)):
            low = _number(work, fill)
            if isinstance(scores, fx.Node) and low is not None and low <= UNSEEN:
                return scores, seen, None
    return None


def _call(node: Any) -> str:
    """The name of the operator that a node is a call of."""
    op = operator_of(node.target) if isinstance(node, fx.Node) and node.op == "call_function" else None
    return op.name if op is not None else ""


def _number(work: Workspace, value: Any) -> float | None:
    """A number, or the one entry of a constant."""
    if isinstance(value, int | float):
        return float(value)
    table = known_value(work, value)
    return float(table) if table is not None and table.numel() == 1 else None


# ---------------------------------------------------------------- what takes its place


def _blocks(found: _Attention) -> Blocks | None:
    """The blocks, where they save enough."""
    *_, queries, keys = found.seen.shape
    if queries < FEWEST:
        return None
    blocks = mask_blocks(found.seen)
    return blocks if blocks is not None and blocks.width <= LIMIT * keys else None


def _blockwise(work: Workspace, found: _Attention, blocks: Blocks) -> Any:
    """The same values, computed block by block."""

    def make(name: str, **arguments: Any) -> Any:
        return stage(work, OPERATORS[name], arguments)

    query: Any = found.query
    for name, factor in found.scales:
        query = make(name, x=query, y=factor) if factor != 1 else query
    *leading, _, width = query.meta["val"].shape if isinstance(query, fx.Node) else work.val(query).shape
    inner = [blocks.size, blocks.count] if blocks.strided else [blocks.count, blocks.size]
    exchanged = [*range(len(leading)), len(leading) + 1, len(leading), len(leading) + 2]
    query = make("reshape", x=query, shape=[*leading, *inner, width])
    if blocks.strided:
        query = make("permute", x=query, dims=exchanged)
    index = Constant(blocks.keys.reshape(-1), torch.int64, "keys")
    key = _selected(work, found.key, -1 if found.transposed else -2, index, blocks, last=True)
    value = _selected(work, found.value, -2, index, blocks, last=False)
    seen = blocks.of(found.seen)
    kept = torch.zeros(()) if found.added is None else blocks.of(found.added)
    mask = torch.where(seen, kept.double(), -math.inf)
    mask = mask.reshape(mask.shape[next(i for i, n in enumerate((*mask.shape[:-3], 0)) if n != 1) :])
    scores = make("add", x=make("matmul", x=query, y=key), y=Constant(mask, _dtype(found.query), "mask"))
    result = make("matmul", x=make("softmax", x=scores, dim=-1), y=value)
    if blocks.strided:
        result = make("permute", x=result, dims=exchanged)
    final = found.matched[-1].meta["val"].shape
    return make("reshape", x=result, shape=list(final))


def _selected(
    work: Workspace, node: fx.Node, axis: int, index: Constant, blocks: Blocks, *, last: bool
) -> Any:
    """The keys of each block, [..., n, w, d], or with `last` [..., n, d, w].

    They are taken where they lie, in front of a permutation, so that one movement does for both.
    """
    source, order = node, list(range(node.meta["val"].ndim))
    if _call(node) == "permute":
        source, order = node.args[0], list(node.args[1])  # type: ignore[assignment, arg-type]
    shape: Sequence[Any] = source.meta["val"].shape
    count = len(order)
    place = order[axis % count]
    picked = stage(work, OPERATORS["index_select"], {"x": source, "dim": place - count, "index": index})
    split = [*shape[:place], blocks.count, blocks.width, *shape[place + 1 :]]
    picked = stage(work, OPERATORS["reshape"], {"x": picked, "shape": split})
    moved = [old if old < place else old + 1 for old in order]
    other = moved[(-3 - axis) % count]  # the axis of the features: the other one of the last two
    end = [other, place + 1] if last else [place + 1, other]
    dims = [*moved[:-2], place, *end]
    if dims == list(range(count + 1)):
        return picked
    return stage(work, OPERATORS["permute"], {"x": picked, "dims": dims})


def _dtype(node: fx.Node) -> torch.dtype:
    value = node.meta["val"]
    assert isinstance(value, Tensor)
    return value.dtype
