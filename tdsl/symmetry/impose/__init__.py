"""Symmetry by construction: models averaged or canonicalised over a group, weights projected onto one."""

from tdsl.symmetry.impose.affine import AffineInvariant
from tdsl.symmetry.impose.average import GroupAverage
from tdsl.symmetry.impose.canonical import Canonicalise, GenericScore
from tdsl.symmetry.impose.contracts import declared_moves
from tdsl.symmetry.impose.frames import FrameAverage
from tdsl.symmetry.impose.law import LawReport, Margin
from tdsl.symmetry.impose.layers import Between
from tdsl.symmetry.impose.moves import Moves, flattened, moves, on_axis
from tdsl.symmetry.impose.orbit_distance import NearestPose, OrbitDistance
from tdsl.symmetry.impose.orthonormal import GramSchmidt
from tdsl.symmetry.impose.principal import PrincipalPrefix
from tdsl.symmetry.impose.relative import Relative
from tdsl.symmetry.impose.resolvent import Resolvent
from tdsl.symmetry.impose.sorting import PointKey, SortPoints
from tdsl.symmetry.impose.symmetrise import Projected, Symmetrised, symmetrise

__all__ = [
    "AffineInvariant",
    "Between",
    "Canonicalise",
    "FrameAverage",
    "GenericScore",
    "GramSchmidt",
    "GroupAverage",
    "LawReport",
    "Margin",
    "Moves",
    "NearestPose",
    "OrbitDistance",
    "PointKey",
    "PrincipalPrefix",
    "Projected",
    "Relative",
    "Resolvent",
    "SortPoints",
    "Symmetrised",
    "declared_moves",
    "flattened",
    "moves",
    "on_axis",
    "symmetrise",
]
