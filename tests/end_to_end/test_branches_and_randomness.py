"""Models with branches compile; what draws random numbers is refused where it does."""

import pytest
import torch
from torch import nn
from torch._higher_order_ops import while_loop

import tdsl


class Branches(nn.Module):
    """Which of two layers runs depends on the input."""

    def __init__(self, constant_inside: bool = False) -> None:
        super().__init__()
        self.first = nn.Linear(8, 16)
        self.one, self.other = nn.Linear(16, 16), nn.Linear(16, 16)
        self.constant_inside = constant_inside

    def forward(self, x):
        y = self.first(x) * 2

        def one(y):
            y = self.one(y)
            return y + torch.tensor([1.0] * 16) if self.constant_inside else y

        return torch.cond(x.sum() > 0, one, lambda y: self.other(y).relu(), (y,))


class Loop(nn.Module):
    """A layer three times."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x):
        def once(count, y):
            return count + 1, self.layer(y)

        return while_loop(lambda count, y: count < 3, once, (torch.tensor(0), x))[1]


def test_a_model_with_branches_is_rewritten_around_them_and_both_are_run(tmp_path):
    x = torch.randn(4, 8)
    held_out = [-x.abs(), x.abs()]
    result = tdsl.compile(
        Branches().eval(), (x,), held_out=held_out, output=tmp_path / "m.onnx", latency=False
    )
    assert result.report.correctness.passed
    assert [r.rule for r in result.report.rewrites] == ["fold.scale.number_of_linear"]
    assert not any("float64" in note for note in result.report.notes), result.report.notes
    for sample in held_out:
        assert torch.equal(result.module(sample), result.module(sample))
    assert not torch.allclose(result.module(held_out[0]), result.module(held_out[1]))


def test_a_loop_compiles(tmp_path):
    result = tdsl.compile(Loop().eval(), (torch.randn(2, 8),), output=tmp_path / "m.onnx", latency=False)
    assert result.report.correctness.passed


def test_what_the_exporter_cannot_write_is_said_at_its_line(tmp_path):
    with pytest.raises(tdsl.TdslError) as caught:
        tdsl.compile(Branches(constant_inside=True).eval(), (torch.randn(4, 8),), output=tmp_path / "m.onnx")
    text = caught.value.render()
    assert "the exporter cannot write torch.cond as ONNX" in text
    assert "return torch.cond(" in text and "make constants outside of the branches" in text


@pytest.mark.parametrize("drawing", ["randn_like", "rand_like", "bernoulli"])
def test_a_model_that_draws_random_numbers_is_refused_at_its_line(drawing):
    class Noisy(nn.Module):
        def forward(self, x):
            return x + getattr(torch, drawing)(x)

    with pytest.raises(tdsl.TdslError) as caught:
        tdsl.compile(Noisy(), (torch.rand(3, 4),))
    text = caught.value.render()
    assert f"the model draws random numbers: aten.{drawing}.default" in text
    assert "return x + getattr(torch, drawing)(x)" in text


def test_dropout_and_recurrent_layers_draw_nothing_in_evaluation():
    model = nn.Sequential(nn.LSTM(8, 8, 2, dropout=0.5)).train()
    result = tdsl.compile(model, (torch.randn(5, 2, 8),), latency=False)
    assert result.report.correctness.passed and model.training


def test_attention_draws_only_where_it_drops():
    class Attention(nn.Module):
        def __init__(self, drop):
            super().__init__()
            self.drop = drop

        def forward(self, x):
            return nn.functional.scaled_dot_product_attention(x, x, x, dropout_p=self.drop)

    given = (torch.randn(1, 2, 5, 8),)
    assert tdsl.compile(Attention(0.0).eval(), given, latency=False).report.correctness.passed
    with pytest.raises(tdsl.TdslError, match=r"draws random numbers: aten\.scaled_dot_product_attention"):
        tdsl.compile(Attention(0.1), given)
