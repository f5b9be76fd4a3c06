"""Evenly spaced levels: w ≈ scale · (code − zero), a scale for each output or for each block of its inputs.

Scales are searched for, not taken from the largest entry: for each of some clippings the codes are found, the
scale is the least-squares one for them, and the clipping of least error stays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from tdsl.quantise.declare import Array, Packed, Recipe, Stored, Weight
from tdsl.quantise.feedback import fed_back
from tdsl.quantise.half import FLOAT

PIECE = 2**20
"""Entries that are fitted at once."""


@dataclass(frozen=True, slots=True)
class Levels:
    """Codes of some bits, and the clippings to try, as shares of the largest entry."""

    bits: int
    clippings: tuple[float, ...]

    @property
    def low(self) -> int:
        """The lowest code."""
        return -(1 << self.bits - 1)

    @property
    def high(self) -> int:
        """The highest code."""
        return (1 << self.bits - 1) - 1


def best_uniform(
    weight: Weight, levels: Levels, block: int | None, limit: float, fused: bool
) -> Stored | None:
    """A map by the codes that lose least, `None` where that is more than `limit`.

    Each output has one scale, or one for at most `block` inputs. A zero point, which takes some bits too, is
    there where it is worth more than these bits would be as finer levels. With a second moment of the inputs
    error feedback is tried.
    """
    n = weight.inputs
    size = n if block is None else -(-n // -(-n // block))  # of as many blocks as there must be, alike
    plain = _Codes(weight, levels, size, zeros=False)
    plain.round()
    shifted = _Codes(weight, levels, size, zeros=True)
    shifted.round()
    error, how = weight.error(plain.rebuilt()), "rounded"
    with_zeros = weight.error(shifted.rebuilt())
    found = plain
    if with_zeros < error * 2 ** (-levels.bits / size):
        found, error = shifted, with_zeros
    if weight.moment is not None:
        fed = _Codes(weight, levels, size, zeros=found.zeros)
        fed.feed_back()
        after = weight.error(fed.rebuilt())
        if after < error:
            found, error, how = fed, after, "error feedback"
    if not error <= limit:
        return None
    ready = fused and weight.products and n % (block or n) == 0
    recipe = found.for_runtime(block is not None) if ready else found.put_together()
    recipe.by_row = fused and weight.looked_up and not found.blocks and levels.bits == 8
    return Stored(recipe, error, how)


def fit(rows: Array, importance: Array, levels: Levels, zeros: bool) -> tuple[Array, Array]:
    """Scale and zero of each row [k, b] under weights of errors [b]. → [k], [k]."""
    step = max(1, PIECE // max(1, rows.shape[1]))
    found = [_fit(rows[i : i + step], importance, levels, zeros) for i in range(0, len(rows), step)]
    scales, points = zip(*found, strict=True)
    return np.concatenate(scales), np.concatenate(points)


def _fit(rows: Array, importance: Array, levels: Levels, zeros: bool) -> tuple[Array, Array]:
    rows = rows.astype(np.float64)
    k = len(rows)
    best = np.full(k, np.inf)
    scale, zero = np.zeros(k), np.zeros(k)
    for start, point in _starts(rows, levels, zeros):
        safe = np.where(start == 0, 1.0, start)
        codes = np.clip(np.rint(rows / safe[:, None]) + point[:, None], levels.low, levels.high)
        codes -= point[:, None]
        weighed = importance * codes
        squares = np.sum(weighed * codes, axis=1)
        refit = np.where(
            squares > 0, np.sum(weighed * rows, axis=1) / np.where(squares > 0, squares, 1), safe
        )
        codes *= refit[:, None]
        codes -= rows
        error = np.sum(importance * np.square(codes), axis=1)
        better = (error < best) & (refit != 0)
        best[better], scale[better], zero[better] = error[better], refit[better], point[better]
    return scale, zero


def _starts(rows: Array, levels: Levels, zeros: bool) -> list[tuple[Array, Array]]:
    """Scales and zeros to begin from: those that a clipping of the largest entries gives. Each [k]."""
    if zeros:
        lowest, highest = np.minimum(rows.min(1), 0.0), np.maximum(rows.max(1), 0.0)
        made = []
        for share in levels.clippings:
            scale = share * (highest - lowest) / (levels.high - levels.low)
            safe = np.where(scale == 0, 1.0, scale)
            point = np.clip(np.rint(levels.low - share * lowest / safe), levels.low, levels.high)
            made.append((scale, point))
        return made
    extreme = np.take_along_axis(rows, np.abs(rows).argmax(1)[:, None], axis=1)[:, 0]
    none = np.zeros(len(rows))
    signed = [(share * extreme / levels.low, none) for share in levels.clippings]
    return signed + [(share * np.abs(extreme) / levels.high, none) for share in levels.clippings]


@dataclass(slots=True)
class _Codes:
    """The codes [m, n] of a map, with scales and zeros [m, ⌈n / size⌉]."""

    weight: Weight
    levels: Levels
    size: int
    zeros: bool
    codes: Array = field(init=False)
    scales: Array = field(init=False)
    """As the file will have them: float32."""
    points: Array = field(init=False)

    def __post_init__(self) -> None:
        m, groups = self.weight.outputs, -(-self.weight.inputs // self.size)
        self.codes = np.zeros((m, groups * self.size), dtype=np.int8)
        self.scales = np.zeros((m, groups), dtype=np.float32)
        self.points = np.zeros((m, groups), dtype=np.int8)

    @property
    def blocks(self) -> bool:
        """Whether there are several scales for an output."""
        return self.scales.shape[1] > 1

    def round(self) -> None:
        """Codes by the nearest level."""
        flat = self.weight.flat
        n = self.weight.inputs
        importance = self.weight.importance
        for group in range(self.scales.shape[1]):
            some = slice(group * self.size, min((group + 1) * self.size, n))
            scale, point = fit(flat[:, some], importance[some], self.levels, self.zeros)
            self.scales[:, group], self.points[:, group] = scale, point
        self._store_scales()
        for group in range(self.scales.shape[1]):
            some = slice(group * self.size, min((group + 1) * self.size, n))
            self.codes[:, some] = self._nearest(flat[:, some], group)

    def feed_back(self) -> None:
        """Codes by error feedback, the scales of each block fitted when it is reached."""
        assert self.weight.moment is not None
        starts = range(0, self.weight.inputs, self.size)
        fed_back(self.weight.flat, self.weight.moment, starts, self)
        self._store_scales()

    def begin(self, start: int, values: Array, importance: Array) -> None:
        """Fit the scales of a block."""
        group = start // self.size
        scale, point = fit(values, importance, self.levels, self.zeros)
        self.scales[:, group], self.points[:, group] = scale, point
        self._store_scales()

    def column(self, number: int, values: Array) -> Array:
        """Round a column."""
        group = number // self.size
        self.codes[:, number] = self._nearest(values[:, None], group)[:, 0]
        shifted = self.codes[:, number].astype(np.float64) - self.points[:, group]
        return shifted * self.scales[:, group]

    def rebuilt(self) -> Array:
        """The map that the file will hold, float32. → [m, n]."""
        m, groups = self.scales.shape
        shaped = self.codes.reshape(m, groups, self.size).astype(np.float32)
        shaped -= self.points[:, :, None]
        shaped *= self.scales[:, :, None]
        found: Array = shaped.reshape(m, -1)[:, : self.weight.inputs]
        return found

    def _nearest(self, values: Array, group: int) -> Array:
        scale, point = self.scales[:, group, None], self.points[:, group, None]
        steps = np.rint(values / np.where(scale == 0, 1, scale))
        codes: Array = np.clip(steps + point, self.levels.low, self.levels.high).astype(np.int8)
        return codes

    def _store_scales(self) -> None:
        """Let scales of blocks be what float16 multiples of the largest one can say."""
        if self.blocks:
            half, top = self._halves()
            self.scales = half.astype(np.float32) * np.float32(top)

    def _halves(self) -> tuple[Array, float]:
        """Scales as float16 multiples of a power of two, and that."""
        largest = float(np.abs(self.scales).max())
        top = 2.0 ** math.ceil(math.log2(largest)) if largest > 0 else 1.0
        return (self.scales / top).astype(np.float16), top

    # ------------------------------------------------------------ the file

    def put_together(self) -> Recipe:
        """Codes, times scales: operators that onnxruntime folds when it loads the file."""
        weight, (m, groups) = self.weight, self.scales.shape
        whole = weight.values.shape
        n = weight.inputs
        recipe = Recipe()
        if not self.blocks:
            by_row = (m,) + (1,) * (len(whole) - 1) if weight.rows_first else (m,)
            laid = self.codes if weight.rows_first else self.codes.T
            codes = self._as_float(recipe, "codes", laid.reshape(whole))
            if self.zeros:
                codes = recipe.step(
                    "Sub", codes, self._as_float(recipe, "zeros", self.points.reshape(by_row))
                )
            recipe.step("Mul", codes, recipe.keep("scale", self.scales.reshape(by_row)))
            return recipe
        if weight.rows_first:
            shaped, cut, ends = self.codes.reshape(m, groups, self.size), (m, groups * self.size), 1
            of_block = (m, groups, 1)
            scales, points = self.scales, self.points
        else:
            shaped, cut, ends = self.codes.T.reshape(groups, self.size, m), (groups * self.size, m), 0
            of_block = (groups, 1, m)
            scales, points = self.scales.T, self.points.T
        codes = self._as_float(recipe, "codes", shaped)
        if self.zeros:
            codes = recipe.step("Sub", codes, self._as_float(recipe, "zeros", points.reshape(of_block)))
        product = recipe.step("Mul", codes, self._scale(recipe, scales.reshape(of_block)))
        if groups * self.size > n:
            flat = recipe.shaped(product, cut)
            bounds = [
                recipe.keep(key, np.array([at], dtype=np.int64)) for key, at in (("from", 0), ("to", n))
            ]
            product = recipe.step(
                "Slice", flat, *bounds, recipe.keep("axis", np.array([ends], dtype=np.int64))
            )
        recipe.shaped(product, whole)
        return recipe

    def for_runtime(self, by_block: bool) -> Recipe:
        """`DequantizeLinear` before a product [n, m]: onnxruntime multiplies by the codes themselves."""
        recipe = Recipe()
        inputs = [recipe.keep("codes", self._codes(np.ascontiguousarray(self.codes.T)))]
        if by_block and self.blocks:
            inputs.append(self._scale(recipe, np.ascontiguousarray(self.scales.T)))
            points, where = self.points.T, {"axis": 0, "block_size": self.size}
        else:
            inputs.append(recipe.keep("scale", self.scales[:, 0].copy()))
            points, where = self.points[:, 0], {"axis": 1}
        if self.zeros:
            inputs.append(recipe.keep("zeros", self._codes(np.ascontiguousarray(points))))
        recipe.step("DequantizeLinear", *inputs, **where)
        return recipe

    def _codes(self, codes: Array) -> Array | Packed:
        return Packed(codes) if self.levels.bits == 4 else codes

    def _as_float(self, recipe: Recipe, key: str, codes: Array) -> str:
        return recipe.step("Cast", recipe.keep(key, self._codes(np.ascontiguousarray(codes))), to=FLOAT)

    def _scale(self, recipe: Recipe, scales: Array) -> str:
        """Scales of blocks, which are float16 multiples of one number."""
        _, top = self._halves()
        half = recipe.step(
            "Cast", recipe.keep("scales", (scales / np.float32(top)).astype(np.float16)), to=FLOAT
        )
        return recipe.step("Mul", half, recipe.keep("top", np.array(top, dtype=np.float32)))
