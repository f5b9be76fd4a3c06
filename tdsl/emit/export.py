"""Calls torch's ONNX exporter quietly, helps it where it has no lowering, and explains where that fails."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import onnx_ir as ir
import torch
from onnxscript import optimizer
from onnxscript.rewriter import onnx_fusions
from torch import fx
from torch._guards import detect_fake_mode
from torch._ops import HigherOrderOperator
from torch.export import ExportedProgram
from torch.onnx._constants import ONNX_DEFAULT_OPSET
from torch.onnx._internal.exporter import _core, _registration
from torch.onnx._internal.exporter._decomp import (
    create_onnx_friendly_decomposition_table,
    get_onnx_implemented_overloads,
)

from tdsl.capture.failure import line_span
from tdsl.capture.recurrences import any_length
from tdsl.emit.extremes import EXTREMES
from tdsl.emit.grouped import added, lowerings
from tdsl.emit.masked import ATTENTION_OPSET, MASKED
from tdsl.emit.program import NODE_ID
from tdsl.emit.recurrent import LOWERINGS
from tdsl.emit.spelt import OVERFLOWING, WITHOUT_FORM
from tdsl.errors import TdslError
from tdsl.frames import frames_of, user_frame
from tdsl.provenance import module_path

aten = torch.ops.aten

OLDEST_OPSET, NEWEST_OPSET = 18, 25
"""The operator sets that torch's exporter is known to write faithfully."""


def _attention(query: Any, key: Any, value: Any, attn_mask: Any = None, *args: Any, **kwargs: Any) -> Any:
    """`scaled_dot_product_attention` by matrix products, for ranks that ONNX's lowering does not know."""
    if attn_mask is not None and attn_mask.dtype == torch.bool:  # which torch's own form of it would add up
        attn_mask = torch.where(attn_mask, 0.0, float("-inf")).to(query.dtype)
    return aten._scaled_dot_product_attention_math.default(query, key, value, attn_mask, *args, **kwargs)[0]


LARGE, SPREAD = 1024, 4
"""A constant of more entries, and so many times those that it is computed from, is not stored."""
_DECOMPOSED: Mapping[Any, Callable[..., Any]] = {
    aten.scaled_dot_product_attention.default: _attention,
    **WITHOUT_FORM,
}


def to_onnx(program: ExportedProgram, nodes: Mapping[str, fx.Node], opset: int | None) -> ir.Model:
    """`program` as an unoptimised ONNX model; `nodes` are the originals, by the names in its `NODE_ID`s.

    An operator without a working lowering is taken apart by torch, once for each operator, and tried again.

    Raises:
        TdslError: an operator has no ONNX form, or the opset is out of range.
    """
    if opset is not None and not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise TdslError(
            f"opset {opset} is not available", expected=f"an opset from {OLDEST_OPSET} to {NEWEST_OPSET}"
        )
    version = ONNX_DEFAULT_OPSET if opset is None else opset
    tried: set[Any] = set()
    called = {node.target for node in program.graph.nodes}
    overflowing = {target: spelt for target, spelt in OVERFLOWING.items() if target in called}
    if overflowing:
        with quiet(), any_length():
            program = program.run_decompositions(overflowing)
    while True:
        try:
            with quiet(), any_length(), _no_symbol_left_behind(program):
                registry = _registry(version, added())
                return _core.export(
                    program, registry=registry, opset_version=version, verbose=False, optimize=False
                ).model
        except torch.onnx.OnnxExporterError as error:
            failed = _failed_node(error, program, registry)
            if failed is None:
                raise
            decomposition = _decomposition(failed.target)
            if failed.target in tried or decomposition is None:
                raise _unsupported(failed, error, nodes) from None
            tried.add(failed.target)
            with quiet(), any_length():
                program = program.run_decompositions({failed.target: decomposition})


@functools.cache
def _registry(opset: int, others: tuple[str, ...]) -> _registration.ONNXRegistry:
    """torch's lowerings for an operator set, and ours. `torch.onnx.export` reads its own in every call.

    `others` are the operators of other libraries that are loaded by now.
    """
    registry = _registration.ONNXRegistry.from_torchlib(opset_version=opset)
    masked = MASKED if opset < ATTENTION_OPSET else {}
    for target, lowering in {**LOWERINGS, **EXTREMES, **masked, **lowerings(others)}.items():
        registry.register_op(target, lowering)
    return registry


def optimise(model: ir.Model) -> None:
    """The exporter's own optimiser, except that a tied weight is never stored a second time transposed."""
    with quiet():
        optimizer.optimize_ir(model, should_fold=_should_fold)
        onnx_fusions.fuse(model)


def _should_fold(node: ir.Node) -> bool | None:
    """Fold the transpose of a weight if the weight itself is not needed besides; otherwise as by default.

    What spreads a few constants over a large table stays as it is: onnxruntime computes it when it loads the
    model, and the file does not hold it.
    """
    if _spreads(node):
        return False
    source = node.inputs[0] if node.op_type == "Transpose" and node.inputs else None
    if source is None or not source.is_initializer():
        return None
    return len(source.uses()) == 1


def _spreads(node: ir.Node) -> bool:
    """Whether a result of known size is large, and several times as large as all that it is made of."""
    shape = node.outputs[0].shape if len(node.outputs) == 1 else None
    if shape is None or not shape.is_static():
        return False
    size = math.prod(shape.numpy())
    read = [value.const_value for value in node.inputs if value is not None]
    return size > LARGE and size > SPREAD * sum(tensor.size for tensor in read if tensor is not None)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing of torch's or onnxscript's on the terminal: no prints, warnings or log lines."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            torch.no_grad(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)


@contextlib.contextmanager
def _no_symbol_left_behind(program: ExportedProgram) -> Iterator[None]:
    """Forget the unbacked sizes that decompositions made up and dropped.

    Taking `index` apart leaves one pending in the shape environment, which the next export of the same model
    would be refused for.
    """
    mode = detect_fake_mode([node.meta["val"] for node in program.graph.nodes if "val" in node.meta])
    environment = mode.shape_env if mode is not None else None
    try:
        yield
    finally:
        if environment is not None:
            environment.pending_fresh_unbacked_symbols.clear()


# ---------------------------------------------------------------- failures


def _messages(error: BaseException) -> Iterator[str]:
    """The messages of an exception and of what caused it, outermost first."""
    current: BaseException | None = error
    while current is not None:
        yield str(current)
        current = current.__cause__ or current.__context__


_TARGET = re.compile(r"torch\.ops\.(?:higher_order\.)?(?P<target>(?<=higher_order\.)\w+|\w+\.\w+\.\w+)")


def _failed_node(
    error: BaseException, program: ExportedProgram, registry: _registration.ONNXRegistry
) -> fx.Node | None:
    """The node of `program` at which translation stopped."""
    text = "\n".join(_messages(error))
    targets = {found["target"] for found in _TARGET.finditer(text)}
    calls: list[fx.Node] = [node for node in program.graph.nodes if node.op == "call_function"]
    for node in calls:
        if str(node.target) in targets:
            return node
    # An operator that only appears once others are decomposed: its mark leads back to the one we know.
    table = create_onnx_friendly_decomposition_table(set(get_onnx_implemented_overloads(registry)))
    with quiet():
        inner = program.run_decompositions(table).graph.nodes
    marks = {node.meta.get("stack_trace") for node in inner if str(node.target) in targets}
    found = next((node for node in calls if node.meta.get("stack_trace") in marks), None)
    return found or next((node for node in calls if _names(node.target) & set(map(_bare, targets))), None)


def _bare(target: str) -> str:
    """`bessel_j0` for `prims.bessel_j0.default`."""
    return target.split(".")[1]


def _names(target: Any) -> set[str]:
    """What an operator may be called in another namespace: `special_bessel_j0` is `bessel_j0` as well."""
    parts = str(target).split(".")
    return {parts[1], parts[1].removeprefix("special_")} if len(parts) > 1 else set()


def _decomposition(target: Any) -> Callable[..., Any] | None:
    """How torch computes `target` by other operators; `None` when it has no such rule."""
    if target in _DECOMPOSED:
        return _DECOMPOSED[target]
    table = torch.export.default_decompositions()
    return table.get(target, None)


def _unsupported(failed: fx.Node, error: BaseException, nodes: Mapping[str, fx.Node]) -> TdslError:
    name = str(failed.meta.get("stack_trace", "")).removeprefix(NODE_ID)
    original = nodes.get(name)
    trace = original.meta.get("stack_trace", "") if original is not None else ""
    frame = user_frame(frames_of(trace))
    place = f" in module `{module_path(original)}`" if original is not None and module_path(original) else ""
    target = failed.target if original is None else original.target
    if isinstance(target, HigherOrderOperator):
        return TdslError(
            f"the exporter cannot write torch.{target}{place} as ONNX",
            line_span(*frame) if frame else None,
            hint="it writes torch.cond whose branches make no tensors of their own, while_loop and scan: "
            "make constants outside of the branches, or write the step without branches",
        )
    innermost = [text for text in _messages(error) if text][-1].splitlines()[0]
    reason = re.sub(r"<OpOverload\(op='(.*?)', overload='(.*?)'\)>", r"\1.\2", innermost.partition(". ")[0])
    return TdslError(
        f"the operator {target}{place} has no ONNX form: {reason}",
        line_span(*frame) if frame else None,
        hint="write this step with other operators, try another opset, or rewrite the operator with a rule",
    )
