"""Patterns compiled to Python: one straight function a pattern, cheapest test first.

The generated function takes a candidate for the pattern's first root and calls `accept(nodes, env)` on
every way to match it, until one call returns something other than `None`; so conditions backtrack into
the choices of the match (operand orders, users, lengths of chains). `nodes` are the matched graph
nodes, `env` the bound values by name.

The text of a matcher can be read with `tdsl show --matcher RULE`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import fx

from tdsl.engine.matching import (
    REQUIRED_KEYWORD,
    depends_on_rank,
    is_plain,
    operands_of_each,
    operands_of_tree,
    rank_of_first,
    same_attributes,
    same_chain,
)
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
from tdsl.engine.sizes import dtype_named, same, same_value, sizes_of
from tdsl.errors import TdslError

Accept = Callable[[tuple[fx.Node, ...], dict[str, Any]], Any]
Matcher = Callable[[fx.Node, Accept], Any]

MAX_BLOCKS = 18
"""Most loops in one function; Python's own limit is 20."""


def compile_pattern(pattern: Pattern, name: str = "match") -> Matcher:
    """The matcher of `pattern`; its source text is kept in the attribute `source`."""
    emitter = _Emitter(pattern)
    source = emitter.function()
    namespace: dict[str, Any] = dict(emitter.constants)
    exec(compile(source, f"<matcher of {name}>", "exec"), namespace)
    matcher: Any = namespace["match"]
    matcher.source = source
    return matcher  # type: ignore[no-any-return]


class _Emitter:
    """Writes one matcher. Failed tests `continue` the innermost loop, so everything stands in a loop."""

    def __init__(self, pattern: Pattern) -> None:
        self.pattern = pattern
        self.lines: list[str] = []
        self.indent = 2
        self.constants: dict[str, Any] = {}
        self.counter = itertools.count()
        self.nodes: list[str] = []
        self.matched: dict[int, str] = {}
        self.bound: dict[str, str] = {}
        self.late: list[tuple[str, Type, bool]] = []
        self.owned: dict[int, str] = {}
        self.unchecked: list[tuple[Term, str, str]] = []
        self.chained: set[str] = set()
        """Operator variables that stand for the operators of a chain."""
        self.blocks = 1
        self.open_functions: list[tuple[str, int]] = []
        self.free = {id(t) for t in (*pattern.outputs, *(term for _, term in pattern.kept))}
        self.optional = {b.name for root in pattern.roots for b in binds(root) if b.optional}
        self.users = pattern.users()

    # ------------------------------------------------------------ writing

    def put(self, line: str) -> None:
        self.lines.append("    " * self.indent + line)

    def reject_if(self, test: str) -> None:
        self.put(f"if {test}: continue")

    def loop(self, header: str) -> None:
        if self.blocks == MAX_BLOCKS:
            self.inner_function()
        self.put(f"{header}:")
        self.indent += 1
        self.blocks += 1

    def inner_function(self) -> None:
        """Go on in a function of its own: Python nests at most 20 loops in one."""
        name = self.fresh("more")
        self.open_functions.append((name, self.indent))
        self.put(f"def {name}():")
        self.indent += 1
        self.put("for _ in (0,):")
        self.indent += 1
        self.blocks = 1

    def close_functions(self) -> None:
        """End the inner functions, the innermost first, and call each where it stands."""
        while self.open_functions:
            name, self.indent = self.open_functions.pop()
            self.put("    return None")
            self.put(f"result = {name}()")
            self.put("if result is not None: return result")

    def fresh(self, stem: str) -> str:
        return f"{stem}{next(self.counter)}"

    def constant(self, value: Any, stem: str = "K") -> str:
        for name, known in self.constants.items():
            if known is value:
                return name
        name = self.fresh(stem)
        self.constants[name] = value
        return name

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

    # ------------------------------------------------------------ leaves

    def literal(self, literal: Literal, value: str, arguments: str) -> None:
        constant = repr(literal.value) if is_plain(literal.value) else self.constant(literal.value)
        if literal.param is not None and depends_on_rank(literal.param, literal.value):
            test, rank = (
                self.constant(same_value, "same_value"),
                self.constant(rank_of_first, "rank_of_first"),
            )
            axes = f"{self.constant(literal.param, 'P')}.canonical({constant}, {rank}({arguments}))"
            self.reject_if(f"not {test}({value}, {axes})")
        elif literal.value is None or isinstance(literal.value, bool):
            self.reject_if(f"{value} is not {constant}")
        elif isinstance(literal.value, list | tuple):
            test = self.constant(same_value, "same_value")
            self.reject_if(f"not {test}({value}, {constant})")
        elif literal.exact and type(literal.value) in (int, float):
            kind = type(literal.value)
            self.constants.setdefault(kind.__name__, kind)
            self.reject_if(f"{value}.__class__ is not {kind.__name__} or {value} != {constant}")
        else:
            # `True == 1` in Python, but a flag is not a number; a node never equals a literal.
            self.reject_if(f"{value}.__class__ in (bool, Node) or {value} != {constant}")
            self.constants.setdefault("bool", bool)

    def attribute(self, name: str, value: str) -> None:
        if name in self.bound:
            test = self.constant(same_value, "same_value")
            self.reject_if(f"not {test}({value}, {self.bound[name]})")
        else:
            self.bound[name] = self.rename(value, name)

    def bind(self, bind: Bind, value: str) -> None:
        optional = bind.name in self.optional
        if bind.name in self.bound:
            known = self.bound[bind.name]
            test = self.constant(same_value, "same_value")
            self.reject_if(f"{value} is not {known} and not {test}({value}, {known})")
        else:
            if not optional:
                self.reject_if(f"{value} is None")
            self.bound[bind.name] = self.rename(value, bind.name)
        if bind.type is not None:
            if bind.type.const:
                test = f"{value}.__class__ is not Node or {value}.op != 'get_attr'"
                self.reject_if(f"{value} is not None and ({test})" if optional else test)
            self.late.append((self.bound[bind.name], bind.type, optional))

    def rename(self, value: str, name: str) -> str:
        local = self.fresh(f"b_{name}_" if name.isidentifier() and name.isascii() else "b")
        self.put(f"{local} = {value}")
        return local

    def operator_variable(self, variable: str, value: str, *, chained: bool = False) -> None:
        """The same operator variable twice means the same operator with the same attributes."""
        if chained or variable in self.chained:
            self.reject_if(f"not {self.constant(same_chain, 'same_chain')}({value}, {self.bound[variable]})")
        elif variable in self.bound:
            known = self.bound[variable]
            self.reject_if(f"{value}.target is not {known}.target or {value}.kwargs != {known}.kwargs")
            test = self.constant(same_attributes, "same_attributes")
            self.reject_if(f"not {test}({value}, {known})")
        else:
            self.bound[variable] = value

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

    # ------------------------------------------------------------ types

    def check_type(self, value: str, type_: Type, optional: bool) -> None:
        if type_.dims is None and type_.dtype is None:
            return
        if optional:
            # An absent operand has no sizes to compare: the tests stand inside an `if`.
            self.put(f"ok = {value} is None")
            self.put("for _ in (0,) if not ok else ():")
            self.indent += 1
        if type_.dtype is not None:
            test = self.constant(dtype_named, "dtype_named")
            self.reject_if(f"not {test}({value}, {type_.dtype!r})")
        if type_.dims is not None:
            sizes = self.fresh("z")
            self.put(f"{sizes} = {self.constant(sizes_of, 'sizes_of')}({value})")
            self.reject_if(f"{sizes} is None")
            self.check_dims(type_.dims, sizes, optional)
        if optional:
            self.put("ok = True")
            self.indent -= 1
            self.reject_if("not ok")

    def check_dims(self, dims: tuple[Any, ...], sizes: str, optional: bool) -> None:
        dots = dims.index(ELLIPSIS) if ELLIPSIS in dims else None
        count = len(dims) - (dots is not None)
        self.reject_if(f"len({sizes}) {'!=' if dots is None else '<'} {count}")
        test = self.constant(same, "same")
        for i, dim in enumerate(dims):
            if i == dots:
                continue
            size = f"{sizes}[{i if dots is None or i < dots else i - len(dims)}]"
            if isinstance(dim, int):
                self.reject_if(f"not {test}({size}, {dim})")
            elif dim in self.bound:
                known = self.bound[dim]
                self.reject_if(f"{size} is not {known} and not {test}({size}, {known})")
            elif optional:
                raise TdslError(
                    f"the size {dim} is bound only by an optional operand",
                    hint="write it in the type of an operand that is always there, too",
                )
            else:
                self.bound[dim] = self.rename(size, dim)
