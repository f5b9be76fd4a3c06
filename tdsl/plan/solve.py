"""The multiple-choice knapsack of a plan, solved exactly (HiGHS through `scipy.optimize.milp`)."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

GAP = 1e-6
"""Relative gap to the bound at which a solution counts as optimal."""
NODES = 20_000
"""Branches that are looked at, at most: by a limit in seconds a busy machine would plan otherwise."""


@dataclass(frozen=True, slots=True)
class Item:
    """One candidate: what it costs in the objective, in each budget, and what it excludes.

    Items that cover the same key exclude each other.
    """

    value: float
    weights: tuple[float, ...]
    covers: frozenset[str]


def knapsack(items: Sequence[Item], limits: Sequence[float]) -> list[int] | None:
    """Positions of the items with the least total value whose weights sum to each limit at most.

    Nothing is chosen where nothing helps (values are differences to the model as it is). Of equally good
    choices the solver's is taken, which depends on the items alone. `None` when no choice keeps the limits.
    """
    if not items:
        return [] if all(limit >= 0 for limit in limits) else None
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_array

    rows: list[int] = []
    columns: list[int] = []
    numbers: list[float] = []
    upper: list[float] = []

    def row(entries: Sequence[tuple[int, float]], limit: float) -> None:
        scale = max((abs(number) for _, number in entries), default=1.0) or 1.0
        for column, number in entries:
            rows.append(len(upper))
            columns.append(column)
            numbers.append(number / scale)
        upper.append(limit / scale)

    for axis, limit in enumerate(limits):
        row([(i, item.weights[axis]) for i, item in enumerate(items)], limit)
    covered: dict[str, list[int]] = {}
    for i, item in enumerate(items):
        for key in item.covers:
            covered.setdefault(key, []).append(i)
    for positions in dict.fromkeys(tuple(sorted(p)) for _, p in sorted(covered.items())):
        if len(positions) > 1:
            row([(i, 1.0) for i in positions], 1.0)
    scale = max(abs(item.value) for item in items) or 1.0
    matrix = coo_array((numbers, (rows, columns)), shape=(len(upper), len(items)))
    with _silent():
        found = milp(
            np.array([item.value / scale for item in items]),
            constraints=LinearConstraint(matrix.tocsr(), -np.inf, np.array(upper)),
            integrality=np.ones(len(items)),
            bounds=Bounds(0, 1),
            options={"mip_rel_gap": GAP, "node_limit": NODES},
        )
    if found.x is None:
        return None
    return [i for i, taken in enumerate(found.x) if taken > 0.5]


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """What C code prints meanwhile goes nowhere: HiGHS names a function of its own on the standard output.

    No option of it says otherwise, and `--json` has that output for itself. It has a buffer of its own, which
    is emptied before the descriptor is what it was.
    """
    try:
        kept = os.dup(1)
    except OSError:  # closed: there is nothing to keep clean
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    _flush()
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        _flush()
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def _flush() -> None:
    """Empty the buffers of C, where its library is known by no name: not on Windows."""
    with contextlib.suppress(OSError, TypeError, AttributeError):
        ctypes.CDLL(None).fflush(None)
