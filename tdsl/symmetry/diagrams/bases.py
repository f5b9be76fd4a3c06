"""The basis for each family of groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from tdsl.errors import TdslError
from tdsl.symmetry.diagrams.brauer import Matching, determinants, independent, matchings
from tdsl.symmetry.diagrams.diagram import Diagram
from tdsl.symmetry.diagrams.jellyfish import jellyfish_count, jellyfish_diagrams
from tdsl.symmetry.diagrams.partitions import partition_count, partition_diagrams

MOST_POINTS = 8
"""Largest k + l: 4140 partitions, 105 matchings."""


def basis(family: str, n: int, k: int, l: int) -> Sequence[Diagram]:  # noqa: E741
    """Linearly independent diagrams that span the maps of order k → l which commute with a group.

    `family` is one of `FAMILIES`: S(n) and A(n), which permute the n indices of each axis, O(n), SO(n) and
    Sp(n), real matrices of size n. Raises `TdslError` for another family, for sizes below 1 or orders below
    0, for Sp of an odd n and beyond `MOST_POINTS` points.
    """
    _check(family, n, k, l)
    return FAMILIES[family](n, k, l)


def dimension(family: str, n: int, k: int, l: int) -> int:  # noqa: E741
    """How many diagrams `basis` has, without building them where a formula tells. Raises what it raises."""
    _check(family, n, k, l)
    if family in ("S", "A"):
        return partition_count(k + l, n) + (jellyfish_count(n, k + l) if family == "A" else 0)
    return len(FAMILIES[family](n, k, l))


def _permuted(n: int, k: int, l: int) -> Sequence[Diagram]:  # noqa: E741
    return partition_diagrams(n, k, l)


def _evenly_permuted(n: int, k: int, l: int) -> Sequence[Diagram]:  # noqa: E741
    return [*partition_diagrams(n, k, l), *jellyfish_diagrams(n, k, l)]


def _orthogonal(n: int, k: int, l: int) -> Sequence[Diagram]:  # noqa: E741
    found = matchings(k, l)
    return found if 2 * n >= k + l else independent(found, n)


def _rotated(n: int, k: int, l: int) -> Sequence[Diagram]:  # noqa: E741
    signed: list[Matching] = independent(determinants(n, k, l), n)
    return [*_orthogonal(n, k, l), *signed]  # the ones are orthogonal to the others: a reflection tells


def _symplectic(n: int, k: int, l: int) -> Sequence[Diagram]:  # noqa: E741
    found = matchings(k, l, symplectic=True)
    return found if n >= k + l else independent(found, n)


FAMILIES: Mapping[str, Callable[[int, int, int], Sequence[Diagram]]] = MappingProxyType(
    {"S": _permuted, "A": _evenly_permuted, "O": _orthogonal, "SO": _rotated, "Sp": _symplectic}
)
"""The bases, by the name of the family, from n, k and l."""


def _check(family: str, n: int, k: int, l: int) -> None:  # noqa: E741
    if family not in FAMILIES:
        raise TdslError(
            f"there are no diagrams for the groups {family}(n)",
            expected=f"one of {', '.join(FAMILIES)}",
            hint="other groups are given by their generators",
        )
    if n < 1 or k < 0 or l < 0:
        raise TdslError(
            f"{family}({n}) on tensors of {k} and {l} axes", expected="n of at least 1, no negative order"
        )
    if family == "Sp" and n % 2:
        raise TdslError(f"there is no group Sp({n})", expected="an even n: coordinates come in pairs")
    if k + l > MOST_POINTS:
        raise TdslError(
            f"maps of order {k} → {l} have {k + l} axes",
            expected=f"{MOST_POINTS} at most",
            hint="the number of diagrams grows faster than exponentially with the axes",
        )
