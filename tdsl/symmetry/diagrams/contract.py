"""Maps applied diagram by diagram, with what diagrams share done once; n^(l + k) products are never formed.

A diagram takes a diagonal of its operand, sums over the blocks of input points alone, and writes the result
to a diagonal of the output, the same for every index of a block of output points alone (Godfrey et al., 2023;
Pearce-Crump, 2023). Diagrams that contract alike share the contraction; channels are mixed there, where
tensors are small; diagrams that are spread alike are added before. Signs (of A(n), SO(n) and Sp(n)) are
gathered.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tdsl.symmetry.diagrams.brauer import Matching
from tdsl.symmetry.diagrams.diagram import Diagram, Labels, diagonal, numbered
from tdsl.symmetry.diagrams.jellyfish import Jellyfish
from tdsl.symmetry.diagrams.partitions import Partition

Spread = tuple[Labels, tuple[int, ...]]
"""Blocks of the output points, and those of them that a value has an axis for."""


def apply(diagrams: Sequence[Diagram], coefficients: Tensor, x: Tensor) -> Tensor:
    """Σ_d λ_d ⊗ D_d applied to tensors of k axes, all of size n.

    λ [d, C_out, C_in], x [b, C_in, n, …] with k axes of size n → [b, C_out, n, …] with l of them. All
    diagrams are of one order, of which k is not 0. Raises `ValueError` where the axes of `x` are not k of one
    size.
    """
    inputs, outputs = diagrams[0].inputs, diagrams[0].outputs
    if not inputs or x.ndim != 2 + inputs or len(set(x.shape[2:])) != 1:
        raise ValueError(
            f"a map of {inputs} axes of one size does not take a tensor of shape {list(x.shape)}"
        )
    n = x.shape[2]
    result = x.new_zeros(len(x), coefficients.shape[1], *[n] * outputs)
    contracted: dict[tuple[Labels, tuple[int, ...]], Tensor] = {}
    spread: dict[Spread, Tensor] = {}
    for diagram, mix in zip(diagrams, coefficients.to(x.dtype), strict=True):
        labels = _equal_points(diagram)
        if labels is None:
            _gather(result, diagram, mix, x, n)
            continue
        out, inside = labels[:outputs], labels[outputs:]
        through = tuple(sorted(set(out) & set(inside)))
        key = (numbered(inside), tuple(sorted({inside.index(label) for label in through})))
        if key not in contracted:
            contracted[key] = _contracted(x, inside, set(through))
        order = sorted(through, key=inside.index)  # of the axes of what is contracted
        value = torch.einsum("oc,bc...->bo...", mix, contracted[key])
        value = value.permute(0, 1, *(2 + order.index(label) for label in through))
        place = (numbered(out), tuple(sorted({numbered(out)[out.index(label)] for label in through})))
        spread[place] = spread[place] + value if place in spread else value
    for (out, through), value in spread.items():
        count = max(out, default=-1) + 1
        shape = [n if block in through else 1 for block in range(count)]
        view = diagonal(result, out, 2)
        view += value.reshape(*value.shape[:2], *shape)
    return result


def _equal_points(diagram: Diagram) -> Labels | None:
    """The blocks of points with equal indices, if there is nothing but that to the diagram."""
    if isinstance(diagram, Partition):
        return diagram.labels
    if (
        isinstance(diagram, Matching)
        and not diagram.free
        and not any(map(diagram.carries_form, diagram.pairs))
    ):
        block = {point: place for place, pair in enumerate(diagram.pairs) for point in pair}
        return tuple(block[point] for point in range(diagram.points))
    return None


def _contracted(x: Tensor, labels: Labels, through: set[int]) -> Tensor:
    """The diagonal of `x`, summed over the blocks that do not go through; an axis for each that does."""
    view = diagonal(x, numbered(labels), 2)
    blocks = list(dict.fromkeys(labels))
    summed = [2 + place for place, label in enumerate(blocks) if label not in through]
    return view.sum(summed) if summed else view


def _gather(result: Tensor, diagram: Diagram, mix: Tensor, x: Tensor, n: int) -> None:
    """Add a diagram with signs, entry by entry, to `result`."""
    assert isinstance(diagram, Matching | Jellyfish)
    places, values = diagram.entries(n)
    columns = n**diagram.inputs
    taken = x.flatten(2)[..., places % columns] * values.to(x.dtype)
    sums = x.new_zeros(*x.shape[:2], n**diagram.outputs).index_add(2, places // columns, taken)
    result += torch.einsum("oc,bce->boe", mix, sums).reshape(result.shape)
