"""An operator that a model says in other words is recognised, and nothing else is taken for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from rewriting import graph_of
from torch import Tensor, fx, nn

from tdsl.engine import near_miss

OTHER_WORDS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda x: torch.clamp(x, min=0),
    "clamp": torch.relu,
    "silu": lambda x: x * torch.sigmoid(x),
    "mish": lambda x: x * torch.tanh(F.softplus(x)),
    "gelu": lambda x: x * 0.5 * (1 + torch.erf(x / 2**0.5)),
    "softmax": lambda x: (e := x.exp()) / e.sum(-1, keepdim=True),
    "square": lambda x: x**2,
    "sqrt": lambda x: x**0.5,
    "rsqrt": lambda x: x**-0.5,
    "reciprocal": lambda x: x**-1,
    "pow": lambda x: x.square(),
    "neg": lambda x: x * -1,
    "sub": lambda x: x + -x.exp(),
    "add": lambda x: x - x.exp(),
    "div": lambda x: x * x.exp().reciprocal(),
    "mul": lambda x: x / 2,
    "linear": lambda x: x @ x,
    "matmul": lambda x: F.linear(x, x),
}


class Words(nn.Module):
    def __init__(self, words: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.words = words

    def forward(self, x: Tensor) -> Tensor:
        return self.words(x)


def last(words: Callable[[Tensor], Tensor]) -> fx.Node:
    [node] = graph_of(Words(words), torch.rand(4, 4) + 1).module.graph.output_node().all_input_nodes
    return node


def recognised(node: fx.Node) -> list[str]:
    return [name for name in near_miss._OTHER_WORDS if near_miss.written_otherwise(name, node)]


def test_all_of_them_are_tried() -> None:
    assert OTHER_WORDS.keys() == near_miss._OTHER_WORDS.keys()


@pytest.mark.parametrize("name", OTHER_WORDS)
def test_other_words_are_those_of_one_operator(name: str) -> None:
    assert recognised(last(OTHER_WORDS[name])) == [name]


@pytest.mark.parametrize(
    "words",
    [
        lambda x: torch.clamp(x, min=0, max=6),
        lambda x: x * torch.sigmoid(2 * x),
        lambda x: x.exp() / x.sum(-1, keepdim=True),
        lambda x: x**3,
        lambda x: x * 2,
        lambda x: x.exp() / x,
        torch.tanh,
    ],
)
def test_what_is_nearly_so_is_not(words: Callable[[Tensor], Tensor]) -> None:
    assert recognised(last(words)) == []
