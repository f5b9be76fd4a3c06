"""Predicates on constants that act: permutations, orthogonal matrices, positive factors, mirror images.

Each says over a field, too, whether it holds, so that rules which ask for it can be proved; `family` names
the weights that have the property. Raises `TdslError` for weights that are not finite.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tdsl.factor.declare import CompileTimeFunction
from tdsl.factor.matrix import checked
from tdsl.factor.memo import memoised
from tdsl.factor.places import is_permutation


def is_in_order(index: Tensor) -> bool:
    """Whether a list of places is 0, 1, …, n − 1."""
    return index.ndim == 1 and torch.equal(index, torch.arange(len(index)).to(index))


def is_counted(index: Tensor) -> bool:
    """Whether no place in a list counts from the end."""
    return bool((index >= 0).all())


def keeps_groups(index: Tensor, groups: int) -> bool:
    """Whether a permutation of n places takes each of that many blocks of neighbours to one of them."""
    if not is_permutation(index) or groups < 1 or len(index) % groups:
        return False
    blocks = index.reshape(groups, -1).div(max(1, len(index) // groups), rounding_mode="floor")
    return bool((blocks == blocks[:, :1]).all())


def inverse_order(index: Tensor) -> Tensor:
    """The permutation that undoes a permutation of places. [n] → [n]."""
    return index.argsort()


def is_positive(factor: Tensor | float) -> bool:
    """Whether a number, or every entry of a weight, is greater than 0."""
    if not isinstance(factor, Tensor):
        return factor > 0
    return bool((checked(factor) > 0).all())


@memoised
def is_orthogonal(weight: Tensor, tolerance: float = 0.0) -> bool:
    """Whether Q·Qᵀ = Qᵀ·Q = I: ‖QᵀQ − I‖ is at most `tolerance` times ‖Q‖ (Frobenius).

    That bounds the distance to the nearest orthogonal matrix, |σ − 1| being at most |σ² − 1|.
    """
    exact = checked(weight, ndim=2)
    if exact.shape[0] != exact.shape[1]:
        return False
    size = exact.norm()
    if not bool((exact.square().sum(0).sqrt() - 1).norm() <= tolerance * size + _ROUNDING):
        return False  # lengths of the columns alone tell most matrices
    return bool((exact.T @ exact - torch.eye(len(exact))).norm() <= tolerance * size + _ROUNDING)


@memoised
def is_identity_matrix(weight: Tensor, tolerance: float = 0.0) -> bool:
    """Whether ‖W − I‖ is at most `tolerance` times ‖W‖ (Frobenius)."""
    exact = checked(weight, ndim=2)
    if exact.shape[0] != exact.shape[1]:
        return False
    return bool((exact - torch.eye(len(exact))).norm() <= tolerance * exact.norm())


def is_mirrored(weight: Tensor, axes: Sequence[int]) -> bool:
    """Whether a weight is its own mirror image along some of its axes together."""
    if any(not -weight.ndim <= axis < weight.ndim for axis in axes):
        return False
    return torch.equal(weight, weight.flip(tuple(axes)))


_ROUNDING = 1e-12
"""What float64 leaves of an orthogonal matrix of a few thousand rows, in the Frobenius norm."""


# ---------------------------------------------------------------- over a field


def _orthogonal(k: Any, weight: Any, tolerance: float = 0.0) -> bool:
    if len(weight.shape) != 2 or weight.shape[0] != weight.shape[1]:
        return False
    return _is_one(k, k.matmul(weight, weight.transpose(1, 0)))


def _identity(k: Any, weight: Any, tolerance: float = 0.0) -> bool:
    return len(weight.shape) == 2 and weight.shape[0] == weight.shape[1] and _is_one(k, weight)


def _is_one(k: Any, matrix: Any) -> bool:
    count = len(matrix)
    return all(matrix[i, j] == (i == j) for i in range(count) for j in range(count))


def _mirrored(_: Any, weight: Any, axes: Sequence[int]) -> bool:
    if any(not -len(weight.shape) <= axis < len(weight.shape) for axis in axes):
        return False
    turned = tuple(slice(None, None, -1 if i - len(weight.shape) in axes else 1) for i in range(weight.ndim))
    return bool((weight == weight[turned]).all())


DECLARED = (
    CompileTimeFunction(
        "is_in_order",
        "predicate",
        ("index",),
        is_in_order,
        "Whether a list of places is 0, 1, …, n − 1.",
        family="in order",
    ),
    CompileTimeFunction(
        "is_counted",
        "predicate",
        ("index",),
        is_counted,
        "Whether no place in a list counts from the end.",
        family="permutation",
    ),
    CompileTimeFunction(
        "keeps_groups",
        "predicate",
        ("index", "groups"),
        keeps_groups,
        "Whether a permutation takes each of so many blocks of neighbours to one of them.",
        family="blocks",
    ),
    CompileTimeFunction(
        "inverse_order",
        "tensor",
        ("index",),
        inverse_order,
        "The permutation of places that undoes one.",
    ),
    CompileTimeFunction(
        "is_positive",
        "predicate",
        ("a",),
        is_positive,
        "Whether a number, or every entry of a weight, is greater than 0.",
        family="positive",
    ),
    CompileTimeFunction(
        "is_orthogonal",
        "predicate",
        ("Q", "tolerance?"),
        is_orthogonal,
        "Whether Q·Qᵀ = I.",
        exact=_orthogonal,
        family="orthogonal",
    ),
    CompileTimeFunction(
        "is_identity_matrix",
        "predicate",
        ("W", "tolerance?"),
        is_identity_matrix,
        "Whether W = I.",
        exact=_identity,
        family="identity",
    ),
    CompileTimeFunction(
        "is_mirrored",
        "predicate",
        ("W", "axes"),
        is_mirrored,
        "Whether a weight is its own mirror image along some axes together.",
        exact=_mirrored,
        family="mirrored",
    ),
)
