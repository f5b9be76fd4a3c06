"""Inputs that say what is the default anyway: recurrent layers start from zeros."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from tdsl.emit.editing import Editor, is_op

_STATES = {"LSTM": (5, 6), "GRU": (5,), "RNN": (5,)}
"""Which inputs of an operator are initial states."""
_KEEPING = (
    *("Expand", "Flatten", "Gather", "Identity", "Reshape"),
    *("Slice", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
)
"""Operators whose results hold nothing but entries of their first input."""


def leave_out_defaults(editor: Editor) -> None:
    """Do not hand zeros to recurrent layers as initial states."""
    for node in list(editor.graph):
        for index in _STATES.get(node.op_type, ()) if node.domain == "" else ():
            value = node.inputs[index] if index < len(node.inputs) else None
            if value is not None and zero(value):
                node.replace_input_with(index, None)
                source = value.producer()
                if source is not None:
                    editor.drop(source)
        while is_op(node, *_STATES) and node.inputs and node.inputs[-1] is None:
            node.resize_inputs(len(node.inputs) - 1)


def zero(value: ir.Value) -> bool:
    """Whether every entry is seen to be zero, for inputs of any size."""
    node = value.producer()
    while is_op(node, *_KEEPING):
        assert node is not None
        if node.inputs[0] is None:
            return False
        value = node.inputs[0]
        node = value.producer()
    if is_op(node, "ConstantOfShape"):
        assert node is not None
        given = node.attributes.get("value")
        return given is None or not np.any(given.as_tensor().numpy())
    return value.const_value is not None and not np.any(value.const_value.numpy())
