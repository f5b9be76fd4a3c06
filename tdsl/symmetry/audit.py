"""A model held against a symmetry contract: layer by layer what is known and measured, what breaks it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, fx
from torch.utils import _pytree as pytree

from tdsl.capture import Captured
from tdsl.errors import TdslError
from tdsl.provenance import module_path, source_line
from tdsl.symmetry.action import Action
from tdsl.symmetry.contract import Contract
from tdsl.symmetry.elements import LieTrial, Trial, plan, shape_of
from tdsl.symmetry.infer import Fallback, Inference, Step, Strength, infer
from tdsl.symmetry.measured import Measured
from tdsl.symmetry.probe import Defect, Whole, lie_defect, node_defects, whole_defect
from tdsl.verify.captured import inputs_of
from tdsl.verify.runner import Runner, Tensors
from tdsl.verify.samples import draw_samples
from tdsl.verify.tolerance import NotInDouble, in_double
from tdsl.verify.wide import widened_graph, widened_value

Verdict = Literal["kept", "broken", "vacuous"]

SEEDS = (0, 1)
"""Of the random inputs."""

POWER = 10.0
"""A control must fail by so many tolerances."""

STORED = 1e-6
"""Weights that are tied up to rounding in float32 leave less."""

LIE_SLACK = 100.0
"""Lie derivatives may be so many tolerances large: they are relative to f, not to a change of it."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One operator under one element."""

    node: str
    operator: str
    module: str
    source: str
    strength: Strength
    residual: float
    worst: float
    own: float | None
    """The defect of the operator alone, on operands moved exactly."""
    total: float | None
    """The defect of all that leads to it."""
    reason: str
    action: str
    """What acts on the result, in words; empty where it is not known."""

    def breaks(self, tolerance: float) -> bool:
        """Whether the action ends here: nothing shows that it passes, and it is measured not to."""
        return self.strength == "broken" and (self.own is None or self.own > tolerance)

    @property
    def why(self) -> str:
        """What is known of why the action ends here, in words."""
        if self.reason:
            return self.reason
        if self.strength == "approximate":
            return f"its weights are tied up to {self.residual:.1e}, the worst to {self.worst:.1e}"
        defect = self.own or self.total or 0.0
        if math.isinf(defect):
            return "what it computes of the inputs is not finite, or of other shapes when they are moved"
        said = f"its own defect is {defect:.1e}" if self.own else f"up to here the defect is {defect:.1e}"
        if defect > STORED:
            return said
        return f"{said}, as of weights tied up to rounding in float32; a tolerance of {STORED:.0e} allows it"


@dataclass(frozen=True, slots=True)
class Element:
    """The model under one element of the group."""

    name: str
    action: str
    """What it does to the inputs, in words."""
    layers: tuple[Layer, ...]
    defects: tuple[float, ...]
    """Of each output, in order; 0 where nothing is claimed."""
    controls: tuple[float, ...]
    """What the same measurement gives for another input's output."""
    proved: bool
    """Whether the inferred actions on the outputs are the claimed ones, exactly."""
    reason: str = ""
    """Why it could not be measured, or what acts on an output where the contract claims something else."""

    @property
    def defect(self) -> float:
        """The largest."""
        return max(self.defects, default=0.0)


@dataclass(frozen=True, slots=True)
class Lie:
    """The derivative along an element of the Lie algebra, relative to the output."""

    name: str
    defects: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Audit:
    """What was found of one model and one contract."""

    contract: str
    group: str
    tolerance: float
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    claimed: tuple[bool, ...]
    elements: tuple[Element, ...]
    algebra: tuple[Lie, ...]
    samples: int
    seeds: tuple[int, ...] = SEEDS

    @property
    def defect(self) -> float:
        """The largest defect of an output under an element."""
        return max((element.defect for element in self.elements), default=0.0)

    @property
    def control(self) -> float:
        """The least that a wrong claim was measured to be off, of the outputs that are claimed."""
        return min(
            (c for e in self.elements for c, on in zip(e.controls, self.claimed, strict=True) if on),
            default=0.0,
        )

    @property
    def verdict(self) -> Verdict:
        """Kept, broken, or kept for no reason: outputs that hardly depend on the input keep any contract."""
        lie = max((max(one.defects, default=0.0) for one in self.algebra), default=0.0)
        if not self.defect <= self.tolerance or not lie <= LIE_SLACK * self.tolerance:
            return "broken"
        return "kept" if self.control > POWER * self.tolerance else "vacuous"

    @property
    def first_broken(self) -> tuple[Element, Layer] | None:
        """The element and the layer at which a contract that is not kept breaks first.

        Where some layer breaks it by more than weights do that are stored as float32, those do not count, nor
        where something else acts on an output than the contract says.
        """
        for element in self.elements:
            if element.defect <= self.tolerance:
                continue
            seen = max(self.tolerance, STORED)
            for broken in (
                [layer.breaks(self.tolerance) for layer in element.layers],
                [(layer.own or 0.0) > seen for layer in element.layers],
                [(layer.total or 0.0) > seen for layer in element.layers],
                [(layer.own or 0.0) > self.tolerance and not element.reason for layer in element.layers],
                [(layer.total or 0.0) > self.tolerance and not element.reason for layer in element.layers],
            ):
                if any(broken):
                    return element, element.layers[broken.index(True)]
        return None


def audit(
    captured: Captured,
    contract: Contract,
    *,
    given: Sequence[Tensors] = (),
    fallback: Fallback | None = None,
) -> Audit:
    """Hold a captured model against a contract, in float64.

    `given` are inputs beside the two random ones. `fallback` is asked for laws where no transfer passes an
    action. Raises `TdslError` where the contract does not fit the model, or that does not run in float64.
    """
    wide = widened_graph(captured.module)
    run = _runner(captured)
    samples = _samples(captured, given)
    shapes_in = {n: shape_of(v) for n, v in zip(captured.input_names, samples[0], strict=True)}
    results = run(samples[0])
    shapes_out = {n: shape_of(v) for n, v in zip(captured.output_names, results, strict=True)}
    tried = plan(contract, shapes_in, shapes_out)
    measure = Measured(wide, [_placeholders(captured, sample) for sample in samples[: len(SEEDS)]])
    elements = tuple(
        _element(captured, wide, run, trial, samples, fallback, measure, contract.tolerance)
        for trial in tried.trials
    )
    algebra = tuple(_lie(wide, captured, trial, samples) for trial in tried.algebra)
    return Audit(
        contract=contract.name,
        group=tried.group.name,
        tolerance=contract.tolerance,
        inputs=captured.input_names,
        outputs=captured.output_names,
        claimed=tried.trials[0].claimed,
        elements=elements,
        algebra=algebra,
        samples=len(samples),
    )


def _runner(captured: Captured) -> Runner:
    try:
        return in_double(captured.module, captured.args, captured.kwargs)
    except NotInDouble as why:
        raise TdslError(f"the model cannot be audited in float64: {why}") from None


def require_no_nan(sample: Tensors, number: int) -> None:
    """Raise `TdslError`, which names the sample by its number, for one that holds NaN."""
    if any(value.is_floating_point() and bool(value.isnan().any()) for value in sample):
        raise TdslError(f"sample {number} has NaN values", expected="numbers")


def _samples(captured: Captured, given: Sequence[Tensors]) -> list[Tensors]:
    """The random inputs, then those given, numbers in float64; all of the example's shapes."""
    inputs, ranges = inputs_of(captured)
    drawn = [
        next(s for s in draw_samples(inputs, ranges=ranges, seed=seed) if s.name == "random")
        for seed in SEEDS
    ]
    found = [sample.inputs for sample in drawn]
    shapes = [value.shape for value in found[0]]
    for i, sample in enumerate(given, start=1):
        if [value.shape for value in sample] != shapes:
            raise TdslError(
                f"sample {i} has other shapes than the example",
                expected=", ".join(str(list(shape)) for shape in shapes),
            )
        require_no_nan(sample, i)
        found.append(tuple(sample))
    return [tuple(widened_value(value) for value in sample) for sample in found]


def _element(
    captured: Captured,
    wide: fx.GraphModule,
    run: Runner,
    trial: Trial,
    samples: Sequence[Tensors],
    fallback: Fallback | None,
    measure: Measured,
    tolerance: float,
) -> Element:
    inference = infer(captured.module, trial.into, fallback=fallback, measure=measure)
    defects: dict[str, Defect] = {}
    for sample in samples:
        moved = tuple(_apply(acting, value) for acting, value in zip(trial.into, sample, strict=True))
        found = node_defects(wide, inference, _placeholders(captured, sample), _placeholders(captured, moved))
        defects = {name: one.worst(defects.get(name)) for name, one in found.items()}
    reason = ""
    try:
        whole = whole_defect(
            run,
            samples,
            [None if a is None else a.apply for a in trial.into],
            [None if a is None else a.apply for a in trial.out],
        )
    except (RuntimeError, ValueError, IndexError) as error:
        reason = f"the model does not take the moved input: {str(error).splitlines()[0]}"
        unknown = (float("inf"),) * len(trial.out)
        whole = Whole(unknown, unknown)
    kept = tuple(d if claimed else 0.0 for d, claimed in zip(whole.defects, trial.claimed, strict=True))
    wrong = [i for i, defect in enumerate(kept) if defect > tolerance]
    if not reason and inference.strength not in ("broken", "unknown"):
        nodes = [
            leaf
            for leaf in pytree.tree_leaves(captured.module.graph.output_node().args[0])
            if isinstance(leaf, fx.Node) and isinstance(leaf.meta.get("val"), Tensor)
        ]
        reason = "; ".join(_another(inference, trial, i, captured.output_names[i], nodes[i]) for i in wrong)
    return Element(
        name=trial.name,
        action=", ".join(
            f"{acting.text()} on {name}"
            for acting, name in zip(trial.into, captured.input_names, strict=True)
            if acting is not None
        ),
        layers=tuple(_layer(step, defects.get(step.node.name)) for step in inference.steps.values()),
        defects=kept,
        controls=whole.controls,
        proved=_proved(inference, trial),
        reason=reason,
    )


def _another(inference: Inference, trial: Trial, index: int, name: str, node: fx.Node) -> str:
    """What acts on an output where the contract claims something else; empty where it does not differ."""
    found, wanted = inference.outputs[index], trial.out[index]
    if found is None or (found.is_identity if wanted is None else found == wanted):
        return ""
    if wanted is None or wanted.linear != found.linear:
        claimed = "that it is invariant" if wanted is None else wanted.text()
        acting = "nothing" if found.is_identity else found.text()
        return f"{acting} acts on {name}, and the contract says {claimed}"
    changed = _translated_at(node, inference, wanted)
    place = f", from {changed.node.name} ({source_line(changed.node)}) on" if changed else ""
    return f"{name} is moved by another translation than the contract says{place}"


def _translated_at(node: fx.Node, inference: Inference, wanted: Action) -> Step | None:
    """The operator before a node that takes what is moved as wanted, and adds another translation."""
    waiting = [node]
    while waiting:
        step = inference.steps.get(waiting.pop())
        if step is None or step.action is None or step.action == wanted:
            continue
        if step.action.linear == wanted.linear and wanted in step.inputs:
            return step
        waiting += step.sources
    return None


def _proved(inference: Inference, trial: Trial) -> bool:
    """Whether what acts on each claimed output, by exact laws alone, is what is claimed."""
    if inference.strength not in ("structural", "weights"):
        return False
    for found, wanted, claimed in zip(inference.outputs, trial.out, trial.claimed, strict=True):
        if not claimed:
            continue
        if found is None or not (found.is_identity if wanted is None else found == wanted):
            return False
    return True


def _layer(step: Step, defect: Defect | None) -> Layer:
    node = step.node
    name = str(node.target).removeprefix("aten.").partition(".")[0]
    return Layer(
        node=node.name,
        operator=name,
        module=module_path(node),
        source=source_line(node),
        strength=step.strength,
        residual=step.residual,
        worst=step.worst,
        own=defect.own if defect else None,
        total=defect.total if defect else None,
        reason=step.reason,
        action="" if step.action is None else step.action.text(),
    )


def _apply(acting: object, value: Tensor) -> Tensor:
    moved: Tensor = value if acting is None else acting.apply(value)  # type: ignore[attr-defined]
    return moved


def _placeholders(captured: Captured, tensors: Tensors) -> tuple[object, ...]:
    """The arguments of the graph: the tensors in their places, every other leaf as it was captured."""
    leaves = pytree.tree_leaves((captured.args, captured.kwargs))
    given = iter(tensors)
    return tuple(next(given) if isinstance(leaf, Tensor) else leaf for leaf in leaves)


def _lie(wide: fx.GraphModule, captured: Captured, trial: LieTrial, samples: Sequence[Tensors]) -> Lie:
    def run(inputs: Tensors) -> Tensors:
        result = fx.Interpreter(wide).run(*_placeholders(captured, inputs), enable_io_processing=False)
        return tuple(leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor))

    worst = [0.0] * len(trial.out)
    for sample in samples:
        found = lie_defect(run, sample, trial.into, trial.out)
        worst = [
            max(a, b if claimed else 0.0) for a, b, claimed in zip(worst, found, trial.claimed, strict=True)
        ]
    return Lie(trial.name, tuple(worst))
