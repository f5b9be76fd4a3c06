"""Convolutions by irreducible spaces: a small matrix for each kind of field, a convolution for each space.

All dimensions of a space have the same kernel, so that they are images of one batch, and its copies in all
fields are channels of one convolution: few and wide, which runtimes compute in blocks of channels, where many
narrow groups of one convolution are slow (docs/finite-groups.md). Channels are looked up in the order of the
fields, also where places ran fastest: lookups of neighbouring layers become one, or none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tdsl.factor.declare import TermFunction, Terms
from tdsl.factor.place_terms import picked
from tdsl.factor.space_products import Product, connected, summed


def convolved_by_spaces(
    terms: Terms, x: Any, weight: Any, stride: Any, padding: Any, dilation: Any, *factors: Any
) -> Any:
    """The ten factors of `group_channels` as a convolution, taps and groups as of W. [n, c, …] → [n, o, …]

    A bias is added that may follow the factors.
    """
    convolution = _Convolution(terms, weight, [stride, padding, dilation], transposed=False)
    channels = terms.shape(x)[1]
    layer = _Layer(convolution, channels // terms.shape(weight)[1], channels, *factors[:10])
    return layer.applied(x, *factors[10:])


def transposed_by_spaces(
    terms: Terms,
    x: Any,
    weight: Any,
    stride: Any,
    padding: Any,
    more: Any,
    groups: int,
    dilation: Any,
    *factors: Any,
) -> Any:
    """The same as a transposed convolution. [n, c, …] → [n, o, …]"""
    convolution = _Convolution(terms, weight, [stride, padding, more, dilation], transposed=True)
    layer = _Layer(convolution, groups, terms.shape(x)[1], *factors[:10])
    return layer.applied(x, *factors[10:])


@dataclass(frozen=True, slots=True)
class _Convolution:
    """An operator with everything but its operands."""

    terms: Terms
    weight: Any
    window: list[Any]
    transposed: bool

    @property
    def taps(self) -> tuple[int, ...]:
        """The sizes of the window."""
        return self.terms.shape(self.weight)[2:]

    def kernel(self, apart: Any) -> Any:
        """Numbers [read, written, groups, taps] as a kernel."""
        read, written, groups, _ = self.terms.shape(apart)
        order = [2, 0, 1, 3] if self.transposed else [2, 1, 0, 3]
        rows, columns = (read, written) if self.transposed else (written, read)
        ordered = self.terms("permute", apart, order)
        return self.terms("reshape", ordered, [groups * rows, columns, *self.taps])

    def __call__(self, x: Any, kernel: Any, groups: int) -> Any:
        name = f"conv_transpose{len(self.taps)}d" if self.transposed else f"conv{len(self.taps)}d"
        return self.terms(name, x, kernel, None, *self.window[:3], groups, *self.window[3:])


@dataclass(frozen=True, slots=True)
class _Kind:
    """Channels that stand at the same places, and their rows of a matrix on these."""

    stands: tuple[int, ...]
    """For some places the first place at which the same number stands."""
    channels: list[int]
    rows: dict[tuple[int, int], Tensor]
    """By copy and dimension which rows of the matrix are theirs, [t] bool."""

    @property
    def first(self) -> list[int]:
        """The first place of each number."""
        return sorted(set(self.stands))

    @property
    def width(self) -> int:
        """How many numbers all channels have."""
        return len(self.first) * len(self.channels)

    def copies(self, wanted: Sequence[int]) -> list[int]:
        """Those of some copies that the kind has."""
        have = {copy for copy, _ in self.rows}
        return [copy for copy in wanted if copy in have]

    def chosen(self, wanted: Sequence[int], dimensions: Sequence[int]) -> list[Tensor]:
        """Which rows each copy has in each dimension, dimensions running slowest."""
        none = torch.zeros_like(next(iter(self.rows.values()))) if self.rows else torch.zeros(0)
        ways = [(copy, dimension) for dimension in dimensions for copy in self.copies(wanted)]
        return [self.rows.get(way, none) for way in ways]


def _kinds(stands: list[tuple[int, ...]], names: Tensor, labels: Tensor) -> list[_Kind]:
    """The kinds of channels that stand at these places and have these names [c].

    Rows have labels [t, 3]: the name of the channels, copy and dimension.
    """
    found: dict[tuple[int, tuple[int, ...]], list[int]] = {}
    for channel, (name, places) in enumerate(zip(names.tolist(), stands, strict=True)):
        if places:
            found.setdefault((name, places), []).append(channel)
    return [
        _Kind(
            places,
            channels,
            {
                (copy, dimension): (labels == torch.tensor([name, copy, dimension])).all(1)
                for of, copy, dimension in labels.tolist()
                if of == name
            },
        )
        for (name, places), channels in found.items()
    ]


class _Layer:
    """Kinds of fields on both sides and the spaces that they share, from the factors of `group_channels`.

    Values between the steps are [n, groups, …], pixels last.
    """

    def __init__(
        self,
        convolution: _Convolution,
        groups: int,
        channels: int,
        order: Any,
        names: Any,
        into: Any,
        entering: Any,
        products: Any,
        pairs: Any,
        back: Any,
        leaving: Any,
        row_names: Any,
        rows: Any,
    ) -> None:
        terms = self.terms = convolution.terms
        self.convolution, self.groups, self.each = convolution, groups, channels // groups
        self.into, self.products, self.back = into, products, back
        self.order, self.pairs = terms.known(order) % self.each, terms.known(pairs)
        labels, row_labels = terms.known(entering), terms.known(leaving)
        names, row_names = terms.known(names), terms.known(row_names)
        width = self.channels = len(row_names)
        self.rows = (terms.known(rows) % (terms.shape(back)[0] * width)).tolist()
        wanted: list[set[int]] = [set() for _ in row_names]
        for row in self.rows:
            wanted[row % width].add(row // width)
        first = [tuple(column.index(one) for one in column) for column in self.order.T.tolist()]
        self.read = _kinds(first, names, labels)
        self.written = _kinds([tuple(sorted(places)) for places in wanted], row_names, row_labels)
        entered, left = (
            known[torch.isin(known[:, 0], of[[kind.channels[0] for kind in kinds]])][:, 1:]
            for known, of, kinds in ((labels, names, self.read), (row_labels, row_names, self.written))
        )
        self.spaces = list(connected(entered, self.pairs, left))

    def applied(self, x: Any, bias: Any = None) -> Any:
        """[n, c, …] → [n, o, …], a bias [o] added."""
        terms = self.terms
        count = terms.shape(x)[0]
        values = [
            self.convolution(value, self._kernel(space), self.groups)
            for space, value in zip(self.spaces, self._spaces(x), strict=True)
        ]
        left = self._left(values, count)
        missing = [kind for kind, parts in zip(self.written, left, strict=True) if not parts]
        if missing or not values:  # of what no space writes
            shape = self.each, 1, self.groups, math.prod(self.convolution.taps)
            nothing = self.convolution.kernel(terms.constant(torch.zeros(shape, dtype=torch.float64)))
            values = [self.convolution(x, nothing, self.groups)]
        sizes = list(terms.shape(values[0])[2:])
        found = []
        for kind, parts in zip(self.written, left, strict=True):
            if parts:
                mixed = terms("matmul", self._back(kind), _joined(terms, parts, 2))
            else:
                empty = terms.constant(torch.zeros(kind.width, 1, dtype=torch.float64))
                mixed = terms("matmul", empty, terms("reshape", values[0], [count, self.groups, 1, -1]))
            found.append(terms("reshape", mixed, [count, self.groups, kind.width, -1]))
        width = self.groups * sum(kind.width for kind in self.written)
        whole = terms("reshape", _joined(terms, found, 2), [count, width, *sizes])
        result = picked(terms, whole, self._places())
        if bias is None:
            return result
        return terms("add", result, terms("reshape", bias, [self.groups * len(self.rows), *[1] * len(sizes)]))

    def _spaces(self, x: Any) -> list[Any]:
        """What is read of each space. [n, c, …] → [n·dimensions, groups·copies·channels, …]"""
        terms = self.terms
        count, _, *sizes = terms.shape(x)
        places = torch.cat([self.order[kind.first][:, kind.channels].flatten() for kind in self.read])
        looked_up = torch.cat([places + self.each * group for group in range(self.groups)])
        whole = picked(terms, x, looked_up)
        grouped = terms("reshape", whole, [count, self.groups, len(places), -1])
        entering: list[list[Any]] = [[] for _ in self.spaces]
        of_kinds = _parts(terms, grouped, [kind.width for kind in self.read], 2)
        for kind, value in zip(self.read, of_kinds, strict=True):
            wanted = [kind.chosen(space.read, space.dimensions) for space in self.spaces]
            if not any(wanted):
                continue
            matrix = summed(terms, self.into, [row for rows in wanted for row in rows])
            if len(kind.first) < len(kind.stands):
                stands = torch.tensor(kind.stands)[:, None] == torch.tensor(kind.first)
                matrix = terms("matmul", matrix, terms.constant(stands.to(torch.float64)))
            mixed = terms(
                "matmul", matrix, terms("reshape", value, [count, self.groups, len(kind.first), -1])
            )
            held = [place for place, rows in enumerate(wanted) if rows]
            parts = _parts(terms, mixed, [len(wanted[place]) for place in held], 2)
            for place, part in zip(held, parts, strict=True):
                d = len(self.spaces[place].dimensions)
                entering[place].append(terms("reshape", part, [count, self.groups, d, -1]))
        found = []
        for space, values in zip(self.spaces, entering, strict=True):
            value = _joined(terms, values, 3)
            if len(space.dimensions) > 1 and self.groups > 1:
                value = terms("permute", value, [0, 2, 1, 3])
            width = sum(len(kind.copies(space.read)) * len(kind.channels) for kind in self.read)
            found.append(terms("reshape", value, [-1, self.groups * width, *sizes]))
        return found

    def _kernel(self, space: Product) -> Any:
        """The kernel of a space, of which the copies in all fields are channels."""
        terms = self.terms
        f, q, p, _ = terms.shape(self.products)
        wanted = [(read, written) for read in space.read for written in space.written]
        chosen = torch.tensor([[tuple(pair) == one for pair in self.pairs.tolist()] for one in wanted])
        flat = summed(terms, terms("reshape", self.products, [f, -1]), list(chosen))
        read = _channels(self.read, space.read)
        written = _channels(self.written, space.written)
        pair = read[:, None, 0] * len(space.written) + written[:, 0]
        places = (pair * q + read[:, None, 1]) * p + written[:, 1]
        blocks = terms("reshape", flat, [len(wanted) * q * p, -1])
        taken = picked(terms, blocks, places.flatten(), axis=0)
        return self.convolution.kernel(terms("reshape", taken, [len(read), len(written), self.groups, -1]))

    def _left(self, values: list[Any], count: Any) -> list[list[Any]]:
        """For each kind what all spaces write. → [n, groups, copies, channels·pixels]"""
        terms = self.terms
        found: list[list[Any]] = [[] for _ in self.written]
        for space, value in zip(self.spaces, values, strict=True):
            d = len(space.dimensions)
            widths = [len(kind.copies(space.written)) * len(kind.channels) for kind in self.written]
            turned = d > 1 and self.groups > 1
            apart = [d, self.groups] if turned else [self.groups, d]
            whole = terms("reshape", value, [count, *apart, sum(widths), -1])
            if turned:
                whole = terms("permute", whole, [0, 2, 1, 3, 4])
            held = [place for place, width in enumerate(widths) if width]
            for place, part in zip(held, _parts(terms, whole, [widths[i] for i in held], 3), strict=True):
                rows = d * len(self.written[place].copies(space.written))
                found[place].append(terms("reshape", part, [count, self.groups, rows, -1]))
        return found

    def _back(self, kind: _Kind) -> Any:
        """The matrix from the copies of all spaces to the places of a kind. → [places, t]"""
        terms = self.terms
        wanted = [row for space in self.spaces for row in kind.chosen(space.written, space.dimensions)]
        rows = summed(terms, terms("permute", self.back, [1, 0]), wanted)
        return terms("permute", picked(terms, rows, torch.tensor(kind.first)), [1, 0])

    def _places(self) -> Tensor:
        """Where each row stands among the numbers of all kinds, for each group. [groups·m] int64"""
        count = 0
        at: dict[tuple[int, int], int] = {}
        for kind in self.written:
            ways = [(place, channel) for place in kind.first for channel in kind.channels]
            at |= {way: count + number for number, way in enumerate(ways)}
            count += kind.width
        own = torch.tensor([at[divmod(row, self.channels)] for row in self.rows])
        return torch.cat([own + group * count for group in range(self.groups)])


def _channels(kinds: list[_Kind], copies: Sequence[int]) -> Tensor:
    """Which copy and channel each channel of a space is. → [k, 2] int64"""
    return torch.tensor([
        (copies.index(copy), channel)
        for kind in kinds
        for copy in kind.copies(copies)
        for channel in kind.channels
    ])  # fmt: skip


def _joined(terms: Terms, values: list[Any], axis: int) -> Any:
    return terms("concat", values, axis) if len(values) > 1 else values[0]


def _parts(terms: Terms, value: Any, sizes: list[int], axis: int) -> list[Any]:
    return terms.split(value, sizes, axis) if len(sizes) > 1 else [value]


def _convolved_shape(
    x: Sequence[int],
    weight: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    *factors: Sequence[int],
) -> tuple[int, ...]:
    """The shape of `convolved_by_spaces`. Raises `ValueError` where the sizes do not fit."""
    _fits(x, weight)
    windows = zip(x[2:], weight[2:], stride, padding, dilation, strict=True)
    sizes = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in windows]
    return x[0], x[1] // weight[1] * factors[9][0], *sizes


def _transposed_shape(
    x: Sequence[int],
    weight: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    more: Sequence[int],
    groups: int,
    dilation: Sequence[int],
    *factors: Sequence[int],
) -> tuple[int, ...]:
    """The shape of `transposed_by_spaces`. Raises `ValueError` where the sizes do not fit."""
    _fits(x, weight)
    windows = zip(x[2:], weight[2:], stride, padding, more, dilation, strict=True)
    sizes = [(n - 1) * s - 2 * p + d * (k - 1) + e + 1 for n, k, s, p, e, d in windows]
    return x[0], groups * factors[9][0], *sizes


def _fits(x: Sequence[int], weight: Sequence[int]) -> None:
    if len(x) != len(weight) or len(x) < 3:
        raise ValueError(f"a convolution of a value of shape {list(x)} by a kernel of shape {list(weight)}")


FACTORS = ("J", "U", "T", "I", "D", "C", "B", "O", "V", "R", "b?")

DECLARED = (
    TermFunction(
        "convolved_by_spaces",
        ("x", "W", "stride", "padding", "dilation", *FACTORS),
        convolved_by_spaces,
        _convolved_shape,
        "x convolved by the ten factors of `group_channels`, taps and groups as of W, a bias added.",
    ),
    TermFunction(
        "transposed_by_spaces",
        ("x", "W", "stride", "padding", "output_padding", "groups", "dilation", *FACTORS),
        transposed_by_spaces,
        _transposed_shape,
        "The same of a transposed convolution.",
    ),
)
