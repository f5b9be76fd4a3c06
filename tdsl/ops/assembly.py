"""Tensors put together and taken apart: concat, stack, split, slice, select, pad."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from tdsl.ops.spec import Converted, Operand, operator

END: Final = 2**63 - 1
"""What PyTorch writes for the open end of a slice."""


def _static(x: Operand, dim: int) -> int | None:
    """The size of an axis, if it is a known integer."""
    if x.shape is None or not x.shape:
        return None
    size = x.shape[dim]
    return size if isinstance(size, int) else None


def _pieces(size: int, piece: int) -> list[int]:
    return [min(piece, size - start) for start in range(0, size, piece)] if size and piece else [size]


def _split(x: Operand, piece: int, dim: int) -> Converted:
    size = _static(x, dim)
    return None if size is None or not isinstance(piece, int) else (x, _pieces(size, piece), dim)


def _chunk(x: Operand, chunks: int, dim: int) -> Converted:
    """As many equal pieces as fit, the last one smaller; there may be fewer than `chunks`."""
    size = _static(x, dim)
    if size is None:
        return None
    return x, _pieces(size, -(-size // chunks)) if size else [0] * chunks, dim


def _even_split(x: Operand, sections: int, dim: int) -> Converted:
    """`tensor_split`: exactly so many pieces, the first ones larger by one."""
    size = _static(x, dim)
    if size is None or not isinstance(sections, int):
        return None
    return x, [size // sections + (i < size % sections) for i in range(sections)], dim


def _cut(x: Operand, indices: Sequence[int], dim: int) -> Converted:
    """`tensor_split` at these indices."""
    size = _static(x, dim)
    if size is None or not all(isinstance(i, int) for i in indices):
        return None
    cuts = [min(i + size if i < 0 else i, size) for i in indices]
    if any(left > right for left, right in zip([0, *cuts], [*cuts, size], strict=True)):
        return None
    return x, [right - left for left, right in zip([0, *cuts], [*cuts, size], strict=True)], dim


def _slice(x: Operand, dim: int, start: Any, end: Any, step: Any = 1) -> Converted:
    """Both ends given, from the front, inside the tensor; the open end of a dynamic size is `END`."""
    size = _static(x, dim)
    start = 0 if start is None else start
    end = END if end is None else end
    if size is not None and isinstance(start, int) and isinstance(end, int):
        start = min(max(start + size if start < 0 else start, 0), size)
        end = min(max(end + size if end < 0 else end, 0), size)
    return x, dim, start, end, step


def _narrow(x: Operand, dim: int, start: Any, length: Any) -> Converted:
    if not isinstance(start, int) or not isinstance(length, int):
        return None
    size = _static(x, dim)
    if start < 0:
        if size is None:
            return None
        start += size
    return _slice(x, dim, start, start + length, 1)


def _select(x: Operand, dim: int, index: Any) -> Converted:
    """The index counted from the front, where the size is known."""
    size = _static(x, dim)
    if size is not None and isinstance(index, int) and index < 0:
        index += size
    return x, dim, index


def _hstack(tensors: Sequence[Operand]) -> Converted:
    if any(t.rank is None or t.rank == 0 for t in tensors):
        return None
    return tensors, 0 if tensors[0].rank == 1 else 1


def _vstack(tensors: Sequence[Operand]) -> Converted:
    if any(t.rank is None or t.rank < 2 for t in tensors):
        return None
    return tensors, 0


def _pad(x: Operand, pad: Sequence[Any], mode: str = "constant", value: Any = None) -> Converted:
    """Zero is the default value."""
    return x, list(pad), mode, None if value == 0 else value


def _constant_pad(x: Operand, pad: Sequence[Any], value: Any) -> Converted:
    return _pad(x, pad, "constant", value)


def _reflect(x: Operand, pad: Sequence[Any]) -> Converted:
    return x, list(pad), "reflect"


def _replicate(x: Operand, pad: Sequence[Any]) -> Converted:
    return x, list(pad), "replicate"


ASSEMBLY = (
    operator(
        "concat(tensors..., dim: dim = 0) -> concat",
        aten="aten.cat.default",
        spellings={
            "aten.concat.default": None,
            "aten.concatenate.default": None,
            "aten.hstack.default": _hstack,
            "aten.vstack.default": _vstack,
        },
        torch="torch.cat torch.concat torch.concatenate",
        moves=True,
        linear_in=("tensors",),
        doc="The tensors one after the other along an axis.",
    ),
    operator(
        "stack(tensors..., dim: newdim = 0) -> stack",
        aten="aten.stack.default",
        torch="torch.stack",
        moves=True,
        linear_in=("tensors",),
        doc="The tensors side by side along a new axis.",
    ),
    operator(
        "split(x, sizes: ints, dim: dim = 0) -> split",
        aten="aten.split_with_sizes.default",
        results=0,
        spellings={
            "aten.split.Tensor": _split,
            "aten.split.sizes": None,
            "aten.chunk.default": _chunk,
            "aten.unsafe_split.Tensor": _split,
            "aten.unsafe_split_with_sizes.default": None,
            "aten.unsafe_chunk.default": _chunk,
            "aten.tensor_split.sections": _even_split,
            "aten.tensor_split.indices": _cut,
        },
        moves=True,
        linear_in=("x",),
        doc="Consecutive pieces of these sizes along an axis.",
    ),
    operator(
        "unbind(x, dim: dim = 0) -> unbind",
        aten="aten.unbind.int",
        results=0,
        torch="torch.unbind Tensor.unbind",
        moves=True,
        linear_in=("x",),
        doc="Every slice along an axis, without that axis.",
    ),
    operator(
        "getitem(x, index: int) -> getitem",
        aten="operator.getitem",
        doc="One of the results of an operator that has several.",
    ),
    operator(
        "slice(x, dim: dim = 0, start: int = None, end: int = None, step: int = 1) -> slice",
        aten="aten.slice.Tensor",
        spellings={"aten.slice_copy.Tensor": _slice, "aten.narrow.default": _narrow},
        normal=_slice,
        moves=True,
        linear_in=("x",),
        rowwise=True,
        doc="Every step-th element from start up to, but not including, end along an axis.",
    ),
    operator(
        "select(x, dim: dim, index: int) -> select",
        aten="aten.select.int",
        normal=_select,
        torch="torch.select Tensor.select",
        moves=True,
        linear_in=("x",),
        doc="One slice along an axis, without that axis.",
    ),
    operator(
        'pad(x, pad: ints, mode: border = "constant", value: float = None) -> pad',
        aten="aten.pad.default",
        spellings={
            "aten.constant_pad_nd.default": _constant_pad,
            **dict.fromkeys((f"aten.reflection_pad{n}d.default" for n in (1, 2, 3)), _reflect),
            **dict.fromkeys((f"aten.replication_pad{n}d.default" for n in (1, 2, 3)), _replicate),
        },
        normal=_pad,
        torch="F.pad",
        moves=True,
        doc="x with a border, pairs (before, after) from the last axis on: constant, reflect, replicate.",
    ),
)
