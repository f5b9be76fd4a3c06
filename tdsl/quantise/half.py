"""`f16`: weights as float16 in the file, float32 in the computation.

The file is half as large, the latency stays: onnxruntime folds the `Cast` when it loads the model.
"""

from __future__ import annotations

import math

import numpy as np

from tdsl.quantise.declare import Array, Recipe, Scheme, Stored, Weight

PART = 2**16
"""Entries whose error is summed at once."""

FLOAT = 1
"""float32 among the element types of ONNX."""


def store_f16(weight: Weight, error: float) -> Stored | None:
    """A weight as float16; `None` where it does not fit, as tiny and huge values do not."""
    values = weight.values
    if max(values.max(), -values.min()) > np.finfo(np.float16).max:
        return None
    half = values.astype(np.float16, order="C")
    recipe = Recipe()
    recipe.step("Cast", recipe.keep("f16", half), to=FLOAT)
    return Stored(recipe, _lost(values, half), "rounded")


def _lost(values: Array, half: Array) -> float:
    """The relative Frobenius error of a weight in float16, summed in float64 part by part."""
    lost = whole = 0.0
    full, narrow = values.reshape(-1), half.reshape(-1)
    for start in range(0, full.size, PART):
        part = full[start : start + PART].astype(np.float64)
        whole += float(part @ part)
        part -= narrow[start : start + PART]
        lost += float(part @ part)
    return math.sqrt(lost / whole) if whole else 0.0


DECLARED = (
    Scheme(
        "f16",
        "error: Ratio = 0.1%",
        store_f16,
        "Large weights as float16; a weight that would lose more than `error` stays as it is.",
    ),
)
