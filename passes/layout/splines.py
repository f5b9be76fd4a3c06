"""B-splines on uniform knots without their recursion (after MatrixKAN; Coffman & Chen, 2025).

A layer of splines computes the basis by the recursion of Cox and de Boor, level by level. On uniform knots
every basis function is one piecewise polynomial, moved: with a = |x − centre| in units of the spacing,
B(a) = Σ_i (−1)^i · C(k + 1, i) / k! · max(0, (k + 1)/2 − i − a)^k, over the i with (k + 1)/2 > i, whose terms
stay small. The recursion has as many levels as the degree, which no rule can say; its values are compared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from tdsl.passes.layout.known import known_value
from torch import Tensor, fx

from tdsl.engine.passes import graph_pass
from tdsl.engine.sizes import same
from tdsl.engine.stage import stage
from tdsl.engine.staged import Constant
from tdsl.engine.sweep import Change, SweepPass, with_unneeded
from tdsl.engine.workspace import Workspace
from tdsl.ops import OPERATORS
from tdsl.ops.targets import operator_of

UNIFORM = 1e-5
"""Largest relative difference of the spacings: knots are stored in single precision."""
EQUAL = 1e-5
"""Largest difference between the basis as it was computed and as it will be; its values are at most 1."""
INSIDE = ("slice", "cast", "squeeze", "unsqueeze")
"""Operators of the recursion beside those that act element by element."""


@graph_pass
class Splines(SweepPass):
    """B-splines on uniform knots by their closed form, in place of the recursion of Cox and de Boor."""

    name = "layout.splines"

    def at(self, work: Workspace, node: fx.Node) -> Change | None:
        """The splines of a value that is compared with knots."""
        found = _spline(work, node)
        if found is None:
            return None
        value, operators = _closed_form(work, found)
        if operators >= len(found.matched):
            return None
        return Change(
            (found.root,),
            (value,),
            tuple(sorted(with_unneeded(found.matched, keep=(found.start,)))),
            saved_nodes=len(found.matched) - operators,
            saved_parameters=None,
            details={"degree": found.degree},
            entered=found.matched,
        )


@dataclass(frozen=True, slots=True)
class _Spline:
    """The basis functions of some degree at each feature of a value."""

    start: fx.Node
    """[..., n, 1]"""
    root: fx.Node
    """[..., n, J]"""
    matched: tuple[fx.Node, ...]
    degree: int
    first: Tensor
    """The first knot of each feature, [n or 1, 1]."""
    spacing: Tensor
    """[n or 1, 1]"""


def _spline(work: Workspace, start: fx.Node) -> _Spline | None:
    """The basis that is computed from `start`, if it is one on uniform knots."""
    val = start.meta.get("val")
    if not isinstance(val, Tensor) or val.ndim < 2 or not val.dtype.is_floating_point:
        return None
    if not same(val.shape[-1], 1):
        return None
    compared = {_name(user): user for user in start.users if _name(user) in ("ge", "lt")}
    if len(compared) != 2 or any(node.args[0] is not start for node in compared.values()):
        return None
    lower, upper = (known_value(work, compared[name].args[1]) for name in ("ge", "lt"))
    region = _region(work, start)
    left = [node for node in region if not all(user in region for user in node.users)]
    if lower is None or upper is None or len(left) != 1 or lower.shape != upper.shape or lower.ndim < 1:
        return None
    knots = torch.cat([lower, upper[..., -1:]], -1)
    spacing = (knots[..., -1:] - knots[..., :1]) / (knots.shape[-1] - 1)
    apart = (knots.diff(dim=-1) - spacing).abs().max()
    known = left[0].meta["val"].shape[-1]
    degree = lower.shape[-1] - known if isinstance(known, int) else 0
    if degree < 1 or not bool((spacing > 0).all()) or apart > UNIFORM * spacing.min():
        return None
    found = _Spline(start, left[0], tuple(sorted(region)), degree, knots[..., :1], spacing)
    return found if _same(work, found) else None


def _region(work: Workspace, start: fx.Node) -> set[fx.Node]:
    """What is computed from `start` and constants alone, along the last axis or element by element; with
    constants on the way.
    """
    region: set[fx.Node] = set()
    for node in list(start.graph.nodes):
        op = operator_of(node.target) if node.op == "call_function" else None
        if op is None or node <= start:
            continue
        varying = [one for one in node.all_input_nodes if known_value(work, one) is None]
        allowed = op.pointwise or op.elementwise or op.name in INSIDE
        if varying and allowed and all(one is start or one in region for one in varying):
            region.add(node)
    return region


def _same(work: Workspace, found: _Spline) -> bool:
    """Whether the closed form is what is computed: at more points of each interval between knots than a
    polynomial of the degree has coefficients, at the knots, and outside. [points, n, 1]
    """
    count = found.root.meta["val"].shape[-1] + found.degree
    inner = torch.linspace(0, 1, found.degree + 3, dtype=torch.float64)[:-1]
    places = (torch.arange(-2, count + 2, dtype=torch.float64)[:, None] + inner).reshape(-1)
    features = found.start.meta["val"].shape[-2]
    if not isinstance(features, int):
        return False
    x = (found.first + found.spacing * places).reshape(-1, len(places)).T.unsqueeze(-1)
    x = x.expand(len(places), features, 1)
    values: dict[fx.Node, Tensor] = {found.start: x}
    try:
        for node in found.matched:
            args = fx.map_arg((node.args, node.kwargs), lambda one: values.get(one, known_value(work, one)))
            kwargs = {key: _wide(value) for key, value in args[1].items()}
            values[node] = node.target(*map(_wide, args[0]), **kwargs)  # type: ignore[operator]
    except (RuntimeError, TypeError, IndexError):
        return False
    wanted = values[found.root]
    order = torch.arange(wanted.shape[-1], dtype=torch.float64) + (found.degree + 1) / 2
    apart = ((x - found.first) / found.spacing - order).abs()
    form = torch.zeros_like(apart)
    for factor, reach in _terms(found.degree):
        form = form + factor * (reach - apart).relu() ** found.degree
    return wanted.shape == form.shape and bool((wanted - form).abs().max() <= EQUAL)


def _terms(degree: int) -> list[tuple[float, float]]:
    """The factors and reaches of the truncated powers."""
    half = (degree + 1) / 2
    terms = [i for i in range(degree + 1) if half - i > 0]
    return [((-1) ** i * math.comb(degree + 1, i) / math.factorial(degree), half - i) for i in terms]


def _closed_form(work: Workspace, found: _Spline) -> tuple[Any, int]:
    """The basis, and how many operators it takes."""
    count = 0

    def make(name: str, **arguments: Any) -> Any:
        nonlocal count
        count += 1
        return stage(work, OPERATORS[name], arguments)

    dtype = found.root.meta["val"].dtype
    order = torch.arange(found.root.meta["val"].shape[-1], dtype=torch.float64) + (found.degree + 1) / 2
    scale = Constant(1 / found.spacing, dtype, "scale")
    centres = Constant(found.first / found.spacing + order, dtype, "centres")
    apart = make("abs", x=make("sub", x=make("mul", x=found.start, y=scale), y=centres))
    total: Any = None
    for factor, reach in _terms(found.degree):
        # (f · r)^k = factor · r^k, so that no product is needed for the factor but that of a constant
        root = abs(factor) ** (1 / found.degree)
        part = make(
            "relu", x=make("sub", x=root * reach, y=make("mul", x=apart, y=root) if root != 1 else apart)
        )
        power = part
        for _ in range(found.degree - 1):
            power = make("mul", x=power, y=part)
        total = power if total is None else make("add" if factor > 0 else "sub", x=total, y=power)
    return total, count


def _name(node: Any) -> str:
    op = operator_of(node.target) if isinstance(node, fx.Node) and node.op == "call_function" else None
    return op.name if op is not None else ""


def _wide(value: Any) -> Any:
    """Single precision as double: what is compared is the formula."""
    narrow = isinstance(value, torch.dtype) and value.is_floating_point
    return torch.float64 if narrow else value
