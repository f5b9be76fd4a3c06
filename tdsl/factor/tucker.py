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
from tdsl.factor.memo import MEMORY, memoised
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
    return _at_ranks(*seen, gram, rank_of_out, rank_of_in, sweeps)


@memoised
def _at_ranks(
    kernel: Tensor,
    inputs: Tensor | None,
    outputs: Tensor | None,
    gram: bool,
    rank_out: int,
    rank_in: int,
    sweeps: int,
) -> Tucker:
    """`truncated` at ranks in numbers, remembered: several rules for a rank come to the same number."""
    seen, axes = Seen(kernel, inputs, outputs), channel_axes(kernel, inputs, outputs, gram)
    wide = min(axes.out.shape[1], _wide(rank_out)), min(axes.into.shape[1], _wide(rank_in))
    basis_out, basis_in = axes.out[:, : wide[0]], axes.into[:, : wide[1]]
    if 8 * kernel.numel() <= MEMORY.capacity:
        inner = _turned(kernel, inputs, outputs, gram)[:, : wide[0], : wide[1]]
    else:
        inner = reduced(seen, basis_out, basis_in)
    total = float(axes.out_values.square().sum())
    full = (rank_out, rank_in) == tuple(kernel.shape[:2])
    out, into = refined(inner, (rank_out, rank_in), total, 0 if full else sweeps)
    core = torch.empty(len(inner), out.shape[1], into.shape[1], dtype=torch.float64)
    for narrow, one in zip(core, inner, strict=True):
        torch.mm(out.T @ one, into, out=narrow)
    core = core.movedim(0, 2).reshape(*core.shape[1:], *kernel.shape[2:])
    return Tucker(basis_in @ into, core, basis_out @ out)


@memoised
def _turned(kernel: Tensor, inputs: Tensor | None, outputs: Tensor | None, gram: bool) -> Tensor:
    """The whole weighted kernel in its `channel_axes` [k, T, S], remembered: of fewer it is a corner."""
    axes = channel_axes(kernel, inputs, outputs, gram)
    return reduced(Seen(kernel, inputs, outputs), axes.out, axes.into)


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
    """The weighted kernel in bases of its channels. [T, S, *k], [T, r], [S, q] → [k, r, q], k positions.

    Without a basis of the outputs they stay as they are, not weighted either.
    """
    kernel, inputs, outputs = seen
    reading = into if inputs is None else inputs @ into
    mixing = out if out is None or outputs is None else outputs @ out
    volume = math.prod(kernel.shape[2:])
    rows = len(kernel) if mixing is None else mixing.shape[1]
    found = torch.zeros(volume, rows, reading.shape[1], dtype=torch.float64)
    start = 0
    for part in pieces(kernel):
        narrow = torch.einsum("tsk,sq->ktq", part.reshape(*part.shape[:2], volume), reading)
        which = slice(start, start + len(part))
        if mixing is None:
            found[:, which] = narrow
        else:
            for total, one in zip(found, narrow, strict=True):
                total.addmm_(mixing[which].T, one)
        start += len(part)
    return found


def refined(kernel: Tensor, ranks: tuple[int, int], total: float, sweeps: int) -> tuple[Tensor, Tensor]:
    """Bases of a kernel, at first its leading coordinates, after higher-order orthogonal iteration.

    The energy that they keep, of `total`, never falls. [k, T, S] → [T, r], [S, q].
    """
    out = torch.eye(kernel.shape[1], dtype=torch.float64)[:, : ranks[0]]
    into = torch.eye(kernel.shape[2], dtype=torch.float64)[:, : ranks[1]]
    kept = float(kernel[:, : ranks[0], : ranks[1]].square().sum())
    for _ in range(sweeps if total else 0):
        out, _ = leading(kernel, 1, into, ranks[0])
        into, now = leading(kernel, 2, out, ranks[1])
        if now - kept <= HOOI_GAIN * total:
            break
        kept = now
    return out, into


def leading(kernel: Tensor, axis: int, other: Tensor, rank: int) -> tuple[Tensor, float]:
    """The leading left singular vectors of K [k, T, S] unfolded along an axis, the other one in a basis.

    → [size of the axis, `rank` or fewer], and the energy that they keep. Of an unfolding that is not tall
    they are the eigenvectors of its Gram matrix: directions that hold less than rounding of the energy come
    out mixed, which is all the same to the refinement that asks for them.
    """
    turned = kernel if axis == 1 else kernel.mT
    rows, columns = turned.shape[1], other.shape[1] * len(turned)
    at_once = max(1, PIECE // max(1, 8 * rows * other.shape[1]))
    unfolded = (torch.cat([one @ other for one in some], dim=1) for some in torch.split(turned, at_once))
    if columns < rows:
        found = triplets(torch.cat(list(unfolded), dim=1))
        vectors, squares = found.left, found.values.square()
    else:
        gram = torch.zeros(rows, rows, dtype=torch.float64)
        for some in unfolded:
            gram.addmm_(some, some.T)
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
