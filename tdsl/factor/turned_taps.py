"""Convolutions between features on a group that also turns the kernel: few products behind shifted features.

The kernel of a group convolution (Cohen and Welling, 2016) is tied as W[g, h](t) = K[g⁻¹h](g⁻¹t), for places
h of the input and taps t. Where the feature of each place h is read at its own turned tap, h·w, what is left
is a weight on the places for each w that commutes with the group as a dense layer does, and needs as few
products of channels (`group_blocks`). Sums over taps that the square takes to one another do not see turns:
they tell in which order the channels stand (`tdsl.symmetry.finite.orders`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

import torch
from torch import Tensor

from tdsl.factor.group_blocks import group_blocks, group_blocks_product
from tdsl.factor.memo import memoised
from tdsl.factor.rank import Error
from tdsl.symmetry.finite.orders import Orders, find_orders

PLACES = (8, 4)
"""Numbers of places that are looked for: all symmetries of the square, or four of them."""

NEAR = 1e-4
"""Relative distance at which images of random combinations of channels count as one image."""

EXACT = 1e-6
"""Largest relative error of what counts as tied."""
ELEMENTS = tuple((turns, mirrored) for mirrored in (False, True) for turns in range(4))
"""The symmetries of the square as quarter turns after a flip of the last axis."""


@dataclass(frozen=True)
class TurnedTaps:
    """Kernels [g·O, I, k, k] as Σ_r back[:, r] ⊗ products[g, r] ⊗ into[r, :], places being read at `taps`."""

    into: Tensor
    """[r, d], from the places of the input."""
    products: Tensor
    """[g, r, k²·q, p], of taps and channels."""
    back: Tensor
    """[d, r], to the places of the result."""
    taps: Tensor
    """[d, k²]: the tap of the kernel, its rows one after the other, at which each place is read."""
    inside: bool
    """Whether places run fastest among channels, or slowest."""
    error: float
    """Relative Frobenius norm of what is lost."""
    orders: Orders | None = None
    """What stands at each place and channel, where places run neither fastest nor slowest."""

    @property
    def places(self) -> int:
        """How many there are: d."""
        return len(self.taps)


def turned_taps(weight: Tensor, *, groups: int = 1) -> TurnedTaps | None:
    """The form of kernels [g·O, I, k, k] that are tied by symmetries of the square; `None` for any other.

    Those of all groups are tied alike.
    """
    square = weight.ndim == 4 and weight.shape[2] == weight.shape[3] > 1
    if not square or not weight.is_floating_point() or not weight.numel():
        return None
    return _found(weight.to(torch.float64), groups)


@memoised
def _found(weight: Tensor, groups: int) -> TurnedTaps | None:
    whole = weight.reshape(groups, -1, *weight.shape[1:])
    rows, columns = whole.shape[1:3]
    for places in PLACES:
        if rows % places or columns % places:
            continue
        for inside in (True, False):
            found = _tied(_blocks(whole, places, inside), inside)
            if found is not None:
                return found
    orders = _orders(whole)
    if orders is None:
        return None
    placed = whole[:, orders.rows.flatten()][:, :, orders.columns.flatten()]
    found = _tied(_blocks(placed, len(orders.rows), False), False)
    return None if found is None else replace(found, orders=orders)


def _orders(whole: Tensor) -> Orders | None:
    """The orders of rows and columns of kernels [g, O, I, k, k] whose places have all elements of a group."""
    size = whole.shape[-1]
    index = torch.arange(size * size).reshape(size, size)
    names = torch.stack([moved(index, element) for element in ELEMENTS]).amin(0).flatten()
    orbits = torch.nn.functional.one_hot(torch.unique(names, return_inverse=True)[1]).to(whole.dtype)
    flat = whole.flatten(3)
    seen = torch.cat([flat @ orbits, flat.square().sum(3, keepdim=True)], 3)
    orders = find_orders(seen.permute(1, 2, 0, 3).flatten(2))
    if orders is None or len(orders.rows) not in PLACES:
        return None
    sizes = (orders.rows.numel(), orders.columns.numel())
    return orders if sizes == tuple(whole.shape[1:3]) else None


def _tied(blocks: Tensor, inside: bool) -> TurnedTaps | None:
    """The form of kernels by places and channels [g, d, d, p, q, k, k]."""
    labels = _labels(blocks)
    return None if labels is None else _factored(blocks, labels, inside)


def _blocks(whole: Tensor, places: int, inside: bool) -> Tensor:
    """Kernels by places and channels. [g, O, I, k, k] → [g, d, d, p, q, k, k]."""
    groups, rows, columns, size, _ = whole.shape
    if inside:
        parts = whole.reshape(groups, rows // places, places, columns // places, places, size, size)
        return parts.permute(0, 2, 4, 1, 3, 5, 6)
    parts = whole.reshape(groups, places, rows // places, places, columns // places, size, size)
    return parts.permute(0, 1, 3, 2, 4, 5, 6)


def moved(kernel: Tensor, element: tuple[int, bool]) -> Tensor:
    """The last two axes acted on by a symmetry of the square."""
    turns, mirrored = element
    return torch.rot90(kernel.flip(-1) if mirrored else kernel, turns, (-2, -1))


def _labels(blocks: Tensor) -> list[tuple[int, bool]] | None:
    """The symmetry of each place of the input, the first one's being 1, up to the choice of that.

    One combination of all channels, with random weights, is an image for each pair of places. Those of
    another place of the result are those of the first one, moved by one element and in another order.
    """
    groups, places, _, p, q = blocks.shape[:5]
    random = torch.Generator().manual_seed(0)
    weights = torch.randn(groups, p, q, generator=random, dtype=torch.float64)
    images = torch.einsum("nghpqij,npq->ghij", blocks, weights)
    scale = float(images.norm()) / places
    found: dict[int, tuple[int, bool]] = {}
    for place in range(places):
        best, where = inf, None
        for element in ELEMENTS:
            if element in found.values():
                continue
            apart = (images[place, :, None] - moved(images[0], element)[None]).flatten(2).norm(dim=2)
            nearest, order = apart.min(1)
            if len(set(order.tolist())) == places and float(nearest.max()) < min(best, NEAR * scale):
                best, where = float(nearest.max()), (int((order == 0).nonzero()[0]), element)
        if where is None or where[0] in found:
            return None
        found[where[0]] = where[1]
    return [found[place] for place in range(places)]


def _factored(blocks: Tensor, labels: list[tuple[int, bool]], inside: bool) -> TurnedTaps | None:
    groups, places, _, p, q, size, _ = blocks.shape
    index = torch.arange(size * size).reshape(size, size)
    taps = torch.stack([_back(index, element).flatten() for element in labels])  # h·w for each w
    flat = blocks.flatten(5)
    read = torch.stack([flat[:, :, place][..., taps[place]] for place in range(places)], 2)
    matrix = read.permute(1, 0, 3, 2, 5, 4).reshape(places * groups * p, places * size * size * q)
    into, products, back = group_blocks(matrix, Error(EXACT))
    if into.shape[1] != places or len(back) != places:
        return None
    lost = float((group_blocks_product(into, products, back) - matrix).norm() / matrix.norm())
    apart = products.reshape(*products.shape[:2], groups, p).permute(2, 0, 1, 3)
    return TurnedTaps(into, apart.contiguous(), back, taps, inside, lost)


def _back(image: Tensor, element: tuple[int, bool]) -> Tensor:
    """What `moved` undoes."""
    turns, mirrored = element
    turned = torch.rot90(image, -turns, (-2, -1))
    return turned.flip(-1) if mirrored else turned
