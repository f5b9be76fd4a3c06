"""Critical pairs: what becomes of a peak when one rule fires first, and when the other does.

A pair is joinable where both results have one normal form under the whole set of rules, compared as terms.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import fx

from tdsl.engine.rule import Rule
from tdsl.engine.text import graph_text
from tdsl.interplay.overlap import Overlap
from tdsl.interplay.run import Loop, loop_from, normal_form
from tdsl.interplay.scene import Drawn, drawn
from tdsl.interplay.sites import Site, after, sites
from tdsl.interplay.structure import size, term_key

UNIFIERS = 2
"""How many ways to unify two patterns at one place are looked at."""
DRAWS = 80
"""Draws of sizes in search of a peak at which both rules fire."""
GRAPHS = 6
"""Graphs made of these."""
PEAKS = 2
"""Peaks looked at of one overlap: conditions may decide otherwise at other sizes."""
CLOSE = 1e-6
"""Largest relative difference of two results that is rounding."""

Result = Literal["joinable", "differ", "wrong", "endless"]


@dataclass(frozen=True)
class CriticalPair:
    """Two rules at one peak."""

    rules: tuple[str, str]
    result: Result
    """`differ`: two normal forms; `wrong`: their numbers differ; `endless`: one has no normal form."""
    peak: str
    normal_forms: tuple[str, str]
    """What comes of the peak when the first rule fires first, and when the second does."""
    operators: tuple[int, int]
    """How many operators the normal forms have."""
    loop: Loop | None = None


def critical_pair(
    overlaps: Iterable[Overlap], rules: Mapping[str, Rule], every: Sequence[Rule]
) -> CriticalPair | None:
    """The pair of an overlap that does not join at one of its peaks, or one that does; `None` without a peak.

    `overlaps` are the unifiers at one place of two rules, `every` the rules that normal forms are made by.
    """
    joined: CriticalPair | None = None
    left = PEAKS
    for _, overlap in zip(range(UNIFIERS), overlaps, strict=False):
        both = [rules[name] for name in dict.fromkeys((overlap.outer, overlap.inner))]
        for _, peak in zip(range(GRAPHS), drawn(overlap.peak, DRAWS), strict=False):
            pair = _overlapping(list(sites(peak.module, both)), overlap)
            if pair is None:
                continue
            found = _examined(peak, pair, every)
            if found is None:
                continue
            if found.result != "joinable":
                return found
            joined, left = found, left - 1
            if not left:
                return joined
    return joined


def _overlapping(found: Sequence[Site], overlap: Overlap) -> tuple[Site, Site] | None:
    """A site of each rule that share an operator; of one rule, two of its sites."""
    for one in found:
        for other in found:
            if (one.rule.name, other.rule.name) != (overlap.outer, overlap.inner):
                continue
            if one.matched & other.matched and (one.rule is not other.rule or one.root != other.root):
                return one, other
    return None


def _examined(peak: Drawn, pair: tuple[Site, Site], every: Sequence[Rule]) -> CriticalPair | None:
    names = pair[0].rule.name, pair[1].rule.name
    steps = [after(peak.module, site) for site in pair]
    if steps[0] is None or steps[1] is None:
        return None
    ends = [normal_form(step, every) for step in steps if step is not None]
    texts = tuple(graph_text(end if end is not None else peak.module) for end in ends)
    start = graph_text(peak.module)
    for step, end in zip(steps, ends, strict=True):
        if end is None and step is not None:
            return CriticalPair(names, "endless", start, (texts[0], texts[1]), (0, 0), loop_from(step, every))
    one, other = (end for end in ends if end is not None)
    if not same_numbers(peak, (one, other)):
        result: Result = "wrong"
    else:
        result = "joinable" if term_key(one) == term_key(other) else "differ"
    return CriticalPair(names, result, start, (texts[0], texts[1]), (size(one), size(other)))


def same_numbers(peak: Drawn, ends: Sequence[fx.GraphModule]) -> bool:
    """Whether all compute what the peak does, up to rounding, where that is a number and has a kernel."""
    with torch.no_grad():
        try:
            wanted = _outputs(peak.module, peak)
        except (NotImplementedError, RuntimeError):  # half precision or mixed types, on some machines
            return True
        return all(
            all(map(_close, wanted, found)) if len(wanted) == len(found) else False
            for found in (_outputs(end, peak) for end in ends)
        )


def _outputs(module: fx.GraphModule, peak: Drawn) -> list[torch.Tensor]:
    found = fx.Interpreter(module).run(*peak.inputs)
    return [value for value in found if isinstance(value, torch.Tensor)]


def _close(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if not one.is_floating_point():
        return torch.equal(one, other)
    bound = max(CLOSE, 64 * torch.finfo(one.dtype).eps)
    gap = (one.double() - other.double()).abs()[one.isfinite()]
    scale = float(one[one.isfinite()].abs().double().max()) if gap.numel() else 0.0
    return not bool((gap > bound * (1 + scale)).any())
