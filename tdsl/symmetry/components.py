"""Orbits of places under permutations that generate a group, whatever its order.

They are the connected components of the graph that joins every place with its image under every generator
(union-find; Sims, 1970), at a cost of places × generators.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def components(count: int, images: list[Tensor]) -> Tensor:
    """The component of each of `count` places, place i being joined with `images[k][i]` for every k.

    → [count] int64, numbered as they first occur.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    if not images or not count:
        return torch.arange(count)
    starts = np.tile(np.arange(count, dtype=np.int32), len(images))
    ends = torch.cat(images).to(torch.int32).numpy()
    joined = coo_matrix((np.ones(len(starts), dtype=np.int8), (starts, ends)), shape=(count, count))
    labels = connected_components(joined, directed=False)[1]
    first = np.full(int(labels.max()) + 1, count, dtype=np.int64)
    np.minimum.at(first, labels, np.arange(count))
    rank = np.empty_like(first)
    rank[np.argsort(first)] = np.arange(len(first))
    return torch.from_numpy(rank[labels])
