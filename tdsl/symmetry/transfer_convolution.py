"""Actions through convolutions: spatial axes by the border rule, filters by solving for the action."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from tdsl.ops.laws_window import spatial_axes
from tdsl.symmetry.action import Action, action
from tdsl.symmetry.along import Along, Turn, flip, permutes
from tdsl.symmetry.border import Windows
from tdsl.symmetry.element import Linear
from tdsl.symmetry.transfer import Breaks, Law, Residual, Site, law, transfer
from tdsl.symmetry.transfer_dense import constant, inner, rows_with, solved
from tdsl.symmetry.transfer_windows import Spatial, require_channels, spatial


@transfer(*(f"conv{n}d" for n in (1, 2, 3)))
def _convolution(site: Site) -> Law:
    """Windows on the spatial axes; filters over channels and kernels, in groups."""
    x = site["x"]
    weight, bias = constant(site["weight"], "weight"), constant(site.arguments.get("bias"), "bias")
    assert weight is not None
    axes = spatial_axes(site.operator)
    channel = x.rank - axes - 1
    acting: Action = x.action
    require_channels(acting, axes)
    windows = [
        Windows(*numbers)
        for numbers in zip(
            x.shape[-axes:], weight.shape[2:], site["stride"], site["padding"], site["dilation"], strict=True
        )
    ]
    through = spatial(acting, windows, site.shapes[0][-axes:])
    return _filters(site, weight, bias, channel, through, int(site["groups"]))


def _filters(
    site: Site, weight: Tensor, bias: Tensor | None, channel: int, through: Spatial, groups: int
) -> Law:
    """The action on the filters [o, c / groups, …], and the law that it makes."""
    acting: Action = site["x"].action
    rank = acting.rank
    if acting.order[channel] != channel:
        raise Breaks(f"{acting} exchanges the channels and another axis")
    if bias is not None and float(bias.abs().max()) > 0:
        bad = [e for a, e in acting.parts if a != channel and not permutes(e)]
        if bad:
            raise Breaks(f"a bias is added where {acting} does more than permute")
    part = acting.part(channel)
    first = rank - (weight.ndim - 2)
    moved, homes = _by_channel(weight, part, groups)
    moved = _kernels(moved, acting, through, first)
    plain = rows_with(weight, bias, *_owners(weight, groups))
    rows = rows_with(moved, bias, *([homes] if homes is not None else []))
    small = prod(weight.shape[2:]) == 1 and groups == 1
    made = {axis: e for axis, e in acting.parts if axis < first and axis != channel} | through.result
    if is_still_weight(moved, weight) and part is None:
        found: Along | None = Turn(len(weight), 0)
        residual, wrong = Residual(), ""
    else:
        found, residual, wrong = solved(site.operator.name, rows, plain, signs=groups == 1, linear=small)
    reason = "; moreover ".join(one for one in (through.broken, wrong) if one)
    if found is None:
        raise Breaks(reason, None, residual.norm)
    made[channel] = found
    whole = action(rank, made, acting.order)
    if reason:
        raise Breaks(reason, whole, residual.norm if wrong else None)
    weights = part is not None or bool(through.kernel) or acting.reorders
    return law(site, whole, residual=residual if weights else None)


def _kernels(weight: Tensor, acting: Action, through: Spatial, first: int) -> Tensor:
    """ρ⁻¹ on kernels, since f_W(ρ·x) = ρ·f_{ρ⁻¹W}(x): axes back in their order, then the flips undone."""
    back = [0, 1, *[0] * (weight.ndim - 2)]
    for place in range(first, acting.rank):
        back[acting.order[place] - first + 2] = place - first + 2
    flips = [axis - first + 2 for axis in through.kernel]
    ordered = weight.permute(back)
    return ordered.flip(flips) if flips else ordered


def is_still_weight(moved: Tensor, weight: Tensor) -> bool:
    """Whether the weight is bitwise what it was."""
    return moved.shape == weight.shape and bool(torch.equal(moved, weight))


def _owners(weight: Tensor, groups: int) -> list[Tensor]:
    """For each filter the number of its group, where there are several."""
    if groups == 1:
        return []
    return [torch.arange(groups).repeat_interleave(len(weight) // groups) * _scale(weight)]


def _scale(weight: Tensor) -> float:
    """Groups are told apart by more than filters differ."""
    return float(weight.abs().max()) or 1.0


def _by_channel(weight: Tensor, part: Along | None, groups: int) -> tuple[Tensor, Tensor | None]:
    """The filters as they meet untouched channels, and the group whose channels each of them then reads."""
    owners = _owners(weight, groups)
    if part is None:
        return weight, owners[0] if owners else None
    if groups == 1:
        return inner(weight, part, 1), None
    if isinstance(part, Linear):
        raise Breaks(f"channels in {groups} groups are mixed across them")
    width = weight.shape[1]
    places = torch.tensor(part.places).reshape(groups, width)  # x'[c] = x[places[c]]
    home = places[:, 0] // width
    if not bool((places // width == home[:, None]).all()):
        raise Breaks(f"{groups} groups of channels are not permuted as wholes")
    scales = torch.tensor(getattr(part, "scales", (1.0,) * part.size), dtype=weight.dtype)
    filters = weight.reshape(groups, -1, *weight.shape[1:])
    moved = torch.empty_like(filters)
    for group in range(groups):
        within = places[group] % width
        factors = scales.reshape(groups, width)[group].reshape(1, width, *[1] * (weight.ndim - 2))
        moved[group][:, within] = filters[group] * factors
    homes = home.repeat_interleave(len(weight) // groups) * _scale(weight)
    return moved.reshape(weight.shape), homes


@transfer(*(f"conv_transpose{n}d" for n in (1, 2, 3)))
def _transposed(site: Site) -> Law:
    """Every input place spreads a kernel: symmetric unless there is output padding."""
    x = site["x"]
    weight, bias = constant(site["weight"], "weight"), constant(site.arguments.get("bias"), "bias")
    assert weight is not None
    axes = spatial_axes(site.operator)
    groups = int(site["groups"])
    acting: Action = x.action
    require_channels(acting, axes)
    first = x.rank - axes
    broken = ""
    found: dict[int, Along] = {}
    flips: dict[int, bool] = {}
    for axis, element in acting.parts:
        if axis < first:
            continue
        at = axis - first
        if not isinstance(element, Turn) or not element.is_flip:
            raise Breaks(f"{site.operator.name} along axis {axis - x.rank} does not commute with {acting}")
        found[axis], flips[axis] = flip(site.shapes[0][axis]), True
        more = site["output_padding"][at]
        if more and not broken:
            broken = f"output padding {more} adds places on one side only: {acting.text()} does not commute"
    for place, axis in enumerate(acting.order):
        if place >= first and place != axis:
            names = ("stride", "padding", "output_padding", "dilation")
            alike = all(site[name][place - first] == site[name][axis - first] for name in names)
            if not alike or weight.shape[2 + place - first] != weight.shape[2 + axis - first]:
                broken = broken or f"windows differ along axes that {acting} exchanges"
    filters = weight.reshape(groups, len(weight) // groups, *weight.shape[1:]).transpose(1, 2)
    filters = filters.reshape(-1, len(weight) // groups, *weight.shape[2:])
    return _filters(site, filters, bias, first - 1, Spatial(found, flips, broken), groups)
