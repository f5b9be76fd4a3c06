"""Chains of Transpose, Reshape, Squeeze and the like become the fewest operators that do the same."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from tdsl.emit.arrangement import Arrangement
from tdsl.emit.editing import Editor, is_op, only_use
from tdsl.emit.sizes import Size, Sizes
from tdsl.emit.targets import target

_KINDS = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity")

_WEIGHTS = {"Transpose": 1.5}
"""What an operator costs that is not 1."""

Step = tuple[str, ir.Value | tuple[int, ...] | None]
"""An operator, and the constant or value that it reads, or the order of its axes."""


def rearrange(editor: Editor) -> None:
    """Shorten every chain, the last first."""
    for node in reversed(list(editor.graph)):
        if node.graph is not None and is_op(node, *_KINDS) and not _inside(node):
            _shorten(editor, node)


def _inside(node: ir.Node) -> bool:
    return is_op(only_use(node.outputs[0]), *_KINDS)


def _shorten(editor: Editor, last: ir.Node) -> None:
    """Find the start of the chain from which the least is left to do, and do it."""
    result, sizes = last.outputs[0], editor.sizes
    chain, weight = [last], [_weight(sizes, last)]
    going = True
    while is_op(before := _producer(chain[-1]), *_KINDS):
        assert before is not None
        going = going and only_use(before.outputs[0]) is chain[-1]
        chain.append(before)
        weight.append(weight[-1] + _weight(sizes, before) if going else weight[-1])
    best: tuple[float, int, list[Step]] = (0.0, 0, [])
    for length in range(1, len(chain) + 1):
        steps = _steps(sizes, chain[:length])
        if steps is None:
            continue
        saved = weight[length - 1] - sum(
            _WEIGHTS.get(kind, 1.0) + isinstance(detail, ir.Value) for kind, detail in steps
        )
        if saved > best[0] or (best[1] and saved == best[0] and len(steps) <= len(best[2])):
            best = (saved, length, steps)
    if not best[1]:
        return
    value = chain[best[1] - 1].inputs[0]
    assert value is not None
    for index, (kind, detail) in enumerate(best[2]):
        like = result if index == len(best[2]) - 1 else None
        if kind == "Transpose":
            assert isinstance(detail, tuple)
            value = editor.put(last, kind, (value,), {"perm": detail}, like=like)
        else:
            read = editor.constant(detail) if isinstance(detail, tuple) else detail
            value = editor.put(last, kind, (value, read), like=like)
    editor.replace(result, value)


def _weight(sizes: Sizes, node: ir.Node) -> float:
    """What an operator costs: one that moves numbers more, and one whose target has to be computed."""
    computed = is_op(node, "Reshape") and sizes.integers(node.inputs[1]) is None
    return _WEIGHTS.get(node.op_type, 1.0) + computed


def _producer(node: ir.Node) -> ir.Node | None:
    return node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None


def _steps(sizes: Sizes, chain: Sequence[ir.Node]) -> list[Step] | None:
    """The fewest operators that do what `chain`, last operator first, does."""
    source = chain[-1].inputs[0]
    shape = sizes.shape(source) if source is not None else None
    found = Arrangement.of(shape) if shape is not None else None
    for node in reversed(chain):
        if found is None:
            return None
        if node.op_type == "Transpose":
            order = node.attributes["perm"].as_ints() if "perm" in node.attributes else None
            found = found.transposed(order if order is not None else range(len(found.axes))[::-1])
        else:
            after = sizes.shape(node.outputs[0])
            found = found.reshaped(after) if after is not None else None
    if found is None or shape is None:
        return None
    read, order = found.steps()
    steps: list[Step | None] = []
    if read != shape:
        steps.append(_reading(sizes, shape, read, None))
    if order is not None:
        steps.append(("Transpose", tuple(order)))
        read = tuple(read[axis] for axis in order)
    if read != found.shape:
        steps.append(_reading(sizes, read, found.shape, chain[0]))
    return None if None in steps else [step for step in steps if step is not None]


def _reading(
    sizes: Sizes, given: tuple[Size, ...], wanted: tuple[Size, ...], last: ir.Node | None
) -> Step | None:
    """A Squeeze or Unsqueeze if only axes of size 1 come or go, else a Reshape, if a target is at hand."""
    for kind, longer, shorter in (("Squeeze", given, wanted), ("Unsqueeze", wanted, given)):
        axes = _ones(longer, shorter)
        if axes is not None:
            return kind, axes
    constant = target(given, wanted)
    if constant is not None:
        return "Reshape", constant
    if last is not None and is_op(last, "Reshape") and 0 not in (sizes.numbers(last.inputs[1]) or (0,)):
        return "Reshape", last.inputs[1]
    return None


def _ones(longer: tuple[Size, ...], shorter: tuple[Size, ...]) -> tuple[int, ...] | None:
    """The axes of size 1 without which `longer` is `shorter`."""
    axes, rest = [], list(shorter)
    for axis, size in enumerate(longer):
        if rest and rest[0] == size:
            rest.pop(0)
        elif size == 1:
            axes.append(axis)
        else:
            return None
    return tuple(axes) if not rest else None
