"""ONNX has no reciprocal root: a product with the reciprocal of a root is a quotient."""

from __future__ import annotations

from tdsl.emit.editing import Editor, is_op, only_use


def divide(editor: Editor) -> None:
    """`x * (1 / y)` becomes `x / y` where nobody else reads the reciprocal."""
    for node in list(editor.graph):
        if node.graph is None or not is_op(node, "Reciprocal"):
            continue
        product = only_use(node.outputs[0])
        if product is None or not is_op(product, "Mul"):
            continue
        other = next((value for value in product.inputs if value is not node.outputs[0]), None)
        if other is not None:
            result = product.outputs[0]
            editor.replace(result, editor.put(product, "Div", (other, node.inputs[0]), like=result))
