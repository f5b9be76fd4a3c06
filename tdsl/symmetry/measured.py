"""Laws that no transfer knows, found by trying: an operator on moved operands against its moved result.

An operator that the table has no law of (a distance, a cross product, one of the user's own) often passes an
action all the same. Its result is computed on operands that are moved exactly, on two samples in float64, and
the actions that the result might be moved by are tried one by one: none, those of the operands, the same
element on axes of its size, its products with identities, its determinant. A translation is whatever is left
over, where it is the same for both samples. What is found so holds on what was measured, and is reported so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, fx

from tdsl.errors import TdslError
from tdsl.symmetry.action import Action, action, alike, identity_on, resized, translated
from tdsl.symmetry.along import (
    Along,
    Monomial,
    Turn,
    along,
    is_orthogonal,
    matrix,
    permutes,
    transposed_inverse,
)
from tdsl.symmetry.element import Element, Linear, Permutation, identity, kronecker
from tdsl.symmetry.step import results_read

CLOSE = 1e-9
"""Relative distance in float64 below which a result is what an action makes of it."""

MOST_AXES = 3
"""An element is tried on so many axes of a result at once."""

WIDEST = 512
"""Longer axes are not taken for several axes in one."""


class Measured:
    """Asked for what acts on the results of a node, given what acts on its operands.

    `wide` is a graph in float64, `samples` its arguments, twice or more. The graph is run when the first
    question is asked.
    """

    def __init__(self, wide: fx.GraphModule, samples: Sequence[Sequence[Any]]) -> None:
        self._wide = wide
        self._nodes = {node.name: node for node in wide.graph.nodes}
        self._samples = samples
        self._values: list[dict[str, Any]] = []

    def __call__(
        self,
        node: fx.Node,
        sources: Sequence[fx.Node],
        moved: Sequence[Action | None],
        between: Sequence[fx.Node] = (),
    ) -> tuple[Action | None, ...] | None:
        """The action on each result of `node`; `None` where one of them is moved by none that was tried.

        `moved` are the actions on `sources`, which it reads directly or through the nodes `between`. Results
        that nothing reads have `None`.
        """
        if not self._values:
            self._values = [_values(self._wide, sample) for sample in self._samples]
        acting = {source.name: one for source, one in zip(sources, moved, strict=True) if one is not None}
        plain = [_listed(values[node.name]) for values in self._values]
        names = [one.name for one in (*between, node)]
        other = [self._results(names, values, acting) for values in self._values]
        if any(one is None for one in other):
            return None
        found: list[Action | None] = []
        read = results_read(node, len(plain[0]))
        for is_read, results, after in zip(
            read, zip(*plain, strict=True), zip(*other, strict=True), strict=True
        ):
            one = _acts(results, after, list(acting.values())) if is_read else None
            if one is None and is_read:
                return None
            found.append(one)
        return tuple(found)

    def _results(
        self, names: Sequence[str], values: dict[str, Any], acting: dict[str, Action]
    ) -> list[Any] | None:
        """What the last of some nodes computes once their operands are moved; `None` where one refuses."""
        known: dict[str, Any] = {}

        def moved(source: fx.Node) -> Any:
            if source.name in known:
                return known[source.name]
            value = values[source.name]
            one = acting.get(source.name)
            return one.apply(value) if one is not None and isinstance(value, Tensor) else value

        try:
            with torch.no_grad():
                for name in names:
                    node = self._nodes[name]
                    assert callable(node.target)
                    args, kwargs = (fx.node.map_arg(one, moved) for one in (node.args, node.kwargs))
                    known[name] = node.target(*args, **kwargs)
        except (RuntimeError, ValueError, IndexError, TdslError):
            return None
        return _listed(known[names[-1]])


def _values(wide: fx.GraphModule, sample: Sequence[Any]) -> dict[str, Any]:
    recorder = _Recorder(wide)
    with torch.no_grad():
        recorder.run(*sample, enable_io_processing=False)
    return recorder.found


class _Recorder(fx.Interpreter):
    """Runs the graph and keeps what every node computes."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.found: dict[str, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        """The value of a node."""
        self.found[n.name] = super().run_node(n)
        return self.found[n.name]


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _acts(plain: Sequence[Any], after: Sequence[Any], acting: Sequence[Action]) -> Action | None:
    """The first of the actions to try under which all results are what they are to be."""
    if not all(isinstance(value, Tensor) for value in (*plain, *after)):
        return None
    shifts = any(one.offset is not None for one in acting)
    for candidate in _candidates(acting, tuple(plain[0].shape)):
        try:
            moved = [candidate.apply(value) for value in plain]
        except (TdslError, RuntimeError):
            continue
        if any(one.shape != two.shape for one, two in zip(moved, after, strict=True)):
            continue
        if all(_close(one, two, two) for one, two in zip(after, moved, strict=True)):
            return candidate
        if shifts and plain[0].is_floating_point():
            over = [one - two for one, two in zip(after, moved, strict=True)]
            varies = plain[1] - plain[0]
            if all(_close(one, over[0], varies) for one in over[1:]):
                return translated(candidate, over[0])
    return None


def _close(found: Tensor, expected: Tensor, scale: Tensor) -> bool:
    """Whether two tensors are equal, relative to a third; where they are both infinite they are."""
    if not found.is_floating_point():
        return bool(found.equal(expected))
    off = torch.where(found == expected, 0.0, found - expected)
    size = torch.where(torch.isfinite(scale), scale, 0.0)
    return float(off.norm()) <= CLOSE * float(size.norm())


# ---------------------------------------------------------------- what is tried


def _candidates(acting: Sequence[Action], shape: Sequence[int]) -> Iterator[Action]:
    """Actions on a result of that shape that come from those on the operands, simple ones first."""
    rank = len(shape)
    seen: list[Action] = []
    for candidate in (
        identity_on(rank),
        *(one for each in acting for one in _aligned(each.linear, shape)),
        *(one for element in _elements(acting) for one in _placed(element, shape)),
    ):
        if candidate not in seen:
            seen.append(candidate)
            yield candidate


def _aligned(acting: Action, shape: Sequence[int]) -> Iterator[Action]:
    """The same action, its axes counted from either end; flips at the sizes that are there."""
    rank = len(shape)
    for shift in {0, rank - acting.rank}:
        if any(not 0 <= axis + shift < rank for axis in acting.touched):
            continue
        with contextlib.suppress(TdslError):
            parts: dict[int, Along] = {}
            for axis, element in acting.parts:
                size = shape[axis + shift]
                parts[axis + shift] = element if element.size == size else resized(element, size)
            order = list(range(rank))
            for place, axis in enumerate(acting.order):
                if place != axis:
                    order[place + shift] = axis + shift
            yield action(rank, parts, order)


def _elements(acting: Sequence[Action]) -> list[Along]:
    """What acts along the axes of the operands, each once, and what is dual to it."""
    found: list[Along] = []
    for one in acting:
        for _, element in one.parts:
            own = [element] if is_orthogonal(element) else [element, transposed_inverse(element)]
            found += [each for each in own if each not in found]
    return found


def _placed(element: Along, shape: Sequence[int]) -> Iterator[Action]:
    """An element, what it is made of, and what it makes, on the axes of a result that they fit."""
    rank = len(shape)
    for one in _variants(element, shape):
        axes = [axis for axis in range(rank) if shape[axis] == one.size]
        for count in range(1, min(len(axes), MOST_AXES) + 1):
            for chosen in combinations(axes, count):
                yield alike(rank, one, chosen)
    if rank and not permutes(element) and float(torch.linalg.det(matrix(element))) < 0:
        size = shape[-1]  # numbers that change their sign with the orientation
        yield action(rank, {rank - 1: Monomial(tuple(range(size)), (-1.0,) * size)})


def _variants(element: Along, shape: Sequence[int]) -> Iterator[Along]:
    yield element
    if isinstance(element, Turn) and element.start == 0 and not element.mirrored:
        return
    plain = _as_element(element)
    if not permutes(element):
        values = matrix(element)
        if float(torch.linalg.det(values)) < 0:
            yield along(Linear(-values))  # as cross products: by the determinant, too
    for size in {size for size in shape if size <= WIDEST}:
        if size > element.size and size % element.size == 0:
            copies = identity(size // element.size)
            yield along(kronecker([copies, plain]))
            yield along(kronecker([plain, copies]))
        elif 1 < size < element.size and element.size % size == 0:
            yield from _factors(element, size)


def _factors(element: Along, size: int) -> Iterator[Along]:
    """What acts on `size` places so that the element is its product with an identity."""
    values = matrix(element)
    unit = torch.eye(len(values) // size, dtype=torch.float64)
    for block, left in ((values[:size, :size], False), (values[:: len(unit), :: len(unit)], True)):
        whole = torch.kron(block.contiguous(), unit) if left else torch.kron(unit, block.contiguous())
        if torch.allclose(whole, values, rtol=0, atol=CLOSE):
            yield along(Linear(block.contiguous()))


def _as_element(element: Along) -> Element:
    return Permutation(element.places) if isinstance(element, Turn | Permutation) else Linear(matrix(element))
