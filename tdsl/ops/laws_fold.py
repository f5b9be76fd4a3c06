"""Laws of what computes: broadcasting, products, reductions, normalisation."""

from __future__ import annotations

from math import prod
from typing import Any

from tdsl.ops.einsum import read_einsum
from tdsl.ops.laws import (
    Shapes,
    axes,
    axis,
    broadcast_shapes,
    law,
    operand_shapes,
    replaced,
    require,
    require_each,
    require_same,
)
from tdsl.ops.spec import Operator, Shape


@law
def like(op: Operator, **arguments: Any) -> Shape:
    """The shape of the first operand."""
    return operand_shapes(op, arguments)[0]


@law
def like_two(op: Operator, **arguments: Any) -> Shapes:
    """Twice the shape of the first operand; along an axis, if there is one."""
    shape = operand_shapes(op, arguments)[0]
    axis(arguments.get("dim", -1), len(shape))
    return shape, shape


@law
def along(op: Operator, **arguments: Any) -> Shape:
    """The shape of the first operand, which has the axis `dim`."""
    shape = operand_shapes(op, arguments)[0]
    axis(arguments["dim"], len(shape))
    return shape


@law
def broadcast(op: Operator, **arguments: Any) -> Shape:
    """What all operands broadcast to."""
    return broadcast_shapes(*operand_shapes(op, arguments))


@law
def masked_fill(op: Operator, x: Shape, mask: Shape, value: Shape) -> Shape:
    """What x and the mask broadcast to; one value."""
    require(value == (), f"value {value} is no number")
    return broadcast_shapes(x, mask)


@law
def broadcast_first_two(op: Operator, **arguments: Any) -> Shape:
    """What the first two operands broadcast to."""
    return broadcast_shapes(*operand_shapes(op, arguments)[:2])


@law
def copy(op: Operator, x: Shape, source: Shape, **_: Any) -> Shape:
    """The source broadcasts to x."""
    require_same(broadcast_shapes(x, source), x, f"{source} does not broadcast to {x}")
    return x


@law
def matmul(op: Operator, x: Shape, y: Shape) -> Shape:
    """Matrices in the last two axes, the axes before them broadcast; a vector has no free axis."""
    require(bool(x and y), "matmul takes no tensor without axes")
    inner = y[-2] if len(y) > 1 else y[-1]
    require(x[-1] == inner, f"{x} and {y} differ in the axis that is summed over")
    return (*broadcast_shapes(x[:-2], y[:-2]), *x[-2:-1], *(y[-1:] if len(y) > 1 else ()))


@law
def addmm(op: Operator, bias: Shape, x: Shape, weight: Shape, **_: Any) -> Shape:
    """A product to which the bias broadcasts."""
    result = (*x[:-1], weight[-1])
    require_same(broadcast_shapes(bias, result), result, f"{bias} does not broadcast to {result}")
    return result


@law
def einsum(op: Operator, equation: str, tensors: list[Shape], **_: Any) -> Shape:
    """The letters after the arrow; without an arrow those that occur once, in alphabetical order."""
    read = read_einsum(equation, tensors)
    head, dots, tail = read.result.partition("...")
    return (*(read.sizes[c] for c in head), *(read.batch if dots else ()), *(read.sizes[c] for c in tail))


@law
def attention(op: Operator, query: Shape, key: Shape, value: Shape, mask: Shape | None, **rest: Any) -> Shape:
    """[…, l, e], [..., s, e] and [..., s, v] to [..., l, v], the leading axes broadcast."""
    require(min(len(query), len(key), len(value)) >= 2, "attention takes tensors of two axes or more")
    require(query[-1] == key[-1], f"query {query} and key {key} differ in width")
    require(key[-2] == value[-2], f"key {key} and value {value} differ in length")
    if rest["enable_gqa"]:
        heads, groups = query[-3], (key[-3], value[-3])
        reason = f"{heads} heads are no multiple of {groups} groups"
        for group in groups:
            require(group != 0, reason)
            require(heads % group == 0, reason)
        batch = (*broadcast_shapes(query[:-3], key[:-3], value[:-3]), heads)
    else:
        batch = broadcast_shapes(query[:-2], key[:-2], value[:-2])
    if mask is not None:
        scores = (*batch, query[-2], key[-2])
        require_same(broadcast_shapes(mask, scores), scores, f"mask {mask} does not broadcast to {scores}")
    return (*batch, query[-2], value[-1])


@law
def reduce(op: Operator, x: Shape, dim: int | list[int] | None, keepdim: bool, **_: Any) -> Shape:
    """Without the axes, or with size 1 in their place; no axes named means all of them."""
    named = [dim] if isinstance(dim, int) else dim
    gone = axes(named, len(x)) if named else list(range(len(x)))
    if keepdim:
        return tuple(1 if i in gone else size for i, size in enumerate(x))
    return tuple(size for i, size in enumerate(x) if i not in gone)


@law
def reduce_named(op: Operator, x: Shape, dim: list[int], keepdim: bool) -> Shape:
    """As `reduce`, but the axes must be named."""
    require(bool(dim) or not x, f"{op.name} needs its axes")
    return reduce(op, x=x, dim=dim, keepdim=keepdim)  # type: ignore[no-any-return]


@law
def extreme(op: Operator, x: Shape, dim: int | list[int] | None, keepdim: bool, **_: Any) -> Shape:
    """As `reduce`, but of nothing there is no largest element."""
    named = [dim] if isinstance(dim, int) else dim
    gone = axes(named, len(x)) if named else list(range(len(x)))
    require_each((x[i] != 0 for i in gone if x), f"{op.name} of no elements in {x}")
    return reduce(op, x=x, dim=dim, keepdim=keepdim)  # type: ignore[no-any-return]


@law
def extreme_two(op: Operator, **arguments: Any) -> Shapes:
    """Two results of `extreme`."""
    shape = extreme(op, **arguments)
    return shape, shape


@law
def reduce_two(op: Operator, **arguments: Any) -> Shapes:
    """Two results of `reduce`."""
    shape = reduce(op, **arguments)
    return shape, shape


@law
def topk(op: Operator, x: Shape, k: int, dim: int, **_: Any) -> Shapes:
    """k in the place of the axis."""
    at = axis(dim, len(x))
    if not x:
        require(0 <= k <= 1, f"top {k} of a number")
        return (), ()
    require(0 <= k <= x[at], f"top {k} of {x[at]}")
    return replaced(x, at, k), replaced(x, at, k)


@law
def diff(op: Operator, x: Shape, order: int, dim: int, before: Shape | None, after: Shape | None) -> Shape:
    """One less along the axis for each time, what extends x counted in."""
    require(bool(x) and order >= 0, f"{order} differences of {x}")
    if order == 0 and before is None and after is None:
        return x
    at = axis(dim, len(x))
    size = 0
    for part in (before, x, after):
        if part is not None:
            require(
                len(part) == len(x) and replaced(part, at) == replaced(x, at), f"{part} does not extend {x}"
            )
            size += part[at]
    return replaced(x, at, max(size - order, 0)) if order else x


@law
def cosine_similarity(op: Operator, x: Shape, y: Shape, dim: int, **_: Any) -> Shape:
    """Broadcast, then without the axis."""
    shape = broadcast_shapes(x, y)
    return replaced(shape, axis(dim, len(shape)))


@law
def pair_distances(op: Operator, x: Shape, y: Shape, keepdim: bool, **_: Any) -> Shape:
    """Broadcast, then without the last axis."""
    shape = broadcast_shapes(x, y)
    return (*shape[:-1], 1) if keepdim and shape else shape[:-1]


@law
def distances(op: Operator, x: Shape, y: Shape, **_: Any) -> Shape:
    """Of every row of x from every row of y, matrix by matrix."""
    require(len(x) > 1 and len(y) > 1, f"no rows in {x} and {y}")
    require_each([x[-1] == y[-1]], f"rows of {x} and {y} are not of one length")
    return (*broadcast_shapes(x[:-2], y[:-2]), x[-2], y[-2])


# ---------------------------------------------------------------- normalisation


def _normalised(x: Shape, shape: list[int], weight: Shape | None, bias: Shape | None = None) -> int:
    """Check the last axes; the number of axes before them."""
    require(bool(shape), "no axes to normalise over")
    require_same(x[max(len(x) - len(shape), 0) :], shape, f"{x} does not end in {shape}")
    for operand in (weight, bias):
        require_same(shape if operand is None else operand, shape, f"{operand} is not {shape}")
    return len(x) - len(shape)


@law
def layer_norm(
    op: Operator, x: Shape, shape: list[int], weight: Shape | None, bias: Shape | None = None, **_: Any
) -> Shape:
    """The shape of x, which ends in the shape that is normalised."""
    _normalised(x, shape, weight, bias)
    return x


@law
def native_layer_norm(
    op: Operator, x: Shape, shape: list[int], weight: Shape | None, bias: Shape | None, **_: Any
) -> Shapes:
    """Also the statistics, one for every position."""
    before = _normalised(x, shape, weight, bias)
    statistics = (*x[:before], *(1 for _ in shape))
    return x, statistics, statistics


@law
def native_batch_norm(op: Operator, x: Shape, **_: Any) -> Shapes:
    """The statistics are empty at inference."""
    return x, (0,), (0,)


@law
def native_batch_norm_of_batch(op: Operator, x: Shape, **_: Any) -> Shapes:
    """The statistics of every channel."""
    return x, x[1:2], x[1:2]


@law
def weight_norm(op: Operator, direction: Shape, length: Shape, dim: int) -> Shape:
    """One length for every slice along the axis, the other axes of size 1; one for all at -1."""
    at = axis(dim, len(direction))
    wanted = () if dim == -1 else tuple(n if i == at else 1 for i, n in enumerate(direction))
    require_same(length, wanted, f"length {length} is not {wanted}")
    return direction


@law
def group_norm(op: Operator, x: Shape, groups: int, **_: Any) -> Shape:
    """The shape of x, whose channels the groups divide."""
    require(groups > 0 and x[1] % groups == 0, f"{groups} groups do not divide {x[1]} channels")
    return x


@law
def native_group_norm(
    op: Operator, x: Shape, batch: int, channels: int, positions: int, groups: int, **_: Any
) -> Shapes:
    """Also the statistics, one for every group of every sample."""
    require(
        prod(x) == batch * channels * positions, f"{x} has not {batch} · {channels} · {positions} elements"
    )
    require(groups > 0 and channels % groups == 0, f"{groups} groups do not divide {channels} channels")
    return x, (batch, groups), (batch, groups)


@law
def prelu(op: Operator, x: Shape, weight: Shape) -> Shape:
    """One weight, or one for every channel (of a tensor with channels)."""
    channels = x[1] if len(x) > 1 else 1
    require(len(weight) <= 1, f"weight {weight} has more than one axis")
    require(prod(weight) in (1, channels), f"{prod(weight)} weights for {channels} channels")
    return x


@law
def glu(op: Operator, x: Shape, dim: int) -> Shape:
    """Half the axis."""
    require(bool(x), "glu takes no tensor without axes")
    at = axis(dim, len(x))
    require(x[at] % 2 == 0, f"axis {dim} of {x} has no half")
    return replaced(x, at, x[at] // 2)
