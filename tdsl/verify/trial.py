"""Run original and result side by side, sample by sample, and keep measurements rather than outputs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.memory import give_back
from tdsl.verify.compare import Difference, compare, count_lost, distance, root_mean_square
from tdsl.verify.contract import Violation
from tdsl.verify.runner import Runner, Tensors
from tdsl.verify.samples import Sample
from tdsl.verify.tolerance import Double


@dataclass(frozen=True, slots=True)
class Measurement:
    """One output on one sample.

    `size` and the distances `…_off` are RMS values: of the reference, and of what was run to it. The
    reference is the original in float64 where that runs, and the original as it is elsewhere
    (`original_off` is then `None`). `narrow_off` is that of what runs for the original in float64, as it
    is (`Double.narrow`).
    """

    sample: Sample
    output: str
    dtype: torch.dtype
    difference: Difference
    size: float
    original_off: float | None
    file_off: float
    rewritten_off: float | None
    narrow_off: float | None = None


@dataclass(slots=True)
class Trial:
    """Both sides, and what was found so far."""

    original: Runner
    file: Runner
    double: Double | None = None
    output_names: tuple[str, ...] = ()
    measured: list[Measurement] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    _original_life: dict[str, _Life] = field(default_factory=dict)
    _file_life: dict[str, _Life] = field(default_factory=dict)

    def run(self, sample: Sample) -> None:
        """Measure one sample; one that was drawn and that the original refuses is skipped.

        Raises `TdslError` when the original fails on a sample that was given.
        """
        try:
            references = self.original(sample.inputs)
        except Exception as error:  # anything: it is the user's code
            if sample.kind not in ("random", "hard"):
                raise TdslError(
                    f"the original model fails on sample '{sample.name}': {_reason(error)}",
                    hint="samples must be inputs that the model accepts",
                ) from error
            self.skipped.append((sample.name, _reason(error)))
            return
        results = self._attempt(self.file, sample, "the result", len(references))
        if results is None:
            return
        bases, rewritten, narrow = self._run_in_double(sample, len(references))
        for i, (reference, result) in enumerate(zip(references, results, strict=True)):
            others = [found[i] if found else None for found in (bases, rewritten, narrow)]
            self._measure(sample, i, reference, result, *others)
        give_back()

    def still_outputs(self) -> list[str]:
        """Outputs of the original that were the same on all samples of one shape."""
        return [name for name, life in self._original_life.items() if not life.varies]

    def dead_outputs(self) -> list[str]:
        """Outputs that vary in the original, and not in the result."""
        return [
            name
            for name, life in self._original_life.items()
            if life.varies and not self._file_life[name].varies
        ]

    def _attempt(self, run: Runner, sample: Sample, who: str, count: int) -> Tensors | None:
        """The outputs of `run`; `None`, and a violation, where it fails or has another number of them."""
        try:
            results = run(sample.inputs)
        except Exception as error:  # a runtime may raise anything
            message = f"{who} does not run: {_reason(error)}"
            self.violations.append(Violation("runs", sample.name, "", message))
            return None
        if len(results) != count:
            message = f"{who} has {len(results)} outputs instead of {count}"
            self.violations.append(Violation("outputs", sample.name, "", message))
            return None
        return results

    def _run_in_double(
        self, sample: Sample, count: int
    ) -> tuple[Tensors | None, Tensors | None, Tensors | None]:
        """The original in float64, the rewritten module in float64, and the former in its own precision."""
        if self.double is None:
            return None, None, None
        try:
            bases = self.double.original(sample.inputs)
        except Exception:  # it ran in float64 on the example, but does not at these sizes: unmeasured here
            return None, None, None
        narrow = self._run_narrow(self.double, sample)
        if self.double.rewritten is None:
            return bases, None, narrow
        rewritten = self._attempt(self.double.rewritten, sample, "the rewritten module, in float64,", count)
        return bases, rewritten, narrow

    def _run_narrow(self, double: Double, sample: Sample) -> Tensors | None:
        try:
            return double.narrow(sample.inputs) if double.narrow else None
        except Exception:  # a module that is in float64 itself takes no narrower inputs: unmeasured
            return None

    def _measure(
        self,
        sample: Sample,
        index: int,
        reference: Tensor,
        result: Tensor,
        known: Tensor | None,
        rewritten: Tensor | None,
        narrow: Tensor | None,
    ) -> None:
        name = self.output_names[index] if index < len(self.output_names) else f"output {index}"
        base = reference if known is None else known
        rewritten_off = None
        if rewritten is not None:
            rewritten_off = math.inf if count_lost(base, rewritten) else distance(rewritten, base)
        self.measured.append(
            Measurement(
                sample=sample,
                output=name,
                dtype=reference.dtype,
                difference=compare(reference, result),
                size=root_mean_square(base),
                original_off=None if known is None else distance(reference, known),
                file_off=distance(result, base),
                rewritten_off=rewritten_off,
                narrow_off=None if narrow is None else distance(narrow, base),
            )
        )
        self._original_life.setdefault(name, _Life()).see(reference)
        self._file_life.setdefault(name, _Life()).see(result)


@dataclass(slots=True)
class _Life:
    """Whether an output differs between two inputs that give it the same shape."""

    first: dict[tuple[int, ...], Tensor] = field(default_factory=dict)
    varies: bool = False

    def see(self, value: Tensor) -> None:
        if not self.varies and value.numel():
            earlier = self.first.setdefault(tuple(value.shape), value.detach().clone())
            self.varies = not torch.equal(torch.nan_to_num(earlier), torch.nan_to_num(value))


def _reason(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
