"""Operators without an ONNX form that are spelt by others, and those that nothing spells."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import tdsl
from tdsl.emit.spelt import OVERFLOWING, WITHOUT_FORM
from tdsl.errors import TdslError

aten = torch.ops.aten
NAN, INF = math.nan, math.inf
EDGES = torch.tensor(
    [[0.0, -0.0, 3.0, INF, -INF, 1e30, -2.0, 3.0], [-0.0, 4.0, INF, INF, -INF, 1e30, 0.0, 3.0]]
)
TIES = torch.tensor([[2.0, 1.0, 2.0, 3.0, 3.0, 0.0, 3.0], [5.0, 4.0, 5.0, 1.0, 5.0, 6.0, -1.0]])
NUMBERS = torch.tensor([[NAN, 1.0, NAN, -2.0], [0.0, NAN, NAN, -3.0]])

CALLS: dict[str, tuple[object, tuple[object, ...]]] = {
    "few rows": (aten.cdist.default, (torch.randn(2, 5, 3), torch.randn(2, 4, 3))),
    "many rows": (aten.cdist.default, (torch.randn(40, 3), torch.randn(30, 3))),
    "sums of distances": (aten.cdist.default, (torch.randn(2, 5, 3), torch.randn(4, 3), 1.0)),
    "largest distances": (aten.cdist.default, (torch.randn(2, 5, 3), torch.randn(4, 3), INF)),
    "the second": (aten.kthvalue.default, (torch.randn(2, 5), 2)),
    "the second along rows": (aten.kthvalue.default, (torch.randn(2, 5, 3), 2, 1, True)),
    "the lower in the middle": (aten.median.dim, (torch.randn(3, 4), 1)),
    "the middle": (aten.median.dim, (torch.randn(3, 5), 0, True)),
    "the middle of all": (aten.median.default, (torch.randn(3, 4),)),
    "the last of the largest so far": (aten.cummax.default, (TIES, 1)),
    "the last of the smallest so far": (aten.cummin.default, (TIES, 0)),
    "products so far": (aten.cumprod.default, (torch.randn(3, 7, 2), 1)),
    "whole numbers": (aten.cumprod.default, (torch.tensor([1, 2, 3, 4, 5]), 0)),
    "right angles": (aten.hypot.default, (EDGES[0], EDGES[1])),
    "signs": (aten.copysign.Tensor, (EDGES[0].abs(), EDGES[1])),
    "the larger number": (aten.fmax.default, (NUMBERS[0], NUMBERS[1])),
    "the smaller number": (aten.fmin.default, (NUMBERS[0], NUMBERS[1])),
    "places": (
        aten.searchsorted.Tensor,
        (torch.tensor([0.0, 1.0, 1.0, 2.0]), torch.tensor([[1.0, 3.0, -1.0]])),
    ),
    "places in rows": (aten.searchsorted.Tensor, (TIES.sort().values, TIES[:, :3])),
    "mean slopes": (aten.rrelu.default, (torch.randn(9),)),
    "logarithms of sums": (aten.logaddexp.default, (EDGES[0], EDGES[1])),
    "binary ones": (aten.logaddexp2.default, (torch.tensor([0.0, 500.0]), torch.tensor([1.0, 501.0]))),
    "logarithms of sums so far": (
        aten.logcumsumexp.default,
        (torch.tensor([[0.0, 200.0, -300.0, 200.0]]), 1),
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_it_is_what_torch_computes(name: str) -> None:
    target, operands = CALLS[name]
    found = {**WITHOUT_FORM, **OVERFLOWING}[target](*operands)
    torch.testing.assert_close(found, target(*operands), equal_nan=True)  # type: ignore[operator]


def test_ties_and_signs_of_zeros_are_told_apart() -> None:
    assert aten.cummax.default(TIES, 1)[1][0].tolist() == [0, 0, 2, 3, 4, 4, 6]
    signs = WITHOUT_FORM[aten.copysign.Tensor](EDGES[0].abs(), EDGES[1])
    assert torch.signbit(signs).equal(torch.signbit(EDGES[1]))
    from_right = WITHOUT_FORM[aten.searchsorted.Tensor](
        torch.tensor([1.0, 1.0]), torch.tensor([1.0]), side="right"
    )
    assert from_right.tolist() == [2]


def test_every_one_is_tried() -> None:
    assert {target for target, _ in CALLS.values()} == {*WITHOUT_FORM, *OVERFLOWING}


class Of(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def book(x: Tensor) -> Tensor:
    """The nearest of some words, as in vector quantisation."""
    words = torch.linspace(-1, 1, 30 * 4).reshape(30, 4).roll(1, 1)
    return torch.cdist(x, words)


EMITTED: dict[str, Callable[[Tensor], Tensor]] = {
    "a code book": book,
    "a median filter": lambda x: x.unfold(1, 3, 1).median(-1).values,
    "the best so far": lambda x: x.cummax(1).values + x.cummin(1).values,
    "a chain of products": lambda x: x.sigmoid().cumprod(1),
    "a long sum of logarithms": lambda x: torch.logaddexp(x, 2 * x).logcumsumexp(1),
}


@pytest.mark.parametrize("name", EMITTED)
def test_a_file_of_it_is_written_and_right(name: str, tmp_path) -> None:
    model, x = Of(EMITTED[name]).eval(), torch.randn(3, 5, 4)
    tdsl.compile(model, (x,), output=tmp_path / "m.onnx", latency=False)
    other = torch.randn(3, 5, 4)
    (found,) = onnxruntime.InferenceSession(tmp_path / "m.onnx").run(None, {"x": other.numpy()})
    np.testing.assert_allclose(found, model(other).numpy(), rtol=1e-5, atol=1e-5)
    assert found.std() > 0


@pytest.mark.parametrize("function", [torch.lgamma, torch.erfinv, torch.i0])
def test_what_has_no_form_is_refused_where_the_model_calls_it(function: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(
        TdslError, match=f"the operator aten.{function.__name__}.* has no ONNX form"
    ) as refused:
        tdsl.compile(Of(function).eval(), (torch.rand(3, 4) / 2,), latency=False)
    assert refused.value.span is not None
