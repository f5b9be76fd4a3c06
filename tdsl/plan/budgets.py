"""The budgets of a `choose` step, read from what stands behind `subject to`."""

from __future__ import annotations

from tdsl.engine.strategy import ChoiceStep, ContractBound
from tdsl.errors import TdslError
from tdsl.lang import tree
from tdsl.plan.candidates import COSTS
from tdsl.plan.choose import QUALITIES, Budget
from tdsl.spelling import did_you_mean


def budgets_of(choice: ChoiceStep) -> tuple[Budget, ...]:
    """The budgets of a step, in its order. Raises `TdslError` at the first one that means nothing."""
    return tuple(map(_budget, choice.bounds))


def _budget(bound: ContractBound) -> Budget:
    """A bound of `subject to`. Raises `TdslError` for one that means nothing."""
    source = bound.source
    assert isinstance(source, tree.Binary)
    known = (*COSTS, *QUALITIES)
    if bound.metric not in known:
        raise TdslError(
            f"unknown budget {bound.metric}",
            source.span,
            expected=f"one of {', '.join(known)}",
            hint=did_you_mean(bound.metric, known),
        )
    wanted = ">=" if "cosine" in bound.metric else "<="
    if bound.relation.rstrip("=") != wanted.rstrip("="):
        raise TdslError(
            f"a budget cannot bound {bound.metric} with `{bound.relation}`",
            source.span,
            expected=f"{bound.metric} {wanted} …",
        )
    if wanted == ">=" and bound.value > 1:
        raise TdslError(
            f"no cosine is as large as {bound.value:g}",
            source.span,
            expected=f"{bound.metric} >= a number up to 1",
            hint="a percentage is written with its sign: `98%` is 0.98",
        )
    if bound.value < 0 and wanted == "<=":
        raise TdslError(
            f"no plan has {bound.metric} {bound.relation} {bound.value:g}",
            source.span,
            expected="a share of the model such as `50%`, or a number above 0"
            if bound.metric in COSTS
            else "an error such as `5%`",
        )
    percent = isinstance(source.right, tree.Constant) and source.right.percent
    share = bound.metric in COSTS and (bound.value <= 1 or percent)
    return Budget(bound.metric, wanted, bound.value, share, source.span)
