"""Orders of heads and of tokens around queries, keys and values in one weight disappear, exactly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import tdsl

HEADS, WIDTH, TOKENS = 4, 8, 6
ORDERS = {HEADS: torch.tensor([2, 0, 3, 1]), TOKENS: torch.tensor([4, 1, 5, 0, 3, 2])}


class Attention(nn.Module):
    """An attention as vision transformers write it; `before`, `after`: axes that are put in another order."""

    def __init__(self, before: int | None, after: int | None, undone: int | None, parts: str) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(32, 96), nn.Linear(32, 32)
        self.before, self.after, self.undone, self.parts = before, after, undone, parts
        for size, order in ORDERS.items():
            self.register_buffer(f"order{size}", order)
            self.register_buffer(f"undo{size}", order.argsort())

    def ordered(self, x: Tensor, axis: int | None, name: str = "order") -> Tensor:
        return x if axis is None else x.index_select(axis, getattr(self, f"{name}{x.shape[axis]}"))

    def forward(self, x: Tensor) -> Tensor:
        x = self.qkv(x).reshape(2, TOKENS, 3, HEADS, WIDTH)
        x = self.ordered(x, self.before).permute(2, 0, 3, 1, 4)
        x = self.ordered(x, self.after)
        q, k, v = x.unbind(0) if self.parts == "unbind" else (x[0], x[1], x[2])
        h = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        out: Tensor = self.out(self.ordered(h, self.undone, "undo").reshape(2, TOKENS, 32))
        return out


def compiled(net: Attention) -> list[str]:
    """The operators of the compiled graph, whose outputs in float64 are those of the module."""
    result = tdsl.compile(net.eval(), (torch.randn(2, TOKENS, 32),), latency=False)
    x = torch.randn(2, TOKENS, 32, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(result.module.double()(x), net.double()(x), rtol=1e-6, atol=1e-7)
    nodes = [node for node in result.module.graph.nodes if node.op == "call_function"]
    return [node.target.__name__.split(".")[0] for node in nodes]


@pytest.mark.parametrize("parts", ["select", "unbind"])
@pytest.mark.parametrize(
    ("before", "after", "undone"),
    [(3, None, 2), (None, 2, 2), (1, None, 1), (None, 3, 1)],
    ids=["heads before", "heads behind", "tokens before", "tokens behind"],
)
def test_an_order_that_is_undone_leaves_what_stands_without_it(
    before: int | None, after: int | None, undone: int | None, parts: str
) -> None:
    assert compiled(Attention(before, after, undone, parts)) == compiled(Attention(None, None, None, parts))


def test_an_order_of_tokens_that_is_not_undone_stays() -> None:
    assert "index_select" in compiled(Attention(1, None, None, "select"))
