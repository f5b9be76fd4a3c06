"""Sums of products that `einsum` names by letters, in the operators that have rules and fast kernels.

Whatever the letters and the order of the operands, a product of two is one form (after Domingos, 2025, who
writes whole models so): a dense layer where one is a weight, a pointwise convolution where channels stand
second, else a product of matrices, with as few moves of axes as there are; of what is small, one of numbers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx

from tdsl.engine.passes import graph_pass
from tdsl.engine.sizes import same
from tdsl.engine.stage import stage
from tdsl.engine.staged import CannotStage, Staged, tensors_in
from tdsl.engine.sweep import Change, SweepPass
from tdsl.engine.workspace import Workspace
from tdsl.ops import OPERATORS
from tdsl.ops.einsum import canonical_equation
from tdsl.ops.targets import operator_of

Axis = str | int
"""The letter of an axis, or its place among those behind `...`, from the last."""
Axes = tuple[Axis, ...]
IMAGE = {1: "conv1d", 2: "conv2d", 3: "conv3d"}
"""Convolutions by the number of axes behind the channels."""
SMALL = 16
"""Products of as few numbers as this are faster one by one than as a batch of matrices with vectors."""
LARGE = 256
"""An outer product of this many numbers is faster as one of matrices (both in onnxruntime, one thread)."""


@graph_pass
class Contractions(SweepPass):
    """An `einsum` of one or two operands as a layer or a product; three and more, and diagonals, stay."""

    name = "layout.contractions"

    def at(self, work: Workspace, node: fx.Node) -> Change | None:
        """The form of an `einsum`."""
        found = _read(work, node)
        if found is None:
            return None
        operands, result = found
        value = _only(work, operands, result)
        count = len(set(_staged(value, work)))
        return Change((node,), (value,), (node,), saved_nodes=1 - count, saved_parameters=None)


@dataclass(frozen=True, slots=True)
class _Named:
    """A value and what its axes are called."""

    value: Any
    axes: Axes

    def sizes(self, work: Workspace) -> dict[Axis, Any]:
        """The size of each axis, symbolic ones included."""
        return dict(zip(self.axes, work.val(self.value).shape, strict=True))


def _read(work: Workspace, node: fx.Node) -> tuple[list[_Named], Axes] | None:
    """Operands and the axes of the result, where every axis has one name, one size and one meaning."""
    op = operator_of(node.target) if node.op == "call_function" else None
    if op is None or op.name != "einsum" or node.kwargs.get("path") is not None:
        return None
    equation, values = node.args[0], node.args[1]
    assert isinstance(equation, str) and isinstance(values, list | tuple)
    *terms, right = canonical_equation(equation).replace("->", ",").split(",")
    if not 1 <= len(terms) <= 2 or len(terms) != len(values):
        return None
    operands, sizes = [], dict[Axis, Any]()
    for term, value in zip(terms, values, strict=True):
        val = work.val(value)
        if (
            not isinstance(val, Tensor)
            or not val.dtype.is_floating_point
            or val.dtype != work.val(node).dtype
        ):
            return None
        axes = _axes(term, val.ndim)
        if axes is None or not all(
            same(sizes.setdefault(a, n), n) for a, n in zip(axes, val.shape, strict=True)
        ):
            return None
        operands.append(_Named(value, axes))
    result = _axes(right, work.val(node).ndim)
    return None if result is None or not set(result) <= set(sizes) else (operands, result)


def _axes(term: str, count: int) -> Axes | None:
    """The names of so many axes; `None` for a diagonal, and for `...` that is not in front."""
    letters = term.removeprefix("...")
    spread = count - len(letters)
    if "." in letters or len(set(letters)) < len(letters) or (spread and letters == term):
        return None
    return (*range(-spread, 0), *letters)


def _only(work: Workspace, operands: Sequence[_Named], result: Axes) -> Any:
    """The result, of operands that were first summed along the axes that nothing else has."""
    wanted = [set(result) | {a for o in operands if o is not one for a in o.axes} for one in operands]
    left = [_summed(work, one, keep) for one, keep in zip(operands, wanted, strict=True)]
    if len(left) == 1:
        return _arranged(work, left[0], result)
    x, y = left
    if _few(work, x, y, result):
        return _of_numbers(work, x, y, result)
    for one, other in ((x, y), (y, x)):
        layer = _layer(work, one, other, result)
        if layer is not None:
            return layer
    forms = [_product(work, *pair, result) for pair in ((x, y), (y, x))]
    return min(forms, key=lambda form: len(set(_staged(form, work))))


def _summed(work: Workspace, one: _Named, keep: set[Axis]) -> _Named:
    """Without the axes that are in no other operand and not in the result."""
    gone = [place - len(one.axes) for place, axis in enumerate(one.axes) if axis not in keep]
    if not gone:
        return one
    value = _make(work, "sum", x=one.value, dim=gone)
    return _Named(value, tuple(axis for axis in one.axes if axis in keep))


def _few(work: Workspace, x: _Named, y: _Named, result: Axes) -> bool:
    """Whether there are no matrices to multiply, or many small ones; dynamic sizes are as in the example."""
    own = [set(one.axes) - set(other.axes) for one, other in ((x, y), (y, x))]
    inner = set(x.axes) & set(y.axes) - set(result)
    sizes = x.sizes(work) | y.sizes(work)
    apart = _example(sizes[axis] for axis in own[0] | own[1])
    if not inner:
        return apart < LARGE
    vectors = bool(set(x.axes) & set(y.axes) & set(result)) and not all(own)
    return not any(own) or (vectors and apart * _example(sizes[axis] for axis in inner) <= SMALL)


def _of_numbers(work: Workspace, x: _Named, y: _Named, result: Axes) -> Any:
    """All products of numbers, then their sums."""
    inner = tuple(axis for axis in x.axes if axis not in result and axis in y.axes)
    axes = (*result, *inner)
    value = _make(work, "mul", x=_spread(work, x, axes), y=_spread(work, y, axes))
    if not inner:
        return value
    return _make(work, "sum", x=value, dim=[place - len(inner) for place in range(len(inner))])


def _example(sizes: Iterable[Any]) -> int:
    """The product of sizes, dynamic ones as they were traced."""
    return math.prod(size if isinstance(size, int) else size.node.hint or 1 for size in sizes)


def _spread(work: Workspace, one: _Named, axes: Axes) -> Any:
    """The axes in this order, with axes of size 1 between them where it has others."""
    own = tuple(axis for axis in axes if axis in one.axes)
    first = axes.index(own[0]) if own else len(axes)  # further axes in front broadcast by themselves
    return _grouped(work, one, [(axis,) if axis in own else () for axis in axes[first:]])


def _layer(work: Workspace, x: _Named, weight: _Named, result: Axes) -> Any:
    """A dense layer, or a pointwise convolution; `None` where `weight` is none, or is read elsewhere too."""
    shared = {axis for axis in weight.axes if axis in x.axes}
    node = weight.value
    if not isinstance(node, fx.Node) or node.op != "get_attr" or len(node.users) > 1 or shared & set(result):
        return None
    inner = tuple(axis for axis in x.axes if axis in shared)
    outer = tuple(axis for axis in result if axis in weight.axes)
    rows = tuple(axis for axis in x.axes if axis not in shared)
    if len(inner) == len(outer) == 1 and len(rows) > 1 and len(rows) - 1 in IMAGE:
        batch, *places = rows
        if x.axes == (batch, *inner, *places) and result == (batch, *outer, *places):
            matrix = _arranged(work, weight, (*outer, *inner))
            kernel = [*work.val(matrix).shape, *[1] * len(places)]
            taps = _make(work, "reshape", x=matrix, shape=kernel)
            return _make(work, IMAGE[len(places)], x=x.value, weight=taps)
    if not rows:
        return None
    if not outer and len(rows) == 1:
        raise CannotStage("a product with one vector is no faster in another form")
    matrix = _grouped(work, weight, [outer, inner])
    groups = [*((axis,) for axis in rows), inner]
    value = _make(work, "linear", x=_grouped(work, x, groups), weight=matrix)
    return _opened(work, value, [*groups[:-1], outer], result, x.sizes(work) | weight.sizes(work))


def _product(work: Workspace, x: _Named, y: _Named, result: Axes) -> Any:
    """A product of matrices for each index that both operands and the result have."""
    batch = tuple(axis for axis in result if axis in x.axes and axis in y.axes)
    rows, columns = (tuple(a for a in result if a in one.axes and a not in batch) for one in (x, y))
    inner = tuple(axis for axis in y.axes if axis in x.axes and axis not in batch)
    each = [(axis,) for axis in batch]
    # Without a batch y has no axes that those of the rows could meet.
    apart = [(axis,) for axis in rows] if rows and not batch else [rows]
    left = _grouped(work, x, [*each, *apart, inner])
    right = _grouped(work, y, [*each, inner, columns])
    value = _make(work, "matmul", x=left, y=right)
    return _opened(work, value, [*each, *apart, columns], result, x.sizes(work) | y.sizes(work))


def _grouped(work: Workspace, one: _Named, groups: Sequence[Axes]) -> Any:
    """The axes in the order of the groups, each group as one axis; none in a group is an axis of size 1."""
    value = _arranged(work, one, tuple(itertools.chain(*groups)))
    if max(map(len, groups), default=0) > 1:
        sizes = one.sizes(work)
        shape = [_times(sizes[axis] for axis in group) for group in groups]
        return _make(work, "reshape", x=value, shape=shape)
    for place, group in enumerate(groups):
        value = value if group else _make(work, "unsqueeze", x=value, dim=place)
    return value


def _opened(work: Workspace, value: Any, groups: Sequence[Axes], result: Axes, sizes: dict[Axis, Any]) -> Any:
    """Groups taken apart again, and the axes in the order of the result."""
    axes = tuple(itertools.chain(*groups))
    if max(map(len, groups)) > 1:
        value = _make(work, "reshape", x=value, shape=[sizes[axis] for axis in axes])
    else:
        for place in reversed([k for k, group in enumerate(groups) if not group]):
            value = _make(work, "squeeze", x=value, dims=[place])
    return _arranged(work, _Named(value, axes), result)


def _arranged(work: Workspace, one: _Named, axes: Axes) -> Any:
    """The axes in another order."""
    if one.axes == axes:
        return one.value
    return _make(work, "permute", x=one.value, dims=[one.axes.index(axis) for axis in axes])


def _times(sizes: Iterable[Any]) -> Any:
    product: Any = 1
    for size in sizes:
        product = product * size
    return product


def _make(work: Workspace, name: str, **arguments: Any) -> Any:
    return stage(work, OPERATORS[name], arguments)


def _staged(value: Any, work: Workspace) -> list[int]:
    """The operators that a value adds to the graph: those of constants are carried out before."""
    if not isinstance(value, Staged) or work.is_const(value):
        return []
    return [id(value), *(i for part in tensors_in(value.args) for i in _staged(part, work))]
