"""Last touches on an ONNX model: one initializer for each content, user's names, no needless text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import onnx_ir as ir
import onnx_ir.passes.common as passes

from tdsl.capture.captured import Captured
from tdsl.emit.choices import choose
from tdsl.emit.defaults import leave_out_defaults
from tdsl.emit.duplicates import Shared, share_equal_weights
from tdsl.emit.editing import Editor
from tdsl.emit.flat import flatten_layers
from tdsl.emit.joined import count_from_front
from tdsl.emit.padded import keep_zeros
from tdsl.emit.rearranging import rearrange
from tdsl.emit.reciprocals import divide
from tdsl.emit.slices import merge_slices
from tdsl.emit.targets import fix_targets, fold_sizes
from tdsl.emit.weighted import weigh


def tidy(model: ir.Model, captured: Captured) -> tuple[Shared, ...]:
    """Name what goes in and out, and remove duplicates and dead values, in place; what was shared then."""
    shared = share_equal_weights(model)
    passes.IdentityEliminationPass()(model)
    shorten(model)
    passes.RemoveUnusedNodesPass()(model)
    passes.OutputFixPass()(model)  # an output of its own for a value returned twice or passed through
    passes.RemoveUnusedOpsetsPass()(model)
    rename(model.graph.inputs, captured.input_names, model)
    rename(model.graph.outputs, captured.output_names, model)
    name_axes(
        model,
        {axis.symbol: axis.name for axes in captured.dynamic_axes for axis in axes.values()},
    )
    return shared


def shorten(model: ir.Model) -> None:
    """Say the same by fewer operators, and compute nothing at run time that is known before, in place."""
    editor = Editor(model)
    fold_sizes(editor)
    leave_out_defaults(editor)
    choose(editor)
    fix_targets(editor)
    merge_slices(editor)
    rearrange(editor)
    flatten_layers(editor)
    divide(editor)
    weigh(editor)
    keep_zeros(editor)
    count_from_front(editor)


def rename(values: Sequence[ir.Value], names: Sequence[str], model: ir.Model) -> None:
    """Give `values` these names; another value that has one of them makes way."""
    graph = model.graph
    wanted = dict(zip(names, values, strict=True))
    others = [*graph.inputs, *graph.initializers.values(), *(o for node in graph for o in node.outputs)]
    taken = {value.name for value in others} | set(names)
    for value in others:
        if value.name in wanted and wanted[value.name] is not value:
            old, count = value.name, 1
            while f"{old}_{count}" in taken:
                count += 1
            taken.add(f"{old}_{count}")
            if value.is_initializer():
                del graph.initializers[old]
                value.name = f"{old}_{count}"
                graph.initializers[value.name] = value
            else:
                value.name = f"{old}_{count}"
    for name, value in wanted.items():
        value.name = name


def name_axes(model: ir.Model, names: Mapping[str, str]) -> None:
    """Replace torch's symbols in the shapes of inputs and outputs: `2*s23` becomes `2*batch`."""
    if not names:
        return
    symbol = re.compile(r"\b(" + "|".join(sorted(map(re.escape, names))) + r")\b")
    for value in (*model.graph.inputs, *model.graph.outputs):
        if value.shape is None:
            continue
        value.shape = ir.Shape(
            [
                symbol.sub(lambda found: names[found.group(1)], dim.value)
                if isinstance(dim, ir.SymbolicDim) and dim.value is not None
                else dim
                for dim in value.shape
            ]
        )


def forget_inner_shapes(model: ir.Model) -> None:
    """Forget the shapes inside: every runtime infers them, and they fill small files."""
    graph = model.graph
    for value in (*graph.initializers.values(), *(output for node in graph for output in node.outputs)):
        if not value.is_graph_output():
            value.shape = None
            value.type = None
