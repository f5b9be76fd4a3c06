"""Actions through dense layers: the action on the output is solved for.

A layer f with weight W is f_W(ρ·x) = f_{W'}(x), W' being what ρ does to the axes of W that see x; an action
σ on the filters with W' = σ·W and b = σ·b is the action on the output.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tdsl.symmetry.action import Action, action, transposed
from tdsl.symmetry.along import Along, Monomial, matrix, permutes
from tdsl.symmetry.element import Linear
from tdsl.symmetry.match import matched
from tdsl.symmetry.transfer import NEAR, Breaks, Law, Residual, Site, Value, distance, law, transfer
from tdsl.symmetry.transfer_products import letters_of, product_of


def constant(value: Value | None, what: str) -> Tensor | None:
    """The numbers of a weight. Raises `Breaks` when it depends on the input."""
    if value is None:
        return None
    if value.constant is None:
        raise Breaks(f"the {what} depends on the input")
    return value.constant


def rows_with(weight: Tensor, bias: Tensor | None, *more: Tensor) -> Tensor:
    """[filters, entries]: a filter, its bias, and whatever else tells filters apart."""
    columns = [weight.flatten(1)]
    if bias is not None:
        columns.append(bias.reshape(-1, 1))
    columns += [one.to(weight.dtype).reshape(-1, 1) for one in more]
    return torch.cat(columns, 1) if len(columns) > 1 else columns[0]


def inner(weight: Tensor, element: Along | None, axis: int) -> Tensor:
    """The weight as it meets an untouched input: W'·x = W·(ρ·x), ρ acting along an axis."""
    if element is None:
        return weight
    if isinstance(element, Linear):
        return (weight.movedim(axis, -1) @ element.values.to(weight.dtype)).movedim(-1, axis)
    scaled = weight
    if isinstance(element, Monomial):
        shape = [1] * weight.ndim
        shape[axis] = element.size
        scaled = weight * torch.tensor(element.scales, dtype=torch.float64).to(weight.dtype).reshape(shape)
    back = torch.empty(element.size, dtype=torch.int64)
    back[torch.tensor(element.places)] = torch.arange(element.size)
    return scaled.index_select(axis, back)


FAR = 0.7
"""Beyond this residual the nearest permutation of filters is not what the layer was meant to do."""


def solved(
    name: str, moved: Tensor, weight: Tensor, *, signs: bool, linear: bool
) -> tuple[Along | None, Residual, str]:
    """The action on the filters, its residual, and what is wrong when that is too large for a law.

    No action at all where even the nearest one is far off.
    """
    found = matched(moved, weight, signs=signs, matrix=linear)
    residual = found.residual
    if residual.norm <= NEAR:
        return found.element, residual, ""
    reason = (
        f"the filters of {name} are not permuted by it: the nearest permutation leaves a residual of"
        f" {residual.norm:.2g}"
    )
    return found.element if residual.norm <= FAR else None, residual, reason


@transfer("linear")
def _linear(site: Site) -> Law:
    """x·Wᵀ + b along the last axis."""
    x = site["x"]
    if site["weight"].constant is None:
        letters = letters_of(x.rank - 1)
        if (bias_of_input := site.arguments.get("bias")) is not None and not bias_of_input.still:
            raise Breaks("the bias is acted on")
        made = product_of(site, [(x, letters + "y"), (site["weight"], "zy")], letters + "z")
        if bias_of_input is not None and (made.actions[0].part(x.rank - 1) or not made.actions[0].permutes):
            raise Breaks("a bias is added that is not moved as the rest is")
        return made
    weight, bias = constant(site["weight"], "weight"), constant(site.arguments.get("bias"), "bias")
    assert weight is not None
    return dense(site, x.action, weight, bias)


def dense(site: Site, acting: Action, weight: Tensor, bias: Tensor | None) -> Law:
    """What a dense layer makes of an action: `weight` [m, n] along the last axis."""
    last = acting.rank - 1
    if acting.order[last] != last:
        raise Breaks(f"{site.operator.name} along an axis that changes places under {acting}")
    others = {axis: element for axis, element in acting.parts if axis != last}
    if bias is not None and float(bias.abs().max()) > 0:
        for axis, element in others.items():
            if (
                not permutes(element)
                and distance(matrix(element).sum(1), torch.ones(element.size)).norm > 1e-9
            ):
                raise Breaks(
                    f"a bias is added, which {acting} along axis {axis - acting.rank} does not leave alone"
                )
    own = acting.part(last)
    if own is None:
        return law(site, action(acting.rank, others, acting.order))
    moved = rows_with(inner(weight, own, 1), bias)
    rows = rows_with(weight, bias)
    found, residual, wrong = solved(site.operator.name, moved, rows, signs=True, linear=True)
    if found is None:
        raise Breaks(wrong, None, residual.norm)
    made = action(acting.rank, {**others, last: found}, acting.order)
    if wrong:
        raise Breaks(wrong, made, residual.norm)
    return law(site, made, residual=residual)


@transfer("matmul")
def _matmul(site: Site) -> Law:
    """Over the last axis of x and the one before the last of y; with a constant beside x, a dense layer."""
    x, y = site["x"], site["y"]
    if y.constant is not None and y.rank == 2 and x.rank > 1:
        return dense(site, x.action, y.constant.T, None)
    if x.constant is not None and x.rank == 2 and y.rank > 1:
        return _turned(site)
    batch = letters_of(max(x.rank, y.rank, 2) - 2)
    left = batch[len(batch) - (x.rank - 2) :] + "xy" if x.rank > 1 else "y"
    right = batch[len(batch) - (y.rank - 2) :] + "yz" if y.rank > 1 else "y"
    output = batch + ("x" if x.rank > 1 else "") + ("z" if y.rank > 1 else "")
    return product_of(site, [(x, left), (y, right)], output)


def _turned(site: Site) -> Law:
    """A constant matrix from the left: the axis before the last, as a dense layer."""
    x, y = site["x"], site["y"]
    order = [*range(y.rank - 2), y.rank - 1, y.rank - 2]
    swap = transposed(y.rank, order)
    try:
        made = dense(site, swap.then(y.action).then(swap), x.constant, None)
    except Breaks as why:
        nominal = None if why.nominal is None else swap.then(why.nominal).then(swap)
        raise Breaks(why.reason, nominal, why.residual) from None
    return Law(tuple(swap.then(one).then(swap) for one in made.actions), made.residual, made.weights)


@transfer("addmm")
def _addmm(site: Site) -> Law:
    """A dense layer, its weight the other way round."""
    weight = constant(site["weight"], "weight")
    bias = constant(site["bias"], "bias")
    assert weight is not None and bias is not None
    if bias.ndim != 1 or site.arguments.get("beta", 1) != 1 or site.arguments.get("alpha", 1) != 1:
        raise Breaks("addmm with factors, or a bias that is no row")
    return dense(site, site["x"].action, weight.T, bias)
