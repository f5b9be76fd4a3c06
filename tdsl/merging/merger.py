"""Several models of one architecture made one: `tdsl.merge`.

Tam, Bansal, Raffel, "Merging by matching models in task parameter subspaces" (2023): each weight is put where
the sum of what all models lose by it is least, and what a model loses is measured by its own data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from tdsl.capture import Captured, capture
from tdsl.capture.captured import ModelLike
from tdsl.errors import TdslError
from tdsl.merging.measured import task_errors, worse_than_a_parent
from tdsl.merging.merged import Merged, MergedWeight, TaskErrors
from tdsl.merging.objective import Form, Objective, Solution
from tdsl.merging.order import in_one_order
from tdsl.merging.statistics import fisher_diagonals, form_of, moments, samples_in_a_batch
from tdsl.merging.uses import Use, own_bias, uses_of
from tdsl.plan.calibrate import Data
from tdsl.prepare import require_inputs, require_kinds
from tdsl.samples import Batch, Given, as_tensors
from tdsl.sound_samples import require_sound
from tdsl.symmetry.hidden import weights_of, with_weights
from tdsl.symmetry.hidden.alike import require_alike
from tdsl.symmetry.hidden.checkpoint import Names, not_stored, stored_names
from tdsl.verify import fitting_sizes, inputs_of

Method = Literal["gram", "kronecker", "fisher", "average"]
METHODS: tuple[Method, ...] = get_args(Method)
"""By what a model's loss is measured: the squared errors of its layers' products; these as the outputs feel
them (Kronecker-factored blocks of the Fisher information); its diagonal; nothing."""

DAMPING = 1e-2
"""Added to the diagonal of each moment, as a share of its mean."""
STEPS = 100
"""Of the conjugate gradient method for one weight, at most."""
TOLERANCE = 1e-6
"""Relative residual at which it ends."""

Progress = Callable[[str], None]


def merge(
    models: Sequence[ModelLike | Captured],
    args: tuple[Any, ...] | Tensor = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    samples: Sequence[Iterable[Batch]] = (),
    by: Method = "gram",
    align: bool | None = None,
    damping: float = DAMPING,
    steps: int = STEPS,
    mask: str | None = None,
    dynamic_shapes: Any = None,
    names: Sequence[str] | None = None,
    state_names: Names | None = None,
    progress: Progress = lambda stage: None,
) -> Merged:
    """One model of `models`, which have one architecture and were trained from one start, or are aligned.

    `samples` has inputs of each model's task, one list of batches for each model or one for all; without
    `args` their first batch is what the models are captured with. `by` says what is least: the squared errors
    that products of weights make on them (`gram`), these weighted by gradients of the outputs (`kronecker`),
    first-order errors of the outputs number by number (`fisher`), or the distance of the weights (`average`,
    which needs no samples). A weight that is in no such product is averaged, by Fisher information where
    gradients are taken.

    With `align`, models are brought into the order of the first one before; with `False` the order of their
    units is not looked at. `damping` draws towards the average, and so do few `steps`. `names` is what errors
    call the models; `state_names` what the weights of captured models are called in their state dicts.

    Raises:
        TdslError: models of different architectures, or in different orders of their units; samples that do
            not fit.
    """
    if by not in METHODS:
        raise TdslError(f"{by!r} is no way to merge", expected=f"one of {', '.join(METHODS)}")
    if len(models) < 2:
        raise TdslError(f"{len(models)} model{'s' * (not models)} to merge", expected="two or more")
    if not damping >= 0 or steps < 1:
        raise TdslError(
            f"damping {damping:g} in {steps} steps", expected="a damping of 0 or more, and 1 step or more"
        )
    require_kinds(samples=(samples, Iterable))
    require_inputs(args, kwargs)
    titles = list(names or (f"model {i}" for i in range(1, len(models) + 1)))
    batches = _for_each(samples, len(models), by)
    progress("capture")
    captured = [
        model if isinstance(model, Captured) else _captured(model, args, kwargs, own, dynamic_shapes)
        for model, own in zip(models, batches, strict=True)
    ]
    first = captured[0]
    stored = state_names or stored_names(first)
    _require_mergeable(captured, titles, stored)
    progress("align")
    captured, warnings = in_one_order(captured, titles, not_stored(stored), align)
    data = [
        Data.of(c, _checked(c, own, title), mask)
        for c, own, title in zip(captured, batches, titles, strict=True)
    ]
    merger = _Merger(captured, by)
    merger.measure(data, damping, progress)
    progress("solve")
    weights, rows = merger.solved(steps)
    module = with_weights(first.module, weights)
    tasks: tuple[TaskErrors, ...] = ()
    if all(one.batches for one in data):
        progress("measure")
        average = {path: mean.to(merger.own[path].dtype) for path, mean in merger.averages.items()}
        tasks = task_errors(module, with_weights(first.module, average), data, titles)
    return Merged(
        module,
        weights,
        _state(first, weights, stored),
        by,
        rows,
        len(merger.own) - len(merger.changed),
        tasks,
        (*warnings, *worse_than_a_parent(tasks)),
    )


@dataclass(frozen=True, slots=True)
class _Unknown:
    """A weight to be found, perhaps with its bias as a last column; a matrix for whoever solves for it."""

    path: str
    bias: str | None
    use: Use | None
    """One of the products that it is in, which say how it is a matrix; absent for others."""

    @property
    def paths(self) -> tuple[str, ...]:
        return (self.path,) if self.bias is None else (self.path, self.bias)

    def matrix(self, values: Mapping[str, Tensor]) -> Tensor:
        """→ [m, n], or [m, n + 1] with a bias; [1, numbers] of a weight that is in no product."""
        if self.use is None:
            return values[self.path].reshape(1, -1)
        found = self.use.matrix(values[self.path])
        return found if self.bias is None else torch.cat([found, values[self.bias][:, None]], 1)

    def values(self, matrix: Tensor, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
        """The weight and the bias in a matrix."""
        if self.use is None:
            return {self.path: matrix.reshape(shapes[self.path])}
        columns = matrix if self.bias is None else matrix[:, :-1]
        found = {self.path: self.use.weight(columns, shapes[self.path])}
        return found if self.bias is None else {**found, self.bias: matrix[:, -1]}


class _Merger:
    """The systems of all weights in which some models differ, filled model by model."""

    def __init__(self, captured: Sequence[Captured], by: Method) -> None:
        self.by = by
        self.captured = captured
        weights = [weights_of(one.module) for one in captured]
        self.own = weights[0]
        self.weights = weights
        self.changed = [
            path
            for path, tensor in self.own.items()
            if tensor.is_floating_point() and not all(torch.equal(tensor, other[path]) for other in weights)
        ]
        self.averages = {path: _average([w[path] for w in weights]) for path in self.changed}
        self.unknowns = list(self._unknowns())
        self.objectives = [Objective(*self._difference(0, u).shape) for u in self.unknowns]

    def _unknowns(self) -> Iterator[_Unknown]:
        """Weights that are in products where products matter, with their biases; and all others."""
        uses = uses_of(self.captured[0].module) if self.by in ("gram", "kronecker") else {}
        joined: set[str] = set()
        for path in self.own:
            bias = own_bias(uses[path]) if path in uses else None
            if path in uses and (path in self.changed or bias in self.changed):
                joined |= {path} if bias is None else {path, bias}
                yield _Unknown(path, bias, uses[path][0])
        yield from (_Unknown(path, None, None) for path in self.changed if path not in joined)

    def measure(self, data: Sequence[Data], damping: float, progress: Progress) -> None:
        """Add what each model loses by an error of each weight."""
        if self.by == "average":
            return
        for number, one in enumerate(data):
            here = f"model {number + 1} of {len(data)}"
            progress(f"statistics of {here}")
            uses = uses_of(one.captured.module)
            products = [u for u in self.unknowns if u.use is not None]
            gradients = self.by == "kronecker"
            known = moments(one, (uses[u.path] for u in products), with_gradients=gradients)
            scale = samples_in_a_batch(one) if gradients else None
            others = [u.path for u in self.unknowns if u.use is None and self.by != "gram"]
            fisher = fisher_diagonals(one, others, progress) if others else {}
            for unknown, objective in zip(self.unknowns, self.objectives, strict=True):
                difference = self._difference(number, unknown)
                if unknown.use is not None:
                    for use in uses[unknown.path]:
                        form = form_of(use, known, damping, scale, bias=unknown.bias is not None)
                        objective.add(form, difference)
                elif unknown.path in fisher:
                    entries = fisher[unknown.path].reshape(1, -1)
                    objective.add(Form(entries=entries + damping * float(entries.mean())), difference)

    def _difference(self, number: int, unknown: _Unknown) -> Tensor:
        """What a weight of one model is more than the average, as a matrix."""
        apart = {path: self.weights[number][path].double() - self._mean(path) for path in unknown.paths}
        return unknown.matrix(apart)

    def _mean(self, path: str) -> Tensor:
        return self.averages[path] if path in self.averages else self.own[path].double()

    def solved(self, steps: int) -> tuple[dict[str, Tensor], tuple[MergedWeight, ...]]:
        """The weights in their own element types, and how each was found."""
        found = dict(self.own)
        rows = []
        for unknown, objective in zip(self.unknowns, self.objectives, strict=True):
            solution = objective.least(steps, TOLERANCE)
            shapes = {path: self.own[path].shape for path in unknown.paths}
            for path, difference in unknown.values(solution.difference, shapes).items():
                if path in self.changed or bool(difference.any()):
                    found[path] = (self._mean(path) + difference).to(self.own[path].dtype)
            rows.append(self._row(unknown, objective, solution))
        return found, tuple(rows)

    def _row(self, unknown: _Unknown, objective: Objective, solution: Solution) -> MergedWeight:
        weighed = bool(objective.forms)
        method = "average" if not weighed else self.by if unknown.use is not None else "fisher"
        share = objective(solution.difference) / objective.constant if objective.constant > 0 else 1.0
        numbers = sum(self.own[path].numel() for path in unknown.paths)
        name = " + ".join(unknown.paths)
        return MergedWeight(name, method, numbers, solution.steps, solution.residual, max(0.0, share))


def _average(tensors: Sequence[Tensor]) -> Tensor:
    """The mean in float64, taken of the differences, so that equal numbers leave no rounding."""
    base = tensors[0].double()
    apart = torch.zeros_like(base)
    for tensor in tensors[1:]:
        apart += tensor.double() - base
    return base + apart / len(tensors)


def _require_mergeable(captured: Sequence[Captured], names: Sequence[str], stored: Names) -> None:
    """Raise `TdslError` for different architectures, and different numbers that are no weights."""
    first = captured[0]
    own = weights_of(first.module)
    for model, name in zip(captured[1:], names[1:], strict=True):
        other = weights_of(model.module)
        require_alike(first.module, model.module, own, other, (names[0], name))
        for path, tensor in own.items():
            constant = not stored.get(path) or not tensor.is_floating_point()
            if constant and not torch.equal(tensor, other[path]):
                kind = "constant" if not stored.get(path) else "table of integers"
                raise TdslError(
                    f"the {kind} {path} is another one in {name} than in {names[0]}",
                    expected="models that differ in their weights only",
                )


def _for_each(samples: Sequence[Iterable[Batch]], count: int, by: str) -> list[list[Batch]]:
    """The batches of each model. Raises `TdslError` where some have none."""
    lists: list[list[Batch]] = []
    for number, one in enumerate(samples):
        require_kinds(**{f"samples[{number}]": (one, Iterable)})
        lists.append(list(one))
    if not lists and by == "average":
        return [[] for _ in range(count)]
    if len(lists) not in (1, count) or not all(lists):
        have = "no samples" if not lists else f"samples for {sum(map(bool, lists))} of {count} models"
        raise TdslError(
            f"{have}, and merging by {by} asks each model's own",
            expected=f"{count} lists of samples, one for each model in their order, or one for all",
            hint="give samples (`--samples`, `samples=`); the plain average needs none (`--by average`)",
        )
    return lists * count if len(lists) == 1 else lists


def _captured(
    model: ModelLike,
    args: tuple[Any, ...] | Tensor,
    kwargs: Mapping[str, Any] | None,
    batches: Sequence[Batch],
    dynamic_shapes: Any,
) -> Captured:
    """The model, called with the first batch where nothing is said."""
    if isinstance(args, Tensor) or len(args) or kwargs or not batches:
        return capture(model, args, kwargs, dynamic_shapes=dynamic_shapes)
    batch = batches[0]
    if isinstance(batch, Mapping):
        args, kwargs = (), batch
    else:
        args = as_tensors(batch, "the first sample", ())
    try:
        return capture(model, args, kwargs, dynamic_shapes=dynamic_shapes)
    except TdslError as told:
        if len(args) + len(kwargs or ()) < 2:
            raise
        raise TdslError(
            told.message,
            expected=told.expected,
            hint="it was called with the first sample; labels are no inputs: leave them out, "
            "as in `[x for x, label in loader]`",
        ) from told


def _checked(captured: Captured, batches: Sequence[Batch], title: str) -> list[tuple[Tensor, ...]]:
    """Batches as tensors in the order of the inputs.

    Raises `TdslError` for one that does not fit, or on which the model does not give numbers.
    """
    inputs, ranges = inputs_of(captured)
    known = []
    for number, batch in enumerate(batches, start=1):
        called = f"sample {number} of {title}"
        tensors = as_tensors(batch, called, captured.input_names)
        fitting_sizes(f"{number} of {title}", tensors, inputs, ranges)
        known.append(Given(tensors, called=called))
    require_sound(captured, known)
    return [one.inputs for one in known]


def _state(captured: Captured, weights: Mapping[str, Tensor], stored: Names) -> dict[str, Tensor]:
    """A state dict: what the graph reads from the merged weights, anything else from the first model."""
    state = {name: tensor.detach() for name, tensor in captured.user_model.state_dict().items()}
    for path, known in stored.items():
        state |= {name: weights[path].to(state[name].dtype) for name in known if name in state}
    return state
