"""Cases of `passes/factorize/recurrent*.tdsl`, gates that read few numbers, of unrolled loops, of splines."""

from __future__ import annotations

import itertools
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


def negative(rule: str, layer: nn.RNNBase, because: str, rank: int = 2) -> Case:
    """The rule on a layer that it is not for."""
    case = leaves(
        f"factorize.{rule}",
        lambda m, x: m.layer(x)[0],
        X,
        parameters={"rank": rank},
        because=because,
    )
    return of(case, layer)


KINDS = {
    "lstm": (nn.LSTM, {}),
    "gru": (nn.GRU, {}),
    "rnn_tanh": (nn.RNN, {}),
    "rnn_relu": (nn.RNN, {"nonlinearity": "relu"}),
}


def alike(cell: str, way: str, both: bool, biased: bool, projected: int = 0) -> list[Case]:
    """A rule for a kind of layers: at the rank of what they read; a near miss."""
    kind, options = KINDS[cell]
    given: dict[str, Any] = {**options, **({"proj_size": projected} if projected else {})}
    family = "lstm" if cell == "lstm" else "recurrent"
    end = "_both" * both + "_unbiased" * (not biased) + "_projected" * bool(projected)
    last = f"{way}_{family}_input{end}"
    layer = narrow(kind, 2, bidirectional=both, bias=biased, **given)
    if both:
        joint = low_rank(2 * len(layer.weight_ih_l0), X[-1], 2)
        with torch.no_grad():
            layer.weight_ih_l0.copy_(joint[: len(joint) // 2])
            layer.weight_ih_l0_reverse.copy_(joint[len(joint) // 2 :])
    found = "whitened_svd" if way == "whitened" else "svd"
    new = [f"{last}", f"{last}_1"] if both else [f"{found}_1"]
    bias = f"_{last}" if way == "whitened" else ""
    weights = [
        part
        for end, name in zip(("", "_reverse"), new, strict=False)
        for part in (
            f"layer.weight_ih_l0_{name}",
            f"layer.weight_hh_l0{end}",
            *((f"layer.bias_ih_l0{end}{bias}", f"layer.bias_hh_l0{end}") if biased else ()),
            *((f"layer.weight_hr_l0{end}",) if projected else ()),
        )
    ]
    states = ["zeros", "zeros_1"] if cell == "lstm" else ["zeros"]
    options = (
        f"has_biases={str(biased).lower()}, num_layers=1, dropout=0.0, train=false, "
        f"bidirectional={str(both).lower()}, batch_first=true"
    )
    widths = [projected or 5, 5]
    expect = [
        f"{state} = zeros([{1 + both}, 3, {width}], dtype=f64, device=cpu)"
        for state, width in zip(states, widths, strict=False)
    ]
    expect.append(f"linear = linear(x, layer.weight_ih_l0_{found})")
    expect.append(f"{cell}_1 = {cell}({', '.join(['linear', *states, *weights])}, {options})")
    expect.append(f"getitem = {cell}_1[0]")
    rule = f"factorize.recurrent{'_projected' if projected else '_both' * both}.{last}"
    at: dict[str, Any] = {"parameters": {"rank": 2}}
    positive = fires(rule, lambda m, x: m.layer(x)[0], X, precision=FULL, expect="\n".join(expect), **at)
    nearest = {"bias": biased} if projected else {"bias": not biased, **given}
    other = narrow(kind, 2, bidirectional=both, **nearest)
    near = leaves(rule, lambda m, x: m.layer(x)[0], X, because="its weights are others", **at)
    return [of(positive, layer), of(near, other)]


def of_layer(number: int) -> str:
    """The weights of one layer of a stack."""
    return ", ".join(f"layer.{name}_l{number}" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))


STACKS = [
    of(
        fires(
            "layout.recurrent_layers",
            lambda m, x: m.layer(x)[0],
            X,
            more_operators="an operator for each layer, of which a file has as many",
            expect=f"""
                zeros_1 = zeros([1, 3, 5], dtype=f64, device=cpu)
                gru_1 = gru(x, zeros_1, {of_layer(0)}, {OPTIONS})
                getitem_1 = gru_1[0]
                zeros_2 = zeros([1, 3, 5], dtype=f64, device=cpu)
                gru_2 = gru(getitem_1, zeros_2, {of_layer(1)}, {OPTIONS})
                getitem_2 = gru_2[0]
            """,
        ),
        narrow(nn.GRU, None, num_layers=2),
    ),
    of(
        leaves("layout.recurrent_layers", lambda m, x: m.layer(x)[0], X, because="there is one layer"),
        narrow(nn.GRU, None, bidirectional=True),
    ),
]


def in_a_loop(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The states of a cell at each step."""
    state = x.new_zeros(x.shape[0], 5)
    states = [state := m.layer(x[:, t], state) for t in range(x.shape[1])]
    return torch.stack(states, 1)


def fed_back(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The last state of a cell that reads what it gave before."""
    state = x.new_zeros(x.shape[0], 5)
    for t in range(3):
        state = m.layer(torch.cat([x[:, t, :7], state], 1), state)
    return state


OF_CELL = ", ".join(f"layer.{name}" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
STEPS_FIRST = OPTIONS.replace("batch_first=true", "batch_first=false")
LOOPS = [
    of(
        fires(
            "layout.recurrent_cells",
            in_a_loop,
            X,
            expect=f"""
                new_zeros = new_zeros(x, [3, 5])
                permute = permute(x, [1, 0, 2])
                unsqueeze = unsqueeze(new_zeros, -3)
                gru = gru(permute, unsqueeze, {OF_CELL}, {STEPS_FIRST})
                getitem = gru[0]
                permute_1 = permute(getitem, [1, 0, 2])
            """,
        ),
        nn.GRUCell(12, 5).double(),
    ),
    of(
        leaves("layout.recurrent_cells", fed_back, X, because="a step reads what an earlier one gave"),
        nn.GRUCell(12, 5).double(),
    ),
]


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
    negative("recurrent.svd_lstm_input", narrow(nn.LSTM, 2, num_layers=2), "two layers are one operator"),
    negative(
        "recurrent.svd_lstm_input", narrow(nn.LSTM, 2, bidirectional=True), "two directions read the input"
    ),
    negative(
        "recurrent.svd_lstm_input", narrow(nn.LSTM, None), "factors of rank 8 are larger than the weight", 8
    ),
    negative(
        "recurrent.svd_lstm_input", narrow(nn.LSTM, 2, proj_size=3), "what it reads of states is narrower"
    ),
    negative(
        "recurrent.whitened_lstm_input", narrow(nn.LSTM, 2, bidirectional=True), "two directions read it"
    ),
    negative("recurrent.svd_recurrent_input", narrow(nn.GRU, 2, num_layers=2), "two layers are one operator"),
    negative(
        "recurrent.whitened_recurrent_input",
        narrow(nn.GRU, None),
        "factors of rank 7 are larger than the weight",
        7,
    ),
    negative(
        "recurrent.svd_recurrent_input",
        narrow(nn.RNN, None),
        "factors of rank 4 are larger than the weight",
        4,
    ),
    negative(
        "recurrent_projected.svd_lstm_input_projected",
        narrow(nn.LSTM, None, proj_size=3),
        "factors of rank 8 are larger than the weight",
        8,
    ),
    negative(
        "recurrent_projected.svd_lstm_input_unbiased_projected",
        narrow(nn.LSTM, 2, proj_size=3),
        "biases stand where it has its projection",
    ),
    *STACKS,
    *LOOPS,
    *(
        case
        for cell, way in itertools.product(("lstm", "gru"), ("svd", "whitened"))
        for both, biased in itertools.product((False, True), (False, True))
        for case in alike(cell, way, both, biased)
    ),
    *(
        case
        for cell, both in (("rnn_tanh", False), ("rnn_relu", True))
        for biased in (True, False)
        for case in alike(cell, "whitened", both, biased)
    ),
    *(
        case
        for way, both, biased in itertools.product(("svd", "whitened"), (False, True), (True, False))
        for case in alike("lstm", way, both, biased, projected=3)
    ),
]
