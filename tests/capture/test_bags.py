"""Bags of equally many ids are a lookup and a fold; what weighs ids or cuts them otherwise is left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tdsl
from tdsl.capture import capture
from tdsl.ops.targets import operator_of

IDS = torch.randint(0, 8, (4, 5), generator=torch.Generator().manual_seed(0))
ORDER = torch.tensor([2, 0, 3, 1])


class Net(nn.Module):
    """`forward` of bags and ids."""

    def __init__(self, forward: Callable[..., Tensor], bags: nn.EmbeddingBag) -> None:
        super().__init__()
        self.function, self.bags = forward, bags
        self.register_buffer("order", ORDER)

    def forward(self, ids: Tensor) -> Tensor:
        result: Tensor = self.function(self, ids)
        return result


def captured(forward: Callable[..., Tensor], bags: nn.EmbeddingBag, dynamic: Any = None) -> list[str]:
    """The operators of the normal form; numbers are compared, on other ids too."""
    model = Net(forward, bags).eval()
    module = capture(model, (IDS,), dynamic_shapes=dynamic).module
    for ids in (IDS, IDS.flip(1) if dynamic is None else IDS[:3]):
        torch.testing.assert_close(module(ids), model(ids))
    found = [operator_of(node.target) for node in module.graph.nodes if node.op == "call_function"]
    return ["?" if op is None else op.name for op in found]


@pytest.mark.parametrize(("mode", "fold"), [("sum", "sum"), ("mean", "mean"), ("max", "amax")])
@pytest.mark.parametrize("dynamic", [None, {"ids": {0: "batch"}}])
def test_bags_of_equal_length_are_folded(mode: str, fold: str, dynamic: Any) -> None:
    bags = nn.EmbeddingBag(8, 6, mode=mode)
    assert captured(lambda m, ids: m.bags(ids), bags, dynamic) == ["embedding", fold]


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, ids: m.bags(ids.flatten(), torch.tensor([0, 3, 9, 15])),
        lambda m, ids: m.bags(ids.flatten(), torch.arange(0, 20, 4)),
    ],
    ids=["of other lengths", "across rows"],
)
def test_other_bags_are_left(forward: Callable[..., Tensor]) -> None:
    assert "embedding" not in captured(forward, nn.EmbeddingBag(8, 6, mode="sum"))


def test_bags_that_are_weighed_are_sums_of_products() -> None:
    def forward(m: Any, ids: Tensor) -> Tensor:
        return m.bags(ids, per_sample_weights=m.bags.weight[:4, :5])  # type: ignore[no-any-return]

    bags = nn.EmbeddingBag(8, 6, mode="sum")
    assert captured(forward, bags)[-4:] == ["embedding", "unsqueeze", "mul", "sum"]
    model = Net(forward, bags)
    torch.testing.assert_close(capture(model, (IDS,)).module(IDS), model(IDS))


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_ids_that_count_for_nothing_are_masked_in_sums(mode: str) -> None:
    bags = nn.EmbeddingBag(8, 6, mode=mode, padding_idx=int(IDS[0, 0]))
    assert ("embedding" in captured(lambda m, ids: m.bags(ids), bags)) is (mode != "max")
    model = Net(lambda m, ids: m.bags(ids), bags)
    torch.testing.assert_close(capture(model, (IDS,)).module(IDS), model(IDS))


@pytest.mark.parametrize("axis", [0, 1])
def test_orders_of_bags_and_in_bags_disappear(axis: int) -> None:
    def forward(m: Any, ids: Tensor) -> Tensor:
        ordered: Tensor = m.bags(ids[:, :4].index_select(axis, m.order))
        return ordered.index_select(0, m.order.argsort()) if axis == 0 else ordered

    model = Net(forward, nn.EmbeddingBag(8, 6, mode="mean")).eval()
    result = tdsl.compile(model, (IDS,), latency=False)
    found = [operator_of(node.target) for node in result.module.graph.nodes if node.op == "call_function"]
    assert [op.name for op in found if op is not None] == ["slice", "embedding", "mean"]
