"""Operators whose result does not depend on the numbers of their operand, and dropout outside of training."""

from __future__ import annotations

from tdsl.symmetry.action import identity_on
from tdsl.symmetry.transfer import Breaks, Law, Site, law, transfer


@transfer("full_like", "zeros_like", "ones_like")
def _filled(site: Site) -> Law:
    """One number everywhere: every permutation leaves it alone, so that of the operand will do."""
    acting = site["x"].action
    return law(site, acting if acting.permutes else identity_on(acting.rank))


@transfer("new_full", "new_zeros", "new_ones")
def _filled_anew(site: Site) -> Law:
    """One number everywhere, at sizes of its own."""
    return law(site, identity_on(len(site.shapes[0])))


@transfer("dropout", "feature_dropout", "alpha_dropout")
def _dropout(site: Site) -> Law:
    """Nothing is dropped at inference."""
    if site["train"]:
        raise Breaks(f"{site.operator.name} draws random numbers")
    return law(site, site["x"].action)
