"""An operator with several results stands where each is named or picked, not where one tensor does."""

from __future__ import annotations

from collections.abc import Mapping

from tdsl.errors import TdslError
from tdsl.lang import tree
from tdsl.lang.terms import flat
from tdsl.lang.vocabulary import Vocabulary
from tdsl.ops import Operator

PICKS = "getitem"
"""The operator that takes one of several results."""


def require_one_result(
    value: tree.Expr, operators: Mapping[str, tuple[Operator, ...]], vocabulary: Vocabulary
) -> None:
    """Raise `TdslError` where `value`, an operand, is an operator that has several results.

    `operators` are those that the operator variables of the rule may be.
    """
    if isinstance(value, tree.Alternatives):
        for option in value.options:
            require_one_result(option.term, operators, vocabulary)
    if not isinstance(value, tree.Call):
        return
    candidates = operators.get(value.callee) or vocabulary.members(value.callee)
    if candidates and all(operator.results != 1 for operator in candidates):
        count = candidates[0].results
        raise TdslError(
            f"`{value.callee}` has {count or 'several'} results, and one tensor is expected here",
            value.span,
            expected=f"`{PICKS}({flat(value)}, 0)` for the first of them",
        )
