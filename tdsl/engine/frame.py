"""One match of one rule: the bound values, the definitions computed on demand, the staged right side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import fx

from tdsl.engine.sizes import dtype_of, sizes_of
from tdsl.engine.staged import CannotStage, Filled, Workspace
from tdsl.errors import TdslError
from tdsl.ops import Operator, Param
from tdsl.ops.targets import operator_of

if TYPE_CHECKING:
    from tdsl.engine.rule import Variant


@dataclass(frozen=True, slots=True)
class Approximation:
    """A decomposition used by a match: the weight, and what its factors multiply to."""

    name: str
    weight: Any
    rebuilt: Callable[[], Any]


@dataclass(slots=True)
class Frame:
    """The environment in which conditions, definitions and the right side are evaluated."""

    work: Workspace
    variant: Variant
    nodes: tuple[fx.Node, ...]
    env: dict[str, Any]
    parameters: Mapping[str, Any]
    approximations: list[Approximation] = field(default_factory=list)
    pending: set[str] = field(default_factory=set)
    _rhs: tuple[Any, ...] | None = None

    def value(self, name: str) -> Any:
        """What `name` stands for: a bound value, a definition (computed now if need be), a parameter."""
        if name in self.env:
            value = self.env[name]
            if value is None and name in self.variant.optional:
                return self._absent(name)
            return value
        definition = self.variant.definitions.get(name)
        if definition is not None:
            if name in self.pending:
                raise TdslError(f"the definition of {name} needs {name} itself", definition.span)
            self.pending.add(name)
            definition.evaluate(self)
            self.pending.discard(name)
            return self.env[name]
        return self.parameters[name]

    def has(self, name: str) -> bool:
        """Whether `name` has a value without computing a definition."""
        return name in self.env

    @property
    def rhs(self) -> tuple[Any, ...]:
        """The staged right side, one value an output."""
        if self._rhs is None:
            self._rhs = self.variant.build(self)
        return self._rhs

    @property
    def output(self) -> fx.Node:
        """The graph node of the first output."""
        return self.variant.pattern.output_nodes(self.nodes, self.env)[0]

    def extended(self, **values: Any) -> Frame:
        """The same frame with some names bound anew; the elements of a variadic operand, one at a time."""
        return Frame(
            self.work, self.variant, self.nodes, {**self.env, **values}, self.parameters, self.approximations
        )

    def _absent(self, name: str) -> Any:
        """What an absent operand stands for: its fill value in the shape its operator declares."""
        param, place = self.variant.optional[name]
        if param.default is None or isinstance(param.default, bool):
            return None
        owner: fx.Node = self.env[place]
        op = operator_of(owner.target)
        dtype = next((d for a in owner.args if (d := dtype_of(a)) is not None and d.is_floating_point), None)
        if op is None or dtype is None:
            return None
        return Filled(float(param.default), declared_sizes(op, param, owner), dtype)


def declared_sizes(op: Operator, param: Param, node: fx.Node) -> tuple[Any, ...] | None:
    """The shape that `op`'s signature gives an operand, from the shapes of the others at `node`."""
    if param.dims is None:
        return None
    known: dict[str, Any] = {}
    for other, arg in zip(op.params, node.args, strict=False):
        sizes = sizes_of(arg) if other.is_operand and other.dims and isinstance(arg, fx.Node) else None
        if sizes is None or other.dims is None:
            continue
        for dims, axes in ((other.dims, sizes), (other.dims[::-1], sizes[::-1])):
            for dim, size in zip(dims, axes, strict=False):
                if dim == "...":
                    break
                known.setdefault(dim, size)
    if not all(dim in known or dim.isdigit() for dim in param.dims):
        return None
    return tuple(known[dim] if dim in known else int(dim) for dim in param.dims)


__all__ = ["Approximation", "CannotStage", "Frame", "declared_sizes"]
