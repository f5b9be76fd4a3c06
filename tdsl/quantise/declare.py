"""How a scheme of `quantize` is declared, beside its implementation.

A module of this room names what it offers in a tuple `DECLARED`; `table` collects them. A scheme looks at one
weight at a time and writes a `Recipe`: arrays for the file, and the operators that put the weight together.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tdsl.errors import Span, TdslError
from tdsl.lang import tree

Array = np.ndarray[tuple[int, ...], np.dtype[Any]]

NODE_BYTES = 100
"""About what an operator or the header of an array takes in a file."""


@dataclass(frozen=True, slots=True)
class Weight:
    """A float32 weight of a file; where it is a linear map, also how, and what it is applied to."""

    values: Array
    rows_first: bool | None = None
    """Whether the first axes (all but those of the inputs) count its outputs: [m, …] is read as [m, n].

    Otherwise its last axis counts them, and […, m] is read as [n, m]. `None`: it is no linear map.
    """
    moment: Array | None = None
    """E[x·xᵀ] of its inputs over calibration data, [n, n] in float64; `None` where nothing is known."""
    products: bool = False
    """Whether only products read it, as their right operand, so that a runtime may multiply by its codes."""
    looked_up: bool = False
    """Whether only look-ups by its first axis read it, so that rows may be put together after them."""

    @property
    def outputs(self) -> int:
        """m, the number of rows of the map."""
        return int(self.values.shape[0] if self.rows_first else self.values.shape[-1])

    @property
    def inputs(self) -> int:
        """n, the number of its columns."""
        return int(self.values.size // self.outputs)

    @property
    def flat(self) -> Array:
        """The map [m, n] as a view or a turned view, float32."""
        if self.rows_first:
            return self.values.reshape(self.outputs, -1)
        return self.values.reshape(-1, self.outputs).T

    def is_map(self, largest: int) -> bool:
        """Whether it is a map, of no more rows and columns than that."""
        return self.rows_first is not None and max(self.outputs, self.inputs) <= largest

    @property
    def importance(self) -> Array:
        """What an error at each input weighs: its mean square, or the same for all. → [n]"""
        if self.moment is None:
            return np.ones(self.inputs)
        found: Array = np.maximum(np.diag(self.moment), 0) + 1e-12 * np.trace(self.moment)
        return found

    @property
    def root(self) -> Array:
        """What columns are multiplied by where errors shall count alike: 1 for the weightiest. → [n]"""
        importance = self.importance
        found: Array = np.sqrt(importance / importance.max())
        return found

    def error(self, rebuilt: Array) -> float:
        """How far another map [m, n] is from this one, relative: of its outputs where inputs are known.

        √(tr(Δ·C·Δᵀ) / tr(W·C·Wᵀ)) with Δ = W − Ŵ and C the second moment of the inputs, or the identity.
        """
        lost = whole = 0.0
        step = max(1, PIECE // self.inputs)
        for start in range(0, self.outputs, step):
            rows = self.flat[start : start + step].astype(np.float64)
            missed = rows - rebuilt[start : start + step]
            whole += _squared(rows, self.moment)
            lost += _squared(missed, self.moment)
        return float(np.sqrt(max(lost, 0.0) / whole)) if whole > 0 else 0.0


PIECE = 2**22
"""Entries of a weight that are widened at once."""


def _squared(rows: Array, moment: Array | None) -> float:
    return float(np.vdot(rows, rows if moment is None else rows @ moment))


@dataclass(frozen=True, slots=True)
class Packed:
    """Codes of four bits in an array of ONNX: entries of any shape, from −8 to 7, or 0 to 15."""

    codes: Array
    signed: bool = True


@dataclass(frozen=True, slots=True)
class Step:
    """An operator of ONNX over arrays and results of a recipe, by their keys; it has one result."""

    operator: str
    inputs: tuple[str, ...]
    result: str
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Recipe:
    """What a file holds for a weight: arrays by key, and steps whose last result is the weight."""

    arrays: dict[str, Array | Packed] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    by_row: bool = False
    """Whether the steps may act on rows that were looked up in the arrays, all of which have as many."""

    def keep(self, key: str, values: Array | Packed) -> str:
        """Let the file hold an array; returns its key."""
        self.arrays[key] = values
        return key

    def step(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Compute something; returns the key of the result."""
        result = f"{len(self.steps)}"
        self.steps.append(Step(operator, inputs, result, attributes))
        return result

    def shaped(self, source: str, shape: Sequence[int]) -> str:
        """Another shape of a result; the key of that."""
        key = f"shape.{len(self.steps)}"
        return self.step("Reshape", source, self.keep(key, np.array(shape, dtype=np.int64)))

    @property
    def nbytes(self) -> int:
        """Bytes that it takes in the file."""
        held = (-(-a.codes.size // 2) if isinstance(a, Packed) else a.nbytes for a in self.arrays.values())
        return sum(map(int, held)) + NODE_BYTES * (len(self.arrays) + len(self.steps))


@dataclass(frozen=True, slots=True)
class Stored:
    """A weight as a scheme stores it: how, what that loses, and in which way it was found."""

    recipe: Recipe
    error: float = 0.0
    """Relative, of the layer's output on calibration data or of the weight: what `Weight.error` says."""
    how: str = ""
    """`rounded`, `error feedback`: which of the ways that were tried lost the least."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What a value of a parameter must be, beyond its kind."""

    holds: Callable[[Any], bool]
    expected: str


@dataclass(frozen=True)
class Scheme:
    """A way to store weights: `store(weight, **arguments)`, `None` for a weight that it does not take."""

    name: str
    declared: str
    """Its parameters in the notation of the language: `block: Int = 32, error: Ratio = 20%`."""
    store: Callable[..., Stored | None]
    doc: str
    source: str = ""
    """Author and year of the method."""
    lossy: bool = True
    """Whether weights change, so that a pipeline must say how much may be lost."""
    opset: Callable[[Mapping[str, Any]], int] = lambda arguments: 18
    """The first operator set of ONNX that has what its files use, by its arguments."""
    limits: Mapping[str, Limit] = field(default_factory=dict)
    by_data: bool = False
    """Whether it takes second moments of inputs into account."""

    @functools.cached_property
    def parameters(self) -> tuple[tree.Parameter, ...]:
        """What its arguments may be."""
        from tdsl.lang import parse

        [pipeline] = parse(f"pipeline {self.signature} {{}}").items
        assert isinstance(pipeline, tree.Pipeline)
        return pipeline.parameters

    @property
    def signature(self) -> str:
        """`int4(block: Int = 32, error: Ratio = 20%)`."""
        return f"{self.name}({self.declared})" if self.declared else self.name

    def require(self, arguments: Mapping[str, Any], spans: Mapping[str, Span]) -> None:
        """Raise `TdslError` at an argument that is of the right kind and still no value for its parameter."""
        for name, limit in {**_RATIOS, **self.limits}.items():
            value = arguments.get(name)
            if value is not None and not limit.holds(value):
                raise TdslError(
                    f"{self.name} cannot have {name}={value:g}", spans.get(name), expected=limit.expected
                )


_RATIOS = {"error": Limit(lambda value: 0 < value <= 1, "a share above 0 and at most 100%")}
"""What is true of a parameter in every scheme that has it."""
