"""What a chain of transpositions and reshapes does: the source read by more axes, and one order of these.

A reshape keeps the order of the numbers and reads them by other axes. So each chain splits the axes of its
source into *parts*, orders the parts, and puts neighbours together again: at most three operators.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from tdsl.emit.sizes import Size, product, quotient


@dataclass(frozen=True)
class Arrangement:
    """A tensor as parts of the axes of a source: what its axes consist of, in order; axes of size 1 of none.

    `parts` are the sizes of the parts in the order in which the source has them.
    """

    source: tuple[Size, ...]
    parts: tuple[Size, ...]
    axes: tuple[tuple[int, ...], ...]

    @staticmethod
    def of(shape: Sequence[Size]) -> Arrangement:
        """A tensor of this shape as itself."""
        number = count()
        axes = tuple(() if size == 1 else (next(number),) for size in shape)
        return Arrangement(tuple(shape), tuple(size for size in shape if size != 1), axes)

    @property
    def shape(self) -> tuple[Size, ...]:
        """The sizes of the axes."""
        return tuple(product([self.parts[part] for part in axis]) for axis in self.axes)

    def transposed(self, order: Sequence[int]) -> Arrangement:
        """With the axes in this order."""
        return Arrangement(self.source, self.parts, tuple(self.axes[axis] for axis in order))

    def reshaped(self, shape: Sequence[Size]) -> Arrangement | None:
        """Read by the axes of `shape`; `None` if it is not seen how that takes the axes apart."""
        left = [part for axis in self.axes for part in axis]
        sizes = dict(enumerate(self.parts))
        splits: dict[int, tuple[int, ...]] = {}
        axes: list[tuple[int, ...]] = []
        for size in shape:
            axis: list[int] = []
            wanted: Size = size
            while wanted != 1:
                if not left:
                    return None
                part = left.pop(0)
                rest = quotient(wanted, sizes[part])
                if rest is None:  # the part is shared with the next axis
                    rest = quotient(sizes[part], wanted)
                    if rest is None:
                        return None
                    first, second = len(sizes), len(sizes) + 1
                    sizes[first], sizes[second] = wanted, rest
                    splits[part] = (first, second)
                    left.insert(0, second)
                    part, rest = first, 1
                axis.append(part)
                wanted = rest
            axes.append(tuple(axis))
        if left:
            return None
        return self._renumbered(sizes, splits, axes)

    def _renumbered(
        self, sizes: dict[int, Size], splits: dict[int, tuple[int, ...]], axes: Sequence[tuple[int, ...]]
    ) -> Arrangement:
        def whole(part: int) -> list[int]:
            return [leaf for piece in splits[part] for leaf in whole(piece)] if part in splits else [part]

        order = [leaf for part in range(len(self.parts)) for leaf in whole(part)]
        place = {part: index for index, part in enumerate(order)}
        return Arrangement(
            self.source,
            tuple(sizes[part] for part in order),
            tuple(tuple(place[part] for part in axis) for axis in axes),
        )

    def steps(self) -> tuple[tuple[Size, ...], tuple[int, ...] | None]:
        """By which axes the source is to be read, and in which order these come: `None` for their own.

        What results has the shape of this tensor, or is to be read by it. Of several ways this is one with
        the fewest operators.
        """
        order = [part for axis in self.axes for part in axis]
        if order == sorted(order):
            return self.source, None
        return min(self._ways(order), key=lambda way: self._operators(*way))

    def _ways(self, order: list[int]) -> list[tuple[tuple[Size, ...], tuple[int, ...]]]:
        """The source by its own axes, by those of the result, or by blocks of parts that stay together."""
        ways = []
        blocks = [[order[0]]]
        for part in order[1:]:
            if part == blocks[-1][-1] + 1:
                blocks[-1].append(part)
            else:
                blocks.append([part])
        ways.append(self._by(blocks))
        result = [list(axis) for axis in self.axes]
        if all(axis == list(range(axis[0], axis[0] + len(axis))) for axis in result if axis):
            ways.append(self._by(result))
        own = self._own_axes(order)
        if own is not None:
            ways.append(own)
        return ways

    def _by(self, groups: Sequence[list[int]]) -> tuple[tuple[Size, ...], tuple[int, ...]]:
        """Read by groups of neighbouring parts; those of none, of size 1, come first.

        What stays together at the end is then copied as one block: onnxruntime moves number by number where
        a last axis of size 1 goes elsewhere.
        """
        sorted_groups = sorted(range(len(groups)), key=lambda g: (bool(groups[g]), groups[g]))
        sizes = tuple(product([self.parts[part] for part in groups[g]]) for g in sorted_groups)
        return sizes, tuple(sorted_groups.index(g) for g in range(len(groups)))

    def _own_axes(self, order: list[int]) -> tuple[tuple[Size, ...], tuple[int, ...]] | None:
        """The axes of the source as they are, if none is taken apart."""
        axes, part = [], 0
        for size in self.source:
            axis: list[int] = []
            while product([self.parts[p] for p in axis]) != size:
                axis.append(part)
                part += 1
            axes.append(axis)
        by_first = {axis[0]: index for index, axis in enumerate(axes) if axis}
        found: list[int] = []
        flat: list[int] = []
        for part in order:
            if part in by_first:
                found.append(by_first[part])
                flat += axes[by_first[part]]
        if flat != order:
            return None
        ones = [index for index, axis in enumerate(axes) if not axis]
        places = [index for index, axis in enumerate(self.axes) if not axis]
        if len(ones) == len(places) and len(self.source) == len(self.axes):
            for one, place in zip(ones, places, strict=True):
                found.insert(place, one)
        else:
            found = ones + found
        return self.source, tuple(found)

    def _operators(self, read: tuple[Size, ...], order: tuple[int, ...]) -> tuple[int, int]:
        reshapes = (read != self.source) + (tuple(read[axis] for axis in order) != self.shape)
        return reshapes, len(read)
