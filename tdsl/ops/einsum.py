"""Einsum equations: one spelling of each, the size of every index, the axes behind `...`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_letters
from typing import Final

from tdsl.ops.laws import broadcast_shapes, require
from tdsl.ops.spec import Shape

_LETTERS: Final = ascii_letters


@dataclass(frozen=True, slots=True)
class Contraction:
    """An equation with the shapes of its operands put in; `batch` is what all `...` broadcast to."""

    sizes: dict[str, int]
    batch: Shape
    result: str


def canonical_equation(equation: str) -> str:
    """The one spelling of an equation: letters a, b, c … as they occur, a result, `...` for leading axes that
    operands and result have in common. What is no equation stays as it is.

    `bui,bj,ijk->buk` is `...ab,...c,bcd->...ad`.
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if not arrow:
        right = implied_result(left)
    if not all(char.isalpha() or char == "." for term in (*terms, right) for char in term):
        return equation
    leading = 0
    words = [term.removeprefix("...") for term in (*terms, right)]
    dotted = [term.startswith("...") for term in (*terms, right)]
    if any("." in word for word in words) or len(set(words[-1])) < len(words[-1]):
        return equation
    while leading < len(words[-1]) and _is_leading(words[-1][: leading + 1], words, dotted):
        leading += 1
    if leading:
        shared = words[-1][:leading]
        dotted = [dots or word.startswith(shared) for dots, word in zip(dotted, words, strict=True)]
        words = [word.removeprefix(shared) for word in words]
    names = dict(zip(dict.fromkeys("".join(words)), _LETTERS, strict=False))
    if any(letter not in names for letter in "".join(words)):
        return equation
    spelled = [
        "..." * dots + "".join(names[c] for c in word) for dots, word in zip(dotted, words, strict=True)
    ]
    return f"{','.join(spelled[:-1])}->{spelled[-1]}"


def _is_leading(shared: str, words: Sequence[str], dotted: Sequence[bool]) -> bool:
    """Whether these letters stand first, or not at all, in every term, behind `...` if there is one."""
    have = [word.startswith(shared) for word in words]
    rest = "".join(word[len(shared) :] if has else word for word, has in zip(words, have, strict=True))
    return not set(shared) & set(rest) and (not any(dotted) or have == list(dotted))


def implied_result(left: str) -> str:
    """The result of an equation that names none: `...`, then what occurs once, by the alphabet."""
    letters = left.replace("...", "").replace(",", "")
    return "..." * ("..." in left) + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))


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
            (sizes[letter],) = broadcast_shapes((known,), (size,))
    if not arrow:
        right = implied_result(left)
    require(set(right.replace("...", "")) <= set(sizes), f"{right} has letters that {left} has not")
    return Contraction(sizes, broadcast_shapes(*batches), right)
