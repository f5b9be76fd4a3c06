"""The operator table: one declaration an operator, and everything the other rooms know of it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from tdsl.ops.linear import LINEAR
from tdsl.ops.spec import Operator, Param

OPERATORS: Mapping[str, Operator] = MappingProxyType({op.name: op for family in (LINEAR,) for op in family})

__all__ = ["OPERATORS", "Operator", "Param"]
