"""Equivariance measured: the function on moved inputs against its moved outputs, in float64.

A defect is ‖f(ρ·x) - σ·f(x)‖ / ‖f(x)‖, the largest over the inputs. For a node of a graph it is measured
twice: of the operator alone, on operands that are moved exactly, and of everything up to it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from tdsl.errors import TdslError
from tdsl.symmetry.action import Action
from tdsl.symmetry.infer import Inference, Step
from tdsl.verify.runner import Tensors

Move = Callable[[Tensor], Tensor]
"""What an element does to a tensor."""


@dataclass(frozen=True, slots=True)
class Defect:
    """Relative defects at a node: of its operator alone, and of all up to it; `None`: not measured."""

    own: float | None
    total: float | None

    def worst(self, other: Defect | None) -> Defect:
        """The larger of both, each for itself."""
        if other is None:
            return self
        return Defect(_larger(self.own, other.own), _larger(self.total, other.total))


def _larger(first: float | None, second: float | None) -> float | None:
    return max((one for one in (first, second) if one is not None), default=None)


ROUNDING = 1e-13
"""Differences of a result that are so small beside its operands are rounding, however small the result is."""


def relative(found: Tensor, expected: Tensor, operands: float = 0.0) -> float:
    """‖found - expected‖ / ‖expected‖; infinite where the shapes differ or something is not finite.

    Infinite entries that are equal are no difference: masks hold them. A difference that is rounding beside
    `operands`, the norm of what the result was computed from, is taken relative to that.
    """
    if found.shape != expected.shape:
        return float("inf")
    left, right = (value.to(torch.float64).flatten() for value in (found, expected))
    same = left == right
    off = torch.where(same, 0.0, left - right)
    size = float(torch.where(torch.isfinite(right), right, 0.0).norm())
    distance = float(off.norm())
    if distance != distance:
        return float("inf")
    if distance <= ROUNDING * operands:
        size = max(size, operands)
    return distance / size if size > 0 else (0.0 if distance == 0 else float("inf"))


def node_defects(
    wide: fx.GraphModule,
    inference: Inference,
    inputs: Sequence[Any],
    moved: Sequence[Any],
) -> dict[str, Defect]:
    """Defects by the name of the node, for one sample.

    `wide` is the graph in float64 (`widened_graph`), whose nodes have the names of the original; `inputs` and
    `moved` are its arguments, without and with the action.
    """
    steps = {step.node.name: step for step in inference.steps.values()}
    first = _Recorder(wide, steps)
    with torch.no_grad():
        first.run(*inputs, enable_io_processing=False)
        second = _Comparer(wide, first.values, steps)
        with contextlib.suppress(RuntimeError, ValueError, IndexError):  # a shape that the graph has written
            second.run(*moved, enable_io_processing=False)
    return {name: Defect(first.own.get(name), second.total.get(name)) for name in steps}


class _Recorder(fx.Interpreter):
    """Runs the graph, keeps what it computes, and tries every operator on moved operands."""

    def __init__(self, module: fx.GraphModule, steps: Mapping[str, Step]) -> None:
        super().__init__(module)
        self.steps = steps
        self.values: dict[str, Any] = {}
        self.own: dict[str, float] = {}

    def run_node(self, n: fx.Node) -> Any:
        """The value of a node; its own defect beside it."""
        result = super().run_node(n)
        step = self.steps.get(n.name)
        if step is None:
            return result
        self.values[n.name] = result
        if step.actions[0] is not None and all(one is not None for one in step.inputs):
            self.own[n.name] = self._own(n, step, result)
        return result

    def _own(self, node: fx.Node, step: Step, result: Any) -> float:
        moves = {source.name: acting for source, acting in zip(step.sources, step.inputs, strict=True)}

        def moved(source: fx.Node) -> Any:
            value = self.env[source]
            acting = moves.get(source.name)
            return acting.apply(value) if acting is not None and isinstance(value, Tensor) else value

        args = fx.node.map_arg(node.args, moved)
        kwargs = fx.node.map_arg(node.kwargs, moved)
        assert callable(node.target)
        try:
            found = node.target(*args, **kwargs)
        except (RuntimeError, ValueError, IndexError):  # it does not take operands of that shape
            return float("inf")
        return _apart(found, result, step.actions, _size_of_operands(node, self.env))


class _Comparer(fx.Interpreter):
    """Runs the graph on moved inputs and compares each value with the moved one."""

    def __init__(self, module: fx.GraphModule, values: Mapping[str, Any], steps: Mapping[str, Step]) -> None:
        super().__init__(module)
        self.values = values
        self.steps = steps
        self.total: dict[str, float] = {}

    def run_node(self, n: fx.Node) -> Any:
        """The value of a node, and how far it is from what the action makes of the unmoved one."""
        result = super().run_node(n)
        step = self.steps.get(n.name)
        if step is not None and step.actions[0] is not None:
            self.total[n.name] = _apart(
                result, self.values[n.name], step.actions, _size_of_operands(n, self.env)
            )
        return result


def _size_of_operands(node: fx.Node, values: Mapping[fx.Node, Any]) -> float:
    """The largest norm of what a node reads."""
    operands = (values.get(source) for source in node.all_input_nodes)
    norms = [float(one.norm()) for one in operands if isinstance(one, Tensor) and one.is_floating_point()]
    return max((norm for norm in norms if norm < float("inf")), default=0.0)


def _apart(found: Any, plain: Any, actions: Sequence[Action | None], operands: float) -> float:
    """The largest relative distance of results from the moved ones, of those that an action is known for."""
    results = list(plain) if isinstance(plain, list | tuple) else [plain]
    others = list(found) if isinstance(found, list | tuple) else [found]
    worst = 0.0
    for one, other, acting in zip(results, others, actions, strict=False):
        if acting is None or not isinstance(one, Tensor):
            continue
        try:
            worst = max(worst, relative(other, acting.apply(one), operands))
        except TdslError:  # an action of other sizes: the operands were not those of the example
            worst = float("inf")
    return worst


# ---------------------------------------------------------------- whole functions


@dataclass(frozen=True, slots=True)
class Whole:
    """A function under one element: the defect of each output, and what a wrong claim would have measured."""

    defects: tuple[float, ...]
    controls: tuple[float, ...]
    """The same against the output of another input: the claim that all that is moved gives one output."""

    @property
    def defect(self) -> float:
        """The largest of them."""
        return max(self.defects, default=0.0)

    @property
    def control(self) -> float:
        """The smallest of them."""
        return min(self.controls, default=0.0)


def whole_defect(
    run: Callable[[Tensors], Tensors],
    samples: Sequence[Tensors],
    into: Sequence[Move | None],
    out: Sequence[Move | None],
) -> Whole:
    """The defect of each output of a function under one element.

    `samples` are two or more inputs; `into` moves inputs, `out` outputs (`None`: left alone). The control is
    f(ρ·x) against σ·f(x') where x' has of another sample what ρ moves. Raises whatever running the function
    raises.
    """
    if len(samples) < 2:
        raise TdslError("one input shows nothing", expected="two or more")
    plain = [run(sample) for sample in samples]
    defects = [0.0] * len(plain[0])
    controls = [float("inf")] * len(plain[0])
    for i, sample in enumerate(samples):
        other = plain[(i + 1) % len(samples)]
        if None in into:  # of what is left alone outputs may depend that do not see what is moved
            pairs = zip(sample, samples[(i + 1) % len(samples)], into, strict=True)
            other = run(tuple(own if move is None else another for own, another, move in pairs))
        moved = run(tuple(_moved(value, move) for value, move in zip(sample, into, strict=True)))
        for j, move in enumerate(out):
            defects[j] = max(defects[j], relative(moved[j], _moved(plain[i][j], move)))
            wrong = relative(moved[j], _moved(other[j], move))
            still = not float(plain[i][j].to(torch.float64).norm()) or not float(
                other[j].to(torch.float64).norm()
            )
            controls[j] = min(controls[j], 0.0 if still else wrong)
    return Whole(tuple(defects), tuple(controls))


def _moved(value: Tensor, move: Move | None) -> Tensor:
    return value if move is None else move(value)


def lie_defect(
    run: Callable[[Tensors], Tensors],
    sample: Tensors,
    into: Sequence[Move | None],
    out: Sequence[Move | None],
    *,
    differentiable: bool = True,
) -> tuple[float, ...]:
    """‖Df(x)·(dρ·x) - dσ·f(x)‖ / ‖f(x)‖ for each output, the derivative along an element of the Lie algebra.

    `into` and `out` give dρ·x and dσ·y. By forward differentiation where every operator has it and it is
    finite (that of a root at 0 is not), by a central difference of fourth order elsewhere, and for what is
    not `differentiable`. Infinite where neither is a number.
    """
    tangents = tuple(
        torch.zeros_like(value) if move is None or not value.is_floating_point() else move(value)
        for value, move in zip(sample, into, strict=True)
    )
    with torch.no_grad():
        plain, changes = _derivative(run, sample, tangents, differentiable)
    found = []
    for value, change, move in zip(plain, changes, out, strict=True):
        expected = torch.zeros_like(value) if move is None else move(value)
        size = float(value.detach().norm())
        defect = float((change - expected).norm()) / size if size else float("inf")
        found.append(defect if defect == defect else float("inf"))  # else `max` may pass over it
    return tuple(found)


def _derivative(
    run: Callable[[Tensors], Tensors], sample: Tensors, tangents: Tensors, differentiable: bool
) -> tuple[Tensors, Tensors]:
    moving = [i for i, value in enumerate(sample) if value.is_floating_point()]

    def of_numbers(*numbers: Tensor) -> Tensors:
        values = list(sample)
        for i, value in zip(moving, numbers, strict=True):
            values[i] = value
        return run(tuple(values))

    at = tuple(sample[i] for i in moving)
    along = tuple(tangents[i] for i in moving)
    with contextlib.suppress(RuntimeError, NotImplementedError):  # an operator has no forward derivative
        if differentiable:
            plain, changes = torch.func.jvp(of_numbers, at, along)  # type: ignore[misc]  # no aux
            if all(bool(change.isfinite().all()) for change in changes):
                return plain, changes
    step = 1e-4

    def at_step(times: int) -> Tensors:
        return of_numbers(*(x + times * step * v for x, v in zip(at, along, strict=True)))

    left2, left, right, right2 = (at_step(times) for times in (-2, -1, 1, 2))
    return run(sample), tuple(
        (a - 8 * b + 8 * c - d) / (12 * step) for a, b, c, d in zip(left2, left, right, right2, strict=True)
    )
