"""Arithmetic of the prime field of 2⁶¹ − 1 elements on arrays of `uint64`.

Two polynomials of total degree d that differ agree at a random point with probability at most d / p
(Schwartz, 1980; Zippel, 1979), here about d · 4·10⁻¹⁹. Elements are kept in [0, p).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

P: Final = (1 << 61) - 1
"""The Mersenne prime: 2⁶¹ = 1, so that a product is reduced by shifts."""

Elements = NDArray[np.uint64]

_P = np.uint64(P)
_LIMB = 21
_HALF = np.uint64(1 << 32)
_WHOLE_LIMB = np.uint64(1 << _LIMB)
_LIMB_MASK = np.uint64((1 << _LIMB) - 1)
_LONGEST = 1 << 9
"""How many products of sums of two limbs a float64 adds up exactly: 2⁹ · 2⁴⁴ = 2⁵³."""


FEW_INVERSES: Final = 32
"""So many elements are inverted one by one."""
FEW: Final = 1 << (2 * _LIMB)
"""Elements below this have two limbs. Different polynomials agree on such ones with probability d / 2⁴²."""


class NoElement(ArithmeticError):
    """A value that the field does not have: a division by zero, an infinity."""


def element(value: Any) -> int:
    """The element that a number is: integers modulo p, floats as the decimal fractions that are written.

    Raises `NoElement` for infinities and NaN, `TypeError` for what is no number.
    """
    if isinstance(value, bool | int):
        return int(value) % P
    try:
        ratio = Fraction(repr(float(value)))
    except (OverflowError, ValueError):
        raise NoElement(f"{value} is no element of a field") from None
    return quotient(ratio)


def quotient(ratio: Fraction) -> int:
    """A rational number as an element. Raises `NoElement` where p divides the denominator."""
    if ratio.denominator % P == 0:
        raise NoElement(f"{ratio} has a denominator that is zero in the field")
    return ratio.numerator * pow(ratio.denominator, -1, P) % P


def elements(values: Any) -> Elements:
    """An array of integers, of any sign, as elements."""
    return np.mod(np.asarray(values, dtype=np.int64), np.int64(P)).astype(np.uint64)


def reduced(x: Elements) -> Elements:
    """Any `uint64` modulo p."""
    x = (x & _P) + (x >> np.uint64(61))
    return np.asarray(np.minimum(x, x - _P))  # what is below p wraps around and is the greater one


def add(x: Elements, y: Elements) -> Elements:
    """x + y."""
    return np.asarray(np.minimum(x + y, x + y - _P))


def negative(x: Elements) -> Elements:
    """-x."""
    return np.where(x == 0, x, _P - x)


def subtract(x: Elements, y: Elements) -> Elements:
    """x - y."""
    return add(x, negative(y))


def multiply(x: Elements, y: Elements) -> Elements:
    """x · y: with x = x₁·2³¹ + x₀ the partial products, 2⁶² = 2 and 2⁶¹ = 1 put in, add up to below 2⁶⁴."""
    mask, half = np.uint64((1 << 31) - 1), np.uint64(31)
    x1, x0, y1, y0 = x >> half, x & mask, y >> half, y & mask
    middle = x1 * y0 + x0 * y1
    high = ((x1 * y1) << np.uint64(1)) + (middle >> np.uint64(30))
    middle_low = (middle & np.uint64((1 << 30) - 1)) << half
    return reduced(high + middle_low + x0 * y0)


def power(x: Elements, exponent: int) -> Elements:
    """x to a whole power. Raises `NoElement` for a negative power of zero."""
    if exponent < 0:
        return power(inverse(x), -exponent)
    result = np.ones_like(x)
    while exponent:
        if exponent & 1:
            result = multiply(result, x)
        x = multiply(x, x)
        exponent >>= 1
    return result


def inverse(x: Elements) -> Elements:
    """1 / x. Raises `NoElement` where an element is zero.

    Two at the price of one: 1 / a is b / (a·b) (Montgomery, 1987); few ones by Euclid's algorithm.
    """
    if not np.all(x):
        raise NoElement("division by zero")
    flat = x.reshape(-1)
    if flat.size <= FEW_INVERSES:
        return np.array([pow(value, -1, P) for value in flat.tolist()], dtype=np.uint64).reshape(x.shape)
    half = flat.size // 2
    first, second = flat[:half], flat[half : 2 * half]
    of_products = inverse(multiply(first, second))
    parts = [multiply(of_products, second), multiply(of_products, first)]
    if flat.size % 2:
        parts.append(inverse(flat[-1:]))
    return np.concatenate(parts).reshape(x.shape)


def total(x: Elements, axis: int | tuple[int, ...], keepdims: bool = False) -> Elements:
    """The sum along axes, of up to 2³¹ elements."""
    low = np.sum(x & np.uint64((1 << 32) - 1), axis=axis, keepdims=keepdims, dtype=np.uint64)
    high = np.sum(x >> np.uint64(32), axis=axis, keepdims=keepdims, dtype=np.uint64)
    return add(reduced(np.asarray(low)), multiply(reduced(np.asarray(high)), np.asarray(_HALF)))


def matmul(x: Elements, y: Elements) -> Elements:
    """The product of matrices, or of broadcast stacks of them. [..., l, n], [..., n, m] → [..., l, m].

    Three limbs of 21 bits are multiplied in float64, six products in all (Karatsuba and Ofman, 1962); three
    where both have elements below 2⁴² only.
    """
    length = x.shape[-1]
    if length > _LONGEST:
        parts = [slice(i, i + _LONGEST) for i in range(0, length, _LONGEST)]
        whole = matmul(x[..., parts[0]], y[..., parts[0], :])
        for part in parts[1:]:
            whole = add(whole, matmul(x[..., part], y[..., part, :]))
        return whole
    limbs = 2 if max(np.max(x, initial=0), np.max(y, initial=0)) < FEW else 3
    left, right = _limbs(x, limbs), _limbs(y, limbs)
    squares = [np.matmul(left[i], right[i]) for i in range(min(len(left), len(right)))]

    def crossed(i: int, j: int) -> NDArray[np.float64]:
        return np.asarray(np.matmul(left[i] + left[j], right[i] + right[j]) - squares[i] - squares[j])

    digits = [squares[1], crossed(0, 1), squares[0]]
    if len(left) == 3:
        digits = [squares[2], crossed(1, 2), crossed(0, 2) + squares[1], *digits[1:]]
    result = digits[0].astype(np.uint64)
    for digit in digits[1:]:
        result = add(multiply(result, np.asarray(_WHOLE_LIMB)), reduced(digit.astype(np.uint64)))
    return np.asarray(result)


def _limbs(x: Elements, count: int) -> list[NDArray[np.float64]]:
    return [((x >> np.uint64(_LIMB * i)) & _LIMB_MASK).astype(np.float64) for i in range(count)]


def einsum(equation: str, operands: Sequence[Elements]) -> Elements:
    """The sum of products that an equation names; `...` stands for axes that broadcast."""
    inputs, _, output = equation.replace(" ", "").partition("->")
    names = [_names(text, x.ndim) for text, x in zip(inputs.split(","), operands, strict=True)]
    if "->" in equation:
        many = max((sum(n.startswith(".") for n in row) for row in names), default=0)
        wanted = _names(output, len(output.replace("...", "")) + (many if "..." in output else 0))
    else:
        counts = [n for row in names for n in row]
        dots = sorted({n for n in counts if n.startswith(".")}, key=lambda n: -int(n[1:]))
        wanted = dots + sorted({n for n in counts if counts.count(n) == 1 and not n.startswith(".")})
    order = [*wanted, *dict.fromkeys(n for row in names for n in row if n not in wanted)]
    product: Elements | None = None
    for row, x in zip(names, operands, strict=True):
        for name in [n for n in dict.fromkeys(row) if row.count(n) > 1]:
            first, second = (i for i, n in enumerate(row) if n == name)
            x = np.moveaxis(np.diagonal(x, axis1=first, axis2=second), -1, first)
            del row[second]
        x = x.transpose([row.index(n) for n in order if n in row])
        x = x.reshape([x.shape[[m for m in order if m in row].index(n)] if n in row else 1 for n in order])
        product = x if product is None else multiply(product, x)
    assert product is not None
    summed = tuple(range(len(wanted), len(order)))
    return total(product, summed) if summed else product


def _names(text: str, axes: int) -> list[str]:
    """The name of each axis; those under `...` are counted from the last."""
    before, dots, behind = text.partition("...")
    if not dots:
        return list(text)
    many = axes - len(before) - len(behind)
    return [*before, *(f".{many - i}" for i in range(many)), *behind]


def null_vector(matrix: Elements, random: np.random.Generator) -> Elements | None:
    """A random solution of matrix · v = 0, `None` where only zero is one. [m, n] → [n]. Gauss–Jordan."""
    rows = matrix.copy()
    pivots: list[int] = []
    at = 0
    for column in range(rows.shape[1]):
        candidates = np.flatnonzero(rows[at:, column])
        if not len(candidates):
            continue
        rows[[at, at + candidates[0]]] = rows[[at + candidates[0], at]]
        rows[at] = multiply(rows[at], inverse(rows[at, column : column + 1]))
        others = np.flatnonzero(rows[:, column])
        others = others[others != at]
        rows[others] = subtract(rows[others], multiply(rows[others, column : column + 1], rows[at]))
        pivots.append(column)
        at += 1
        if at == len(rows):
            break
    free = [c for c in range(rows.shape[1]) if c not in set(pivots)]
    if not free:
        return None
    solution = np.zeros(rows.shape[1], dtype=np.uint64)
    solution[free] = drawn(random, (len(free),))
    solution[pivots] = negative(total(multiply(rows[: len(pivots), free], solution[free]), 1))
    return solution


def drawn(random: np.random.Generator, shape: tuple[int, ...], below: int = P) -> Elements:
    """Random elements, none of them zero."""
    return random.integers(1, below, size=shape, dtype=np.uint64)


def mixed(x: Elements, key: int) -> Elements:
    """A random function of the elements for every key (the finaliser of SplitMix64, Steele et al., 2014)."""
    x = x + np.uint64(key | 1) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return reduced(x ^ (x >> np.uint64(31)))
