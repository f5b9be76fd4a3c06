"""What a replacement does to the output of a model: to first order on a few samples, and measured.

To first order the difference δ that a replacement makes at its outputs is carried to the model's outputs by
gradients of random cotangents v, E‖J·δ‖² = E_v⟨Jᵀv, δ⟩² (Gauss–Newton): that is exact for whatever would be
built, and cheap for many candidates at one place. Measured, the model runs on from the replaced values.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from tdsl.engine.rule import Replacement
from tdsl.engine.staged import Constant, Filled, Staged, Value, map_values, parts_of
from tdsl.engine.workspace import Workspace
from tdsl.memory import give_back
from tdsl.plan.calibrate import Data, samples_in
from tdsl.plan.cotangents import gradients
from tdsl.plan.execute import Batch, Execution
from tdsl.plan.shelf import Fetch, Shelf
from tdsl.verify.compare import Difference, compare, over_outputs, over_samples

PROBES = 4
"""Random cotangents for each probe batch."""
PROBE_BATCHES = 32
LEAST_SAMPLES, PROBE_SAMPLES = 24, 512
"""Probe batches are taken until there are this many, or samples in them, or their values fill the memory; so
few samples are taken whatever they fill.
"""
MEASURED_BATCHES = 48
MEASURED_SAMPLES = 128
"""Batches on which single candidates are measured: this many, or that many samples in them, at most."""
AT_ONCE = 8
"""Samples that run through the model at once, where batches can be cut."""
FEWEST = 4
"""Batches on which a measurement rests at least, where there are so many."""
PRECISION = 0.03
"""A measurement ends when its squared error is known to this share (one standard error)."""


@dataclass(frozen=True, slots=True)
class Change:
    """Nodes of a graph and the values, nodes or staged terms, that would take their places."""

    outputs: tuple[fx.Node, ...]
    values: tuple[Any, ...]
    in_turn: bool = False
    """Whether later values are computed from what earlier ones change."""

    @classmethod
    def of(cls, found: Replacement, work: Workspace) -> Change:
        """A replacement, what is known of it at compile time computed as the rewrite would deploy it."""
        known: dict[int, Any] = {}
        settled = tuple(_settled(value, work, known) for value in found.values)
        return cls(found.outputs, settled, found.in_turn)

    def on(self, run: Execution) -> dict[fx.Node, Any]:
        """The new values on one batch, from the values of a run."""
        with torch.no_grad():
            return {old: run.value(new) for old, new in zip(self.outputs, self.values, strict=True)}

    def reads(self) -> set[fx.Node]:
        """The nodes that the new values are computed from."""
        return {p for p in parts_of(self.values) if isinstance(p, fx.Node) and p.op != "get_attr"}


class Probes:
    """A few samples run through a module, with gradients of the output, that candidates are tried on.

    What they leave is laid aside: `memory` bytes, if that is enough for the least number of samples, about
    `room` of them in memory.
    """

    def __init__(
        self,
        module: fx.GraphModule,
        data: Data,
        inputs: Iterable[fx.Node],
        outputs: Iterable[fx.Node],
        memory: int,
        room: int | None = None,
    ) -> None:
        room = memory if room is None else room
        roots = list(dict.fromkeys(outputs))
        keep = dict.fromkeys([*inputs, *roots])
        generator = torch.Generator().manual_seed(data.seed + 1)
        self._runs: list[_Probe] = []
        shelf = Shelf(room)
        computed = [node for node in module.graph.nodes if node.op == "call_function"]
        for batch, share in _portions(data, memory // max(1, _bytes_a_sample(keep, roots)), room, computed):
            give_back()
            run = data.execution(module, batch, keep, gradients=True)
            self._runs.append(_Probe.of(run, share, roots, generator, shelf))
        give_back()

    def errors(self, change: Change) -> tuple[float, float]:
        """First-order relative error of the model's output, and relative error of the replaced values.

        Of values without a gradient, such as the several results of a recurrent layer, or whose gradients say
        nothing, zero or no numbers, the second stands for both. Outputs that are all counted, as classes are,
        change where they are near a tie: as many of them as the change is large, and so is its squared error.
        """
        output = missed = total = 0.0
        differentiable = True
        needed = change.reads() | set(change.outputs)
        for probe in self._runs:
            differences, gradients = {}, probe.gradients
            with probe.holding(needed) as run:
                for old, new in change.on(run).items():
                    before = run.values[old]
                    total += _squares(before)
                    differences[old] = _difference(new, before)
                    missed += _squares(differences[old])
            differentiable &= bool(gradients) and all(node in gradients[0] for node in differences)
            if not differentiable:
                continue
            squares = [sum(_by_sample(d, one[n]()) for n, d in differences.items()) for one in gradients]
            mean = float(torch.stack([s.square().sum() for s in squares]).mean())  # type: ignore[union-attr]
            output += probe.share * mean
        local = math.sqrt(missed / total) if total else (0.0 if not missed else math.inf)
        if differentiable and 0 < output < math.inf:
            return math.sqrt(output / sum(probe.share for probe in self._runs)), local
        return (math.sqrt(local) if all(probe.counted for probe in self._runs) else local), local


@dataclass(frozen=True, slots=True)
class _Probe:
    """One batch, or a `share` of one: its run, and the values and gradients that were laid aside."""

    run: Execution
    share: float
    values: Mapping[fx.Node, Fetch]
    gradients: Sequence[Mapping[fx.Node, Fetch]]
    counted: bool
    """Whether no output is a number that can be near: all are classes, ids, flags."""

    @classmethod
    def of(
        cls,
        run: Execution,
        share: float,
        roots: Sequence[fx.Node],
        generator: torch.Generator,
        shelf: Shelf,
    ) -> _Probe:
        """The values that `run` keeps, and gradients at `roots`."""
        run.advance()
        counted = not any(out.is_floating_point() or out.is_complex() for out in run.outputs)
        watched = [n for n in roots if isinstance(run.values[n], Tensor) and run.values[n].requires_grad]
        gradients = [
            {node: shelf.put(one) for node, one in _drawn(run, watched, generator).items()}
            for _ in range(PROBES if watched else 0)
        ]
        values = {
            node: shelf.put(pytree.tree_map_only(Tensor, torch.Tensor.detach, value))
            for node, value in run.values.items()
            if node in run.keep
        }
        run.values, run.gradients = {}, False
        return cls(run, share, values, gradients, counted)

    @contextmanager
    def holding(self, nodes: Iterable[fx.Node]) -> Iterator[Execution]:
        """The run with the values of some nodes in its hands."""
        self.run.values = {node: self.values[node]() for node in nodes if node in self.values}
        try:
            yield self.run
        finally:
            self.run.values = {}


class Effects:
    """What single changes do to the outputs of a module, measured: nothing else is changed."""

    def __init__(self, module: fx.GraphModule, data: Data, memory: int) -> None:
        """No more samples run at once than leave about `memory` bytes of values.

        The outputs of the module as it is are laid aside, a quarter of that in memory.
        """
        self.module = module
        self.data = data
        self.memory = memory
        self._shelf = Shelf(memory // 4)
        self._expected: list[list[Fetch]] = []

    def errors(self, changes: Sequence[Change]) -> list[float]:
        """The relative error of the output under each change, as `verify` measures it.

        The model runs up to the last place that is changed once, and on from there for each change; as many
        batches are taken as the errors need to be known (`PRECISION`).
        """
        give_back()
        position = {node: i for i, node in enumerate(self.module.graph.nodes)}
        last = max((node for c in changes for node in c.outputs), key=position.__getitem__)
        found: list[list[list[Difference]]] = [[] for _ in changes]
        samples = 0
        for number, batch in enumerate(self._batches()):
            keep = {node for change in changes for node in (*change.reads(), *change.outputs)}
            run = self.data.execution(self.module, batch, keep)
            run.advance(last.next)
            expected = self._expected_on(number, run)
            for change, differences in zip(changes, found, strict=True):
                changed = self._under(change, run, batch, last)
                differences.append([compare(a, b) for a, b in zip(expected, changed, strict=True)])
            samples += samples_in(batch)
            enough = samples >= 2 * LEAST_SAMPLES and all(map(_known, found))
            if samples >= MEASURED_SAMPLES or enough:
                break
        return [over_outputs(over_samples(one) for one in zip(*d, strict=True)).error for d in found]

    def _batches(self) -> Iterator[Batch]:
        for whole in self.data.batches[:MEASURED_BATCHES]:
            yield from self.data.pieces(self.data.cut(whole, AT_ONCE), self.memory, self.module)

    def _expected_on(self, number: int, run: Execution) -> list[Tensor]:
        if number == len(self._expected):
            rest = run.fork({})
            rest.keep.clear()
            rest.advance()
            self._expected.append([self._shelf.put(out) for out in rest.outputs])
            return rest.outputs
        return [fetch() for fetch in self._expected[number]]

    def _under(self, change: Change, run: Execution, batch: Batch, last: fx.Node) -> list[Tensor]:
        values = change.on(run)
        if change.outputs == (last,):
            rest = run.fork(values)
            rest.keep.clear()
        else:  # what stands between the changed values may depend on them
            rest = self.data.execution(self.module, batch, change.reads() if change.in_turn else ())
            rest.instead = dict(zip(change.outputs, change.values, strict=True)) if change.in_turn else values
        rest.advance()
        return rest.outputs


def _known(differences: Sequence[Sequence[Difference]]) -> bool:
    """Whether the mean squared error over some batches is known well enough."""
    if len(differences) < FEWEST:
        return False
    for column in zip(*differences, strict=True):
        squares = [one.squares / one.reference_squares if one.reference_squares else 0.0 for one in column]
        mean = statistics.fmean(squares)
        if not math.isfinite(mean):
            return True
        if statistics.stdev(squares) > PRECISION * mean * math.sqrt(len(squares)):
            return False
    return True


def _portions(
    data: Data, samples: int, memory: int, values: Sequence[fx.Node]
) -> Iterator[tuple[Batch, float]]:
    """Batches with about that many samples in them, `LEAST_SAMPLES` or more, cut where they can be.

    No more run at once than leave `memory` bytes of `values`; with each part of a batch, which share it is.
    """
    left = max(LEAST_SAMPLES, min(samples, PROBE_SAMPLES))
    at_once = max(1, left // PROBE_BATCHES, min(left // FEWEST, 4 * AT_ONCE))
    for batch in data.batches[:PROBE_BATCHES]:
        taken = data.cut(batch, min(left, at_once))
        for part in data.portions(taken, data.samples_within(memory, batch, values)):
            yield part, samples_in(part) / samples_in(taken)
        left -= samples_in(taken)
        if left <= 0:
            return


def _bytes_a_sample(keep: Iterable[fx.Node], roots: Sequence[fx.Node]) -> int:
    """What one sample of the kept values takes, with the gradients drawn for `roots`."""
    copies = dict.fromkeys(keep, 1.0) | dict.fromkeys(roots, 1.0 + PROBES / 2)
    total = 0.0
    for node, count in copies.items():
        described = node.meta.get("val")
        if isinstance(described, Tensor) and described.dim():
            sizes = [int(s.node.hint) if isinstance(s, torch.SymInt) else s for s in described.shape]
            total += count * math.prod(sizes[1:]) * described.element_size()
    return math.ceil(total)


def _drawn(run: Execution, watched: Sequence[fx.Node], generator: torch.Generator) -> dict[fx.Node, Tensor]:
    """Gradients of a random combination of the outputs, in half the room: chance is in them anyway."""
    found = gradients(run, [run.values[node] for node in watched], generator)
    return {node: gradient.bfloat16() for node, gradient in zip(watched, found, strict=True)}


def _settled(value: Any, work: Workspace, known: dict[int, Any]) -> Any:
    """`value` with each part that is known at compile time computed, once, as the rewrite would deploy it."""
    if isinstance(value, fx.Node | Filled) or not isinstance(value, Value):
        return value
    if id(value) not in known:
        described = work.val(value)
        if work.is_const(value) and isinstance(described, Tensor):
            known[id(value)] = Constant(work.evaluate(value).to(described.dtype), described.dtype)
        elif isinstance(value, Staged):
            args, kwargs = map_values((value.args, value.kwargs), lambda part: _settled(part, work, known))
            known[id(value)] = Staged(value.target, args, kwargs)
        else:
            return value
    return known[id(value)]


def _difference(new: Any, before: Any) -> Any:
    """Of tensors, or of each of several results."""
    return pytree.tree_map(lambda a, b: a - b, new, before)


def _squares(value: Any) -> float:
    return sum(float(torch.linalg.vector_norm(leaf)) ** 2 for leaf in pytree.tree_leaves(value))


def _by_sample(difference: Tensor, gradient: Tensor) -> Tensor:
    """⟨gradient, difference⟩ for each position of the first axis, along which samples are independent."""
    product = difference * gradient
    return product.flatten(1).sum(1).double() if product.dim() > 1 else product.double()
