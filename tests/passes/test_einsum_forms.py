"""Every spelling of a contraction is one form, which computes the same; rules and files see layers (S03)."""

from __future__ import annotations

import math
from pathlib import Path

import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_cases import net, number, operators, text_of
from tdsl.passes.layout.contractions import Contractions
from torch import Tensor, fx, nn

import tdsl
from tdsl.capture import capture
from tdsl.engine.census import copied
from tdsl.engine.journal import Journal

SIZES = dict(zip("abcdefgh", (2, 3, 4, 5, 2, 3, 4, 1), strict=True))


def form(
    equation: str, *operands: Tensor, weight: Tensor | None = None, dynamic: bool = False
) -> fx.GraphModule:
    """The graph of an `einsum` after the pass; a weight is its last operand."""
    if weight is None:
        model = net(lambda m, x, y: torch.einsum(equation, x, y))
    else:
        model = net(lambda m, x: torch.einsum(equation, x, m.w), w=weight)
    shapes = {n: {0: "batch"} for n in ("x", "y")[: len(operands)]} if dynamic else None
    module = copied(capture(model, operands, dynamic_shapes=shapes).module)
    Contractions().rewrite(module, Journal())
    module.recompile()
    return module


@st.composite
def equations(draw: st.DrawFn) -> str:
    """Two terms and a result, no letter twice in one of them."""
    letters = draw(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=5, unique=True))
    terms = [[c for c in draw(st.permutations(letters)) if draw(st.booleans())] for _ in range(2)]
    seen = sorted({*terms[0], *terms[1]})
    result = [c for c in draw(st.permutations(seen)) if draw(st.booleans())] if seen else []
    return f"{''.join(terms[0])},{''.join(terms[1])}->{''.join(result)}"


@settings(max_examples=25, deadline=None)
@given(equations(), st.booleans())
def test_a_form_computes_what_the_letters_say(equation: str, constant: bool) -> None:
    left, right = equation.partition("->")[0].split(",")
    x, y = (number(*(SIZES[c] for c in term)) for term in (left, right))
    module = form(equation, x, weight=y) if constant else form(equation, x, y)
    found = module(x) if constant else module(x, y)
    expected = torch.einsum(equation, x, y)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert "einsum" not in text_of(module) or left + right == "" or (constant and len(right) == 1)


@pytest.mark.parametrize(
    ("left", "right", "spellings"),
    [
        ((2, 3, 4), (5, 4), ("btd,md->btm", "xyz,wz->xyw", "...d,md->...m", "qrs,ts->qrt")),
        ((2, 3, 4, 6), (2, 3, 5, 6), ("bhqd,bhkd->bhqk", "abij,abkj->abik", "...ij,...kj->...ik")),
        ((2, 3, 4), (2, 4), ("bij,bj->bi", "nkl,nl->nk")),
    ],
)
def test_names_do_not_matter(
    left: tuple[int, ...], right: tuple[int, ...], spellings: tuple[str, ...]
) -> None:
    x, y = number(*left), number(*right)
    assert len({text_of(form(spelling, x, y)) for spelling in spellings}) == 1


def test_the_order_of_operands_does_not_matter_and_that_of_axes_does() -> None:
    x, w = number(2, 3, 6), number(6, 6)
    one = form("btd,md->btm", x, weight=w)
    other = net(lambda m, x: torch.einsum("md,btd->btm", m.w, x), w=w)
    module = copied(capture(other, (x,)).module)
    Contractions().rewrite(module, Journal())
    module.recompile()
    assert text_of(module) == text_of(one)
    turned = form("btd,dm->btm", x, weight=w)  # A[i,j]·B[j,k] is not A[i,j]·B[k,j]
    assert text_of(turned) != text_of(one)
    assert not torch.allclose(turned(x), one(x))


class Attention(nn.Module):
    """A layer of attention and a feed-forward network, written by letters alone."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Parameter(torch.randn(24, 3, 8) / 5) for _ in range(3))
        self.o, self.up = nn.Parameter(torch.randn(3, 8, 24) / 5), nn.Parameter(torch.randn(24, 40) / 5)
        self.down = nn.Parameter(torch.randn(40, 24) / 5)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (torch.einsum("btd,dhk->bthk", x, w) for w in (self.q, self.k, self.v))
        weights = torch.softmax(torch.einsum("bthk,bshk->bhts", q, k) / math.sqrt(8), -1)
        x = x + torch.einsum("bthk,hkd->btd", torch.einsum("bhts,bshk->bthk", weights, v), self.o)
        return x + torch.einsum("btf,fd->btd", torch.relu(torch.einsum("btd,df->btf", x, self.up)), self.down)


class Image(nn.Module):
    """A patch embedding, mixing of channels and a head by letters: a convolution of what was unfolded."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.mix = (
            nn.Parameter(torch.randn(16, 3, 2, 2) / 4),
            nn.Parameter(torch.randn(8, 16) / 4),
        )
        self.head = nn.Parameter(torch.randn(8, 5))

    def forward(self, x: Tensor) -> Tensor:
        patches = x.unfold(2, 2, 2).unfold(3, 2, 2)
        h = torch.relu(torch.einsum("bchwij,ocij->bohw", patches, self.patch))
        return torch.einsum("bo,ok->bk", torch.einsum("bchw,oc->bohw", h, self.mix).mean((2, 3)), self.head)


@pytest.mark.parametrize(
    ("model", "x", "dynamic"),
    [
        (Attention, torch.randn(2, 5, 24), {0: "batch", 1: "time"}),
        (Image, torch.randn(2, 3, 8, 8), {0: "batch"}),
    ],
)
def test_a_file_of_a_model_by_letters_has_no_letters(
    model: type[nn.Module], x: Tensor, dynamic: dict[int, str], tmp_path: Path
) -> None:
    original, path = model().eval(), tmp_path / "model.onnx"
    result = tdsl.compile(original, (x,), dynamic_shapes={"x": dynamic}, output=path, latency=False)
    assert result.report.correctness.passed
    assert "Einsum" not in {n.op_type for n in onnx.load(path).graph.node}
    # Of the image's, the last two layers are one: what stands between them is a mean.
    assert result.report.result.parameters <= sum(p.numel() for p in original.parameters())


def test_layers_by_letters_are_factorized_as_layers_are(tmp_path: Path) -> None:
    """The one-liner, and rules that know attention: both found nothing before."""
    model, x = Attention().eval(), torch.randn(2, 5, 24)
    smaller = tdsl.factorize(model, x, rank=0.5)
    assert sum(p.numel() for p in smaller.parameters()) < 0.52 * sum(p.numel() for p in model.parameters())
    text = """pipeline p {
        repeat cleanup.*, layout.*, fold.* until stable
        once factorize.attention.query_key(rank=4), factorize.attention.value_output(rank=4)
        check error <= 100%
    }"""
    (tmp_path / "p.tdsl").write_text(text)
    data = [torch.randn(2, 5, 24) for _ in range(6)]
    result = tdsl.compile(
        model, (x,), pipeline="p", rules=tmp_path / "p.tdsl", calibration=data, latency=False
    )
    rules = {entry.rule for entry in result.report.rewrites}
    assert {"factorize.attention.query_key", "factorize.attention.value_output"} <= rules


def test_a_weight_that_something_else_reads_is_not_stored_twice() -> None:
    w = number(6, 5)
    model = net(lambda m, x: torch.einsum("bd,dm->bm", x, m.w) + m.w.sum(0), w=w)
    module = copied(capture(model, (number(3, 6),)).module)
    Contractions().rewrite(module, Journal())
    module.recompile()
    assert [p.shape for p in module.parameters()] == [w.shape]
    assert operators(module) == 3  # a product of matrices, as the weight stands
