"""Predicates on constants that act: a planted structure is seen, one entry off is not; over a field, too."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tdsl.factor.actions import (
    inverse_order,
    is_counted,
    is_identity_matrix,
    is_in_order,
    is_mirrored,
    is_orthogonal,
    is_positive,
    keeps_groups,
)
from tdsl.factor.table import FUNCTIONS
from tdsl.prove import field
from tdsl.prove.algebra import FieldAlgebra
from tdsl.prove.structures import arranged, orthogonal


def rotation(size: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(size)
    return torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64)).Q


def test_orthogonal_matrices_and_their_rounding() -> None:
    q = rotation(64)
    assert is_orthogonal(q)
    assert not is_orthogonal(q.float()) and is_orthogonal(q.float(), 1e-6)
    assert not is_orthogonal(q[:63]) and not is_orthogonal(1.0001 * q, 1e-6)
    off = q.clone()
    off[3, 5] += 1e-3
    assert not is_orthogonal(off, 1e-6)
    assert is_identity_matrix(q @ q.T, 1e-6) and not is_identity_matrix(q, 1e-6)


def test_permutations_of_places() -> None:
    swapped = torch.tensor([2, 3, 0, 1])
    assert keeps_groups(swapped, 2) and keeps_groups(swapped, 1) and keeps_groups(swapped, 4)
    assert not keeps_groups(torch.tensor([1, 2, 3, 0]), 2)
    assert not keeps_groups(torch.tensor([0, 0, 2, 3]), 2) and not keeps_groups(swapped, 3)
    order = torch.tensor([2, 0, 1])
    assert torch.equal(order[inverse_order(order)], torch.arange(3))
    assert is_in_order(torch.arange(3)) and not is_in_order(order)
    assert is_counted(order) and not is_counted(order - 3)


def test_signs_and_mirror_images() -> None:
    weight = torch.randn(2, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert is_mirrored(weight + weight.flip(-1), (-1,))
    assert not is_mirrored(weight, (-1,)) and not is_mirrored(weight + weight.flip(-1), (-2,))
    assert is_mirrored(weight + weight.flip(-1, -2), (-1, -2)) and not is_mirrored(weight, (-4,))
    assert is_positive(weight.exp()) and not is_positive(weight) and is_positive(0.1) and not is_positive(0)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_orthogonal_matrices_over_the_field(size: int) -> None:
    algebra, random = FieldAlgebra(0), np.random.default_rng(size)
    exact = FUNCTIONS["is_orthogonal"].exact
    assert exact is not None
    with np.errstate(over="ignore"):
        first, second = orthogonal(random, size), orthogonal(random, size)
        assert exact(algebra, first) and exact(algebra, field.matmul(first, second))
        assert size == 1 or not np.array_equal(first, second)
        assert not exact(algebra, field.drawn(random, (size, size)))
        assert not exact(algebra, field.drawn(random, (size, size + 1)))


def test_arrangements_are_what_they_are_called() -> None:
    random = np.random.default_rng(0)
    orders = [arranged("blocks", 6, lambda n: random.permutation(n).tolist()) for _ in range(20)]
    assert all(any(keeps_groups(torch.tensor(o), g) for g in (2, 3, 6)) for o in orders)
    assert len({tuple(o) for o in orders}) > 3
    assert arranged("in order", 3, lambda n: [0] * n) == [0, 1, 2]
