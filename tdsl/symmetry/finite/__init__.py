"""Finite groups: orbits of entries, projection onto what commutes, automorphisms, isotypic components."""

from tdsl.symmetry.finite.automorphisms import automorphisms
from tdsl.symmetry.finite.commutant import commutant_basis, commutant_dimension, defect, reynolds
from tdsl.symmetry.finite.orbits import entry_orbits

__all__ = [
    "automorphisms",
    "commutant_basis",
    "commutant_dimension",
    "defect",
    "entry_orbits",
    "reynolds",
]
