"""Axes through what is read or written at places that values name: the axis of the places is pinned."""

from __future__ import annotations

from typing import Any

import torch

from tdsl.symmetry.hidden.flow import Call, Value, axis_law
from tdsl.symmetry.hidden.relation import Letter, Named

_MASKS = (torch.bool, torch.uint8)
_READ = "its places are named by values"


@axis_law("embedding")
def _embedding(call: Call) -> Value:
    rows, width = call.axes("weight")
    call.pin(rows, _READ)
    call.relate(((width,), ["width"]))
    return (*call.axes("indices"), width)


@axis_law("index_select")
def _index_select(call: Call) -> Value:
    axes, dims = call.axes("x"), call.dims()
    assert dims is not None
    call.along(axes, dims, _READ)
    index = call.axes("index")
    return (*axes[: dims[0]], *(index or (call.system.fresh(1),)), *axes[dims[0] + 1 :])


@axis_law("gather")
def _gather(call: Call) -> Value:
    """Along the other axes, an element is read where its index stands."""
    axes, index, dims = call.axes("x"), call.axes("index"), call.dims()
    assert dims is not None
    call.along(axes, dims, _READ)
    for i, (layout, place) in enumerate(zip(axes, index, strict=True)):
        if i in dims:
            continue
        if call.system.size(layout) == call.system.size(place):
            call.system.unify(layout, place)
        else:
            call.pin(layout, "gather reads a part of it")
            call.pin(place, "gather reads a part of it")
    call.relate((index, range(len(index))), (axes, [("x", i) if i in dims else i for i in range(len(axes))]))
    return index


@axis_law("index")
def _index(call: Call) -> Value | None:
    """Axes with an index are read; the axes of the indices stand in the place of the first, or in front."""
    axes = call.axes("x")
    given = call.arguments["indices"]
    indices = [*given, *[None] * (len(axes) - len(given))]
    places = [i for i, index in enumerate(indices) if index is not None]
    listed: Any = call.node.args[1]
    if any(node is not None and node.meta["val"].dtype in _MASKS for node in listed):
        return None
    read = call.broadcast([indices[i] for i in places])
    call.along(axes, places, _READ)
    kept = [layout for i, layout in enumerate(axes) if i not in places]
    together = places == list(range(places[0], places[-1] + 1))
    at = places[0] if together else 0
    return (*kept[:at], *read, *kept[at:])


@axis_law("one_hot")
def _one_hot(call: Call) -> Value:
    return (*call.axes("x"), call.pinned(call.shape[-1], "is the place that a value names"))


@axis_law("scatter", "scatter_add", "scatter_reduce", "index_add", "index_copy", "index_fill")
def _scatter(call: Call) -> Value | None:
    """Along the other axes, what is written goes where it stands."""
    axes, dims = call.axes("x"), call.dims()
    index, source = call.axes("index"), call.axes("source")
    assert dims is not None
    if not axes or (source and len(source) != len(axes)):
        return None
    call.along(axes, dims, "values are written at places that are computed")
    letters: list[Letter] = [("written", i) if i in dims else i for i in range(len(axes))]
    operands: list[Named] = [(axes, range(len(axes)))]
    slices = call.operator.name.startswith("index")
    for tensor, names in ((source, letters), (index, [("written", dims[0])] if slices else letters)):
        if not tensor or len(tensor) != len(names):
            continue
        if any(
            call.system.size(layout) != call.system.size(axes[i])
            for i, layout in enumerate(tensor)
            if not slices and i not in dims
        ):
            return None
        operands.append((tensor, names))
        call.pin(tensor[dims[0] if len(tensor) > 1 else 0], "values are written at places that are computed")
    call.relate(*operands)
    return axes


@axis_law("bucketize")
def _bucketize(call: Call) -> Value:
    for layout in call.axes("boundaries"):
        call.pin(layout, "boundaries are in order")
    return call.axes("x")
