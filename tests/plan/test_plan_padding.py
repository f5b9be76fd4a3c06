"""Masks of padding in the forms that models take them in, and those that say something else."""

from __future__ import annotations

import math

import pytest
import torch
from plan_models import drawn
from torch import Tensor, nn

import tdsl
from tdsl.capture import capture
from tdsl.engine.statistics import request_of
from tdsl.plan.calibrate import Data, collect

KEPT = torch.tensor([[True, True, False, False], [True, False, False, False]])
LOWEST = torch.finfo(torch.float32).min


class Attending(nn.Module):
    """Something that reads x at each position and the mask."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 5)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.first(x).sum() + mask.sum()


def second_moment(
    mask: Tensor, named: str | None = None, called: str = "attention_mask"
) -> tuple[Tensor, Tensor]:
    """E[x·xᵀ] of what the layer reads, and x; padded positions hold 100."""
    x = drawn(2, 4, 6)
    x[~KEPT] = 100.0
    axes = {0: "b", mask.dim() - 1: "s"}
    if mask.dim() == 3 and mask.shape[1] > 1:
        axes[1] = "s"
    captured = capture(
        Attending().eval(),
        (x, mask),
        dynamic_shapes={"x": {0: "b", 1: "s"}, "mask": axes},
        input_names=("x", called),
    )
    [node] = [n for n in captured.module.graph.nodes if n.op == "placeholder" and n.name == "x"]
    request = request_of("second_moment", node, -1, node.meta["val"])
    data = Data.of(captured, [(x, mask)], named)
    return collect(captured.module, data, [request]).answer(request), x.double()


ONES = KEPT.float()
ADDED = torch.where(KEPT, 0.0, -math.inf)
SPOKEN = {
    "whole": KEPT.long(),
    "bool": KEPT,
    "numbers": ONES,
    "added": ADDED,
    "the lowest number": torch.where(KEPT, 0.0, LOWEST),
    "-10000": torch.where(KEPT, 0.0, -1e4),
    "spread over heads and queries": ADDED[:, None, None],
    "ones spread": ONES[:, None, None],
}


@pytest.mark.parametrize("named", [None, "attention_mask"])
@pytest.mark.parametrize("form", SPOKEN)
def test_padding_is_left_out_whatever_form_the_mask_has(form, named) -> None:
    found, x = second_moment(SPOKEN[form], named)
    seen = x[KEPT]
    torch.testing.assert_close(found, seen.T @ seen / len(seen))


SILENT = {
    "a bias": torch.where(KEPT, 0.0, -2.5),
    "weights": ONES * 0.5,
    "who sees whom": torch.where(KEPT[:, None] & KEPT[:, :, None], 0.0, -math.inf),
}


@pytest.mark.parametrize("form", SILENT)
def test_what_does_not_say_what_is_padding_is_no_mask_and_refused_where_it_is_named(form) -> None:
    found, x = second_moment(SILENT[form])
    flat = x.reshape(-1, 6)
    torch.testing.assert_close(found, flat.T @ flat / len(flat))
    with pytest.raises(tdsl.TdslError, match="attention_mask is no mask of padding: it h"):
        second_moment(SILENT[form], "attention_mask")


def test_a_padding_mask_whose_ones_may_be_the_padding_has_to_be_named() -> None:
    found, x = second_moment(~KEPT, called="padding_mask")
    flat = x.reshape(-1, 6)
    torch.testing.assert_close(found, flat.T @ flat / len(flat))
    found, _ = second_moment(KEPT, "padding_mask", called="padding_mask")
    seen = x[KEPT]
    torch.testing.assert_close(found, seen.T @ seen / len(seen))


def test_nothing_is_padding_where_an_added_mask_is_zero_everywhere() -> None:
    found, x = second_moment(torch.zeros(2, 4), "attention_mask")
    flat = x.reshape(-1, 6)
    torch.testing.assert_close(found, flat.T @ flat / len(flat))
