"""One match of one rule, and the compiled parts of the rule that are evaluated in it.

A `Variant` holds the code, a `Frame` the values: bound by the match, defined on demand, staged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import fx

from tdsl.engine.matcher import Matcher, compile_pattern
from tdsl.engine.pattern import Pattern, Type
from tdsl.engine.sizes import dtype_of, same, sizes_of
from tdsl.engine.staged import CannotStage, Filled
from tdsl.engine.workspace import Workspace
from tdsl.errors import Span, TdslError
from tdsl.factor.declare import Decomposition
from tdsl.lang import tree
from tdsl.lang.walk import walk
from tdsl.ops import Operator, Param
from tdsl.ops.targets import operator_of


@dataclass(frozen=True, slots=True)
class Approximation:
    """A decomposition used by a match: the weight, the factors that stand for it, and the data it saw."""

    declared: Decomposition
    weight: Any
    factors: tuple[Any, ...]
    moments: tuple[Any, ...] = ()


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
    taken: list[fx.Node] = field(default_factory=list)
    """Operators that the right side replaces beside those that matched: what makes a narrowed value."""
    failed: Span | None = None
    """Where the definition stands that could not be computed."""
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
            try:
                definition.evaluate(self)
            finally:
                self.pending.discard(name)
            return self.env[name]
        if name in self.variant.results:
            return self.variant.pattern.output_nodes(self.nodes, self.env)[self.variant.results[name]]
        return self.parameters[name]

    def has(self, name: str) -> bool:
        """Whether `name` has a value without computing a definition."""
        return name in self.env

    @property
    def rhs(self) -> tuple[Any, ...]:
        """The staged right side, one value an output."""
        if self._rhs is None:
            self._rhs = self.variant.build(self)
            for value in self._rhs:
                self.work.keep_spread(value)
        return self._rhs

    @property
    def output(self) -> fx.Node:
        """The graph node of the first output."""
        return self.variant.pattern.output_nodes(self.nodes, self.env)[0]

    def extended(self, **values: Any) -> Frame:
        """The same frame with some names bound anew; the elements of a variadic operand, one at a time."""
        return Frame(
            self.work,
            self.variant,
            self.nodes,
            {**self.env, **values},
            self.parameters,
            self.approximations,
            taken=self.taken,
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


@dataclass(frozen=True, slots=True)
class Test:
    """A compiled condition and the text it came from."""

    evaluate: Callable[[Frame], Any]
    source: Any


@dataclass(frozen=True, slots=True)
class DefinitionCode:
    """A compiled definition: names, their types, and the value."""

    names: tuple[str, ...]
    types: tuple[Type | None, ...]
    value: Callable[[Frame], Any]
    span: Span
    computed: Mapping[str, Callable[[Frame], Any]] = field(default_factory=dict)
    """Sizes that are written as expressions, by the names that stand for them in `types`."""

    def evaluate(self, frame: Frame) -> None:
        """Compute the definition and bind its names, and the sizes its types mention."""
        try:
            result = self.value(frame)
        except CannotStage:
            frame.failed = frame.failed or self.span  # the innermost one
            raise
        alone = isinstance(result, list) and len(result) == 1 and self.types[0] is not None
        parts = list(result) if len(self.names) > 1 or alone else [result]
        if len(parts) != len(self.names):
            raise TdslError(f"{len(self.names)} names for {len(parts)} results", self.span)
        written: list[tuple[str, Any, Callable[[Frame], Any]]] = []
        for name, type_, part in zip(self.names, self.types, parts, strict=True):
            frame.env[name] = part
            if type_ is None or type_.dims is None:
                continue
            sizes = tuple(frame.work.evaluate(part).shape)
            if len(sizes) != len(type_.dims):
                raise TdslError(
                    f"{name} has {len(sizes)} axes where {len(type_.dims)} are written", self.span
                )
            for dim, size in zip(type_.dims, sizes, strict=True):
                if isinstance(dim, str) and dim in self.computed:
                    written.append((name, size, self.computed[dim]))
                    continue
                known = dim if isinstance(dim, int) else frame.env.setdefault(dim, size)
                if not same(known, size):
                    raise TdslError(f"{name} has size {size} where {dim} = {known} is written", self.span)
        for name, size, value in written:  # of sizes that the names above may have bound
            known = value(frame)
            if not same(known, size):
                raise TdslError(f"{name} has size {size} where {known} is written", self.span)


@dataclass(slots=True)
class Variant:
    """One choice of alternatives of a rule."""

    pattern: Pattern
    tests: tuple[Test, ...]
    definitions: Mapping[str, DefinitionCode]
    build: Callable[[Frame], tuple[Any, ...]]
    optional: Mapping[str, tuple[Any, str]] = field(default_factory=dict)
    """Optional operands: the parameter, and the name under which a match binds the operator's node."""
    results: Mapping[str, int] = field(default_factory=dict)
    """Names of the outputs: a condition may speak of what is to be replaced."""
    statistics: tuple[Callable[[Frame], Any], ...] = ()
    """The statistics of calibration data that the rule asks for, as functions of a frame."""
    narrows: tuple[str, ...] = ()
    """Names of the values that the right side makes of fewer units."""
    _matcher: Matcher | None = None

    def matcher(self, name: str) -> Matcher:
        """The generated matcher, compiled on first use."""
        if self._matcher is None:
            self._matcher = compile_pattern(self.pattern, name)
        return self._matcher

    def fits(self, frame: Frame) -> bool:
        """Whether the conditions hold that speak of sizes and parameters alone, which no rewrite changes."""
        return all(test.evaluate(frame) for test in self.tests if self._of_sizes(test))

    def _of_sizes(self, test: Test) -> bool:
        return not any(
            isinstance(node, tree.Call) or (isinstance(node, tree.Name) and node.id in self.definitions)
            for node in walk(test.source)
        )


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
