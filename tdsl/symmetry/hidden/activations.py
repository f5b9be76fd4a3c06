"""What the units of a group compute on inputs: one row of activations for each unit.

Correlations of activations as the measure of what belongs together: Li et al. (Convergent Learning, 2015).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import fx
from torch.utils import _pytree as pytree

from tdsl.errors import TdslError
from tdsl.symmetry.hidden.groups import AxisGroup
from tdsl.symmetry.hidden.infer import Inference
from tdsl.symmetry.hidden.layout import UNIT, Atom, Axes, Layout, Prod, atoms_in, factors
from tdsl.symmetry.hidden.units import Rows


class Activations:
    """Values of a graph on inputs, seen as the units of its groups."""

    def __init__(self, inference: Inference, groups: Sequence[AxisGroup]) -> None:
        self.inference = inference
        free = {group.atom for group in groups}
        self.sources: dict[int, tuple[fx.Node, Axes]] = {}
        """For each group the first value that has its units, and of other groups those it depends on only."""
        for node in inference.module.graph.nodes:
            if node.op != "call_function":
                continue
            axes = inference.axes(node)
            numbers = {number for layout in axes for number in atoms_in(layout)}
            for group in groups:
                wanted = {group.atom, *group.over}
                if group.atom in self.sources or not wanted <= numbers or numbers & free - wanted:
                    continue
                if any(group.atom in other.over for other in groups if other.atom in group.over):
                    continue  # each depends on the other: there is no order to match them in
                if all(_divides(layout, wanted) for layout in axes):
                    self.sources[group.atom] = (node, axes)

    def run(self, module: fx.GraphModule, inputs: Sequence[tuple[Any, ...]]) -> dict[fx.Node, torch.Tensor]:
        """The values that groups are read from, for all inputs. Raises `TdslError` for too few values."""
        wanted = {node.name: node for node, _ in self.sources.values()}
        found: dict[fx.Node, list[torch.Tensor]] = {node: [] for node in wanted.values()}
        count = len(module.graph.find_nodes(op="placeholder"))
        for number, given in enumerate(inputs, start=1):
            args = pytree.tree_leaves(given)
            if len(args) != count:
                raise TdslError(
                    f"input {number} has {len(args)} values, and the model takes {count}",
                    expected="a tuple with what the model takes, in order",
                )
            recorder = _Recorder(module, wanted, found)
            with torch.no_grad():
                recorder.run(*args, enable_io_processing=False)
        return {node: torch.cat([value.flatten(0, 0) for value in values]) for node, values in found.items()}

    def rows(
        self, group: AxisGroup, values: dict[fx.Node, torch.Tensor], block: tuple[int, ...]
    ) -> Rows | None:
        """The activations of every unit in one block; `None` where no value shows them."""
        source = self.sources.get(group.atom)
        if source is None:
            return None
        node, axes = source
        value = values[node].double().cpu().numpy()
        shape: list[int] = []
        atoms: list[int | None] = []
        for layout, size in zip(axes, value.shape, strict=True):
            parts = factors(layout) if layout != UNIT else [UNIT]
            if not any(isinstance(part, Atom) and part.number in group.sizes for part in parts):
                shape.append(size)
                atoms.append(None)
                continue
            for part in parts:
                shape.append(self.inference.system.size(part))
                atoms.append(part.number if isinstance(part, Atom) else None)
        value = value.reshape(shape)
        index: list[Any] = [slice(None)] * len(shape)
        for number, place in zip(group.over, block, strict=True):
            index[atoms.index(number)] = slice(place, place + 1)
        value = np.moveaxis(value[tuple(index)], atoms.index(group.atom), 0)
        return np.asarray(value.reshape(group.size, -1))


class _Recorder(fx.Interpreter):
    def __init__(
        self, module: fx.GraphModule, wanted: dict[str, fx.Node], found: dict[fx.Node, list[torch.Tensor]]
    ) -> None:
        super().__init__(module)
        self.wanted = wanted
        self.found = found

    def run_node(self, node: fx.Node) -> Any:
        value = super().run_node(node)
        if node.name in self.wanted:
            self.found[self.wanted[node.name]].append(value)
        return value


def _divides(layout: Layout, wanted: set[int]) -> bool:
    """Whether the atoms that are wanted are plain factors of the axis, if they are in it."""
    if not wanted & set(atoms_in(layout)):
        return True
    parts = layout.parts if isinstance(layout, Prod) else (layout,)
    return all(isinstance(part, Atom) for part in parts)
