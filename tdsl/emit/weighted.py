"""A normalisation by the root of the mean square is one operator of onnxruntime's, if a weight follows.

Where a layer has taken the weight in, five operators are left that onnxruntime knows as a normalisation only
with a product behind them. It is with ones, which all normalisations of one width share.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from tdsl.emit.editing import Editor, is_op, number_of, only_use


def weigh(editor: Editor) -> None:
    """Multiply what is divided by the root of its mean square by ones where a layer, no product, reads it."""
    ones: dict[tuple[int, ir.DataType], ir.Value] = {}
    for node in list(editor.graph):
        width = _width(node)
        result = node.outputs[0]
        readers = [use.node for use in result.uses()]
        if width is None or result.dtype is None or any(_weighs(reader, width) for reader in readers):
            continue
        if not any(is_op(reader, "MatMul", "Gemm", "Reshape") for reader in readers):
            continue
        key = (width, result.dtype)
        if key not in ones:
            ones[key] = editor.stored(f"ones_{width}", np.ones(width, result.dtype.numpy()))
        again = editor.put(node, "Div", node.inputs, like=result)
        editor.replace(result, editor.put(node, "Mul", (again, ones[key]), like=result))


def _width(node: ir.Node) -> int | None:
    """The length of the rows that `node` divides by the root of their mean square; `None` if it does not."""
    if not is_op(node, "Div"):
        return None
    rows, shape, source = node.inputs[0], node.outputs[0].shape, node.inputs[1]
    for kind in ("Sqrt", "Add", "ReduceMean", "Pow"):
        step = None if source is None else source.producer()
        if source is None or step is None or not is_op(step, kind) or only_use(source) is None:
            return None
        if kind == "Add" and sum(value is not None and value.is_initializer() for value in step.inputs) != 1:
            return None
        if kind == "ReduceMean" and not _of_rows(step):
            return None
        if kind == "Pow" and number_of(step.inputs[1]) != 2:
            return None
        source = next(
            (value for value in step.inputs if value is not None and not value.is_initializer()), None
        )
    last = shape[-1] if shape is not None and len(shape) else None
    return last if source is rows and isinstance(last, int) else None


def _of_rows(mean: ir.Node) -> bool:
    """Whether a mean is that of each row, with the axis kept."""
    keep = mean.attributes.get("keepdims")
    shape = mean.inputs[0].shape if mean.inputs[0] is not None else None
    axes = mean.inputs[1] if len(mean.inputs) > 1 else None
    last = {-1} if shape is None else {-1, len(shape) - 1}
    return (keep is None or keep.as_int() == 1) and number_of(axes) in last


def _weighs(node: ir.Node, width: int) -> bool:
    """Whether a node is a product with a weight for each entry of a row."""
    shapes = [value.shape for value in node.inputs if value is not None and value.is_initializer()]
    return is_op(node, "Mul") and any(shape is not None and list(shape) == [width] for shape in shapes)
