# ruff: noqa: D102 (one method a production of the grammar, which says what each is)
"""From lark's parse tree to the syntax tree: one method a production, spans attached.

Also refuses what the grammar alone cannot: an arrow that does not fit `rule` or `law`, a left side of
`=` that is no name, and numbers without a finite value.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lark import Token, v_args

from tdsl.errors import Span, TdslError
from tdsl.lang import tree
from tdsl.lang.build_terms import TermBuilder, unquoted


@v_args(meta=True)
class Builder(TermBuilder):
    """Builds `tree` nodes; every method takes lark's position record and the built children."""

    # ------------------------------------------------------------ files and declarations

    def start(self, meta: Any, items: list[Any]) -> tree.File:
        end = self.source.text.count("\n") + 1
        whole = Span(self.source, 1, 1, end, len(self.source.line(end)) + 1)
        return tree.File(items=tuple(i for i in items if not isinstance(i, Token)), span=whole)

    def declaration(self, meta: Any, items: list[Any]) -> tree.Item:
        doc, item = items
        documented: tree.Item = replace(item, doc=doc)
        return documented

    def doc(self, meta: Any, lines: list[Token]) -> str:
        self.doc_lines.update(line.line or 0 for line in lines)
        return "\n".join(line[3:].removeprefix(" ").rstrip() for line in lines)

    def import_file(self, meta: Any, items: list[Token]) -> tree.Import:
        return tree.Import(path=unquoted(items[0]), span=self._span(meta))

    def import_library(self, meta: Any, items: list[Token]) -> tree.Import:
        return tree.Import(path=str(items[0]), library=True, span=self._span(meta))

    def rule(self, meta: Any, items: list[Any]) -> tree.Rule:
        return self._rule(meta, items, law=False)

    def law(self, meta: Any, items: list[Any]) -> tree.Rule:
        return self._rule(meta, items, law=True)

    def _rule(self, meta: Any, items: list[Any], law: bool) -> tree.Rule:
        name, *rest = items
        parameters = rest.pop(0) if isinstance(rest[0], _Parameters) else ()
        where = rest.pop() if isinstance(rest[-1], _Where) else ()
        lhs, (arrow, arrow_span), rhs = rest
        if law and arrow != "==":
            raise TdslError(
                f"a law has the arrow `==`, not `{arrow}`",
                arrow_span,
                expected="`==` between the two sides of a law",
                hint=f"write `rule {name}` if it is to be used from left to right only",
            )
        if not law and arrow == "==":
            raise TdslError(
                "`==` makes a law, and this is a rule",
                arrow_span,
                expected="`=>` (exact) or `~>` (approximate)",
                hint=f"write `law {name}` if it holds both ways and need not fire on its own",
            )
        return tree.Rule(
            name=str(name),
            parameters=tuple(parameters),
            lhs=lhs,
            arrow=arrow,
            rhs=rhs,
            where=tuple(where),
            span=self._span(meta),
        )

    def arrow(self, meta: Any, items: list[Token]) -> tuple[str, Span]:
        return str(items[0]), self._span(meta)

    def example(self, meta: Any, items: list[Any]) -> tree.Example:
        reference, lhs, *rest = items
        where = rest.pop() if rest and isinstance(rest[-1], _Where) else ()
        arrow, rhs = rest[0] if rest else (None, ())
        return tree.Example(
            reference=reference,
            lhs=lhs,
            arrow=arrow,
            rhs=rhs or (),
            unchanged=rhs is None,
            where=tuple(where),
            span=self._span(meta),
        )

    def becomes_term(self, meta: Any, items: list[Any]) -> tuple[str, tuple[tree.Equation, ...]]:
        return items[0], items[1]

    def stays(self, meta: Any, items: list[Any]) -> tuple[str, None]:
        return items[0], None

    def becomes(self, meta: Any, items: list[Token]) -> str:
        return str(items[0])

    def parameters(self, meta: Any, items: list[tree.Parameter]) -> _Parameters:
        return _Parameters(items)

    def parameter(self, meta: Any, items: list[Any]) -> tree.Parameter:
        name, kinds, default = items
        return tree.Parameter(name=str(name), kinds=kinds, default=default, span=self._span(meta))

    def kinds(self, meta: Any, names: list[Token]) -> tuple[str, ...]:
        return tuple(map(str, names))

    def side(self, meta: Any, items: list[Any]) -> tuple[tree.Equation, ...]:
        return tuple(i for i in items if isinstance(i, tree.Equation))

    def bare_equation(self, meta: Any, items: list[Any]) -> tree.Equation:
        return tree.Equation(names=(), term=items[0], span=self._span(meta))

    def named_equation(self, meta: Any, items: list[Any]) -> tree.Equation:
        left, term = items
        names = left.items if isinstance(left, tree.TupleOf) else (left,)
        found: list[str] = []
        for name in names:
            if not isinstance(name, tree.Name):
                raise TdslError(
                    "only names stand on the left of `=`",
                    name.span,
                    expected="`p = term` or `(p, q) = term`",
                )
            found.append(name.id)
        return tree.Equation(names=tuple(found), term=term, span=self._span(meta))

    def where(self, meta: Any, items: list[Any]) -> _Where:
        return _Where(i for i in items if not isinstance(i, Token))

    def condition(self, meta: Any, items: list[Any]) -> tree.Condition:
        return tree.Condition(test=items[0], span=self._span(meta))

    def definition(self, meta: Any, items: list[Any]) -> tree.Definition:
        left, value = items
        targets = left.items if isinstance(left, tree.TupleOf) else (left,)
        named: list[tree.Declared] = []
        for target in targets:
            if isinstance(target, tree.Name):
                target = tree.Declared(name=target.id, span=target.span)
            if not isinstance(target, tree.Declared) or target.optional:
                raise TdslError(
                    "a definition gives a value to names",
                    target.span,
                    expected="`k = …`, `U: [m, r] = …` or `(U: [m, r], V: [r, n]) = …`",
                    hint="write `==` to compare",
                )
            named.append(target)
        return tree.Definition(targets=tuple(named), value=value, span=self._span(meta))

    # ------------------------------------------------------------ groups and contracts

    def group(self, meta: Any, items: list[Any]) -> tree.Group:
        return tree.Group(name=str(items[0]), value=items[1], span=self._span(meta))

    def action(self, meta: Any, items: list[Any]) -> tree.Action:
        name, group, type_, *generators = items
        return tree.Action(
            name=str(name),
            group=str(group),
            type=type_,
            generators=tuple(g for g in generators if isinstance(g, tree.Generator)),
            span=self._span(meta),
        )

    def generator(self, meta: Any, items: list[Any]) -> tree.Generator:
        return tree.Generator(value=items[0], span=self._span(meta))

    def symmetry(self, meta: Any, items: list[Any]) -> tree.Symmetry:
        name, group, *rest = (i for i in items if not (isinstance(i, Token) and i.type == "_NL"))
        return tree.Symmetry(
            name=str(name),
            group=str(group),
            edges=tuple(i for i in rest if isinstance(i, tree.Edge)),
            tolerance=rest[-1] if not isinstance(rest[-1], tree.Edge) else None,
            span=self._span(meta),
        )

    def edge(self, meta: Any, items: list[Any]) -> tree.Edge:
        side, name, type_, *action = items
        where: Any = str(side)
        return tree.Edge(
            side=where,
            name=str(name),
            type=type_,
            action=str(action[0]) if action else None,
            span=self._span(meta),
        )

    # ------------------------------------------------------------ pipelines

    def pipeline(self, meta: Any, items: list[Any]) -> tree.Pipeline:
        name, *rest = items
        parameters = rest.pop(0) if rest and isinstance(rest[0], _Parameters) else ()
        return tree.Pipeline(
            name=str(name), parameters=tuple(parameters), steps=_steps(rest), span=self._span(meta)
        )

    def repeated(self, meta: Any, items: list[Any]) -> tree.Repeated:
        rules, limit = items
        limit = None if limit is None else self._integer(limit)
        return tree.Repeated(rules=rules, limit=limit, span=self._span(meta))

    def once(self, meta: Any, items: list[Any]) -> tree.Once:
        return tree.Once(rules=items[0], span=self._span(meta))

    def run(self, meta: Any, items: list[Any]) -> tree.Run:
        return tree.Run(pipeline=items[0], span=self._span(meta))

    def first(self, meta: Any, items: list[Any]) -> tree.First:
        return tree.First(attempt=items[0], otherwise=items[1], span=self._span(meta))

    def attempt(self, meta: Any, items: list[Any]) -> tree.Attempt:
        return tree.Attempt(steps=items[0], span=self._span(meta))

    def ordered(self, meta: Any, items: list[Any]) -> tree.Ordered:
        order: Any = str(items[0])
        return tree.Ordered(order=order, steps=items[1], span=self._span(meta))

    def at(self, meta: Any, items: list[Any]) -> tree.At:
        *paths, steps = items
        return tree.At(paths=tuple(map(unquoted, paths)), steps=steps, span=self._span(meta))

    def choose(self, meta: Any, items: list[Any]) -> tree.Choose:
        rules, objective, budgets, *_ = items
        span = self._span(meta).until(budgets[-1].span) if budgets else self._span(meta)
        return tree.Choose(rules=rules, objective=str(objective), budgets=budgets or (), span=span)

    def heal(self, meta: Any, items: list[Any]) -> tree.Heal:
        method, *arguments = items
        return tree.Heal(
            method=str(method), arguments=arguments[0] if arguments else (), span=self._span(meta)
        )

    def quantize(self, meta: Any, items: list[Any]) -> tree.Quantize:
        scheme, *arguments = items
        return tree.Quantize(
            scheme=str(scheme), arguments=arguments[0] if arguments else (), span=self._span(meta)
        )

    def check(self, meta: Any, items: list[Any]) -> tree.Check:
        kept = tuple(item for item in items if isinstance(item, tree.Kept))
        bounds = tuple(item for item in items if not isinstance(item, tree.Kept))
        return tree.Check(bounds=bounds, symmetries=kept, span=self._span(meta).until(items[-1].span))

    def kept(self, meta: Any, items: list[Any]) -> tree.Kept:
        name, within = items
        return tree.Kept(name=str(name), within=within, span=self._span(meta))

    def block(self, meta: Any, items: list[Any]) -> tuple[tree.Step, ...]:
        return _steps(items)

    def rules(self, meta: Any, items: list[tree.RuleRef]) -> tuple[tree.RuleRef, ...]:
        return tuple(items)

    def reference(self, meta: Any, items: list[Any]) -> tree.RuleRef:
        pattern, *arguments = items
        return tree.RuleRef(
            pattern=str(pattern), arguments=arguments[0] if arguments else (), span=self._span(meta)
        )

    def method_arguments(self, meta: Any, items: list[Any]) -> tuple[tree.Argument, ...]:
        arguments: tuple[tree.Argument, ...] = items[0]
        return arguments

    def bounds(self, meta: Any, items: list[Any]) -> tuple[tree.Expr, ...]:
        return tuple(items)


class _Parameters(tuple[tree.Parameter, ...]):
    """Marks the parameter list among a declaration's parts."""


class _Where(tuple[tree.Clause, ...]):
    """Marks the `where` block among a rule's parts."""


def _steps(items: list[Any]) -> tuple[tree.Step, ...]:
    return tuple(i for i in items if not isinstance(i, Token))
