"""A value with fewer of its hidden units: selected in meaning, never made in the graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tdsl.factor.declare import TermFunction, Terms


def narrowed(terms: Terms, value: Any, selection: Any) -> Any:
    """value [..., n], selection [k, n] of zeros and ones → [..., k]: the entries that are selected.

    In a graph the weights that make the others are cut, so that they are not computed at all.
    """
    return terms.narrower(value, selection)


def _shape(value: Sequence[int], selection: Sequence[int]) -> tuple[int, ...]:
    """The shape of `narrowed`. Raises `ValueError` where the sizes do not fit."""
    if len(selection) != 2 or not value or value[-1] != selection[1]:
        raise ValueError(f"a selection {list(selection)} of a value of shape {list(value)}")
    return (*value[:-1], selection[0])


DECLARED = (
    TermFunction(
        "narrowed",
        ("x", "P"),
        narrowed,
        _shape,
        "x @ P.T for a selection P of hidden units, made by weights that have no others.",
    ),
)
