"""What a group does to the weights of one layer, and the nearest weights that keep its law.

W keeps the law when ρ_out(g)·W = W·ρ_in(g). The nearest such weight is the mean of ρ_out(g)⁻¹·W·ρ_in(g) over
the group (Reynolds). Of a convolution, ρ_in acts on channels and, on kernels as on images, by flips.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from tdsl.errors import TdslError
from tdsl.symmetry.element import Permutation
from tdsl.symmetry.finite import commutant_dimension, reynolds
from tdsl.symmetry.group import Group
from tdsl.symmetry.impose.moves import Moves
from tdsl.symmetry.representation import Representation, tensor, trivial

Norm = _NormBase | nn.GroupNorm | nn.LayerNorm
"""Layers with a number for each channel."""


@dataclass(frozen=True, slots=True)
class Between:
    """What a group does to the channels that a layer reads and to those it writes; `None`: nothing."""

    inputs: Representation | None = None
    outputs: Representation | None = None


@dataclass(frozen=True, slots=True)
class Nearest:
    """A parameter or buffer that keeps the law, nearest to one that need not."""

    values: Tensor
    """[…], float64."""
    free: int
    """How many numbers it is made of."""


def nearest(layer: nn.Module, between: Between, kernel: Moves | None, group: Group) -> dict[str, Nearest]:
    """The nearest weights of a layer, by the names of its parameters and buffers; empty where it has none.

    `kernel` moves images, whose axes from 2 on the kernel of a convolution shares. Raises `TdslError` where a
    representation has another size than the channels it is declared for, or a layer of another kind.
    """
    match layer:
        case _ConvNd():
            return _convolution(layer, between, kernel, group)
        case nn.Linear():
            into, out_of = (
                _of(between.outputs, layer.out_features, group),
                _of(between.inputs, layer.in_features, group),
            )
            return {"weight": _projected(layer.weight, into, out_of), **_bias(layer.bias, into)}
        case _NormBase() | nn.GroupNorm() | nn.LayerNorm():
            return _normalisation(layer, between, group)
    raise TdslError(
        f"a {type(layer).__name__} has no law that weights could keep",
        expected="a linear layer, a convolution or a normalisation",
    )


def _convolution(layer: _ConvNd, between: Between, kernel: Moves | None, group: Group) -> dict[str, Nearest]:
    weight = layer.weight
    sizes = weight.shape[2:]
    inner = trivial(group, math.prod(sizes)) if kernel is None else on_kernel(kernel, tuple(sizes))
    outputs = _of(between.outputs, layer.out_channels, group)
    inputs = _of(between.inputs, layer.in_channels, group)
    moved = not (_still(outputs) and _still(inputs))
    if layer.groups > 1 and moved:
        depthwise = layer.groups == layer.in_channels == layer.out_channels
        if not depthwise or inputs.generators != outputs.generators:
            raise TdslError(
                f"a convolution in {layer.groups} groups of channels, which the group exchanges",
                expected="one group, or a depthwise convolution that reads and writes them alike",
            )
        inputs = trivial(group, 1)
    elif isinstance(layer, _ConvTransposeNd):  # [in, out, …]: the channels that it writes stand second
        first, second = trivial(group, weight.shape[0]), trivial(group, weight.shape[1])
        if moved:
            first, second = inputs, outputs
        flat = weight.transpose(0, 1).flatten(1)
        found = _projected(flat, second, tensor([first, inner]))
        values = found.values.reshape(weight.shape[1], weight.shape[0], *sizes).transpose(0, 1)
        return {"weight": Nearest(values, found.free), **_bias(layer.bias, outputs)}
    if not moved:  # one number of channels per group
        inputs = trivial(group, weight.shape[1])
    found = _projected(weight.flatten(1), outputs, tensor([inputs, inner]))
    return {"weight": Nearest(found.values.reshape(weight.shape), found.free), **_bias(layer.bias, outputs)}


def _normalisation(layer: Norm, between: Between, group: Group) -> dict[str, Nearest]:
    """Numbers of a normalisation, which channels that change places must share."""
    found = {}
    for name in ("weight", "bias", "running_mean", "running_var"):
        values = getattr(layer, name, None)
        if values is None:
            continue
        moved = _of(between.outputs or between.inputs, values.numel(), group)
        if not moved.permutes:
            raise TdslError(
                f"{moved.name} does not permute channels, and a normalisation has a number for each",
                expected="a permutation representation",
            )
        flat = _projected(values.reshape(-1, 1), moved, trivial(group, 1))
        found[name] = Nearest(flat.values.reshape(values.shape), flat.free)
    return found


def on_kernel(moved: Moves, sizes: tuple[int, ...]) -> Representation:
    """What moves of images do to the places of a kernel of those sizes, flattened.

    Raises `TdslError` for moves that a kernel cannot follow, and for a kernel whose shape they would change.
    """
    count = math.prod(sizes)
    places = torch.arange(count, dtype=torch.float64).reshape(1, 1, *sizes)
    axes = {axis: axis for axis in range(2, places.ndim)}
    found = []
    for name, act in zip(moved.group.names, moved.generators, strict=True):
        if act.rank != places.ndim:
            raise TdslError(
                f"{name} moves tensors of {act.rank} axes, the kernel is of size {list(sizes)}",
                expected=f"moves of images of {places.ndim} axes",
            )
        after = act.restricted(axes).on_weight(places, axes)
        if after.shape != places.shape:
            raise TdslError(f"{name} changes the shape {list(sizes)} of a kernel", expected="a square kernel")
        found.append(Permutation(tuple(round(value) for value in after.flatten().tolist())))
    return Representation(moved.group, f"places of {list(sizes)}", count, tuple(found))


def _projected(weight: Tensor, outputs: Representation, inputs: Representation) -> Nearest:
    return Nearest(reynolds(weight, outputs, inputs), commutant_dimension(outputs, inputs))


def _bias(bias: Tensor | None, outputs: Representation) -> dict[str, Nearest]:
    if bias is None:
        return {}
    found = _projected(bias.reshape(-1, 1), outputs, trivial(outputs.group, 1))
    return {"bias": Nearest(found.values[:, 0], found.free)}


def _of(given: Representation | None, size: int, group: Group) -> Representation:
    if given is None:
        return trivial(group, size)
    if given.group != group or given.size != size:
        raise TdslError(
            f"{given.name} of {given.group.name} has {given.size} places, the layer {size} channels",
            expected=f"a representation of {group.name} on {size} places",
            hint="`copies(representation, count)` moves several alike",
        )
    return given


def _still(given: Representation) -> bool:
    return all(isinstance(g, Permutation) and g.is_identity for g in given.generators)
