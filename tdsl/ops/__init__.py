"""The operator table: one declaration an operator, and everything the other rooms know of it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from tdsl.ops.arithmetic import ARITHMETIC
from tdsl.ops.assembly import ASSEMBLY
from tdsl.ops.attention import ATTENTION
from tdsl.ops.convolution import CONVOLUTION
from tdsl.ops.creation import CREATION
from tdsl.ops.indexing import INDEXING
from tdsl.ops.linear import LINEAR
from tdsl.ops.movement import MOVEMENT
from tdsl.ops.normalisation import NORMALISATION
from tdsl.ops.pointwise import ACTIVATIONS, ELEMENTARY, GATES
from tdsl.ops.pooling import POOLING
from tdsl.ops.random import RANDOM
from tdsl.ops.rearrangement import REARRANGEMENT
from tdsl.ops.recurrent import RECURRENT
from tdsl.ops.reduction import REDUCTION
from tdsl.ops.resize import RESIZE
from tdsl.ops.spec import Operator, Param

FAMILIES: tuple[tuple[Operator, ...], ...] = (
    LINEAR,
    CONVOLUTION,
    ATTENTION,
    NORMALISATION,
    ACTIVATIONS,
    GATES,
    ELEMENTARY,
    ARITHMETIC,
    REDUCTION,
    POOLING,
    MOVEMENT,
    ASSEMBLY,
    REARRANGEMENT,
    RESIZE,
    INDEXING,
    RECURRENT,
    CREATION,
    RANDOM,
)

OPERATORS: Mapping[str, Operator] = MappingProxyType({op.name: op for family in FAMILIES for op in family})
"""DSL name → operator."""

__all__ = ["FAMILIES", "OPERATORS", "Operator", "Param"]
