"""Canonical copies by an orbit distance: the copy of an input that is nearest to a template.

    F(x) = ρ_out(g)⁻¹ · f(ρ_in(g)·x)   with g(x) = argmin ‖ρ(g)·x − t‖

(Kaba et al., 2023, which call it the optimisation approach.) Over a finite group the minimum is taken over
all copies, and exact: `OrbitDistance` is a score for `Canonicalise`. Over rotations of point clouds it is
found by a solver that is part of the model, `NearestPose`; what it leaves can be an output.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tdsl.errors import TdslError
from tdsl.symmetry.impose.canonical import smallest
from tdsl.symmetry.impose.clouds import OnCloud, Output, Rotations
from tdsl.symmetry.impose.law import LawReport, Tensors, drawn, examined, in_double
from tdsl.symmetry.impose.orthonormal import weighted_sums
from tdsl.symmetry.impose.procrustes import STEPS, margin, nearest, residual

CLOSE = 1e-3
"""Clouds whose nearest pose is nearly not the only one: float32 turns them by more than 1e-4."""


class OrbitDistance(nn.Module):
    """How near a sample is to a template: minus their squared distance. [B, …] → [B].

    A score for `Canonicalise`, which then sends the nearest copy through the model. `template` is a sample
    without its batch axis, which no element of the group but the identity may leave as it is.
    """

    template: Tensor

    def __init__(self, template: Tensor) -> None:
        super().__init__()
        self.register_buffer("template", torch.as_tensor(template).detach().clone())

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        """The score of each sample, by the first input. Raises `TdslError` for samples of another size."""
        if x.shape[1:] != self.template.shape:
            raise TdslError(
                f"samples of shape {list(x.shape[1:])} meet a template of {list(self.template.shape)}",
                expected="the sizes of a sample without its batch axis",
            )
        return -(x - self.template).square().flatten(1).sum(1)


class NearestPose(OnCloud):
    """`f` on a point cloud [B, N, d] in the pose in which some of its vectors are nearest to a template.

    `vectors` maps the cloud to [B, k, d], rows that turn along with it; by default sums of the points,
    weighted by functions of their distance from the centroid. `template` is [k, d], by default the unit
    vectors. All of the vectors count, where Gram–Schmidt takes the first for granted. The minimum over the
    rotations of `group` is found by `steps` unrolled steps of a solver, made of products that keep the law
    at every step; before it has converged R is no rotation, and the model sees a cloud that is squeezed.
    With `residual=True` by how much, [B], comes out behind the results: the largest entry of R·Rᵀ − 1.

    Raises `TdslError` for rotations without reflections in more than three dimensions, and for a template of
    another size.
    """

    template: Tensor
    vectors: Callable[[Tensor], Tensor] | None

    def __init__(
        self,
        f: Callable[..., object],
        group: Rotations = "O",
        output: Output = "invariant",
        *,
        size: int = 3,
        template: Tensor | None = None,
        vectors: Callable[[Tensor], Tensor] | None = None,
        steps: int = STEPS,
        residual: bool = False,
    ) -> None:
        super().__init__(f, group, output, size)
        if not self.reflects and size not in (2, 3):
            raise TdslError(
                f"{group}({size}) is not supported", expected=f"O({size}), or two or three dimensions"
            )
        unit = torch.eye(size) if template is None else torch.as_tensor(template).detach().clone()
        if unit.ndim != 2 or unit.shape[1] != size:
            raise TdslError(
                f"a template of shape {list(unit.shape)} holds no vectors of {size} coordinates",
                expected=f"[k, {size}]",
            )
        if not isinstance(steps, int) or steps < 0:
            raise TdslError(f"{steps} steps", expected="how many steps of the solver the file takes")
        self.register_buffer("template", unit)
        self.vectors, self.steps, self.residual = vectors, steps, residual

    def forward(self, x: Tensor, *others: Tensor) -> Tensor | Tensors:
        """As `f`, and with `residual` what the solver leaves."""
        self.require_cloud(x)
        rotation = nearest(self._matrix(x), self.reflects, self.steps)
        bases = rotation.transpose(1, 2).unsqueeze(0)
        found = self.seen(x, self.centre(x), bases, others)
        if not self.residual:
            return found
        results = found if isinstance(found, tuple) else (found,)
        return (*results, residual(rotation))

    def margin(self, x: Tensor) -> Tensor:
        """How far the nearest pose is from not being the only one. [B]."""
        return margin(self._matrix(x), self.reflects)

    def _matrix(self, x: Tensor) -> Tensor:
        """Vᵀ·T, [B, d, d]."""
        rows = weighted_sums(x) if self.vectors is None else self.vectors(x)
        if rows.shape[1:] != self.template.shape:
            raise TdslError(
                f"vectors of shape {list(rows.shape[1:])} meet a template of {list(self.template.shape)}",
                expected="a row of the template for each vector",
            )
        return rows.transpose(1, 2) @ self.template

    def check(self, x: Tensor, *others: Tensor, seed: int = 0) -> LawReport:
        """The law in float64, what the solver leaves, and the smallest margin, on the given cloud and others.

        Control: the cloud as it lies.
        """
        self.require_cloud(x)
        whole = in_double(self)
        whole.residual = False
        changes, samples = self.changes(seed), drawn((x, *others), seed)
        with torch.no_grad():
            matrices = [whole._matrix(sample[0]) for sample in samples]
            left = max(float(residual(nearest(m, self.reflects, self.steps)).max()) for m in matrices)
        return examined(
            f"nearest pose under {self.group}({self.size})",
            whole,
            whole.f,
            changes,
            samples,
            {"as it lies": (whole.f, changes)},
            (smallest("tie between poses", [margin(m, self.reflects) for m in matrices], CLOSE),),
            left=left,
        )
