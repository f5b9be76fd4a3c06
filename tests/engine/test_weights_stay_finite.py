"""A weight that a rule computes is finite where what it is made of is: otherwise the site is left alone."""

import pytest
import torch
from torch import nn

import tdsl


class Scaled(nn.Module):
    """A dense layer with weights of 100, and what becomes of its result."""

    def __init__(self, factor):
        super().__init__()
        self.layer, self.factor = nn.Linear(4, 4), factor
        nn.init.constant_(self.layer.weight, 100.0)

    def forward(self, x):
        return self.factor(self.layer(x))


def rewrites(model):
    result = tdsl.compile(model.eval(), (torch.randn(2, 4) * 1e-30,), latency=False)
    assert all(bool(p.isfinite().all()) for p in result.module.parameters())
    return [rewrite.rule for rewrite in result.report.rewrites]


def test_a_factor_is_folded_where_the_weight_holds_it():
    assert rewrites(Scaled(lambda y: y * 1e30)) == ["fold.scale.number_of_linear"]


@pytest.mark.parametrize(
    "factor",
    [lambda y: y * 1e38, lambda y: y / 1e-38, lambda y: y / 0.0],
    ids=["product", "quotient", "by zero"],
)
def test_it_is_not_where_the_weight_would_overflow(factor):
    assert rewrites(Scaled(factor)) == []


def test_a_mask_of_infinities_is_computed_once():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mask", torch.full((4, 4), -torch.inf).triu(1))

        def forward(self, x):
            return (x + self.mask * 2).softmax(-1)

    result = tdsl.compile(Masked(), (torch.randn(4, 4),), latency=False)
    assert [rewrite.rule for rewrite in result.report.rewrites] == ["cleanup.fold_constants"]
    (mask,) = [*result.module.parameters(), *result.module.buffers()]
    assert mask.isinf().sum() == 6
