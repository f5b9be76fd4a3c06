"""Calibration: one streaming pass over data that collects the statistics a set of rules asks for.

Sums are of the size of the answer, so memory does not grow with the data. Positions that a
mask input declares to be padding are left out of every sum over values that have the mask's axes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx

from tdsl.capture.captured import Captured
from tdsl.engine.staged import parts_of
from tdsl.engine.statistics import Answers, Request
from tdsl.errors import TdslError
from tdsl.plan.cotangents import filled, gradients
from tdsl.plan.execute import Batch, Execution, leaves_of
from tdsl.plan.extent import Extent
from tdsl.plan.finite import blamed, no_number
from tdsl.plan.loss import Loss
from tdsl.plan.packed import Packed, Triangle
from tdsl.plan.padding import added, named_mask, require_mask, spread
from tdsl.plan.shelf import Shelf
from tdsl.provenance import value_name

PROBES = 4
"""Random cotangents of the output for each batch, from which second moments of gradients are estimated."""
PIECE = 2**20
"""Numbers of a value that are widened at once."""

ROOM = 256 * 2**20
"""Bytes of values that one run leaves, unless it is told."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Data:
    """Calibration inputs of a captured model, and which of them marks padding."""

    captured: Captured
    batches: Sequence[Batch]
    mask: int | None = None
    """Position, among the tensor inputs, of the one that says where the others are padding."""
    seed: int = 0
    loss: Loss | None = None
    """Whose gradients `gradient_moment` asks about; those of the outputs themselves without one."""
    labels: Sequence[Batch] = ()
    """With a loss, the labels of each batch."""
    called: Sequence[str] = ()
    """What the user would call each batch; a number where nothing is said."""
    added: bool = False
    """Whether the mask is 0 elsewhere and far below where there is padding; else it is 0 there."""
    _fill: Callable[[Batch], list[Any]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_fill", leaves_of(self.captured))

    @classmethod
    def of(
        cls,
        captured: Captured,
        batches: Iterable[Batch],
        mask: str | None = None,
        seed: int = 0,
        loss: Loss | None = None,
        labels: Sequence[Batch] = (),
        called: Sequence[str] = (),
    ) -> Data:
        """The data of `captured`; `mask` names the padding mask.

        Without it an input that is called a mask, and holds what only one does, is taken for one.
        Raises `TdslError` when there is no input of that name, and when it does not say what is padding.
        """
        known = list(batches)
        names = captured.input_names
        if mask is None:
            found = named_mask(names, known)
        elif mask not in names:
            raise TdslError(f"there is no input {mask}", expected=f"one of {', '.join(names)}")
        else:
            found = names.index(mask)
            require_mask(mask, [batch[found] for batch in known])
        is_added = found is not None and added([batch[found] for batch in known])
        return cls(captured, known, found, seed, loss, labels, called, is_added)

    def execution(
        self, module: fx.GraphModule, batch: Batch, keep: Iterable[fx.Node] = (), *, gradients: bool = False
    ) -> Execution:
        """`module` about to run on a batch."""
        return Execution(module, self._fill(batch), keep, gradients=gradients)

    def name_of(self, number: int) -> str:
        """What a message calls the batch of that number, from 0."""
        return self.called[number] if self.called else f"calibration batch {number + 1}"

    def cut(self, batch: Batch, samples: int) -> Batch:
        """The first samples of a batch, where all inputs have one first axis and its size is free."""
        return tuple(tensor[:samples] for tensor in batch) if self.can_be_cut(batch) else batch

    def portions(self, batch: Batch, samples: int) -> list[Batch]:
        """A batch in parts of so many samples, where it can be cut."""
        if not self.can_be_cut(batch) or len(batch[0]) <= samples:
            return [batch]
        return list(zip(*(torch.split(tensor, samples) for tensor in batch), strict=True))

    def samples_within(self, memory: int, batch: Batch, values: Iterable[fx.Node]) -> int:
        """How many samples like those of `batch` may run at once if some values, all kept, fill `memory`.

        At least one.
        """
        extent = Extent(self._inputs(), batch)
        return _so_many(memory, sum(map(extent.bytes, values)), batch)

    def pieces(
        self, batch: Batch, memory: int, module: fx.GraphModule, keep: Iterable[fx.Node] = ()
    ) -> list[Batch]:
        """A batch in parts of so many samples that what a run of `module` holds at once fills `memory`.

        The values of `keep` are never freed. A part has one sample at least; what cannot be cut stays whole.
        """
        extent = Extent(self._inputs(), batch)
        return self.portions(batch, _so_many(memory, extent.most(module.graph, keep), batch))

    def kept(self, batch: Batch) -> Tensor | None:
        """Which positions are not padding; without the axes behind the first that are 1 by the mask's type.

        `None` without a mask.
        """
        if self.mask is None:
            return None
        mask = batch[self.mask]
        return (mask == 0 if self.added else mask != 0).squeeze(spread(self._mask_shape()))

    def rows(self, batch: Batch, value: Tensor, described: Any, axis: int = -1) -> Tensor:
        """The vectors of `value` along `axis` at positions that are not padding. […, n, …] → [rows, n]."""
        moved, kept = value.movedim(axis, -1), self.kept(batch)
        if kept is None or not isinstance(described, Tensor):
            return moved.reshape(-1, moved.shape[-1])
        sizes = list(described.movedim(axis, -1).shape[:-1])
        at = _subsequence(self._mask_sizes(), sizes)
        if at is None:
            return moved.reshape(-1, moved.shape[-1])
        front = moved.movedim(at, tuple(range(len(at))))
        return front[kept].reshape(-1, moved.shape[-1])

    def _inputs(self) -> list[fx.Node]:
        """The inputs that are tensors."""
        placeholders = self.captured.module.graph.find_nodes(op="placeholder")
        return [node for node in placeholders if isinstance(node.meta.get("val"), Tensor)]

    def can_be_cut(self, batch: Batch) -> bool:
        """Whether all inputs have one first axis, and its size is free."""
        described = [node.meta["val"] for node in self._inputs() if node.meta["val"].dim()]
        sizes = {v.shape[0].node.expr if isinstance(v.shape[0], torch.SymInt) else None for v in described}
        return len(described) == len(batch) and len(sizes) == 1 and None not in sizes

    def _mask_shape(self) -> Sequence[Any]:
        assert self.mask is not None
        shape: Sequence[Any] = self._inputs()[self.mask].meta["val"].shape
        return shape

    def _mask_sizes(self) -> list[Any]:
        """The sizes of what `kept` gives."""
        shape = self._mask_shape()
        dropped = spread(shape)
        return [size for axis, size in enumerate(shape) if axis not in dropped]


def collect(
    module: fx.GraphModule,
    data: Data,
    requests: Iterable[Request],
    progress: Progress = lambda stage: None,
    memory: int = ROOM,
) -> Answers:
    """The statistics asked for, of `module` (the model, perhaps rewritten) on `data`, in one pass.

    Sums beyond a quarter of `memory` are kept in a temporary file, and fetched from there when asked for.

    Gradients are those of the model's outputs, each scaled to a relative error, for random cotangents: no
    labels are needed, and tr(G · E[δδᵀ]) is what an error δ of the value does to the output (Martens &
    Grosse, 2015). With a loss they are those of the loss by the labels of each batch, taken for a mean over
    its samples, so that every sample counts alike (the empirical Fisher information), and batches stay
    whole; otherwise as many samples run at once as leave about `memory` bytes of values.
    Raises `TdslError` for values that are not finite, and a loss that does not give a number with gradients.
    """
    wanted = list(dict.fromkeys(requests))
    by_source: dict[Hashable, list[Request]] = {}
    for request in wanted:
        by_source.setdefault(_source(request), []).append(request)
    shelf = Shelf(memory // 4)
    sums = {source: _Sum(asked, shelf) for source, asked in by_source.items()}
    by_gradient = [total for total in sums.values() if total.of.kind == "gradient_moment"]
    nodes = {
        part
        for request in wanted
        for part in parts_of([request.value])
        if isinstance(part, fx.Node) and part.op != "get_attr"
    }
    generator = torch.Generator().manual_seed(data.seed)
    computed = [node for node in module.graph.nodes if node.op == "call_function"]
    for number, whole in enumerate(data.batches, start=1):
        progress(f"calibrate: batch {number} of {len(data.batches)}")
        if by_gradient and data.loss is not None:
            parts = [whole]
        elif by_gradient:
            parts = data.portions(whole, data.samples_within(memory, whole, computed))
        else:
            parts = data.pieces(whole, memory, module, nodes)
        for batch in parts:
            run = data.execution(module, batch, nodes, gradients=bool(by_gradient))
            run.advance()
            for total in sums.values():
                if total.of.kind != "gradient_moment":
                    total.add(_rows(data, batch, total.of, run.value(total.of.value).detach()))
            if by_gradient and data.loss is not None:
                cost = data.loss(run.outputs, data.labels[number - 1], data.name_of(number - 1))
                _add_loss(data, batch, run, by_gradient, cost)
            elif by_gradient:
                _add_gradients(
                    data, batch, run, by_gradient, generator, samples_in(batch) / samples_in(whole)
                )
            del run
        for total in sums.values():
            total.require_numbers(data, number - 1)
    for total in sums.values():
        total.require_some()
    return Answers(
        Packed({r: partial(sums[_source(r)].answer, r) for r in wanted}),
        {r: sums[_source(r)].count for r in wanted},
    )


def named(request: Request) -> str:
    """What a person calls the value that a statistic is of."""
    nodes = [p for p in parts_of([request.value]) if isinstance(p, fx.Node) and p.op != "get_attr"]
    return value_name(nodes[0]) if nodes else "a constant"


def _source(request: Request) -> Hashable:
    """What a request is summed from: the value, its gradients or ids; moments of one value share the sums."""
    what = request.kind if request.kind in ("frequency", "gradient_moment") else "value"
    return (what, request.axis, request.size, request.identity)


def _add_gradients(
    data: Data,
    batch: Batch,
    run: Execution,
    sums: Sequence[_Sum],
    generator: torch.Generator,
    share: float,
) -> None:
    """Gradients of one run; of a part of a batch, as its `share` of the whole one has them."""
    values = [run.value(total.of.value) for total in sums]
    for _ in range(PROBES):
        for total, gradient in zip(sums, gradients(run, values, generator), strict=True):
            scaled = gradient if share == 1 else gradient * share**0.5
            total.add(_rows(data, batch, total.of, scaled))


def _add_loss(data: Data, batch: Batch, run: Execution, sums: Sequence[_Sum], cost: Tensor) -> None:
    """Gradients of the sum over the samples of a batch that `cost` is the mean over."""
    values = [run.value(total.of.value) for total in sums]
    found: Sequence[Tensor | None] = [None] * len(values)
    if cost.requires_grad:
        found = torch.autograd.grad(cost, values, allow_unused=True)
    for total, gradient in zip(sums, filled(values, found), strict=True):
        total.add(_rows(data, batch, total.of, gradient * samples_in(batch)))


def _rows(data: Data, batch: Batch, request: Request, value: Tensor) -> Tensor:
    described = request.value.meta.get("val") if isinstance(request.value, fx.Node) else value
    if request.kind == "frequency":
        ids = value.unsqueeze(-1)
        of = described.unsqueeze(-1) if isinstance(described, Tensor) else None
        return data.rows(batch, ids, of).flatten()
    if described is value:
        described = _as_input(request.value)
    return data.rows(batch, value, described, request.axis)


def _as_input(value: Any) -> Any:
    """For a term over the graph: the fake tensor of an operand that has as many axes as its result."""
    nodes = [p for p in parts_of([value]) if isinstance(p, fx.Node) and p.op != "get_attr"]
    described = getattr(value, "_val", None)
    if isinstance(described, Tensor):
        return described
    return nodes[0].meta.get("val") if nodes else None


class _Sum:
    """The sums under way that some requests are answered from. Those of gradients, which chance draws
    anyway, are kept in single precision.
    """

    def __init__(self, requests: Sequence[Request], shelf: Shelf) -> None:
        self.of = requests[0]
        self.count = 0
        self.dtype = torch.float32 if self.of.kind == "gradient_moment" else torch.float64
        self.first = torch.zeros(self.of.size, dtype=torch.float64)
        squares = any(r.kind in ("second_moment", "covariance", "gradient_moment") for r in requests)
        self.second = Triangle(self.of.size, self.dtype, shelf) if squares else None

    def add(self, rows: Tensor) -> None:
        """One batch of rows [count, size], or of ids [count]."""
        if self.of.kind == "frequency":
            self.first += torch.bincount(rows.long(), minlength=self.of.size).double()
            self.count += len(rows)
            return
        self.count += len(rows)
        for some in torch.split(rows, max(1, PIECE // self.of.size)):
            exact = some.to(self.dtype)
            self.first += exact.sum(0)
            if self.second is not None:
                self.second.add(exact)

    def require_some(self) -> None:
        """Raise `TdslError` where no position was left."""
        if not self.count:
            raise TdslError(
                "calibration data without a single position: everything is masked out",
                expected="at least one batch with a 1 in its mask",
            )

    def require_numbers(self, data: Data, number: int) -> None:
        """Raise `TdslError`, which names the batch that was added last, where that made a sum no number."""
        if what := no_number(self.first):
            of = "the gradients at " if self.of.kind == "gradient_moment" else ""
            message = f"{of}{named(self.of)} {'are' if of else 'is'} {what} on {data.name_of(number)}"
            raise blamed(data.captured.input_names, data.batches[number], message)

    def answer(self, request: Request) -> Tensor:
        """The statistic, the `triangle` of a matrix."""
        mean = self.first / self.count
        if request.kind in ("frequency", "first_moment"):
            return mean
        assert self.second is not None
        return self.second.mean(self.count, mean if request.kind == "covariance" else None)


def _so_many(memory: int, whole: int, batch: Batch) -> int:
    """How many samples fill `memory` if the whole batch fills so many bytes; at least one."""
    return max(1, memory * samples_in(batch) // whole) if whole else 2**31


def samples_in(batch: Batch) -> int:
    """How many samples a batch has; a single one where no input has axes."""
    return max((len(tensor) for tensor in batch if tensor.dim()), default=1)


def _subsequence(wanted: Sequence[Any], sizes: Sequence[Any]) -> tuple[int, ...] | None:
    """The first places at which `wanted` stands in `sizes`, in order; symbols are equal to themselves."""
    places: list[int] = []
    for position, size in enumerate(sizes):
        if len(places) < len(wanted) and _same_size(size, wanted[len(places)]):
            places.append(position)
    return tuple(places) if len(places) == len(wanted) else None


def _same_size(a: Any, b: Any) -> bool:
    if isinstance(a, torch.SymInt) and isinstance(b, torch.SymInt):
        return bool(a.node.expr == b.node.expr)
    return isinstance(a, int) and isinstance(b, int) and a == b
