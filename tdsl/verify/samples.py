"""The inputs that a file is checked on, each with a name that reports show.

The example the model was captured with; random draws at the smallest and largest dynamic sizes; the
user's calibration and held-out samples; and hard ones: zeros, large magnitudes, one-element batches.
What is drawn stays what such an input looks like: integers within the range seen (a token id must
remain legal), 0/1 masks remain masks with at least one 1 in each row, numbers within the range seen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from tdsl.errors import TdslError, kind_of
from tdsl.verify.runner import Tensors

Kind = Literal["example", "calibration", "held-out", "random", "hard"]

LARGEST_SIZE = 512
"""A dynamic dimension is tried up to this size where its declared bound is larger or absent."""

ELEMENTS = 4096
"""… and only as far as no input has more elements than this (or eight times the example's) …"""
MANY = 2**16
"""… nor more than this (or twice the example's): a run takes many times what its inputs do."""

PIECE = 2**18
"""Numbers that are looked at together."""

LARGE = 1e3
"""What "large magnitudes" multiplies the spread of ordinary values by."""


@dataclass(frozen=True, slots=True)
class Input:
    """A tensor input of the model; `dynamic` maps an axis to the name of its dynamic dimension.

    Where `multiples` has `(a, b)` for the axis, it has a·size + b places.
    """

    name: str
    example: Tensor
    dynamic: Mapping[int, str] = field(default_factory=dict)
    multiples: Mapping[int, tuple[int, int]] = field(default_factory=dict)

    def places(self, axis: int, size: int) -> int:
        """How many places an axis has for a size of its dimension."""
        times, more = self.multiples.get(axis, (1, 0))
        return times * size + more

    def size(self, axis: int, places: int) -> int | None:
        """The size of the dimension for which an axis has so many places, if there is one."""
        times, more = self.multiples.get(axis, (1, 0))
        size, left = divmod(places - more, times)
        return None if left or size < 0 else size

    def described(self, axis: int) -> str:
        """The places of an axis as the user's name says it: `4*chunks`."""
        name, (times, more) = self.dynamic[axis], self.multiples.get(axis, (1, 0))
        text = name if times == 1 else f"{times}*{name}"
        return text if more == 0 else f"{text} + {more}"


@dataclass(frozen=True, slots=True)
class Sample:
    """One set of inputs; `seed` is the one it was drawn with, `None` for a sample that was given.

    `labels` are what is right for it, where the user said so; `called` is what the user would call a sample
    that was given: its number among them, which parts of one share.
    """

    name: str
    kind: Kind
    inputs: Tensors
    seed: int | None = None
    labels: Tensors = ()
    called: str = ""


Range = tuple[int, int | None]
"""Smallest and largest size of a dynamic dimension; no largest one is `None`."""


def draw_samples(
    inputs: Sequence[Input],
    *,
    ranges: Mapping[str, Range] | None = None,
    calibration: Iterable[Tensors] = (),
    held_out: Iterable[Tensors] = (),
    seed: int = 0,
    largest: int = LARGEST_SIZE,
) -> tuple[Sample, ...]:
    """Every sample that a file is checked on: given ones first, then random, then hard ones.

    `ranges` bounds dynamic dimensions by name (absent: from 1, unbounded). The n-th drawn sample has
    seed `seed + n`, whatever the others are. Raises `TdslError` for a sample that does not fit the
    inputs: number, dtype, rank, a static size, or two sizes for one dimension.
    """
    groups: tuple[tuple[Kind, Iterable[Tensors]], ...] = (
        ("calibration", calibration),
        ("held-out", held_out),
    )
    given = [Sample("example", "example", tuple(item.example for item in inputs))]
    for kind, group in groups:
        given += [Sample(f"{kind} {i}", kind, tuple(values)) for i, values in enumerate(group, start=1)]
    sizes, *_ = [fitting_sizes(sample.name, sample.inputs, inputs, ranges or {}) for sample in given]

    looks = [_Look.of([sample.inputs[i] for sample in given]) for i in range(len(inputs))]
    drawn: list[Sample] = []

    def draw(name: str, kind: Kind, sizes: Mapping[str, int], spread: float = 1.0) -> None:
        generator = torch.Generator().manual_seed(seed + len(drawn))
        values = tuple(
            look.draw(_shape(item, sizes), generator, spread)
            for item, look in zip(inputs, looks, strict=True)
        )
        drawn.append(Sample(name, kind, values, seed + len(drawn)))

    draw("random", "random", sizes)
    tried = [sizes]
    for corner in _corners(inputs, sizes, ranges or {}, largest):
        if corner not in tried:
            tried.append(corner)
            draw(_size_name(corner), "random", corner)

    single = _one_element_batch(inputs, sizes, ranges or {})
    if single not in tried:
        draw(_size_name(single), "hard", single)
    has_numbers = any(not look.is_discrete for look in looks)
    zeros, large = ("zeros", "large magnitudes") if has_numbers else ("smallest integers", "largest integers")
    quiet = tuple(look.smallest(item.example) for item, look in zip(inputs, looks, strict=True))
    drawn.append(Sample(zeros, "hard", quiet))
    if has_numbers:
        draw(large, "hard", sizes, LARGE)
    else:
        loud = tuple(look.largest(item.example) for item, look in zip(inputs, looks, strict=True))
        drawn.append(Sample(large, "hard", loud))
    return (*given, *drawn)


# ---------------------------------------------------------------- sizes


def fitting_sizes(
    sample: str, given: Tensors, inputs: Sequence[Input], ranges: Mapping[str, Range]
) -> dict[str, int]:
    """Sizes of the dynamic dimensions in the tensors of a sample, in order of appearance.

    Raises `TdslError`, which calls the sample what `sample` says, where these do not fit the inputs.
    """
    if len(given) != len(inputs):
        names = ", ".join(item.name for item in inputs)
        raise TdslError(
            f"sample '{sample}' has {(n := len(given))} tensor{'s' if n != 1 else ''}",
            expected=f"{len(inputs)}: {names}",
            hint="labels are no inputs: leave them out, as in `[x for x, label in loader]`; a plan and a "
            "report take them where `loss=` or `metric=` says what they are for"
            if len(given) > len(inputs)
            else None,
        )
    sizes: dict[str, int] = {}
    for item, value in zip(inputs, given, strict=True):
        where = f"sample '{sample}', input '{item.name}'"
        if not isinstance(value, Tensor):
            raise TdslError(f"{where} is {kind_of(value)}", expected="a tensor")
        if value.is_meta or value.layout != torch.strided:
            what = "without numbers, on the device `meta`" if value.is_meta else str(value.layout)
            raise TdslError(f"{where} is {what}", expected="a dense tensor with numbers")
        if value.dtype != item.example.dtype:
            wanted = str(item.example.dtype)
            raise TdslError(
                f"{where} is {value.dtype}",
                expected=wanted,
                hint=f"the model was traced with an example of {wanted}: convert samples by `.to({wanted})`",
            )
        if value.dim() != item.example.dim():
            raise TdslError(
                f"{where} has {value.dim()} {'axis' if value.dim() == 1 else 'axes'}",
                expected=f"{item.example.dim()}: {_expected(item)}",
            )
        for axis, size in enumerate(value.shape):
            dimension = item.dynamic.get(axis)
            if dimension is None and size != item.example.shape[axis]:
                raise TdslError(
                    f"{where} has shape {list(value.shape)}",
                    expected=_expected(item),
                    hint="sizes are those of the example, but for the axes that `dynamic_shapes` frees",
                )
            if dimension is None:
                continue
            own = item.size(axis, size)
            if own is None:
                raise TdslError(f"{where} has shape {list(value.shape)}", expected=_expected(item))
            if sizes.setdefault(dimension, own) != own:
                raise TdslError(
                    f"{where} has {dimension} = {own}, but an input before it has {sizes[dimension]}",
                    expected=f"one size of '{dimension}' in all inputs of a sample",
                )
    batches = {item.dynamic[0] for item in inputs if 0 in item.dynamic}
    if any(not sizes[name] and ranges.get(name, (1, None))[0] for name in batches):
        raise TdslError(f"sample '{sample}' has no rows", expected="batches of one row or more")
    return sizes


def _expected(item: Input) -> str:
    sizes = (
        item.described(axis) if axis in item.dynamic else str(size)
        for axis, size in enumerate(item.example.shape)
    )
    return f"[{', '.join(sizes)}]"


def _shape(item: Input, sizes: Mapping[str, int]) -> tuple[int, ...]:
    named = ((item.dynamic.get(axis), size) for axis, size in enumerate(item.example.shape))
    return tuple(
        size if name is None else item.places(axis, sizes[name]) for axis, (name, size) in enumerate(named)
    )


def _size_name(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name}={size}" for name, size in sizes.items())


def _corners(
    inputs: Sequence[Input], sizes: Mapping[str, int], ranges: Mapping[str, Range], largest: int
) -> list[dict[str, int]]:
    """All dimensions at their smallest; then each at its largest, the others as in the example."""
    smallest = {name: max(1, ranges.get(name, (1, None))[0]) for name in sizes}
    corners = [smallest]
    for name, size in sizes.items():
        bound = ranges.get(name, (1, None))[1]
        most = largest if bound is None else min(bound, largest)
        for item in inputs:
            times = sum(dimension == name for dimension in item.dynamic.values())
            if times and item.example.numel():
                known = item.example.numel()
                growth = max(2.0, min(max(8.0, ELEMENTS / known), MANY / known)) ** (1 / times)
                most = min(most, int(size * growth))
        corners.append({**sizes, name: max(most, smallest[name])})
    return corners


def _one_element_batch(
    inputs: Sequence[Input], sizes: Mapping[str, int], ranges: Mapping[str, Range]
) -> dict[str, int]:
    """The example's sizes with every dynamic leading dimension at 1, where 1 is allowed."""
    leading = {item.dynamic[0] for item in inputs if 0 in item.dynamic}
    allowed = {name for name in leading if ranges.get(name, (1, None))[0] <= 1}
    return {name: 1 if name in allowed else size for name, size in sizes.items()}


# ---------------------------------------------------------------- values


@dataclass(frozen=True, slots=True)
class _Look:
    """What values of an input look like: their dtype, range, mean and standard deviation as seen."""

    dtype: torch.dtype
    least: float
    most: float
    mean: float
    deviation: float

    @classmethod
    def of(cls, values: Sequence[Tensor]) -> _Look:
        """What several tensors look like together; `PIECE` of their numbers at a time are widened."""
        dtype = values[0].dtype

        def finite() -> Iterator[Tensor]:
            for value in values:
                for flat in torch.split(value.detach().cpu().flatten(), PIECE):
                    exact = (flat.abs() if dtype.is_complex else flat).double()
                    exact = exact[torch.isfinite(exact)]
                    if exact.numel():
                        yield exact

        seen = [(len(flat), flat.min().item(), flat.max().item(), flat.sum().item()) for flat in finite()]
        if not seen:
            return cls(dtype, 0.0, 0.0, 0.0, 0.0)
        counts, lows, highs, sums = zip(*seen, strict=True)
        mean = math.fsum(sums) / sum(counts)
        squares = math.fsum(flat.sub_(mean).square_().sum().item() for flat in finite())
        return cls(dtype, min(lows), max(highs), mean, math.sqrt(squares / sum(counts)))

    @property
    def is_discrete(self) -> bool:
        return not (self.dtype.is_floating_point or self.dtype.is_complex)

    @property
    def is_mask(self) -> bool:
        return self.dtype == torch.bool or (self.is_discrete and (self.least, self.most) == (0, 1))

    def draw(self, shape: tuple[int, ...], generator: torch.Generator, spread: float) -> Tensor:
        if self.is_discrete:
            return self._draw_integers(shape, generator)
        deviation = self.deviation or 1.0  # a constant example says nothing about the spread
        if self.dtype.is_complex:
            parts = torch.randn((*shape, 2), generator=generator, dtype=torch.float64) * deviation * spread
            return torch.view_as_complex(parts).to(self.dtype)
        values = torch.randn(shape, generator=generator, dtype=torch.float64)
        values.mul_(deviation * spread).add_(self.mean)
        if spread == 1.0 and self.deviation:
            values.clamp_(self.least, self.most)
        return values.to(self.dtype)

    def _draw_integers(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        least, most = (0, 1) if self.dtype == torch.bool else (int(self.least), int(self.most))
        values = torch.randint(least, most + 1, shape, generator=generator)
        if self.is_mask and self.most == 1 and values.dim() and shape[-1]:
            one = torch.randint(0, shape[-1], (*shape[:-1], 1), generator=generator)
            values = values.scatter(-1, one, 1)
        return values.to(self.dtype)

    def smallest(self, example: Tensor) -> Tensor:
        """Zeros for numbers, the lowest integer seen; a mask of zeros would hide everything, so it stays."""
        if self.is_mask:
            return example.clone()
        return torch.full_like(example, int(self.least) if self.is_discrete else 0)

    def largest(self, example: Tensor) -> Tensor:
        """The highest integer seen; masks stay."""
        return example.clone() if self.is_mask else torch.full_like(example, int(self.most))
