"""The range of the leading singular vectors of a large matrix, by a block Krylov method.

Products with the matrix, which cost most, are in single precision; everything thin beside it is in double.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tdsl.factor.parts import sum_of_squares

BLOCK = 32
"""Columns of a block: enough to fill a matrix product, few enough for many steps."""
STEPS = 14
"""Fewest blocks of the basis: a convergence that small ranks need as well."""
STRETCH = 1.75
"""Columns of the basis at which it is first looked at, in wanted ones."""
LONGEST = 3.0
"""Columns of the basis, in wanted ones, at which it is taken as it is: of equal values any will do."""
GROWTH = 1.15
"""How much longer it gets where that was not enough."""
CONVERGED = 3e-4
"""Share of the squared error that the wanted directions may still miss; the error misses half of that."""
_LEAST = 1e-9
"""Matrices with a largest entry from here to its inverse keep their scale: squares fit single precision."""
_BREAKDOWN = 1e-7
"""A new block this small against the first one is single precision's noise."""


def krylov_range(matrix: Tensor, rank: int, seed: int) -> Tensor | None:
    """An orthonormal basis of nearly the leading left singular vectors (Musco & Musco, 2015).

    W [m, n] → [m, rank], or `None` where single precision does not find so many. The Krylov basis
    spans A·Ω, (A·Aᵀ)·A·Ω, …, block by block, each made orthogonal to those before it; the `rank` directions
    are taken from it by Rayleigh and Ritz, once what they miss is little. With few columns in Ω and many
    blocks this takes a third of the products that power iterations on `rank` columns take.
    """
    scale = float(torch.linalg.vector_norm(matrix, torch.inf)) if matrix.numel() else 0.0
    if not scale:
        return None
    single = matrix.float() if _LEAST < scale < 1 / _LEAST else (matrix.double() / scale).float()
    total = sum_of_squares(single)
    most = min(min(matrix.shape) // BLOCK * BLOCK, max(STEPS * BLOCK, math.ceil(LONGEST * rank)))
    look = max(STEPS * BLOCK, STRETCH * rank)
    generator = torch.Generator().manual_seed(seed)
    whole = torch.empty(most, matrix.shape[0], dtype=torch.float64).T
    gram = torch.zeros(most, most, dtype=torch.float64)
    width = 0
    block = (single @ torch.randn(matrix.shape[1], BLOCK, generator=generator)).double()
    floor = 0.0
    while True:
        unit, triangle = orthonormal(block)
        if float(triangle.diagonal().abs().min()) <= floor:
            return None
        before, width = width, width + BLOCK
        whole[:, before:width] = unit
        basis = whole[:, :width]
        block = (single @ (unit.float().T @ single).T).double()  # faster than singleᵀ·unit
        floor = floor or _BREAKDOWN * float(block.norm())
        inside = basis.T @ block  # the last columns of basisᵀ·A·Aᵀ·basis
        gram[:width, before:width] = inside
        gram[before:width, :before] = inside[:before].T
        block = block - basis @ inside
        last = width + BLOCK > most
        if width >= look or last:
            values, vectors = torch.linalg.eigh(gram[:width, :width])
            wanted = vectors[:, -rank:]
            # A·Aᵀ takes each direction out of the basis by its share of the last block, times the next.
            astray = (block @ wanted[-BLOCK:]).square().sum(0) / values[-rank:].clamp_min(floor)
            if last or float(astray.sum()) <= CONVERGED * (total - float(values[-rank:].sum())):
                return orthonormal(basis @ wanted)[0] if width >= rank else None
            look = GROWTH * width


def orthonormal(columns: Tensor) -> tuple[Tensor, Tensor]:
    """Q [m, k] with orthonormal columns and R [k, k] with Q·R = `columns` [m, k], k ≤ m, in float64.

    By Cholesky factors of the Gram matrix, twice (Yamamoto et al., 2015), which costs a fraction of
    reflections; columns too close to dependent for that are left to those.
    """
    found = columns
    triangle = torch.eye(columns.shape[1], dtype=torch.float64)
    for _ in range(2):
        lower, failed = torch.linalg.cholesky_ex(found.T @ found)
        if int(failed):
            reflected = torch.linalg.qr(columns)
            return reflected.Q, reflected.R
        found = torch.linalg.solve_triangular(lower, found.T, upper=False).T
        triangle = lower.T @ triangle
    return found, triangle
