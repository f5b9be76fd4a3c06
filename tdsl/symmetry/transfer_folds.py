"""Actions through what folds or scans axes: sums, extremes, softmax, sorts."""

from __future__ import annotations

from typing import Any

from tdsl.symmetry.action import Action, action
from tdsl.symmetry.along import is_orthogonal, keeps_signs, permutes
from tdsl.symmetry.transfer import Breaks, Law, Site, axes_of, family, law, transfer
from tdsl.symmetry.transfer_moves import without

_HOMOGENEOUS = ("amax", "amin", "max_and_index", "min_and_index", "norm", "std")
"""Reductions of which a positive factor may be taken out."""


@family(lambda operator: operator.reduces)
def reduces(site: Site) -> Law:
    """Places along a folded axis do not matter; what is kept is acted on as before."""
    x = site.x
    dims = axes_of(site.arguments.get("dim"), x.rank)
    name = site.operator.name
    acting = x.action
    linear = "x" in site.operator.linear_in
    for axis, element in acting.parts:
        if permutes(element):
            continue
        if axis in dims:
            if name == "norm" and len(dims) == 1 and site["order"] == 2 and is_orthogonal(element):
                continue
            raise Breaks(f"{name} along an axis on which {acting} does more than permute")
        if not linear and not (name in _HOMOGENEOUS and keeps_signs(element)):
            raise Breaks(f"{name} is not linear, and {acting} does more than permute")
    gone = set(dims)
    if any((place in gone) != (axis in gone) for place, axis in enumerate(acting.order)):
        raise Breaks(f"{name} along one of the axes that change places under {acting}")
    order = [place if place in gone else acting.order[place] for place in range(x.rank)]
    kept = action(x.rank, {axis: element for axis, element in acting.parts if axis not in gone}, order)
    rank = len(site.shapes[0])
    made = kept if rank == x.rank else without(kept, gone, name)
    return law(site, *[made] * len(site.shapes))


@transfer("softmax", "log_softmax")
def _softmax(site: Site) -> Law:
    """Symmetric in the places of its axis."""
    if not site["x"].action.permutes:
        raise Breaks(f"{site.operator.name} commutes with permutations only, not with {site['x'].action}")
    return _along_axis(site, site["x"].action, site["dim"], symmetric=True)


@family(lambda operator: operator.rowwise)
@transfer("argmax", "argmin")
def _scan(site: Site) -> Law:
    """What depends on the order of the places along its axis."""
    if not site["x"].action.permutes:
        raise Breaks(f"{site.operator.name} commutes with permutations only, not with {site['x'].action}")
    return _along_axis(site, site["x"].action, site["dim"], symmetric=False)


@transfer("max_and_index", "min_and_index")
def _extreme(site: Site) -> Law:
    """The value does not depend on the order along its axis, where it is does."""
    return _scan(site) if site.read[1] else reduces(site)


@transfer("sort", "sort_stable", "topk")
def _ordered(site: Site) -> Law:
    """The values, in their order, do not depend on the order they had; where they were does.

    The largest ones that are not sorted are in no order that a law could speak of.
    """
    acting = site.x.action
    if site.read[1] or not acting.permutes or not site.arguments.get("sorted", True):
        return _scan(site)
    axis = site["dim"] % site.x.rank
    kept = action(acting.rank, {at: one for at, one in acting.parts if at != axis}, acting.order)
    return _along_axis(site, kept, site["dim"], symmetric=True)


@transfer("diff")
def _diff(site: Site) -> Law:
    """Differences along an axis, of values that nothing is put before or behind."""
    if len(site.values()) > 1:
        raise Breaks("diff of a value that is extended")
    return _along_axis(site, site["x"].action, site["dim"], symmetric=False)


def _along_axis(site: Site, acting: Action, dim: Any, *, symmetric: bool) -> Law:
    """`acting` on the operand is kept, where it neither has a part along the axis nor moves it elsewhere."""
    x = site["x"]
    dims = axes_of(dim, x.rank)
    name = site.operator.name
    if not symmetric and any(acting.part(axis) is not None for axis in dims):
        raise Breaks(f"{name} depends on the order along its axis, which {acting} changes", acting)
    if any(acting.order[axis] != axis for axis in dims):
        raise Breaks(f"{name} along one of the axes that change places under {acting}")
    rank = len(site.shapes[0])
    made = acting if rank == x.rank else without(acting, set(dims), name)
    return law(site, *[made] * len(site.shapes))


@transfer("glu")
def _glu(site: Site) -> Law:
    axis = site["dim"] % site["x"].rank
    if axis in site["x"].action.touched or not site["x"].action.permutes:
        raise Breaks(f"glu along an axis on which {site['x'].action} acts")
    return law(site, site["x"].action)
