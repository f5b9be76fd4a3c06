"""Zeros around an image are entries like any other to the largest of a window; onnxruntime leaves them out.

Its `PadFusion` makes a `Pad` and the `MaxPool` behind it one operator, which does not see the border: where
entries are negative, another one is the largest. It keeps its hands off a `Pad` that names its axes.
"""

from __future__ import annotations

import onnx_ir as ir

from tdsl.emit.editing import Editor, is_op, number_of, only_use

NAMED_AXES = 18
"""Operator set from which on a `Pad` may name its axes."""
_NOT_NEGATIVE = ("Relu", "Sigmoid", "Abs", "Exp", "Softmax")
"""Operators after which zeros are never larger than what a window holds."""


def keep_zeros(editor: Editor) -> None:
    """Name the axes of a border that a `MaxPool` reads, unless no entry can be less."""
    if editor.graph.opset_imports.get("", 0) < NAMED_AXES:
        return
    for node in editor.graph:
        source = node.inputs[0] if node.inputs else None
        if not is_op(node, "Pad") or len(node.inputs) > 3 or source is None or source.shape is None:
            continue
        if not is_op(only_use(node.outputs[0]), "MaxPool") or _is_least(node):
            continue
        if not is_op(source.producer(), *_NOT_NEGATIVE):
            node.resize_inputs(4)
            node.replace_input_with(3, editor.constant(range(len(source.shape))))


def _is_least(pad: ir.Node) -> bool:
    """Whether a border is of minus infinity, which is what `MaxPool` takes for its own."""
    number = number_of(pad.inputs[2]) if len(pad.inputs) > 2 else None
    return number is not None and number < -1e30
