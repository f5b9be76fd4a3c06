"""Tucker-2: the leading directions of both channel axes of a kernel, in a metric, and the core between them.

What a kernel K [T, S, *k] does is seen through roots of moments: Kᵒᵀ·K·L on its output and input axis (see
`moment`). That weighted kernel is never formed as a whole: its unfoldings enter as Gram matrices, summed over
pieces of the positions, and its products with bases piece by piece as well, so that beside the kernel no more
than `PIECE` bytes are in use at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tdsl.factor.core_shape import core_shape
from tdsl.factor.matrix import from_gram, triplets
from tdsl.factor.memo import memoised
from tdsl.factor.rank import Fixed, RankRule, Ratio, Tiled, as_rank_rule

HOOI_SWEEPS = 3
"""Most sweeps of the alternating refinement."""
HOOI_GAIN = 1e-5
"""The refinement stops when a sweep gains less than this share of the kernel's energy."""
MARGIN = 8
"""The refinement chooses among half as many more leading directions than are wanted, and this many beyond."""
PIECE = 8 * 2**20
"""Bytes of a piece of the weighted kernel."""


class Seen(NamedTuple):
    """A kernel in float64 and the roots of moments that it is seen through; `None` for the identity."""

    kernel: Tensor
    inputs: Tensor | None = None
    """L [S, S], on the input axis."""
    outputs: Tensor | None = None
    """[T, T], on the output axis, transposed."""


class Axes(NamedTuple):
    """The left singular vectors and values of the unfoldings along the output and the input axis."""

    out: Tensor
    out_values: Tensor
    into: Tensor
    into_values: Tensor


class Tucker(NamedTuple):
    """Orthonormal bases out [T, r] and into [S, q] of the weighted kernel, and the core [r, q, *k]."""

    into: Tensor
    core: Tensor
    out: Tensor


def truncated(seen: Seen, rank_out: object, rank_in: object = None, sweeps: int = HOOI_SWEEPS) -> Tucker:
    """The weighted kernel in bases of the ranks asked for (`conv.tucker2` says what they may be).

    Starts from the higher-order SVD and alternates over the two axes until nothing is gained, among the
    leading directions of each axis (`MARGIN`).
    """
    kernel = seen.kernel
    given = (as_rank_rule(rank_out), None if rank_in is None else as_rank_rule(rank_in))
    gram = not any(rule is not None and rule.spectral for rule in given) and not is_tall(kernel)
    axes = channel_axes(*seen, gram)
    rule_out, rule_in = core_rules(kernel.shape, axes, *given)
    limit_out, limit_in = tucker2_limits(kernel.shape)
    rows, columns, volume = kernel.shape[0], kernel.shape[1], kernel[0, 0].numel() if kernel.numel() else 0
    rank_of_out = rule_out.select(axes.out_values, limit_out, aspect=_aspect(rows, columns * volume))
    rank_of_in = rule_in.select(axes.into_values, limit_in, aspect=_aspect(columns, rows * volume))
    wide_out = min(axes.out.shape[1], _wide(rank_of_out))
    wide_in = min(axes.into.shape[1], _wide(rank_of_in))
    basis_out, basis_in = axes.out[:, :wide_out], axes.into[:, :wide_in]
    inner = reduced(seen, basis_out, basis_in)
    total = float(axes.out_values.square().sum())
    full = rank_of_out == rows and rank_of_in == columns
    out, into = refined(inner, (rank_of_out, rank_of_in), total, 0 if full else sweeps)
    mixed = (out.T @ inner.reshape(wide_out, wide_in * volume)).reshape(out.shape[1], wide_in, volume)
    core = (into.T @ mixed).reshape(out.shape[1], into.shape[1], *kernel.shape[2:])
    return Tucker(basis_in @ into, core, basis_out @ out)


def core_rules(
    shape: Sequence[int], axes: Axes, rule: RankRule, rule_in: RankRule | None
) -> tuple[RankRule, RankRule]:
    """The rank rules of both channel axes of a kernel of that shape, one rule alone being shared out."""
    if rule_in is not None:
        return rule, rule_in
    ratio = rule.rule if isinstance(rule, Tiled) else rule
    if not isinstance(ratio, Ratio) or not math.prod(shape):
        return rule.share(2), rule.share(2)
    outputs, inputs, *size = shape
    # At most that share of the numbers; the nudge undoes the rounding of a product such as 0.29 · 100.
    budget = math.floor(ratio.fraction * math.prod(shape) * (1 + 1e-15))
    spectra = (axes.out_values, axes.into_values)
    out, into = (Fixed(r) for r in core_shape(spectra, (outputs, inputs), budget, math.prod(size)))
    if not isinstance(rule, Tiled):
        return out, into
    return Tiled(out, rule.multiple, rule.fit), Tiled(into, rule.multiple, rule.fit)


def tucker2_limits(shape: Sequence[int]) -> tuple[int, int]:
    """The break-even ranks (out, in) of a kernel [T, S, *k].

    With both channel counts cut to the same fraction, three factors hold S²·g + T·S·k·g² + T²·g numbers;
    these are the ranks at the fraction where that reaches T·S·k. A fraction f of them holds at most f of
    the kernel's numbers.
    """
    outputs, inputs, *size = shape
    dense = outputs * inputs * math.prod(size)
    if not dense:
        return 0, 0
    squares = outputs**2 + inputs**2
    fraction = (math.sqrt(squares**2 + 4 * dense**2) - squares) / (2 * dense)
    return math.floor(fraction * outputs), math.floor(fraction * inputs)


@memoised
def channel_axes(kernel: Tensor, inputs: Tensor | None, outputs: Tensor | None, gram: bool) -> Axes:
    """Every direction of both channel axes, remembered: by Gram matrices, or by decompositions."""
    rows, columns = kernel.shape[:2]
    if not gram:
        whole = torch.cat(list(weighted(Seen(kernel, inputs, outputs))), dim=2)
        out, into = triplets(_unfold(whole, 0)), triplets(_unfold(whole, 1))
        return Axes(out.left, out.values, into.left, into.values)
    sums = (
        torch.zeros(rows, rows, dtype=torch.float64),
        torch.zeros(columns, columns, dtype=torch.float64),
    )
    for piece in weighted(Seen(kernel, inputs, outputs)):
        for axis, total in enumerate(sums):
            unfolded = _unfold(piece, axis)
            total.addmm_(unfolded, unfolded.T)
    return Axes(*from_gram(sums[0]), *from_gram(sums[1]))


def weighted(seen: Seen) -> Iterator[Tensor]:
    """The weighted kernel, flat in its positions, some of them at a time: [T, S, some]."""
    kernel, inputs, outputs = seen
    flat = kernel.reshape(*kernel.shape[:2], math.prod(kernel.shape[2:]))
    at_once = max(1, PIECE // max(1, 8 * flat.shape[0] * flat.shape[1]))
    for piece in torch.split(flat, at_once, dim=2):
        found = piece
        if inputs is not None:
            found = torch.einsum("tsk,sz->tzk", found, inputs)
        if outputs is not None:
            found = torch.einsum("tsk,tu->usk", found, outputs)
        yield found


def pieces(kernel: Tensor) -> Iterator[Tensor]:
    """A kernel some of its outputs at a time: [some, S, *k]."""
    at_once = max(1, PIECE // max(1, 8 * math.prod(kernel.shape[1:])))
    yield from torch.split(kernel, at_once)


def reduced(seen: Seen, out: Tensor | None, into: Tensor) -> Tensor:
    """The weighted kernel in bases of its channels. [T, S, *k], [T, r], [S, q] → [r, q, *k].

    Without a basis of the outputs they stay as they are, not weighted either.
    """
    kernel, inputs, outputs = seen
    reading = into if inputs is None else inputs @ into
    mixing = out if out is None or outputs is None else outputs @ out
    size = kernel.shape[2:]
    volume = math.prod(size)
    rows = len(kernel) if mixing is None else mixing.shape[1]
    found = torch.zeros(rows, reading.shape[1] * volume, dtype=torch.float64)
    start = 0
    for part in pieces(kernel):
        narrow = torch.einsum("tsk,sq->tqk", part.reshape(*part.shape[:2], volume), reading)
        flat, which = narrow.reshape(len(part), found.shape[1]), slice(start, start + len(part))
        if mixing is None:
            found[which] = flat
        else:
            found.addmm_(mixing[which].T, flat)
        start += len(part)
    return found.reshape(rows, reading.shape[1], *size)


def refined(kernel: Tensor, ranks: tuple[int, int], total: float, sweeps: int) -> tuple[Tensor, Tensor]:
    """Bases of a kernel, at first its leading coordinates, after higher-order orthogonal iteration.

    The energy that they keep, of `total`, never falls. [T, S, *k] → [T, r], [S, q].
    """
    flat = kernel.reshape(*kernel.shape[:2], math.prod(kernel.shape[2:]))
    out = torch.eye(kernel.shape[0], dtype=torch.float64)[:, : ranks[0]]
    into = torch.eye(kernel.shape[1], dtype=torch.float64)[:, : ranks[1]]
    kept = 0.0
    for _ in range(sweeps if total else 0):
        out, _ = leading(flat, 0, into, ranks[0])
        into, now = leading(flat, 1, out, ranks[1])
        if now - kept <= HOOI_GAIN * total:
            break
        kept = now
    return out, into


def leading(kernel: Tensor, axis: int, other: Tensor, rank: int) -> tuple[Tensor, float]:
    """The leading left singular vectors of an unfolding of K [T, S, k], the other axis in a basis.

    → [size of the axis, `rank` or fewer], and the energy that they keep. Of an unfolding that is not tall
    they are the eigenvectors of its Gram matrix: directions that hold less than rounding of the energy come
    out mixed, which is all the same to the refinement that asks for them.
    """
    rows, columns = kernel.shape[axis], other.shape[1] * kernel.shape[2]
    narrowed = "tsk,sq->tqk" if axis == 0 else "tsk,tr->rsk"
    at_once = max(1, PIECE // max(1, 8 * rows * max(other.shape)))
    pieces = (torch.einsum(narrowed, piece, other) for piece in torch.split(kernel, at_once, dim=2))
    if columns < rows:
        found = triplets(_unfold(torch.cat(list(pieces), dim=2), axis))
        vectors, squares = found.left, found.values.square()
    else:
        gram = torch.zeros(rows, rows, dtype=torch.float64)
        for piece in pieces:
            unfolded = _unfold(piece, axis)
            gram.addmm_(unfolded, unfolded.T)
        vectors, values = from_gram(gram)
        squares = values.square()
    return vectors[:, :rank], float(squares[:rank].sum())


def is_tall(kernel: Tensor) -> bool:
    """Whether one of the unfoldings has more rows than columns."""
    rows, columns, *size = kernel.shape
    return rows > columns * math.prod(size) or columns > rows * math.prod(size)


def _wide(rank: int) -> int:
    return rank + rank // 2 + MARGIN


def _aspect(rows: int, columns: int) -> float:
    return min(rows, columns) / max(1, rows, columns) or 1.0


def _unfold(kernel: Tensor, axis: int) -> Tensor:
    """The matrix whose rows run along `axis`. […] → [size of axis, the rest]."""
    return kernel.movedim(axis, 0).reshape(kernel.shape[axis], kernel.numel() // max(1, kernel.shape[axis]))
