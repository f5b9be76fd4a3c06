"""Operators for which torch's exporter has no ONNX form, or one that overflows, spelt by operators that have.

Running extremes and products along an axis take log₂ n steps (Hillis and Steele, 1986), for which its size is
known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten

FEW = 25
"""Up to so many rows on both sides torch takes distances one by one, beyond by a product of matrices."""
BY_PRODUCT, ONE_BY_ONE = 1, 2


def _distances(x: Tensor, y: Tensor, p: float = 2.0, mode: int | None = None) -> Tensor:
    """`cdist`, in the form that torch chooses. [..., n, d], [..., m, d] → [..., n, m]."""
    many = x.shape[-2] > FEW or y.shape[-2] > FEW
    if p != 2 or mode == ONE_BY_ONE or not (many or mode == BY_PRODUCT):
        apart: Tensor = torch.linalg.vector_norm(x.unsqueeze(-2) - y.unsqueeze(-3), p, -1)
        return apart
    of_x, of_y = x.square().sum(-1, keepdim=True), y.square().sum(-1, keepdim=True)
    one_x, one_y = torch.ones_like(of_x), torch.ones_like(of_y)
    left, right = torch.cat([-2 * x, of_x, one_x], -1), torch.cat([y, one_y, of_y], -1)
    return (left @ right.mT).clamp_min(0).sqrt()


def _kth(x: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """The k-th smallest along an axis, and where it is."""
    values, places = torch.topk(x, k, dim, largest=False)
    pair = values.narrow(dim, k - 1, 1), places.narrow(dim, k - 1, 1)
    return pair if keepdim else (pair[0].squeeze(dim), pair[1].squeeze(dim))


def _median(x: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """The lower of two in the middle, as torch has it."""
    return _kth(x, (x.shape[dim] + 1) // 2, dim, keepdim)


def _median_of_all(x: Tensor) -> Tensor:
    return _median(x.flatten(), 0)[0]


def _running(
    combine: Callable[[Tensor, Tensor], Tensor], x: Tensor, dim: int, neutral: float
) -> Tensor | Any:
    """Each place combined with all before it, by twice as many at each step."""
    size = x.shape[dim]
    if isinstance(size, torch.SymInt):
        return NotImplemented
    step = 1
    while step < size:
        before = torch.full_like(x.narrow(dim, 0, step), neutral)
        x = combine(torch.cat([before, x.narrow(dim, 0, size - step)], dim), x)
        step *= 2
    return x


def _running_product(x: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor | Any:
    return _running(torch.mul, x if dtype is None else x.to(dtype), dim, 1.0)


def _running_logsumexp(x: Tensor, dim: int) -> Tensor | Any:
    return _running(_log_of_sum, x, dim, -math.inf)


def _log_of_sum(x: Tensor, y: Tensor) -> Tensor:
    """log(eˣ + eʸ), whatever their size."""
    far = torch.maximum(x, y) + torch.log1p(torch.exp(-(x - y).abs()))
    return torch.where(x == y, x + math.log(2), far)


def _log2_of_sum(x: Tensor, y: Tensor) -> Tensor:
    return _log_of_sum(x * math.log(2), y * math.log(2)) / math.log(2)


def _running_extreme(largest: bool) -> Callable[[Tensor, int], tuple[Tensor, Tensor] | Any]:
    def running(x: Tensor, dim: int) -> tuple[Tensor, Tensor] | Any:
        """The value, and the last place that holds it so far."""
        size = x.shape[dim]
        if isinstance(size, torch.SymInt) or not x.is_floating_point():
            return NotImplemented
        along = [1] * x.ndim
        along[dim] = size
        places = torch.arange(size, device=x.device).reshape(along).expand(x.shape)
        step = 1
        while step < size:
            worst = torch.full_like(x.narrow(dim, 0, step), -math.inf if largest else math.inf)
            before = torch.cat([worst, x.narrow(dim, 0, size - step)], dim)
            where = torch.cat([places.narrow(dim, 0, step), places.narrow(dim, 0, size - step)], dim)
            better = before > x if largest else before < x
            x, places = torch.where(better, before, x), torch.where(better, where, places)
            step *= 2
        return x, places

    return running


def _hypotenuse(x: Tensor, y: Tensor) -> Tensor:
    longer, shorter = torch.maximum(x.abs(), y.abs()), torch.minimum(x.abs(), y.abs())
    whole = longer * torch.sqrt(1 + (shorter / longer).square())
    return torch.where((longer == 0) | longer.isinf(), longer, whole)


def _sign_of(x: Tensor, y: Tensor) -> Tensor:
    """`copysign`: zeros have signs, too."""
    negative = (y < 0) | ((y == 0) & (y.reciprocal() < 0))
    return torch.where(negative, -x.abs(), x.abs())


def _larger_number(x: Tensor, y: Tensor) -> Tensor:
    return torch.where(x.isnan(), y, torch.where(y.isnan(), x, torch.maximum(x, y)))


def _smaller_number(x: Tensor, y: Tensor) -> Tensor:
    return torch.where(x.isnan(), y, torch.where(y.isnan(), x, torch.minimum(x, y)))


def _sorted_place(
    ordered: Tensor,
    x: Tensor,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
) -> Tensor:
    """How many of the ordered numbers come before each number."""
    if sorter is not None:
        ordered = ordered.gather(-1, sorter)
    row = ordered if ordered.ndim == 1 else ordered.unsqueeze(-2)
    before = row <= x.unsqueeze(-1) if right or side == "right" else row < x.unsqueeze(-1)
    return before.sum(-1, dtype=torch.int32 if out_int32 else torch.int64)


def _leaky(
    x: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, generator: Any = None
) -> Tensor | Any:
    """`rrelu`, which takes the mean slope outside of training."""
    return NotImplemented if training else torch.where(x >= 0, x, x * ((lower + upper) / 2))


WITHOUT_FORM: Mapping[Any, Callable[..., Any]] = {
    aten.cdist.default: _distances,
    aten.kthvalue.default: _kth,
    aten.median.dim: _median,
    aten.median.default: _median_of_all,
    aten.cummax.default: _running_extreme(largest=True),
    aten.cummin.default: _running_extreme(largest=False),
    aten.cumprod.default: _running_product,
    aten.hypot.default: _hypotenuse,
    aten.copysign.Tensor: _sign_of,
    aten.fmax.default: _larger_number,
    aten.fmin.default: _smaller_number,
    aten.searchsorted.Tensor: _sorted_place,
    aten.rrelu.default: _leaky,
}
"""Operators that the exporter refuses."""

OVERFLOWING: Mapping[Any, Callable[..., Any]] = {
    aten.logaddexp.default: _log_of_sum,
    aten.logaddexp2.default: _log2_of_sum,
    aten.logcumsumexp.default: _running_logsumexp,
}
"""Operators that the exporter writes by exponentials of all numbers."""
