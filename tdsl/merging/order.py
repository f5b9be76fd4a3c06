"""Whether the units of several models are in one order, and how they come to be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tdsl.capture import Captured
from tdsl.errors import TdslError
from tdsl.symmetry.hidden import Alignment, AxisGroup, align
from tdsl.symmetry.hidden.permuting import Indices

MOVED = 0.1
"""Models are in different orders when their best alignment moves a larger share of the units of a group."""
FAR = 1.0
"""Relative distance of weights in one order from which on zeros would be as near."""


def in_one_order(
    captured: Sequence[Captured], names: Sequence[str], fixed: frozenset[str], wanted: bool | None
) -> tuple[list[Captured], list[str]]:
    """The models with the units of all in the order of the first, and warnings.

    If that is `wanted`, they are brought into it; if nothing is said (`None`), models in another order are
    refused; if it is not wanted, they are left as they are and not looked at. Groups that permute a weight
    which is `fixed` stay. Raises `TdslError` for a model in another order.
    """
    if wanted is False:
        return list(captured), []
    first, *others = captured
    found, warnings = [first], []
    for model, name in zip(others, names[1:], strict=True):
        result = align(first, model, fixed=fixed)
        if wanted is None:
            _require_order(result, names[0], name)
        elif result.permutations:
            model = replace(model, module=result.module)
        found.append(model)
        if result.after >= FAR:
            warnings.append(
                f"the weights of {name} are {result.after:.0%} from those of {names[0]} in the best order "
                "there is: models from different starts have little in common, and may lose much when merged"
            )
    return found, warnings


def _require_order(result: Alignment, first: str, name: str) -> None:
    for group, moved in _moves(result):
        if moved > MOVED * group.size * max(1, int(np.prod(group.over_sizes, dtype=np.int64))):
            raise TdslError(
                f"the units of {name} are in another order than those of {first}: "
                f"{moved} of {_units(group)} of {group.name} would have to move",
                expected="models that were trained from one start, or aligned",
                hint="let them be aligned first: `tdsl merge --align`, `tdsl.merge(…, align=True)`; "
                "or `tdsl align`, which writes the aligned model",
            )


def _moves(result: Alignment) -> list[tuple[AxisGroup, int]]:
    """For each group that the alignment permutes, how many units end up elsewhere."""
    order: dict[int, tuple[AxisGroup, Indices]] = {}
    for group, permutation in result.permutations:
        before = order[group.atom][1] if group.atom in order else group.identity()
        order[group.atom] = (group, np.take_along_axis(before, permutation, axis=-1))
    return [(group, int((whole != group.identity()).sum())) for group, whole in order.values()]


def _units(group: AxisGroup) -> str:
    return " × ".join(map(str, (*group.over_sizes, group.size)))
