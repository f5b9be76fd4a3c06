"""Laws found by trying, where no transfer knows one: what is found holds, and what breaks is blamed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from contracts import O3, contract
from torch import Tensor, nn
from torch.nn import functional as F

from tdsl.capture import capture
from tdsl.symmetry.audit import Audit, audit

SO3 = O3.replace("O(3)", "SO(3)")
INVARIANT = "output output: [b, n, m] invariant"
VECTORS = "output output: [b, 3] by rotate"


class Of(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, points: Tensor) -> Tensor:
        return self.function(points)


def held(function: Callable[[Tensor], Tensor], text: str) -> Audit:
    return audit(capture(Of(function), (torch.randn(2, 5, 3),)), contract(text))


def crossed(points: Tensor) -> Tensor:
    return torch.linalg.cross(points, points.roll(1, 1))


CASES: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "distances": (
        lambda x: F.pairwise_distance(x[:, None], x[:, :, None], eps=0).exp(),
        O3.replace(VECTORS, INVARIANT),
    ),
    "cross products": (lambda x: crossed(x).sum(1), SO3),
    "cross products of cross products": (lambda x: torch.linalg.cross(crossed(x), x).sum(1), O3),
    "squares that are added": (
        lambda x: torch.tanh((x * x).sum(-1)),
        O3.replace(VECTORS, "output output: [b, n] invariant"),
    ),
    "volumes squared": (
        lambda x: (crossed(x) * x.roll(2, 1)).sum(-1) ** 2,
        O3.replace(VECTORS, "output output: [b, n] invariant"),
    ),
    "coordinates in a row": (
        lambda x: torch.tanh(x.flatten(1).reshape(2, 5, 3).norm(dim=-1))[..., None] * x,
        O3,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_an_operator_without_a_law_passes_what_it_is_measured_to(name: str) -> None:
    function, text = CASES[name]
    if name == "coordinates in a row":
        text = text.replace(VECTORS, "output output: [b, n, 3] by rotate")
    found = held(function, text)
    assert found.verdict == "kept"
    strengths = {layer.strength for element in found.elements for layer in element.layers}
    assert "measured" in strengths and not strengths & {"broken", "unknown"}
    assert not any(element.proved for element in found.elements if element.name.startswith("random"))


def test_what_holds_to_single_precision_is_no_law() -> None:
    """A distance with a constant added to differences, in which a reflection shows a little."""
    function = lambda x: F.pairwise_distance(x[:, None], x[:, :, None], eps=2e-8).exp()  # noqa: E731
    found = held(function, O3.replace(VECTORS, INVARIANT).replace("1e-9", "1e-5"))
    assert found.verdict == "kept" and 1e-9 < found.defect < 1e-7
    assert {layer.strength for layer in found.elements[0].layers} >= {"broken"}


def test_a_cross_product_is_no_vector_under_reflections() -> None:
    found = held(lambda x: crossed(x).sum(1), O3)
    assert found.verdict == "broken"
    assert found.elements[0].defect > 1  # the mirror alone
    volume = held(
        lambda x: (crossed(x) * x.roll(2, 1)).sum(-1), O3.replace(VECTORS, "output output: [b, n] invariant")
    )
    assert volume.verdict == "broken"
    mirror = volume.elements[0]
    assert mirror.layers[-1].action == "signs(-1)"  # it changes its sign, which is known and not claimed


def test_the_operator_that_breaks_is_blamed_and_not_one_whose_law_is_not_known() -> None:
    found = held(
        lambda x: (torch.cdist(x, x)[..., None] * x[:, None]).sum((1, 2)) + 1e-4 * x.relu().sum(1), O3
    )
    assert found.verdict == "broken"
    for element in found.elements:
        relu = next(layer for layer in element.layers if layer.operator == "relu")
        assert relu.strength == "broken"
    assert found.first_broken is not None and found.first_broken[1].operator == "relu"
    turned = held(lambda x: x.relu().sum(1), SO3)
    assert turned.first_broken is not None
    assert "relu of lengths, or a gate" in turned.first_broken[1].reason


def test_a_result_that_is_rounding_is_no_defect() -> None:
    """Σ (x_i - x_j) over all i and j is zero, so that a relative defect of it is noise."""
    found = held(lambda x: (x[:, :, None] - x[:, None]).sum((1, 2)) + x.sum(1), O3)
    assert found.verdict == "kept"
    assert all((layer.own or 0.0) < 1e-9 for element in found.elements for layer in element.layers)
