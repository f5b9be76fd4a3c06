"""Sizes of the tensors of an ONNX graph, and the numbers in tensors that hold sizes, as polynomials.

Exporters compute shapes at run time (Shape, Slice, Mul, Concat) that follow from the shapes of the inputs.
Here each entry of such a tensor is a polynomial in the sizes that vary, so that two of them can be compared.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias, cast

import numpy as np
import onnx
import onnx_ir as ir
import sympy

Size: TypeAlias = int | sympy.Expr
"""A number, or a polynomial in symbols for sizes that vary."""

LONGEST = 64
"""Entries of the longest tensor that is taken for one of sizes."""


def symbol(name: str) -> sympy.Expr:
    """The size that is known by a name."""
    return sympy.Symbol(name, integer=True, nonnegative=True)


def product(sizes: Sequence[Size]) -> Size:
    """The product of sizes; 1 of none."""
    return _plain(math.prod(sizes))


def quotient(of: Size, by: Size) -> Size | None:
    """`of / by` if that is a polynomial with whole coefficients; `None` otherwise."""
    if by == 0:
        return None
    if isinstance(of, int) and isinstance(by, int):
        return of // by if of % by == 0 else None
    found = sympy.cancel(sympy.sympify(of) / by)
    symbols = sorted(found.free_symbols, key=str)
    if not found.is_polynomial(*symbols):
        return None
    whole = not symbols and found.is_Integer
    if symbols:
        whole = all(number.is_Integer for number in sympy.Poly(found, *symbols).coeffs())
    return _plain(found) if whole else None


def _plain(size: Size) -> Size:
    """Multiplied out, so that equal polynomials are written alike; a Python number if it is one."""
    if isinstance(size, int):
        return size
    expanded = sympy.expand(size)
    return int(expanded) if expanded.is_Integer else expanded


def parsed(text: str) -> Size:
    """The polynomial that the name of an axis states; a name for itself if it is none."""
    try:
        return _plain(_evaluated(ast.parse(text.strip(), mode="eval").body))
    except (SyntaxError, TypeError):
        return symbol(text)


_ARITHMETIC: Mapping[type[ast.operator], Callable[[Size, Size], Size]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
}


def _evaluated(tree: ast.expr) -> Size:
    match tree:
        case ast.Constant(value=int(number)):
            return number
        case ast.Name(id=name):
            return symbol(name)
        case ast.BinOp(left, kind, right) if type(kind) in _ARITHMETIC:
            return _ARITHMETIC[type(kind)](_evaluated(left), _evaluated(right))
    raise TypeError("not a polynomial")


class Sizes:
    """What is known of shapes in a graph, from its inputs to its outputs."""

    def __init__(self, model: ir.Model) -> None:
        self._opsets = model.opset_imports
        self._shapes: dict[ir.Value, tuple[Size, ...]] = {}
        self._numbers: dict[ir.Value, tuple[Size, ...]] = {}
        self._names: dict[str, Size] = {}
        for value in (*model.graph.inputs, *model.graph.initializers.values()):
            self._learn(value, None)
        for node in model.graph:
            self.visit(node)

    def shape(self, value: ir.Value) -> tuple[Size, ...] | None:
        """The shape, an unknown size as a symbol of its own; `None` if the number of axes is not known."""
        if value not in self._shapes and value.producer() is None:
            self._learn(value, None)
        return self._shapes.get(value)

    def numbers(self, value: ir.Value | None) -> tuple[Size, ...] | None:
        """The entries of a tensor of whole numbers with at most one axis; `None` if they are not known."""
        if value is None:
            return None
        if value not in self._numbers and (found := _constants(value)) is not None:
            self._numbers[value] = found
        return self._numbers.get(value)

    def integers(self, value: ir.Value | None) -> tuple[int, ...] | None:
        """Like `numbers`, if all of them are numbers that do not vary."""
        found = self.numbers(value)
        if found is None or not all(isinstance(number, int) for number in found):
            return None
        return cast(tuple[int, ...], found)

    def visit(self, node: ir.Node) -> None:
        """Find what is known of the outputs of a node from what is known of its inputs."""
        rule = _SHAPES.get(node.op_type) if node.domain == "" else None
        if len(node.outputs) == 1 and rule is not None:
            self._learn(node.outputs[0], rule(self, node))
        elif all(_complete(output) for output in node.outputs):
            for output in node.outputs:
                self._learn(output, None)
        else:
            inferred = infer(node, self._opsets, self.shape, self.integers)
            for output in node.outputs:
                self._learn(output, inferred.get(output.name or ""))
        count = _NUMBERS.get(node.op_type) if node.domain == "" else None
        if count is not None and len(node.outputs) == 1:
            entries = count(self, node)
            if entries is not None and len(entries) <= LONGEST:
                self._numbers[node.outputs[0]] = tuple(map(_plain, entries))

    def _learn(self, value: ir.Value, found: Sequence[Size] | None) -> None:
        """Put together what the file says of a shape, what was found, and names for what neither says."""
        stated = value.shape
        if stated is None:
            if found is not None:
                self._shapes[value] = tuple(found)
                value.shape = ir.Shape([written(size) for size in found])
            return
        sizes: list[Size] = []
        for axis, dim in enumerate(stated):
            if isinstance(dim, int):
                sizes.append(dim)
            elif _named(dim):
                assert dim.value is not None
                if dim.value not in self._names:
                    self._names[dim.value] = parsed(dim.value)
                sizes.append(self._names[dim.value])
            elif found is not None and len(found) == len(stated):
                sizes.append(found[axis])
            else:
                sizes.append(symbol(f"{value.name}[{axis}]"))
        self._shapes[value] = tuple(sizes)
        if found is not None and not _complete(value):
            value.shape = ir.Shape([written(size) for size in sizes])


def infer(
    node: ir.Node,
    opsets: Mapping[str, int],
    shape: Callable[[ir.Value], tuple[Size, ...] | None],
    integers: Callable[[ir.Value], tuple[int, ...] | None],
) -> dict[str, tuple[Size, ...]]:
    """What ONNX itself infers of the outputs of one node, by name, from what is known of its inputs."""
    named: dict[str, Size] = {}
    types: dict[str, onnx.TypeProto] = {}
    data: dict[str, onnx.TensorProto] = {}
    for value in node.inputs:
        if value is None:
            continue
        known, name = shape(value), value.name or ""
        if known is None or value.dtype is None:
            return {}
        named.update({str(size): size for size in known})
        types[name] = onnx.helper.make_tensor_type_proto(value.dtype.value, [*map(written, known)])
        numbers = integers(value)
        if numbers is not None:
            data[name] = onnx.numpy_helper.from_array(np.array(numbers).reshape((-1,) * len(known)), name)
    try:
        schema = onnx.defs.get_schema(node.op_type, opsets[node.domain], node.domain)
        found = onnx.shape_inference.infer_node_outputs(schema, ir.serde.serialize_node(node), types, data)
    except (onnx.defs.SchemaError, onnx.shape_inference.InferenceError, KeyError):
        return {}
    return {
        name: tuple(
            dim.dim_value
            if dim.HasField("dim_value")
            else named.get(dim.dim_param, symbol(dim.dim_param or f"{name}[{axis}]"))
            for axis, dim in enumerate(kind.tensor_type.shape.dim)
        )
        for name, kind in found.items()
        if kind.tensor_type.HasField("shape")
    }


def _complete(value: ir.Value) -> bool:
    return value.shape is not None and all(isinstance(dim, int) or _named(dim) for dim in value.shape)


def _named(dim: ir.SymbolicDim) -> bool:
    """Whether a size has a name; those that ONNX's inference makes up stand for not known."""
    return dim.value is not None and not dim.value.startswith("unk__")


def written(size: Size) -> int | str:
    """A size as a file states it."""
    return size if isinstance(size, int) else str(size)


def _constants(value: ir.Value) -> tuple[int, ...] | None:
    tensor = value.const_value
    if tensor is None or tensor.dtype != ir.DataType.INT64 or len(tensor.shape) > 1 or tensor.size > LONGEST:
        return None
    return tuple(int(number) for number in tensor.numpy().reshape(-1))


# ---------------------------------------------------------------- shapes


def _reshaped(sizes: Sizes, node: ir.Node) -> tuple[Size, ...] | None:
    source, target = node.inputs[:2]
    wanted = sizes.numbers(target)
    given = sizes.shape(source) if source is not None else None
    if wanted is None:
        return None
    copied = "allowzero" not in node.attributes or node.attributes["allowzero"].as_int() == 0
    found: list[Size | None] = []
    for axis, size in enumerate(wanted):
        if size == 0 and copied:
            if given is None or axis >= len(given):
                return None
            found.append(given[axis])
        else:
            found.append(None if size == -1 else size)
    if None in found:
        known = product([size for size in found if size is not None])
        rest = quotient(product(given), known) if given is not None else None
        if rest is None:
            rest = symbol(f"{node.outputs[0].name}[{found.index(None)}]")
        found[found.index(None)] = rest
    return cast(tuple[Size, ...], tuple(found))


def _expanded(sizes: Sizes, node: ir.Node) -> tuple[Size, ...] | None:
    given = sizes.shape(node.inputs[0]) if node.inputs[0] is not None else None
    wanted = sizes.numbers(node.inputs[1])
    return None if given is None or wanted is None else broadcast(given, wanted)


def broadcast(*shapes: Sequence[Size]) -> tuple[Size, ...] | None:
    """The shape of an elementwise result, where equal sizes are seen to be equal; `None` otherwise."""
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]
    found: list[Size] = []
    for column in zip(*padded, strict=True):
        larger = dict.fromkeys(size for size in column if size != 1)
        if len(larger) > 1:
            return None
        found.append(next(iter(larger), 1))
    return tuple(found)


def _filled(sizes: Sizes, node: ir.Node) -> tuple[Size, ...] | None:
    return sizes.numbers(node.inputs[0])


_SHAPES: Mapping[str, Callable[[Sizes, ir.Node], tuple[Size, ...] | None]] = {
    "Reshape": _reshaped,
    "Expand": _expanded,
    "ConstantOfShape": _filled,
}


# ---------------------------------------------------------------- numbers


def _attribute(node: ir.Node, name: str, default: int | None) -> int | None:
    return node.attributes[name].as_int() if name in node.attributes else default


def _shape(sizes: Sizes, node: ir.Node) -> tuple[Size, ...] | None:
    given = sizes.shape(node.inputs[0]) if node.inputs[0] is not None else None
    if given is None:
        return None
    return given[slice(_attribute(node, "start", None), _attribute(node, "end", None))]


def _size(sizes: Sizes, node: ir.Node) -> tuple[Size, ...] | None:
    given = sizes.shape(node.inputs[0]) if node.inputs[0] is not None else None
    return None if given is None else (product(given),)


def _sliced(sizes: Sizes, node: ir.Node) -> tuple[Size, ...] | None:
    given = sizes.numbers(node.inputs[0])
    start, end = sizes.integers(node.inputs[1]), sizes.integers(node.inputs[2])
    step = sizes.integers(node.inputs[4]) if len(node.inputs) > 4 else (1,)
    if given is None or not start or not end or not step or step[0] < 1:
        return None
    return given[start[0] : end[0] : step[0]]


def _gathered(sizes: Sizes, node: ir.Node) -> tuple[Size, ...] | None:
    given, places = sizes.numbers(node.inputs[0]), sizes.integers(node.inputs[1])
    if given is None or places is None or not all(-len(given) <= place < len(given) for place in places):
        return None
    return tuple(given[place] for place in places)


def _joined(sizes: Sizes, node: ir.Node) -> tuple[Size, ...] | None:
    parts = [sizes.numbers(value) for value in node.inputs]
    if any(part is None for part in parts):
        return None
    return tuple(size for part in parts if part is not None for size in part)


def _same(sizes: Sizes, node: ir.Node) -> tuple[Size, ...] | None:
    shape = sizes.shape(node.outputs[0])
    return sizes.numbers(node.inputs[0]) if shape is not None and len(shape) <= 1 else None


def _cast(sizes: Sizes, node: ir.Node) -> tuple[Size, ...] | None:
    to = _attribute(node, "to", None)
    return sizes.numbers(node.inputs[0]) if to == ir.DataType.INT64.value else None


def _elementwise(
    compute: Callable[[Size, Size], Size | None],
) -> Callable[[Sizes, ir.Node], tuple[Size, ...] | None]:
    def rule(sizes: Sizes, node: ir.Node) -> tuple[Size, ...] | None:
        left, right = sizes.numbers(node.inputs[0]), sizes.numbers(node.inputs[1])
        if not left or not right:
            return None
        count = max(len(left), len(right))
        if {len(left), len(right)} - {1, count}:
            return None
        entries = [
            compute(a, b)
            for a, b in zip(left * (count // len(left)), right * (count // len(right)), strict=True)
        ]
        return None if None in entries else cast(tuple[Size, ...], tuple(entries))

    return rule


def _multiplied(sizes: Sizes, node: ir.Node) -> tuple[Size, ...] | None:
    given = sizes.numbers(node.inputs[0])
    return None if given is None else (product(given),)


_NUMBERS: Mapping[str, Callable[[Sizes, ir.Node], tuple[Size, ...] | None]] = {
    "Shape": _shape,
    "Size": _size,
    "Slice": _sliced,
    "Gather": _gathered,
    "Concat": _joined,
    "Identity": _same,
    "Squeeze": _same,
    "Unsqueeze": _same,
    "Reshape": _same,
    "Cast": _cast,
    "Mul": _elementwise(operator.mul),
    "Add": _elementwise(operator.add),
    "Sub": _elementwise(operator.sub),
    "Div": _elementwise(quotient),
    "ReduceProd": _multiplied,
}
