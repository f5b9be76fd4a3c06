"""`pruned`: a share of a weight's numbers, those whose removal of the others no direction loses much by.

What stays is stored as `sparse` stores it, and put together when the file is loaded: a product is one with a
dense weight.
"""

from __future__ import annotations

import numpy as np
import torch

from tdsl.factor.pruned import spectral_mask
from tdsl.quantise.declare import Limit, Scheme, Stored, Weight
from tdsl.quantise.sparse import store_sparse

LARGEST = 4096
"""Most rows and columns of a map: the spectrum of what goes is looked at some dozen times."""


def store_pruned(weight: Weight, kept: float) -> Stored | None:
    """The share `kept` of its numbers; `None` for what is no map or too large, or would take as many bytes.

    Columns weigh as their inputs do, where they are known; what is lost is then measured in all of them.
    """
    if not weight.is_map(LARGEST):
        return None
    flat = weight.flat
    mask = spectral_mask(torch.from_numpy(flat.astype(np.float64) * weight.root), kept).numpy()
    left = np.where(mask, flat, np.float32(0))
    values = left.reshape(weight.values.shape) if weight.rows_first else left.T.reshape(weight.values.shape)
    found = store_sparse(Weight(np.ascontiguousarray(values), weight.rows_first))
    if found is None:
        return None
    return Stored(found.recipe, weight.error(left), f"{np.count_nonzero(left)} numbers kept")


DECLARED = (
    Scheme(
        "pruned",
        "kept: Ratio = 50%",
        store_pruned,
        "A share of each weight's numbers: what goes has a small spectral norm, so no direction is lost. "
        "Inputs weigh by their variances, where they are known.",
        "after Weyl, 1912; LeCun, Denker & Solla, 1990",
        limits={"kept": Limit(lambda value: 0 < value < 1, "a share above 0 and below 1")},
        by_data=True,
    ),
)
