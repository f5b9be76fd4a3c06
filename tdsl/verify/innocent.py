"""Why a file may differ from its model though no rewrite is to blame."""

from __future__ import annotations

from collections.abc import Sequence

from torch import fx

from tdsl.capture import Captured
from tdsl.frames import frames_of, shown_path, user_frame
from tdsl.ops.targets import operator_of
from tdsl.verify.samples import Sample
from tdsl.verify.verdict import CAPTURE, Verdict

_CHOOSING = frozenset(
    {
        "argmax",
        "argmin",
        "argsort",
        "max_and_index",
        "min_and_index",
        "nonzero",
        "sort",
        "sort_stable",
        "topk",
    }
)


MISCAPTURED = (
    "torch.export, or an operator that was taken apart, gives another function than the "
    "model; please report it, with the operators that the model uses"
)


def innocent(captured: Captured, verdict: Verdict, samples: Sequence[Sample]) -> str:
    """What is to blame for a verdict where no rewrite is, and what to do about it."""
    failed = [sample for sample in samples if any(one.sample == sample.name for one in verdict.violations)]
    other = any(one.metric == CAPTURE for one in verdict.violations)
    found = _assumed(captured, failed) or (MISCAPTURED if other else _chosen(captured.module))
    return found or "the file of the original differs as well, by the exporter or by onnxruntime"


def _assumed(captured: Captured, failed: Sequence[Sample]) -> str:
    """A branch on sizes that took another way in the example than it takes in one of `failed`, else empty."""
    names = {axis.symbol: axis.name for axes in captured.dynamic_axes for axis in axes.values()}
    for sample in failed:
        sizes = {
            axis.symbol: (int(value.shape[place]) - axis.more) // axis.times
            for value, axes in zip(sample.inputs, captured.dynamic_axes, strict=True)
            for place, axis in axes.items()
        }
        found = next((one for one in captured.assumed if one.broken_by(sizes)), None)
        if found is not None:
            condition, (file, line) = found.called(names), found.place
            return (
                f"the branch at {shown_path(file)}:{line} took the way of the example, where `{condition}`, "
                f"which is false of sample '{sample.name}': write that step without a branch on the size, or "
                'declare sizes that keep it (`4 * Dim("chunks")`, say), or leave it out of `dynamic_shapes`'
            )
    return ""


def _chosen(module: fx.GraphModule) -> str:
    """A choice of some entries by their values, which rounding may turn, else empty."""
    for node in module.graph.nodes:
        operator = operator_of(node.target) if node.op == "call_function" else None
        if operator is not None and operator.name in _CHOOSING:
            place = user_frame(frames_of(node.meta.get("stack_trace", "")))
            where = f" ({shown_path(place[0])}:{place[1]})" if place else ""
            return (
                f"the model chooses by `{operator.name}`{where}: where values are equal up to rounding, as "
                "those of untrained weights are, the file may choose others"
            )
    return ""
