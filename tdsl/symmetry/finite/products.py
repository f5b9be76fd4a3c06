"""Products with few multiplications: of matrices, of complex numbers, of quaternions; and of group algebras.

A product is bilinear, so that it is a list of multiplications of a sum of entries of the one operand with a
sum of entries of the other, and sums of what they give. Where the entries are matrices, a multiplication is
a matrix product and a sum is cheap. The group algebra of a finite group is a sum of matrix algebras over
real numbers, complex numbers and quaternions, and needs what they need (Alder & Strassen, 1981).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from tdsl.symmetry.finite.isotypic import Component


@dataclass(frozen=True, slots=True)
class Product:
    """z = Σ_r onto[r] · (left[r]·x) · (right[r]·y): operands and result as lists of entries."""

    left: Tensor
    """[r, entries of x]."""
    right: Tensor
    """[r, entries of y]."""
    onto: Tensor
    """[r, entries of z]."""

    def __len__(self) -> int:
        return len(self.left)

    def times(self, inner: Product) -> Product:
        """The product whose entries are multiplied by `inner`; an entry (i, j), j running fastest."""
        pairs = ((self.left, inner.left), (self.right, inner.right), (self.onto, inner.onto))
        return Product(*(torch.kron(a.contiguous(), b.contiguous()) for a, b in pairs))

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The product of two lists of numbers."""
        return self.onto.T @ ((self.left @ x) * (self.right @ y))


def _product(left: list[list[float]], right: list[list[float]], onto: list[list[float]]) -> Product:
    return Product(*(torch.tensor(one, dtype=torch.float64) for one in (left, right, onto)))


STRASSEN = _product(
    [[1, 0, 0, 1], [0, 0, 1, 1], [1, 0, 0, 0], [0, 0, 0, 1], [1, 1, 0, 0], [-1, 0, 1, 0], [0, 1, 0, -1]],
    [[1, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, -1], [-1, 0, 1, 0], [0, 0, 0, 1], [1, 1, 0, 0], [0, 0, 1, 1]],
    [[1, 0, 0, 1], [0, 0, 1, -1], [0, 1, 0, 1], [1, 0, 1, 0], [-1, 1, 0, 0], [0, 0, 0, 1], [1, 0, 0, 0]],
)
"""Two 2 × 2 matrices in seven multiplications (Strassen, 1969)."""

COMPLEX = _product([[1, 1], [1, 0], [0, 1]], [[1, 0], [-1, 1], [1, 1]], [[1, 1], [0, 1], [-1, 0]])
"""Two complex numbers in three multiplications (Gauss)."""

QUATERNION = _product(
    [
        [0, 0, 1, -1],
        [1, 1, 0, 0],
        [0, 0, 1, 1],
        [1, -1, 0, 0],
        [0, 1, -1, 0],
        [0, 1, 1, 0],
        [1, 0, 0, -1],
        [1, 0, 0, 1],
    ],
    [
        [0, 0, -1, 1],
        [1, 1, 0, 0],
        [1, -1, 0, 0],
        [0, 0, 1, 1],
        [0, -1, 0, 1],
        [0, 1, 0, 1],
        [1, 0, 1, 0],
        [1, 0, -1, 0],
    ],
    [
        [1, 0, 0, 0],
        [0, 1, 0, 0],
        [0, 0, 1, 0],
        [0, 0, 0, 1],
        [0.5, 0.5, 0.5, 0.5],
        [-0.5, -0.5, 0.5, 0.5],
        [0.5, -0.5, 0.5, -0.5],
        [0.5, -0.5, -0.5, 0.5],
    ],
)
"""y·x for quaternions x and y in eight multiplications (Howell & Lafon, 1975)."""


@functools.cache
def matrix_product(rows: int, inner: int, columns: int) -> Product:
    """Matrices [rows, inner] and [inner, columns]: halved by Strassen's while all three are even."""
    if rows % 2 == inner % 2 == columns % 2 == 0:
        halves = STRASSEN.times(matrix_product(rows // 2, inner // 2, columns // 2))
        shapes = ((rows, inner), (inner, columns), (rows, columns))
        return Product(
            *(
                one.reshape(-1, 2, 2, a // 2, b // 2).transpose(2, 3).reshape(len(one), a * b)
                for one, (a, b) in zip((halves.left, halves.right, halves.onto), shapes, strict=True)
            )
        )
    ways = torch.cartesian_prod(torch.arange(rows), torch.arange(inner), torch.arange(columns))
    e, j, k = ways.reshape(-1, 3).unbind(1)

    def at(place: Tensor, size: int) -> Tensor:
        return torch.nn.functional.one_hot(place, size).to(torch.float64)

    return Product(
        at(e * inner + j, rows * inner),
        at(j * columns + k, inner * columns),
        at(e * columns + k, rows * columns),
    )


ALGEBRAS = {1: matrix_product(1, 1, 1), 2: COMPLEX, 4: QUATERNION}
"""The product y·x of a division algebra by its real dimension."""


def component_product(inner: Component, out: Component) -> tuple[Tensor, Tensor, Tensor]:
    """What a weight of the commutant does from copies in one space to copies in another.

    → T [r, n], C [r, f], B [m, r]: the weight of parameters w [f], f = (in copy, out copy, unit), is
    B · diag(C·w) · T.
    """
    units, size = len(inner.units), inner.dimension
    rows = size // units
    ways = matrix_product(rows, len(inner.copies), len(out.copies)).times(ALGEBRAS[units])
    count = len(ways)
    entering = ways.left.reshape(count, rows, len(inner.copies), units)
    leaving = ways.onto.reshape(count, rows, len(out.copies), units)
    into = torch.einsum("rejv,jnev->rn", entering, inner.numbered)
    back = torch.einsum("relv,lmev->mr", leaving, out.numbered)
    return into, ways.right, back
