"""`tied`: tied weights stored once, as representatives and a small table of places, put together at load.

The kernels of a group convolution are copies of one another with their inputs and pixels in another order.
Each such weight becomes the kernels of one group element, a `Gather` with a table of places for each element,
and a change of axes; onnxruntime folds all of it when it loads the model, so that latency stays and every
bit is the same. The table is found by comparing bits, whatever the group: nothing is annotated.

This is done to the file and not by a rule: in a graph, what depends on weights alone is one weight.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tdsl.quantise.declare import Array, Recipe, Scheme, Stored, Weight

ORDERS = (64, 48, 32, 24, 16, 12, 10, 8, 6, 5, 4, 3, 2)
"""How many copies are looked for, the most first."""
LOOKED_AT = 16
"""Kernels by which a position is told from others before all are compared."""


@dataclass(frozen=True, slots=True)
class _Tied:
    """A weight as representatives [p, q, h] and, for each copy, the places of its entries [g, h]."""

    representatives: Array
    places: Array
    split: tuple[int, ...]
    """The axes of what is gathered, [p, q, g, …], before they are moved."""
    order: tuple[int, ...]
    """How they are moved."""

    @property
    def nbytes(self) -> int:
        """Bytes in the file, about as many for the three nodes as for an initializer's header."""
        return int(self.representatives.nbytes + self.places.nbytes) + 400


def store_tied(weight: Weight) -> Stored | None:
    """A tied weight as its representatives, the same bits when loaded; `None` where nothing is tied."""
    values = weight.values
    found = _tied(values) if values.ndim >= 2 and _recurs(values) else None
    if found is None:
        return None
    recipe = Recipe()
    kept = recipe.keep("kept", found.representatives)
    copies = recipe.step("Gather", kept, recipe.keep("places", found.places), axis=2)
    moved = recipe.step("Transpose", recipe.shaped(copies, found.split), perm=found.order)
    recipe.shaped(moved, values.shape)
    return Stored(recipe, 0.0, "copies")


def _recurs(values: Array) -> bool:
    """Whether the first number occurs again, as each does in a weight of copies: one pass over others."""
    bits = values.reshape(-1).view(np.int32)
    return bool(np.count_nonzero(bits == bits[:1]) > 1)


def _tied(values: Array) -> _Tied | None:
    """The form of a weight [m, n, …] that takes the fewest bytes; `None` where none saves any."""
    rows, columns = values.shape[:2]
    kernel = math.prod(values.shape[2:])
    ways = []
    for copies in (g for g in ORDERS if rows % g == 0):
        for places in (h for h in (*ORDERS, 1) if columns % h == 0):
            if places * kernel > 1:
                for slow in ((True, True), (False, False), (True, False), (False, True)):
                    one = _with(values, copies, places, *slow)
                    if one is not None and one.nbytes < values.nbytes:
                        ways.append(one)
        if ways:
            break
    return min(ways, key=lambda way: way.nbytes, default=None)


def _with(values: Array, copies: int, places: int, out_slow: bool, in_slow: bool) -> _Tied | None:
    """Rows as `copies` of channels, columns as `places` of channels, either running slower than channels."""
    rows, columns = values.shape[:2]
    kernel = values.shape[2:]
    p, q = rows // copies, columns // places
    shape = (*((copies, p) if out_slow else (p, copies)), *((places, q) if in_slow else (q, places)), *kernel)
    axes = (0 if out_slow else 1, 1 if out_slow else 0, 2 if in_slow else 3, 3 if in_slow else 2)
    g, c, h, k = axes
    pixels = tuple(range(4, 4 + len(kernel)))
    entries = values.reshape(shape).transpose(g, c, k, h, *pixels).reshape(copies, p, q, -1)
    if not np.array_equal(np.sort(entries[0, 0, 0]), np.sort(entries[1, 0, 0])):
        return None
    table = _places(entries)
    if table is None:
        return None
    # What is gathered has axes p, q, g, h, pixels; each goes where it was.
    gathered = {c: 0, k: 1, g: 2, h: 3, **{axis: axis for axis in pixels}}
    order = tuple(gathered[axis] for axis in range(len(shape)))
    return _Tied(entries[0], table, (p, q, copies, places, *kernel), order)


def _places(entries: Array) -> Array | None:
    """For each copy, where its entries are among those of the first. [g, p, q, h] → [g, h], or `None`."""
    copies, p, q, size = entries.shape
    bits = np.ascontiguousarray(entries).view(np.int32).reshape(copies, p * q, size)
    seen = np.unique(np.linspace(0, p * q - 1, min(LOOKED_AT, p * q)).astype(np.int64))
    first = np.lexsort(bits[0][seen])
    table = np.empty((copies, size), dtype=np.int32)
    for copy in range(copies):
        table[copy, np.lexsort(bits[copy][seen])] = first
        if not np.array_equal(bits[0][:, table[copy]], bits[copy]):
            return None
    return table


DECLARED = (
    Scheme(
        "tied",
        "",
        store_tied,
        "Copies of kernels, turned or reflected, once; every bit stays.",
        lossy=False,
    ),
)
