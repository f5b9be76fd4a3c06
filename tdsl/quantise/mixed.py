"""`mixed`: one bit for most inputs of a layer, four for those that carry most (Zhao et al., 2025).

Inputs are chosen by how large they are on calibration data and how large their weights are. The others keep
the sign of their weights, times one number for each output. It is post-training only: what the original
method trains, block by block, is not here.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tdsl.quantise.declare import Array, Limit, Packed, Recipe, Scheme, Stored, Weight
from tdsl.quantise.feedback import fed_back
from tdsl.quantise.half import FLOAT
from tdsl.quantise.int4 import FOUR
from tdsl.quantise.signs import BITS, signed
from tdsl.quantise.uniform import fit

INT32 = 6
"""Among the element types of ONNX."""


def store_mixed(weight: Weight, kept: float, error: float) -> Stored | None:
    """A map in one and four bits; `None` for what is no map."""
    if weight.rows_first is None or weight.inputs < 2 * BITS:
        return None
    order, ones = by_weight(weight.flat, weight.importance, kept)
    plain = Parts(weight, order, ones)
    plain.round()
    found, lost, how = plain, weight.error(plain.rebuilt()), "rounded"
    if weight.moment is not None:
        fed = Parts(weight, order, ones)
        fed_back(weight.flat[:, order], weight.moment[np.ix_(order, order)], [0, ones], fed)
        after = weight.error(fed.rebuilt())
        if after < lost:
            found, lost, how = fed, after, "error feedback"
    return Stored(found.put_together(), lost, how)


def by_weight(matrix: Array, importance: Array, kept: float) -> tuple[Array, int]:
    """The inputs in order, those of one bit first, and how many these are, a multiple of eight. → [n]"""
    n = matrix.shape[1]
    energy = importance * np.einsum("ij,ij->j", matrix, matrix, dtype=np.float64)
    ones = min(n - 1, round((1 - kept) * n)) // BITS * BITS
    by_energy = np.argsort(energy, kind="stable")
    return np.concatenate([np.sort(by_energy[:ones]), np.sort(by_energy[ones:])]), ones


def best_signs(matrix: Array, importance: Array) -> tuple[Array, Array]:
    """Which numbers of a map are positive, and the best number for each row to be ± of. → [m, n], [m]"""
    scale = (np.abs(matrix) @ importance) / max(float(importance.sum()), np.finfo(np.float64).tiny)
    return matrix >= 0, scale


@dataclass(slots=True)
class Parts:
    """A map whose inputs in a given order are signs, and from some place on codes of four bits."""

    weight: Weight
    order: Array
    ones: int
    positive: Array = field(init=False)
    """[m, ones]"""
    codes: Array = field(init=False)
    """[m, n − ones]"""
    scale: Array = field(init=False)
    """Of the signs, float32 [m]."""
    step: Array = field(init=False)
    """Of the codes."""

    def __post_init__(self) -> None:
        m, n = self.weight.outputs, self.weight.inputs
        self.positive = np.zeros((m, self.ones), dtype=bool)
        self.codes = np.zeros((m, n - self.ones), dtype=np.int8)
        self.scale, self.step = np.zeros(m, dtype=np.float32), np.zeros(m, dtype=np.float32)

    def round(self) -> None:
        """Signs and nearest codes."""
        ordered, importance = self.weight.flat[:, self.order], self.weight.importance[self.order]
        self.begin(0, ordered[:, : self.ones], importance[: self.ones])
        self.begin(self.ones, ordered[:, self.ones :], importance[self.ones :])
        self.positive = ordered[:, : self.ones] >= 0
        self.codes = self._nearest(ordered[:, self.ones :])

    def begin(self, start: int, values: Array, importance: Array) -> None:
        """Fit the number of each row for its signs, or the step of its codes."""
        if start == 0:
            self.scale = best_signs(values, importance)[1].astype(np.float32)
        else:
            self.step = fit(values, importance, FOUR, zeros=False)[0].astype(np.float32)

    def column(self, number: int, values: Array) -> Array:
        """Round a column of the ordered map."""
        if number < self.ones:
            self.positive[:, number] = values >= 0
            return np.where(values >= 0, self.scale, -self.scale).astype(np.float64)
        codes = self._nearest(values[:, None])[:, 0]
        self.codes[:, number - self.ones] = codes
        rounded: Array = codes * self.step.astype(np.float64)
        return rounded

    def rebuilt(self) -> Array:
        """The map that the file will hold, float32. → [m, n]"""
        found = np.empty((self.weight.outputs, self.weight.inputs), dtype=np.float32)
        found[:, self.order[: self.ones]] = np.where(self.positive, self.scale[:, None], -self.scale[:, None])
        found[:, self.order[self.ones :]] = self.codes * self.step[:, None]
        return found

    def _nearest(self, values: Array) -> Array:
        step = self.step[:, None].astype(np.float64)
        codes: Array = np.clip(np.rint(values / np.where(step == 0, 1, step)), FOUR.low, FOUR.high)
        return codes.astype(np.int8)

    def put_together(self) -> Recipe:
        """Signs by the bits of bytes, codes times steps, the inputs in their own order again."""
        weight = self.weight
        recipe = Recipe()
        scale = recipe.keep("scale", self.scale[:, None])
        ones = signed(recipe, "signs", self.positive, scale)
        codes = recipe.step("Cast", recipe.keep("codes", Packed(self.codes)), to=FLOAT)
        rest = recipe.step("Mul", codes, recipe.keep("step", self.step[:, None]))
        places = np.argsort(self.order).astype(np.uint16 if weight.inputs <= 2**16 else np.int32)
        index = recipe.step("Cast", recipe.keep("places", places), to=INT32)
        whole = recipe.step("Gather", recipe.step("Concat", ones, rest, axis=1), index, axis=1)
        if not weight.rows_first:
            whole = recipe.step("Transpose", whole, perm=(1, 0))
        if weight.values.ndim != 2:
            recipe.shaped(whole, weight.values.shape)
        return recipe


DECLARED = (
    Scheme(
        "mixed",
        "kept: Ratio = 20%, error: Ratio = 60%",
        store_mixed,
        "Weights in one bit, and in four for the share `kept` of the inputs of a layer that carry most: with "
        "calibration data by the size of the inputs, else by that of the weights. 1.6 bits a number by "
        "default, which loses much. A weight that would lose more than `error` stays as it is.",
        "Zhao et al., 2025, before training; Frantar et al., 2022",
        opset=lambda given: 21,
        limits={"kept": Limit(lambda kept: 0 < kept < 1, "a share between 0 and 100% of the inputs")},
        by_data=True,
    ),
)
