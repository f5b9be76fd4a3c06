"""Slices in a row become one, and one entry of an axis is taken by Gather, not by Slice and Squeeze."""

from __future__ import annotations

import onnx_ir as ir

from tdsl.emit.editing import Editor, is_op, only_use

Bounds = dict[int, tuple[int, int, int]]
"""By axis where a slice starts and ends, and its step."""


def merge_slices(editor: Editor) -> None:
    """Shorten every chain of slices that has constant bounds, and leave out those that keep everything."""
    for node in list(editor.graph):
        source = node.inputs[0] if is_op(node, "Slice") else None
        if source is not None and _keeps_everything(editor, node, source):
            editor.replace(node.outputs[0], source)
    for node in list(editor.graph):
        if node.graph is not None and is_op(node, "Slice"):
            _merge_into_readers(editor, node)
    for node in list(editor.graph):
        if node.graph is not None and is_op(node, "Squeeze"):
            _take_one(editor, node)


def _bounds(editor: Editor, node: ir.Node) -> Bounds | None:
    """The constant bounds of a Slice; `None` if there are others."""
    lists = [editor.sizes.integers(value) for value in node.inputs[1:] if value is not None]
    shape = editor.sizes.shape(node.outputs[0])
    if any(numbers is None for numbers in lists) or shape is None or len(lists) < 3 or None in node.inputs:
        return None
    starts, ends, axes = (numbers or () for numbers in lists[:3])
    steps = lists[3] if len(lists) > 3 else None
    return {
        axis % len(shape): (start, end, step)
        for axis, start, end, step in zip(axes, starts, ends, steps or (1,) * len(axes), strict=True)
    }


def _keeps_everything(editor: Editor, node: ir.Node, source: ir.Value) -> bool:
    """Whether a Slice takes all of axes whose size is known."""
    bounds, shape = _bounds(editor, node), editor.sizes.shape(source)
    if bounds is None or shape is None or node.outputs[0].is_graph_output():
        return False
    return all(
        start == 0 and step == 1 and isinstance(size := shape[axis], int) and size <= end
        for axis, (start, end, step) in bounds.items()
    )


def _merge_into_readers(editor: Editor, inner: ir.Node) -> None:
    """Let each Slice of other axes that reads this one read its source, if all readers are such."""
    value, given = inner.outputs[0], _bounds(editor, inner)
    readers = list(dict.fromkeys(use.node for use in value.uses()))
    if given is None or value.is_graph_output() or not readers:
        return
    merged: list[Bounds] = []
    for reader in readers:
        own = _bounds(editor, reader) if is_op(reader, "Slice") else None
        if own is None or own.keys() & given.keys():
            return
        merged.append(given | own)
    for reader, bounds in zip(readers, merged, strict=True):
        axes = sorted(bounds)
        columns = list(zip(*(bounds[axis] for axis in axes), strict=True))
        lists = [columns[0], columns[1], axes, *([columns[2]] if set(columns[2]) != {1} else [])]
        result = reader.outputs[0]
        inputs = (inner.inputs[0], *map(editor.constant, lists))
        editor.replace(result, editor.put(reader, "Slice", inputs, like=result))


def _take_one(editor: Editor, squeeze: ir.Node) -> None:
    """Slice of one entry of one axis, and the axis squeezed away: Gather of that entry."""
    value, result = squeeze.inputs[0], squeeze.outputs[0]
    node = value.producer() if value is not None else None
    if value is None or node is None or not is_op(node, "Slice") or only_use(value) is not squeeze:
        return
    bounds, shape, after = _bounds(editor, node), editor.sizes.shape(value), editor.sizes.shape(result)
    if bounds is None or len(bounds) != 1 or shape is None or after is None:
        return
    ((axis, (start, end, step)),) = bounds.items()
    if step == 1 and end == start + 1 and end != 0 and (*shape[:axis], *shape[axis + 1 :]) == after:
        inputs = (node.inputs[0], editor.constant((start,), rank=0))
        editor.replace(result, editor.put(squeeze, "Gather", inputs, {"axis": axis}, like=result))
