"""Layers and convolutions by irreducible spaces: a small matrix for each kind of field, an operator a space.

All dimensions of a space have the same kernel, so that they are images of one batch, and its copies in all
fields are channels of one convolution: few and wide. Spaces of equal sizes are groups of a convolution where
their channels make whole blocks of a runtime's kernels; other groups of a convolution are slow
(docs/finite-groups.md). Dense layers are the same without pixels, spaces of equal sizes a batch at a single
row. Channels are looked up in the order of the fields, also where places ran fastest: lookups of neighbouring
layers become one, or none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from tdsl.factor.declare import CompileTimeFunction, TermFunction, Terms
from tdsl.factor.place_terms import picked
from tdsl.factor.space_products import MOST_LAYERS, Named, Product, connected, in_blocks, named, summed


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


def layer_by_spaces(terms: Terms, x: Any, *factors: Any) -> Any:
    """The ten factors of `group_channels` of one matrix [m, c] applied to rows. x [b, c] → [b, m]

    Raises `ValueError` for factors of several matrices.
    """
    rows, channels = terms.shape(x)
    layer = _Layer(_Dense(terms, rows == 1), 1, channels, *factors)
    held = sum(math.prod(terms.shape(kernel)) for kernel in layer.kernels)
    return in_blocks(terms, x, layer.applied, channels * len(layer.rows) // max(1, held))


def products_in_blocks(
    names: Tensor, entering: Tensor, pairs: Tensor, leaving: Tensor, row_names: Tensor, block: int
) -> int:
    """How many multiplications a matrix takes by spaces, channels of each space filled up to whole blocks.

    A space of fewer channels than a block counts twice: no kernel of a runtime reads it in blocks. The labels
    are those of `group_channels`: what is read, of T, of D, of B, and what is written.
    """
    total = 0
    for space in connected(entering[:, 1:], pairs, leaving[:, 1:]):
        widths = [
            sum(
                int((own == kind).sum())
                for kind, copy in {(kind, copy) for kind, copy, _ in labels.tolist()}
                if copy in copies
            )
            for labels, own, copies in ((entering, names, space.read), (leaving, row_names, space.written))
        ]
        filled = math.prod(-(-width // block) * block for width in widths)
        total += len(space.dimensions) * filled * (2 if min(widths) < block else 1)
    return total


class _Operator(Protocol):
    """What is done in each space, with everything but its operands."""

    @property
    def terms(self) -> Terms: ...
    @property
    def taps(self) -> tuple[int, ...]:
        """The sizes of the window."""

    def together(self, spaces: Sequence[Product], widths: tuple[int, int]) -> bool:
        """Whether spaces of equal sizes, which read and write so many channels, are one operator."""

    def kernel(self, apart: Any) -> Any:
        """Numbers [read, written, groups, spaces, taps] as an operand."""

    def __call__(self, x: Any, kernel: Any, groups: int) -> Any: ...


def lookups(order: Tensor, names: Tensor, row_names: Tensor, rows: Tensor) -> int:
    """How many channels of both sides of a layer are looked up: none of a side where they stand in order.

    The labels are those of `group_channels`: of what is read, and of what is written.
    """
    none = torch.zeros(0, 3, dtype=torch.int64)
    at = rows.tolist()
    found = (
        _looked_up(_read(order, names, none), order),
        _stands(_written(at, row_names, none), at, len(row_names)),
    )
    return sum(len(places) for places in found if not torch.equal(places, torch.arange(len(places))))


@dataclass(frozen=True, slots=True)
class _Dense:
    """A dense layer for each space, or a batch of them."""

    terms: Terms
    single: bool
    """A single row, of which a batch reads matrices as fast as layers do."""
    taps: tuple[int, ...] = ()

    def together(self, spaces: Sequence[Product], widths: tuple[int, int]) -> bool:
        return self.single or len(spaces) > MOST_LAYERS

    def kernel(self, apart: Any) -> Any:
        read, written, _, spaces, _ = self.terms.shape(apart)
        if spaces == 1:
            return self.terms("reshape", self.terms("permute", apart, [1, 0, 2, 3, 4]), [written, read])
        return self.terms("reshape", self.terms("permute", apart, [3, 0, 1, 2, 4]), [spaces, read, written])

    def __call__(self, x: Any, kernel: Any, groups: int) -> Any:
        terms = self.terms
        if groups == 1:
            return terms("linear", x, kernel)
        apart = terms("permute", terms("reshape", x, [-1, groups, terms.shape(kernel)[1]]), [1, 0, 2])
        product = terms("permute", terms("matmul", apart, kernel), [1, 0, 2])
        return terms("reshape", product, [-1, groups * terms.shape(kernel)[2]])


@dataclass(frozen=True, slots=True)
class _Convolution:
    """A convolution, or a transposed one."""

    terms: Terms
    weight: Any
    window: list[Any]
    transposed: bool

    @property
    def taps(self) -> tuple[int, ...]:
        return self.terms.shape(self.weight)[2:]

    def together(self, spaces: Sequence[Product], widths: tuple[int, int]) -> bool:
        return not any(width % BLOCK for width in widths)

    def kernel(self, apart: Any) -> Any:
        read, written, groups, spaces, _ = self.terms.shape(apart)
        order = [2, 3, 0, 1, 4] if self.transposed else [2, 3, 1, 0, 4]
        rows, columns = (read, written) if self.transposed else (written, read)
        ordered = self.terms("permute", apart, order)
        return self.terms("reshape", ordered, [groups * spaces * rows, columns, *self.taps])

    def __call__(self, x: Any, kernel: Any, groups: int) -> Any:
        name = f"conv_transpose{len(self.taps)}d" if self.transposed else f"conv{len(self.taps)}d"
        return self.terms(name, x, kernel, None, *self.window[:3], groups, *self.window[3:])


BLOCK = 16
"""Channels of a block of onnxruntime's kernels with AVX-512; with AVX2 it is half of that."""

Bundle = tuple[Product, ...]
"""Spaces of equal sizes, which are groups of one convolution."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """Channels that stand at the same places, and their rows of a matrix on these."""

    stands: tuple[int, ...]
    """For some places the first place at which the same number stands."""
    channels: list[int]
    rows: Named
    """By copy and dimension which rows of the matrix are theirs."""

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

    def chosen(self, bundle: Bundle, copies: Callable[[Product], Sequence[int]]) -> list[list[int]]:
        """Which rows these copies have, by dimension, space and copy; several of one name are summed up."""
        return [
            self.rows.get((copy, space.dimensions[place]), [])
            for place in range(len(bundle[0].dimensions))
            for space in bundle
            for copy in self.copies(copies(space))
        ]


def _kinds(stands: list[tuple[int, ...]], names: Tensor, labels: Tensor) -> list[_Kind]:
    """The kinds of channels that stand at these places and have these names [c].

    Rows have labels [t, 3]: the name of the channels, copy and dimension.
    """
    found: dict[tuple[int, tuple[int, ...]], list[int]] = {}
    for channel, (name, places) in enumerate(zip(names.tolist(), stands, strict=True)):
        if places:
            found.setdefault((name, places), []).append(channel)
    rows = named(labels)
    return [
        _Kind(places, channels, {label[1:]: chosen for label, chosen in rows.items() if label[0] == name})
        for (name, places), channels in found.items()
    ]


class _Layer:
    """Kinds of fields on both sides and the spaces that they share, from the factors of `group_channels`.

    Values between the steps are [n, groups, …], pixels last.
    """

    def __init__(
        self,
        operator: _Operator,
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
        terms = self.terms = operator.terms
        self.operator, self.groups, self.each = operator, groups, channels // groups
        self.into, self.products, self.back = into, products, back
        self.order, self.pairs = terms.known(order) % self.each, terms.known(pairs)
        labels, row_labels = terms.known(entering), terms.known(leaving)
        names, row_names = terms.known(names), terms.known(row_names)
        self.channels = len(row_names)
        self.rows = (terms.known(rows) % (terms.shape(back)[0] * self.channels)).tolist()
        self.read = _read(self.order, names, labels)
        self.written = _written(self.rows, row_names, row_labels)
        entered, left = (
            known[torch.isin(known[:, 0], of[[kind.channels[0] for kind in kinds]])][:, 1:]
            for known, of, kinds in ((labels, names, self.read), (row_labels, row_names, self.written))
        )
        self.bundles = list(self._bundled(list(connected(entered, self.pairs, left))))
        self.kernels = [self._kernel(bundle) for bundle in self.bundles]
        self.backs = [self._back(kind) for kind in self.written]

    def applied(self, x: Any, bias: Any = None) -> Any:
        """[n, c, …] → [n, o, …], a bias [o] added."""
        terms = self.terms
        count = terms.shape(x)[0]
        values = [
            self.operator(value, kernel, self.groups * len(bundle))
            for bundle, kernel, value in zip(self.bundles, self.kernels, self._spaces(x), strict=True)
        ]
        left = self._left(values, count)
        missing = [kind for kind, parts in zip(self.written, left, strict=True) if not parts]
        if missing or not values:  # of what no space writes
            shape = self.each, 1, self.groups, 1, math.prod(self.operator.taps)
            nothing = self.operator.kernel(terms.constant(torch.zeros(shape, dtype=torch.float64)))
            values = [self.operator(x, nothing, self.groups)]
        sizes = list(terms.shape(values[0])[2:])
        found = []
        for kind, back, parts in zip(self.written, self.backs, left, strict=True):
            if parts:
                mixed = terms("matmul", back, _joined(terms, parts, 2))
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

    def _bundled(self, spaces: Sequence[Product]) -> Iterator[Bundle]:
        """Spaces of equal sizes together, where that is as fast."""
        known: dict[tuple[int, ...], list[Product]] = {}
        for space in spaces:
            widths = [_widths(self.read, space.read), _widths(self.written, space.written)]
            if not self.operator.together(spaces, (sum(widths[0]), sum(widths[1]))):
                yield (space,)
            else:
                known.setdefault((len(space.dimensions), *widths[0], *widths[1]), []).append(space)
        yield from map(tuple, known.values())

    def _spaces(self, x: Any) -> list[Any]:
        """What is read of each bundle. [n, c, …] → [n·dimensions, groups·spaces·copies·channels, …]"""
        terms = self.terms
        count, _, *sizes = terms.shape(x)
        places = _looked_up(self.read, self.order)
        looked_up = torch.cat([places + self.each * group for group in range(self.groups)])
        whole = picked(terms, x, looked_up)
        grouped = terms("reshape", whole, [count, self.groups, len(places), -1])
        entering: list[list[Any]] = [[] for _ in self.bundles]
        of_kinds = _parts(terms, grouped, [kind.width for kind in self.read], 2)
        for kind, value in zip(self.read, of_kinds, strict=True):
            wanted = [kind.chosen(bundle, lambda space: space.read) for bundle in self.bundles]
            if not any(wanted):
                continue
            matrix = summed(terms, self.into, [row for rows in wanted for row in rows])
            if len(kind.first) < len(kind.stands):
                stands = torch.tensor(kind.stands)[:, None] == torch.tensor(kind.first)
                matrix = terms("matmul", matrix, terms.constant(stands.to(torch.float64)))
            apart = terms("reshape", value, [count, self.groups, len(kind.first), -1])
            mixed = terms("matmul", matrix, apart)
            held = [place for place, rows in enumerate(wanted) if rows]
            parts = _parts(terms, mixed, [len(wanted[place]) for place in held], 2)
            for place, part in zip(held, parts, strict=True):
                bundle = self.bundles[place]
                shape = [count, self.groups, len(bundle[0].dimensions), len(bundle), -1]
                entering[place].append(terms("reshape", part, shape))
        found = []
        for bundle, values in zip(self.bundles, entering, strict=True):
            value = _joined(terms, values, 4)
            if len(bundle[0].dimensions) > 1 and self.groups > 1:
                value = terms("permute", value, [0, 2, 1, 3, 4])
            width = self.groups * len(bundle) * sum(_widths(self.read, bundle[0].read))
            found.append(terms("reshape", value, [-1, width, *sizes]))
        return found

    def _kernel(self, bundle: Bundle) -> Any:
        """The kernel of a bundle, of which the copies in all fields are channels."""
        kernels = [self._numbers(space) for space in bundle]
        return self.operator.kernel(_joined(self.terms, kernels, 3))

    def _numbers(self, space: Product) -> Any:
        """The numbers of a space. → [read, written, groups, 1, taps]"""
        terms = self.terms
        f, q, p, _ = terms.shape(self.products)
        wanted = [(read, written) for read in space.read for written in space.written]
        known = named(self.pairs)
        chosen = [known.get(one, []) for one in wanted]
        flat = summed(terms, terms("reshape", self.products, [f, -1]), chosen)
        read = _channels(self.read, space.read)
        written = _channels(self.written, space.written)
        pair = read[:, None, 0] * len(space.written) + written[:, 0]
        places = (pair * q + read[:, None, 1]) * p + written[:, 1]
        blocks = terms("reshape", flat, [len(wanted) * q * p, -1])
        taken = picked(terms, blocks, places.flatten(), axis=0)
        return terms("reshape", taken, [len(read), len(written), self.groups, 1, -1])

    def _left(self, values: list[Any], count: Any) -> list[list[Any]]:
        """For each kind what all spaces write. → [n, groups, copies, channels·pixels]"""
        terms = self.terms
        found: list[list[Any]] = [[] for _ in self.written]
        for bundle, value in zip(self.bundles, values, strict=True):
            d = len(bundle[0].dimensions)
            widths = _widths(self.written, bundle[0].written)
            turned = d > 1 and self.groups > 1
            apart = [d, self.groups] if turned else [self.groups, d]
            whole = terms("reshape", value, [count, *apart, len(bundle), sum(widths), -1])
            if turned:
                whole = terms("permute", whole, [0, 2, 1, 3, 4, 5])
            held = [place for place, width in enumerate(widths) if width]
            for place, part in zip(held, _parts(terms, whole, [widths[i] for i in held], 4), strict=True):
                rows = d * len(bundle) * len(self.written[place].copies(bundle[0].written))
                found[place].append(terms("reshape", part, [count, self.groups, rows, -1]))
        return found

    def _back(self, kind: _Kind) -> Any:
        """The matrix from the copies of all spaces to the places of a kind. → [places, t]"""
        terms = self.terms
        wanted = [row for one in self.bundles for row in kind.chosen(one, lambda space: space.written)]
        rows = summed(terms, terms("permute", self.back, [1, 0]), wanted)
        return terms("permute", picked(terms, rows, torch.tensor(kind.first)), [1, 0])

    def _places(self) -> Tensor:
        """Where each row stands among the numbers of all kinds, for each group. [groups·m] int64"""
        own = _stands(self.written, self.rows, self.channels)
        count = sum(kind.width for kind in self.written)
        return torch.cat([own + group * count for group in range(self.groups)])


def _read(order: Tensor, names: Tensor, labels: Tensor) -> list[_Kind]:
    """The kinds of channels that are read, by the first place at which each number stands."""
    first = [tuple(column.index(one) for one in column) for column in order.T.tolist()]
    return _kinds(first, names, labels)


def _written(rows: Sequence[int], names: Tensor, labels: Tensor) -> list[_Kind]:
    """The kinds of channels that are written, at the places that rows are read from."""
    wanted: list[set[int]] = [set() for _ in names]
    for row in rows:
        wanted[row % len(names)].add(row // len(names))
    return _kinds([tuple(sorted(places)) for places in wanted], names, labels)


def _looked_up(kinds: list[_Kind], order: Tensor) -> Tensor:
    """The channel that stands at each place of all kinds. → int64"""
    return torch.cat([order[kind.first][:, kind.channels].flatten() for kind in kinds])


def _stands(kinds: list[_Kind], rows: Sequence[int], width: int) -> Tensor:
    """Where each row, a place and one of `width` channels, stands among the numbers of all kinds. → [m]"""
    count = 0
    at: dict[int, int] = {}
    for kind in kinds:
        ways = [place * width + channel for place in kind.first for channel in kind.channels]
        at |= {way: count + number for number, way in enumerate(ways)}
        count += kind.width
    return torch.tensor([at[row] for row in rows])


def _channels(kinds: list[_Kind], copies: Sequence[int]) -> Tensor:
    """Which copy and channel each channel of a space is. → [k, 2] int64"""
    return torch.tensor([
        (copies.index(copy), channel)
        for kind in kinds
        for copy in kind.copies(copies)
        for channel in kind.channels
    ])  # fmt: skip


def _widths(kinds: list[_Kind], copies: Sequence[int]) -> list[int]:
    """How many channels of a space those of each kind are."""
    return [len(kind.copies(copies)) * len(kind.channels) for kind in kinds]


def _joined(terms: Terms, values: list[Any], axis: int) -> Any:
    return terms("concat", values, axis) if len(values) > 1 else values[0]


def _parts(terms: Terms, value: Any, sizes: list[int], axis: int) -> list[Any]:
    return terms.split(value, sizes, axis) if len(sizes) > 1 else [value]


def _layer_shape(x: Sequence[int], *factors: Sequence[int]) -> tuple[int, ...]:
    """The shape of `layer_by_spaces`. Raises `ValueError` where the sizes do not fit."""
    if len(x) != 2 or factors[4][3] != 1:
        raise ValueError(f"one matrix for rows, applied to a value of shape {list(x)}")
    return x[0], factors[9][0]


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
    CompileTimeFunction(
        "products_in_blocks",
        "number",
        ("U", "I", "C", "O", "V", "block"),
        products_in_blocks,
        "Multiplications by the labels of `group_channels`, the channels of each space in whole blocks.",
    ),
    CompileTimeFunction(
        "lookups",
        "number",
        ("J", "U", "V", "R"),
        lookups,
        "Channels of both sides of a layer that do not stand in order, by the labels of `group_channels`.",
    ),
    TermFunction(
        "layer_by_spaces",
        ("x", *FACTORS[:-1]),
        layer_by_spaces,
        _layer_shape,
        "Rows x [b, c] by the ten factors of `group_channels` of one matrix → [b, m].",
    ),
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
