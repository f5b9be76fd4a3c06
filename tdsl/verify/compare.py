"""How far a result is from a reference: per output of one sample, and over several samples.

Metrics are computed in float64. Entries that are not finite in the reference say nothing about
distance and are left out of it; entries that are not finite although the reference is, are counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

NAN = math.nan
INFINITY = math.inf
PART = 2**16
"""Entries that are in float64 at one time, or one row of an output."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A result against its reference, for one output on one sample.

    `mismatch` says how shape or dtype disagree (empty: they agree); with another shape there is nothing
    to measure and errors are infinite. `lost` counts entries that are not finite where the reference
    is, `gained` the other way round. `squares` and `reference_squares` are sums over the entries,
    `cosines` the sum of the cosine of each of the `rows`, `cosine` the lowest.
    """

    mismatch: str
    lost: int
    gained: int
    squares: float
    reference_squares: float
    max_error: float
    cosine: float
    cosines: float
    rows: int

    @property
    def error(self) -> float:
        """Relative RMS error ‖result − reference‖ / ‖reference‖."""
        return _ratio(self.squares, self.reference_squares)


@dataclass(frozen=True, slots=True)
class Metrics:
    """One output over several samples, or all outputs at their worst.

    `error` is the relative RMS error over all entries, `max_error` the largest absolute error,
    `cosine` the lowest of any row, `mean_cosine` their mean. A cosine is NaN where no row has one
    (integer outputs).
    """

    error: float
    max_error: float
    cosine: float
    mean_cosine: float


def compare(reference: Tensor, result: Tensor) -> Difference:
    """Compare two outputs; rows for the cosine run along the last axis.

    An output whose last axis has one entry, or that has one axis, is a single row. For integers and
    booleans (an argmax, a mask) an entry counts as equal or different: `error` is then the RMS of 0s
    and 1s, and no cosine is defined.
    """
    if reference.shape != result.shape:
        mismatch = f"shape {list(result.shape)} instead of {list(reference.shape)}"
        return Difference(mismatch, 0, 0, INFINITY, 1.0, INFINITY, NAN, NAN, 1)
    mismatch = "" if reference.dtype == result.dtype else f"{result.dtype} instead of {reference.dtype}"
    counted = reference.dtype.is_floating_point or reference.dtype.is_complex
    parts = [_compared(a, b, counted) for a, b in _rows(reference, result)]
    return Difference(
        mismatch,
        lost=sum(part.lost for part in parts),
        gained=sum(part.gained for part in parts),
        squares=sum(part.squares for part in parts),
        reference_squares=sum(part.reference_squares for part in parts),
        max_error=max((part.max_error for part in parts), default=0.0),
        cosine=worst_of((part.cosine for part in parts if part.rows), lower_is_worse=True),
        cosines=sum(part.cosines for part in parts),
        rows=sum(part.rows for part in parts),
    )


def _compared(reference: Tensor, result: Tensor, with_rows: bool) -> Difference:
    """Compare some rows [n, width]; without rows for integers, which differ or not."""
    a, b = as_double(reference), as_double(result)
    a, b = a.reshape(len(reference), -1), b.reshape(len(reference), -1)
    known = torch.isfinite(a)
    lost, gained = count_lost(reference, result), int((torch.isfinite(b) & ~known).sum())
    delta = torch.where(known, b - a, 0.0)
    max_error = _or_infinity(delta.abs().max().item()) if delta.numel() else 0.0
    if not with_rows:
        different = float((delta != 0).sum())
        return Difference("", lost, gained, different, float(delta.numel()), max_error, NAN, 0.0, 0)
    squares = _or_infinity(_sum_of_squares(delta))
    reference_squares = _sum_of_squares(torch.where(known, a, 0.0))
    cosines = _cosines(a, b, known)
    lowest = (NAN if cosines.isnan().any() else cosines.min().item()) if cosines.numel() else NAN
    total = cosines.sum().item()
    return Difference("", lost, gained, squares, reference_squares, max_error, lowest, total, cosines.numel())


def _rows(*values: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Tensors of one shape as rows along their last axis, some rows of each at a time."""
    first = values[0]
    width = first.shape[-1] if first.dim() > 1 and first.shape[-1] > 1 else first.numel()
    if not width or not first.numel():
        return iter(())
    rows = [value.detach().reshape(-1, width) for value in values]
    return zip(*(torch.split(one, max(1, PART // width)) for one in rows), strict=True)


def _pieces(*values: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The entries of tensors of one number of them, some of each at a time."""
    return zip(*(torch.split(value.detach().reshape(-1), PART) for value in values), strict=True)


def over_samples(differences: Iterable[Difference]) -> Metrics:
    """Metrics of one output over several samples, as if these were one long batch."""
    items = list(differences)
    rows = sum(item.rows for item in items)
    lowest = [item.cosine for item in items if item.rows]
    return Metrics(
        error=_ratio(sum(i.squares for i in items), sum(i.reference_squares for i in items)),
        max_error=max((i.max_error for i in items), default=0.0),
        cosine=worst_of(lowest, lower_is_worse=True),
        mean_cosine=sum(item.cosines for item in items if item.rows) / rows if rows else NAN,
    )


def over_outputs(metrics: Iterable[Metrics]) -> Metrics:
    """Each metric at its worst output; an output for which a cosine is not defined has no part in it."""
    items = list(metrics)
    with_rows = [item for item in items if not math.isnan(item.mean_cosine)] or items
    return Metrics(
        error=worst_of((item.error for item in items), lower_is_worse=False),
        max_error=worst_of((item.max_error for item in items), lower_is_worse=False),
        cosine=worst_of((item.cosine for item in with_rows), lower_is_worse=True),
        mean_cosine=worst_of((item.mean_cosine for item in with_rows), lower_is_worse=True),
    )


def worst_of(values: Iterable[float], *, lower_is_worse: bool) -> float:
    """The lowest or highest value; NaN is worse than any number, and the answer for no value."""
    items = list(values)
    if not items or any(math.isnan(value) for value in items):
        return NAN
    return min(items) if lower_is_worse else max(items)


def root_mean_square(value: Tensor) -> float:
    """RMS of the finite entries; 0 when there is none."""
    return _mean_of_squares(as_double(part) for (part,) in _pieces(value))


def distance(a: Tensor, b: Tensor) -> float:
    """RMS of `a - b` over the entries finite in both, whatever the dtypes; infinite for unequal shapes."""
    if a.shape != b.shape:
        return INFINITY
    return _mean_of_squares(as_double(one) - as_double(other) for one, other in _pieces(a, b))


def _mean_of_squares(parts: Iterable[Tensor]) -> float:
    """The root of the mean square of the finite entries of all parts."""
    squares, count = 0.0, 0
    for entries in parts:
        finite = torch.isfinite(entries)
        count += int(finite.sum())
        squares += _sum_of_squares(torch.where(finite, entries, 0.0))
    return math.sqrt(squares / count) if count else 0.0


def count_lost(reference: Tensor, result: Tensor) -> int:
    """How many entries are finite in `reference` and not in `result`, or infinite with the other sign.

    All of them for unequal shapes.
    """
    if reference.shape != result.shape:
        return reference.numel()
    return sum(_lost(as_double(a), as_double(b)) for a, b in _pieces(reference, result))


def _lost(a: Tensor, b: Tensor) -> int:
    opposite = torch.isinf(a) & torch.isinf(b) & (a != b)
    return int(((torch.isfinite(a) & ~torch.isfinite(b)) | opposite).sum())


def as_double(value: Tensor) -> Tensor:
    """`value` in float64 on the CPU; a complex one gets a last axis of size 2."""
    value = value.detach().cpu()
    return (torch.view_as_real(value) if value.is_complex() else value).double()


def _cosines(a: Tensor, b: Tensor, known: Tensor) -> Tensor:
    """Cosine of each row that is finite in the reference: 1 where both rows are zero, 0 where one is."""
    keep = known.all(dim=1)
    a, b = a[keep], b[keep]
    # Scaled to their largest entry first: squares of large entries would overflow.
    a, b = (
        row / row.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(row.dtype).tiny) for row in (a, b)
    )
    a_norm, b_norm = a.norm(dim=1), b.norm(dim=1)
    cosine = (a * b).sum(dim=1) / (a_norm * b_norm).clamp_min(torch.finfo(a.dtype).tiny)
    return torch.where((a_norm == 0) & (b_norm == 0), torch.ones_like(cosine), cosine).clamp(-1, 1)


def _sum_of_squares(value: Tensor) -> float:
    return value.square().sum().item()


def _or_infinity(value: float) -> float:
    return INFINITY if math.isnan(value) else value


def _ratio(squares: float, reference_squares: float) -> float:
    if squares == 0:
        return 0.0
    return math.sqrt(squares / reference_squares) if reference_squares else INFINITY
