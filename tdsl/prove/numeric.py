"""The second checker: rules in float64, every operator carried out by its kernel."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor.declare import CompileTimeFunction, Decomposition
from tdsl.lang.shapes import UnknownValueError
from tdsl.ops import Operator
from tdsl.ops.shapes import ShapeMismatch
from tdsl.ops.targets import DTYPES
from tdsl.prove.checker import Known
from tdsl.prove.kernel import call
from tdsl.prove.structures import ARRANGED, LABELS, arranged, chosen, mirrors

_NAMES = {dtype: name for name, dtype in DTYPES.items()}

STYLES = ("normal", "small", "positive")
"""How the elements of a draw are: normal, whole numbers from -2 to 2 (with ties and zeros), or positive."""

EXTREMES = 0.1
"""How many integers are the least of their type, which has no opposite."""


class NumericChecker:
    """Tensors of float64 numbers, or of their own element types where a rule speaks of those."""

    def __init__(self, seed: int, style: str, sensitive: bool) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.style = style
        self.sensitive = sensitive
        self.undefined = False
        """Whether some value was infinite or no number: a division by zero, the root of a negative number."""

    def _dtype(self, name: str) -> torch.dtype:
        dtype = DTYPES[name]
        return dtype if self.sensitive or not dtype.is_floating_point else torch.float64

    def draw(self, shape: Sequence[int], dtype: str, kind: str, bound: int) -> Known:
        """A random tensor, as `tdsl.prove.checker.Checker` says."""
        shape = tuple(shape)
        if kind == "index":
            return _known(torch.randint(0, bound, shape, generator=self.generator), dtype)
        if kind == "permutation":
            return _known(torch.randperm(math.prod(shape), generator=self.generator).reshape(shape), dtype)
        if kind == "labels":
            return _known(torch.randint(0, LABELS, shape, generator=self.generator), dtype)
        if kind in ARRANGED:
            return _known(torch.tensor(arranged(kind, math.prod(shape), self._order)).reshape(shape), dtype)
        if kind == "segments":
            count = math.prod(shape)
            return _known((torch.arange(count) * bound // count).reshape(shape), dtype)
        if kind == "selection":
            rows = torch.randperm(shape[1], generator=self.generator)[: shape[0]]
            return _known(torch.eye(shape[1], dtype=torch.float64)[rows], dtype)
        values = self._styled(shape)
        wanted = self._dtype(dtype)
        if wanted == torch.bool:
            return _known(values > 0, dtype)
        if wanted.is_floating_point:
            return _known(values.to(wanted), dtype)
        extremes = torch.rand(shape, generator=self.generator) < EXTREMES
        smallest = torch.full(shape, torch.iinfo(wanted).min, dtype=wanted)
        return _known(torch.where(extremes, smallest, (values * 3).to(wanted)), dtype)

    def _order(self, count: int) -> list[int]:
        order: list[int] = torch.randperm(count, generator=self.generator).tolist()
        return order

    def _styled(self, shape: tuple[int, ...]) -> Tensor:
        if self.style == "small":
            return torch.randint(-2, 3, shape, generator=self.generator).to(torch.float64)
        values = torch.randn(shape, generator=self.generator, dtype=torch.float64)
        if self.style == "positive":
            return values.abs() + 0.5
        return values

    def structured(self, shape: Sequence[int], family: str) -> Known:
        """A weight of one of the `tdsl.prove.facts.FAMILIES`, as conditions on weights ask for them."""
        values = self._styled(tuple(shape))
        square = len(shape) > 1 and shape[-1] == shape[-2]
        if family == "zeros":
            values = torch.zeros_like(values)
        elif family == "constant":
            values = torch.full_like(values, float(values.reshape(-1)[0]))
        elif family == "rank one" and len(shape) > 1:
            values = values[..., :1] * values[..., :1, :]
        elif family == "sparse":
            values = values * (self._styled(tuple(shape)) > 0.5)
        elif family == "symmetric" and square:
            values = values + values.transpose(-1, -2)
        elif family == "diagonal" and square:
            values = values * torch.eye(shape[-1], dtype=torch.float64)
        elif family == "identity" and square:
            values = torch.eye(shape[-1], dtype=torch.float64).expand(tuple(shape)).clone()
        elif family == "circulant" and square:
            row = values[..., 0, :]
            values = torch.stack([row.roll(i, -1) for i in range(shape[-1])], -2)
        elif family == "positive":
            values = values.abs() + 0.5
        elif family == "orthogonal" and square:
            values = torch.linalg.qr(torch.randn(shape, generator=self.generator, dtype=torch.float64)).Q
        elif family == "mirrored" and shape:
            for axis in mirrors(len(shape), self._order):
                values = values + values.flip(axis)
        elif (entries := chosen(family, shape, self._order)) is not None:
            drawn, values = values, torch.zeros_like(values)
            for i, j, sign in entries:
                values[i, j] = sign or drawn[i, j]
        return _known(values.to(self._dtype("f32")))

    def filled(self, shape: Sequence[int], value: float) -> Known:
        """A tensor of one number."""
        return _known(torch.full(tuple(shape), value, dtype=torch.float64))

    def apply(self, operator: Operator, arguments: Mapping[str, Any]) -> Any:
        """What the kernel computes."""
        if operator.name == "getitem":
            return arguments["x"][arguments["index"]]
        plain = {n: self._plain(v) for n, v in arguments.items()}
        selecting = {n: _whole(plain[n]) for n in operator.selects if operator.selects[n] == "axis"}
        masks = {n: _truth(plain[n]) for n in operator.selects if operator.selects[n] == "mask"}
        result = _described(call(operator, {**plain, **selecting, **masks}))
        parts = result if isinstance(result, tuple) else (result,)
        self.undefined |= not all(bool(part.value.isfinite().all()) for part in parts)
        return result

    def _plain(self, argument: Any) -> Any:
        if isinstance(argument, list | tuple):
            return [self._plain(v) for v in argument]
        if isinstance(argument, str) and argument in DTYPES:
            return self._dtype(argument)
        return argument.value if isinstance(argument, Known) else argument

    def unnamed(self, name: str, operator: Operator, arguments: Mapping[str, Any]) -> Any:
        """The member of the class that was drawn."""
        return self.apply(operator, arguments)

    def rebuilt(self, declared: Decomposition, factors: Sequence[Known]) -> Known:
        """The promise."""
        try:
            return _known(declared.promise(*(k.value for k in factors)))
        except (RuntimeError, IndexError, ValueError) as reason:
            raise ShapeMismatch(f"{declared.name}: {reason}") from None

    def function(self, declared: CompileTimeFunction, values: Sequence[Any]) -> Any:
        """The function itself."""
        try:
            result = declared.function(*(self._plain(v) for v in values))
            return _known(result) if isinstance(result, Tensor) else result
        except (TdslError, RuntimeError) as error:
            raise UnknownValueError(str(error)) from None

    def plain(self, value: Known) -> Tensor:
        """Whole numbers as a tensor of int64."""
        return _whole(value.value)  # type: ignore[no-any-return]

    def constant(self, values: Tensor) -> Known:
        """A constant of small whole numbers."""
        return _known(values.to(torch.float64) if values.is_floating_point() else values)

    def numbered(self, shape: Sequence[int], first: int) -> Known:
        """The numbers from `first` on, in order."""
        return _known(
            torch.arange(first, first + math.prod(shape), dtype=torch.float64).reshape(tuple(shape))
        )

    def rearranged(self, places: Known, values: Known, shapes: Sequence[Sequence[int]]) -> list[Known]:
        """Tensors whose elements, counted through all of them, have `values[i]` at number `places[i]`."""
        result = torch.empty(values.value.numel(), dtype=values.value.dtype)
        result[places.value.reshape(-1).to(torch.int64)] = values.value.reshape(-1)
        parts = torch.split(result, [math.prod(shape) for shape in shapes])
        return [_known(part.reshape(tuple(shape))) for shape, part in zip(shapes, parts, strict=True)]

    def solved(
        self, unknowns: Sequence[Known], residual: Callable[[Sequence[Known]], Known]
    ) -> list[Known] | None:
        """A random solution from the null space of the residual and of its constant part."""
        total = sum(k.value.numel() for k in unknowns)

        def at(flat: Tensor) -> Tensor:
            return residual(_split(flat, unknowns)).value.reshape(-1)  # type: ignore[no-any-return]

        constant = at(torch.zeros(total, dtype=torch.float64))
        columns = [at(row) - constant for row in torch.eye(total, dtype=torch.float64)]
        matrix = torch.stack([*columns, constant], 1)
        _, sizes, right = torch.linalg.svd(matrix)
        rank = int((sizes > 1e-10 * sizes.max()).sum())
        weights = torch.randn(len(right) - rank, generator=self.generator, dtype=torch.float64)
        found = weights @ right[rank:]
        if not len(weights) or abs(float(found[-1])) < 1e-6:
            return None
        return _split(found[:-1] / found[-1], unknowns)

    def differs(self, left: Known, right: Known) -> bool:
        """Whether the right side differs where the left one is defined, beyond rounding."""
        before, after = left.value, right.value
        if before.shape != after.shape:
            return True
        if not before.is_floating_point():
            return bool((before != after).any())
        defined = before.isfinite()
        scale = before[defined].abs().max() if bool(defined.any()) else torch.tensor(0.0)
        bound = max(64 * torch.finfo(before.dtype).eps, 1e-9 if before.dtype == torch.float64 else 0)
        gap = (before - after.to(before.dtype)).abs()[defined]
        return bool((gap > bound * (1 + float(scale))).any() or gap.isnan().any())


def _known(value: Tensor, dtype: str = "") -> Known:
    name = _NAMES.get(value.dtype, "f64")
    return Known(tuple(value.shape), value, dtype or name, name)


def _described(result: Any) -> Any:
    return tuple(_known(part) for part in result) if isinstance(result, list | tuple) else _known(result)


def _whole(value: Any) -> Any:
    if isinstance(value, list):
        return [_whole(v) for v in value]
    return value.to(torch.int64) if isinstance(value, Tensor) else value


def _truth(value: Any) -> Any:
    return value.to(torch.bool) if isinstance(value, Tensor) else value


def _split(flat: Tensor, like: Sequence[Known]) -> list[Known]:
    parts = torch.split(flat, [k.value.numel() for k in like])
    return [_known(part.reshape(k.shape)) for k, part in zip(like, parts, strict=True)]
