"""Movement of elements along axes: flip, roll, rot90, repeat, shuffles, triangles, diagonals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tdsl.ops.spec import Converted, Operand, operator


def _flip_axis(axis: int) -> Any:
    return lambda x: (x, [axis])


def _roll(x: Operand, shifts: Sequence[Any] | int, dims: Sequence[int] | int) -> Converted:
    """Of a vector, the flattened roll is the roll of its axis; a rule may write one shift without a list."""
    steps = [shifts] if isinstance(shifts, int) else list(shifts)
    axes = [dims] if isinstance(dims, int) else list(dims)
    return x, steps, [-1] if not axes and x.rank == 1 else axes


def _quarters(x: Operand, k: int, dims: Sequence[int]) -> Converted:
    return x, k % 4, list(dims)


def _tile(x: Operand, repeats: Sequence[Any]) -> Converted:
    """`tile` takes fewer repeats than axes, `repeat` does not."""
    if x.rank is None:
        return None
    return x, [1] * (x.rank - len(repeats)) + list(repeats)


REARRANGEMENT = (
    operator(
        "flip(x, dims: axes) -> flip",
        aten="aten.flip.default",
        spellings={"aten.fliplr.default": _flip_axis(1), "aten.flipud.default": _flip_axis(0)},
        torch="torch.flip Tensor.flip",
        moves=True,
        linear_in=("x",),
        doc="The order of the elements reversed along each of these axes.",
    ),
    operator(
        "roll(x, shifts: ints, dims: axes = []) -> roll",
        aten="aten.roll.default",
        normal=_roll,
        torch="torch.roll Tensor.roll",
        moves=True,
        linear_in=("x",),
        doc="Element i goes to place i + shift along the axis, around the end; without axes, of x in a row.",
    ),
    operator(
        "rot90(x, k: int = 1, dims: axes = [0, 1]) -> rot90",
        aten="aten.rot90.default",
        normal=_quarters,
        torch="torch.rot90 Tensor.rot90",
        moves=True,
        linear_in=("x",),
        doc="k quarter turns of the plane of two axes, from the first towards the second.",
    ),
    operator(
        "repeat(x, repeats: ints) -> repeat",
        aten="aten.repeat.default",
        spellings={"aten.tile.default": _tile},
        torch="Tensor.repeat",
        moves=True,
        linear_in=("x",),
        doc="Copies of the whole tensor side by side, so many along each axis (new axes first).",
    ),
    operator(
        "repeat_interleave(x, repeats: int, dim: dim = None, *, output_size: int = None) "
        "-> repeat_interleave",
        aten="aten.repeat_interleave.self_int",
        moves=True,
        linear_in=("x",),
        doc="Each element repeated in place along an axis; without an axis, of all elements in a row.",
    ),
    operator(
        "pixel_shuffle(x: [..., c, h, w], factor: int) -> pixel_shuffle",
        aten="aten.pixel_shuffle.default",
        torch="F.pixel_shuffle",
        moves=True,
        linear_in=("x",),
        doc="Channels to positions: [c · f², h, w] becomes [c, h · f, w · f].",
    ),
    operator(
        "pixel_unshuffle(x: [..., c, h, w], factor: int) -> pixel_unshuffle",
        aten="aten.pixel_unshuffle.default",
        torch="F.pixel_unshuffle",
        moves=True,
        linear_in=("x",),
        doc="Positions to channels: [c, h · f, w · f] becomes [c · f², h, w].",
    ),
    operator(
        "channel_shuffle(x: [b, c, ...], groups: int) -> channel_shuffle",
        aten="aten.channel_shuffle.default",
        spellings={"aten.native_channel_shuffle.default": None},
        torch="F.channel_shuffle",
        moves=True,
        linear_in=("x",),
        doc="The channels seen as groups × members, transposed.",
    ),
    operator(
        "tril(x, diagonal: int = 0) -> matrix",
        aten="aten.tril.default",
        torch="torch.tril Tensor.tril",
        moves=True,
        linear_in=("x",),
        doc="The last two axes, zero above a diagonal.",
    ),
    operator(
        "triu(x, diagonal: int = 0) -> matrix",
        aten="aten.triu.default",
        torch="torch.triu Tensor.triu",
        moves=True,
        linear_in=("x",),
        doc="The last two axes, zero below a diagonal.",
    ),
    operator(
        "diagonal(x, offset: int = 0, dim1: dim = 0, dim2: dim = 1) -> diagonal",
        aten="aten.diagonal.default",
        torch="torch.diagonal",
        moves=True,
        linear_in=("x",),
        doc="A diagonal of the plane of two axes, as the last axis.",
    ),
    operator(
        "diag_embed(x, offset: int = 0, dim1: newdim = -2, dim2: newdim = -1) -> diag_embed",
        aten="aten.diag_embed.default",
        torch="torch.diag_embed",
        moves=True,
        linear_in=("x",),
        doc="The last axis as a diagonal of the plane of two axes, zero elsewhere.",
    ),
    operator(
        "im2col(x, kernel: ints2, dilation: ints2, padding: ints2, stride: ints2) -> im2col",
        aten="aten.im2col.default",
        moves=True,
        linear_in=("x",),
        doc="The windows of a convolution as columns: [b, c · kh · kw, windows].",
    ),
    operator(
        "col2im(x, size: ints2, kernel: ints2, dilation: ints2, padding: ints2, stride: ints2) -> col2im",
        aten="aten.col2im.default",
        linear_in=("x",),
        doc="The transpose of im2col: columns added up where their windows lie.",
    ),
    operator(
        "unfold(x, dim: dim, size: int, step: int) -> unfold",
        aten="aten.unfold.default",
        torch="Tensor.unfold",
        moves=True,
        linear_in=("x",),
        doc="Every step-th window of this size along an axis; the window is the last axis.",
    ),
)
