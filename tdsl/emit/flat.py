"""Dense layers over rows: Reshape and Gemm in place of MatMul and Add, where that takes no more operators.

Gemm adds the bias as it goes. Reshapes are free where the layer stands between others, or next to a reshape.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from tdsl.emit.editing import Editor, is_op, only_use
from tdsl.emit.sizes import Size
from tdsl.emit.sizes import product as product_of
from tdsl.emit.targets import target

_POINTWISE = ("Gelu", "Relu", "Tanh", "Sigmoid", "Erf", "LeakyRelu", "Elu", "Selu", "Softplus", "HardSwish")


@dataclass(frozen=True)
class Layer:
    """A product with a weight matrix and the addition of a bias; how many numbers it reads in a row."""

    product: ir.Node
    add: ir.Node
    weight: ir.Value
    bias: ir.Value
    width: int
    shape: tuple[Size, ...]

    @property
    def source(self) -> ir.Value:
        """What it reads."""
        value = self.product.inputs[0]
        assert value is not None
        return value

    @property
    def rows(self) -> tuple[Size, ...]:
        """The shape of its result with all axes but the last merged."""
        return product_of(self.shape[:-1]), self.shape[-1]


def flatten_layers(editor: Editor) -> None:
    """Let dense layers of more than two axes read rows."""
    layers = {node: layer for node in editor.graph if (layer := _layer(editor, node)) is not None}
    flat: dict[ir.Value, ir.Value] = {}
    for layer in layers.values():
        _flatten(editor, layer, layers, flat)


def _layer(editor: Editor, product: ir.Node) -> Layer | None:
    add = only_use(product.outputs[0]) if is_op(product, "MatMul") else None
    if add is None or not is_op(add, "Add"):
        return None
    sizes, weight = editor.sizes, product.inputs[1]
    bias = next((value for value in add.inputs if value is not product.outputs[0]), None)
    shape = sizes.shape(add.outputs[0])
    if shape is None or len(shape) < 3 or sizes.shape(product.outputs[0]) != shape:
        return None
    if weight is None or bias is None or not weight.is_initializer() or not bias.is_initializer():
        return None
    matrix = sizes.shape(weight) or ()
    if len(matrix) != 2 or not isinstance(matrix[0], int) or sizes.shape(bias) != shape[-1:]:
        return None
    layer = Layer(product, add, weight, bias, matrix[0], shape)
    return layer if target(layer.rows, shape) is not None else None


def _flatten(
    editor: Editor, layer: Layer, layers: dict[ir.Node, Layer], flat: dict[ir.Value, ir.Value]
) -> None:
    source, result, sizes = layer.source, layer.add.outputs[0], editor.sizes
    before = source.producer()
    reshaped = before is not None and is_op(before, "Reshape") and only_use(source) is layer.product
    readers = list(dict.fromkeys(use.node for use in result.uses()))
    wanted = [sizes.shape(reader.outputs[0]) if is_op(reader, "Reshape") else None for reader in readers]
    targets = [target(layer.rows, shape) if shape is not None else None for shape in wanted]
    unmade = None not in targets and not result.is_graph_output()
    pointwise = only_use(result)
    following = only_use(pointwise.outputs[0]) if is_op(pointwise, *_POINTWISE) and pointwise else None
    passed = (
        following is not None and following in layers and layers[following].source.producer() is pointwise
    )
    if source not in flat and not reshaped and not unmade and not passed:
        return
    if source in flat:
        rows = flat[source]
    else:
        start = before.inputs[0] if reshaped and before is not None else source
        rows = editor.put(layer.product, "Reshape", (start, editor.constant((-1, layer.width))))
    made = editor.put(layer.add, "Gemm", (rows, layer.weight, layer.bias))
    if unmade:
        for reader, numbers in zip(readers, targets, strict=True):
            assert numbers is not None
            there = reader.outputs[0]
            editor.replace(there, editor.put(reader, "Reshape", (made, editor.constant(numbers)), like=there))
    elif passed and pointwise is not None:
        flat[pointwise.outputs[0]] = editor.put(
            pointwise, pointwise.op_type, (made, *pointwise.inputs[1:]), pointwise.attributes
        )
    else:
        numbers = target(layer.rows, layer.shape)
        assert numbers is not None
        back = editor.put(layer.add, "Reshape", (made, editor.constant(numbers)), like=result)
        editor.replace(result, back)
