"""The axis groups of a model: what may be permuted together without a change of the function, and what not.

Neural graphs (Kofinas et al., 2024) and permutation specifications (Ainsworth et al., 2022) list such groups
by hand for each architecture; here they follow from the graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import fx

from tdsl.capture.normal import attribute, weights_of
from tdsl.errors import TdslError
from tdsl.symmetry.hidden.infer import Inference, infer
from tdsl.symmetry.hidden.layout import Atom, Axes, Layout, Prod, Sum, atoms_in
from tdsl.symmetry.hidden.permuting import Indices, Permuter

if TYPE_CHECKING:
    from tdsl.capture import Captured

Weights = Mapping[str, torch.Tensor]
"""Weights by their paths in the captured module."""


@dataclass(frozen=True, slots=True)
class Member:
    """An axis of a weight that the group permutes."""

    path: str
    axis: int
    places: str
    """How the axis is made up, the group written `*`: `3 × *`, `* × 16`, `8 + *`."""

    def __str__(self) -> str:
        return f"{self.path}[{self.axis}]" + (f" = {self.places}" if self.places != "*" else "")


@dataclass(frozen=True)
class AxisGroup:
    """Axes of weights that may be permuted together: the outputs stay what they are, whatever the weights.

    With `over`, the permutation may be another one at each index of those groups, as channels within a head
    may be at each head; its shape is then `(*over sizes, size)`.
    """

    atom: int
    size: int
    over: tuple[int, ...]
    over_sizes: tuple[int, ...]
    members: tuple[Member, ...]
    axes: Mapping[str, Axes] = field(repr=False)
    sizes: Mapping[int, int] = field(repr=False)
    module: fx.GraphModule = field(repr=False)

    @property
    def name(self) -> str:
        """The first weight of the group that is more than a vector, its axis, and how that is made up."""
        return str(next((m for m in self.members if len(self.axes[m.path]) > 1), self.members[0]))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a permutation."""
        return (*self.over_sizes, self.size)

    @property
    def text(self) -> str:
        """The group in words, with all its members."""
        within = f" in each of {' × '.join(map(str, self.over_sizes))} blocks" if self.over else ""
        return f"{self.size} permuted together{within}: {', '.join(map(str, self.members))}"

    def identity(self) -> Indices:
        """The permutation that changes nothing."""
        return np.broadcast_to(np.arange(self.size), self.shape).copy()

    def random(self, generator: np.random.Generator) -> Indices:
        """A permutation drawn uniformly."""
        return generator.permuted(self.identity(), axis=-1)

    def permute(self, permutation: Any, weights: Weights | None = None) -> dict[str, torch.Tensor]:
        """The weights of the group permuted: place i takes what was at `permutation[…, i]`.

        `weights` are those of the captured module by default; the other groups' axes stay as they are.
        Raises `TdslError` when `permutation` is none, or of another shape.
        """
        given = np.asarray(permutation, dtype=np.int64)
        if given.shape != self.shape and given.shape == (self.size,):
            given = np.broadcast_to(given, self.shape)
        if given.shape != self.shape or not np.array_equal(np.sort(given, axis=-1), self.identity()):
            raise TdslError(
                f"{self.name} cannot be permuted by an array of shape {list(given.shape)}",
                expected=f"the numbers 0 to {self.size - 1} in some order, in the shape {list(self.shape)}",
            )
        permuter = Permuter(self.atom, self.over, given, self.sizes)
        found = weights_of(self.module) if weights is None else weights
        return {path: permuter.apply(found[path], axes) for path, axes in self.axes.items()}


@dataclass(frozen=True, slots=True)
class PinnedAxis:
    """An axis of a weight that cannot be permuted, or not freely, and the operator that sees its order."""

    path: str
    axis: int
    reason: str

    def __str__(self) -> str:
        return f"{self.path}[{self.axis}]: {self.reason}"


@dataclass(frozen=True)
class HiddenSymmetry:
    """Everything that may be permuted in a model, and why the rest may not."""

    groups: tuple[AxisGroup, ...]
    pinned: tuple[PinnedAxis, ...]
    inference: Inference = field(repr=False)

    def group(self, path: str, axis: int) -> AxisGroup:
        """The group that permutes this axis of this weight; the first, where there are several.

        Raises `TdslError` with the reason where there is none.
        """
        for group in self.groups:
            if any((member.path, member.axis) == (path, axis) for member in group.members):
                return group
        reason = next((str(pin) for pin in self.pinned if (pin.path, pin.axis) == (path, axis)), None)
        raise TdslError(
            f"axis {axis} of {path} cannot be permuted" + (f": {reason}" if reason else ""),
            hint="`tdsl align MODEL` lists what can be permuted",
        )


def axis_groups(model: Captured | fx.GraphModule) -> list[AxisGroup]:
    """The groups of axes of a captured model whose joint permutation keeps the function, in graph order."""
    return list(hidden_symmetry(model).groups)


def hidden_symmetry(model: Captured | fx.GraphModule) -> HiddenSymmetry:
    """The groups of a captured model and the axes that are pinned. Raises `TdslError` without shapes."""
    module = model if isinstance(model, fx.GraphModule) else model.module
    inference = infer(module)
    system = inference.system
    axes = {str(node.target): inference.axes(node) for node in inference.weights()}
    order = dict.fromkeys(
        number for found in axes.values() for layout in found for number in atoms_in(layout)
    )
    sizes = {number: system.size(Atom(number)) for number in order}
    for number in list(sizes):
        for other in system.over(number):
            sizes.setdefault(other, system.size(Atom(other)))
    groups = [
        _group(number, axes, sizes, inference)
        for number in order
        if sizes[number] > 1 and system.pin_of(number) is None
    ]
    first = {str(node.target): i for i, node in enumerate(_first_uses(module))}
    groups.sort(key=lambda group: min(first.get(member.path, 0) for member in group.members))
    return HiddenSymmetry(tuple(groups), tuple(_pinned(axes, inference)), inference)


def with_weights(module: fx.GraphModule, weights: Weights) -> fx.GraphModule:
    """A graph module of its own with these weights instead; the given one stays as it is."""
    import copy

    memo: dict[int, Any] = {}
    for path, tensor in weights.items():
        old = attribute(module, path)
        values = tensor.detach().clone()
        memo[id(old)] = torch.nn.Parameter(values, old.requires_grad) if _is_parameter(old) else values
    return copy.deepcopy(module, memo)


def _is_parameter(tensor: torch.Tensor) -> bool:
    return isinstance(tensor, torch.nn.Parameter)


def _first_uses(module: fx.GraphModule) -> list[fx.Node]:
    """The weights in the order in which the graph reads them."""
    found: dict[fx.Node, None] = {}
    for node in module.graph.nodes:
        found.update(dict.fromkeys(n for n in node.all_input_nodes if n.op == "get_attr"))
    return list(found)


def _group(
    number: int, axes: Mapping[str, Axes], sizes: Mapping[int, int], inference: Inference
) -> AxisGroup:
    having = {
        path: found
        for path, found in axes.items()
        if any(number in set(atoms_in(layout)) for layout in found)
    }
    order = {str(node.target): i for i, node in enumerate(_first_uses(inference.module))}
    members = [
        Member(path, axis, _places(layout, number, sizes))
        for path, found in sorted(having.items(), key=lambda item: order.get(item[0], 0))
        for axis, layout in enumerate(found)
        if number in set(atoms_in(layout))
    ]
    over = tuple(sorted(n for n in inference.system.over(number) if sizes.get(n, 1) > 1))
    return AxisGroup(
        number,
        sizes[number],
        over,
        tuple(sizes[n] for n in over),
        tuple(members),
        having,
        sizes,
        inference.module,
    )


def _places(layout: Layout, number: int, sizes: Mapping[int, int]) -> str:
    """How an axis is made up: sizes of other atoms, `*` for the group's."""
    if isinstance(layout, Atom):
        return "*" if layout.number == number else str(sizes[layout.number])
    parts = [_places(part, number, sizes) for part in layout.parts]
    if isinstance(layout, Prod):
        found: list[str] = []
        for part in parts:
            if found and part.isdigit() and found[-1].isdigit():
                found[-1] = str(int(found[-1]) * int(part))
            else:
                found.append(f"({part})" if " + " in part else part)
        return " × ".join(found) or "1"
    if isinstance(layout, Sum):
        same = len(set(parts)) == 1 and len(parts) > 2
        return f"{len(parts)} of ({parts[0]})" if same else " + ".join(parts)
    return " | ".join(dict.fromkeys(parts))


def _pinned(axes: Mapping[str, Axes], inference: Inference) -> Sequence[PinnedAxis]:
    system = inference.system
    found: list[PinnedAxis] = []
    for path, layouts in axes.items():
        for axis, layout in enumerate(layouts):
            pins = dict.fromkeys(
                pin for number in atoms_in(layout) if (pin := system.pin_of(number)) is not None
            )
            if pins:
                found.append(PinnedAxis(path, axis, str(next(iter(pins)))))
    return found
