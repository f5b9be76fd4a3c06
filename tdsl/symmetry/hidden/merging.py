"""Units that compute the same are one unit; units that compute a constant are a bias. Both are exact."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from tdsl.capture.normal import attribute, weights_of
from tdsl.ops.spec import Operator
from tdsl.ops.targets import operator_of
from tdsl.symmetry.hidden.constants import constants_of
from tdsl.symmetry.hidden.groups import AxisGroup, hidden_symmetry, with_weights
from tdsl.symmetry.hidden.infer import Inference
from tdsl.symmetry.hidden.layout import Atom, atoms_in, selectors_in
from tdsl.symmetry.hidden.permuting import Indices
from tdsl.symmetry.hidden.resizing import resize
from tdsl.symmetry.hidden.roles import Roles, argument, roles_of
from tdsl.symmetry.hidden.scaled import parallel_classes
from tdsl.symmetry.hidden.units import places_in

if TYPE_CHECKING:
    from tdsl.capture import Captured

Allowed = Callable[[fx.Node], bool]


@dataclass(frozen=True, slots=True)
class MergedGroup:
    """What became of one group: how many units it had, and how many of them were not needed."""

    name: str
    size: int
    duplicates: int
    constants: int
    nodes: tuple[fx.Node, ...]
    """The operators whose weights became smaller, in graph order."""
    saved_parameters: int


@dataclass(frozen=True)
class Merged:
    """A smaller model that computes the same, and what was merged in it."""

    module: fx.GraphModule
    groups: tuple[MergedGroup, ...]

    @property
    def saved_parameters(self) -> int:
        """How many numbers the model has fewer."""
        return sum(group.saved_parameters for group in self.groups)


def merge_duplicates(model: Captured | fx.GraphModule, scaled: bool = False) -> Merged:
    """Merge the hidden units of a captured model whose incoming weights are equal, bit by bit.

    The outgoing weights of equal units are added. Units whose incoming weights are zero compute a constant,
    which goes into the bias of what reads them. With `scaled`, units behind nothing but operators for which
    f(s·x) = s·f(x), s > 0 (ReLU), are equal up to a positive factor, too. The model given stays as it is.
    Raises `TdslError` where the graph has no shapes.
    """
    module = model if isinstance(model, fx.GraphModule) else model.module
    copy = with_weights(module, weights_of(module))
    groups = tuple(merges(copy, lambda node: True, scaled))
    copy.recompile()
    return Merged(copy, groups)


def merges(module: fx.GraphModule, allowed: Allowed, scaled: bool = False) -> Iterator[MergedGroup]:
    """Merge in every group of a graph whose operators are all `allowed`, in place, one group after the other.

    What is merged may make units of the next layer equal, so this goes on until nothing is found.
    """
    again = True
    while again:
        again = False
        symmetry = hidden_symmetry(module)
        for group in symmetry.groups:
            plan = _plan(symmetry.inference, group, scaled)
            if plan is not None and all(map(allowed, (*plan.roles.carried, *plan.roles.consumers))):
                again = True
                yield plan.carry_out()


@dataclass(slots=True)
class _Plan:
    """The units that stay, what is added to them, and the constants of those that go."""

    inference: Inference
    group: AxisGroup
    roles: Roles
    keeper: dict[int, tuple[int, float]]
    """Unit that goes → the one that it is equal to, and its factor."""
    constants: dict[int, dict[fx.Node, float]]
    """Unit that goes → its constant at each consumer."""

    def carry_out(self) -> MergedGroup:
        module, atom = self.inference.module, self.group.atom
        before = _numbers(module)
        size = self.inference.system.size(Atom(atom))
        kept = np.array([i for i in range(size) if i not in self.keeper and i not in self.constants])
        for node in self.roles.consumers:
            self._fold_constants(node)
        axes = sorted(self.roles.summed | self.roles.own, key=lambda axis: (axis[0].name, axis[1]))
        for weight, axis in axes:
            values = attribute(module, str(weight.target)).detach()
            places = self._places(weight, axis)
            if (weight, axis) in self.roles.summed:
                values = self._summed(values, axis, places)
            gone = {int(p) for unit in (*self.keeper, *self.constants) for p in places[unit]}
            stay = [i for i in range(values.shape[axis]) if i not in gone]
            set_weight(module, weight, values.index_select(axis, torch.tensor(stay)))
        resize(self.inference, atom, len(kept), {weight for weight, _ in axes})
        nodes = tuple(node for node in (*self.roles.carried, *self.roles.consumers))
        return MergedGroup(
            self.group.name,
            size,
            len(self.keeper),
            len(self.constants),
            tuple(sorted(dict.fromkeys(nodes))),
            before - _numbers(module),
        )

    def _places(self, weight: fx.Node, axis: int) -> Indices:
        return _places(self.inference, self.group.atom, weight, axis)

    def _summed(self, values: Tensor, axis: int, places: Indices) -> Tensor:
        """The outgoing weights with those of the units that go added to those of the units that stay."""
        wide = values.double().clone()
        for unit, (keeper, factor) in self.keeper.items():
            own = values.index_select(axis, torch.from_numpy(places[unit])).double()
            wide.index_add_(axis, torch.from_numpy(places[keeper]), factor * own)
        return wide.to(values.dtype)

    def _fold_constants(self, node: fx.Node) -> None:
        """Put what constant units give to a weighted sum into its bias."""
        present = {unit: at[node] for unit, at in self.constants.items() if at[node] != 0}
        if not present:
            return
        module, op = self.inference.module, operator_of(node.target)
        assert op is not None
        weight, bias = argument(node, op, "weight"), argument(node, op, "bias")
        axis = next(axis for found, axis in self.roles.summed if found is weight)
        values = attribute(module, str(weight.target)).detach()
        places = self._places(weight, axis)
        added = torch.zeros(()).double()
        out = 1 if op.name.startswith("conv_transpose") or op.name == "addmm" else 0
        for unit, constant in present.items():
            part = values.index_select(axis, torch.from_numpy(places[unit])).double()
            added = added + constant * part.movedim(out, 0).flatten(1).sum(1)
        if isinstance(bias, fx.Node):
            old = attribute(module, str(bias.target)).detach()
            set_weight(module, bias, (old.double() + added).to(old.dtype))
        else:
            new = add_bias(self.inference, weight, added.to(values.dtype), node)
            position = next(i for i, param in enumerate(op.params) if param.name == "bias")
            node.update_arg(position, new)


def _plan(inference: Inference, group: AxisGroup, scaled: bool) -> _Plan | None:
    """What can be merged in a group; `None` where nothing can."""
    axes = [layout for found in group.axes.values() for layout in found]
    if group.over or any(selectors_in(layout) for layout in axes if group.atom in set(atoms_in(layout))):
        return None
    roles = roles_of(inference, group.atom)
    if roles.refused is not None or not roles.own or not roles.consumers:
        return None
    constants = _constants(inference, group, roles)
    classes = _equal(inference, group, roles)
    if scaled:
        classes = parallel_classes(inference, group, roles) or classes
    keeper = {unit: pair for unit, pair in classes.items() if unit not in constants}
    keeper = {unit: pair for unit, pair in keeper.items() if pair[0] not in constants}
    if len(constants) == inference.system.size(Atom(group.atom)):
        constants.pop(min(constants))  # an axis of size 0 is no axis
    if not keeper and not constants:
        return None
    return _Plan(inference, group, roles, keeper, constants)


def _equal(inference: Inference, group: AxisGroup, roles: Roles) -> dict[int, tuple[int, float]]:
    """Units whose incoming weights are those of an earlier one, bit by bit."""
    size = inference.system.size(Atom(group.atom))
    keys: list[list[bytes]] = [[] for _ in range(size)]
    for weight, axis in sorted(roles.own, key=lambda item: (item[0].name, item[1])):
        values = attribute(inference.module, str(weight.target)).detach().cpu().numpy()
        places = _places(inference, group.atom, weight, axis)
        for unit in range(size):
            keys[unit].append(np.take(values, places[unit], axis=axis).tobytes())
    first: dict[tuple[bytes, ...], int] = {}
    found: dict[int, tuple[int, float]] = {}
    for unit, key in enumerate(keys):
        keeper = first.setdefault(tuple(key), unit)
        if keeper != unit:
            found[unit] = (keeper, 1.0)
    return found


def _constants(inference: Inference, group: AxisGroup, roles: Roles) -> dict[int, dict[fx.Node, float]]:
    """Units that are constant where they are read, and whose constant can be put into a bias there."""
    known = constants_of(inference, roles, group.atom)
    size = inference.system.size(Atom(group.atom))
    units: dict[int, dict[fx.Node, float]] = {unit: {} for unit in range(size)}
    for node in roles.consumers:
        op = operator_of(node.target)
        assert op is not None
        x = argument(node, op, "x")
        values = known.get(x)
        any_value = _has_bias(node, op)
        for unit in list(units):
            constant = float("nan") if values is None else float(values[unit])
            if np.isfinite(constant) and (any_value or constant == 0):
                units[unit][node] = constant
            else:
                del units[unit]
    return units


def _has_bias(node: fx.Node, op: Operator) -> bool:
    """Whether a constant summand of each output can be put into the bias: it has one of its own, or none.

    At the border of a padded convolution a constant unit counts less.
    """
    bias = argument(node, op, "bias") if op.param("bias") else None
    if isinstance(bias, fx.Node) and (bias.op != "get_attr" or len(bias.users) > 1):
        return False
    if op.name == "addmm":
        return isinstance(bias, fx.Node) and bias.meta["val"].ndim == 1 and not node.kwargs
    if op.name.startswith("conv"):
        return "transpose" not in op.name and not _padded(argument(node, op, "padding"))
    return op.name == "linear"


def _places(inference: Inference, atom: int, weight: fx.Node, axis: int) -> Indices:
    """The places of every unit along an axis of a weight, at the sizes that the groups have now."""
    layout = inference.axes(weight)[axis]
    sizes = {number: inference.system.size(Atom(number)) for number in atoms_in(layout)}
    return places_in(layout, atom, sizes)


def _padded(padding: Any) -> bool:
    return any(padding) if isinstance(padding, (list, tuple)) else bool(padding)


def _numbers(module: fx.GraphModule) -> int:
    return sum(tensor.numel() for tensor in weights_of(module).values() if tensor.is_floating_point())


def set_weight(module: fx.GraphModule, node: fx.Node, values: Tensor) -> None:
    """Put other values, perhaps of another shape, in the place of a weight."""
    owner_path, _, leaf = str(node.target).rpartition(".")
    owner: nn.Module = module.get_submodule(owner_path)
    old = getattr(owner, leaf)
    if isinstance(old, nn.Parameter):
        owner.register_parameter(leaf, nn.Parameter(values.contiguous(), old.requires_grad))
    else:
        owner.register_buffer(leaf, values.contiguous())
    mode = getattr(node.meta["val"], "fake_mode", None)
    if mode is not None:
        node.meta["val"] = mode.from_tensor(getattr(owner, leaf), static_shapes=True)


def add_bias(inference: Inference, weight: fx.Node, values: Tensor, like: fx.Node) -> fx.Node:
    """A new parameter beside a weight, read at the top of the graph."""
    module = inference.module
    owner_path, _, _ = str(weight.target).rpartition(".")
    owner: nn.Module = module.get_submodule(owner_path)
    names = ("bias", *(f"bias_{i}" for i in range(1, 1000)))
    leaf = next(name for name in names if getattr(owner, name, None) is None)
    if leaf in owner._parameters:
        del owner._parameters[leaf]
    owner.register_parameter(leaf, nn.Parameter(values))
    with module.graph.inserting_before(weight):
        node = module.graph.get_attr(f"{owner_path}.{leaf}" if owner_path else leaf)
    mode = getattr(weight.meta["val"], "fake_mode", None)
    if mode is not None:
        node.meta["val"] = mode.from_tensor(getattr(owner, leaf), static_shapes=True)
    inference.values[node] = (inference.axes(like)[_out_axis(inference, weight, like)],)
    return node


def _out_axis(inference: Inference, weight: fx.Node, node: fx.Node) -> int:
    op = operator_of(node.target)
    spatial = len(inference.axes(weight)) - 2 if op is not None and op.name.startswith("conv") else 0
    return len(inference.axes(node)) - 1 - spatial
