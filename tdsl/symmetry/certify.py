"""An ONNX file held against a symmetry contract, as it runs in onnxruntime.

In float64 where onnxruntime has kernels for it. Else in the own precision of the file, where what is below
the bound for rounding (`tdsl.verify.tolerance`) cannot be told from nothing; and in float64 by the reference
implementation of ONNX, which is slow and computes the same function of real numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime
import torch
from onnxruntime.capi import onnxruntime_pybind11_state as runtime_errors
from torch import Tensor

from tdsl.emit.runtime import session
from tdsl.errors import TdslError
from tdsl.lang import format_file, tree
from tdsl.symmetry.audit import LIE_SLACK, POWER, SEEDS, require_no_nan
from tdsl.symmetry.contract import Contract, names_in
from tdsl.symmetry.declared import number_of
from tdsl.symmetry.elements import Plan, plan, shape_of
from tdsl.symmetry.probe import Whole, lie_defect, whole_defect
from tdsl.verify.runner import Runner, Tensors, session_runner
from tdsl.verify.tolerance import unmeasured_bound
from tdsl.verify.wide import widened_value
from tdsl.verify.wide_file import widened_model

Verdict = Literal["certified", "refused", "vacuous"]

SIZE, BATCH = 8, 2
"""Sizes of dynamic axes, and of the first one, where neither contract nor samples say."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """Defects of the file in one runtime and precision."""

    runtime: str
    precision: str
    bound: float
    """Smaller defects are rounding; 0 in float64."""
    elements: Mapping[str, Whole]
    algebra: Mapping[str, tuple[float, ...]]

    @property
    def defect(self) -> float:
        """The largest that was measured."""
        return max((whole.defect for whole in self.elements.values()), default=0.0)

    @property
    def control(self) -> float:
        """The least that a wrong claim was measured to be off."""
        return min((whole.control for whole in self.elements.values()), default=0.0)

    def allowed(self, tolerance: float) -> float:
        """The largest defect that is accepted."""
        return max(tolerance, self.bound)

    def holds(self, tolerance: float) -> bool:
        """Whether defects and Lie derivatives are small enough."""
        lie = max((max(found, default=0.0) for found in self.algebra.values()), default=0.0)
        return self.defect <= self.allowed(tolerance) and lie <= LIE_SLACK * self.allowed(tolerance)

    def could_fail(self, tolerance: float) -> bool:
        """Whether the same measurement of a wrong claim is far off."""
        return self.control > POWER * self.allowed(tolerance)


@dataclass(frozen=True, slots=True)
class Certificate:
    """What was measured of a file, and what it was measured with."""

    file: str
    sha256: str
    data: Mapping[str, str]
    """SHA-256 of the files beside it that hold its weights."""
    contract: str
    text: str
    """The declarations of the contract."""
    group: str
    tolerance: float
    outputs: tuple[str, ...]
    measurements: tuple[Measurement, ...]
    """In onnxruntime first."""
    shapes: Mapping[str, tuple[int, ...]]
    """Of the inputs it was measured on."""
    samples: int
    seeds: tuple[int, ...]
    reason: str = ""
    """Why onnxruntime does not run it in float64."""

    @property
    def verdict(self) -> Verdict:
        """Certified, refused, or vacuous: no measurement on this file could have failed."""
        if not all(one.holds(self.tolerance) for one in self.measurements):
            return "refused"
        could_fail = all(one.could_fail(self.tolerance) for one in self.measurements)
        return "certified" if could_fail else "vacuous"


@dataclass(frozen=True, slots=True)
class _Way:
    """One way to run the file."""

    runtime: str
    wide: bool
    run: Runner


def certify(
    path: str, model: onnx.ModelProto, contract: Contract, given: Sequence[Tensors] = ()
) -> Certificate:
    """Measure a file against a contract, on two random inputs and those given.

    `model` is what the file at `path` holds, its weights loaded. Raises `TdslError` where the contract does
    not fit, or the file does not run.
    """
    data = {name: _digest(Path(path).parent / name) for name in _outside(path)}
    return certificate(model, contract, given, file=path, sha256=_digest(Path(path)), data=data)


def certificate(
    model: onnx.ModelProto,
    contract: Contract,
    given: Sequence[Tensors] = (),
    *,
    file: str = "",
    sha256: str = "",
    data: Mapping[str, str] | None = None,
) -> Certificate:
    """Measure a model with its weights, as `certify` does; what is said of the file is taken as given."""
    ways, reason = _ways(model)
    draw = _inputs(model, contract, given)
    drawn = not given or all(value.is_floating_point() for value in given[0])
    seeds = SEEDS if drawn else ()  # which whole numbers are legal only the given samples say
    samples = [*given, *(_like(given[0], seed) if given else draw(seed) for seed in seeds)]
    weights = {weight.name for weight in model.graph.initializer}
    names = [edge.name for edge in model.graph.input if edge.name not in weights]
    names_out = [edge.name for edge in model.graph.output]
    for number, sample in enumerate(given, start=1):
        require_no_nan(sample, number)
    results, *_ = [_taken(ways[0], model, sample, f"sample {i}") for i, sample in enumerate(samples, 1)]
    shapes = {name: shape_of(value) for name, value in zip(names, samples[0], strict=True)}
    shapes_out = {name: shape_of(value) for name, value in zip(names_out, results, strict=True)}
    tried = plan(contract, shapes, shapes_out)
    return Certificate(
        file=file,
        sha256=sha256,
        data=data or {},
        contract=contract.name,
        text=contract_text(contract),
        group=tried.group.name,
        tolerance=contract.tolerance,
        outputs=tuple(n for n, on in zip(names_out, tried.trials[0].claimed, strict=True) if on),
        measurements=tuple(_measured(way, tried, samples, len(model.graph.node)) for way in ways),
        shapes=shapes,
        samples=len(samples),
        seeds=seeds,
        reason=reason,
    )


def _for(way: _Way, sample: Tensors) -> Tensors:
    return tuple(widened_value(value) for value in sample) if way.wide else sample


def _taken(way: _Way, model: onnx.ModelProto, sample: Tensors, name: str) -> Tensors:
    """The outputs on a sample. Raises `TdslError` where the file does not take it."""
    try:
        return way.run(_for(way, sample))
    except REFUSALS as error:
        weights = {weight.name for weight in model.graph.initializer}
        edges = [edge for edge in model.graph.input if edge.name not in weights]
        sizes = []
        for edge in edges:
            dims = [dim.dim_param or str(dim.dim_value) for dim in edge.type.tensor_type.shape.dim]
            sizes.append(f"{edge.name} [{', '.join(dims)}]")
        given = ", ".join(str(list(value.shape)) for value in sample)
        raise TdslError(
            f"the file does not take {name}, of shape {given}: {_short(error)}", expected=", ".join(sizes)
        ) from None


def _measured(way: _Way, tried: Plan, samples: Sequence[Tensors], steps: int) -> Measurement:
    """Raises `TdslError` where the file does not take a moved input."""
    own = [_for(way, sample) for sample in samples]
    elements: dict[str, Whole] = {}
    for trial in tried.trials:
        try:
            whole = whole_defect(
                way.run,
                own,
                [None if a is None else a.apply for a in trial.into],
                [None if a is None else a.apply for a in trial.out],
            )
        except REFUSALS as error:
            moved = (x if a is None else a.apply(x) for x, a in zip(samples[0], trial.into, strict=True))
            sizes = ", ".join(str(list(x.shape)) for x in moved)
            raise TdslError(
                f"the file does not take the input under {trial.name}, which has the shape {sizes}:"
                f" {_short(error)}",
                hint="axes that the element exchanges need the same size, or one that is dynamic",
            ) from None
        elements[trial.name] = _claimed(whole, trial.claimed)
    return Measurement(
        runtime=way.runtime,
        precision="float64" if way.wide else "float32",
        bound=0.0 if way.wide else unmeasured_bound(torch.float32, steps),
        elements=elements,
        algebra=_lie(way.run, tried, own) if way.wide else {},
    )


def _claimed(whole: Whole, claimed: Sequence[bool]) -> Whole:
    """Only the outputs that the contract speaks of."""
    return Whole(
        tuple(d for d, on in zip(whole.defects, claimed, strict=True) if on),
        tuple(c for c, on in zip(whole.controls, claimed, strict=True) if on),
    )


def _lie(run: Runner, tried: Plan, samples: Sequence[Tensors]) -> dict[str, tuple[float, ...]]:
    found = {}
    for trial in tried.algebra:
        defects = [lie_defect(run, sample, trial.into, trial.out, differentiable=False) for sample in samples]
        found[trial.name] = tuple(
            max(column) for column, on in zip(zip(*defects, strict=True), trial.claimed, strict=True) if on
        )
    return found


# ---------------------------------------------------------------- the file


REFUSALS = (
    runtime_errors.Fail,
    runtime_errors.InvalidArgument,
    runtime_errors.InvalidGraph,
    runtime_errors.NotImplemented,
    runtime_errors.RuntimeException,
    RuntimeError,
    ValueError,
)
"""What a runtime raises for a model or an input that it does not take."""


def _ways(model: onnx.ModelProto) -> tuple[list[_Way], str]:
    """onnxruntime in float64; or in float32 and the reference in float64, and why."""
    name = f"onnxruntime {onnxruntime.__version__}"
    wide = widened_model(model)
    try:
        return [_Way(name, True, session_runner(session(wide)))], ""
    except (TdslError, *REFUSALS) as why:
        reason = _short(why)
    try:
        ways = [_Way(name, False, session_runner(session(model)))]
    except REFUSALS as why:
        raise TdslError(f"onnxruntime does not load the file: {_short(why)}") from None
    return [*ways, *_reference(wide)], reason


def _reference(wide: onnx.ModelProto) -> list[_Way]:
    """The reference implementation of ONNX, where it knows every operator."""
    from onnx.reference import ReferenceEvaluator

    try:
        evaluator = ReferenceEvaluator(wide)
    except Exception:  # whatever it raises for an operator that it does not know
        return []
    names = [str(name) for name in evaluator.input_names]

    def run(inputs: Tensors) -> Tensors:
        feed = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
        return tuple(torch.from_numpy(np.asarray(value)) for value in evaluator.run(None, feed))

    return [_Way(f"onnx {onnx.__version__}, reference", True, run)]


def _short(why: Exception) -> str:
    """What a runtime says, without where in it."""
    said = why.message if isinstance(why, TdslError) else str(why).splitlines()[0]
    return said.rpartition(" : ")[2].strip() or said


def _inputs(model: onnx.ModelProto, contract: Contract, given: Sequence[Tensors]) -> Any:
    """Draws the inputs for a seed: normal numbers, at the sizes that file and contract give."""
    weights = {weight.name for weight in model.graph.initializer}
    edges = [edge for edge in model.graph.input if edge.name not in weights]
    shapes: list[tuple[int, ...]] = []
    sizes: dict[str, int] = {}
    for edge in edges:
        kind = edge.type.tensor_type
        name = onnx.TensorProto.DataType.Name(kind.elem_type)
        if not given and name not in ("FLOAT", "DOUBLE", "FLOAT16"):
            raise TdslError(
                f"input {edge.name} is {name.lower()}, and a file does not say which values are legal",
                hint="give inputs with --inputs",
            )
        wanted = _written(contract, edge.name, len(kind.shape.dim))
        shape = []
        for axis, dim in enumerate(kind.shape.dim):
            if dim.HasField("dim_value"):
                shape.append(int(dim.dim_value))
                continue
            size = wanted[axis] or (BATCH if axis == 0 else SIZE)
            shape.append(sizes.setdefault(dim.dim_param or f"{edge.name}_{axis}", size))
        shapes.append(tuple(shape))
    types = [_TYPES.get(edge.type.tensor_type.elem_type, torch.float32) for edge in edges]

    def draw(seed: int) -> Tensors:
        generator = torch.Generator().manual_seed(seed)
        return tuple(
            torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
            for shape, dtype in zip(shapes, types, strict=True)
        )

    return draw


_TYPES = {
    onnx.TensorProto.FLOAT: torch.float32,
    onnx.TensorProto.DOUBLE: torch.float64,
    onnx.TensorProto.FLOAT16: torch.float16,
}


def _written(contract: Contract, name: str, rank: int) -> list[int | None]:
    """The sizes that the contract writes as numbers, axis by axis."""
    edge = contract.side("input").get(name)
    dims = list(edge.type.dims or ()) if edge is not None else []
    named = [dim for dim in dims if not isinstance(dim, tree.Ellipsis_)]
    found: list[int | None] = [
        None if any(names_in(dim)) else int(number_of(dim, {})) for dim in named[-rank:]
    ]
    return [None] * (rank - len(found)) + found


def _like(sample: Tensors, seed: int) -> Tensors:
    """Numbers of the mean and spread of a sample."""
    generator = torch.Generator().manual_seed(seed)

    def one(value: Tensor) -> Tensor:
        drawn = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        spread = float(value.double().std(correction=0)) or 1.0
        return (float(value.double().mean()) + spread * drawn).to(value.dtype)

    return tuple(one(value) for value in sample)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _outside(path: str) -> list[str]:
    """The files beside a model that hold its weights."""
    bare = onnx.load(path, load_external_data=False)
    names = {
        entry.value
        for weight in bare.graph.initializer
        if weight.data_location == onnx.TensorProto.EXTERNAL
        for entry in weight.external_data
        if entry.key == "location"
    }
    return sorted(names)


def contract_text(contract: Contract) -> str:
    """The declarations that a contract consists of, in canonical form."""
    used = {edge.action for edge in contract.source.edges if edge.action}
    groups = [group for group in contract.groups.values() if _needed(group.name, contract)]
    items: list[tree.Item] = [*groups, *(contract.actions[name] for name in contract.actions if name in used)]
    items.append(contract.source)
    return format_file(tree.File(tuple(items), span=contract.source.span))


def _needed(name: str, contract: Contract) -> bool:
    """Whether a group is the contract's, or part of it."""
    waiting, seen = [contract.group.name], set[str]()
    while waiting:
        one = waiting.pop()
        if one in seen or one not in contract.groups:
            continue
        seen.add(one)
        waiting += names_in(contract.groups[one].value)
    return name in seen
