"""Attention."""

from __future__ import annotations

from math import prod
from typing import Any

from tdsl.ops.spec import Shape, operator


def _macs(query: Shape, key: Shape, value: Shape, **_: Any) -> Any:
    """Scores (query · keyᵀ) and their product with value; a causal mask saves nothing."""
    *_batch, keys, width = key
    return prod(query[:-1]) * keys * (width + value[-1])


ATTENTION = (
    operator(
        "attention(query, key, value, mask? = 0, dropout: float = 0.0, causal: bool = False, *, "
        "scale: float = None, enable_gqa: bool = False) -> attention",
        aten="aten.scaled_dot_product_attention.default",
        torch="F.scaled_dot_product_attention",
        linear_in=("value",),
        macs=_macs,
        doc="softmax(query · keyᵀ · scale + mask) · value; the scale is 1 / sqrt(width) when none.",
    ),
)
