"""The one list of what a `where` block can call on weights: decompositions, numbers, predicates, rank rules.

A decomposition is a promise and a function that keeps it. The prover substitutes the promise for the
weight, the engine calls the function, the tests hold each function to its promise. To add one, declare it
here; nothing else changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal, TypeVar

from torch import Tensor

from tdsl.factor import conv, matrix, structure
from tdsl.factor.rank import Auto, Energy, Error, Ratio

Dims = tuple[str, ...]
"""A shape as dimension text: `("T", "r", "1", "1")`."""


@dataclass(frozen=True, slots=True)
class Form:
    """Shapes of a decomposition for one number of axes of its operand."""

    operand: Dims
    results: tuple[Dims, ...]


@dataclass(frozen=True, slots=True)
class Decomposition:
    """A weight as several: `function(weight, *ranks)` returns factors from which `promise` rebuilds it."""

    kind: ClassVar[str] = "decomposition"

    name: str
    params: tuple[str, ...]
    """Argument names, the weight first; `?` marks an optional one."""
    results: int
    """How many factors it returns."""
    function: Callable[..., tuple[Tensor, ...]]
    promise_text: str
    """The promise in the notation of the language, in the names of `forms`."""
    promise: Callable[..., Tensor]
    """The weight that the factors stand for, from the factors alone."""
    forms: tuple[Form, ...]
    """One for each number of axes that the weight may have."""
    source: str
    """Author and year of the method."""
    doc: str

    def form(self, axes: int) -> Form | None:
        """The shapes for a weight of that many axes; `None` when it takes no such weight."""
        return next((form for form in self.forms if len(form.operand) == axes), None)


@dataclass(frozen=True, slots=True)
class CompileTimeFunction:
    """A function on weights known at compile time, or a rank rule."""

    name: str
    kind: Literal["number", "predicate", "tensor", "rank"]
    params: tuple[str, ...]
    """Argument names; `?` marks an optional one."""
    function: Callable[..., Any]
    doc: str
    results: int = 1


def _forms(*texts: str) -> tuple[Form, ...]:
    """`[m, n] -> [m, r], [r, n]`, once for each number of axes."""

    def dims(text: str) -> tuple[Dims, ...]:
        shapes = text.strip()[1:-1].split("], [")
        return tuple(tuple(dim.strip() for dim in shape.split(",")) for shape in shapes)

    parts = (text.split("->") for text in texts)
    return tuple(Form(dims(operand)[0], dims(results)) for operand, results in parts)


Declared = TypeVar("Declared", Decomposition, CompileTimeFunction)


def _by_name(declared: Iterable[Declared]) -> Mapping[str, Declared]:
    return MappingProxyType({one.name: one for one in declared})


DECOMPOSITIONS: Mapping[str, Decomposition] = _by_name(
    (
        Decomposition(
            name="svd",
            params=("W", "rank"),
            results=2,
            function=matrix.svd,
            promise_text="W ≈ U @ V",
            promise=lambda U, V: U @ V,  # noqa: N803
            forms=_forms("[m, n] -> [m, r], [r, n]"),
            source="Eckart & Young, 1936; by random projection Halko, Martinsson & Tropp, 2011",
            doc="The best rank-r approximation of a matrix in the Frobenius norm, as two balanced factors.",
        ),
        Decomposition(
            name="channel_svd",
            params=("K", "rank"),
            results=2,
            function=conv.channel_svd,
            promise_text="K[t, s, …] ≈ Σ_r second[t, r] · first[r, s, …]",
            promise=conv.channel_product,
            forms=_forms(
                "[T, S, k] -> [r, S, k], [T, r, 1]",
                "[T, S, kh, kw] -> [r, S, kh, kw], [T, r, 1, 1]",
                "[T, S, kd, kh, kw] -> [r, S, kd, kh, kw], [T, r, 1, 1, 1]",
            ),
            source="Zhang, Zou, He & Sun, 2016",
            doc="A kernel as one with fewer outputs, then a 1×1 mixing of channels.",
        ),
        Decomposition(
            name="spatial_svd",
            params=("K", "rank"),
            results=2,
            function=conv.spatial_svd,
            promise_text="K[t, s, i, …] ≈ Σ_r horizontal[t, r, 0, …] · vertical[r, s, i, 0…]",
            promise=conv.spatial_product,
            forms=_forms(
                "[T, S, kh, kw] -> [r, S, kh, 1], [T, r, 1, kw]",
                "[T, S, kd, kh, kw] -> [r, S, kd, 1, 1], [T, r, 1, kh, kw]",
            ),
            source="Jaderberg, Vedaldi & Zisserman, 2014",
            doc="A kernel as one along the first spatial axis, then one along the others.",
        ),
        Decomposition(
            name="tucker2",
            params=("K", "rank_out", "rank_in?"),
            results=3,
            function=conv.tucker2,
            promise_text="K[t, s, …] ≈ Σ_r Σ_q last[t, r] · core[r, q, …] · first[q, s]",
            promise=conv.tucker2_product,
            forms=_forms(
                "[T, S, k] -> [q, S, 1], [r, q, k], [T, r, 1]",
                "[T, S, kh, kw] -> [q, S, 1, 1], [r, q, kh, kw], [T, r, 1, 1]",
                "[T, S, kd, kh, kw] -> [q, S, 1, 1, 1], [r, q, kd, kh, kw], [T, r, 1, 1, 1]",
            ),
            source="Tucker, 1966; De Lathauwer, De Moor & Vandewalle, 2000; of kernels Kim et al., 2016",
            doc="A kernel as a 1×1 reduction of channels, a small kernel, and a 1×1 expansion.",
        ),
    )
)
"""Every decomposition, by its name in the language."""


FUNCTIONS: Mapping[str, CompileTimeFunction] = _by_name(
    (
        CompileTimeFunction(
            "numerical_rank",
            "number",
            ("W", "tolerance?"),
            structure.numerical_rank,
            "How many singular values exceed `tolerance` times the largest; by default, rounding.",
        ),
        CompileTimeFunction(
            "energy_rank",
            "number",
            ("W", "energy"),
            structure.energy_rank,
            "The smallest rank that keeps that share of the squared Frobenius norm.",
        ),
        CompileTimeFunction(
            "sparsity", "number", ("W",), structure.sparsity, "The share of entries that are zero."
        ),
        CompileTimeFunction("norm", "number", ("W",), structure.norm, "The Frobenius norm."),
        CompileTimeFunction(
            "relative_error",
            "number",
            ("reference", "approximation"),
            structure.relative_error,
            "‖reference − approximation‖ / ‖reference‖ in the Frobenius norm.",
        ),
        CompileTimeFunction(
            "is_symmetric", "predicate", ("W", "tolerance?"), structure.is_symmetric, "Whether W = Wᵀ."
        ),
        CompileTimeFunction(
            "is_diagonal",
            "predicate",
            ("W", "tolerance?"),
            structure.is_diagonal,
            "Whether a square W is zero off its diagonal.",
        ),
        CompileTimeFunction(
            "is_circulant",
            "predicate",
            ("W", "tolerance?"),
            structure.is_circulant,
            "Whether W[i, j] depends on (i − j) mod n alone.",
        ),
        CompileTimeFunction(
            "energy", "rank", ("kept",), Energy, "The smallest rank that keeps that share of the energy."
        ),
        CompileTimeFunction(
            "ratio", "rank", ("fraction",), Ratio, "That fraction of the break-even rank, rounded down."
        ),
        CompileTimeFunction(
            "error", "rank", ("bound",), Error, "The smallest rank within that relative Frobenius error."
        ),
        CompileTimeFunction(
            "auto", "rank", (), Auto, "As many terms as stand out of white noise (Gavish & Donoho, 2014)."
        ),
    )
)
"""Every other function on weights, and the rank rules, by name in the language."""
