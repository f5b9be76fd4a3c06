"""Factors and rotations of hidden axes: allowed inside, refused where a length or an output sees them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hidden_models import made
from torch import Tensor, nn

from tdsl.capture import Captured, capture
from tdsl.errors import TdslError
from tdsl.symmetry.hidden import Gauge, gauges, rotated, weights_of, with_weights


def towers(meet: Callable[[Tensor, Tensor], Tensor]) -> Captured:
    """Two towers without biases whose embeddings meet in one number."""
    torch.manual_seed(0)
    return capture(
        *made(
            lambda m, x, y: meet(m.a(x), m.b(y)),
            torch.randn(6, 5),
            torch.randn(6, 4),
            a=nn.Linear(5, 8, bias=False),
            b=nn.Linear(4, 8, bias=False),
        )
    )


def of(found: Captured, name: str) -> Gauge:
    return next(gauge for gauge in gauges(found) if gauge.name == name)


def change(found: Captured, **weights: Tensor) -> float:
    """The largest relative change of the output with other weights."""
    other = with_weights(found.module, {f"{name}.weight": w for name, w in weights.items()})
    with torch.no_grad():
        before, after = found.module(*found.args), other(*found.args)
    return float((before - after).abs().max() / before.abs().max())


MEETINGS = {
    "cosine_similarity": lambda u, v: F.cosine_similarity(u, v, dim=-1),
    "normalize": lambda u, v: F.normalize(u, dim=-1) @ F.normalize(v, dim=-1).T,
    "written out": lambda u, v: (
        (u / u.norm(dim=-1, keepdim=True)) @ (v / v.norm(dim=-1, keepdim=True)).transpose(0, 1)
    ),
}


@pytest.mark.parametrize("name", MEETINGS)
def test_a_cosine_allows_rotations_only(name: str) -> None:
    found = towers(MEETINGS[name])
    gauge = of(found, "a.weight[0]")
    assert gauge.rotation is None
    assert gauge.scaling is not None
    assert "does not pass a factor on" in str(gauge.scaling)
    a, b = (weights_of(found.module)[f"{side}.weight"] for side in "ab")
    q = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64))[0]
    d = torch.linspace(0.5, 3.0, 8, dtype=torch.float64)[:, None]
    assert change(found, a=q @ a, b=q @ b) <= 1e-12
    assert change(found, a=d * a, b=b / d) > 1e-2


LENGTHS = {
    "an inner product written out": lambda u, v: (u * v).sum(-1),
    "all pairs": lambda u, v: (u[:, None] * v).sum(2),
    "a squared distance": lambda u, v: (u - v).pow(2).sum(-1),
    "distances": torch.cdist,
    "a cosine written out": lambda u, v: (u / (u * u).sum(-1, keepdim=True).sqrt()) @ v.T,
}


@pytest.mark.parametrize("name", LENGTHS)
def test_sums_of_products_and_of_squares_do_not_see_a_rotation(name: str) -> None:
    found = towers(LENGTHS[name])
    assert of(found, "a.weight[0]").rotation is None
    turn = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64))[0]
    a, b = (weights_of(found.module)[f"{side}.weight"] for side in "ab")
    assert change(found, a=turn @ a, b=turn @ b) <= 1e-12 < 1e-2 < change(found, a=turn @ a)


SEEN = {
    "a sum of distances along the axis": lambda u, v: (u - v).abs().sum(-1),
    "a product that is read itself": lambda u, v: (u * v).sum(-1) + (u * v).amax(-1),
    "a sum over the rows": lambda u, v: (u * v).sum(0).amax(-1),
    "cubes": lambda u, v: (u - v).pow(3).sum(-1),
    "another distance": lambda u, v: torch.cdist(u, v, p=1.0),
}


@pytest.mark.parametrize("name", SEEN)
def test_what_sees_a_rotation_refuses_it(name: str) -> None:
    assert of(towers(SEEN[name]), "a.weight[0]").rotation is not None


TWICE = {
    "a Gram matrix": lambda u, v: u @ u.T,
    "an einsum": lambda u, v: torch.einsum("bi,ci->bc", u, u),
    "what was made of it": lambda u, v: (u + u.relu()) @ u.relu().T,
}


@pytest.mark.parametrize("name", TWICE)
def test_one_value_is_not_scaled_and_divided(name: str) -> None:
    """A·D and B·D⁻¹ keep A·B, but A·D has no Gram matrix of A."""
    found = towers(lambda u, v: TWICE[name](u, v) + (u @ v.T))
    gauge = of(found, "a.weight[0]")
    assert "one value would be scaled and divided" in str(gauge.scaling)
    assert of(towers(lambda u, v: (u + u.relu()) @ v.T), "a.weight[0]").scaling is None


def test_an_embedding_that_is_the_output_layer_too_is_not_scaled() -> None:
    torch.manual_seed(0)
    table, tokens = nn.Embedding(11, 8), torch.randint(0, 11, (2, 5))
    tied = capture(*made(lambda m, x: m.e(x) @ m.e.weight.T, tokens, e=table))
    free = capture(*made(lambda m, x: m.o(m.e(x)), tokens, e=table, o=nn.Linear(8, 11)))
    assert "scaled and divided" in str(of(tied, "e.weight[1]").scaling)
    assert of(free, "e.weight[1]").scaling is None and of(tied, "e.weight[1]").rotation is None


def test_a_product_allows_both() -> None:
    found = towers(lambda u, v: u @ v.transpose(0, 1))
    gauge = of(found, "a.weight[0]")
    assert gauge.scaling is None
    assert gauge.rotation is None
    a, b = (weights_of(found.module)[f"{side}.weight"] for side in "ab")
    d = torch.linspace(0.5, 3.0, 8, dtype=torch.float64)[:, None]
    assert change(found, a=d * a, b=b / d) <= 1e-12


def test_an_embedding_that_is_an_output_is_refused() -> None:
    gauge = of(towers(lambda u, v: u + v), "a.weight[0]")
    assert "a graph output" in str(gauge.scaling)
    assert "a graph output" in str(gauge.rotation)


@pytest.mark.parametrize(
    ("middle", "scaling", "rotation"),
    [
        (lambda h: h, True, True),
        (torch.relu, True, False),
        (torch.tanh, False, False),
        (lambda h: F.layer_norm(h, (7,)), False, False),
        (lambda h: F.rms_norm(h, (7,)), False, True),
        (lambda h: h.softmax(-1), False, False),
        (lambda h: h + 1, False, False),
        (lambda h: h * 3, True, True),
        (lambda h: h * h, False, False),
    ],
)
def test_an_internal_edge(middle: Callable[[Tensor], Tensor], scaling: bool, rotation: bool) -> None:
    """What is allowed is true of the model, and what is refused is not."""
    torch.manual_seed(0)
    found = capture(
        *made(
            lambda m, x: m.b(middle(m.a(x))),
            torch.randn(6, 5),
            a=nn.Linear(5, 7, bias=False),
            b=nn.Linear(7, 3),
        )
    )
    gauge = of(found, "a.weight[0]")
    assert (gauge.scaling is None, gauge.rotation is None) == (scaling, rotation)
    a, b = (weights_of(found.module)[f"{side}.weight"] for side in "ab")
    d = torch.linspace(0.5, 3.0, 7, dtype=torch.float64)
    q = torch.linalg.qr(torch.randn(7, 7, dtype=torch.float64))[0]
    assert (change(found, a=d[:, None] * a, b=b / d) <= 1e-10) == scaling
    # The small constant in a root mean square does not see a rotation either.
    assert (change(found, a=q @ a, b=b @ q.T) <= 1e-10) == rotation


def turn(size: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.linalg.qr(torch.randn(size, size, dtype=torch.float64, generator=generator))[0]


@pytest.mark.parametrize("name", MEETINGS)
def test_a_rotation_is_folded_into_both_towers(name: str) -> None:
    found = towers(MEETINGS[name])
    weights = rotated(found, "a.weight[0]", turn(8))
    assert set(weights) == {"a.weight", "b.weight"}
    for path, tensor in weights.items():
        own = weights_of(found.module)[path]
        assert float((tensor - own).abs().max()) > 0.1
        assert torch.allclose(tensor.T @ tensor, own.T @ own, rtol=0, atol=1e-12)  # the Gram matrix
    with torch.no_grad():
        before, after = found.module(*found.args), with_weights(found.module, weights)(*found.args)
    assert float((before - after).abs().max()) <= 1e-12


def test_blocks_are_rotated_as_blocks() -> None:
    torch.manual_seed(0)
    found = capture(
        *made(
            lambda m, x: m.b(m.a(x).flatten(1)),
            torch.randn(2, 3, 5, 5),
            a=nn.Conv2d(3, 6, 2),
            b=nn.Linear(6 * 16, 3),
        )
    )
    weights = rotated(found, "a.weight[0]", turn(6))
    assert set(weights) == {"a.weight", "a.bias", "b.weight"}
    with torch.no_grad():
        before, after = found.module(*found.args), with_weights(found.module, weights)(*found.args)
    assert float((before - after).abs().max()) <= 1e-12


def test_an_output_is_turned_only_where_it_is_declared_metric() -> None:
    found = towers(lambda u, v: u + v)
    with pytest.raises(TdslError, match="a graph output"):
        rotated(found, "a.weight[0]", turn(8))
    weights = rotated(found, "a.weight[0]", turn(8), metric_only=[0])
    with torch.no_grad():
        before, after = found.module(*found.args), with_weights(found.module, weights)(*found.args)
    assert torch.allclose(after, before @ turn(8).T, rtol=0, atol=1e-12)
    (gauge,) = [g for g in gauges(found, metric_only=[0]) if g.name == "a.weight[0]"]
    assert gauge.rotation is None
    assert "lengths and angles" in str(gauge.scaling)


def test_what_is_no_rotation_or_not_allowed_is_refused() -> None:
    found = towers(MEETINGS["cosine_similarity"])
    with pytest.raises(TdslError, match="cannot be rotated by this matrix"):
        rotated(found, "a.weight[0]", 2 * turn(8))
    with pytest.raises(TdslError, match="is no hidden axis"):
        rotated(found, "c.weight[0]", turn(8))
    with pytest.raises(TdslError, match="tanh does not pass a rotation on"):
        rotated(towers(lambda u, v: (u.tanh() * v.tanh()).sum(-1)), "a.weight[0]", turn(8))
