"""Fewer hidden units, each an average of units that do nearly the same, by optimal transport."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from tdsl.engine.census import macs_of
from tdsl.engine.driver import Scope
from tdsl.engine.edit import Editor
from tdsl.engine.journal import Journal
from tdsl.engine.passes import GraphPass, graph_pass
from tdsl.engine.rule import Replacement, Rule
from tdsl.engine.stage import stage
from tdsl.engine.staged import CannotStage, Constant, Staged
from tdsl.engine.statistics import Request, Statistics, request_of
from tdsl.engine.workspace import Workspace
from tdsl.errors import TdslError
from tdsl.factor.interpolative import interpolative
from tdsl.factor.transport import merging
from tdsl.ops import OPERATORS
from tdsl.ops.targets import operator_of
from tdsl.provenance import REWRITE
from tdsl.symmetry.hidden.groups import hidden_symmetry
from tdsl.symmetry.hidden.infer import Inference
from tdsl.symmetry.hidden.layout import Atom, atoms_in
from tdsl.symmetry.hidden.roles import roles_of

DAMPING = 1e-8
"""Share of the mean variance added where the next layer is solved anew."""


@dataclass(frozen=True, eq=False)
class _Hidden:
    """Hidden units between dense layers: what makes them, one by one, and the dense layers that read them."""

    atom: int
    size: int
    inference: Inference
    carried: tuple[fx.Node, ...]
    consumers: tuple[fx.Node, ...]
    own: frozenset[tuple[fx.Node, int]]

    @property
    def nodes(self) -> tuple[fx.Node, ...]:
        """What is replaced."""
        return (*self.consumers, *self.carried)

    @property
    def units(self) -> fx.Node:
        """The activations, [..., h]."""
        return self.consumers[0].args[0]  # type: ignore[return-value]


@dataclass
class _Merged:
    """The units after a merge, as a term over the graph that has them as they were."""

    work: Workspace
    hidden: _Hidden
    plan: Tensor
    """What each unit is an average of, [k, h]."""
    _made: dict[fx.Node, Any] = field(default_factory=dict)

    def term(self, node: Any) -> Any:
        """The value of a node with merged units."""
        if isinstance(node, list | tuple):
            return type(node)(map(self.term, node))
        if not isinstance(node, fx.Node):
            return node
        if node not in self._made:
            axes = [axis for weight, axis in self.hidden.own if weight is node]
            if axes:
                values = self.work.evaluate(node)
                for axis in axes:
                    values = torch.tensordot(values, self.plan, dims=([axis], [1])).movedim(-1, axis)
                self._made[node] = Constant(values, self.work.tensor(node).dtype, "merged", node)
            elif node in self.hidden.carried:
                kwargs = {name: self.term(value) for name, value in node.kwargs.items()}
                self._made[node] = Staged(node.target, tuple(map(self.term, node.args)), kwargs)
            else:
                self._made[node] = node
        return self._made[node]


@graph_pass
class MergeNeurons(GraphPass):
    """Merge hidden units with activations near to one another; the layers that read them are solved anew.

    `width` is a number of units or a share of them. No layer is added. Equal units merge exactly; where units
    differ by more than a little, removing them (`factorize.linear.interpolative_neurons`) loses less.
    """

    name = "narrow.neurons"
    parameters = "width: Rank = 50%"
    approximate = True

    def rewrite(self, module: fx.GraphModule, journal: Journal, scope: Scope | None = None) -> int:
        """Merge in every hidden layer; each is one entry. Raises `TdslError` without calibration data."""
        count = 0
        while not journal.full and Workspace(module).typed:
            done = self._round(module, journal, scope)
            if not done:
                break
            count += done
        if count:
            module.graph.lint()
        return count

    def _round(self, module: fx.GraphModule, journal: Journal, scope: Scope | None) -> int:
        """Merge in hidden layers that have no dense layer in common: one that reads units may make others."""
        work = Workspace(module)
        asked: dict[_Hidden, tuple[Request, Request]] = {}
        taken: set[fx.Node] = set()
        for hidden in _hidden(module, scope):
            requests = _moments(hidden.units, work)
            if requests is not None and taken.isdisjoint(hidden.nodes):
                asked[hidden] = requests
                taken.update(hidden.nodes)
        if not asked:
            return 0
        known = self._known(module, [request for both in asked.values() for request in both])
        plans = {}
        for hidden, both in asked.items():
            plan = self._plan(work, hidden, *map(known.answer, both))
            if plan is not None:
                plans[hidden] = _Merged(work, hidden, plan)
        pairs = {hidden: _beside(merged) for hidden, merged in plans.items()}
        known = self._known(module, [request for both in pairs.values() for request in both])
        editor = Editor(work)
        count = 0
        for hidden, merged in plans.items():
            if journal.full:
                break
            covariance, mean = (known.answer(request) for request in pairs[hidden])
            self._carry_out(editor, merged, covariance, mean, journal)
            count += 1
        return count

    def _known(self, module: fx.GraphModule, asked: list[Request]) -> Statistics:
        statistics = self.statistics(module, asked)
        if statistics is None:
            raise TdslError(
                "merging hidden units needs calibration data",
                self.span,
                expected="samples of the model's inputs: `calibration=…`, or the option `--calibration`",
            )
        return statistics

    def _plan(self, work: Workspace, hidden: _Hidden, second: Tensor, covariance: Tensor) -> Tensor | None:
        """The averages that units become; the targets are those that removal would keep. → [k, h]."""
        read = torch.cat([work.evaluate(node.args[1]) for node in hidden.consumers])
        try:
            _, chosen = interpolative(read, covariance, self.values["width"])
        except TdslError as error:
            raise TdslError(error.message, self.span, expected=error.expected, hint=error.hint) from None
        return merging(second, chosen.argmax(1)) if len(chosen) < hidden.size else None

    def _carry_out(
        self, editor: Editor, merged: _Merged, covariance: Tensor, mean: Tensor, journal: Journal
    ) -> None:
        """Replace what reads the units by what is solved anew on merged ones, the mean corrected."""
        hidden, work, size = merged.hidden, editor.work, merged.hidden.size
        among, across, inside = covariance[:size, :size], covariance[:size, size:], covariance[size:, size:]
        damped = inside + DAMPING * inside.diagonal().mean() * torch.eye(len(inside), dtype=torch.float64)
        solved = torch.linalg.solve(damped, across.T).T
        lost = total = 0.0
        added = 0
        numbers = sum(work.tensor(weight).numel() for weight, _ in hidden.own)
        values = []
        for node in hidden.consumers:
            read, bias = node.args[1], (*node.args, None)[2]
            assert isinstance(read, fx.Node) and (bias is None or isinstance(bias, fx.Node))
            weight = work.evaluate(read)
            numbers += weight.numel()
            new = weight @ solved
            own = weight.new_zeros(len(weight)) if bias is None else work.evaluate(bias)
            added += len(weight) if bias is None else 0
            shift = own + weight @ mean[:size] - new @ mean[size:]
            left = weight @ among @ weight.T - 2 * new @ across.T @ weight.T + new @ inside @ new.T
            lost += float(left.trace())
            total += float((weight @ among @ weight.T).trace())
            dtype = work.tensor(read).dtype
            arguments = {
                "x": merged.term(hidden.units),
                "weight": Constant(new, dtype, "", read),
                "bias": Constant(shift, dtype, "", bias),
            }
            values.append(stage(work, OPERATORS["linear"], arguments))
        matched = hidden.nodes
        before = macs_of(work, matched)
        share = 1 - len(inside) / size
        rule = Rule(self.name, (), approximate=True)
        editor.apply(Replacement(rule, hidden.consumers, tuple(values), matched), journal.next_number)
        journal.note(
            self.name,
            hidden.carried[0],
            matched,
            saved_parameters=round(numbers * share) - added,
            saved_macs=round(before * share),
            details={"units": size, "kept": len(inside)},
            error=math.sqrt(max(lost, 0.0) / total) if total else 0.0,
        )


def _hidden(module: fx.GraphModule, scope: Scope | None) -> Iterator[_Hidden]:
    """Hidden units made by dense layers, treated one by one, and read by nothing but dense layers."""
    symmetry = hidden_symmetry(module)
    for group in symmetry.groups:
        inference = symmetry.inference
        roles = roles_of(inference, group.atom)
        nodes = (*roles.carried, *roles.consumers)
        if roles.refused is not None or group.over or not roles.consumers or not roles.own:
            continue
        whole = all(
            layout == Atom(group.atom)
            for weight, axis in roles.own | roles.summed
            if group.atom in set(atoms_in(layout := inference.axes(weight)[axis]))
        )
        inner = {weight for weight, _ in roles.own}
        alone = all(set(weight.users) <= set(nodes) for weight in inner)
        reads = {node.args[0] for node in roles.consumers}
        dense = all(_name(node) == "linear" and _constant(node) for node in roles.consumers)
        if not (whole and alone and dense and len(reads) == 1 and all(map(_one_by_one, roles.carried))):
            continue
        if any(getattr(n.meta.get(REWRITE), "rule", "") == MergeNeurons.name for n in roles.consumers):
            continue
        if scope is None or all(map(scope, nodes)):
            own = frozenset(roles.own)
            yield _Hidden(
                group.atom, group.size, inference, tuple(roles.carried), tuple(roles.consumers), own
            )


def _one_by_one(node: fx.Node) -> bool:
    op = operator_of(node.target)
    return op is not None and (op.name in ("linear", "dropout") or op.pointwise or op.elementwise)


def _constant(node: fx.Node) -> bool:
    """Whether weight and bias of a dense layer are known."""
    return all(
        value is None or (isinstance(value, fx.Node) and value.op == "get_attr") for value in node.args[1:]
    )


def _moments(node: fx.Node, work: Workspace) -> tuple[Request, Request] | None:
    """Second moment and covariance of the units; `None` where they are too many to be known."""
    described = work.val(node)
    try:
        return request_of("second_moment", node, -1, described), request_of("covariance", node, -1, described)
    except CannotStage:
        return None


def _beside(merged: _Merged) -> tuple[Request, Request]:
    """Covariance and mean of the units and, behind them, the merged ones."""
    work, units = merged.work, merged.hidden.units
    both = stage(work, OPERATORS["concat"], {"tensors": [units, merged.term(units)], "dim": -1})
    described = work.val(both)
    return (
        request_of("covariance", both, -1, described),
        request_of("first_moment", both, -1, described),
    )


def _name(node: fx.Node) -> str:
    op = operator_of(node.target) if node.op == "call_function" else None
    return op.name if op is not None else ""
