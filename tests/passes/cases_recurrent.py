"""Cases of `passes/factorize/recurrent.tdsl`, gates that read few numbers, of unrolled loops, of splines."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from rule_cases import Case, fires, leaves, low_rank, number
from torch import nn

FULL = 1e-9
"""Precision where the rank kept is that of the weight."""
X = (3, 7, 12)


def narrow(kind: type[nn.RNNBase], rank: int | None, **options: Any) -> nn.RNNBase:
    """A recurrent layer of 12 inputs and 5 units, whose input weight has that rank."""
    layer = kind(12, 5, batch_first=True, **options).double()
    if rank is not None:
        with torch.no_grad():
            layer.weight_ih_l0.copy_(low_rank(*layer.weight_ih_l0.shape, rank))
    return layer


def of(case: Case, layer: nn.RNNBase) -> Case:
    """`case` with that layer as it is: parts of a case have their weights drawn anew."""
    case.model.layer = layer.eval()
    return case


OPTIONS = "has_biases=true, num_layers=1, dropout=0.0, train=false, bidirectional=false, batch_first=true"
EXPECT = {
    "lstm": """
        zeros = zeros([1, 3, 5], dtype=f64, device=cpu)
        zeros_1 = zeros([1, 3, 5], dtype=f64, device=cpu)
        linear = linear(x, {weight})
        lstm_1 = lstm(linear, zeros, zeros_1, {weight}_1, layer.weight_hh_l0, {bias}, {other}, {options})
        getitem = lstm_1[0]
    """,
    "gru": """
        zeros = zeros([1, 3, 5], dtype=f64, device=cpu)
        linear = linear(x, {weight})
        gru_1 = gru(linear, zeros, {weight}_1, layer.weight_hh_l0, {bias}, {other}, {options})
        getitem = gru_1[0]
    """,
}


def positive(rule: str, kind: type[nn.RNNBase], weight: str, bias: str = "") -> Case:
    """The rule at the rank of the weight; `weight` and `bias` are what it adds to their names."""
    expect = EXPECT[kind.__name__.lower()].format(
        weight=f"layer.weight_ih_l0_{weight}",
        bias=f"layer.bias_ih_l0{bias}",
        other="layer.bias_hh_l0",
        options=OPTIONS,
    )
    case = fires(
        f"factorize.recurrent.{rule}",
        lambda m, x: m.layer(x)[0],
        X,
        parameters={"rank": 2},
        precision=FULL,
        expect=expect,
    )
    return of(case, narrow(kind, 2))


def negative(rule: str, layer: nn.RNNBase, because: str, rank: int = 2) -> Case:
    """The rule on a layer that it is not for."""
    case = leaves(
        f"factorize.recurrent.{rule}",
        lambda m, x: m.layer(x)[0],
        X,
        parameters={"rank": rank},
        because=because,
    )
    return of(case, layer)


KNOTS = (torch.arange(-2, 6, dtype=torch.float64) / 2).expand(3, -1).contiguous()
OTHER_KNOTS = torch.tensor([-2, -1, 0, 1, 2.5, 3, 4, 5]).double().expand(3, -1).contiguous()


def splines(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Splines of degree 2, by the recursion of Cox and de Boor."""
    x, g = x.unsqueeze(-1), m.grid
    bases = ((x >= g[:, :-1]) & (x < g[:, 1:])).to(x.dtype)
    for k in (1, 2):
        left = (x - g[:, : -(k + 1)]) / (g[:, k:-1] - g[:, : -(k + 1)]) * bases[:, :, :-1]
        bases = left + (g[:, k + 1 :] - x) / (g[:, k + 1 :] - g[:, 1:-k]) * bases[:, :, 1:]
    return bases


UNROLLED = [
    fires(
        "layout.splines",
        splines,
        (4, 3),
        grid=KNOTS,
        more_bytes="knots, centres and scale of each feature are float64 numbers",
        expect="""
            unsqueeze = unsqueeze(x, -1)
            mul_4 = mul(unsqueeze, scale)
            sub_8 = sub(mul_4, centres)
            abs_1 = abs(sub_8)
            mul_5 = mul(abs_1, 0.7071067811865476)
            sub_9 = sub(1.0606601717798214, mul_5)
            relu = relu(sub_9)
            mul_6 = mul(relu, relu)
            mul_7 = mul(abs_1, 1.224744871391589)
            sub_10 = sub(0.6123724356957945, mul_7)
            relu_1 = relu(sub_10)
            mul_8 = mul(relu_1, relu_1)
            sub_11 = sub(mul_6, mul_8)
        """,
    ),
    leaves("layout.splines", splines, (4, 3), grid=OTHER_KNOTS, because="knots are not uniform"),
    fires(
        "layout.unrolled",
        lambda m, x: torch.stack([F.linear(x.select(1, t), m.w) for t in range(8)], 1),
        (3, 8, 5),
        w=number(6, 5),
        expect="""
            permute = permute(x, [1, 0, 2])
            linear_8 = linear(permute, w)
            permute_1 = permute(linear_8, [1, 0, 2])
        """,
    ),
    leaves(
        "layout.unrolled",
        lambda m, x: torch.stack([F.linear(x.select(1, t * 3 % 8), m.w) for t in range(8)], 1),
        (3, 8, 5),
        w=number(6, 5),
        because="steps are in another order",
    ),
]

CASES = [
    *UNROLLED,
    positive("svd_lstm_input", nn.LSTM, "svd"),
    negative("svd_lstm_input", narrow(nn.LSTM, 2, num_layers=2), "two layers are one operator"),
    negative("svd_lstm_input", narrow(nn.LSTM, 2, bidirectional=True), "both directions read the input"),
    negative("svd_lstm_input", narrow(nn.LSTM, None), "factors of rank 8 are larger than the weight", 8),
    positive("whitened_lstm_input", nn.LSTM, "whitened_svd", "_whitened_lstm_input"),
    negative("whitened_lstm_input", narrow(nn.LSTM, 2, bidirectional=True), "both directions read the input"),
    positive("svd_gru_input", nn.GRU, "svd"),
    negative("svd_gru_input", narrow(nn.GRU, 2, num_layers=2), "two layers are one operator"),
    positive("whitened_gru_input", nn.GRU, "whitened_svd", "_whitened_gru_input"),
    negative("whitened_gru_input", narrow(nn.GRU, None), "factors of rank 7 are larger than the weight", 7),
]
