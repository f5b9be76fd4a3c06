"""`sparse`: weights without their zeros, the same numbers when loaded; `low_rank_sparse`: a product besides.

A file holds the numbers that are not zero and where they are. A weight that is a low-rank matrix plus entries
anywhere is held as two factors and these entries. Either is put together by operators on constants, which
onnxruntime folds when it loads the file: what is computed, and how fast, is as before. Nothing multiplies by
a sparse matrix.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from tdsl.factor.low_rank_sparse import Prices, fewest
from tdsl.factor.rank import Error
from tdsl.quantise.declare import Array, Recipe, Scheme, Stored, Weight
from tdsl.quantise.half import FLOAT
from tdsl.quantise.places import scattered, with_steps_of_bytes, zeros

LARGEST = 4096
"""Most rows and columns of a map that is looked at for a low rank."""
MARGIN = 0.98
"""Of what may be lost, the share that float64 may lose; numbers of the file are rounded after that."""
WORTH = 0.9
"""Share of a plain array's bytes, in the same element type, above which there is no structure to speak of."""
KINDS = (np.float16, np.float32)
"""Element types of the file, the smaller one first."""


def store_sparse(weight: Weight) -> Stored | None:
    """What is not zero; `None` where that is most of a weight."""
    flat = weight.values.reshape(-1)
    places = np.flatnonzero(flat)  # not −0, which a mask makes of numbers below 0
    recipe = Recipe()
    recipe.shaped(scattered(recipe, zeros(recipe, flat.shape), flat, places), weight.values.shape)
    return Stored(recipe, 0.0, "zeros left out") if recipe.nbytes < weight.values.nbytes else None


def store_low_rank_sparse(weight: Weight, error: float) -> Stored | None:
    """A low rank and entries, of fewest bytes; `None` for what is no map, too large, or would take more.

    Columns weigh as their inputs do, where they are known; what is lost is then measured in all of them.
    """
    if not weight.is_map(LARGEST):
        return None
    return min(
        (found for kind in KINDS if (found := _stored(weight, error, np.dtype(kind))) is not None),
        key=lambda found: found.recipe.nbytes,
        default=None,
    )


def _stored(weight: Weight, error: float, kind: np.dtype[Any]) -> Stored | None:
    """With numbers of one element type; `None` where that loses too much or holds no fewer bytes."""
    width = kind.itemsize
    root = weight.root
    top = _power_of_two(weight.values) if kind == np.float16 else 1.0
    scaled = torch.from_numpy(weight.flat.astype(np.float64) / top * root)
    parts = fewest(scaled, Error(MARGIN * error), Prices(width, width + 1))
    dense = WORTH * weight.values.size * width
    if parts.price(Prices(width, width)) >= dense:
        return None
    first, second, places = parts.left.numpy(), parts.right.numpy() / root, parts.places.numpy()
    if not weight.rows_first:
        first, second = second.T, first.T
        row, column = np.divmod(places, weight.inputs)
        places = np.sort(column * weight.outputs + row)
    first, second = first.astype(kind), second.astype(kind)
    places = with_steps_of_bytes(places)
    entries = (weight.values.reshape(-1) / np.float32(top)).astype(kind)
    rebuilt = (first.astype(np.float32) @ second.astype(np.float32)).reshape(-1)
    rebuilt[places] = entries[places]
    rebuilt *= np.float32(top)
    if not np.isfinite(rebuilt).all():
        return None
    lost = weight.error(Weight(rebuilt.reshape(weight.values.shape), weight.rows_first).flat)
    if lost > error:
        return None
    recipe = _recipe((first, second), entries, places, top, weight.values.shape)
    if recipe.nbytes >= dense:
        return None
    return Stored(recipe, lost, f"rank {first.shape[1]} and {len(places)} entries")


def _power_of_two(values: Array) -> float:
    """One that is at least as large as every number."""
    largest = float(np.abs(values).max())
    return float(2.0 ** math.ceil(math.log2(largest))) if largest > 0 else 1.0


def _recipe(
    factors: tuple[Array, Array], entries: Array, places: Array, top: float, shape: tuple[int, ...]
) -> Recipe:
    """Both factors multiplied, the entries put over the product, and all times `top`."""
    recipe = Recipe()
    if factors[0].shape[1]:
        read = (_wide(recipe, key, factor) for key, factor in zip(("left", "right"), factors, strict=True))
        whole = recipe.shaped(recipe.step("MatMul", *read), (-1,))
    else:
        whole = zeros(recipe, entries.shape)
    if len(places):
        whole = scattered(recipe, whole, entries, places)
    if top != 1:
        whole = recipe.step("Mul", whole, recipe.keep("top", np.array(top, dtype=np.float32)))
    recipe.shaped(whole, shape)
    return recipe


def _wide(recipe: Recipe, key: str, factor: Array) -> str:
    """A factor in the file, as float32."""
    kept = recipe.keep(key, np.ascontiguousarray(factor))
    return kept if factor.dtype == np.float32 else recipe.step("Cast", kept, to=FLOAT)


DECLARED = (
    Scheme(
        "sparse",
        "",
        store_sparse,
        "Weights without their zeros, where many are zero; every number stays.",
        lossy=False,
    ),
    Scheme(
        "low_rank_sparse",
        "error: Ratio = 1%",
        store_low_rank_sparse,
        "Weights as a product of low rank and entries anywhere, in float16 where that suffices. Rank, number "
        "and places are those of the fewest bytes. A weight that would lose more than `error`, or take as "
        "many bytes, stays as it is.",
        "Candès et al., 2011; Zhou & Tao, 2011",
        by_data=True,
    ),
)
