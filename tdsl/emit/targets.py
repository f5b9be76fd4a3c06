"""Shapes computed at run time, as constants: `[0, 0, 24]` in place of Shape, Slice, Mul and Concat."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from tdsl.emit.editing import Editor, is_op
from tdsl.emit.sizes import Size, broadcast

_BROADCASTING = (
    *("Add", "Sub", "Mul", "Div", "Pow", "Mod", "Max", "Min", "PRelu", "Where", "And", "Or", "Xor"),
    *("Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"),
)


def target(given: Sequence[Size], wanted: Sequence[Size]) -> tuple[int, ...] | None:
    """What Reshape is to be told to make `wanted` of `given`: 0 keeps a size, -1 is what is left.

    `None` if constants cannot say it for every size: beside another size of 0 a runtime cannot find -1.
    """
    found = [
        size if isinstance(size, int) else 0 if axis < len(given) and given[axis] == size else -1
        for axis, size in enumerate(wanted)
    ]
    if any(size == 0 for size in wanted) or found.count(-1) > 1 or (-1 in found and 0 in found):
        return None
    return tuple(found)


def fold_sizes(editor: Editor) -> None:
    """Make computed shapes constants where they do not vary, and one where two are equal."""
    seen: dict[tuple[int, tuple[Size, ...]], ir.Node] = {}
    for node in list(editor.graph):
        if node.graph is None or len(node.outputs) != 1:
            continue
        value = node.outputs[0]
        numbers, shape = editor.sizes.numbers(value), editor.sizes.shape(value)
        if numbers is None or shape is None or value.is_graph_output():
            continue
        fixed = editor.sizes.integers(value)
        first = seen.setdefault((len(shape), numbers), node)
        if fixed is not None:
            editor.replace(value, editor.constant(fixed, len(shape)))
        elif first.graph is None:  # whoever read it reads a constant now
            seen[len(shape), numbers] = node
        elif first is not node:
            editor.replace(value, first.outputs[0])


def fix_targets(editor: Editor) -> None:
    """Let Reshape and Expand read constants where these say the same, and leave out an Expand for nothing."""
    for node in list(editor.graph):
        if node.graph is None:
            continue
        if is_op(node, "Reshape"):
            _fix_reshape(editor, node)
        elif is_op(node, "Expand"):
            _leave_out(editor, node)


def _fix_reshape(editor: Editor, node: ir.Node) -> None:
    source, wanted = node.inputs[:2]
    result = node.outputs[0]
    if source is None or editor.sizes.numbers(wanted) is None or editor.sizes.integers(wanted) is not None:
        return
    given, shape = editor.sizes.shape(source), editor.sizes.shape(result)
    constant = target(given, shape) if given is not None and shape is not None else None
    if constant is not None:
        made = editor.put(node, "Reshape", (source, editor.constant(constant)), like=result)
        editor.replace(result, made)


def _leave_out(editor: Editor, node: ir.Node) -> None:
    """Elementwise operators broadcast themselves."""
    source, result = node.inputs[0], node.outputs[0]
    if source is None:
        return
    given, shape = editor.sizes.shape(source), editor.sizes.shape(result)
    if given is None or shape is None:
        return
    if given == shape:
        editor.replace(result, source)
        return
    if result.is_graph_output():
        return
    for user in {use.node: None for use in result.uses()}:
        if not is_op(user, *_BROADCASTING):
            continue
        shapes = [
            editor.sizes.shape(value) for value in user.inputs if value is not None and value is not result
        ]
        others = [shape for shape in shapes if shape is not None]
        wanted = editor.sizes.shape(user.outputs[0])
        if wanted is not None and len(others) == len(shapes) and broadcast(given, *others) == wanted:
            for index, value in enumerate(user.inputs):
                if value is result:
                    user.replace_input_with(index, source)
    editor.drop(node)
