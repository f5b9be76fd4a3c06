"""Meanings of arithmetic, comparisons and the functions that only compare."""

from __future__ import annotations

from typing import Any

from tdsl.ops.meaning import MEANINGS, Algebra, Array, meaning


@meaning
def add(k: Algebra, x: Array, y: Array, alpha: float) -> Array:
    """x + alpha · y."""
    return k.add(x, y if alpha == 1 else k.multiply(y, k.number(alpha)))


@meaning
def sub(k: Algebra, x: Array, y: Array, alpha: float) -> Array:
    """x - alpha · y."""
    return k.subtract(x, y if alpha == 1 else k.multiply(y, k.number(alpha)))


@meaning
def mul(k: Algebra, x: Array, y: Array) -> Array:
    """x · y."""
    return k.multiply(x, y)


@meaning
def div(k: Algebra, x: Array, y: Array) -> Array:
    """x / y."""
    return k.divide(x, y)


@meaning
def neg(k: Algebra, x: Array) -> Array:
    """-x."""
    return k.negative(x)


@meaning
def bitwise_not(k: Algebra, x: Array) -> Array:
    """-x - 1, of integers."""
    return k.subtract(k.negative(x), k.number(1))


@meaning
def square(k: Algebra, x: Array) -> Array:
    """x²."""
    return k.multiply(x, x)


@meaning
def reciprocal(k: Algebra, x: Array) -> Array:
    """1 / x."""
    return k.divide(k.number(1), x)


@meaning
def rsqrt(k: Algebra, x: Array) -> Array:
    """1 / sqrt(x)."""
    return k.divide(k.number(1), MEANINGS["sqrt"](k, x))


@meaning
def pow_(k: Algebra, x: Array, exponent: Any) -> Array:
    """x to a power: exact for whole numbers, else a function of both."""
    if isinstance(exponent, int | float) and float(exponent).is_integer() and abs(exponent) <= 64:
        return k.power(x, int(exponent))
    if exponent == 0.5:
        return MEANINGS["sqrt"](k, x)
    if isinstance(exponent, int | float):
        return k.oracle("pow", x, attributes=(exponent,))
    return k.oracle("pow", x, exponent)


@meaning
def lerp(k: Algebra, x: Array, y: Array, weight: Array) -> Array:
    """x + weight · (y - x)."""
    return k.add(x, k.multiply(weight, k.subtract(y, x)))


@meaning
def addcmul(k: Algebra, x: Array, y: Array, z: Array, value: float) -> Array:
    """x + value · y · z."""
    return k.add(x, k.multiply(k.number(value), k.multiply(y, z)))


@meaning
def addcdiv(k: Algebra, x: Array, y: Array, z: Array, value: float) -> Array:
    """x + value · y / z."""
    return k.add(x, k.multiply(k.number(value), k.divide(y, z)))


# ---------------------------------------------------------------- order


def _maximum(k: Algebra, x: Array, y: Array) -> Array:
    return k.choose(k.less(x, y), y, x)


def _minimum(k: Algebra, x: Array, y: Array) -> Array:
    return k.choose(k.less(x, y), x, y)


MEANINGS.update(maximum=_maximum, fmax=_maximum, minimum=_minimum, fmin=_minimum)


def _between(k: Algebra, x: Array, least: float | None, most: float | None) -> Array:
    if least is not None:
        x = _maximum(k, x, k.number(least))
    return x if most is None else _minimum(k, x, k.number(most))


@meaning
def clamp(k: Algebra, x: Array, min: float | None, max: float | None) -> Array:
    """x within bounds."""
    return _between(k, x, min, max)


@meaning
def hardtanh(k: Algebra, x: Array, min: float, max: float) -> Array:
    """x within bounds."""
    return _between(k, x, min, max)


@meaning
def relu(k: Algebra, x: Array) -> Array:
    """max(x, 0)."""
    return _between(k, x, 0, None)


@meaning
def relu6(k: Algebra, x: Array) -> Array:
    """min(max(x, 0), 6)."""
    return _between(k, x, 0, 6)


@meaning
def abs_(k: Algebra, x: Array) -> Array:
    """max(x, -x)."""
    return _maximum(k, x, k.negative(x))


@meaning
def sign(k: Algebra, x: Array) -> Array:
    """1, 0 or -1."""
    zero = k.number(0)
    return k.subtract(k.less(zero, x), k.less(x, zero))


def _settled(name: str) -> Any:
    return lambda k, x: k.settled(name, x)


MEANINGS.update({name: _settled(name) for name in ("ceil", "floor", "round", "trunc")})


def _never_negative(name: str) -> Any:
    return lambda k, x: k.oracle(name, x, positive=True)


MEANINGS.update({name: _never_negative(name) for name in ("exp", "sqrt", "sigmoid", "hardsigmoid")})


def _leaky(k: Algebra, x: Array, slope: Array) -> Array:
    return k.choose(k.less(x, k.number(0)), k.multiply(x, slope), x)


@meaning
def leaky_relu(k: Algebra, x: Array, slope: float) -> Array:
    """x, scaled by the slope where it is negative."""
    return _leaky(k, x, k.number(slope))


@meaning
def prelu(k: Algebra, x: Array, weight: Array) -> Array:
    """x, scaled by the weight of its channel where it is negative."""
    channels = len(x.shape) > 1 and weight.shape[0] > 1
    return _leaky(k, x, weight.reshape([-1, *[1] * (len(x.shape) - 2)] if channels else [1] * len(x.shape)))


def _comparison(strict: bool, exchanged: bool) -> Any:
    def compare(k: Algebra, x: Array, y: Array) -> Array:
        if exchanged:
            x, y = y, x
        return k.less(x, y) if strict else k.subtract(k.number(1), k.less(y, x))

    return compare


MEANINGS.update(
    lt=_comparison(True, False),
    gt=_comparison(True, True),
    le=_comparison(False, False),
    ge=_comparison(False, True),
    eq=lambda k, x, y: k.equal(x, y),
    ne=lambda k, x, y: k.subtract(k.number(1), k.equal(x, y)),
)

# ---------------------------------------------------------------- truth values


def _truth(k: Algebra, x: Array) -> Array:
    return k.subtract(k.number(1), k.equal(x, k.number(0)))


@meaning
def logical_not(k: Algebra, x: Array) -> Array:
    """1 where x is zero."""
    return k.equal(x, k.number(0))


@meaning
def logical_and(k: Algebra, x: Array, y: Array) -> Array:
    """1 where neither is zero."""
    return k.multiply(_truth(k, x), _truth(k, y))


@meaning
def logical_or(k: Algebra, x: Array, y: Array) -> Array:
    """1 where one is not zero."""
    x, y = _truth(k, x), _truth(k, y)
    return k.subtract(k.add(x, y), k.multiply(x, y))


@meaning
def logical_xor(k: Algebra, x: Array, y: Array) -> Array:
    """1 where one is zero and the other is not."""
    return k.subtract(k.number(1), k.equal(_truth(k, x), _truth(k, y)))


@meaning
def where(k: Algebra, condition: Array, x: Array, y: Array) -> Array:
    """x where the condition holds."""
    return k.choose(condition, x, y)


@meaning
def masked_fill(k: Algebra, x: Array, mask: Array, value: Array) -> Array:
    """The value where the mask holds."""
    return k.choose(mask, value, x)
