"""Rules about shared heads, stacked recurrences and scattered sums are proved, and wrong ones refuted."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tdsl.factor.table import vocabulary
from tdsl.lang import parse, tree
from tdsl.lang.resolve import resolve
from tdsl.ops import OPERATORS
from tdsl.prove import field
from tdsl.prove.check import fresh_verdict
from tdsl.prove.checker import Known
from tdsl.prove.exact import ExactChecker

HEADS = "attention(q: [b, 4, l, e], k: [b, 2, s, e], v: [b, 2, s, d], enable_gqa=true)"


def status(text: str) -> str:
    (rule,) = parse(f"rule r {{ {text} }}").items
    assert isinstance(rule, tree.Rule)
    return fresh_verdict(resolve(rule, vocabulary())).status


@pytest.mark.parametrize(
    ("left", "right", "wrong"),
    [
        (
            HEADS,
            "attention(q, repeat_interleave(k, 2, dim=1), repeat_interleave(v, 2, dim=1))",
            "attention(q, repeat(k, [1, 2, 1, 1]), repeat(v, [1, 2, 1, 1]))",
        ),
        (
            'scatter_reduce(x: [n, c], dim=0, index=i: [m, c], source=y: [m, c], reduce="sum")',
            "scatter_add(x, dim=0, index=i, source=y)",
            "scatter_add(x, dim=0, index=i, source=2 * y)",
        ),
        (
            "index_add(x: [n, c], dim=0, index=i: [m], source=y: [m, c])",
            "index_put(x, [i], y, accumulate=true)",
            "index_put(x, [i], -y, accumulate=true)",
        ),
        (
            "max_pool1d(-relu(x: [b, c, n]), 3, 1, 1)",
            "-relu(-max_pool1d(-relu(x), 3, 1, 1))",
            "max_pool1d(pad(-relu(x), [1, 1]), 3, 1)",  # what is outside is no zero
        ),
    ],
)
def test_what_has_an_exact_meaning_is_proved(left: str, right: str, wrong: str) -> None:
    assert status(f"{left} => {right}") == "proved"
    assert status(f"{left} => {wrong}") == "refuted"


@pytest.mark.parametrize("batch_first", [False, True])
def test_stacked_recurrences_in_both_directions_are_what_the_kernel_computes(batch_first: bool) -> None:
    layer = torch.nn.RNN(2, 3, num_layers=2, nonlinearity="relu", bidirectional=True, batch_first=batch_first)
    weights = [torch.randint(-1, 2, w.shape).double() for w in layer._flat_weights]
    x, state = (
        torch.randint(-2, 3, (3, 2, 2)).double(),
        torch.randint(-1, 2, (4, 2 if batch_first is False else 3, 3)).double(),
    )
    options = (True, 2, 0.0, False, True, batch_first)
    wanted = torch.ops.aten.rnn_relu.input(x, state, weights, *options)

    def known(tensor: torch.Tensor) -> Known:
        return Known(tuple(tensor.shape), field.elements(tensor.to(torch.int64).numpy()))

    operator = OPERATORS["rnn_relu"]
    names = [p.name for p in operator.params if not p.is_operand]
    arguments = {"x": known(x), "state": known(state), "weights": [known(w) for w in weights]}
    with np.errstate(over="ignore"):
        found = ExactChecker(0).apply(operator, {**arguments, **dict(zip(names, options, strict=True))})
    assert float(wanted[0].abs().sum()) > 10
    for part, expected in zip(found, wanted, strict=True):
        assert np.array_equal(part.value, field.elements(expected.to(torch.int64).numpy()))
