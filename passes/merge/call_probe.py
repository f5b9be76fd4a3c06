"""Single operators run in float64 on random values of two copies, joined and apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import getitem
from typing import Any

import torch
from tdsl.passes.merge.call_arguments import Place, arguments_of, calls_before, mapped, repeats
from tdsl.passes.merge.call_regions import Bundle, Calls, Region
from torch import Tensor, fx

from tdsl.engine.workspace import Workspace
from tdsl.ops.targets import operator_of

CLOSE = 1e-9
"""Largest difference of values, relative to the largest of them."""


class Probe:
    """Runs single operators on random values of two copies, joined and apart."""

    def __init__(
        self,
        work: Workspace,
        calls: Calls,
        region: Region,
        places: Mapping[Bundle, Place],
        grown: Mapping[Bundle, int],
    ) -> None:
        self.work, self.calls, self.region = work, calls, region
        self.places, self.grown = places, grown

    def mixes(self, bundle: Bundle) -> str:
        """Why the operator does not keep copies apart; empty where it does."""
        node = bundle[0]
        operator = operator_of(node.target)
        if (
            node.target is getitem
            or operator is None
            or operator.pointwise
            or operator.elementwise
            or operator.moves
        ):
            return ""  # elements are mapped or moved one by one
        before = calls_before(self.calls, self.region, bundle)
        generator = torch.Generator().manual_seed(0)
        copies: list[dict[Bundle, Any]] = [
            {way: _drawn(way[0].meta["val"], generator) for way in before} for _ in range(2)
        ]
        both = {way: _join([copy[way] for copy in copies], self.places[way]) for way in before}
        shared: dict[fx.Node, Any] = {}

        def known(value: Any) -> Any:
            if not isinstance(value, fx.Node):
                return value
            if value not in shared:
                shared[value] = self._constant(value, generator)
            return shared[value]

        def repeat(one: fx.Node, axis: int, copies: int) -> Tensor:
            value: Tensor = known(one)
            return value.repeat(repeats(value.ndim, axis, copies))

        grown = self.grown.get(bundle)
        results = []
        for values, count in ((copies[0], 1), (copies[1], 1), (both, 2)):
            args, kwargs = arguments_of(
                self.calls, self.region, bundle, values, count, self.places, grown, repeat
            )
            args, kwargs = mapped(list(args), known), mapped(kwargs, known)
            try:
                with torch.no_grad():
                    made = node.target(*args, **kwargs)  # type: ignore[operator]
            except (RuntimeError, ValueError, IndexError) as why:
                return f"it cannot be tried in float64: {str(why).splitlines()[0]}"
            results.append(list(made) if isinstance(made, list | tuple) else [made])
        for first, second, whole in zip(*results, strict=True):
            if not _same(_join([first, second], _place_of(first, whole, self.places[bundle])), whole):
                return f"{operator.name} mixes the copies"
        return ""

    def _constant(self, node: fx.Node, generator: torch.Generator) -> Any:
        """The value of a constant in float64; a random one for what all copies share."""
        if node not in self.calls.constant:
            return _drawn(node.meta["val"], generator)
        if node.op == "get_attr":
            return self.work.evaluate(node)
        args = mapped(list(node.args), lambda one: self._constant(one, generator))
        kwargs = mapped(dict(node.kwargs), lambda one: self._constant(one, generator))
        made = node.target(*args, **kwargs)  # type: ignore[operator]
        return made.double() if isinstance(made, Tensor) and made.is_floating_point() else made


def _place_of(apart: Tensor, joined: Tensor, usual: Place) -> Place:
    """Where copies lie in one of several results, which may be elsewhere than in the first (last states)."""
    grew = [axis for axis, (a, b) in enumerate(zip(apart.shape, joined.shape, strict=False)) if a != b]
    return usual if not grew or grew == [usual.axis] else Place(grew[0])


def _join(values: Sequence[Tensor], place: Place) -> Tensor:
    """Copies at their place."""
    pieces = [_unfolded(value, place) for value in values]
    return torch.cat(pieces, place.axis + 1).flatten(place.axis, place.axis + 1)


def _unfolded(value: Tensor, place: Place) -> Tensor:
    """The axis of the copies as two: what comes before them, and the rest."""
    sizes, axis = value.shape, place.axis
    return value.reshape(*sizes[:axis], place.outer, sizes[axis] // place.outer, *sizes[axis + 1 :])


def _drawn(like: Tensor, generator: torch.Generator) -> Tensor:
    """Random values of that shape: normal in float64, else 0 and 1, which are indices into any table."""
    sizes = tuple(like.shape)
    if like.dtype.is_floating_point:
        return torch.randn(sizes, generator=generator, dtype=torch.float64)
    return torch.randint(0, 2, sizes, generator=generator).to(like.dtype)


def _same(apart: Tensor, joined: Tensor) -> bool:
    if apart.shape != joined.shape:
        return False
    if not apart.dtype.is_floating_point:
        return bool(torch.equal(apart, joined))
    scale = float(apart.abs().max()) if apart.numel() else 0.0
    return bool(torch.allclose(apart, joined, rtol=0, atol=CLOSE * max(scale, 1.0), equal_nan=True))
