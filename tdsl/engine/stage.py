"""Operators applied to staged values, in normal form; uniform operands decide what they can."""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import Any

import torch

from tdsl.engine.staged import CannotStage, Filled, Staged, Value
from tdsl.engine.workspace import Workspace
from tdsl.errors import TdslError
from tdsl.ops import Operator
from tdsl.ops.calls import canonical_call
from tdsl.ops.spec import REQUIRED, Operand
from tdsl.ops.targets import overload, overload_for


def stage(work: Workspace, op: Operator, arguments: dict[str, Any]) -> Any:
    """`op` on `arguments` (by parameter name, defaults elsewhere), in normal form.

    Returns a `Staged` term, or something simpler when an operand is uniform: zeros vanish in a sum,
    ones in a product, and an absent bias stays absent.
    """
    values = {p.name: arguments.get(p.name, p.default) for p in op.params}
    missing = [p.name for p in op.params if values[p.name] is REQUIRED]
    if missing:
        raise TdslError(f"operator {op.name} needs {', '.join(missing)}")
    for p in op.params:
        if p.optional and p.name not in arguments:
            values[p.name] = None
    simpler = _simplify(work, op, values)
    if simpler is not None:
        return simpler
    for p in op.params:
        value = values[p.name]
        if isinstance(value, Filled):
            if p.optional and value.fill == p.default:
                values[p.name] = None
            elif value.sizes is None:
                raise CannotStage(f"an absent operand meets {op.name}, and its size is not known")
    args = [
        list(values[p.name]) if p.kind == "tensors" else values[p.name]
        for p in op.params
        if not p.keyword_only
    ]
    kwargs = {p.name: values[p.name] for p in op.params if p.keyword_only}
    if _has_one_form(op) and not any(name in arguments for name in kwargs):
        return Staged(overload(op), tuple(args), {})
    call = canonical_call(
        op, [_described(work, a) for a in args], {k: _described(work, v) for k, v in kwargs.items()}
    )
    if call is None:
        raise CannotStage(f"{op.name} has no meaning with these arguments")
    return Staged(call[0], tuple(call[1]), call[2])


def stages_directly(op: Operator, names: Collection[str]) -> bool:
    """Whether a call of `op` with these arguments is in normal form as it is, unless one of them is uniform.

    Then `Staged(overload(op), …)` with the defaults filled in is what `stage` makes of it.
    """
    return (
        _has_one_form(op)
        and not any(p.keyword_only and p.name in names for p in op.params)
        and all(p.kind != "tensors" for p in op.params)
        and all(p.name in names or p.default is not REQUIRED for p in op.params)
        and all(p.name in names or not p.optional for p in op.params)
    )


@functools.cache
def _has_one_form(op: Operator) -> bool:
    """Whether operands alone make a call in normal form: no attribute to canonicalise, no other overload."""
    if not op.target.startswith("aten."):
        return True
    return op.normal is None and not op.variants and all(p.is_operand or p.keyword_only for p in op.params)


def _described(work: Workspace, value: Any) -> Any:
    """`value` with tensors as operands that tell their shape."""
    if isinstance(value, list | tuple):
        return [_described(work, item) for item in value]
    if not isinstance(value, Value):
        return value
    val = work.val(value)
    if val is None:
        return Operand(value, None)
    return Operand(value, tuple(val.shape), val.dtype) if isinstance(val, torch.Tensor) else value


def _simplify(work: Workspace, op: Operator, values: dict[str, Any]) -> Any:
    """The result when uniform operands decide it; `None` when they do not."""
    operands = [p for p in op.operands if values[p.name] is not None]
    filled = [p for p in operands if isinstance(values[p.name], Filled)]
    lists = [p for p in operands if p.kind == "tensors"]
    if lists and all(isinstance(v, Filled) for p in lists for v in values[p.name]):
        parts = [v for p in lists for v in values[p.name]]
        if op.moves and len({part.fill for part in parts}) == 1:
            return _filled_like(work, op, values, parts[0].fill, parts[0].dtype)
    if not filled:
        return None
    if op.name in ("add", "sub", "mul", "div") and len(operands) == 2:
        left, right = (values[p.name] for p in operands)
        neutral = 0.0 if op.name in ("add", "sub") else 1.0
        if isinstance(right, Filled) and right.fill == neutral and not isinstance(left, Filled):
            return left
        if (
            op.commutative
            and isinstance(left, Filled)
            and left.fill == neutral
            and not isinstance(right, Filled)
        ):
            return right
    tensors = [values[p.name] for p in operands if p.kind != "tensors"]
    if any(values[p.name].fill == 0.0 and p.name in op.linear_in for p in filled) and not any(
        p.optional and not isinstance(values[p.name], Filled) for p in operands
    ):
        zero = next(values[p.name] for p in filled if p.name in op.linear_in)
        return _filled_like(work, op, values, 0.0, zero.dtype)
    uniform = all(isinstance(t, Filled | int | float) for t in tensors) and not lists
    if uniform and (op.pointwise or op.elementwise or op.moves):
        wide = [torch.tensor(t.fill, dtype=torch.float64) if isinstance(t, Filled) else t for t in tensors]
        first = values[filled[0].name]
        fill = first.fill if op.moves else float(overload_for(op, wide)(*wide))
        return _filled_like(work, op, values, fill, first.dtype)
    return None


def _filled_like(
    work: Workspace, op: Operator, values: dict[str, Any], fill: float, dtype: torch.dtype
) -> Any:
    args = tuple(values[p.name] for p in op.params if not p.keyword_only)
    described = work.infer(overload_for(op, args), args, {})
    return Filled(fill, None if described is None else tuple(described.shape), dtype)
