"""Attention under a mask: a query that may attend to nothing gives zeros, as it does in torch.

Such queries are common: those before the first token where batches are padded on the left. torch's own
lowering makes the mean of all values of them where masks are boolean, and NaN where they are of numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import onnx_ir as ir
import torch
from onnxscript.function_libs.torch_lib.ops.nn import aten_scaled_dot_product_attention as unmasked
from onnxscript.onnx_opset import opset18

op: Any = opset18

ATTENTION_OPSET = 23
"""The first operator set with `Attention`, which knows of such queries."""


def _attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    settings = {"scale": scale, "enable_gqa": enable_gqa}
    if attn_mask is None:
        return unmasked(query, key, value, None, dropout_p, is_causal, **settings)
    zero = op.Constant(value=ir.tensor(0.0, dtype=query.dtype))
    if attn_mask.dtype == ir.DataType.BOOL:
        nothing = op.Constant(value=ir.tensor(query.dtype.min, dtype=query.dtype))
        bias = op.Where(attn_mask, zero, nothing)
    else:
        nothing = op.Constant(value=ir.tensor(float("-inf"), dtype=attn_mask.dtype))
        bias = attn_mask
    attended = unmasked(query, key, value, bias, dropout_p, is_causal, **settings)
    attends = op.Greater(op.ReduceMax(bias, [-1], keepdims=1), nothing)
    return op.Where(attends, attended, zero)


MASKED: Mapping[Any, Callable[..., Any]] = {torch.ops.aten.scaled_dot_product_attention.default: _attention}
"""Lowerings for operator sets before `ATTENTION_OPSET`."""
