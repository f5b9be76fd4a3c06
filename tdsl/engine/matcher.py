"""Patterns compiled to Python: one straight function a pattern, cheapest test first.

The generated function takes a candidate for the pattern's first root and calls `accept(nodes, env)` on
every way to match it, until one call returns something other than `None`; so conditions backtrack into
the choices of the match (operand orders, users, lengths of chains). `nodes` are the matched graph
nodes, `env` the bound values by name.

The text of a matcher can be read with `tdsl show --matcher RULE`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import fx

from tdsl.engine.matching import (
    REQUIRED_KEYWORD,
    operands_of_each,
    operands_of_tree,
)
from tdsl.engine.pattern import (
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
    binds,
    children,
)
from tdsl.engine.value_tests import ValueTests
from tdsl.errors import TdslError

Accept = Callable[[tuple[fx.Node, ...], dict[str, Any]], Any]
Matcher = Callable[[fx.Node, Accept], Any]


def compile_pattern(pattern: Pattern, name: str = "match") -> Matcher:
    """The matcher of `pattern`; its source text is kept in the attribute `source`."""
    emitter = _Emitter(pattern)
    source = emitter.function()
    namespace: dict[str, Any] = dict(emitter.constants)
    exec(compile(source, f"<matcher of {name}>", "exec"), namespace)
    matcher: Any = namespace["match"]
    matcher.source = source
    return matcher  # type: ignore[no-any-return]


class _Emitter(ValueTests):
    """Writes one matcher. Failed tests `continue` the innermost loop, so everything stands in a loop."""

    def __init__(self, pattern: Pattern) -> None:
        super().__init__({b.name for root in pattern.roots for b in binds(root) if b.optional})
        self.pattern = pattern
        self.nodes: list[str] = []
        self.matched: dict[int, str] = {}
        self.owned: dict[int, str] = {}
        self.unchecked: list[tuple[Term, str, str]] = []
        self.free = {id(t) for t in (*pattern.outputs, *(term for _, term in pattern.kept))}
        self.users = pattern.users()

    # ------------------------------------------------------------ the function

    def function(self) -> str:
        self.constants["Node"] = fx.Node
        first, *others = self.pattern.roots
        self.put("for _ in (0,):")
        self.indent += 1
        self.term(first, "root", known=True)
        for other in others:
            self.term(other, self.candidates(other))
        for term, value, unless in self.unchecked:
            test = f"not {{*{value}.users}}.issubset(({self.consumers(term)}))"
            self.reject_if(f"not ({unless}) and {test}" if unless else test)
        for variable, type_, optional in sorted(self.late, key=lambda check: check[2]):
            self.check_type(variable, type_, optional)
        named = {**self.bound, **{name: self.matched[id(term)] for name, term in self.pattern.kept}}
        named.update({f"@{i}": self.matched[id(term)] for i, term in enumerate(self.pattern.watched)})
        env = ", ".join(f"{name!r}: {local}" for name, local in named.items())
        self.put(f"result = accept(({', '.join(self.nodes)},), {{{env}}})")
        self.put("if result is not None: return result")
        self.close_functions()
        head = "def match(root, accept" + "".join(f", {name}={name}" for name in self.constants) + "):"
        return "\n".join([head, *(line[4:] for line in self.lines), "    return None", ""])

    def candidates(self, root: Term) -> str:
        """Loop over the nodes that can be `root`: users, level by level, of a value already bound."""
        path = self.path_to_bound(root)
        if path is None:
            raise TdslError(
                "this cannot be reached from the rest of the left side",
                root.span,
                hint="matching starts at the first equation and goes on through a value that both use; "
                "that value may not stand behind a repetition or an n-ary sum",
            )
        start, levels = path
        current = start
        for level in reversed(levels):
            user = self.fresh("u")
            self.loop(f"for {user} in tuple({current}.users) if {current}.__class__ is Node else ()")
            self.reject_if(f"not ({self.target_test(user, level)})")
            current = user
        return current

    def path_to_bound(self, term: Arg) -> tuple[str, list[Term]] | None:
        """A bound value below `term` and the terms on the way up from it, the shortest such way."""
        frontier: list[tuple[Arg, list[Term]]] = [(term, [])]
        while frontier:
            following: list[tuple[Arg, list[Term]]] = []
            for arg, above in frontier:
                if id(arg) in self.matched:
                    return self.matched[id(arg)], above
                if isinstance(arg, Bind) and arg.name in self.bound:
                    return self.bound[arg.name], above
                if isinstance(arg, Chain | Nary):
                    continue
                here = [*above, arg] if isinstance(arg, Apply) else above
                following.extend((child, here) for child in children(arg))
            frontier = following
        return None

    # ------------------------------------------------------------ terms

    def target_test(self, value: str, term: Term) -> str:
        targets = (term.target,) if isinstance(term, Nary) else term.targets
        test = f"{value}.__class__ is Node and "
        if len(targets) == 1:
            only = targets[0]
            if isinstance(only, str):
                return test + f"{value}.op == {term.op!r} and {value}.target == {only!r}"  # type: ignore[union-attr]
            return test + f"{value}.target is {self.constant(only, 'T')}"
        return test + f"{value}.target in {self.constant(frozenset(targets), 'TS')}"

    def term(self, term: Term, value: str, *, known: bool = False) -> None:
        if id(term) in self.matched:
            self.reject_if(f"{value} is not {self.matched[id(term)]}")
            return
        may_be_empty = isinstance(term, Chain) and term.least == 0
        if not known and not may_be_empty:
            self.reject_if(f"not ({self.target_test(value, term)})")
        if isinstance(term, Chain):
            self.chain(term, value)
            return
        self.matched[id(term)] = value
        self.distinct(value)
        if id(term) not in self.free:
            self.used_as_written(term, value)
        if isinstance(term, Nary):
            self.nary(term, value)
        else:
            self.nodes.append(value)
            self.apply(term, value)

    def distinct(self, value: str) -> None:
        """Two pattern nodes are never one graph node; `value` may be `*several`."""
        if not self.nodes:
            return
        if value.startswith("*"):
            every = self.constant(frozenset, "frozenset")
            self.reject_if(f"not {every}({value[1:]}).isdisjoint(({', '.join(self.nodes)},))")
            return
        for other in self.nodes:
            self.reject_if(f"{value} in {other[1:]}" if other.startswith("*") else f"{value} is {other}")

    def used_as_written(self, term: Term, value: str, unless: str = "") -> None:
        """What goes away is used by the terms that use it in the pattern, and by nothing else.

        Where these are single nodes it is enough to count them; trees and chains are looked at in the end.
        """
        users = self.users[id(term)]
        if all(isinstance(user, Apply) for user in users):
            test = f"len({value}.users) != {len(users)}"
            self.reject_if(f"not ({unless}) and {test}" if unless else test)
        else:
            self.unchecked.append((term, value, unless))

    def consumers(self, term: Term) -> str:
        """The nodes that may use `term`, as the elements of a tuple; across chains of length zero."""
        parts: list[str] = []
        for user in self.users[id(term)]:
            if isinstance(user, Chain):
                parts.append(f"*({self.owned[id(user)]} or ({self.consumers(user)}))")
            else:
                parts.append(f"*{self.owned[id(user)]}" if isinstance(user, Nary) else self.matched[id(user)])
        return "".join(f"{part}, " for part in parts)

    def apply(self, term: Apply, value: str) -> None:
        arguments = self.fresh("a")
        self.put(f"{arguments} = {value}.args")
        # Whatever other attributes an operator has is of no interest under an operator variable.
        written = [i for i, a in enumerate(term.args) if term.variable is None or not isinstance(a, Anything)]
        count = max(written, default=-1) + 1
        self.reject_if(f"len({arguments}) {'!=' if term.variable is None else '<'} {count}")
        if term.variable is not None:
            self.operator_variable(term.variable, value)
        slots = [f"{arguments}[{i}]" for i in range(len(term.args))]
        order = list(range(len(term.args)))
        for i in order:
            if isinstance(term.args[i], Literal | Attribute | Anything):
                self.argument(term.args[i], slots[i], arguments)
        for name, pattern, default in term.kwargs:
            local = self.fresh("k")
            if default is REQUIRED_KEYWORD:
                self.reject_if(f"{name!r} not in {value}.kwargs")
                self.put(f"{local} = {value}.kwargs[{name!r}]")
            else:
                self.put(f"{local} = {value}.kwargs.get({name!r}, {self.constant(default, 'D')})")
            self.argument(pattern, local, arguments)
        # A literal stands in its place: in normal form a number is the second operand.
        swaps = term.commutative and not any(
            isinstance(a, Literal | Attribute | Anything) for a in term.args[:2]
        )
        if swaps:
            left, right = self.fresh("v"), self.fresh("v")
            both = f"({slots[0]}, {slots[1]}), ({slots[1]}, {slots[0]})"
            self.loop(f"for {left}, {right} in ({both})")
            slots[0], slots[1] = left, right
        remaining = [i for i in order if not isinstance(term.args[i], Literal | Attribute | Anything)]
        remaining.sort(key=lambda i: self.cost(term.args[i]))
        pairs: list[tuple[Arg, str]] = []
        for i in remaining:
            local = slots[i]
            if not (swaps and i < 2):
                local = self.fresh("v")
                self.put(f"{local} = {slots[i]}")
            if isinstance(term.args[i], Apply) and id(term.args[i]) not in self.matched:
                self.reject_if(f"not ({self.target_test(local, term.args[i])})")  # type: ignore[arg-type]
            pairs.append((term.args[i], local))
        for pattern, local in pairs:
            checked = isinstance(pattern, Apply) and not isinstance(pattern.targets[0], str)
            self.argument(pattern, local, arguments, target_known=checked)

    def cost(self, arg: Arg) -> int:
        """Cheaper tests first: bound values, then terms, then what always matches."""
        if isinstance(arg, Bind):
            return 0 if arg.name in self.bound else 3
        return 1 if isinstance(arg, Apply) else 2

    def argument(self, arg: Arg, value: str, arguments: str, *, target_known: bool = False) -> None:
        if isinstance(arg, Anything):
            return
        if isinstance(arg, Literal):
            self.literal(arg, value, arguments)
        elif isinstance(arg, Attribute):
            self.attribute(arg.name, value)
        elif isinstance(arg, Bind):
            self.bind(arg, value)
        elif isinstance(arg, Items):
            self.items(arg, value, arguments)
        elif isinstance(arg, Splat):
            raise ValueError("a splat stands in a list")
        else:
            self.term(arg, value, known=target_known)

    # ------------------------------------------------------------ lists

    def items(self, arg: Items, value: str, arguments: str) -> None:
        self.constants.setdefault("tuple", tuple)
        self.reject_if(f"not isinstance({value}, {self.constant((list, tuple), 'SEQ')})")
        splat = next((i for i, item in enumerate(arg.items) if isinstance(item, Splat)), None)
        if splat is None:
            self.reject_if(f"len({value}) != {len(arg.items)}")
        else:
            self.reject_if(f"len({value}) < {len(arg.items) - 1}")
        for i, item in enumerate(arg.items):
            if i == splat:
                after = len(arg.items) - 1 - i
                rest = self.fresh("s")
                self.put(f"{rest} = tuple({value}[{i}:{f'-{after}' if after else ''}])")
                self.splat(item, rest)
            else:
                index = i if splat is None or i < splat else i - len(arg.items)
                local = self.fresh("v")
                self.put(f"{local} = {value}[{index}]")
                self.argument(item, local, arguments)

    def splat(self, splat: Splat, rest: str) -> None:
        if splat.each is None:
            self.attribute(splat.name, rest)
            return
        operands, nodes = self.fresh("s"), self.fresh("e")
        split = self.constant(operands_of_each, "operands_of_each")
        self.put(f"{operands}, {nodes} = {split}({rest}, {self.constant(splat.each, 'EACH')})")
        self.reject_if(f"not {nodes}")
        self.distinct(f"*{nodes}")
        self.nodes.append(f"*{nodes}")
        # All else about these nodes is the same, so what holds of the first one holds of each.
        alike = replace(splat.each, args=(Anything(), *splat.each.args[1:]), commutative=False)
        first = self.fresh("v")
        self.put(f"{first} = {nodes}[0]")
        self.apply(alike, first)
        self.attribute(splat.name, f"tuple({operands})")

    # ------------------------------------------------------------ chains and trees

    def chain(self, chain: Chain, value: str) -> None:
        links, current = self.fresh("c"), self.fresh("v")
        most = chain.most if chain.most is not None else 10_000
        self.put(f"{links} = []; {current} = {value}")
        single = f"({current} is {value} or len({current}.users) == 1)"
        replaced = any(chain is term for term in (*self.pattern.outputs, *self.pattern.roots))
        least = max(chain.least, 1) if replaced else chain.least
        self.put(
            f"while len({links}) < {most} and {self.target_test(current, chain)} and {single}: "
            f"{links}.append({current}); {current} = {current}.args[0]"
        )
        count, taken, below = self.fresh("n"), self.fresh("c"), self.fresh("v")
        self.loop(f"for {count} in range(len({links}), {least - 1}, -1)")
        self.put(f"{taken} = tuple({links}[:{count}])")
        self.put(f"{below} = {links}[{count}] if {count} < len({links}) else {current}")
        self.distinct(f"*{taken}")
        self.nodes.append(f"*{taken}")
        self.matched[id(chain)] = value
        self.owned[id(chain)] = taken
        if id(chain) not in self.free:
            self.used_as_written(chain, value, unless=f"not {taken}")
        if chain.variable in self.bound:
            self.operator_variable(chain.variable, taken, chained=True)
        else:
            self.bound[chain.variable] = taken
            self.chained.add(chain.variable)
        self.argument(chain.inner, below, "()")

    def nary(self, tree: Nary, value: str) -> None:
        leaves, inner = self.fresh("l"), self.fresh("i")
        split = self.constant(operands_of_tree, "operands_of_tree")
        self.put(f"{leaves}, {inner} = {split}({value}, {self.constant(tree.target, 'T')})")
        self.reject_if(f"not {inner}")
        self.distinct(f"*{inner}")
        self.nodes.append(f"*{inner}")
        self.owned[id(tree)] = inner
        if not tree.commutative:
            self.items(Items(tree.items), leaves, "()")
            return
        fixed = [item for item in tree.items if not isinstance(item, Splat)]
        rest = next((item for item in tree.items if isinstance(item, Splat)), None)
        self.reject_if(f"len({leaves}) {'!=' if rest is None else '<'} {len(fixed)}")
        fixed.sort(key=self.cost)
        taken: list[str] = []
        for item in fixed:
            index, leaf = self.fresh("j"), self.fresh("v")
            self.loop(f"for {index}, {leaf} in enumerate({leaves})")
            self.constants.setdefault("enumerate", enumerate)
            if taken:
                self.reject_if(f"{index} in ({', '.join(taken)},)")
            taken.append(index)
            self.argument(item, leaf, "()")
        if rest is not None:
            others, at = self.fresh("s"), self.fresh("j")
            used = f"({', '.join(taken)},)" if taken else "()"
            self.put(f"{others} = tuple(x for {at}, x in enumerate({leaves}) if {at} not in {used})")
            self.splat(rest, others)
