"""Few numbers at places of an array, and how a file holds the places: as steps between them, or as a mask.

Where one number in eight or fewer is kept, a step takes a byte and a place so little more than that; where
more are kept, a bit for each number of the array takes less.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tdsl.quantise.declare import Array, Recipe
from tdsl.quantise.half import FLOAT

LONGEST = 255
"""The longest step that a byte holds; longer ones are several, each to a number of its own."""
BITS = 8
INT64 = 7
BOOL = 9
"""Among the element types of ONNX."""


def with_steps_of_bytes(places: Array) -> Array:
    """Ascending places in an array, with others between them so that no step is too long."""
    steps = np.diff(places, prepend=-1)
    long = np.flatnonzero(steps > LONGEST)
    extra = [np.arange(places[i] - steps[i] + LONGEST, places[i], LONGEST) for i in long]
    found: Array = np.sort(np.concatenate([places, *extra]))
    return found


def scattered(recipe: Recipe, base: str, values: Array, places: Array) -> str:
    """The flat array `base` with other values: those of `values`, a flat array as long, at some places.

    `places` ascend. Returns the key of the result, which onnxruntime computes when it loads the file.
    """
    by_steps = with_steps_of_bytes(places)
    width = values.dtype.itemsize
    if len(by_steps) * (1 + width) <= len(places) * width + math.ceil(values.size / BITS):
        steps = np.diff(by_steps, prepend=-1).astype(np.uint8)
        at = _summed(recipe, recipe.step("Cast", recipe.keep("steps", steps), to=INT64))
        return recipe.step("ScatterElements", base, at, _values(recipe, values[by_steps]))
    marked = _marked(recipe, values.size, places)
    number = _summed(recipe, recipe.step("Cast", marked, to=INT64))  # −1 before the first, which is a number
    return recipe.step("Where", marked, recipe.step("Gather", _values(recipe, values[places]), number), base)


def _summed(recipe: Recipe, counts: str) -> str:
    """What counts add up to, from −1 on."""
    total = recipe.step("CumSum", counts, recipe.keep("axis", np.array(0, dtype=np.int64)))
    return recipe.step("Sub", total, recipe.keep("one", np.array(1, dtype=np.int64)))


def _values(recipe: Recipe, values: Array) -> str:
    """Numbers of the file, as float32."""
    kept = recipe.keep("values", values)
    return kept if values.dtype == np.float32 else recipe.step("Cast", kept, to=FLOAT)


def _marked(recipe: Recipe, size: int, places: Array) -> str:
    """Whether each place is one of those, from bits, eight to a byte."""
    marks = np.zeros(-(-size // BITS) * BITS, dtype=bool)
    marks[places] = True
    packed = np.packbits(marks.reshape(-1, BITS), axis=1, bitorder="little")
    masks = recipe.keep("masks", np.left_shift(1, np.arange(BITS)).astype(np.uint8))
    bits = recipe.step("BitwiseAnd", recipe.keep("marks", packed), masks)
    flat = recipe.shaped(recipe.step("Cast", bits, to=BOOL), (-1,))
    if len(marks) == size:
        return flat
    bounds = [recipe.keep(key, np.array([at], dtype=np.int64)) for key, at in (("from", 0), ("to", size))]
    return recipe.step("Slice", flat, *bounds)


def zeros(recipe: Recipe, shape: Sequence[int]) -> str:
    """A flat array of zeros."""
    length = recipe.keep("length", np.array([math.prod(shape)], dtype=np.int64))
    return recipe.step("Expand", recipe.keep("zero", np.zeros(1, dtype=np.float32)), length)
