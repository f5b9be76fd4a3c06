"""A choice that is made before anything runs: `Where` under a condition that is known."""

from __future__ import annotations

import onnx_ir as ir

from tdsl.emit.editing import Editor, is_op


def choose(editor: Editor) -> None:
    """Take the operand that is always chosen, where it has the size of the result."""
    for node in list(editor.graph):
        chosen = _chosen(node) if is_op(node, "Where") else None
        if chosen is None:
            continue
        size = editor.sizes.shape(chosen)
        if size is not None and size == editor.sizes.shape(node.outputs[0]):
            editor.replace(node.outputs[0], chosen)


def _chosen(node: ir.Node) -> ir.Value | None:
    """The second or the third input, if the first is constant and everywhere the same."""
    condition = node.inputs[0]
    known = (
        condition.const_value.numpy() if condition is not None and condition.const_value is not None else None
    )
    if known is None or known.size == 0 or known.min() != known.max():
        return None
    return node.inputs[1 if known.max() else 2]
