"""Frame averaging of point clouds in space: a few bases that the cloud itself gives, averaged over.

The eigenvectors of the covariance are a basis up to signs: eight bases for O(3), four for SO(3) (Puny et al.,
2022). Where two eigenvalues are equal the eigenvectors are anything, and near there a small change of a point
turns them far: the gap between eigenvalues says how near, and a fallback can take over before.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.symmetry.impose.canonical import smallest
from tdsl.symmetry.impose.clouds import OnCloud, Output, Rotations, crossed
from tdsl.symmetry.impose.jacobi import TINY, eigen3, gap
from tdsl.symmetry.impose.law import LawReport, Tensors, drawn, examined, in_double, outputs_of

CLOSE = 1e-3
"""A relative gap below which a frame is not to be relied on: float32 turns it by more than 1e-4."""


class FrameAverage(OnCloud):
    """The average of `f` over the frames of a point cloud [B, N, 3], its first input.

    `group` is `O`, `SO`, `E` or `SE` (with translations); `output` says whether results are `invariant`,
    `vectors` [B, …, 3] or `points`. The guard against equal eigenvalues is a choice:

    * `gap=True` returns the gap of each sample, [B], behind the results: the caller decides.
    * `fallback`, a function of the same inputs that keeps the law by itself, takes over smoothly from twice
      the gap `threshold` on and altogether below it, which makes the whole continuous.
    * with neither, `check` reports the smallest gap that it met.
    """

    signs: Tensor
    gap: bool
    fallback: Callable[..., object] | None

    def __init__(
        self,
        f: Callable[..., object],
        group: Rotations = "O",
        output: Output = "invariant",
        *,
        gap: bool = False,
        fallback: Callable[..., object] | None = None,
        threshold: float = CLOSE,
    ) -> None:
        super().__init__(f, group, output, 3)
        if threshold <= 0:
            raise TdslError(
                f"a threshold of {threshold}", expected="a positive gap, relative to the largest eigenvalue"
            )
        self.gap, self.fallback, self.threshold = gap, fallback, threshold
        signs = torch.tensor(list(product((1.0, -1.0), repeat=3 if self.reflects else 2)))
        self.register_buffer("signs", signs)

    def forward(self, x: Tensor, *others: Tensor) -> Tensor | Tensors:
        """As `f`; with `gap=True` the gap, [B], comes last."""
        self.require_cloud(x)
        values, vectors = spread(x)
        results = outputs_of(self.seen(x, self.centre(x), self._bases(vectors), others))
        apart = gap(values)
        if self.fallback is not None:
            share = _smooth(apart / self.threshold - 1)
            instead = outputs_of(self.fallback(x, *others))
            if [one.shape for one in instead] != [one.shape for one in results]:
                shapes = [[list(one.shape) for one in many] for many in (instead, results)]
                raise TdslError(
                    f"the fallback gives {shapes[0]}, the model {shapes[1]}",
                    expected="results of the same shapes",
                )
            results = tuple(
                b + share.reshape(-1, *(1,) * (a.ndim - 1)) * (a - b)
                for a, b in zip(results, instead, strict=True)
            )
        if self.gap:
            results = (*results, apart)
        return results[0] if len(results) == 1 else results

    def _bases(self, vectors: Tensor) -> Tensor:
        """Eigenvectors [B, 3, 3] as columns → bases of rows [F, B, 3, 3], right-handed ones for SO."""
        rows = vectors.transpose(1, 2)
        if self.reflects:
            return rows * self.signs[:, None, :, None]
        first, second = rows[:, 0], rows[:, 1]
        a, b = self.signs[:, 0, None, None] * first, self.signs[:, 1, None, None] * second
        return torch.stack([a, b, crossed(a, b)], dim=2)

    def check(self, x: Tensor, *others: Tensor, seed: int = 0) -> LawReport:
        """The law in float64, and the smallest gap, on the given cloud and random ones of its shape.

        Controls: right-handed frames under a reflection (which O has and SO has not), one frame alone.
        """
        self.require_cloud(x)
        whole = in_double(self)
        whole.gap = False
        alone, handed = in_double(whole), in_double(whole)
        alone.signs = alone.signs[:1]
        handed.group = {"O": "SO", "E": "SE"}.get(self.group, self.group)  # type: ignore[assignment]
        handed.signs = torch.tensor(list(product((1.0, -1.0), repeat=2)), dtype=torch.float64)
        mirror = self.change("reflection", torch.diag(torch.tensor([-1.0, 1.0, 1.0])), torch.zeros(3))
        changes = self.changes(seed)
        samples = drawn((x, *others), seed)
        gaps = [gap(spread(sample[0])[0]) for sample in samples]
        needed = CLOSE if self.fallback is None else 0.0
        return examined(
            f"frame average over {self.group}(3)",
            whole,
            whole.f,
            changes,
            samples,
            {"one frame": (alone, changes), "right-handed frames under a reflection": (handed, [mirror])},
            (smallest("gap between eigenvalues", gaps, needed),),
        )


def spread(x: Tensor) -> tuple[Tensor, Tensor]:
    """The variances of a cloud along its axes, and the axes as columns. [B, N, 3] → [B, 3], [B, 3, 3].

    The variances descend, and are shares of the total, so that the size of the cloud does not matter.
    """
    centred = x - x.mean(1, keepdim=True)
    covariance = centred.transpose(1, 2) @ centred
    total = covariance.diagonal(dim1=1, dim2=2).sum(1).reshape(-1, 1, 1)
    return eigen3(covariance / total.clamp_min(TINY))


def _smooth(t: Tensor) -> Tensor:
    """0 below 0, 1 above 1, and once differentiable between."""
    t = t.clamp(0, 1)
    return t * t * (3 - 2 * t)
