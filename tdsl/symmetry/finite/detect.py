"""The permutation group that a weight commutes with, read off the weight itself.

Rows are pairs of a place and a channel, and so are columns. Two pairs of places whose numbers for some few
channels agree get one label; what permutes the places of both sides and keeps the labels is an automorphism
of a bipartite graph with labelled edges. Where no label comes twice there is none, and that is seen on a
few entries.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tdsl.symmetry.element import Permutation
from tdsl.symmetry.finite.automorphisms import automorphisms
from tdsl.symmetry.representation import Representation

SEED = 0xC4A2
CHANNELS = 4
"""As many channels of each side are looked at."""
ALIKE = 0.1
"""Pairs of places are alike when their numbers differ by less than this share of the mean size of numbers."""
ALIKE_FEW = 1e-5
"""The same, where so few numbers are seen that some may agree by chance."""
FEW = 8


def labels(blocks: Tensor) -> Tensor | None:
    """Equal labels for the pairs of places that look alike. [a, b, channels] → [a, b] int64.

    `None` when nothing comes twice among the pairs of the first place.
    """
    rows, columns, seen = blocks.shape
    flat = blocks.reshape(rows * columns, seen)
    size = float(flat.square().mean().sqrt()) * seen**0.5
    near = (ALIKE if seen >= FEW else ALIKE_FEW) * size
    found = torch.full((len(flat),), -1, dtype=torch.int64)
    repeated = False
    count = 0
    for place in range(len(flat)):
        if int(found[place]) >= 0:
            continue
        if place >= columns and not repeated:
            return None
        alike = ((flat - flat[place]).norm(dim=1) <= near) & (found < 0)
        repeated = repeated or int(alike.sum()) > 1
        found[alike] = count
        count += 1
    return found.reshape(rows, columns) if repeated else None


def sampled(blocks: Tensor) -> Tensor:
    """Numbers of a few channels on both sides. [a, b, p, q] → [a, b, up to CHANNELS²]."""
    random = torch.Generator().manual_seed(SEED)
    p, q = (torch.randperm(n, generator=random)[:CHANNELS] for n in blocks.shape[2:])
    return blocks[:, :, p][:, :, :, q].flatten(2).to(torch.float64)


def symmetries(seen: Tensor) -> tuple[Representation, Representation] | None:
    """What may be done to rows and columns of a matrix of labels [a, b] and keeps it: ρ_out, ρ_in.

    `None` when nothing moves.
    """
    rows, columns = seen.shape
    edges = torch.zeros(rows + columns, rows + columns, dtype=torch.int64)
    edges[:rows, rows:] = seen + 1
    edges[:rows, :rows] = -1  # no row is taken to a column
    group = automorphisms(edges)
    if not group.generators:
        return None
    out, inner = [], []
    for g in group.generators:
        assert isinstance(g, Permutation)
        out.append(Permutation(g.places[:rows]))
        inner.append(Permutation(tuple(place - rows for place in g.places[rows:])))
    return (
        Representation(group, f"{rows} places out", rows, tuple(out)),
        Representation(group, f"{columns} places in", columns, tuple(inner)),
    )
