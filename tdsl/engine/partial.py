"""How far a pattern gets at a node where it does not match, and everything that stands in its way.

Unlike a matcher, which gives up at the first wrong thing, this goes on past it: a term that met another
operator is not looked into, everything beside it is. Of several ways the best is taken, that is the one
with the most terms matched, then with the fewest mismatches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import fx

from tdsl.engine.matching import operands_of_tree
from tdsl.engine.mismatch import Mismatch, Partial, best, operator_name, operators_text, value_described
from tdsl.engine.pattern import (
    ELLIPSIS,
    Anything,
    Apply,
    Arg,
    Attribute,
    Bind,
    Chain,
    Items,
    Literal,
    Nary,
    Pattern,
    Splat,
    Term,
    Type,
    binds,
    children,
)
from tdsl.engine.pattern_values import applies, equals, same_operators
from tdsl.engine.sizes import dtype_of, same, same_value, sizes_of
from tdsl.engine.text import call_text, value_text
from tdsl.errors import Span
from tdsl.ops.targets import DTYPES, operator_of


class Nearest:
    """The search for the best partial match of one pattern."""

    def __init__(self, pattern: Pattern) -> None:
        self.pattern = pattern
        self.free = {id(t) for t in (*pattern.outputs, *(term for _, term in pattern.kept))}
        self.users = pattern.users()
        self.binds = [b for root in pattern.roots for b in binds(root)]
        self.optional = {b.name for b in self.binds if b.optional}
        self.owners = {id(b): term for term in pattern.terms() for b in _own_binds(term)}

    def at(self, root: fx.Node) -> Partial:
        """The best partial match whose first root is `root`."""
        first, *others = self.pattern.roots
        partial = self._term(first, root, Partial({}))
        for other in others:
            partial = self._other_root(other, partial)
        return self._typed(self._used_as_written(partial))

    def _other_root(self, root: Term, partial: Partial) -> Partial:
        """The best way on at a node that uses what is bound already."""
        matched = {node for _, nodes in partial.matched for node in nodes}
        starts = [v for v in partial.env.values() if isinstance(v, fx.Node) and v.op != "get_attr"]
        level = dict.fromkeys(user for value in starts for user in value.users)
        ways: list[Partial] = []
        for _ in range(self.pattern.depth()):
            ways += [self._term(root, node, partial) for node in level if node not in matched]
            level = dict.fromkeys(user for node in level for user in node.users)
        found = [way for way in ways if len(way.matched) > len(partial.matched)]
        if found:
            return best(found)
        names = " or ".join(value.name for value in starts) or "what is matched"
        message = f"no further {operators_text(root)} reads {names}"
        return partial.but(Mismatch("sibling", message, root.span, starts[0] if starts else None, root))

    # ------------------------------------------------------------ terms

    def _term(self, term: Term, value: Any, partial: Partial) -> Partial:
        known = partial.nodes(term)
        if known is not None:
            if known and known[0] is value:
                return partial
            message = f"the same value is wanted twice: {known[0].name if known else 'nothing'}"
            return partial.but(
                Mismatch("value", f"{message}, not {value_described(value)}", term.span, value, term)
            )
        if isinstance(term, Chain):
            return self._chain(term, value, partial)
        if isinstance(term, Nary):
            return self._tree(term, value, partial)
        if not applies(term, value):
            message = f"expected {operators_text(term)}, found {value_described(value)}"
            return partial.but(Mismatch("operator", message, term.span, value, term))
        if any(value in nodes for _, nodes in partial.matched):
            message = f"{value.name} stands for another term already"
            return partial.but(Mismatch("shared", message, term.span, value, term))
        return self._apply(term, value, replace(partial, matched=(*partial.matched, (term, (value,)))))

    def _apply(self, term: Apply, node: fx.Node, partial: Partial) -> Partial:
        patterns, arguments = list(term.args), list(node.args)
        if term.variable is not None:
            partial = self._operator_variable(term, term.variable, node, partial)
            while patterns and isinstance(patterns[-1], Anything):
                patterns.pop()
            arguments = arguments[: len(patterns)]
        if len(patterns) != len(arguments):
            message = f"{node.name} has {len(arguments)} arguments, {len(patterns)} are expected"
            return partial.but(Mismatch("count", message, term.span, node, term))
        op = operator_of(node.target)
        names = [p.name for p in op.params if not p.keyword_only] if op else []
        attributes = [i for i, p in enumerate(patterns) if isinstance(p, Literal | Attribute | Anything)]
        operands = [i for i in range(len(patterns)) if i not in attributes]
        operands.sort(key=lambda i: isinstance(patterns[i], Bind))

        def in_order(given: Sequence[Any]) -> Partial:
            result = partial
            for i in attributes:
                label = names[i] if i < len(names) else f"argument {i}"
                result = self._attribute(patterns[i], given[i], result, term, node, label)
            for name, pattern, default in term.kwargs:
                result = self._attribute(pattern, node.kwargs.get(name, default), result, term, node, name)
            for i in operands:
                label = names[i] if i < len(names) else "operand"
                result = self._argument(patterns[i], given[i], result, term, label)
            return result

        written = in_order(arguments)
        two = op is not None and len(arguments) >= 2 and all(p.is_operand for p in op.params[:2])
        if not two or written.mismatches == partial.mismatches:
            return written
        exchanged = in_order([arguments[1], arguments[0], *arguments[2:]])
        if term.commutative:
            return best((written, exchanged))
        if exchanged.merit > written.merit and exchanged.mismatches == partial.mismatches:
            name = operators_text(term)
            hint = f"it would match with its operands exchanged, but {name} does not commute"
            return _with_hint(written, len(partial.mismatches), hint)
        return written

    def _operator_variable(self, term: Apply, name: str, node: fx.Node, partial: Partial) -> Partial:
        known = partial.env.get(name)
        if known is None:
            return partial.bound(name, node)
        if same_operators(node, known):
            return partial
        message = f"{name} is {_links_text(known)} elsewhere, here it is {_links_text(node)}"
        return partial.but(Mismatch("value", message, term.span, node, term))

    def _chain(self, chain: Chain, value: Any, partial: Partial) -> Partial:
        links: list[fx.Node] = []
        below = [value]
        while isinstance(below[-1], fx.Node) and below[-1].target in chain.targets:
            links.append(below[-1])
            below.append(below[-1].args[0])
            if len(below[-2].users) > 1 and len(links) > 1:
                break
        least = max(chain.least, chain in self.pattern.outputs)
        most = len(links) if chain.most is None else min(chain.most, len(links))
        if most < least:
            message = f"expected {least} of {operators_text(chain)} in a row, found {most}"
            return partial.but(Mismatch("operator", message, chain.span, below[most], chain))

        def taking(length: int) -> Partial:
            taken = tuple(links[:length])
            here = replace(partial, matched=(*partial.matched, (chain, taken)))
            known = here.env.get(chain.variable)
            if known is None:
                here = here.bound(chain.variable, taken)
            elif not same_operators(taken, known):
                message = (
                    f"{chain.variable} is {_links_text(known)} elsewhere, here it is {_links_text(taken)}"
                )
                here = here.but(Mismatch("value", message, chain.span, value, chain))
            return self._argument(chain.inner, below[length], here, chain)

        return best(taking(length) for length in range(most, least - 1, -1))

    def _tree(self, tree: Nary, value: Any, partial: Partial) -> Partial:
        leaves, inner = operands_of_tree(value, tree.target) if isinstance(value, fx.Node) else ([], [])
        if not inner:
            message = f"expected {operators_text(tree)}, found {value_described(value)}"
            return partial.but(Mismatch("operator", message, tree.span, value, tree))
        partial = replace(partial, matched=(*partial.matched, (tree, tuple(inner))))
        fixed = [item for item in tree.items if not isinstance(item, Splat)]
        rest = next((item for item in tree.items if isinstance(item, Splat)), None)
        if len(leaves) < len(fixed) or (rest is None and len(leaves) > len(fixed)):
            message = f"{operators_text(tree)} has {len(leaves)} operands, {len(fixed)} are expected"
            return partial.but(Mismatch("count", message, tree.span, value, tree))
        if not tree.commutative:
            return self._argument(Items(tree.items), leaves, partial, tree)
        fixed.sort(key=lambda item: isinstance(item, Bind))
        for item in fixed:
            ways = [(self._argument(item, leaf, partial, tree), i) for i, leaf in enumerate(leaves)]
            partial, taken = max(ways, key=lambda way: way[0].merit)
            del leaves[taken]
        return partial if rest is None else self._argument(Items((rest,)), leaves, partial, tree)

    # ------------------------------------------------------------ arguments

    def _attribute(
        self, pattern: Arg, value: Any, partial: Partial, term: Apply, node: fx.Node, label: str
    ) -> Partial:
        if not isinstance(pattern, Literal):
            return self._argument(pattern, value, partial, term)
        if equals(pattern, value, node.args[0] if node.args else None):
            return partial
        name = operator_name(node.target)
        if pattern.value is None and isinstance(value, fx.Node):
            message = f"{name} has a {label} ({value_described(value)}), the pattern has none"
            hint = f"write `{label[:1]}?` as its {label} to allow one"
            return partial.but(Mismatch("operand", message, term.span, value, term, hint))
        found, wanted = value_described(value), value_text(pattern.value)
        default = ", its default" if pattern.span is None else ""
        message = f"{label} of {name} is {found}, the rule asks for {wanted}{default}"
        hint = f"write `{label}={label[:1]}` to match any" if pattern.span is None else ""
        return partial.but(Mismatch("attribute", message, pattern.span or term.span, node, term, hint))

    def _argument(
        self, pattern: Arg, value: Any, partial: Partial, term: Term, label: str = "operand"
    ) -> Partial:
        match pattern:
            case Anything():
                return partial
            case Literal(span=span):
                if equals(pattern, value, None):
                    return partial
                message = f"expected {value_text(pattern.value)}, found {value_described(value)}"
                return partial.but(Mismatch("attribute", message, span or term.span, value, term))
            case Attribute(name=name):
                return self._name(name, value, partial, term.span, term)
            case Bind(name=name, span=span):
                if value is None and name not in self.optional:
                    message = f"{operators_text(term)} has no {label} here, the pattern needs {name}"
                    hint = f"write `{name}?` to allow that it is absent"
                    return partial.but(Mismatch("operand", message, span or term.span, None, term, hint))
                return self._name(name, value, partial, span or term.span, term)
            case Items(items=items):
                return self._items(items, value, partial, term)
            case Splat(name=name, each=each):
                return self._splat(name, each, value, partial, term)
            case _:
                return self._term(pattern, value, partial)

    def _name(self, name: str, value: Any, partial: Partial, span: Span | None, term: Term) -> Partial:
        if name not in partial.env:
            return partial.bound(name, value)
        known = partial.env[name]
        if same_value(known, value):
            return partial
        message = f"{name} is {value_described(known)} and here {value_described(value)}"
        return partial.but(Mismatch("value", message, span, value, term))

    def _items(self, items: Sequence[Arg], values: Any, partial: Partial, term: Term) -> Partial:
        splat = next((i for i, item in enumerate(items) if isinstance(item, Splat)), None)
        values = list(values) if isinstance(values, list | tuple) else [values]
        fixed = len(items) - (splat is not None)
        if len(values) < fixed or (splat is None and len(values) > fixed):
            message = f"{operators_text(term)} has {len(values)} operands, {fixed} are expected"
            return partial.but(Mismatch("count", message, term.span, None, term))
        for i, item in enumerate(items):
            if i == splat:
                value: Any = tuple(values[i : len(values) - (fixed - i)])
            else:
                value = values[i if splat is None or i < splat else i - len(items)]
            partial = self._argument(item, value, partial, term)
        return partial

    def _splat(self, name: str, each: Apply | None, values: Any, partial: Partial, term: Term) -> Partial:
        if each is None:
            return partial.bound(name, values)
        wrong = next((v for v in values if not applies(each, v)), None)
        if wrong is None:
            return partial.bound(name, tuple(v.args[0] for v in values))
        message = f"expected {operators_text(each)} throughout, found {value_described(wrong)}"
        return partial.but(Mismatch("operator", message, each.span or term.span, wrong, each))

    # ------------------------------------------------------------ side conditions

    def _used_as_written(self, partial: Partial) -> Partial:
        """Note the values that would go away although something else uses them."""
        result = partial
        for term, nodes in partial.matched:
            if id(term) in self.free or not nodes:
                continue
            users = [partial.nodes(user) for user in self.users[id(term)]]
            if any(not found for found in users):
                continue
            allowed = {node for found in users for node in found or ()}
            others = [user for user in nodes[0].users if user not in allowed]
            if others:
                named = ", ".join(_user_text(user) for user in others[:3])
                more = f" and {len(others) - 3} more" if len(others) > 3 else ""
                message = f"{nodes[0].name} is also used by {named}{more}, so it cannot go away"
                hint = "name the term on the left side, `y = …`, and it is kept"
                result = result.but(Mismatch("use", message, term.span, nodes[0], term, hint))
        return result

    def _typed(self, partial: Partial) -> Partial:
        """Note the types that do not hold."""
        env = dict(partial.env)
        for bind in sorted(self.binds, key=lambda b: b.name in self.optional):
            value = env.get(bind.name)
            if bind.type is None or bind.name not in env or (value is None and bind.name in self.optional):
                continue
            for kind, message in _type_errors(bind.name, value, bind.type, env):
                partial = partial.but(Mismatch(kind, message, bind.span, value, self.owners.get(id(bind))))
        return replace(partial, env=env)


def _type_errors(name: str, value: Any, type_: Type, env: dict[str, Any]) -> list[tuple[str, str]]:
    """What is wrong with a value's type; sizes named for the first time are added to `env`."""
    found: list[tuple[str, str]] = []
    what = value_described(value)
    if type_.const and not (isinstance(value, fx.Node) and value.op == "get_attr"):
        found.append(("const", f"{name} must be known at compile time, but it is {what}"))
    if type_.dtype is not None and (dtype := dtype_of(value)) != DTYPES[type_.dtype]:
        short = next((k for k, v in DTYPES.items() if v == dtype), "no tensor")
        found.append(("dtype", f"{name} ({what}) is {short}, the rule asks for {type_.dtype}"))
    if type_.dims is None:
        return found
    sizes = sizes_of(value)
    if sizes is None:
        return [*found, ("size", f"the sizes of {name} ({what}) are not known")]
    shape, written = f"[{', '.join(map(str, sizes))}]", f"[{', '.join(map(str, type_.dims))}]"
    dots = type_.dims.index(ELLIPSIS) if ELLIPSIS in type_.dims else None
    count = len(type_.dims) - (dots is not None)
    if len(sizes) < count or (dots is None and len(sizes) > count):
        return [*found, ("size", f"{name} ({what}) has the sizes {shape}, the rule asks for {written}")]
    for i, dim in enumerate(type_.dims):
        if i == dots:
            continue
        size = sizes[i if dots is None or i < dots else i - len(type_.dims)]
        known = dim if isinstance(dim, int) else env.setdefault(dim, size)
        if not same(size, known):
            wanted = f"{dim}" if isinstance(dim, int) else f"{dim} = {known}"
            place = f"{name}: {written} is {shape} here ({what})"
            found.append(("size", f"{place}: {size} stands where the rule asks for {wanted}"))
    return found


def _own_binds(arg: Arg) -> list[Bind]:
    """The bindings that are arguments of a term itself, rather than of a term below it."""
    below = [child for child in children(arg) if not isinstance(child, Term)]
    own = [child for child in below if isinstance(child, Bind)]
    return own + [b for child in below if not isinstance(child, Bind) for b in _own_binds(child)]


def _links_text(links: Any) -> str:
    """What an operator variable stands for: a node, or the links of a chain."""
    nodes = links if isinstance(links, tuple) else (links,)
    return " after ".join(call_text(node) for node in nodes) or "a chain of none"


def _user_text(node: fx.Node) -> str:
    return "the model's outputs" if node.op == "output" else f"{node.name} = {call_text(node)}"


def _with_hint(partial: Partial, start: int, hint: str) -> Partial:
    """`partial` with `hint` at its mismatch number `start`."""
    changed = replace(partial.mismatches[start], hint=hint)
    return replace(
        partial, mismatches=(*partial.mismatches[:start], changed, *partial.mismatches[start + 1 :])
    )
