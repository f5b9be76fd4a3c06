"""Output layers of attention on fewer numbers a head: exact for narrow heads, better than truncating each."""

from __future__ import annotations

import pytest
import torch
from data_metrics import gaussian, moment, samples

from tdsl.errors import TdslError
from tdsl.factor.heads import head_svd
from tdsl.factor.table import DECOMPOSITIONS

HEADS, WIDTH, OUTPUTS = 3, 6, 10
DECLARED = DECOMPOSITIONS["head_svd"]


def contexts(rank: int = WIDTH) -> torch.Tensor:
    """A moment of the contexts of which each head has that rank, and heads depend on one another."""
    narrow = [gaussian(WIDTH, rank, seed=i) for i in range(HEADS)]
    return torch.block_diag(*narrow) @ moment(HEADS * rank, seed=9) @ torch.block_diag(*narrow).T


WEIGHT = gaussian(OUTPUTS, HEADS * WIDTH, seed=5)
GRADIENTS = moment(OUTPUTS, seed=6)


def test_heads_of_a_smaller_rank_are_kept_as_they_are() -> None:
    """Contexts that fill two of six directions a head: two numbers a head say everything about them."""
    second = contexts(rank=2)
    reading, directions = head_svd(WEIGHT, second, GRADIENTS, 2, HEADS)
    assert reading.shape == (OUTPUTS, HEADS * 2) and directions.shape == (HEADS, 2, WIDTH)
    x = samples(50, second)
    rebuilt = DECLARED.promise(reading, directions)
    assert (x @ (WEIGHT - rebuilt).T).norm() <= 1e-5 * (x @ WEIGHT.T).norm()
    # Control: one number a head loses something.
    less = DECLARED.promise(*head_svd(WEIGHT, second, GRADIENTS, 1, HEADS))
    assert (x @ (WEIGHT - less).T).norm() > 1e-2 * (x @ WEIGHT.T).norm()


def test_at_full_width_the_weight_is_exact_whatever_the_data() -> None:
    for second in (contexts(), contexts(rank=2), torch.zeros(HEADS * WIDTH, HEADS * WIDTH).double()):
        rebuilt = DECLARED.promise(*head_svd(WEIGHT, second, GRADIENTS, WIDTH, HEADS))
        torch.testing.assert_close(rebuilt, WEIGHT, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("kept", [1, 2, 4])
def test_what_stays_makes_up_for_what_goes_across_heads(kept: int) -> None:
    """Least squares over all heads is better than each head by itself, in the metric that it minimises."""
    second = contexts()
    reading, directions = head_svd(WEIGHT, second, GRADIENTS, kept, HEADS)
    error = DECLARED.relative_error(WEIGHT, DECLARED.promise(reading, directions), second, GRADIENTS)
    own = []
    for i in range(HEADS):
        block = slice(i * WIDTH, (i + 1) * WIDTH)
        own.append(WEIGHT[:, block] @ torch.linalg.pinv(directions[i]))
    alone = DECLARED.promise(torch.cat(own, 1), directions)
    assert error < DECLARED.relative_error(WEIGHT, alone, second, GRADIENTS)


def test_gradients_and_data_decide_what_is_kept() -> None:
    """Outputs that the model does not look at cost nothing: a moment of gradients is obeyed."""
    blind = torch.diag(torch.tensor([1.0] + [0.0] * (OUTPUTS - 1), dtype=torch.float64))
    reading, directions = head_svd(WEIGHT, contexts(), blind, 1, HEADS)
    rebuilt = DECLARED.promise(reading, directions)
    assert DECLARED.relative_error(WEIGHT, rebuilt, contexts(), blind) < 1e-3
    seeing, directions = head_svd(WEIGHT, contexts(), torch.eye(OUTPUTS).double(), 1, HEADS)
    other = DECLARED.promise(seeing, directions)
    assert DECLARED.relative_error(WEIGHT, other, contexts(), blind) > 1e-2


@pytest.mark.parametrize("heads", [0, 4, True, 2.0])
def test_a_number_of_heads_divides_the_columns(heads: object) -> None:
    with pytest.raises(TdslError, match="heads"):
        head_svd(WEIGHT, contexts(), GRADIENTS, 1, heads)  # type: ignore[arg-type]
