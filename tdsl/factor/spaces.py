"""Groups, their representations and spaces of intertwining matrices, as a `where` block calls them.

`(a, c) = project(W, commutant(S(n)))` is the projection of a weight onto the matrices that commute with all
permutations, a·I + c·1·1ᵀ; `defect(W, commutant(S(n)))` is how far it is from them.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor.declare import CompileTimeFunction, Decomposition
from tdsl.symmetry.group import Group
from tdsl.symmetry.makers import MAKERS
from tdsl.symmetry.representation import Representation, defining, power, regular, trivial
from tdsl.symmetry.space import Space, channels, commutant, hom


def project(weight: Tensor, space: Space) -> tuple[Tensor, ...]:
    """The coefficients of the nearest matrix of a space: numbers, or with channels matrices [o, i].

    Raises `TdslError` when the weight has not the shape of the space.
    """
    return tuple(space.coefficients(weight))


def defect(weight: Tensor, space: Space) -> float:
    """The distance of a weight from a space, relative to its norm. Raises what `project` raises."""
    return space.defect(weight)


def projection(space: Space) -> Decomposition:
    """The decomposition of a weight into the coefficients of one space."""
    return Decomposition(
        name="project",
        params=("W", "space"),
        results=space.dimension,
        function=project,
        promise_text=f"W ≈ Σ c_d · B_d over a basis of {space.text}",
        promise=space.matrix,
        forms=(),
        source=_SOURCE,
        doc=_DOC,
    )


_SOURCE = "Maron et al., 2019 (bases); Burnside's average over a group"
_DOC = "Coefficients of the nearest matrix of a space of intertwining matrices."


def _unbound(*_: Tensor) -> Tensor:
    raise TdslError("the promise of `project` depends on its space", expected="`bound(space)`")


def _power(base: Group | Representation, order: int) -> Representation:
    return power(defining(base) if isinstance(base, Group) else base, order)


def _group(name: str, params: str, function: Callable[..., object], doc: str) -> CompileTimeFunction:
    return CompileTimeFunction(name, "group", tuple(params.split()), function, doc)


DECLARED = (
    *(CompileTimeFunction(one.name, "group", one.params, one.function, one.doc) for one in MAKERS.values()),
    _group("regular", "group", regular, "A finite group on itself, one place for each element."),
    _group("power", "group order", _power, "The tensor power: several axes moved alike, flattened."),
    _group("trivial", "group size", trivial, "Places that no element of the group moves."),
    CompileTimeFunction(
        "commutant", "space", ("group",), commutant, "The matrices that commute with a group."
    ),
    CompileTimeFunction(
        "hom", "space", ("source", "target"), hom, "The matrices that intertwine two representations."
    ),
    CompileTimeFunction(
        "channels",
        "space",
        ("space", "outputs", "inputs"),
        channels,
        "A member of a space for each pair of channels, which run fastest.",
    ),
    CompileTimeFunction(
        "defect",
        "number",
        ("W", "space"),
        defect,
        "The distance of a weight from a space, relative to its norm.",
    ),
    Decomposition(
        name="project",
        params=("W", "space"),
        results=0,
        function=project,
        promise_text="W ≈ Σ c_d · B_d over a basis of the space",
        promise=_unbound,
        forms=(),
        source=_SOURCE,
        doc=_DOC,
        bound=projection,
    ),
)
