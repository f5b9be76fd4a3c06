"""What a pattern is made of: its terms and who uses them, its bindings that have a type."""

from __future__ import annotations

from tdsl.engine.pattern import Arg, Bind, Pattern, Splat, Term, children


def term_users(pattern: Pattern) -> tuple[list[Term], set[int], dict[int, list[Term]]]:
    """Every term, which of them stand for the elements of a splat, and the terms that use each."""
    terms: list[Term] = []
    each: set[int] = set()
    users: dict[int, list[Term]] = {}

    def visit(arg: Arg, owner: Term | None) -> None:
        if isinstance(arg, Splat) and arg.each is not None:
            each.add(id(arg.each))
        if not isinstance(arg, Term):
            for child in children(arg):
                visit(child, owner)
            return
        known = users.setdefault(id(arg), [])
        if owner is not None:
            known.append(owner)
        if not any(arg is term for term in terms):
            terms.append(arg)
            for child in children(arg):
                visit(child, arg)

    for root in pattern.roots:
        visit(root, None)
    return terms, each, users


def typed_binds(arg: Arg) -> list[Bind]:
    """The bindings with a type at and below `arg`; elements of a splat have none."""
    if isinstance(arg, Splat):
        return [b for other in (arg.each.args[1:] if arg.each else ()) for b in typed_binds(other)]
    own = [arg] if isinstance(arg, Bind) and arg.type is not None else []
    return own + [b for child in children(arg) for b in typed_binds(child)]
