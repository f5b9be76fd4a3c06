"""The axis along which values are joined, as runtimes look for it.

onnxruntime keeps images in its blocked layout only where they are joined along axis 1; the third axis
from the end does not count as that.
"""

from __future__ import annotations

import onnx_ir as ir

from tdsl.emit.editing import Editor, is_op


def count_from_front(editor: Editor) -> None:
    """Count the axis of every Concat from the first axis on, where the number of axes is known."""
    for node in editor.graph:
        shape = editor.sizes.shape(node.outputs[0]) if is_op(node, "Concat") else None
        axis = node.attributes.get_int("axis") if shape is not None else None
        if shape is not None and axis is not None and axis < 0:
            node.attributes.add(ir.AttrInt64("axis", len(shape) + axis))
