"""From a captured model to what verification needs: its inputs with their ranges, and how to run it."""

from __future__ import annotations

from torch import fx

from tdsl.capture import Captured
from tdsl.verify.runner import Runner, module_runner
from tdsl.verify.samples import Input, Range
from tdsl.verify.tolerance import Double, double_runs


def inputs_of(captured: Captured) -> tuple[tuple[Input, ...], dict[str, Range]]:
    """The inputs of `captured`, and the sizes its dynamic dimensions may have: for `draw_samples`."""
    inputs = []
    ranges: dict[str, Range] = {}
    for name, value, axes in zip(
        captured.input_names, captured.flat_args(), captured.dynamic_axes, strict=True
    ):
        multiples = {axis: (what.times, what.more) for axis, what in axes.items()}
        inputs.append(Input(name, value, {axis: what.name for axis, what in axes.items()}, multiples))
        for what in axes.values():
            ranges.setdefault(what.name, (what.minimum, what.maximum))
    return tuple(inputs), ranges


def original_runner(captured: Captured) -> Runner:
    """The user's model as a runner."""
    return module_runner(captured.original, captured.args, captured.kwargs)


def double_of(captured: Captured, rewritten: fx.GraphModule | None = None) -> Double:
    """The captured graph, before rewriting, and `rewritten`, both in float64.

    The graph stands for the original, because dtypes written in it can be widened; the file is
    compared with the original itself as well. Raises `NotInDouble`.
    """
    return double_runs(captured.module, rewritten, captured.args, captured.kwargs)
