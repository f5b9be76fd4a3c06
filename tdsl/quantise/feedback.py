"""Rounding with error feedback: columns in order, what each one loses made up for by those that come after.

With C = E[x·xᵀ] of a layer's inputs the error of a map is tr(Δ·C·Δᵀ). Once column j is rounded, the best that
the later ones can do about it is a step along row j of the Cholesky factor of C⁻¹ (Frantar et al., 2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

import numpy as np

from tdsl.quantise.declare import Array

DAMPING = 0.01
"""What is added to second moments, in their mean: what the data hardly show is not turned upside down."""
AT_ONCE = 64
"""Columns whose feedback to those far behind is added up first."""


class Rounder(Protocol):
    """What a scheme does to columns that come to it in order."""

    def begin(self, start: int, values: Array, importance: Array) -> None:
        """Fit itself to the next columns [m, k], whose errors weigh `importance` [k]."""
        ...

    def column(self, number: int, values: Array) -> Array:
        """Round a column [m]: what the file will hold in its place."""
        ...


def fed_back(matrix: Array, moment: Array, starts: Sequence[int], rounder: Rounder) -> Array:
    """Round a map [m, n] for inputs of second moment [n, n], those from each start on together. → [m, n]."""
    work = np.array(matrix, dtype=np.float64)
    factor = inverse_factor(moment)
    importance = 1.0 / np.square(np.diag(factor))
    rounded = np.empty_like(work)
    for start, stop in pairwise((*starts, work.shape[1])):
        rounder.begin(start, work[:, start:stop], importance[start:stop])
        for first in range(start, stop, AT_ONCE):
            last = min(first + AT_ONCE, stop)
            errors = np.empty((len(work), last - first))
            for j in range(first, last):
                rounded[:, j] = rounder.column(j, work[:, j])
                errors[:, j - first] = (work[:, j] - rounded[:, j]) / factor[j, j]
                if j + 1 < last:
                    work[:, j + 1 : last] -= np.outer(errors[:, j - first], factor[j, j + 1 : last])
            work[:, last:] -= errors @ factor[first:last, last:]
    return rounded


def inverse_factor(moment: Array) -> Array:
    """The upper triangular U with UᵀU = (C + damping)⁻¹. [n, n] → [n, n]."""
    from scipy import linalg

    n = len(moment)
    mean = float(np.trace(moment)) / n
    damped = moment + (DAMPING * mean if mean > 0 else 1.0) * np.eye(n)
    inverse = linalg.cho_solve(linalg.cho_factor(damped), np.eye(n))
    upper: Array = linalg.cholesky((inverse + inverse.T) / 2, lower=False)
    return upper
