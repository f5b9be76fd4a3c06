"""Tensors made from numbers, and numbers read off tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tdsl.ops.spec import Conversion, Converted, Operator, operator

_PLACE = "dtype: dtype = None, layout: any = None, device: any = None, pin_memory: any = None"
_PLACE_AND_FORMAT = f"{_PLACE}, memory_format: any = None"


def _values_only(*arguments: Any, **place: Any) -> Converted:
    """Of where and how the tensor lies only dtype and device matter: strided and pageable is the default."""
    place.pop("memory_format", None)
    return (*arguments, {**place, "layout": None, "pin_memory": None})


def _up_to(end: Any, **place: Any) -> Converted:
    return _values_only(0, end, 1, **place)


def _from_to(start: Any, end: Any, **place: Any) -> Converted:
    return _values_only(start, end, 1, **place)


def _creation(
    signature: str,
    aten: str,
    doc: str,
    spellings: Mapping[str, Conversion | None] | None = None,
    torch: str = "",
) -> Operator:
    return operator(signature, aten=aten, spellings=spellings, normal=_values_only, torch=torch, doc=doc)


CREATION = (
    _creation(
        f"arange(start: scalar, end: scalar, step: scalar = 1, *, {_PLACE}) -> arange",
        "aten.arange.start_step",
        "start, start + step, … before end.",
        {"aten.arange.default": _up_to, "aten.arange.start": _from_to},
    ),
    _creation(
        f"linspace(start: scalar, end: scalar, steps: int, *, {_PLACE}) -> linspace",
        "aten.linspace.default",
        "So many numbers at equal distances, both ends included.",
        torch="torch.linspace",
    ),
    _creation(
        f"full(size: shape, value: scalar, *, {_PLACE}) -> sized",
        "aten.full.default",
        "One value everywhere.",
    ),
    _creation(f"zeros(size: shape, *, {_PLACE}) -> sized", "aten.zeros.default", "0 everywhere."),
    _creation(f"ones(size: shape, *, {_PLACE}) -> sized", "aten.ones.default", "1 everywhere."),
    _creation(
        f"empty(size: shape, *, {_PLACE_AND_FORMAT}) -> sized",
        "aten.empty.memory_format",
        "Values of no account.",
    ),
    _creation(
        f"eye(n: int, m: int, *, {_PLACE}) -> eye",
        "aten.eye.m",
        "1 on the diagonal, 0 elsewhere.",
        {"aten.eye.default": lambda n, **place: _values_only(n, n, **place)},
    ),
    _creation(
        f"scalar_tensor(value: scalar, *, {_PLACE}) -> []",
        "aten.scalar_tensor.default",
        "A number as a tensor of no axes.",
    ),
    _creation(
        f"full_like(x, value: scalar, *, {_PLACE_AND_FORMAT}) -> like",
        "aten.full_like.default",
        "One value everywhere, in the shape of x.",
        torch="torch.full_like",
    ),
    _creation(
        f"zeros_like(x, *, {_PLACE_AND_FORMAT}) -> like",
        "aten.zeros_like.default",
        "0 everywhere, in the shape of x.",
        {"aten.zero.default": None},
        torch="torch.zeros_like",
    ),
    _creation(
        f"ones_like(x, *, {_PLACE_AND_FORMAT}) -> like",
        "aten.ones_like.default",
        "1 everywhere, in the shape of x.",
        torch="torch.ones_like",
    ),
    _creation(
        f"empty_like(x, *, {_PLACE_AND_FORMAT}) -> like",
        "aten.empty_like.default",
        "Values of no account, in the shape of x.",
    ),
    _creation(
        f"new_full(x, size: shape, value: scalar, *, {_PLACE}) -> sized",
        "aten.new_full.default",
        "One value everywhere, in the dtype of x.",
    ),
    _creation(
        f"new_zeros(x, size: shape, *, {_PLACE}) -> sized",
        "aten.new_zeros.default",
        "0 everywhere, in the dtype of x.",
    ),
    _creation(
        f"new_ones(x, size: shape, *, {_PLACE}) -> sized",
        "aten.new_ones.default",
        "1 everywhere, in the dtype of x.",
    ),
    _creation(
        f"new_empty(x, size: shape, *, {_PLACE}) -> sized",
        "aten.new_empty.default",
        "Values of no account, in the dtype of x.",
    ),
    operator(
        "fill(x, value: value) -> like",
        aten="aten.fill.Scalar",
        variants="aten.fill.Tensor",
        doc="One value everywhere, in the shape and dtype of x.",
    ),
    operator(
        "copy(x, source, non_blocking: bool = False) -> copy",
        aten="aten.copy.default",
        doc="The source, broadcast to the shape of x and cast to its dtype.",
    ),
    operator(
        "meshgrid(tensors..., *, indexing: text) -> meshgrid",
        aten="aten.meshgrid.indexing",
        results=0,
        spellings={"aten.meshgrid.default": lambda tensors: (tensors, {"indexing": "ij"})},
        moves=True,
        doc='Each vector along its own axis ("ij"; "xy" swaps the first two), repeated along the others.',
    ),
    operator(
        "size(x, dim: dim) -> number",
        aten="aten.sym_size.int",
        doc="The size of an axis, as a number.",
    ),
    operator("item(x) -> number", aten="aten.item.default", doc="The only element of x, as a number."),
)
