"""The functions that conditions and definitions may call, besides the operators themselves.

Built-in ones are declared here; factorizations and predicates on weight values come from
`tdsl.factor.table`. Everything is evaluated at compile time, on one match.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import torch
from torch import fx

from tdsl.engine.frame import Frame
from tdsl.engine.narrowing import units_of
from tdsl.engine.sizes import compare, dtype_of, same, same_value, sizes_of
from tdsl.engine.staged import CannotStage, Constant, Staged, parts_of, tensors_in
from tdsl.engine.statistics import STATISTICS, Kind, request_of
from tdsl.lang import axes
from tdsl.ops.targets import operator_of

Builtin = Callable[..., Any]


# ---------------------------------------------------------------- costs of a side


def new_terms(values: tuple[Any, ...], frame: Frame) -> list[Staged]:
    """Staged terms that will be graph nodes, each once; constant ones will be parameters instead."""
    is_const = frame.work.is_const
    parts = parts_of(values, below=lambda term: not is_const(term))
    return [part for part in parts if isinstance(part, Staged) and not is_const(part)]


def new_constants(values: tuple[Any, ...], frame: Frame) -> list[Any]:
    """The constants that a staged side holds: graph weights, computed factors, constant terms."""
    is_const = frame.work.is_const
    return [part for part in parts_of(values, below=lambda term: not is_const(term)) if is_const(part)]


def dying_nodes(frame: Frame) -> list[fx.Node]:
    """The replaced nodes that leave the model; a named one stays where others, or the right side, read it."""
    names = [name for name, _ in frame.variant.pattern.kept]
    if not names and not frame.variant.narrows:
        return list(frame.nodes)
    read = {part for part in parts_of(frame.rhs) if isinstance(part, fx.Node)}
    matched = {*frame.nodes, *frame.taken}
    named = [node for name in names for node in tensors_in(frame.env[name])]
    stack = [node for node in named if node in read or any(user not in matched for user in node.users)]
    staying: set[fx.Node] = set()
    while stack:
        node = stack.pop()
        if node in matched and node not in staying:
            staying.add(node)
            stack.extend(node.all_input_nodes)
    return [node for node in (*frame.nodes, *frame.taken) if node not in staying]


def dying_constants(frame: Frame) -> list[fx.Node]:
    """The weights that only dying nodes use: they leave the model with the left side."""
    dying = dying_nodes(frame)
    found = dict.fromkeys(arg for node in dying for arg in node.all_input_nodes if arg.op == "get_attr")
    return [weight for weight in found if all(user in dying for user in weight.users)]


def _weigh(constants: list[Any], frame: Frame, *, in_bytes: bool) -> Any:
    total: Any = 0
    for constant in constants:
        val = frame.work.val(constant)
        if val is not None:
            total = total + math.prod(val.shape) * (val.dtype.itemsize if in_bytes else 1)
    return total


def _stored(frame: Frame, side: str, *, in_bytes: bool) -> Any:
    dying = dying_constants(frame)
    if side == "lhs":
        return _weigh(list(dying), frame, in_bytes=in_bytes)
    kept = [c for c in new_constants(frame.rhs, frame) if not isinstance(c, fx.Node) or c in dying]
    return _weigh(kept, frame, in_bytes=in_bytes)


def _macs_of(target: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any, frame: Frame) -> Any:
    op = operator_of(target)
    if op is None or op.macs is None or result is None:
        return 0
    arguments = {p.name: _shapes(a, frame) for p, a in zip(op.params, args, strict=False)}
    arguments.update({name: _shapes(value, frame) for name, value in kwargs.items()})
    sizes = tuple(result.shape) if isinstance(result, torch.Tensor) else [tuple(r.shape) for r in result]
    return op.macs(**arguments, result=sizes)


def _shapes(value: Any, frame: Frame) -> Any:
    """The sizes of the tensors in an argument, anything else as it is.

    No closure, which would refer to itself and so keep the frame, with all that was decomposed for it.
    """
    if isinstance(value, list | tuple) and tensors_in(value):
        return [_shapes(v, frame) for v in value]
    described = frame.work.val(value) if tensors_in(value) else value
    return tuple(described.shape) if isinstance(described, torch.Tensor) else described


def macs(frame: Frame, side: str) -> Any:
    """Multiply–accumulates of one side, symbolic where sizes are; what stays counts on neither."""
    total: Any = 0
    if side == "lhs":
        for node in dying_nodes(frame):
            total = total + _macs_of(node.target, node.args, node.kwargs, node.meta.get("val"), frame)
    else:
        for term in new_terms(frame.rhs, frame):
            total = total + _macs_of(term.target, term.args, term.kwargs, frame.work.val(term), frame)
    return total


def params(frame: Frame, side: str) -> Any:
    """Numbers stored for one side; weights that stay in use elsewhere count on neither."""
    return _stored(frame, side, in_bytes=False)


def bytes_(frame: Frame, side: str) -> Any:
    """Bytes stored for one side."""
    return _stored(frame, side, in_bytes=True)


def nodes(frame: Frame, side: str) -> int:
    """Operators of one side; those that stay in the model count on neither."""
    return len(dying_nodes(frame)) if side == "lhs" else len(new_terms(frame.rhs, frame))


RENAMES = frozenset({"reshape", "squeeze", "unsqueeze"})
"""Operators that give the axes of a value other sizes; runtimes write nothing for them."""


def written(frame: Frame, side: str) -> Any:
    """Numbers that operators of one side write, symbolic where sizes are; what stays counts on neither."""
    if side == "lhs":
        made = [(node.target, node.meta.get("val")) for node in dying_nodes(frame)]
    else:
        made = [(term.target, frame.work.val(term)) for term in new_terms(frame.rhs, frame)]
    total: Any = 0
    for target, value in made:
        operator = operator_of(target)
        if operator is None or operator.name not in RENAMES:
            results = value if isinstance(value, list | tuple) else [value]
            for one in results:
                total = total + (math.prod(one.shape) if isinstance(one, torch.Tensor) else 0)
    return total


# ---------------------------------------------------------------- numbers and predicates


def _prod(_: Frame, values: Any) -> Any:
    return math.prod(values) if isinstance(values, list | tuple) else values


def _extreme(better: Callable[[Any, Any], Any], values: tuple[Any, ...]) -> Any:
    """The least or greatest of the arguments, or of one list; an empty one has none."""
    many = values[0] if len(values) == 1 else values
    if not many:
        raise CannotStage("an empty list has no least or greatest entry")
    return reduce(better, many)


def _side(frame: Frame, value: Any) -> Any:
    """`lhs` and `rhs` as values: the output matched, the value to be put there."""
    if value == "lhs":
        return frame.output
    return frame.rhs[0] if value == "rhs" else value


def _shape(frame: Frame, value: Any) -> Any:
    described = sizes_of(frame.work.val(_side(frame, value)))
    return None if described is None else list(described)


def _rank_of(frame: Frame, value: Any) -> Any:
    described = sizes_of(frame.work.val(_side(frame, value)))
    return None if described is None else len(described)


def _size_along(frame: Frame, value: Any, dims: Any) -> Any:
    """The product of the sizes along an axis or a list of axes, `none` for all; symbolic where they are."""
    sizes = _shape(frame, value)
    if sizes is None:
        raise CannotStage("the sizes of an untyped value")
    axes = range(len(sizes)) if dims is None else [dims] if isinstance(dims, int) else dims
    if any(not -len(sizes) <= axis < len(sizes) for axis in axes):
        raise CannotStage(f"there is no axis among {list(axes)} of {len(sizes)}")
    return math.prod(sizes[axis] for axis in axes)


def _dtype(frame: Frame, value: Any) -> Any:
    return dtype_of(frame.work.val(_side(frame, value)))


def _holds(_: Frame, wide: Any, narrow: Any) -> bool:
    """Whether every value of the second element type is a value of the first."""
    if not isinstance(wide, torch.dtype) or not isinstance(narrow, torch.dtype):
        return False
    return torch.promote_types(wide, narrow) == wide and not (
        wide.is_floating_point and not narrow.is_floating_point and narrow.itemsize >= wide.itemsize
    )


def _includes(_: Frame, values: Any, value: Any) -> bool:
    """Whether a list has that entry. Raises `CannotStage` where that depends on a size that varies."""
    if not isinstance(values, list | tuple):
        return False
    if any(compare("==", entry, value) for entry in values):
        return True
    if all(compare("!=", entry, value) for entry in values):
        return False
    raise CannotStage(f"whether {value} is among {list(values)} depends on a size that varies")


def _pure(function: Callable[..., Any]) -> Builtin:
    """A function of numbers and lists as one that is handed the match, too."""
    return lambda _, *values: function(*values)


def _sizes(frame: Frame, value: Any, along: Any) -> list[Any]:
    return axes.sizes(_own_shape(frame, value), along)


def _aligned(frame: Frame, value: Any, count: int) -> list[Any]:
    return axes.aligned(_own_shape(frame, value), count)


def _kept(frame: Frame, value: Any, other: Any, along: Any) -> Any:
    try:
        return axes.kept(_own_shape(frame, value), _own_shape(frame, other), along, same)
    except ValueError as error:
        raise CannotStage(str(error)) from None


def _own_shape(frame: Frame, value: Any) -> list[Any]:
    """The sizes of a tensor; a number has none. Raises `CannotStage` where they are not known."""
    found = [] if isinstance(value, int | float) else _shape(frame, value)
    if found is None:
        raise CannotStage("a shape is not known")
    return list(found)


def _standing(_: Frame, along: Any, gone: Any) -> Any:
    try:
        return axes.standing(along, gone)
    except ValueError as error:
        raise CannotStage(str(error)) from None


def _square(_: Frame, value: Any) -> bool:
    sizes = value if isinstance(value, list | tuple) else sizes_of(value)
    return sizes is not None and all(same(s, sizes[-1]) for s in sizes[-2:])


def _used_once(frame: Frame, value: Any) -> bool:
    return isinstance(value, fx.Node) and all(user in frame.nodes for user in value.users)


def _unit_width(frame: Frame, value: Any) -> int:
    return units_of(value, frame.work).width


def _same(frame: Frame, a: Any, b: Any) -> bool:
    return same_value(a, b)


def _broadcasts_to(frame: Frame, value: Any, sizes: Any) -> bool:
    """Whether a value can be added to a tensor of that shape without enlarging it."""
    own = [] if isinstance(value, int | float) else _shape(frame, value)
    if own is None or sizes is None or len(own) > len(sizes):
        return False
    return all(same(a, 1) or same(a, b) for a, b in zip(reversed(own), reversed(sizes), strict=False))


def _is_identity(_: Frame, permutation: Any) -> bool:
    return list(permutation) == list(range(len(permutation)))


def _all_equal(_: Frame, values: Any, value: Any) -> bool:
    many = values if isinstance(values, list | tuple) else [values]
    return all(compare("==", v, value) for v in many)


# ---------------------------------------------------------------- statistics of calibration data


def _statistic(kind: Kind) -> Builtin:
    """A statistic of a value along an axis (the last by default), as a constant."""

    def evaluate(frame: Frame, value: Any, axis: int = -1) -> Constant:
        return _answer(frame, kind, value, axis, None)

    return evaluate


def _frequency(frame: Frame, ids: Any, size: int) -> Constant:
    return _answer(frame, "frequency", ids, -1, size)


def _answer(frame: Frame, kind: Kind, value: Any, axis: int, size: int | None) -> Constant:
    described = frame.work.val(_side(frame, value))
    request = request_of(kind, _side(frame, value), axis, described, size)
    if frame.work.statistics is None:
        raise CannotStage(
            f"{kind} needs calibration data, and none was given (`--calibration`, `calibration=`)"
        )
    found = frame.work.statistics.answer(request)
    dtype = described.dtype if isinstance(described, torch.Tensor) else torch.float32
    return Constant(found, dtype if dtype.is_floating_point else torch.float32, kind)


BUILTINS: Mapping[str, Builtin] = {
    "macs": macs,
    "params": params,
    "bytes": bytes_,
    "nodes": nodes,
    "written": written,
    "prod": _prod,
    "min": lambda _, *v: _extreme(torch.sym_min, v),
    "max": lambda _, *v: _extreme(torch.sym_max, v),
    "abs": lambda _, v: abs(v),
    "sqrt": lambda _, v: math.sqrt(v),
    "log2": lambda _, v: math.log2(v),
    "len": lambda _, v: len(v),
    "rank_of": _rank_of,
    "shape": _shape,
    "size_along": _size_along,
    "unit_width": _unit_width,
    "dtype": _dtype,
    "holds": _holds,
    **{
        name: _pure(getattr(axes, name))
        for name in (
            "inverse",
            "compose",
            "exchange",
            "sources",
            "remaining",
            "unpermuted",
            "entries",
            "apart",
            "covers",
            "reflected",
        )
    },
    "sizes": _sizes,
    "aligned": _aligned,
    "kept": _kept,
    "standing": _standing,
    "includes": _includes,
    "square": _square,
    "used_once": _used_once,
    "same": _same,
    "broadcasts_to": _broadcasts_to,
    "is_identity": _is_identity,
    "all_equal": _all_equal,
    **{name: _statistic(kind) for name, (kind, _) in STATISTICS.items()},
    "frequency": _frequency,
}
"""The meaning of every name that `tdsl.lang.vocabulary` calls built in; the first argument is the match."""

PREDICATES = frozenset(
    {
        "square",
        "holds",
        "used_once",
        "same",
        "broadcasts_to",
        "is_identity",
        "all_equal",
        "includes",
        "covers",
    }
)
"""Those that answer yes or no, whatever operators are called the same."""
