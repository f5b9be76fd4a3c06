"""Functions of symmetric matrices by products alone: sums of resolvents, by a fixed number of iterations.

    f(H) = Σ aᵢ · Re (H − zᵢ·1)⁻¹ = Σ aᵢ · (H − cᵢ)·((H − cᵢ)² + bᵢ²)⁻¹   with zᵢ = cᵢ + i·bᵢ

f(Q·H·Qᵀ) = Q·f(H)·Qᵀ for every orthogonal Q, and so for every order of the nodes of a graph (Batatia et al.,
2024). ONNX has no inverse: Newton–Schulz iterations (Schulz, 1933) multiply only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tdsl.errors import TdslError


class Resolvent(nn.Module):
    """A function of symmetric matrices H, [B, n, n] → [B, n, n], whose eigenvalues are within ± `bound`.

    `weights` a, `centres` c and `widths` b > 0 have a number for each pole. The iterations are as many as the
    inverse takes to be right to `tolerance` for every such H: about log₂ of its condition, and of the digits.
    Beyond the bound they diverge: with `residual` a second result [B] says by how much the worst inverse of
    each matrix is none, ‖1 − M·X‖ / √n, which is small exactly where the function can be trusted.
    Raises `TdslError` for numbers of another kind.
    """

    weights: Tensor
    centres: Tensor
    widths: Tensor

    def __init__(
        self,
        weights: Sequence[float],
        centres: Sequence[float],
        widths: Sequence[float],
        *,
        bound: float,
        tolerance: float = 1e-6,
        residual: bool = False,
    ) -> None:
        super().__init__()
        if not len(weights) == len(centres) == len(widths) or not weights:
            raise TdslError("a pole has a weight, a centre and a width", expected="as many of each")
        if min(widths) <= 0 or bound <= 0 or not 0 < tolerance < 1:
            raise TdslError(
                f"widths {list(widths)}, a bound of {bound}, a tolerance of {tolerance}",
                expected="positive numbers, and a tolerance below 1",
                hint="a pole on the real axis may meet an eigenvalue",
            )
        for name, values in (("weights", weights), ("centres", centres), ("widths", widths)):
            self.register_buffer(
                name, torch.tensor(values, dtype=torch.get_default_dtype()).reshape(-1, 1, 1)
            )
        self.bound = bound
        self.residual = residual
        furthest = [(bound + abs(c)) ** 2 / b**2 for c, b in zip(centres, widths, strict=True)]
        self.iterations = max(iterations(1 + f, tolerance) for f in furthest)

    def forward(self, matrix: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """The function of each matrix, and what is left where `residual` asks for it.

        Raises `TdslError` for what is no batch of square matrices.
        """
        if matrix.ndim != 3 or matrix.shape[1] != matrix.shape[2]:
            raise TdslError(
                f"an input of shape {list(matrix.shape)} is no batch of square matrices",
                expected="[batch, n, n]",
            )
        one = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
        shifted = matrix.unsqueeze(1) - self.centres * one
        least = self.widths.square()
        squared = shifted @ shifted + least * one
        most = (self.bound + self.centres.abs()).square() + least
        inverted = inverse(squared, least, most, self.iterations)
        result = (self.weights * (shifted @ inverted)).sum(1)
        if not self.residual:
            return result
        left = (one - squared @ inverted).square().sum((-2, -1)).amax(1)
        return result, (left / matrix.shape[-1]).sqrt()


def inverse(matrix: Tensor, least: Tensor, most: Tensor, count: int) -> Tensor:
    """The inverse of symmetric matrices with eigenvalues from `least` to `most`, by Newton–Schulz iterations.

    [..., n, n] → the same; `least` and `most` broadcast against it.
    """
    one = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    found = 2 / (least + most) * one
    for _ in range(count):
        found = found @ (2 * one - matrix @ found)
    return found


def iterations(condition: float, tolerance: float) -> int:
    """How many bring the residual ‖1 − M·X‖ below `tolerance` for matrices M of that condition.

    It starts at (κ − 1)/(κ + 1), and every iteration squares it.
    """
    start = (condition - 1) / (condition + 1)
    if start <= tolerance:
        return 0
    return math.ceil(math.log2(math.log(tolerance) / math.log(start)))
