"""Smooth weights by the columns of a cosine transform that the runtime computes: nothing of it is stored."""

from __future__ import annotations

from collections.abc import Iterator
from math import pi
from typing import Any

import torch
from tdsl.passes.share.layers import Dense, dense_layers, explanation, linear, require_share
from torch import Tensor, fx

from tdsl.engine.census import macs_of
from tdsl.engine.driver import Scope
from tdsl.engine.edit import Editor
from tdsl.engine.explain import Explanation
from tdsl.engine.journal import Journal
from tdsl.engine.passes import GraphPass, graph_pass
from tdsl.engine.rule import Replacement, Rule
from tdsl.engine.stage import stage
from tdsl.engine.staged import Constant
from tdsl.engine.statistics import Statistics
from tdsl.engine.workspace import Workspace
from tdsl.factor.cosine import Cosines, cosines
from tdsl.factor.families import Alone
from tdsl.ops import OPERATORS


@graph_pass
class SharedCosines(GraphPass):
    """Write dense layers as few columns of a cosine transform, which no file holds, where that is smaller.

    `error` bounds what each layer loses: of its weight, or with calibration data of its output. `macs` bounds
    its operations, as a share of what it takes now.
    """

    name = "share.cosines"
    parameters = "error: Real = 1%, macs: Ratio = 100%"
    approximate = True

    def rewrite(self, module: fx.GraphModule, journal: Journal, scope: Scope | None = None) -> int:
        """Rewrite every layer where it pays. Raises `TdslError` for a parameter out of range."""
        work = Workspace(module)
        editor = Editor(work)
        count = 0
        layers = dense_layers(module, scope, self.name)
        asked = [request for dense in layers for request in dense.requests() or ()]
        statistics = self.statistics(module, asked)
        for dense, found, mean, reason in self._found(work, scope, statistics) if work.typed else ():
            if journal.full:
                break
            if found is None or reason:
                continue
            _rewrite(editor, dense, found, mean, journal)
            count += 1
        if count:
            module.graph.lint()
        return count

    def explain(self, module: fx.GraphModule, limit: int = 5) -> Explanation:
        """Which layers would be rewritten, and why the others are not; by their weights alone."""
        found = list(self._found(Workspace(module), None, None))
        fired = [dense.node for dense, _, _, reason in found if not reason]
        left = [(dense.node, reason) for dense, _, _, reason in found if reason]
        return explanation(self.name, fired, left, limit)

    def _found(
        self, work: Workspace, scope: Scope | None, statistics: Statistics | None
    ) -> Iterator[tuple[Dense, Cosines | None, Tensor | None, str]]:
        """Each layer with its columns, the mean of its inputs, and the reason why it is left alone."""
        error, macs = self.values["error"], self.values["macs"]
        require_share("error", error, 1, self.span)
        require_share("macs", macs, 100, self.span)
        for dense in dense_layers(work.module, scope, self.name):
            layer, mean = dense.layer(work, statistics)
            if layer is None:
                yield dense, None, None, "its weight gives nothing but zeros"
                continue
            found, alone = cosines(layer, error), Alone.of(layer, error).numbers
            reason = ""
            if found.numbers >= alone:
                reason = f"its columns take {found.numbers} numbers, the weight or two factors of it {alone}"
            elif found.macs > macs * layer.weight.numel():
                share = 100 * found.macs / layer.weight.numel()
                reason = f"it would take {share:.0f} % of its operations, {100 * macs:g} % are allowed"
            yield dense, found, mean, reason


def _rewrite(editor: Editor, dense: Dense, found: Cosines, mean: Tensor | None, journal: Journal) -> None:
    """Put the two products in the place of a layer."""
    work = editor.work
    weight = work.evaluate(dense.weight)
    bias = dense.corrected_bias(work, weight - found.rebuilt(), mean)
    core = Constant(found.core, dense.dtype, "core", dense.weight)
    value = linear(work, linear(work, dense.x, _waves(work, dense, found)), core, bias)
    before = macs_of(work, (dense.node,))
    rule = Rule(SharedCosines.name, (), approximate=True)
    edit = editor.apply(Replacement(rule, (dense.node,), (value,), (dense.node,)), journal.next_number)
    added = len(weight) if dense.bias is None and mean is not None else 0
    made = sum(node.op == "call_function" for node in edit.created)
    journal.note(
        SharedCosines.name,
        dense.node,
        saved_nodes=1 - made,
        saved_parameters=weight.numel() - found.core.numel() - added,
        saved_macs=before - before * found.macs // weight.numel(),
        details={"columns": len(found.frequencies)},
        error=found.error,
    )


def _waves(work: Workspace, dense: Dense, found: Cosines) -> Any:
    """cos(π/2n · (k·(2i + 1) mod 4n)), [r, n], from the frequencies k alone, in whole numbers at first.

    A function of a range is no constant to the engine, so that it stays a term of a few numbers.
    """
    size = found.columns
    place = {"dtype": torch.int64, "device": torch.device("cpu")}
    odd = stage(work, OPERATORS["arange"], {"start": 1, "end": 2 * size, "step": 2, **place})
    frequencies = Constant(found.frequencies[:, None], torch.int64, "frequencies", dense.weight)
    product = stage(work, OPERATORS["mul"], {"x": frequencies, "y": odd})
    turned = stage(work, OPERATORS["remainder"], {"x": product, "y": 4 * size})
    unit = Constant(torch.tensor([pi / (2 * size)], dtype=torch.float64), dense.dtype, "unit", dense.weight)
    return stage(work, OPERATORS["cos"], {"x": stage(work, OPERATORS["mul"], {"x": turned, "y": unit})})
