"""Name checking of an example: what its model is made of, what it returns, what is expected of it.

Whether the rules named are there is not asked here: a file may be read without the library it is tested with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any

from tdsl.errors import TdslError
from tdsl.lang import tree
from tdsl.lang.scope import Role, Scope
from tdsl.lang.uses import Uses
from tdsl.lang.vocabulary import DTYPES, Vocabulary
from tdsl.lang.walk import children, walk

_SIZES = "sizes in numbers: `x: [4, 8]`, `W: const [3, 8]`, `a: const []`"


@dataclass(frozen=True, slots=True)
class Leaf:
    """A tensor of the model: an input or (`const`) a weight, with its sizes and perhaps an element type."""

    name: str
    sizes: tuple[int, ...]
    dtype: str | None
    const: bool


@dataclass(frozen=True)
class Example:
    """An example whose names are known; in its terms every variable is a plain name."""

    source: tree.Example
    leaves: Mapping[str, Leaf]
    """What is drawn at random, in the order it was written."""
    definitions: tuple[tree.Definition, ...]
    """What is computed from weights: further weights."""
    lhs: tuple[tree.Equation, ...]
    rhs: tuple[tree.Equation, ...]
    outputs: tuple[str, ...]
    """Names of what the model returns, which is what no other line uses; empty for a term without a name."""
    free: Mapping[str, Leaf]
    """Names of the expected side that stand for any weight of their sizes."""


def check_example(source: tree.Example, vocabulary: Vocabulary) -> Example:
    """Check the names and calls of an example. Raises `TdslError` at the first mistake."""
    scope = Scope(vocabulary)
    uses = Uses(scope, MappingProxyType({}))
    given = [equation.term for equation in source.lhs]
    computed = [_definition(clause) for clause in source.where]
    leaves = _leaves([*given, *(clause.value for clause in computed)], scope)
    for clause in computed:
        _require_weights(clause, leaves)
        uses.value(plain(clause.value))
        for target in clause.targets:
            scope.define(target.name, target.span)
    lhs = _side(source.lhs, scope, uses, is_model=True)
    free = _leaves([equation.term for equation in source.rhs], scope, set(leaves))
    for name, leaf in free.items():
        if not leaf.const:
            place = next(
                n for e in source.rhs for n in walk(e) if isinstance(n, tree.Declared) and n.name == name
            )
            raise TdslError(
                f"`{name}` is no input of the model",
                place.span,
                expected=f"a name of the left side, or `{name}: const […]` for a weight of any values",
            )
    rhs = _side(source.rhs, scope, uses, is_model=False)
    outputs = _unused(source.lhs)
    _require_outputs(source, outputs)
    definitions = tuple(replace(clause, value=plain(clause.value)) for clause in computed)
    return Example(source, leaves, definitions, lhs, rhs, outputs, free)


def plain(node: Any) -> Any:
    """A term with its types left out: `linear(x: [4, 8], W)` is `linear(x, W)`."""
    if isinstance(node, tree.Declared):
        return tree.Name(id=node.name, span=node.span)
    if isinstance(node, tuple):
        return tuple(plain(part) for part in node)
    if isinstance(node, tree.Node):
        return replace(
            node, **{f.name: plain(getattr(node, f.name)) for f in fields(node) if f.name != "span"}
        )
    return node


# ---------------------------------------------------------------- leaves


def _leaves(terms: Sequence[tree.Node], scope: Scope, known: set[str] = frozenset()) -> dict[str, Leaf]:  # type: ignore[assignment]
    """The declared names of some terms, bound in `scope`."""
    found: dict[str, Leaf] = {}
    for term in terms:
        for node in _declared(term):
            if node.name in found or node.name in known:
                raise TdslError(
                    f"`{node.name}` is declared twice",
                    node.span,
                    hint="say its sizes where it first occurs, and write its name alone elsewhere",
                )
            found[node.name] = _leaf(node)
            scope.declare(node.name, Role.OPERAND, node.span)
    return found


def _declared(term: tree.Node) -> Iterator[tree.Declared]:
    if isinstance(term, tree.Declared):
        yield term
        return
    for part in children(term):
        yield from _declared(part)


def _leaf(node: tree.Declared) -> Leaf:
    if node.optional:
        raise TdslError(
            f"in an example `{node.name}` is there or it is not",
            node.span,
            expected=f"`{node.name}: const [3]`, or nothing",
        )
    if node.type is None or node.type.dims is None:
        raise TdslError(f"`{node.name}` has no sizes", node.span, expected=_SIZES)
    return Leaf(node.name, tuple(_size(dim) for dim in node.type.dims), node.type.dtype, node.type.const)


def _size(dim: tree.Expr | tree.Ellipsis_) -> int:
    match dim:
        case tree.Constant(value=int() as size) if not isinstance(size, bool):
            return size
        case _:
            raise TdslError("the sizes of an example are numbers", dim.span, expected=_SIZES)


# ---------------------------------------------------------------- where


def _definition(clause: tree.Clause) -> tree.Definition:
    if isinstance(clause, tree.Condition):
        raise TdslError(
            "an example has no conditions",
            clause.span,
            expected="weights computed from others: `W = (U: const [6, 2]) @ (V: const [2, 5])`",
        )
    return clause


def _require_weights(clause: tree.Definition, leaves: Mapping[str, Leaf]) -> None:
    for node in walk(clause.value):
        name = (
            node.name if isinstance(node, tree.Declared) else node.id if isinstance(node, tree.Name) else ""
        )
        if name in leaves and not leaves[name].const:
            raise TdslError(
                f"`{name}` is an input, and `where` computes weights",
                node.span,
                expected=f"`{name}: const […]`",
            )


# ---------------------------------------------------------------- sides


def _side(
    equations: Sequence[tree.Equation], scope: Scope, uses: Uses, *, is_model: bool
) -> tuple[tree.Equation, ...]:
    """The equations without types, each checked, its names bound for those after it."""
    found = []
    for i, equation in enumerate(equations):
        if not equation.names and i + 1 < len(equations):
            raise TdslError(
                "of several lines each but the last needs a name", equation.span, expected="`p = …`"
            )
        if is_model:
            _require_model(equation, scope)
        term = plain(equation.term)
        uses.term(term)
        for name in equation.names:
            scope.declare(name, Role.RESULT, equation.span)
        found.append(replace(equation, term=term))
    return tuple(found)


def _require_model(equation: tree.Equation, scope: Scope) -> None:
    """Refuse what only a pattern has, and a name that is nothing yet."""
    for node in walk(equation.term):
        if isinstance(node, tree.Alternatives) or (isinstance(node, tree.Call) and node.repeat):
            what = "alternatives" if isinstance(node, tree.Alternatives) else "repetitions"
            raise TdslError(
                f"an example is a model, and a model has no {what}",
                node.span,
                expected="one term; several examples are for one rule",
            )
        if isinstance(node, tree.Name) and node.id not in scope.bound and node.id not in DTYPES:
            raise TdslError(f"`{node.id}` is an input or weight without sizes", node.span, expected=_SIZES)


def _unused(equations: Sequence[tree.Equation]) -> tuple[str, ...]:
    used = {n.id for e in equations for n in walk(e.term) if isinstance(n, tree.Name)}
    return tuple(name for e in equations for name in e.names or ("",) if name not in used)


def _require_outputs(source: tree.Example, outputs: tuple[str, ...]) -> None:
    """The expected side gives the value without a name, if there is one, and nothing that is not asked."""
    bare = [equation for equation in source.rhs if not equation.names]
    if source.rhs and ("" in outputs) != bool(bare):
        raise TdslError(
            "this does not say which result it is" if bare else "the result without a name is missing",
            (bare or source.rhs)[-1].span,
            expected=f"`{outputs[0]} = …`" if bare else "a last line without `name =`, as on the left side",
        )
    known = {name for equation in source.lhs for name in equation.names}
    for name in _unused(source.rhs):
        if name and name not in known:
            raise TdslError(
                f"`{name}` is no result of the left side, and nothing uses it",
                next(e for e in source.rhs if name in e.names).span,
                expected=f"one of {', '.join(filter(None, outputs))}"
                if any(outputs)
                else "a line that uses it",
            )
