"""Random shapes and sizes, tensors to be made of them, and the registry of samples.

Each entry of `SAMPLES` draws one set of valid arguments, by the names of the parameters. Sizes run from
0 (rarely) to 5; what an operator needs to be defined at all is respected.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from tdsl.ops import Operator
from tdsl.ops.targets import overload_for


@dataclass(frozen=True)
class T:
    """A tensor to be made: its shape, and what its elements are like."""

    shape: tuple[int, ...]
    role: str = "real"  # real, positive, unit (in (-1, 1)), share (in (0, 1)), above (1), bool, whole, index
    below: int = 1
    """Exclusive bound of an index."""

    def make(self, generator: torch.Generator | None = None, device: str = "cpu") -> torch.Tensor:
        dtype = {"bool": torch.bool, "whole": torch.int64, "index": torch.int64}.get(self.role, torch.float64)
        if device == "meta":
            return torch.empty(self.shape, dtype=dtype, device="meta")
        if self.role == "index":
            return torch.randint(0, max(self.below, 1), self.shape, generator=generator)
        if self.role == "whole":
            return torch.randint(-5, 6, self.shape, generator=generator)
        uniform = torch.rand(self.shape, generator=generator, dtype=torch.float64)
        if self.role == "bool":
            return uniform < 0.5
        low, high = {
            "real": (-3, 3),
            "positive": (0.1, 3),
            "unit": (-0.9, 0.9),
            "share": (0, 1),
            "above": (1.1, 3),
        }[self.role]
        return low + (high - low) * uniform


class Draw:
    """A seeded source of sizes and shapes."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def int(self, low: int, high: int) -> int:
        return self.random.randint(low, high)

    def pick(self, *values: Any) -> Any:
        return self.random.choice(values)

    def size(self) -> int:
        return self.random.choice((0, 1, 1, 2, 2, 3, 3, 4, 5))

    def some(self) -> int:
        return self.random.randint(1, 5)

    def shape(self, least: int = 0, most: int = 4, empty: bool = True) -> tuple[int, ...]:
        return tuple(self.size() if empty else self.some() for _ in range(self.int(least, most)))

    def dim(self, rank: int) -> int:
        return self.int(-max(rank, 1), max(rank, 1) - 1)

    def dims(self, rank: int, least: int = 0) -> list[int]:
        chosen = self.random.sample(range(rank), self.int(min(least, rank), rank))
        return [d - rank if self.random.random() < 0.5 else d for d in chosen]

    def under(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A shape that broadcasts to `shape`."""
        kept = shape[self.int(0, len(shape)) :]
        return tuple(1 if self.random.random() < 0.3 else n for n in kept)

    def maybe(self, value: Any) -> Any:
        return value if self.random.random() < 0.6 else None


Sample = dict[str, Any]
SAMPLES: dict[str, Callable[[Draw], Sample]] = {}


def sample(*names: str) -> Callable[[Callable[[Draw], Sample]], Callable[[Draw], Sample]]:
    def register(function: Callable[[Draw], Sample]) -> Callable[[Draw], Sample]:
        for name in names:
            SAMPLES[name] = function
        return function

    return register


def called(op: Operator, found: Sample, make: Callable[[T], Any]) -> Any:
    """`op` on the sample, its tensors made by `make`."""

    def value(given: Any) -> Any:
        if isinstance(given, T):
            return make(given)
        if isinstance(given, list):
            return [value(item) for item in given]
        return given

    made = {p.name: p.canonical(value(found[p.name])) for p in op.params if p.name in found}
    for p in op.operands:
        made.setdefault(p.name, None)
    positional, keywords = [], {}
    for p in op.params:
        if p.keyword_only:
            if p.name in made:
                keywords[p.name] = made[p.name]
        else:
            positional.append(made.get(p.name, p.default))
    target = overload_for(op, positional)
    names = [a.name for a in target._schema.arguments]
    at = {p.name: names[i] for i, p in enumerate(op.params)}
    return target(*positional, **{at[name]: value for name, value in keywords.items()})


def shapes(found: Sample) -> dict[str, Any]:
    """The sample as `result_shape` takes it."""

    def value(given: Any) -> Any:
        if isinstance(given, T):
            return given.shape
        return [value(item) for item in given] if isinstance(given, list) else given

    return {name: value(given) for name, given in found.items()}
