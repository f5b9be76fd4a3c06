"""Movement of the axes of one tensor: reshape, permute, expand, squeeze, and what is spelt otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import prod
from typing import Any

from tdsl.ops.spec import Converted, Operand, Shape, operator


def sizes(shape: Shape) -> list[Any] | None:
    """`shape` as an argument of `reshape`: one dynamic size is -1, more cannot be written down."""
    dynamic = sum(not isinstance(size, int) for size in shape)
    if dynamic > 1 or (dynamic and 0 in shape):
        return None
    return [size if isinstance(size, int) else -1 for size in shape]


def _reshaped(x: Operand, shape: Shape | None) -> Converted:
    target = None if shape is None else sizes(shape)
    return None if target is None else (x, target)


def _explicit(x: Operand, shape: Sequence[Any]) -> Converted:
    """-1 replaced by the size that it stands for, where that is known; both may have dynamic sizes."""
    wanted = [size for size in shape if not (isinstance(size, int) and size == -1)]
    if x.shape is None or len(wanted) == len(shape):
        return x, list(shape)
    given = [_expression(size) for size in x.shape]
    for size in map(_expression, wanted):
        if size in given:
            given.remove(size)
        elif isinstance(size, int) and size:
            given.append(Fraction(1, size))
        else:
            return x, list(shape)
    if not all(isinstance(size, int | Fraction) for size in given):
        return x, list(shape)
    rest = prod(given)
    return x, [int(rest) if isinstance(size, int) and size == -1 else size for size in shape]


def _expression(size: Any) -> Any:
    """A size as something that compares: a number, or the expression of a dynamic one, a node's too."""
    value = size if isinstance(size, int) else getattr(size, "meta", {}).get("val", size)
    return value if isinstance(value, int) else getattr(getattr(value, "node", None), "expr", value)


def _flatten(x: Operand, start: int, end: int) -> Converted:
    if x.shape is None:
        return None
    if not x.shape:
        return x, [1]
    first, last = start % len(x.shape), end % len(x.shape)
    return _reshaped(x, (*x.shape[:first], prod(x.shape[first : last + 1]), *x.shape[last + 1 :]))


def _unflatten(x: Operand, dim: int, shape: Sequence[Any]) -> Converted:
    if x.shape is None:
        return None
    dim %= len(x.shape)
    if -1 in shape:
        rest = -prod(shape)
        if not isinstance(x.shape[dim], int) or not isinstance(rest, int) or rest == 0:
            return None
        shape = [x.shape[dim] // rest if size == -1 else size for size in shape]
    return _reshaped(x, (*x.shape[:dim], *shape, *x.shape[dim + 1 :]))


def _reshape_as(x: Operand, other: Operand) -> Converted:
    return _reshaped(x, other.shape)


def _ravel(x: Operand) -> Converted:
    return x, [-1] if x.shape is None or 0 not in x.shape else [0]


def _swapped(x: Operand, dim0: int, dim1: int) -> Converted:
    if x.rank is None:
        return None
    axes = list(range(x.rank))
    if axes:
        axes[dim0], axes[dim1] = axes[dim1], axes[dim0]
    return x, axes


def _transposed(x: Operand) -> Converted:
    return None if x.rank is None else (x, list(reversed(range(x.rank))))


def _matrix_transposed(x: Operand) -> Converted:
    return _swapped(x, -2, -1)


def _moved(x: Operand, source: int | Sequence[int], destination: int | Sequence[int]) -> Converted:
    """The axes `source` go to the places `destination`, the others keep their order."""
    if x.rank is None:
        return None
    rank = x.rank
    if rank == 0:
        return x, []
    sources = [s % rank for s in ([source] if isinstance(source, int) else source)]
    places = [d % rank for d in ([destination] if isinstance(destination, int) else destination)]
    target = dict(zip(places, sources, strict=True))
    others = iter([axis for axis in range(rank) if axis not in sources])
    return x, [target[place] if place in target else next(others) for place in range(rank)]


def _expand(x: Operand, shape: Sequence[Any], *, implicit: bool) -> Converted:
    """-1 (keep this size) replaced by the size, where it is known; `implicit` changes nothing."""
    if x.shape is None:
        return x, list(shape)
    added = len(shape) - len(x.shape)
    kept = [
        x.shape[i - added]
        if isinstance(size, int) and size == -1 and i >= added and isinstance(x.shape[i - added], int)
        else size
        for i, size in enumerate(shape)
    ]
    return x, kept


def _broadcast_to(x: Operand, shape: Sequence[Any]) -> Converted:
    return _expand(x, shape, implicit=False)


def _expand_as(x: Operand, other: Operand) -> Converted:
    """Sizes of `other`, -1 where a dynamic one is x's own; any other dynamic size cannot be written down."""
    if x.shape is None or other.shape is None:
        return None
    added = len(other.shape) - len(x.shape)
    own = (None,) * added + x.shape
    found = [
        -1 if not isinstance(want, int) and have is want else want
        for have, want in zip(own, other.shape, strict=True)
    ]
    return (x, found) if all(isinstance(size, int) for size in found) else None


def _squeeze_all(x: Operand) -> Converted:
    """Every axis of size 1, which is known only of a static shape."""
    if x.shape is None or not all(isinstance(size, int) for size in x.shape):
        return None
    return x, [i - len(x.shape) for i, size in enumerate(x.shape) if size == 1]


def _squeeze_one(x: Operand, dim: int) -> Converted:
    return x, [dim]


def _without_format(x: Any, **_: Any) -> Converted:
    """The layout in memory does not change a value."""
    return (x,)


MOVEMENT = (
    operator(
        "reshape(x, shape: shape) -> reshape",
        aten="aten.reshape.default",
        spellings={
            "aten.view.default": _explicit,
            "aten._unsafe_view.default": _explicit,
            "aten.view_copy.default": _explicit,
            "aten.flatten.using_ints": _flatten,
            "aten.unflatten.int": _unflatten,
            "aten.view_as.default": _reshape_as,
            "aten.reshape_as.default": _reshape_as,
            "aten.ravel.default": _ravel,
        },
        normal=_explicit,
        torch="torch.reshape Tensor.reshape Tensor.view",
        moves=True,
        linear_in=("x",),
        doc="The same elements in the same order under another shape; -1 is the size that is left.",
    ),
    operator(
        "permute(x, dims: perm) -> permute",
        aten="aten.permute.default",
        spellings={
            "aten.permute_copy.default": None,
            "aten.transpose.int": _swapped,
            "aten.swapaxes.default": _swapped,
            "aten.swapdims.default": _swapped,
            "aten.t.default": _transposed,
            "aten.numpy_T.default": _transposed,
            "aten.mT.default": _matrix_transposed,
            "aten.movedim.int": _moved,
            "aten.movedim.intlist": _moved,
            "aten.moveaxis.int": _moved,
            "aten.moveaxis.intlist": _moved,
        },
        torch="torch.permute Tensor.permute",
        moves=True,
        linear_in=("x",),
        doc="The axes in another order.",
    ),
    operator(
        "expand(x, shape: spread, *, implicit: bool = False) -> expand",
        aten="aten.expand.default",
        spellings={"aten.broadcast_to.default": _broadcast_to, "aten.expand_as.default": _expand_as},
        normal=_expand,
        torch="Tensor.expand torch.broadcast_to",
        moves=True,
        linear_in=("x",),
        doc="Axes of size 1 repeated to the given sizes; -1 keeps a size.",
    ),
    operator(
        "squeeze(x, dims: axes) -> squeeze",
        aten="aten.squeeze.dims",
        spellings={"aten.squeeze.default": _squeeze_all, "aten.squeeze.dim": _squeeze_one},
        moves=True,
        linear_in=("x",),
        doc="Without these axes, those of them that have size 1.",
    ),
    operator(
        "unsqueeze(x, dim: newdim) -> unsqueeze",
        aten="aten.unsqueeze.default",
        torch="torch.unsqueeze Tensor.unsqueeze",
        moves=True,
        linear_in=("x",),
        doc="With a new axis of size 1.",
    ),
    operator(
        "contiguous(x, *, memory_format: any = 0) -> like",
        aten="aten.contiguous.default",
        spellings={
            "aten.clone.default": _without_format,
            "aten.alias.default": None,
            "aten.lift_fresh_copy.default": None,
            "aten.lift_fresh.default": None,
            "aten.lift.default": None,
            "aten.positive.default": None,
        },
        normal=_without_format,
        torch="Tensor.contiguous torch.clone Tensor.clone",
        moves=True,
        linear_in=("x",),
        pointwise=True,
        doc="The same tensor, perhaps laid out anew in memory.",
    ),
    operator(
        "detach(x) -> like",
        aten="aten.detach.default",
        torch="Tensor.detach torch.detach",
        moves=True,
        linear_in=("x",),
        pointwise=True,
        doc="The same tensor, through which no gradient flows.",
    ),
)
