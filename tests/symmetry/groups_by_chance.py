"""Elements of the classical groups and of permutation groups, independent of the library's own."""

from __future__ import annotations

import torch
from torch import Tensor


def elements(family: str, n: int, seed: int = 0) -> list[Tensor]:
    """Elements that generate the group, up to closure. [n, n] each, float64."""
    torch.manual_seed(seed)
    one = torch.eye(n, dtype=torch.float64)
    match family:
        case "S":
            return [one[[1, 0, *range(2, n)]], one[[*range(1, n), 0]]] if n > 1 else [one]
        case "A":
            return [one[_three_cycle(n, last)] for last in range(2, n)] or [one]
        case "O":
            mirror = torch.diag(torch.tensor([-1.0] + [1.0] * (n - 1), dtype=torch.float64))
            return [*(_rotation(n) for _ in range(3)), mirror]
        case "SO":
            return [_rotation(n) for _ in range(3)]
        case "Sp":
            form = torch.block_diag(
                *[torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)] * (n // 2)
            )
            return [torch.matrix_exp(0.3 * form @ _symmetric(n)).contiguous() for _ in range(3)]
    raise ValueError(family)


def power(element: Tensor, order: int) -> Tensor:
    """Its action on tensors of `order` axes. [n, n] → [n^order, n^order]."""
    acting = torch.ones(1, 1, dtype=torch.float64)
    for _ in range(order):
        acting = torch.kron(acting, element)
    return acting


def commuting(family: str, n: int, inputs: int, outputs: int) -> int:
    """The dimension of the maps that commute with the group: of the null space of what its elements ask."""
    rows = []
    for element in elements(family, n):
        after, before = power(element, outputs), power(element, inputs)
        rows.append(
            torch.kron(after, torch.eye(len(before), dtype=torch.float64))
            - torch.kron(torch.eye(len(after), dtype=torch.float64), before.T.contiguous())
        )
    constraints = torch.cat(rows)
    values = torch.linalg.eigvalsh(constraints.T @ constraints)
    return int((values < 1e-9 * values.max().clamp_min(1)).sum())


def _three_cycle(n: int, last: int) -> list[int]:
    order = list(range(n))
    order[0], order[1], order[last] = 1, last, 0
    return order


def _rotation(n: int) -> Tensor:
    found = torch.linalg.qr(torch.randn(n, n, dtype=torch.float64)).Q
    if torch.det(found) < 0:
        found[0] *= -1
    return found.contiguous()


def _symmetric(n: int) -> Tensor:
    found = torch.randn(n, n, dtype=torch.float64)
    return (found + found.T) / 2
