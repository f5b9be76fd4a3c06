"""Whether a wrapped model keeps its law: measured in float64, on inputs among which its output varies.

A law that holds because the output never changes is none, and a measurement that could not have failed shows
nothing. So each report also says how much the output varies, and by how much the same measurement fails where
the law is broken on purpose.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor, nn

from tdsl.errors import TdslError

Tensors = tuple[Tensor, ...]
M = TypeVar("M", bound=nn.Module)

ROUNDING = 1e-9
"""Relative defects below this are rounding, in float64, of a few layers."""
SEEN = 1e-6
"""A broken law must show at least so much."""
VARIES = 1e-9
"""Outputs that differ by less, relative to those of the model, do not depend on the input."""
DRAWS = 3
"""Random inputs beside those that are given."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change of the inputs, and what it should do to the outputs."""

    name: str
    inputs: Callable[[Tensors], Tensors]
    outputs: Callable[[Tensors], Tensors]


@dataclass(frozen=True, slots=True)
class Margin:
    """How close an input came to where a construction breaks: ties, collinear vectors, equal eigenvalues."""

    what: str
    smallest: float
    """The smallest margin met, relative."""
    needed: float
    """Below this rounding decides."""
    where: str
    """The input it was met at."""

    @property
    def safe(self) -> bool:
        """Whether rounding decides nothing."""
        return self.smallest >= self.needed


@dataclass(frozen=True, slots=True)
class LawReport:
    """What was measured of a law."""

    law: str
    defects: Mapping[str, float]
    """The largest relative difference between moving first and moving last, for each change."""
    without: float
    """The same of the model alone, for the worst change: what the wrapper is there for."""
    variation: float
    """How far outputs for different inputs are apart, relative to those of the model alone."""
    controls: Mapping[str, float] = field(default_factory=dict)
    """The defect where the law is broken on purpose."""
    margins: tuple[Margin, ...] = ()
    left: float | None = None
    """What a solver of a fixed number of steps leaves, at worst; `None` where there is none."""

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong, in sentences; empty where the law holds, and not for want of anything to see.

        A model that keeps the law by itself cannot be made to break it, so that no control is asked to fail.
        """
        found = [
            f"{name} changes the result by {defect:.1e}"
            for name, defect in self.defects.items()
            if not defect <= ROUNDING
        ]
        if not self.variation > VARIES:
            found.append("the output is the same for every input: the law holds of a constant")
        if self.left is not None and not self.left <= ROUNDING:
            found.append(f"the solver leaves {self.left:.1e}: more steps, or inputs further from a tie")
        if self.without > SEEN and self.controls and not max(self.controls.values()) > SEEN:
            found.append("no control fails: the measurement would not see a broken law")
        found += [
            f"{m.what}: {m.smallest:.1e} at {m.where}, where {m.needed:.0e} is needed"
            for m in self.margins
            if not m.safe
        ]
        return tuple(found)

    @property
    def passed(self) -> bool:
        """Whether there is no problem."""
        return not self.problems

    def __str__(self) -> str:
        lines = [f"{self.law}: {'holds' if self.passed else 'does not hold'}"]
        lines += [f"  {name}: {defect:.1e}" for name, defect in self.defects.items()]
        lines.append(f"  the model alone: {self.without:.1e}")
        lines.append(f"  outputs vary by {self.variation:.1e}")
        lines += [f"  control, {name}: {defect:.1e}" for name, defect in self.controls.items()]
        lines += [f"  {m.what}: at least {m.smallest:.1e}, at {m.where}" for m in self.margins]
        if self.left is not None:
            lines.append(f"  left by the solver: {self.left:.1e}")
        lines += [f"  problem: {problem}" for problem in self.problems]
        return "\n".join(lines)


def examined(
    law: str,
    wrapped: Callable[..., object],
    alone: Callable[..., object],
    changes: Sequence[Change],
    samples: Sequence[Tensors],
    controls: Mapping[str, tuple[Callable[..., object], Sequence[Change]]],
    margins: tuple[Margin, ...] = (),
    left: float | None = None,
) -> LawReport:
    """The report on a law: `wrapped` and `alone` (the model in it), on samples in float64.

    A control is a function that breaks the law, with the changes under which it must be seen to; `left` is
    what a solver in `wrapped` leaves. Raises `TdslError` for fewer than two samples, and for results that are
    not finite.
    """
    if len(samples) < 2:
        raise TdslError("a law cannot be seen on one input", expected="at least two inputs")
    with torch.no_grad():
        plain = _run_alone(alone, samples)
        results = [outputs_of(wrapped(*x)) for x in samples]
        for i, many in enumerate(results):
            if not all(bool(t.isfinite().all()) for t in (*plain[i], *many)):
                raise TdslError(
                    f"the results for {name_of(i)} are not finite",
                    expected="inputs for which the model gives numbers",
                )
        scale = max(
            (float(t.abs().max()) for many in (*plain, *results) for t in many if t.numel()), default=0.0
        )
        defects = {c.name: _defect(wrapped, c, samples, scale) for c in changes}
        return LawReport(
            law,
            defects,
            max((_defect(alone, c, samples, scale) for c in changes), default=0.0),
            _variation(results, scale),
            {
                name: max(_defect(broken, c, samples, scale) for c in seen)
                for name, (broken, seen) in controls.items()
            },
            margins,
            left,
        )


def _run_alone(alone: Callable[..., object], samples: Sequence[Tensors]) -> list[Tensors]:
    try:
        return [outputs_of(alone(*x)) for x in samples]
    except RuntimeError as reason:
        shapes = ", ".join(f"{list(x.shape)} {x.dtype}".replace("torch.", "") for x in samples[0])
        raise TdslError(
            f"the model does not run in float64 on {shapes}: {str(reason).splitlines()[0]}",
            expected="a model that takes the inputs that were given",
            hint="weights are converted where the model is an `nn.Module`; a function keeps what it holds",
        ) from None


def outputs_of(result: object) -> Tensors:
    """What a model returned, as a tuple. Raises `TdslError` for anything but tensors."""
    many = tuple(result) if isinstance(result, tuple | list) else (result,)
    for one in many:
        if not isinstance(one, Tensor):
            raise TdslError(
                f"the model returns a {type(one).__name__}", expected="a tensor, or a tuple of tensors"
            )
    return many


def drawn(given: Tensors, seed: int) -> list[Tensors]:
    """The given inputs and random ones of their shapes, in float64.

    What is no real number stays as it is; where nothing is one (pixels of 8 bits, token ids) values are drawn
    from those that occur. Raises `TdslError` where none is given, or nothing in one.
    """
    if not given:
        raise TdslError(
            "nothing to check the law on", expected="an input of each kind, as the model takes it"
        )
    for one in given:
        if not one.numel():
            raise TdslError(
                f"an input of shape {list(one.shape)} has nothing to check the law on",
                expected="at least one sample",
            )
    random = torch.Generator().manual_seed(seed)
    whole = not any(x.is_floating_point() for x in given)

    def another(x: Tensor) -> Tensor:
        if not x.is_floating_point():
            known = x.cpu()
            places = torch.randint(x.numel(), x.shape, generator=random)
            return known.flatten()[places] if whole else known
        return torch.randn(x.shape, generator=random, dtype=torch.float64)

    exact = tuple(x.detach().cpu().double() if x.is_floating_point() else x.cpu() for x in given)
    return [exact, *(tuple(another(x) for x in given) for _ in range(DRAWS))]


def name_of(sample: int) -> str:
    """What a report calls a sample."""
    return "the given input" if sample == 0 else f"random input {sample}"


def in_double(module: M) -> M:
    """A copy for measuring: float64, evaluation mode, on the CPU."""
    return copy.deepcopy(module).double().eval().cpu()


def _defect(f: Callable[..., object], change: Change, samples: Sequence[Tensors], scale: float) -> float:
    worst = 0.0
    for x in samples:
        moved, expected = outputs_of(f(*change.inputs(x))), change.outputs(outputs_of(f(*x)))
        if [t.shape for t in moved] != [t.shape for t in expected]:
            return math.inf
        for one, other in zip(moved, expected, strict=True):
            worst = max(worst, _relative(one, other, scale))
    return worst


def _variation(results: Sequence[Tensors], scale: float) -> float:
    return max(
        (
            _relative(a, b, scale)
            for many in results[1:]
            for a, b in zip(results[0], many, strict=True)
            if a.shape == b.shape
        ),
        default=0.0,
    )


def _relative(one: Tensor, other: Tensor, scale: float) -> float:
    if not one.numel():
        return 0.0
    largest = float((one.double() - other.double()).abs().max())
    if math.isnan(largest):
        return math.inf
    return largest / scale if scale else 0.0
