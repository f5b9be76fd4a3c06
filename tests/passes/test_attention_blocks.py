"""Attention under a constant mask in blocks: every spelling and pattern, and what must be left alone."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from rule_cases import net
from torch import Tensor, nn

from tdsl.capture import capture
from tdsl.engine.census import copied
from tdsl.engine.journal import Journal
from tdsl.engine.library import standard_library
from tdsl.factor.mask_blocks import mask_blocks

LENGTH = 128
PLACES = torch.arange(LENGTH)
APART = PLACES[:, None] - PLACES
PATTERNS = {
    "local": APART.abs() < 8,
    "local and causal": (APART >= 0) & (APART < 16),
    "strided": APART % 8 == 0,
    "strided and causal": (APART % 16 == 0) & (APART >= 0),
    "blocks": PLACES[:, None] // 16 == PLACES // 16,
    "local and a summary": (APART.abs() < 8) | (PLACES < 4),
}


def heads(m: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of two heads of width 4."""
    q, k, v = (F.linear(x, w).reshape(-1, LENGTH, 2, 4).transpose(1, 2) for w in (m.q, m.k, m.v))
    return q, k, v


def fused(m: nn.Module, x: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(*heads(m, x), m.seen)


def fused_sum(m: nn.Module, x: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(*heads(m, x), m.added, scale=0.7)


def added(m: nn.Module, x: Tensor) -> Tensor:
    q, k, v = heads(m, x)
    return (q @ k.transpose(-1, -2) / 2 + m.added).softmax(-1) @ v


def filled(m: nn.Module, x: Tensor) -> Tensor:
    q, k, v = heads(m, x)
    return (q @ k.transpose(-1, -2)).masked_fill(~m.seen, -1e9).softmax(-1) @ v


def chosen(m: nn.Module, x: Tensor) -> Tensor:
    q, k, v = heads(m, x)
    scores = (q * 0.5) @ k.transpose(-1, -2)
    return torch.where(m.seen, scores, torch.finfo(scores.dtype).min).softmax(-1) @ v


def made_on_the_way(m: nn.Module, x: Tensor) -> Tensor:
    q, k, v = heads(m, x)
    near = torch.ones(LENGTH, LENGTH).tril(4).triu(-4)
    return (q @ k.transpose(-1, -2)).masked_fill(near == 0, -math.inf).softmax(-1) @ v


SPELLINGS = [fused, fused_sum, added, filled, chosen, made_on_the_way]


def rewritten(forward: Any, seen: Tensor, **parts: Any) -> tuple[nn.Module, nn.Module, Journal]:
    generator = torch.Generator().manual_seed(0)
    weights = {n: torch.randn(8, 12, generator=generator, dtype=torch.float64) for n in "qkv"}
    bias = torch.randn(seen.shape, generator=generator, dtype=torch.float64).where(seen, -math.inf)
    model = net(forward, **weights, seen=seen, added=bias, **parts)
    batch = torch.randn(3, LENGTH, 12, dtype=torch.float64)
    captured = capture(model, (batch,), dynamic_shapes={"x": {0: "batch"}})
    module, journal = copied(captured.module), Journal()
    standard_library().passes["layout.attention_blocks"]().rewrite(module, journal)
    module.recompile()
    return model, module, journal


def scores(module: nn.Module) -> int:
    """How many scores of one head and sample are computed."""
    node = next(n for n in module.graph.nodes if "softmax" in str(n.target))
    return math.prod(node.meta["val"].shape[2:])


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_pattern_is_computed_in_blocks(pattern: str) -> None:
    model, module, journal = rewritten(fused, PATTERNS[pattern])
    assert len(journal.entries) == 1
    assert scores(module) < LENGTH**2 / 2
    x = torch.randn(2, LENGTH, 12, dtype=torch.float64)
    expected = model(x)
    torch.testing.assert_close(module(x), expected, rtol=0, atol=1e-12)
    assert expected.std() > 0.1


@pytest.mark.parametrize("forward", SPELLINGS)
def test_every_spelling_is_recognised(forward: Any) -> None:
    model, module, journal = rewritten(forward, PATTERNS["local and causal"])
    assert len(journal.entries) == 1
    x = torch.randn(5, LENGTH, 12, dtype=torch.float64)
    torch.testing.assert_close(module(x), model(x), rtol=0, atol=1e-12)


def test_heads_with_masks_of_their_own_share_blocks() -> None:
    seen = torch.stack([PATTERNS["local"], PATTERNS["local and causal"]])
    model, module, journal = rewritten(fused_sum, seen)
    assert len(journal.entries) == 1
    x = torch.randn(2, LENGTH, 12, dtype=torch.float64)
    torch.testing.assert_close(module(x), model(x), rtol=0, atol=1e-12)


def from_data(m: nn.Module, x: Tensor) -> Tensor:
    q, k, v = heads(m, x)
    seen = m.seen & (x[:, None, None, :, 0] > -9)
    return (q @ k.transpose(-1, -2)).masked_fill(~seen, -math.inf).softmax(-1) @ v


def weak(m: nn.Module, x: Tensor) -> Tensor:
    q, k, v = heads(m, x)
    return (q @ k.transpose(-1, -2)).masked_fill(~m.seen, -100.0).softmax(-1) @ v


def watched(m: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    q, k, v = heads(m, x)
    weights = (q @ k.transpose(-1, -2)).masked_fill(~m.seen, -math.inf).softmax(-1)
    return weights, weights @ v


def over_queries(m: nn.Module, x: Tensor) -> Tensor:
    q, k, v = heads(m, x)
    return (q @ k.transpose(-1, -2)).masked_fill(~m.seen, -math.inf).softmax(-2) @ v


CONTROLS = {
    "the mask comes from data": (from_data, PATTERNS["local"]),
    "what is masked keeps a share": (weak, PATTERNS["local"]),
    "somebody reads the weights": (watched, PATTERNS["local"]),
    "the softmax is over queries": (over_queries, PATTERNS["local"]),
    "everything is seen": (fused, torch.ones(LENGTH, LENGTH, dtype=torch.bool)),
    "a query sees nothing": (fused, PATTERNS["local"] & (PLACES[:, None] > 0)),
    "entries are seen at random": (fused, (APART == 0) | ((PLACES[:, None] * 37 + PLACES**2 * 11) % 7 < 2)),
}


@pytest.mark.parametrize("control", CONTROLS)
def test_what_has_no_constant_pattern_is_left_alone(control: str) -> None:
    _, _, journal = rewritten(*CONTROLS[control])
    assert not journal.entries


def test_blocks_hold_all_that_is_seen_once() -> None:
    for seen in PATTERNS.values():
        blocks = mask_blocks(seen)
        assert blocks is not None
        assert int(blocks.of(seen).sum()) == int(seen.sum())
        assert all(len(set(keys)) == blocks.width for keys in blocks.keys.tolist())


def test_blocks_of_other_keys_would_not_do() -> None:
    """Control: with the keys of its neighbour a block loses what it sees."""
    blocks = mask_blocks(PATTERNS["blocks"])
    assert blocks is not None
    shifted = type(blocks)(blocks.keys.roll(1, 0), blocks.size, blocks.strided)
    assert int(shifted.of(PATTERNS["blocks"]).sum()) == 0
