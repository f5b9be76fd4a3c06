"""Axes through what is done to every element, folded or normalised: mostly by facts of the table."""

from __future__ import annotations

from tdsl.symmetry.hidden.flow import Call, Value, axis_law
from tdsl.symmetry.hidden.layout import UNIT, Axes

_CONSTANT = (
    "full zeros ones empty full_like zeros_like ones_like empty_like new_full new_zeros new_ones new_empty"
)
_IN_ORDER = "cumsum cumprod logcumsumexp argsort argmax argmin sort sort_stable topk diff"


def by_facts(call: Call) -> Value | None:
    """The law that follows from the facts of the operator table; `None` where they do not give one."""
    op = call.operator
    if op.pointwise:
        return call.axes(op.params[0].name)
    if op.elementwise:
        return call.broadcast(call.operands())
    if op.reduces:
        return _fold(call)
    return None


def _fold(call: Call) -> Value:
    """Whatever the order of the elements: the axes are gone, or of size 1."""
    axes = call.axes("x")
    dims = call.dims()
    if dims is None or (not dims and len(call.shape) != len(axes)):
        dims = list(range(len(axes)))
    keep = bool(call.arguments.get("keepdim", False))
    call.along(axes, dims)
    result = tuple(UNIT if i in dims else layout for i, layout in enumerate(axes) if keep or i not in dims)
    count = call.operator.results
    return result if count == 1 else [result] * count


@axis_law("dropout", "feature_dropout", "alpha_dropout")
def _dropout(call: Call) -> Value | None:
    return None if call.arguments["train"] else call.axes("x")


@axis_law(*_CONSTANT.split())
def _constant(call: Call) -> Value:
    """The same everywhere: every permutation leaves it as it is."""
    return tuple(call.system.fresh(size) for size in call.shape)


@axis_law("fill")
def _fill(call: Call) -> Value | None:
    return None if call.given("value") else _constant(call)


@axis_law("arange", "linspace", "eye")
def _counted(call: Call) -> Value:
    return tuple(call.pinned(size, "has different values along the axis") for size in call.shape)


@axis_law("scalar_tensor")
def _scalar(call: Call) -> Value:
    return ()


@axis_law("copy")
def _copy(call: Call) -> Value:
    return call.broadcast(call.operands())


@axis_law("softmax", "log_softmax")
def _softmax(call: Call) -> Value:
    dims = call.dims()
    assert dims is not None
    return call.along(call.axes("x"), dims)


@axis_law(*_IN_ORDER.split())
def _in_order(call: Call) -> Value:
    """The result depends on the order of the elements along the axis, or says where they are."""
    axes = call.axes("x")
    dims = call.dims()
    name = call.operator.name
    dims = list(range(len(axes))) if dims is None or not axes else dims
    call.along(axes, dims, f"{name} depends on the order of the axis")
    results: list[Axes] = []
    for shape in call.shapes():
        if len(shape) == len(axes):
            results.append(
                tuple(
                    call.pinned(size, f"{name} puts the axis in order") if i in dims else layout
                    for i, (layout, size) in enumerate(zip(axes, shape, strict=True))
                )
            )
        else:
            results.append(tuple(layout for i, layout in enumerate(axes) if i not in dims))
    return results[0] if call.operator.results == 1 else results


@axis_law("max_and_index", "min_and_index")
def _extreme(call: Call) -> Value:
    """The largest element itself does not depend on the order; where it is does."""
    places = [user for user in call.node.users if user.args[1:] == (1,) and user.users]
    dims = call.dims()
    assert dims is not None
    axes = call.axes("x")
    call.along(axes, dims, "the place of the extreme along the axis is used" if places else None)
    keep = bool(call.arguments.get("keepdim", False))
    result = tuple(UNIT if i in dims else layout for i, layout in enumerate(axes) if keep or i not in dims)
    return [result, result]


@axis_law("batch_norm", "native_batch_norm", "native_batch_norm_of_batch", "instance_norm")
def _channel_norm(call: Call) -> Value | None:
    """A statistic, and an affine map, for every channel (axis 1)."""
    x = call.axes("x")
    shared = [(call.axes(n), (1,)) for n in ("weight", "bias", "mean", "var") if call.given(n)]
    letters = range(len(x))
    if call.operator.name in ("batch_norm", "native_batch_norm") and not call.arguments.get("training"):
        call.relate((x, letters), *shared)
    else:
        call.relate((x, letters), ((x[1],), (1,)), *shared)
    results = [x] + [tuple(call.system.fresh(size) for size in shape) for shape in call.shapes()[1:]]
    if call.operator.name == "native_batch_norm_of_batch":
        results[1:] = [(x[1],)] * (len(results) - 1)
    return results[0] if call.operator.results == 1 else results


@axis_law("layer_norm", "native_layer_norm", "rms_norm")
def _layer_norm(call: Call) -> Value:
    """A statistic over the last axes, whatever the order, and an affine map for each of their elements."""
    x = call.axes("x")
    first = len(x) - len(call.arguments["shape"])
    last = range(first, len(x))
    shared = [(call.axes(n), last) for n in ("weight", "bias") if call.given(n)]
    call.along(x, list(last))
    call.relate((x, range(len(x))), *shared)
    if call.operator.results == 1:
        return x
    statistic = (*x[:first], *(UNIT for _ in last))
    return [x, statistic, statistic]


@axis_law("group_norm", "native_group_norm")
def _group_norm(call: Call) -> Value | None:
    """As layer norm within each group of channels: groups change places as a whole."""
    x = call.axes("x")
    groups = call.arguments["groups"]
    if not isinstance(groups, int):
        return None
    parts = call.system.split(x[1], groups, call.system.size(x[1]) // groups)
    if parts is None:
        return None
    blocks, within = parts
    rest = tuple(range(2, len(x)))
    shared = [
        (pair, ("group", "within"))
        for name in ("weight", "bias")
        if call.given(name)
        for pair in [call.system.split(call.axes(name)[0], groups, call.system.size(x[1]) // groups)]
        if pair is not None
    ]
    call.relate(
        ((x[0], blocks, within, *x[2:]), (0, "group", "within", *rest)),
        ((x[0], blocks), (0, "group")),
        *shared,
    )
    for name in ("weight", "bias"):
        if call.given(name):
            call.system.unify(call.axes(name)[0], x[1])
    if call.operator.results == 1:
        return x
    return [x, (x[0], blocks), (x[0], blocks)]


@axis_law("weight_norm")
def _weight_norm(call: Call) -> Value:
    """A norm over every axis but one, which the length has too; over all at -1."""
    axes = call.broadcast([call.axes("direction"), call.axes("length")])
    dims = [] if call.arguments.get("dim") == -1 else call.dims(rank=len(axes)) or []
    call.along(axes, [i for i in range(len(axes)) if i not in dims])
    return call.axes("direction")


@axis_law("cosine_similarity")
def _cosine(call: Call) -> Value:
    axes = call.broadcast([call.axes("x"), call.axes("y")])
    dims = call.dims(rank=len(axes)) or []
    call.along(axes, dims)
    return tuple(layout for i, layout in enumerate(axes) if i not in dims)


@axis_law("prelu")
def _prelu(call: Call) -> Value:
    x = call.axes("x")
    axis = 1 if len(x) > 1 else 0
    call.relate((x, range(len(x))), (call.axes("weight"), (axis,)))
    return x


@axis_law("glu")
def _glu(call: Call) -> Value | None:
    x = call.axes("x")
    axis = (call.dims() or [len(x) - 1])[0]
    halves = call.system.cut(x[axis], call.system.size(x[axis]) // 2)
    if halves is None:
        return None
    gated, gate = ((*x[:axis], half, *x[axis + 1 :]) for half in halves)
    letters = call.relate((gated, range(len(x))), (gate, range(len(x))))
    return tuple(letters[i] for i in range(len(x)))
