"""`codebook`: weights as numbers of entries of a table, one table for each group of outputs of like size.

Outputs are put in order by their scale, and neighbours share a table (the ordering of neurons of Yang & Wang,
2024, used for codebooks): where rows differ in scale, one table for all of them would be too coarse for the
small ones. A row keeps its place in the file, and a label says which table it reads.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tdsl.quantise.declare import Array, Limit, Packed, Recipe, Scheme, Stored, Weight
from tdsl.quantise.feedback import fed_back

FINEST = 300
"""Quantiles for which the best entries are computed, from which those for all numbers are found."""
ROUNDS = 200
"""Most alternations of entries and cells."""
SETTLED = 1e-5
"""Relative to their range, by how much entries move at most when that ends."""
SHARE_OF_TABLES = 64
"""Without a number of groups, tables take one in so many of the bytes of the codes."""
INT32 = 6
"""Among the element types of ONNX."""
PIECE = 2**22
"""Entries that are rounded at once."""


def store_codebook(weight: Weight, entries: int, groups: int | None, error: float) -> Stored | None:
    """A map by tables of `entries` numbers; `None` for what is no map."""
    if weight.rows_first is None:
        return None
    m, n = weight.outputs, weight.inputs
    if groups is None:
        groups = max(1, m * n * bits_of(entries) // 8 // SHARE_OF_TABLES // (4 * entries))
    labels = by_scale(weight.flat, min(groups, m))
    codes = Codes(tables(weight.flat, labels, entries, weight.importance), labels, n)
    codes.round(weight.flat)
    lost, how = weight.error(codes.rebuilt()), "rounded"
    if weight.moment is not None:
        fed = Codes(codes.tables, labels, n)
        fed_back(weight.flat, weight.moment, [0], fed)
        after = weight.error(fed.rebuilt())
        if after < lost:
            codes, lost, how = fed, after, "error feedback"
    return Stored(_recipe(weight, codes), lost, how)


def bits_of(entries: int) -> int:
    """Bits that a file takes for the number of an entry."""
    return 4 if entries <= 16 else 8


def by_scale(matrix: Array, groups: int) -> Array:
    """A label for each row of a map [m, n]: in order of their scale, as many rows to each group. → [m]"""
    m = len(matrix)
    scales = np.sqrt(np.einsum("ij,ij->i", matrix, matrix, dtype=np.float64))
    labels = np.empty(m, dtype=np.int32)
    labels[np.argsort(scales, kind="stable")] = np.arange(m) * groups // m
    return labels


def tables(matrix: Array, labels: Array, entries: int, importance: Array) -> Array:
    """The table of each group, in order of its numbers, float32. → [groups, entries]"""
    found = [
        lloyd(matrix[labels == group].ravel(), np.tile(importance, int((labels == group).sum())), entries)
        for group in range(int(labels.max()) + 1)
    ]
    return np.stack(found).astype(np.float32)


def lloyd(values: Array, importance: Array, entries: int) -> Array:
    """The entries that numbers [k] are nearest to, by weighted squares (Lloyd, 1982). → [entries], in order

    They begin at the optimum for quantiles of the numbers. Cells of sorted numbers are intervals, so that
    sums over them are differences of running sums.
    """
    order = np.argsort(values, kind="stable")
    values, importance = values[order].astype(np.float64), importance[order].astype(np.float64)
    weights, sums, squares = (
        np.concatenate([[0.0], np.cumsum(importance * values**power)]) for power in (0, 1, 2)
    )
    found = _of_quantiles(values, weights, sums, squares, entries)
    reach = float(values[-1] - values[0])
    for _ in range(ROUNDS):
        ends = np.searchsorted(values, (found[1:] + found[:-1]) / 2)
        moved = _means(weights, sums, np.concatenate([[0], ends, [len(values)]]), found)
        step = float(np.abs(moved - found).max())
        found = np.sort(moved)
        if step <= SETTLED * reach:
            break
    return found


def _of_quantiles(values: Array, weights: Array, sums: Array, squares: Array, entries: int) -> Array:
    """The best entries for numbers that are kept together by quantiles: a shortest path over their ends.

    Equal numbers are always kept together (optimal k-means in one dimension, Wang & Song, 2011).
    """
    starts = np.flatnonzero(np.concatenate([[True], values[1:] > values[:-1]]))
    wanted = max(FINEST, 2 * entries)
    if len(starts) > wanted:
        starts = starts[np.unique(np.linspace(0, len(starts) - 1, wanted).astype(np.int64))]
    ends = np.concatenate([starts, [len(values)]])
    if len(starts) <= entries:
        found = _means(weights, sums, ends, values[starts])
        return np.concatenate([found, np.full(entries - len(found), found[-1])])
    w, s, q = (part[ends] for part in (weights, sums, squares))
    inside = w[None, :] - w[:, None]
    cost = q[None, :] - q[:, None] - (s[None, :] - s[:, None]) ** 2 / np.where(inside > 0, inside, 1)
    cost[np.tril_indices(len(ends))] = np.inf
    best = cost[0]
    back = []
    for _ in range(entries - 1):
        through = best[:, None] + cost
        back.append(through.argmin(0))
        best = np.take_along_axis(through, back[-1][None], axis=0)[0]
    path = [len(ends) - 1]
    for step in reversed(back):
        path.append(int(step[path[-1]]))
    bounds = ends[[0, *reversed(path)]]
    return np.sort(_means(weights, sums, bounds, values[bounds[:-1]]))


def _means(weights: Array, sums: Array, bounds: Array, otherwise: Array) -> Array:
    """The means of intervals of sorted numbers, by running sums; what is given for those without weight."""
    inside = np.diff(weights[bounds])
    found: Array = np.where(inside > 0, np.diff(sums[bounds]) / np.where(inside > 0, inside, 1), otherwise)
    return found


@dataclass(slots=True)
class Codes:
    """Which entry of its row's table each number of a map is: tables [groups, entries], labels [m]."""

    tables: Array
    labels: Array
    inputs: int
    numbers: Array = field(init=False)
    """Of the entries, [m, n]."""

    def __post_init__(self) -> None:
        self.numbers = np.zeros((len(self.labels), self.inputs), dtype=np.uint8)

    def round(self, matrix: Array) -> None:
        """The nearest entries."""
        for group, table in enumerate(self.tables):
            rows = np.flatnonzero(self.labels == group)
            middles = (table[1:].astype(np.float64) + table[:-1]) / 2
            step = max(1, PIECE // max(1, self.inputs))
            for first in range(0, len(rows), step):
                some = rows[first : first + step]
                self.numbers[some] = np.searchsorted(middles, matrix[some])

    def begin(self, start: int, values: Array, importance: Array) -> None:
        """Nothing: the tables are those of all columns."""

    def column(self, number: int, values: Array) -> Array:
        """The nearest entries to a column [m], and what they are."""
        middles = (self.tables[:, 1:].astype(np.float64) + self.tables[:, :-1]) / 2
        found = (values[:, None] > middles[self.labels]).sum(1)
        self.numbers[:, number] = found
        entries: Array = self.tables[self.labels, found].astype(np.float64)
        return entries

    def rebuilt(self) -> Array:
        """The map that the file will hold, float32. → [m, n]"""
        found: Array = self.tables.reshape(-1)[self.numbers + self.offsets[:, None]]
        return found

    @property
    def offsets(self) -> Array:
        """Where the table of each row begins among the entries of all. → [m]"""
        return self.labels * np.int32(self.tables.shape[1])


def _recipe(weight: Weight, codes: Codes) -> Recipe:
    """Numbers of entries, those of a row moved on to its table, looked up."""
    recipe = Recipe()
    whole, (groups, entries) = weight.values.shape, codes.tables.shape
    laid = np.ascontiguousarray((codes.numbers if weight.rows_first else codes.numbers.T).reshape(whole))
    held: Array | Packed = Packed(laid, signed=False) if bits_of(entries) == 4 else laid
    numbers = recipe.step("Cast", recipe.keep("codes", held), to=INT32)
    if groups > 1:
        by_row = (-1,) + (1,) * (len(whole) - 1) if weight.rows_first else (-1,)
        narrow = codes.offsets.astype(np.uint16 if groups * entries <= 2**16 else np.int32).reshape(by_row)
        numbers = recipe.step("Add", numbers, recipe.step("Cast", recipe.keep("labels", narrow), to=INT32))
    recipe.step("Gather", recipe.keep("tables", codes.tables.reshape(-1)), numbers)
    return recipe


DECLARED = (
    Scheme(
        "codebook",
        "entries: Int = 16, groups: Int = none, error: Ratio = 20%",
        store_codebook,
        "Weights of layers and embeddings as numbers of the entries of tables that fit them best: in four "
        "bits up to 16 entries, else in eight. Outputs of like scale share a table, `groups` of them, or as "
        "many as cost little. With calibration data rounding errors are fed to later inputs where that loses "
        "less. A weight that would lose more than `error` stays as it is.",
        "Lloyd, 1982; Frantar et al., 2022",
        opset=lambda given: 21 if bits_of(given["entries"]) == 4 else 18,
        limits={
            "entries": Limit(lambda entries: 2 <= entries <= 256, "2 to 256 entries of a table"),
            "groups": Limit(lambda groups: groups >= 1, "at least one group of outputs"),
        },
        by_data=True,
    ),
)
