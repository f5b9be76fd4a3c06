"""Arrays of signs, eight to a byte, and how a file reads them."""

from __future__ import annotations

import numpy as np

from tdsl.quantise.declare import Array, Recipe

BITS = 8
"""Signs that share a byte."""
BOOL = 9
"""Among the element types of ONNX."""


def signed(recipe: Recipe, key: str, positive: Array, scale: str) -> str:
    """± a scale of each row [m, 1], by which entries [m, n] are positive; n is a multiple of eight."""
    m, n = positive.shape
    packed = np.packbits(positive.reshape(m, -1, BITS), axis=2, bitorder="little")
    masks = recipe.keep("masks", np.left_shift(1, np.arange(BITS)).astype(np.uint8))
    bits = recipe.step("BitwiseAnd", recipe.keep(key, packed), masks)
    which = recipe.shaped(recipe.step("Cast", bits, to=BOOL), (m, n))
    return recipe.step("Where", which, scale, recipe.step("Neg", scale))
