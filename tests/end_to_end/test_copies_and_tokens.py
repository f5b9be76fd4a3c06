"""Copies joined along the batch, tokens that are read, bags that are weighed: the same, computed in less."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import tdsl
from tdsl.engine.census import census

Net = Callable[[Tensor], Tensor]


def names(result: tdsl.Result) -> list[str]:
    """The operators of a compiled graph, without their overloads."""
    calls = (node.target for node in result.module.graph.nodes if node.op == "call_function")
    return [getattr(target, "__name__", "").partition(".")[0] for target in calls]


def compiled(module: nn.Module, *example: Tensor) -> tdsl.Result:
    """The module under the default pipeline; in float64 it computes what it did."""
    result = tdsl.compile(module.eval(), example, latency=False)
    double = result.module.double()
    inputs = tuple(x.double() if x.is_floating_point() else x for x in example)
    with torch.no_grad():
        torch.testing.assert_close(double(*inputs), module.double()(*inputs), rtol=1e-5, atol=1e-6)
    return result


class Mirrored(nn.Module):
    """Convolutions whose kernels are the same in every mirror and turn; `of` may spoil one of them."""

    def __init__(self, spoilt: bool = False, pooled: bool = True) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(i, 4, 3, padding=1) for i in (3, 4))
        self.head, self.pooled = nn.Linear(4, 5), pooled
        orbits = torch.tensor([[0, 1, 0], [1, 2, 1], [0, 1, 0]])
        for conv in (self.first, self.second):
            conv.weight.data = torch.randn(*conv.weight.shape[:2], 3)[:, :, orbits]
        if spoilt:
            self.second.weight.data[0, 0, 0, 0] += 1e-4

    def forward(self, x: Tensor) -> Tensor:
        h = self.second(F.max_pool2d(self.first(x).relu(), 2)).relu()
        return self.head(h.mean((2, 3))) if self.pooled else h


JOINED: dict[str, Callable[[Net, Tensor], Tensor]] = {
    "chunks": lambda net, x: sum(net(torch.cat([x, x.flip(3)])).chunk(2)) / 2,
    "rows": lambda net, x: net(torch.cat([x, x.flip(3), x.rot90(1, (2, 3))])).view(3, -1, 5).mean(0),
    "stacked": lambda net, x: net(torch.stack([x, x.flip(2)], 1).flatten(0, 1)).unflatten(0, (-1, 2)).mean(1),
    "largest": lambda net, x: torch.stack(net(torch.cat([x, x.flip(2, 3)])).split(len(x))).amax(0),
    "parts": lambda net, x: (lambda y: (y[: len(x)] + y[len(x) :]) / 2)(net(torch.cat([x.flip(3), x]))),
}


class Augmented(nn.Module):
    """A net on copies that are joined along the batch."""

    def __init__(self, net: nn.Module, spelling: Callable[[Net, Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.spelling = net, spelling

    def forward(self, x: Tensor) -> Tensor:
        return self.spelling(self.net, x)


@pytest.mark.parametrize("spelling", JOINED)
def test_a_net_that_does_not_see_the_copy_is_called_on_one(spelling: str) -> None:
    plain = compiled(Mirrored(), torch.randn(2, 3, 8, 8))
    result = compiled(Augmented(Mirrored(), JOINED[spelling]), torch.randn(2, 3, 8, 8))
    assert names(result) == names(plain)
    assert any(entry.rule == "merge.copies" for entry in result.report.rewrites)


def test_results_of_copies_are_copies_of_results() -> None:
    def turned_back(net: Net, x: Tensor) -> Tensor:
        first, second = net(torch.cat([x, x.rot90(1, (2, 3))])).chunk(2)
        return (first + second.rot90(-1, (2, 3))) / 2

    result = compiled(Augmented(Mirrored(pooled=False), turned_back), torch.randn(2, 3, 8, 8))
    assert names(result) == ["conv2d", "relu", "max_pool2d", "conv2d", "relu"]


@pytest.mark.parametrize("spelling", JOINED)
def test_a_weight_that_is_not_tied_keeps_the_copies_behind_it_apart(spelling: str) -> None:
    result = compiled(Augmented(Mirrored(spoilt=True), JOINED[spelling]), torch.randn(2, 3, 8, 8))
    batches = [n.meta["val"].shape[0] for n in result.module.graph.nodes if "conv2d" in str(n.target)]
    assert batches[0] == 2 and batches[1] > 2


def test_pairs_that_are_put_together_at_an_open_size_are_no_copies() -> None:
    class Paired(Mirrored):
        def forward(self, x: Tensor) -> Tensor:
            rows = x.mean(3)
            pairs = torch.stack([rows, -rows], -1).reshape(x.shape[0], 3, -1)
            return pairs.softmax(-1)

    x = torch.randn(2, 3, 8, 8)
    result = tdsl.compile(Paired(), (x,), dynamic_shapes={"x": {0: "batch"}}, latency=False)
    torch.testing.assert_close(result.module(x[:1]), Paired()(x[:1]))
    assert not any(entry.rule == "merge.copies" for entry in result.report.rewrites)


def test_copies_that_see_one_another_stay() -> None:
    class Centred(Mirrored):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x - x.mean(0, keepdim=True))

    result = compiled(Augmented(Centred(), JOINED["chunks"]), torch.randn(2, 3, 8, 8))
    assert not any(entry.rule == "merge.copies" for entry in result.report.rewrites)


class Encoder(nn.Module):
    """A transformer of which one token is read, or all of them."""

    def __init__(self, read: Callable[[Tensor], Tensor], norm_first: bool) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=norm_first)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm, self.head, self.read = nn.LayerNorm(16), nn.Linear(16, 3), read

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.read(self.norm(self.layers(x))))


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("place", [0, -1])
def test_of_the_last_block_one_token_is_computed(norm_first: bool, place: int) -> None:
    example = torch.randn(2, 20, 16)
    result = compiled(Encoder(lambda x: x[:, place], norm_first), example)
    pooled = compiled(Encoder(lambda x: x.mean(1), norm_first), example)
    last = 2 * 20 * (16 * 16 + 2 * 16 * 32 + 2 * 20 * 16)
    saved = census(pooled.module).macs - census(result.module).macs
    assert saved > 0.9 * last
    assert names(result).count("linear") == names(pooled).count("linear")


def test_all_tokens_are_computed_where_all_are_read() -> None:
    class Both(Encoder):
        def forward(self, x: Tensor) -> Tensor:
            h = self.norm(self.layers(x))
            return self.head(h[:, 0]) + h.amax(1)[:, :3]

    result = compiled(Both(lambda x: x, True), torch.randn(2, 20, 16))
    assert not any("token" in entry.rule for entry in result.report.rewrites if "layer_norm" in entry.rule)


@pytest.mark.parametrize(
    ("mode", "padding", "weighed"), [("sum", None, True), ("sum", 0, True), ("mean", 0, False)]
)
def test_bags_are_looked_up_without_a_loop(mode: str, padding: int | None, weighed: bool) -> None:
    class Bags(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.EmbeddingBag(9, 4, mode=mode, padding_idx=padding)
            nn.init.normal_(self.table.weight)

        def forward(self, ids: Tensor, weights: Tensor) -> Tensor:
            return self.table(ids, per_sample_weights=weights if weighed else None) + weights.sum(
                1, keepdim=True
            )

    ids = torch.tensor([[0, 3, 8], [1, 0, 0], [0, 0, 0], [5, 5, 2]])
    result = compiled(Bags(), ids, torch.rand(4, 3))
    assert not {"Loop", "Scan", "SequenceAt"} & {node.op_type for node in result.onnx.graph.node}
