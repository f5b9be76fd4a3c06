"""Reading an einsum equation: the size of every index, the axes behind `...`, the indices of the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tdsl.ops.laws import broadcast_shapes, require
from tdsl.ops.spec import Shape


@dataclass(frozen=True, slots=True)
class Contraction:
    """An equation with the shapes of its operands put in; `batch` is what all `...` broadcast to."""

    sizes: dict[str, int]
    batch: Shape
    result: str


def read_einsum(equation: str, shapes: Sequence[Shape]) -> Contraction:
    """Raises `ShapeMismatch` where the equation does not describe tensors of these shapes."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    require(len(terms) == len(shapes), f"{len(terms)} terms and {len(shapes)} operands")
    sizes: dict[str, int] = {}
    batches: list[Shape] = []
    for term, shape in zip(terms, shapes, strict=True):
        head, dots, tail = term.partition("...")
        spread = len(shape) - len(head) - len(tail)
        require(spread >= 0 if dots else spread == 0, f"{term} does not describe {shape}")
        batches.append(shape[len(head) : len(head) + spread])
        own: dict[str, int] = {}
        for letter, size in zip(
            head + tail, (*shape[: len(head)], *shape[len(head) + spread :]), strict=True
        ):
            require(own.setdefault(letter, size) == size, f"{letter} is {own[letter]} and {size} in {term}")
            known = sizes.get(letter, 1)
            require(known == size or 1 in (known, size), f"{letter} is {known} and {size} in {equation}")
            sizes[letter] = size if known == 1 else known
    if not arrow:
        letters = left.replace("...", "").replace(",", "")
        right = "..." * ("..." in left) + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    require(set(right.replace("...", "")) <= set(sizes), f"{right} has letters that {left} has not")
    return Contraction(sizes, broadcast_shapes(*batches), right)
