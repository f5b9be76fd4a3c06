"""Rules written in Python: functions over torch operators, with what must be known in their annotations.

    def dense(x: Tensor["...", "n"], W: Const["m", "n"], b: Optional): return F.linear(x, W, b)

    def thin(x, W, b, rank=8):
        U, S, V = torch.linalg.svd(W, full_matrices=False)
        return F.linear(F.linear(x, V[:rank]), U[:, :rank] * S[:rank], b)

    svd = tdsl.rule(dense, thin, where=lambda m, n: 8 * (m + n) < m * n, approximate=True)

The pattern is traced once. The replacement is called at each match: constants come as float64 tensors to
compute with, what is known at run time only is traced, sizes and attributes are numbers, an absent operand
is `None`. Functions ask for what they need by parameter name; `site` is the match as a whole.
"""

from __future__ import annotations

import builtins
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import torch
from torch import fx, nn

from tdsl.engine.arithmetic import origins_of
from tdsl.engine.frame import Frame, Test, Variant
from tdsl.engine.pattern import ELLIPSIS, Type, binds, children, walk
from tdsl.engine.rule import Rule
from tdsl.engine.sizes import compare, dtype_of
from tdsl.engine.staged import Constant
from tdsl.engine.traced import TracedPattern, trace, translate
from tdsl.engine.traced_side import stage_graph
from tdsl.engine.weights import leading
from tdsl.errors import TdslError
from tdsl.provenance import module_path

# ---------------------------------------------------------------- annotations


@dataclass(frozen=True, slots=True)
class Known:
    """What is asked of an operand; `Const["m", "n"]` adds sizes, `Optional[Const["m"]]` allows absence."""

    type: Type = field(default_factory=Type)
    optional: bool = False

    def __getitem__(self, given: Any) -> Known:
        if isinstance(given, Known):
            return replace(given, optional=self.optional or given.optional)
        dims = given if isinstance(given, tuple) else (given,)
        wrong = [d for d in dims if not isinstance(d, int | str) and d is not ...]
        if wrong or sum(d in (..., ELLIPSIS) for d in dims) > 1:
            raise TdslError(
                f"{dims} are no sizes", expected='numbers and names, at most one "...": Const["m", 4]'
            )
        return replace(self, type=replace(self.type, dims=tuple(ELLIPSIS if d is ... else d for d in dims)))


Tensor = Known()
"""Any tensor; `Tensor["...", "n"]` binds its last size."""
Const = Known(Type(const=True))
"""A weight: known at compile time."""
Optional = Known(optional=True)
"""An operand that may be absent."""


# ---------------------------------------------------------------- one match


@dataclass(frozen=True, slots=True)
class Site:
    """One match: `site["W"]` is a weight's values in float64, a fake tensor (shape, dtype) of what is known
    at run time only, a number for a size or attribute, `None` for an absent operand."""

    frame: Frame
    names: tuple[str, ...]
    constants: frozenset[str]
    _values: dict[str, Any] = field(default_factory=dict)

    @property
    def module(self) -> str:
        """Path of the module that the first output was traced in."""
        return module_path(self.frame.output)

    def __getitem__(self, name: str) -> Any:
        if name not in self.names:
            raise TdslError(f"the pattern binds no {name}", expected=", ".join(self.names))
        if name not in self._values:
            bound, work = self.frame.env[name], self.frame.work
            if isinstance(bound, fx.Node):
                value = work.evaluate(bound) if name in self.constants else work.val(bound)
            else:
                value = bound
            self._values[name] = value
        return self._values[name]

    @property
    def dtype(self) -> torch.dtype:
        """The element type of new weights: that of the weights matched, else of the other operands."""
        bound = [self.frame.env[name] for name in self.names]
        weights = [v for v in bound if isinstance(v, fx.Node) and v.op == "get_attr"]
        known = [d for d in map(dtype_of, weights or bound) if d is not None and d.is_floating_point]
        result = known[0] if known else torch.float32
        for other in known[1:]:
            result = torch.promote_types(result, other)
        return result


# ---------------------------------------------------------------- the rule


def rule(
    pattern: Callable[..., Any],
    replacement: Callable[..., Any],
    where: Callable[..., Any] | None = None,
    *,
    name: str | None = None,
    approximate: bool = False,
) -> Rule:
    """A rule from functions: where `pattern` occurs and `where` holds, `replacement` is put in its place.

    `where` gets, and `replacement` too, the pattern's parameters and sizes by name, as a `Site` describes
    them; the replacement gets run-time operands as values to be traced. Types of the outputs must agree,
    else the site is left alone. `approximate` rules are not applied to what they made themselves.

    Raises `TdslError` for functions that cannot be traced or ask for what the pattern does not bind.
    """
    called = name or _name(pattern, replacement)
    graph, root = trace(pattern, inline=True)
    traced = translate(graph, root, typed=True, types=annotations_of(pattern))
    _require_independent_outputs(traced)
    sides = _Sides(traced, _bound_names(traced), called)
    sides.require_known(replacement, "the replacement")
    tests = [Test(lambda frame: traced.fits(frame.env), "the arguments are those of the pattern")]
    if where is not None:
        sides.require_known(where, "`where`")
        tests.append(Test(lambda frame: sides.holds(where, frame), _source(where)))
    variant = Variant(traced.pattern, tuple(tests), {}, lambda frame: sides.build(replacement, frame))
    variant.matcher(called)
    doc = inspect.getdoc(pattern) or ""
    return Rule(called, (variant,), approximate=approximate, doc=doc.partition("\n")[0])


def _name(pattern: Callable[..., Any], replacement: Callable[..., Any]) -> str:
    """The name of the replacement, or else of the pattern."""
    names = [getattr(f, "__name__", "<lambda>") for f in (replacement, pattern)]
    return next((n for n in names if n != "<lambda>"), "python_rule")


class _Scope(dict[str, Any]):
    """Names of a function's annotations; one that means nothing in Python is a size: `Const[m, n]`.

    Under `from __future__ import annotations` sizes need no quotes, and formatters remove them.
    """

    def __missing__(self, name: str) -> Any:
        return getattr(builtins, name, name)


def annotations_of(function: Callable[..., Any]) -> dict[str, tuple[Type | None, bool]]:
    """(type, optional) of the parameters that an annotation of this file describes."""
    function = inspect.unwrap(function)
    nonlocals = inspect.getclosurevars(function).nonlocals if inspect.isfunction(function) else {}
    scope = _Scope({**getattr(function, "__globals__", {}), **nonlocals})
    found: dict[str, tuple[Type | None, bool]] = {}
    for parameter, written in inspect.get_annotations(function).items():
        try:
            annotation = eval(written, {}, scope) if isinstance(written, str) else written
        except TypeError as reason:
            raise TdslError(f"the annotation {written} of {parameter} cannot be read: {reason}") from None
        if isinstance(annotation, str):
            raise TdslError(f"the annotation {annotation} of {parameter} is not defined")
        known = next((a for a in (annotation, *get_args(annotation)) if isinstance(a, Known)), None)
        if known is not None:
            found[parameter] = (known.type, known.optional)
    return found


def _bound_names(traced: TracedPattern) -> tuple[str, ...]:
    """Parameters that the pattern uses, and the sizes that their types name."""
    used = [b for root in traced.pattern.roots for b in binds(root)]
    parameters = list(dict.fromkeys(b.name for b in used if not b.name.startswith("%")))
    dims = [
        d for b in used if b.type and b.type.dims for d in b.type.dims if isinstance(d, str) and d != ELLIPSIS
    ]
    both = sorted(set(parameters) & set(dims))
    if both:
        raise TdslError(f"{both[0]} is both a parameter and a size", hint="call one of them otherwise")
    return tuple(dict.fromkeys([*parameters, *dims]))


def _require_independent_outputs(traced: TracedPattern) -> None:
    for output in traced.pattern.outputs:
        below = [term for child in children(output) for term in walk(child, set())]
        if any(term in below for term in traced.pattern.outputs):
            raise TdslError(
                "one output of the pattern is computed from another",
                hint="leave the inner one out, or use tdsl.replace_pattern, which allows it",
            )


class _Sides:
    """Calls the functions of a rule with what they ask for."""

    def __init__(self, traced: TracedPattern, names: tuple[str, ...], rule_name: str) -> None:
        self.traced = traced
        self.names = names
        self.rule_name = rule_name
        consts = {b.name for root in traced.pattern.roots for b in binds(root) if b.type and b.type.const}
        self.constants = frozenset(consts)

    def site(self, frame: Frame) -> Site:
        """The match that a frame holds; the same object for the condition and the replacement."""
        known: Site | None = frame.env.get("@site")
        if known is None:
            known = frame.env["@site"] = Site(frame, self.names, self.constants)
        return known

    def require_known(self, function: Callable[..., Any], what: str) -> None:
        unknown = [p for p in _asked(function) if p not in self.names and p != "site"]
        if unknown:
            raise TdslError(
                f"{what} asks for {unknown[0]}, which the pattern does not bind",
                expected="one of " + ", ".join([*self.names, "site"]),
            )

    def holds(self, where: Callable[..., Any], frame: Frame) -> bool:
        """The condition; a comparison of dynamic sizes holds when it does for every value of them."""
        site = self.site(frame)
        answer = where(**{p: site if p == "site" else site[p] for p in _asked(where)})
        return compare("==", answer, True) if isinstance(answer, torch.SymBool) else bool(answer)

    def build(self, replacement: Callable[..., Any], frame: Frame) -> tuple[Any, ...]:
        """The replacement's values at this match, staged."""
        site = self.site(frame)
        tracer = fx.Tracer()
        tracer.graph, tracer.root, tracer.tensor_attrs = fx.Graph(), nn.Module(), {}
        given: dict[str, Any] = {}
        inputs: dict[fx.Node, Any] = {}
        for parameter in _asked(replacement):
            bound = None if parameter == "site" else frame.env[parameter]
            if parameter == "site":
                given[parameter] = site
            elif isinstance(bound, fx.Node) and parameter not in self.constants:
                proxy = tracer.create_proxy("placeholder", parameter, (), {})
                given[parameter], inputs[proxy.node] = proxy, bound
            else:
                given[parameter] = site[parameter]
        try:
            result = replacement(**given)
        except fx.proxy.TraceError as reason:
            raise TdslError(
                f"the replacement of {self.rule_name} decides by a value known at run time only: {reason}",
                hint="sizes that the annotations name, and weights, are known",
            ) from None
        tracer.graph.output(tracer.create_arg(result))
        weights = {id(site[name]): frame.env[name] for name in self.constants if site[name] is not None}
        origins = origins_of(list(weights.values()))

        def attribute(node: fx.Node) -> Any:
            tensor: torch.Tensor = getattr(tracer.root, str(node.target))
            if id(tensor) in weights:
                return weights[id(tensor)]
            dtype = site.dtype if tensor.is_floating_point() else tensor.dtype
            return Constant(tensor.detach(), dtype, "", leading(frame.work.module, origins))

        values = stage_graph(tracer.graph, inputs, attribute, frame.work, aten=True)
        if len(values) != len(self.traced.outputs):
            raise TdslError(
                f"the replacement of {self.rule_name} returns {len(values)} values, "
                f"the pattern {len(self.traced.outputs)}"
            )
        return values


def _asked(function: Callable[..., Any]) -> list[str]:
    """Names of the parameters that a call must give; those with defaults keep them."""
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.default is p.empty]


def _source(function: Callable[..., Any]) -> str:
    """What to call a condition in an explanation."""
    return f"where {getattr(function, '__name__', 'condition')}"
