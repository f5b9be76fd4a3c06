"""Patterns that are Python functions: traced, respelled, translated for the engine.

A graph and a pattern are both looked at in one spelling: the operators of the table as in normal form,
other calls with all their arguments written out. So `x.relu() + 1` is `torch.add(torch.relu(x), 1)`, in
an exported graph and in a symbolically traced one alike. The user's own graphs are not changed for it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from tdsl.capture.normal import one_constant_each, respell
from tdsl.engine.matching import REQUIRED_KEYWORD
from tdsl.engine.pattern import (
    Apply,
    Arg,
    Attribute,
    Bind,
    Items,
    Literal,
    Pattern,
    Term,
    Type,
    children,
    find_roots,
)
from tdsl.engine.sizes import same_value
from tdsl.errors import TdslError
from tdsl.ops import Param
from tdsl.ops.calls import complete
from tdsl.ops.targets import operator_of

Traceable = Callable[..., Any] | nn.Module | fx.Graph
_CALLS = ("call_function", "call_method", "call_module")


class _Inlining(fx.Tracer):
    """Traces through the modules of `torch.nn`, so that only functions remain."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return False


def trace(source: Traceable, *, inline: bool = False) -> tuple[fx.Graph, nn.Module]:
    """The graph of a function or module (of a graph, itself), and the module that holds its attributes.

    `inline` traces through the modules called, for a graph that has none.
    Raises `TdslError` for a function whose control flow depends on its arguments.
    """
    if isinstance(source, fx.GraphModule) and not (inline and source.graph.find_nodes(op="call_module")):
        return source.graph, source
    if isinstance(source, fx.Graph):
        return source, source.owning_module or nn.Module()
    if not isinstance(source, nn.Module) and not hasattr(inspect.unwrap(source), "__code__"):
        name = getattr(source, "__name__", str(source))
        raise TdslError(f"{name} cannot be traced", expected=f"a Python function: lambda x: {name}(x)")
    tracer = _Inlining() if inline else fx.Tracer()
    try:
        graph = tracer.trace(source)
    except fx.proxy.TraceError as reason:
        raise TdslError(
            f"{getattr(source, '__name__', source)} cannot be traced: {reason}",
            expected="a function that calls the same operators whatever its arguments are",
        ) from None
    return graph, tracer.root


def speaks_aten(graph: fx.Graph) -> bool:
    """Whether a graph was exported: it calls ATen overloads, not Python functions, methods or modules."""
    calls = [node for node in graph.nodes if node.op in _CALLS]
    exported = [isinstance(node.target, torch._ops.OperatorBase) for node in calls]
    allowed = [
        ok or getattr(node.target, "__module__", "") == "_operator"
        for ok, node in zip(exported, calls, strict=True)
    ]
    return any(exported) and all(allowed)


# ---------------------------------------------------------------- one spelling


def respelled(graph: fx.Graph, root: nn.Module) -> tuple[fx.Graph, dict[fx.Node, fx.Node]]:
    """A copy of `graph` in the common spelling, and for each node of the copy the one it stands for.

    No call is dropped: what is not used in the graph can be matched too.
    """
    copy = fx.Graph()
    copies: dict[fx.Node, Any] = {}
    copy.output(copy.graph_copy(graph, copies))
    one_constant_each(copy, root)
    for node in copy.nodes:
        if node.op in _CALLS:
            respell(node)
            _write_out(node)
    return copy, {new: old for old, new in copies.items() if not new._erased}


def _write_out(node: fx.Node) -> None:
    """All arguments of a call that the table does not know; slices and dictionaries as tuples."""
    args: Sequence[Any] = node.args
    kwargs: Mapping[str, Any] = node.kwargs
    if isinstance(node.target, torch._ops.OpOverload):
        full = complete(node.target, args, kwargs) if operator_of(node.target) is None else None
        if full is not None:
            defaults = _keyword_defaults(node.target)
            args = full[0]
            kwargs = {k: v for k, v in full[1].items() if k not in defaults or not same_value(v, defaults[k])}
    elif node.op == "call_function" and inspect.isfunction(node.target):
        args, kwargs = _by_signature(node.target, args, kwargs)
    node.args = tuple(_as_tuples(a) for a in args)
    node.kwargs = {name: _as_tuples(a) for name, a in kwargs.items()}


def _by_signature(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, Any]:
    """Every argument of a Python function by name, defaults included; as written if it takes `*args`."""
    signature = inspect.signature(function)
    if any(
        p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD, p.POSITIONAL_ONLY) for p in signature.parameters.values()
    ):
        return args, kwargs
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError:
        return args, kwargs
    bound.apply_defaults()
    # A default that no graph could hold cannot be compared either.
    held = {k: v for k, v in bound.arguments.items() if k in kwargs or _can_stand_in_graph(v)}
    return (), held


def _can_stand_in_graph(value: Any) -> bool:
    return value is None or isinstance(value, (fx.Node, *fx.node.base_types, list, tuple, dict, slice))


def _keyword_defaults(target: Any) -> dict[str, Any]:
    """Defaults of the keyword-only arguments of an ATen overload."""
    arguments = target._schema.arguments if isinstance(target, torch._ops.OpOverload) else ()
    return {a.name: a.default_value for a in arguments if a.kwarg_only and a.has_default_value()}


_SLICE, _DICT = "<slice>", "<dict>"


def _as_tuples(value: Any) -> Any:
    """Slices and dictionaries as tagged tuples, for the matcher looks into lists and tuples only."""
    if isinstance(value, slice):
        return (_SLICE, *(_as_tuples(part) for part in (value.start, value.stop, value.step)))
    if isinstance(value, dict):
        return (_DICT, *((key, _as_tuples(value[key])) for key in sorted(value, key=str)))
    if isinstance(value, list | tuple):
        return [_as_tuples(item) for item in value]
    return value


def as_written(value: Any, originals: Mapping[fx.Node, fx.Node]) -> Any:
    """What a match bound in a respelled graph, as it stands in the graph itself."""
    if isinstance(value, fx.Node):
        return originals[value]
    if isinstance(value, list | tuple):
        if value and value[0] == _SLICE:
            return slice(*(as_written(part, originals) for part in value[1:]))
        if value and value[0] == _DICT:
            return {key: as_written(item, originals) for key, item in value[1:]}
        return [as_written(item, originals) for item in value]
    return value


# ---------------------------------------------------------------- patterns


@dataclass(frozen=True, slots=True)
class TracedPattern:
    """A traced function as a pattern. A match binds `"@i"` to the graph node of the i-th term.

    The sequences hold the nodes of the user's graph: parameters as (node, name), constants as (node, name
    that a match binds), calls in the order of `pattern.watched`, outputs in the order they are returned.
    """

    graph: fx.Graph
    pattern: Pattern
    parameters: tuple[tuple[fx.Node, str], ...]
    constants: tuple[tuple[fx.Node, str], ...]
    calls: tuple[fx.Node, ...]
    outputs: tuple[fx.Node, ...]
    literals: tuple[str, ...]
    """Names bound where any literal may stand (`ignore_literals`)."""

    def fits(self, env: Mapping[str, Any]) -> bool:
        """What the matcher leaves open: keyword arguments complete, constants and literals of their kind."""
        for i, term in enumerate(self.pattern.watched):
            node: fx.Node = env[f"@{i}"]
            if isinstance(term, Apply) and not node.kwargs.keys() <= {name for name, _, _ in term.kwargs}:
                return False
        held = [env[name] for _, name in self.constants]
        return len(set(held)) == len(held) and not any(_holds_node(env[name]) for name in self.literals)

    def anchor(self) -> fx.Node:
        """The output of the pattern that PyTorch begins a match from: the first that nothing in it uses."""
        return next(n for n in self.outputs if len(n.users) == 1)


def translate(
    graph: fx.Graph,
    root: nn.Module,
    *,
    typed: bool,
    any_value: bool = False,
    types: Mapping[str, tuple[Type | None, bool]] | None = None,
    ignore_literals: bool = False,
) -> TracedPattern:
    """A traced graph as a pattern of the engine.

    `typed` says that the graphs to be matched carry shapes, so that axes can be counted from the last.
    `any_value` lets a parameter stand for an absent operand too; `types` gives (type, optional) of
    parameters by name.

    Raises `TdslError` for a pattern without an operator, or with one that it does not return.
    """
    copy, originals = respelled(graph, root)
    _require_pattern(copy)
    build = _Translation(typed, any_value, types or {}, ignore_literals)
    for node in copy.nodes:
        build.node(node)
    returned = copy.output_node().all_input_nodes
    outputs = tuple(build.terms[node] for node in returned)
    roots = _connected(find_roots(outputs))
    others = [t for t in build.terms.values() if t not in outputs]
    pattern = Pattern(outputs, (), roots, (*outputs, *others))
    by_term = {id(term): originals[node] for node, term in build.terms.items()}
    leaves = [(originals[node], node.op, name) for node, name in build.leaves.items()]
    return TracedPattern(
        graph,
        pattern,
        tuple((node, name) for node, op, name in leaves if op == "placeholder"),
        tuple((node, name) for node, op, name in leaves if op == "get_attr"),
        tuple(by_term[id(term)] for term in pattern.watched),
        tuple(originals[node] for node in returned),
        tuple(build.literals),
    )


class _Translation:
    """Turns the nodes of a respelled graph into terms, operands first."""

    def __init__(
        self,
        typed: bool,
        any_value: bool,
        types: Mapping[str, tuple[Type | None, bool]],
        ignore_literals: bool,
    ) -> None:
        self.typed = typed
        self.any_value = any_value
        self.types = types
        self.ignore_literals = ignore_literals
        self.terms: dict[fx.Node, Apply] = {}
        self.leaves: dict[fx.Node, str] = {}
        self.literals: list[str] = []

    def node(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            self.leaves[node] = str(node.target).lstrip("*")
        elif node.op == "get_attr":
            self.leaves[node] = f"%{node.name}"
        elif node.op in _CALLS:
            self.terms[node] = self.call(node)

    def call(self, node: fx.Node) -> Apply:
        op = operator_of(node.target)
        params = {p.name: p for p in op.params} if op else {}
        by_place = [p for p in op.params if not p.keyword_only] if op else []
        padded = [*by_place, *[None] * len(node.args)]
        defaults = _keyword_defaults(node.target)
        return Apply(
            targets=(node.target,),
            args=tuple(self.argument(a, p) for a, p in zip(node.args, padded, strict=False)),
            kwargs=tuple(
                (name, self.argument(a, params.get(name)), defaults.get(name, REQUIRED_KEYWORD))
                for name, a in node.kwargs.items()
            ),
            op=node.op,
            commutative=op is not None and op.commutative and not node.kwargs,
            label=node.name,
        )

    def argument(self, value: Any, param: Param | None) -> Arg:
        if isinstance(value, fx.Node):
            return self.terms[value] if value in self.terms else self.bind(value)
        if isinstance(value, list | tuple) and _holds_node(value):
            return Items(tuple(self.argument(item, None) for item in value))
        if self.ignore_literals:
            self.literals.append(f"#{len(self.literals)}")
            return Attribute(self.literals[-1])
        # An unknown function may tell 1 from 1.0, and so does arithmetic on an integer tensor.
        return Literal(value, param if self.typed else None, exact=param is None or param.is_operand)

    def bind(self, node: fx.Node) -> Bind:
        name = self.leaves[node]
        if node.op == "get_attr":
            return Bind(name, Type(const=True))
        type_, optional = self.types.get(name, (None, self.any_value))
        return Bind(name, type_, optional)


def _require_pattern(graph: fx.Graph) -> None:
    returned = graph.output_node().all_input_nodes
    if not returned or any(node.op not in _CALLS for node in returned):
        raise TdslError(
            "the pattern returns one of its own parameters or constants, so there is nothing to replace",
            expected="a function that returns the results of operators",
        )
    for node in graph.nodes:
        if node.op in _CALLS and not node.users:
            raise TdslError(
                f"the pattern computes {node.name} and does not use it",
                hint="return it, if it is one of the values to be replaced; else leave it out",
            )


def _connected(roots: tuple[Term, ...]) -> tuple[Term, ...]:
    """The roots in an order in which each uses a value that one before it uses: that is how it is found."""
    order, known, waiting = [roots[0]], _below(roots[0]), list(roots[1:])
    while waiting:
        following = next((root for root in waiting if known & _below(root)), None)
        if following is None:
            raise TdslError(
                "the outputs of the pattern have no value in common",
                hint="replace unrelated values in two calls, or return a value that joins them",
            )
        order.append(following)
        waiting.remove(following)
        known |= _below(following)
    return tuple(order)


def _below(term: Term) -> set[Any]:
    """What stands below a term: the names of variables, the identities of terms."""
    found: set[Any] = set()
    stack = list(children(term))
    while stack:
        arg = stack.pop()
        found.add(arg.name if isinstance(arg, Bind) else id(arg))
        stack.extend(children(arg))
    return found


def _holds_node(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(_holds_node(item) for item in value)
    return isinstance(value, fx.Node)


__all__ = ["TracedPattern", "as_written", "respelled", "speaks_aten", "trace", "translate"]
