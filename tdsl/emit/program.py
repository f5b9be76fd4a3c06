"""A rewritten graph module as an `ExportedProgram`, without tracing it again.

Constants become lifted inputs, tensors that go in and out become a flat signature; shapes, symbols and their
ranges are those already in the graph.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx
from torch._export.verifier import TrainingIRVerifier
from torch._guards import detect_fake_mode
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import ExportedProgram
from torch.export.exported_program import ModuleCallEntry, ModuleCallSignature
from torch.export.graph_signature import (
    ExportGraphSignature,
    InputKind,
    InputSpec,
    OutputKind,
    OutputSpec,
    TensorArgument,
)
from torch.utils import _pytree as pytree

from tdsl.capture.captured import Captured
from tdsl.capture.normal import attribute, normalise
from tdsl.emit.inserting import Inserter
from tdsl.emit.projected import LSTM, without_projections
from tdsl.emit.settled import SettledProgram, settle
from tdsl.ops.targets import operator_of

_ATTENTION = torch.ops.aten.scaled_dot_product_attention.default

NODE_ID = "tdsl_node_"
"""What the copy of a node says in place of its stack trace, with the node's name after it.

The exporter hands a stack trace through every decomposition to the ONNX nodes that come of it.
"""


def exported_program(captured: Captured, module: fx.GraphModule) -> ExportedProgram:
    """A copy of `module` as a program of `captured`'s tensor inputs and outputs, in their order."""
    return _lifted(captured, _flat(module), ExportedProgram)


def settled_program(captured: Captured, module: fx.GraphModule) -> ExportedProgram:
    """The same for the exporter: spelt so that it traces the program no second time where it need not."""
    flat = _flat(module)
    settle(flat.graph)
    return _lifted(captured, flat, SettledProgram)


def _flat(module: fx.GraphModule) -> fx.GraphModule:
    """A copy that returns its tensors in a row, in the spelling that ONNX's lowerings want."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    result = graph.graph_copy(module.graph, copies)
    for original, node in copies.items():
        if original.op == "call_function":  # a size that tracing asked for belongs to whatever reads it
            size = isinstance(original.meta.get("val"), torch.SymInt)
            node.meta["stack_trace"] = "" if size else f"{NODE_ID}{original.name}"
    graph.output(_distinct(graph, pytree.tree_leaves(result)))
    flat = normalise(fx.GraphModule(module, graph))
    for node in flat.graph.find_nodes(op="call_function", target=_ATTENTION):
        _attend_in_rank_four(node)
    for node in flat.graph.find_nodes(op="call_function", target=LSTM):
        without_projections(node)
    for node in flat.graph.nodes:
        _count_axes_from_the_first(node)
    return flat


def _attend_in_rank_four(node: fx.Node) -> None:
    """Give attention over tensors without axes for batch and heads those axes: ONNX's lowering wants four."""
    query = node.args[0]
    missing = 4 - query.meta["val"].dim() if isinstance(query, fx.Node) else 0
    if missing <= 0:
        return

    def each(value: Any) -> Any:
        """Leading axes of size 1; a mask broadcasts as it is."""
        for _ in range(missing):
            value = insert.call(torch.ops.aten.unsqueeze.default, value, 0)
        return value

    with Inserter(node) as insert:
        attended = insert.call(_ATTENTION, *map(each, node.args[:3]), *node.args[3:], **node.kwargs)
        for _ in range(missing):
            attended = insert.call(torch.ops.aten.squeeze.dim, attended, 0)
    node.replace_all_uses_with(attended)
    node.graph.erase_node(node)


def _count_axes_from_the_first(node: fx.Node) -> None:
    """Undo the normal form's negative axes: the exporter's own fusions look for the others."""
    op = operator_of(node.target) if node.op == "call_function" else None
    first = node.args[0] if node.args else None
    if op is None or not isinstance(first, fx.Node) or not isinstance(first.meta.get("val"), torch.Tensor):
        return
    rank = first.meta["val"].dim()

    def positive(value: Any, count: int) -> Any:
        if isinstance(value, (list, tuple)):
            return [positive(item, count) for item in value]
        return value + max(count, 1) if isinstance(value, int) and value < 0 else value

    extra = {"dim": 0, "dims": 0, "axes": 0, "newdim": 1}
    node.args = tuple(
        positive(value, rank + extra[param.kind]) if param.kind in extra else value
        for param, value in zip(op.params, node.args, strict=False)
    ) + tuple(node.args[len(op.params) :])


def _distinct(graph: fx.Graph, results: Sequence[Any]) -> tuple[fx.Node, ...]:
    """The tensors among the results, each computed by a node of its own, as ONNX demands."""
    tensors = [r for r in results if isinstance(r, fx.Node) and isinstance(r.meta["val"], torch.Tensor)]
    for i, node in enumerate(tensors):
        if node.op in ("placeholder", "get_attr") or node in tensors[:i]:
            clone = graph.call_function(torch.ops.aten.clone.default, (node,))
            clone.meta = {"val": node.meta["val"], "stack_trace": f"{NODE_ID}{node.name}"}
            tensors[i] = clone
    return tuple(tensors)


def _lifted(captured: Captured, gm: fx.GraphModule, program: type[ExportedProgram]) -> ExportedProgram:
    graph = gm.graph
    inputs: list[fx.Node] = []
    for node in graph.find_nodes(op="placeholder"):
        if isinstance(node.meta["val"], torch.Tensor):
            inputs.append(node)
        else:  # a number, flag or `None` that tracing made a constant of
            node.replace_all_uses_with(node.meta["val"])
            graph.erase_node(node)
    values = [node.meta["val"] for node in graph.nodes if "val" in node.meta]
    fake_mode = detect_fake_mode(values) or FakeTensorMode()
    parameters = dict(gm.named_parameters())
    persistent = set(gm.state_dict())
    state: dict[str, Any] = {}
    constants: dict[str, Any] = {}
    specs: list[InputSpec] = []
    first = next(iter(graph.nodes))
    for node in graph.find_nodes(op="get_attr"):
        path, value = str(node.target), attribute(gm, str(node.target))
        if not isinstance(value, torch.Tensor):
            continue  # the branch of a torch.cond
        with graph.inserting_before(first):
            lifted = graph.placeholder(f"c_{node.name}")
        lifted.meta = copy.copy(node.meta)
        fake = node.meta.get("val")
        lifted.meta["val"] = fake_mode.from_tensor(value, static_shapes=True) if fake is None else fake
        node.replace_all_uses_with(lifted)
        graph.erase_node(node)
        is_parameter = path in parameters
        kept = is_parameter or path in persistent
        (state if kept else constants)[path] = value
        kind = InputKind.PARAMETER if is_parameter else InputKind.BUFFER
        specs.append(
            InputSpec(kind, TensorArgument(lifted.name), path, None if is_parameter else path in persistent)
        )
    specs += [InputSpec(InputKind.USER_INPUT, TensorArgument(node.name), None) for node in inputs]
    outputs: tuple[fx.Node, ...] = graph.output_node().args[0]  # type: ignore[assignment]
    signature = ExportGraphSignature(
        specs, [OutputSpec(OutputKind.USER_OUTPUT, TensorArgument(node.name), None) for node in outputs]
    )
    example = tuple(captured.flat_args())
    call = ModuleCallSignature(
        inputs=[],
        outputs=[],
        in_spec=pytree.tree_structure((example, {})),
        out_spec=pytree.tree_structure(tuple(range(len(outputs)))),
        forward_arg_names=[node.name for node in inputs],
    )
    made = program(
        root=gm,
        graph=graph,
        graph_signature=signature,
        state_dict=state,
        range_constraints=dict(captured.range_constraints),
        module_call_graph=[ModuleCallEntry("", call)],
        example_inputs=(example, {}),
        constants=constants,
        verifiers=[TrainingIRVerifier],
    )
    made._guards_code = []  # torch reads there what the user's model asked of inputs by other names
    return made
