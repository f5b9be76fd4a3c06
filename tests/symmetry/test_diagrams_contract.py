"""Diagrams applied with what they share done once give what the dense map gives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tdsl.symmetry.diagrams import basis
from tdsl.symmetry.diagrams.contract import apply

ORDERS = [(k, l) for k in range(1, 4) for l in range(4)]  # noqa: E741
SIZES = [("S", 2), ("S", 4), ("A", 3), ("O", 2), ("O", 4), ("SO", 2), ("SO", 3), ("Sp", 2), ("Sp", 4)]


def drawn(*sizes: int, seed: int = 0) -> Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("family", "n"), SIZES)
def test_fast_is_dense(family: str, n: int) -> None:
    seen = 0
    for k, l in ORDERS:  # noqa: E741
        diagrams = basis(family, n, k, l)
        if not diagrams or n ** (k + l) > 5000:
            continue
        mix, x = drawn(len(diagrams), 3, 2), drawn(5, 2, *[n] * k, seed=1)
        dense = sum(torch.kron(m, d.dense(n)) for m, d in zip(mix, diagrams, strict=True))
        assert isinstance(dense, Tensor) and dense.abs().max() > 0
        found = apply(diagrams, mix, x)
        assert found.shape == (5, 3, *[n] * l)
        torch.testing.assert_close(found.flatten(1), x.flatten(1) @ dense.T)
        seen += 1
    assert seen > 3


def test_one_diagram_more_is_another_map() -> None:
    diagrams = basis("S", 4, 2, 2)
    x = drawn(1, 1, 4, 4)
    ones = torch.ones(15, 1, 1, dtype=torch.float64)
    assert (apply(diagrams, ones, x) - apply(diagrams[1:], ones[1:], x)).abs().max() > 0.1


def test_channels_are_mixed_on_what_is_contracted() -> None:
    """Fifteen maps on 64 × 64 pairs: two of the mixes see all pairs, nine a row, four a number."""
    n, channels = 64, 16
    diagrams = basis("S", n, 2, 2)
    mix, x = drawn(15, channels, channels).float(), drawn(1, channels, n, n).float()
    with FlopCounterMode(display=False) as counter:
        apply(diagrams, mix, x)
    assert counter.get_total_flops() == 2 * channels**2 * (2 * n**2 + 9 * n + 4)


def test_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="2 axes of one size"):
        apply(basis("S", 4, 2, 1), torch.ones(5, 1, 1), torch.ones(1, 1, 4, 3))
