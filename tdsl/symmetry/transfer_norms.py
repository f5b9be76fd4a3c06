"""Actions through normalisation layers: symmetric in what they normalise, but for numbers of their own."""

from __future__ import annotations

import torch

from tdsl.symmetry.action import Action, action
from tdsl.symmetry.along import apply, is_orthogonal, permutes
from tdsl.symmetry.transfer import Breaks, Law, Residual, Site, distance, law, require_near, transfer
from tdsl.symmetry.transfer_dense import constant


@transfer("batch_norm", "instance_norm")
def _batch_norm(site: Site) -> Law:
    """Numbers of its own for every channel, axis 1; it is affine in each channel at inference."""
    site.require_only_x()
    x = site["x"]
    acting: Action = x.action
    if acting.order[1] != 1 or (site.operator.name == "instance_norm" and acting.order[0] != 0):
        raise Breaks(f"{acting} exchanges the channels and another axis")
    if not acting.permutes:
        raise Breaks(f"{site.operator.name} adds numbers, and {acting} does more than permute")
    part = acting.part(1)
    if part is None:
        return law(site, acting)
    residual = Residual()
    for name in ("weight", "bias", "mean", "var"):
        value = constant(site.arguments.get(name), name)
        if value is not None:
            what = f"{name} of {site.operator.name} differs on channels that {acting} exchanges"
            residual |= require_near(distance(apply(part, value, 0), value), what, acting)
    return law(site, acting, residual=residual)


@transfer("layer_norm", "rms_norm")
def _layer_norm(site: Site) -> Law:
    """Symmetric in the places of its axes, affine numbers aside; rms_norm in orthogonal matrices, too."""
    site.require_only_x()
    x = site["x"]
    acting: Action = x.action
    count = len(site["shape"])
    first = x.rank - count
    if any((place >= first) != (axis >= first) for place, axis in enumerate(acting.order)):
        raise Breaks(f"{acting} exchanges a normalised axis and another")
    name = site.operator.name
    residual: Residual | None = None
    own = acting.restricted(range(first, x.rank))
    for axis, element in acting.parts:
        if permutes(element) or (name == "rms_norm" and axis >= first and is_orthogonal(element)):
            continue
        raise Breaks(
            f"{name} commutes with permutations"
            + (" and orthogonal matrices" if name == "rms_norm" else "")
            + f" along its axes, and {acting} does something else"
        )
    if own.is_identity:
        return law(site, acting)
    inside = action(count, {a - first: e for a, e in own.parts}, [a - first for a in own.order[first:]])
    for what in ("weight", "bias"):
        value = constant(site.arguments.get(what), what)
        if value is None:
            continue
        said = f"{what} of {name} differs on places that {acting} exchanges"
        if inside.permutes:
            off = distance(inside.apply(value), value)
        else:  # a matrix commutes with a diagonal one that is a number
            off = distance(value.mean().expand_as(value), value)
        residual = require_near(off, said, acting) | (residual or Residual())
    return law(site, acting, residual=residual)


@transfer("group_norm")
def _group_norm(site: Site) -> Law:
    """Channels may be permuted within their groups, and groups as wholes."""
    site.require_only_x()
    x = site["x"]
    acting: Action = x.action
    if acting.order[:2] != (0, 1):
        raise Breaks(f"{acting} exchanges the channels and another axis")
    if not acting.permutes:
        raise Breaks(f"group_norm commutes with permutations only, not with {acting}")
    part = acting.part(1)
    if part is None:
        return law(site, acting)
    groups = int(site["groups"])
    homes = torch.tensor(part.places).reshape(groups, -1) // (x.shape[1] // groups)  # type: ignore[union-attr]
    if not bool((homes == homes[:, :1]).all()):
        raise Breaks(f"{acting} tears the {groups} groups of group_norm apart", acting)
    residual: Residual | None = None
    for name in ("weight", "bias"):
        value = constant(site.arguments.get(name), name)
        if value is not None:
            what = f"{name} of group_norm differs on channels that {acting} exchanges"
            residual = require_near(distance(apply(part, value, 0), value), what, acting) | (
                residual or Residual()
            )
    return law(site, acting, residual=residual)
