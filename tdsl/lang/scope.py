"""The names of one rule: what each stands for, where it was bound, and where it may be used."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from tdsl.errors import Span, TdslError
from tdsl.lang.vocabulary import SIDES, Vocabulary
from tdsl.spelling import did_you_mean


class Role(enum.Enum):
    """What a name in a rule stands for."""

    OPERAND = "a tensor"
    VARIADIC = "a list of tensors"
    ATTRIBUTE = "an attribute"
    DIMENSION = "a size"
    PARAMETER = "a parameter of the rule"
    OPERATOR = "an operator"
    RESULT = "a result of the left side"
    DEFINED = "defined in `where`"


TENSORS = frozenset({Role.OPERAND, Role.VARIADIC, Role.RESULT})
"""What stands for tensors of the graph."""

_SIZES = frozenset({"int", "ints", "ints1", "ints2", "ints3", "shape", "spread", "extents", "scalar", "any"})
"""Kinds of attributes whose values may be sizes of tensors too."""


@dataclass
class Scope:
    """The names of a rule while it is read; `bound` are those that have a value on every way here."""

    vocabulary: Vocabulary
    roles: dict[str, Role] = field(default_factory=dict)
    places: dict[str, Span] = field(default_factory=dict)
    bound: set[str] = field(default_factory=set)
    used: set[str] = field(default_factory=set)
    kinds: dict[str, str] = field(default_factory=dict)

    def declare(self, name: str, role: Role, span: Span, kind: str = "any") -> None:
        """Bind `name`, or bind it once more in the same role. Raises `TdslError` for a second role.

        An attribute that may be a size and a dimension of the same name are one size, a dimension.
        """
        if name in SIDES:
            raise TdslError(f"`{name}` names a side of the rule, so nothing else may be called so", span)
        known = self.roles.get(name)
        if known is not None and known is not role:
            if {known, role} == {Role.ATTRIBUTE, Role.DIMENSION} and self._may_be_size(name, role, kind):
                role = Role.DIMENSION
            elif known in (Role.PARAMETER, Role.RESULT) and role is not Role.DEFINED:
                self.used.add(name)
                return
            else:
                place = self.places[name]
                raise TdslError(
                    f"`{name}` is {role.value} here, and {known.value} in line {place.line}",
                    span,
                    hint="give one of them another name",
                )
        self.roles[name] = role
        self.places.setdefault(name, span)
        self.kinds.setdefault(name, kind)
        self.bound.add(name)

    def _may_be_size(self, name: str, role: Role, kind: str) -> bool:
        return (kind if role is Role.ATTRIBUTE else self.kinds.get(name, "any")) in _SIZES

    def define(self, name: str, span: Span) -> None:
        """Bind `name` by a definition. Raises `TdslError` when it already means something."""
        known = self.roles.get(name)
        if known is not None and name in self.bound:
            raise TdslError(
                f"`{name}` is already {known.value} (line {self.places[name].line})",
                span,
                hint="write `==` to compare, or define another name",
            )
        self.declare(name, Role.DEFINED, span)

    def use(self, name: str, span: Span, as_size: bool = False) -> Role:
        """The role of `name`, which must have a value here. Raises `TdslError`."""
        self.used.add(name)
        if name in self.bound:
            return self.roles[name]
        if name in self.roles:
            raise TdslError(
                f"`{name}` is bound in one branch of an alternative, and used where another may have matched",
                span,
                hint="bind it in every branch",
            )
        if name in SIDES:
            raise TdslError(
                f"`{name}` stands for a whole side",
                span,
                expected=f"it as the argument of a function such as `macs({name})`",
            )
        remedy = "a type on the left side" if as_size else "the left side or by a definition in `where`"
        raise TdslError(
            f"`{name}` is bound nowhere before this",
            span,
            expected=f"a name bound by {remedy}",
            hint=did_you_mean(name, [*sorted(self.bound), "true", "false", "none"]),
        )
