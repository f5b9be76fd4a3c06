"""Point clouds that may be stretched as well: what every invertible affine map leaves alone.

Whitening takes stretches away, all but a rotation, and a basis of the cloud's own takes that. The group has
no uniform measure: an element is drawn as a rotation times a stretch, its polar factors, and of stretches a
range is stated (of layers Mironenco & Forré, 2024).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tdsl.symmetry.group import orthogonal, special_orthogonal
from tdsl.symmetry.impose.canonical import smallest
from tdsl.symmetry.impose.frames import spread
from tdsl.symmetry.impose.jacobi import TINY
from tdsl.symmetry.impose.law import Change, LawReport, Tensors, drawn, examined, in_double
from tdsl.symmetry.impose.orthonormal import CLOSE, GramSchmidt

STRETCH = 2.0
"""A check stretches by factors from one over this to this."""
FLAT = 1e-4
"""A cloud whose least variance is a smaller share of the total lies in a plane, as far as float32 tells."""


class AffineInvariant(GramSchmidt):
    """`f` on a point cloud [B, N, 3], whitened and in a basis of its own: the same for every affine image.

    With `reflects=False` mirror images are different. Further inputs are still. Outputs are invariant.
    """

    def __init__(self, f: Callable[..., object], *, reflects: bool = True) -> None:
        super().__init__(f, "E" if reflects else "SE")

    def forward(self, x: Tensor, *others: Tensor) -> Tensor | Tensors:
        """As `f`."""
        self.require_cloud(x)
        return super().forward(whitened(x), *others)

    def margin(self, x: Tensor) -> Tensor:
        """That of the basis, whose vectors are those of the whitened cloud. [B]."""
        return super().margin(whitened(x))

    def check(self, x: Tensor, *others: Tensor, seed: int = 0) -> LawReport:
        """The law in float64: random rotations times stretches by factors from ½ to 2, and a translation.

        Control: the cloud in a basis of its own, but not whitened, which rotations leave alone and stretches
        do not.
        """
        self.require_cloud(x)
        whole = in_double(self)
        turns = self.changes(seed)
        stretches = [
            _affine(one, stretch)
            for one, stretch in zip(
                ("stretch 1", "stretch 2"), general_linear(2, self.reflects, seed), strict=True
            )
        ]
        samples = drawn((x, *others), seed)
        flat = [spread(sample[0])[0][:, -1] for sample in samples]
        span = [whole.margin(sample[0]) for sample in samples]
        return examined(
            "affine maps of space",
            whole,
            whole.f,
            [*turns, *stretches],
            samples,
            {"not whitened": (GramSchmidt(whole.f, self.group), stretches)},
            (
                smallest("variance of a flat cloud", flat, FLAT),
                smallest("vector in the span of others", span, CLOSE),
            ),
        )


def whitened(x: Tensor) -> Tensor:
    """A cloud about the origin with equal variances along all axes. [B, N, 3] → [B, N, 3].

    An affine image has the same whitened cloud up to a rotation, or a reflection if the map is one. (By the
    symmetric root of the covariance: signs of its eigenvectors do not matter.)
    """
    values, vectors = spread(x)
    centred = x - x.mean(1, keepdim=True)
    along = centred @ vectors / values.clamp_min(TINY).sqrt().unsqueeze(1)
    return along @ vectors.transpose(1, 2) / _size(centred)


def general_linear(count: int, reflects: bool = True, seed: int = 0) -> list[Tensor]:
    """Invertible matrices by their polar factors: a rotation times a stretch by ½ to 2. [3, 3], float64.

    Of positive determinant unless it `reflects`.
    """
    random = torch.Generator().manual_seed(seed)
    axes = special_orthogonal(3).sample(count, seed + 1)
    turns = (orthogonal(3) if reflects else special_orthogonal(3)).sample(count, seed + 2)
    found = []
    for turn, axis in zip(turns, axes, strict=True):
        powers = 2 * torch.rand(3, generator=random, dtype=torch.float64) - 1
        found.append(turn @ axis @ (STRETCH**powers).diag() @ axis.T)
    return found


def _affine(name: str, matrix: Tensor) -> Change:
    def inputs(many: Tensors) -> Tensors:
        return (many[0] @ matrix + 1.0, *many[1:])

    return Change(name, inputs, lambda many: many)


def _size(centred: Tensor) -> Tensor:
    """The root of the total variance, as `spread` divides by it. [B, N, 3] → [B, 1, 1]."""
    return centred.square().sum((1, 2), keepdim=True).clamp_min(TINY).sqrt()
