"""Point clouds in an orthonormal basis that is made of vectors of their own: one pass for O(d) or SO(d)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.symmetry.impose.canonical import smallest
from tdsl.symmetry.impose.clouds import OnCloud, Output, Rotations, crossed
from tdsl.symmetry.impose.law import LawReport, Tensors, drawn, examined, in_double

CLOSE = 1e-3
"""Vectors whose part outside the span of those before is a smaller share leave no basis to rely on."""
TINY = 1e-30


class GramSchmidt(OnCloud):
    """`f` on a point cloud [B, N, d] in the basis that Gram–Schmidt makes of d equivariant vectors of it.

    `vectors` maps the cloud to [B, d, d], a vector in each row, and must turn along with it; by default they
    are sums of the points, weighted by functions of their distance from the centroid. SO(d) and SE(d) take
    the last row as the product of those before, for d = 2 and 3. Of trained networks Kaba et al., 2023.

    Raises `TdslError` for rotations without reflections in more than three dimensions, and for fewer vectors.
    """

    vectors: Callable[[Tensor], Tensor] | None

    def __init__(
        self,
        f: Callable[..., object],
        group: Rotations = "O",
        output: Output = "invariant",
        *,
        size: int = 3,
        vectors: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__(f, group, output, size)
        if not self.reflects and size not in (2, 3):
            raise TdslError(
                f"{group}({size}) is not supported", expected=f"O({size}), or two or three dimensions"
            )
        self.vectors = vectors

    def forward(self, x: Tensor, *others: Tensor) -> Tensor | Tensors:
        """As `f`."""
        self.require_cloud(x)
        basis, _ = self._basis(x)
        return self.seen(x, self.centre(x), basis.unsqueeze(0), others)

    def margin(self, x: Tensor) -> Tensor:
        """The least share of a vector that lies outside the span of those before. [B]."""
        return self._basis(x)[1]

    def _basis(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Orthonormal rows [B, d, d], and the smallest share, [B]."""
        given = weighted_sums(x) if self.vectors is None else self.vectors(x)
        needed = self.size if self.reflects else self.size - 1
        self.require_vectors(given, needed)
        rows: list[Tensor] = []
        shares = []
        for i in range(needed):
            row = given[:, i]
            rest = row
            for _ in range(2):  # once more: what rounding left of the others
                for other in rows:
                    rest = rest - (rest * other).sum(1, keepdim=True) * other
            norm = rest.square().sum(1, keepdim=True).sqrt()
            shares.append(norm[:, 0] / row.square().sum(1).sqrt().clamp_min(TINY))
            rows.append(rest / norm.clamp_min(TINY))
        if not self.reflects:
            rows.append(_last(rows))
        return torch.stack(rows, dim=1), torch.stack(shares, dim=1).amin(1)

    def check(self, x: Tensor, *others: Tensor, seed: int = 0) -> LawReport:
        """The law in float64, and how near to collinear the vectors came, on the given cloud and random ones.

        Control: the standard basis instead.
        """
        self.require_cloud(x)
        whole = in_double(self)
        changes, samples = self.changes(seed), drawn((x, *others), seed)
        margins = [whole.margin(sample[0]) for sample in samples]
        return examined(
            f"Gram–Schmidt basis for {self.group}({self.size})",
            whole,
            whole.f,
            changes,
            samples,
            {"standard basis": (whole.f, changes)},
            (smallest("vector in the span of others", margins, CLOSE),),
        )


def weighted_sums(x: Tensor) -> Tensor:
    """Vectors that turn along with a cloud: Σ cos(k·π·r)·x, x from the centroid. [B, N, d] → [B, d, d].

    r is the distance from the centroid, a mean distance being one half, and k = 1 … d.
    """
    centred = x - x.mean(1, keepdim=True)
    length = centred.square().sum(2, keepdim=True).sqrt()
    angle = length / length.mean(1, keepdim=True).clamp_min(TINY) * (math.pi / 2)
    found = [(torch.cos(angle * (k + 1)) * centred).mean(1) for k in range(x.shape[2])]
    return torch.stack(found, dim=1)


def _last(rows: list[Tensor]) -> Tensor:
    """What makes one row a right-handed basis of the plane, or two of space."""
    if len(rows) == 1:
        return torch.stack([-rows[0][:, 1], rows[0][:, 0]], dim=1)
    return crossed(*rows)
