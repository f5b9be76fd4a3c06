"""Every rule that is loaded has a verdict: on record, or made now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdsl.errors import TdslError
from tdsl.lang import tree
from tdsl.prove import record
from tdsl.prove.verdict import Verdict

if TYPE_CHECKING:
    from tdsl.lang.resolve import Resolved


def verdict_on(resolved: Resolved, made: dict[str, Verdict]) -> Verdict:
    """The verdict on a rule; a new one is put into `made` under the key of the rule.

    Raises `TdslError` with an instance on which the shapes of the sides differ.
    """
    return record.known(resolved.rule) or new_verdict(resolved, made)


def new_verdict(resolved: Resolved, made: dict[str, Verdict]) -> Verdict:
    """The verdict on a rule that has none on record, put into `made` under the key of the rule."""
    verdict = made[record.key_of(resolved.rule)] = fresh_verdict(resolved)
    return verdict


def fresh_verdict(resolved: Resolved) -> Verdict:
    """The verdict on a rule, its types checked first, whatever is on record."""
    from tdsl.lang.typecheck import check_types  # what is on record needs none of this

    untyped = check_types(resolved)
    if untyped:
        return Verdict("unchecked", untyped)
    from tdsl.prove.proof import prove  # torch, only where there is something to prove

    return prove(resolved)


def refuse_refuted(rule: tree.Rule, verdict: Verdict) -> None:
    """Raise a `TdslError` with the counterexample of a rule that is wrong."""
    if verdict.status == "refuted":
        raise refutation(rule, verdict)


def refutation(rule: tree.Rule, verdict: Verdict) -> TdslError:
    """A refuted rule as an error at its right side."""
    example = verdict.counterexample
    first = rule.rhs[0].term.span
    hint = None
    if example is not None:
        hint = str(example).replace("\n", "\n        ")
        if example.remedy:
            hint += f"\n        every instance tried is right where {example.remedy}"
    return TdslError(
        f"rule {rule.name} is wrong: {verdict.reason}",
        first.until(rule.rhs[-1].term.span),
        expected="a right side that is equal to the left one wherever that matches",
        hint=hint,
    )
