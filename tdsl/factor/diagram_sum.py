"""A sum of diagrams as operators of a graph: what diagrams share is contracted, mixed and spread once.

A diagram takes a diagonal of its operand, sums over blocks of input axes alone, mixes channels, and writes
the result to a diagonal of its output, the same along blocks of output axes alone (Godfrey et al., 2023;
Pearce-Crump, 2023). Here the operators for any set of diagrams are chosen: sums of sums, one mix of channels
for all that is spread alike, small terms added to the next larger ones before they are spread.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch

from tdsl.factor.declare import TermFunction, Terms
from tdsl.factor.diagram_parts import Blocks, Contraction, Feature, Place, is_finer, joined, parts
from tdsl.symmetry.diagrams.diagram import Labels

FEW_CHANNELS = 8
"""Up to so many channels are repeated by a product, which runs along rows, and not by broadcasting."""
MOST_REPEATED = 16384
"""Numbers of the matrix of such a product."""
FEW_POSITIONS = 64
"""Fewer positions are not worth another operator."""
FEW_SUMMED = 4
"""Up to so many channels are summed over their neighbours by a product."""
FEW_PLACES = 32
"""At fewer places than this, and than channels, these stand side by side to be mixed: a product for each row
of x would be as narrow as there are places, and runtimes are up to ten times as slow at those."""


def diagram_sum(terms: Terms, x: Any, mixes: Any, *structure: Any) -> Any:
    """Σ_d K[d] ⊗ D_d applied to x, the channels of an entry side by side.

    x [..., n^k·q], K [d, p, q] → [b, n, …, p] with l axes, b as many as x has rows. `structure` is, for each
    group of axes, the blocks of output axes [d, l], those of input axes [d, k] and the indices [n]: axes of
    one group with equal labels have equal indices.
    """
    return _Sum(terms, mixes, structure, channels_last=True).of(x)


def diagram_sum_planes(terms: Terms, x: Any, mixes: Any, *structure: Any) -> Any:
    """As `diagram_sum`, with the entries of a channel side by side. → [b, p, n, …]"""
    planes = _Sum(terms, mixes, structure, channels_last=False)
    if planes.places >= min(FEW_PLACES, planes.p, planes.q):
        return planes.of(x)
    entries = math.prod(planes.diagrams.inputs), math.prod(planes.diagrams.outputs)
    columns = terms("permute", terms("reshape", x, [-1, planes.q, entries[0]]), [0, 2, 1])
    rows = terms("reshape", diagram_sum(terms, columns, mixes, *structure), [-1, entries[1], planes.p])
    return terms("reshape", terms("permute", rows, [0, 2, 1]), [-1, planes.p, *planes.diagrams.outputs])


class _Sum:
    def __init__(self, terms: Terms, mixes: Any, structure: Sequence[Any], *, channels_last: bool) -> None:
        self.terms = terms
        self.mixes = mixes
        self.channels_last = channels_last
        self.diagrams = joined(*(terms.known(part) for part in structure))
        self.count, self.p, self.q = terms.known(mixes).shape
        self.contracted: dict[Contraction, Any] = {}
        self.merged: dict[tuple[Feature, ...], Any] = {}

    def of(self, x: Any) -> Any:
        """The sum applied to x."""
        places: dict[Place, dict[Feature, list[int]]] = {}
        for number, (out, into) in enumerate(self.diagrams.labels):
            place, feature = parts(out, into)
            places.setdefault(place, {}).setdefault(feature, []).append(number)
        self.x = x
        needed = {feature.contraction for features in places.values() for feature in features}
        for contraction in sorted(needed, key=lambda c: (-len(c.kept), c.partition, c.kept)):
            self.contracted[contraction] = self.contraction(contraction)
        values: dict[Labels, dict[Blocks, Any]] = {}
        for place, features in places.items():
            values.setdefault(place.partition, {})[place.along] = self.broadcast(place, features)
        return self.spread(values)

    @property
    def places(self) -> int:
        """At how many places channels are mixed, where these are most."""
        written = [parts(*labels)[0] for labels in self.diagrams.labels]
        return max(math.prod(self.lengths(one.partition)[block] for block in one.along) for one in written)

    # ------------------------------------------------------------ layout

    def reshape(self, value: Any, sizes: Sequence[int], channels: int) -> Any:
        """Axes of these sizes, the channels behind or in front of them."""
        return self.terms("reshape", value, self.shape(sizes, channels))

    def shape(self, sizes: Sequence[int], channels: int | None = None) -> list[int]:
        """Of a value with axes of these sizes."""
        count = self.p if channels is None else channels
        return [-1, *sizes, count] if self.channels_last else [-1, count, *sizes]

    def axis(self, place: int) -> int:
        """The axis of a value that stands at a place, not counting batch and channels."""
        return place + (1 if self.channels_last else 2)

    # ------------------------------------------------------------ contracting

    def contraction(self, wanted: Contraction) -> Any:
        """The sum over blocks of what is there already, or of a diagonal."""
        count = max(wanted.partition, default=-1) + 1
        larger = [
            known
            for known in self.contracted
            if known.partition == wanted.partition and set(known.kept) > set(wanted.kept)
        ]
        source = min(larger, key=lambda c: math.prod(self.sizes(c)), default=None)
        if source is None:
            source = Contraction(wanted.partition, tuple(range(count)))
            value = self.diagonal(wanted.partition)
            if source == wanted:
                return value
        else:
            value = self.contracted[source]
        dims = [self.axis(place) for place, block in enumerate(source.kept) if block not in wanted.kept]
        last = len(source.kept) - 1
        sizes = self.sizes(source)
        narrow = self.channels_last and self.q <= FEW_SUMMED and math.prod(sizes) >= FEW_POSITIONS
        if narrow and self.axis(last) in dims:
            ones = torch.eye(self.q, dtype=torch.float64).repeat(1, sizes[last])
            row = self.terms("reshape", value, [-1, *sizes[:last], sizes[last] * self.q])
            value = self.terms("linear", row, self.terms.constant(ones))
            dims.remove(self.axis(last))
        return self.terms("sum", value, dims) if dims else value

    def sizes(self, contraction: Contraction) -> tuple[int, ...]:
        """The sizes of its axes."""
        first = [contraction.partition.index(block) for block in contraction.kept]
        return tuple(self.diagrams.inputs[axis] for axis in first)

    @cached_property
    def entries(self) -> Any:
        """The operand with an axis for each of its axes."""
        return self.reshape(self.x, self.diagrams.inputs, self.q)

    def diagonal(self, partition: Labels) -> Any:
        """The entries at which the axes of a block have equal indices; one axis for each block."""
        blocks = max(partition, default=-1) + 1
        inputs = self.diagrams.inputs
        if blocks == len(inputs):
            return self.entries
        sizes = [inputs[partition.index(block)] for block in range(blocks)]
        if list(partition) == sorted(partition):  # neighbours: every so many entries of a row
            members = [partition.count(block) for block in range(blocks)]
            whole = [n**count for n, count in zip(sizes, members, strict=True)]
            value = self.reshape(self.x, whole, self.q)
            for place, (n, count) in enumerate(zip(sizes, members, strict=True)):
                if count > 1:
                    step = (n**count - 1) // (n - 1) if n > 1 else 1
                    value = self.terms("slice", value, self.axis(place), 0, whole[place], step)
            return value
        steps = [math.prod(inputs[axis + 1 :]) for axis in range(len(inputs))]
        index = torch.zeros((), dtype=torch.int64)
        for block, n in enumerate(sizes):
            step = sum(s for s, label in zip(steps, partition, strict=True) if label == block)
            index = index[..., None] + step * torch.arange(n)
        row = self.reshape(self.x, (math.prod(inputs),), self.q)
        taken = self.terms("index_select", row, self.axis(0), self.terms.constant(index.flatten()))
        return self.reshape(taken, sizes, self.q)

    # ------------------------------------------------------------ mixing channels

    def mixed(self, place: Place, features: dict[Feature, list[int]]) -> Any:
        """What is written to a place: the features, each with its mix of channels, added."""
        lengths = self.lengths(place.partition)
        sizes = tuple(lengths[block] for block in place.along)
        large = math.prod(sizes) >= math.prod(self.diagrams.inputs)
        ordered = sorted(features, key=lambda f: (f.contraction.partition, f.contraction.kept, f.order))
        groups = [(feature,) for feature in ordered] if large else [tuple(ordered)]
        parts = []
        for group in groups:
            weights = [self.mix(features[feature]) for feature in group]
            weight = weights[0] if len(weights) == 1 else self.terms("concat", weights, 1)
            parts.append(self.layer(self.together(group), weight, sizes, len(group)))
        return self.added(parts)

    def mix(self, numbers: Sequence[int]) -> Any:
        """The mix of channels of a diagram, or of several that are the same. [p, q]"""
        rows = [self.terms("slice", self.mixes, 0, number, number + 1) for number in numbers]
        return self.added([self.terms("reshape", row, [self.p, self.q]) for row in rows])

    def together(self, features: tuple[Feature, ...]) -> Any:
        """The channels of several features side by side."""
        if features not in self.merged:
            values = [self.turned(feature) for feature in features]
            channel = 1 if not self.channels_last else 1 + len(features[0].order)
            self.merged[features] = values[0] if len(values) == 1 else self.terms("concat", values, channel)
        return self.merged[features]

    def turned(self, feature: Feature) -> Any:
        """A contraction with its axes in the order of the output."""
        value, order = self.contracted[feature.contraction], feature.order
        if order == tuple(range(len(order))):
            return value
        axes = [self.axis(place) for place in order]
        return self.terms(
            "permute", value, [0, *axes, len(order) + 1] if self.channels_last else [0, 1, *axes]
        )

    def layer(self, value: Any, weight: Any, sizes: tuple[int, ...], count: int) -> Any:
        """Channels mixed at every position."""
        if self.channels_last:
            return self.terms("linear", value, weight)
        row = value if len(sizes) == 1 else self.reshape(value, (math.prod(sizes),), count * self.q)
        result = self.terms("matmul", weight, row)
        return result if len(sizes) == 1 else self.reshape(result, sizes, self.p)

    def added(self, parts: Sequence[Any]) -> Any:
        total = parts[0]
        for part in parts[1:]:
            total = self.terms("add", total, part)
        return total

    # ------------------------------------------------------------ spreading

    def spread(self, values: dict[Labels, dict[Blocks, Any]]) -> Any:
        """Values at diagonals of the output put together, those of few entries first."""
        whole = tuple(range(len(self.diagrams.outputs)))
        while True:
            partition = min(values, key=lambda labels: (max(labels, default=-1), labels))
            along, value = self.gathered(partition, values.pop(partition))
            if partition == whole:
                return self.everywhere(value, along)
            finer = [other for other in values if other != partition and is_finer(other, partition)]
            target = min([*finer, whole], key=lambda labels: (max(labels), labels))
            blocks, part = self.embedded(value, partition, along, target)
            there = values.setdefault(target, {})
            there[blocks] = self.terms("add", there[blocks], part) if blocks in there else part

    def lengths(self, partition: Labels) -> list[int]:
        """The size of each block of output axes."""
        return [self.diagrams.outputs[partition.index(b)] for b in range(max(partition, default=-1) + 1)]

    def broadcast(self, place: Place, features: dict[Feature, list[int]]) -> Any:
        """What is written to a place, with an axis for each block, of size 1 where it is not along that."""
        value, sizes = self.mixed(place, features), self.lengths(place.partition)
        if len(place.along) == len(sizes):
            return value
        return self.reshape(value, [n if b in place.along else 1 for b, n in enumerate(sizes)], self.p)

    def gathered(self, partition: Labels, values: dict[Blocks, Any]) -> tuple[Blocks, Any]:
        """The sum of values along some blocks each, and the blocks along which it is."""
        sizes, shaped = self.lengths(partition), dict(values)

        def entries(along: Blocks) -> tuple[int, Blocks]:
            return math.prod(sizes[block] for block in along), along

        small = sorted(shaped, key=entries)
        total: Any = None
        covered: set[int] = set()
        for place, along in enumerate(small):
            target = next((other for other in small[place + 1 :] if set(other) >= set(along)), None)
            if target is not None:
                value = self.repeated(shaped[along], along, target, sizes)
                shaped[target] = self.terms("add", shaped[target], value)
                continue
            if total is None:
                total = shaped[along]
            else:
                total = self.repeated(total, tuple(sorted(covered)), along, sizes)
                total = self.terms("add", shaped[along], total)
            covered |= set(along)
        return tuple(sorted(covered)), total

    def repeated(self, value: Any, along: Blocks, other: Blocks, sizes: list[int]) -> Any:
        """A value that is to be added to one along other blocks, the same along the last axis already.

        Few channels beside an axis of size 1 are added a few numbers at a time; a product is faster.
        """
        last = len(sizes) - 1
        count = self.p * self.p * sizes[last] if sizes else 0
        if not self.channels_last or last in along or last not in other:
            return value
        if self.p > FEW_CHANNELS or count > MOST_REPEATED or math.prod(sizes) < FEW_POSITIONS:
            return value
        tiled = torch.eye(self.p, dtype=torch.float64).repeat(sizes[last], 1)
        row = [sizes[b] if b in along else 1 for b in range(last)]
        flat = self.terms("reshape", value, [-1, *row, self.p])
        return self.reshape(
            self.terms("linear", flat, self.terms.constant(tiled)), [*row, sizes[last]], self.p
        )

    def embedded(self, value: Any, partition: Labels, along: Blocks, target: Labels) -> tuple[Blocks, Any]:
        """A value on the diagonal of a finer partition: there, and zero elsewhere."""
        sizes = self.lengths(target)
        block = [partition[target.index(b)] for b in range(len(sizes))]  # the block of each finer block
        joint = {b for b in block if block.count(b) > 1}
        full = {block.index(b): sizes[block.index(b)] if b in along or b in joint else 1 for b in set(block)}
        if not joint <= set(along):
            value = self.terms("expand", value, self.shape([full[place] for place in sorted(full)]))
        for place, own in enumerate(block):
            if block.index(own) != place:
                before = max(other for other in full if block[other] == own and other < place)
                value = self.doubled(value, full, before, place)
                full[place] = sizes[place]
        value = self.reshape(value, [full[place] for place in range(len(sizes))], self.p)
        return tuple(b for b in range(len(sizes)) if block[b] in joint or block[b] in along), value

    def doubled(self, value: Any, sizes: dict[int, int], before: int, place: int) -> Any:
        """One more axis at `place` with the index of the axis at `before`; zero where the two are not equal.

        `sizes` are those of the axes that are there, by place. Entries of a diagonal are equally far apart: a
        row of zeros behind each entry puts them there, which copies long runs and multiplies nothing.
        """
        n = sizes[before]
        inside = math.prod(size for other, size in sizes.items() if before < other < place)
        behind = math.prod(size for other, size in sizes.items() if other > place)
        run = behind * self.p if self.channels_last else behind
        if inside > 1:
            value = self.terms("reshape", value, [-1, inside, run])
            value = self.terms("pad", value, [0, (n - 1) * run])
            value = self.terms("reshape", value, [-1, n, inside * n * run])
            value = self.terms("pad", value, [0, run])
        else:
            value = self.terms("reshape", value, [-1, n, run])
            value = self.terms("pad", value, [0, n * run])
        value = self.terms("reshape", value, [-1, n * (inside * n + 1) * run])
        return self.terms("slice", value, 1, 0, n * inside * n * run)

    def everywhere(self, value: Any, along: Blocks) -> Any:
        """The value with every axis of the output in full."""
        outputs = self.diagrams.outputs
        if all(n == 1 or place in along for place, n in enumerate(outputs)):
            return value
        return self.terms("expand", value, self.shape(outputs))


def _shape(x: Sequence[int], mixes: Sequence[int], *structure: Sequence[int]) -> tuple[list[int], int, int]:
    """The sizes of output axes, the channels, the rows of x. Raises `ValueError` where these do not fit."""
    groups = [structure[i : i + 3] for i in range(0, len(structure), 3)]
    outputs = [indices[0] for out, _, indices in groups for _ in range(out[1])]
    columns = mixes[2] * math.prod(indices[0] ** into[1] for _, into, indices in groups)
    if x[-1] != columns or any(part[0] != mixes[0] for group in groups for part in group[:2]):
        raise ValueError(f"{mixes[0]} diagrams of {columns} inputs, applied to a value of shape {list(x)}")
    return outputs, mixes[1], math.prod(x[:-1])


def _sum_shape(*shapes: Sequence[int]) -> tuple[int, ...]:
    outputs, p, rows = _shape(*shapes)
    return (rows, *outputs, p)


def _planes_shape(*shapes: Sequence[int]) -> tuple[int, ...]:
    outputs, p, rows = _shape(*shapes)
    return (rows, p, *outputs)


DECLARED = (
    TermFunction(
        "diagram_sum",
        ("x", "K", "structure..."),
        diagram_sum,
        _sum_shape,
        "The sum of diagrams with mixes of channels K, applied to x [..., n^k·q] → [b, n, …, p].",
    ),
    TermFunction(
        "diagram_sum_planes",
        ("x", "K", "structure..."),
        diagram_sum_planes,
        _planes_shape,
        "The same with the entries of a channel side by side.",
    ),
)
