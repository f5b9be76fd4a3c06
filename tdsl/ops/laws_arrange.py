"""Laws of elements moved along axes, and of tensors made from numbers."""

from __future__ import annotations

from math import ceil, prod
from typing import Any

from tdsl.ops.laws import axes, axis, law, replaced, require, require_each
from tdsl.ops.spec import Operator, Shape


@law
def flip(op: Operator, x: Shape, dims: list[int]) -> Shape:
    """The shape of x, which has these axes."""
    axes(dims, len(x))
    return x


@law
def roll(op: Operator, x: Shape, shifts: list[int], dims: list[int]) -> Shape:
    """The shape of x; one shift for each axis, or one for all elements in a row."""
    shifts = [shifts] if isinstance(shifts, int) else shifts
    require(len(shifts) == (len(dims) or 1), f"{len(shifts)} shifts for {len(dims)} axes")
    for dim in dims:
        axis(dim, len(x))
    return x


@law
def rot90(op: Operator, x: Shape, k: int, dims: list[int]) -> Shape:
    """The two axes swapped by odd turns."""
    require(len(dims) == 2 and len(x) >= 2, f"{dims} of {x} is no plane")
    first, second = axes(dims, len(x))
    if k % 2 == 0:
        return x
    turned = list(x)
    turned[first], turned[second] = turned[second], turned[first]
    return tuple(turned)


@law
def repeat(op: Operator, x: Shape, repeats: list[int]) -> Shape:
    """Each axis so many times, new axes in front."""
    require(len(repeats) >= len(x), f"{len(repeats)} repeats for {len(x)} axes")
    require_each((count >= 0 for count in repeats), f"{repeats} has a negative count")
    own = (1,) * (len(repeats) - len(x)) + x
    return tuple(size * count for size, count in zip(own, repeats, strict=True))


@law
def repeat_interleave(op: Operator, x: Shape, repeats: int, dim: int | None, **_: Any) -> Shape:
    """The axis so many times as long; all elements in a row without an axis."""
    require(repeats >= 0, f"{repeats} repeats")
    if dim is None:
        return (prod(x) * repeats,)
    require(bool(x), "a number has no axis to repeat along")
    at = axis(dim, len(x))
    return replaced(x, at, x[at] * repeats)


@law
def pixel_shuffle(op: Operator, x: Shape, factor: int) -> Shape:
    """[c · f², h, w] to [c, h · f, w · f]."""
    *batch, c, h, w = x
    require(factor > 0 and c % factor**2 == 0, f"{c} channels are no multiple of {factor}²")
    return (*batch, c // factor**2, h * factor, w * factor)


@law
def pixel_unshuffle(op: Operator, x: Shape, factor: int) -> Shape:
    """[c, h · f, w · f] to [c · f², h, w]."""
    *batch, c, h, w = x
    require(factor > 0 and h % factor == 0 and w % factor == 0, f"{h} × {w} is no multiple of {factor}")
    return (*batch, c * factor**2, h // factor, w // factor)


@law
def channel_shuffle(op: Operator, x: Shape, groups: int) -> Shape:
    """The shape of x, an image, whose channels the groups divide."""
    require(len(x) > 2, f"{x} has no positions")
    require(groups > 0 and x[1] % groups == 0, f"{groups} groups do not divide {x[1]} channels")
    return x


@law
def matrix(op: Operator, x: Shape, **_: Any) -> Shape:
    """The shape of x, two axes or more."""
    require(len(x) >= 2, f"{x} is no matrix")
    return x


@law
def diagonal(op: Operator, x: Shape, offset: int, dim1: int, dim2: int) -> Shape:
    """Without the two axes; the diagonal comes last."""
    first, second = axes((dim1, dim2), len(x))
    size = min(x[first] + min(offset, 0), x[second] - max(offset, 0))
    return (*(n for i, n in enumerate(x) if i not in (first, second)), max(size, 0))


@law
def diag_embed(op: Operator, x: Shape, offset: int, dim1: int, dim2: int) -> Shape:
    """The last axis as two, at these places of the result."""
    require(bool(x), "a number is no diagonal")
    places = axes((dim1, dim2), len(x) + 1)
    rest = iter(x[:-1])
    return tuple(x[-1] + abs(offset) if i in places else next(rest) for i in range(len(x) + 1))


@law
def unfold(op: Operator, x: Shape, dim: int, size: int, step: int) -> Shape:
    """As many windows as fit, the window last."""
    at = axis(dim, len(x))
    own = x[at] if x else 1
    require(0 <= size <= own and step > 0, f"no windows of {size} every {step} along an axis of {own}")
    return (*replaced(x, at, (own - size) // step + 1), size) if x else (size,)


# ---------------------------------------------------------------- creation


@law
def arange(op: Operator, start: float, end: float, step: float, **_: Any) -> Shape:
    """As many steps as stay before the end."""
    require(step != 0, "a step of 0 never arrives")
    require((end - start) * step >= 0, f"no way from {start} to {end} in steps of {step}")
    if any(isinstance(number, float) for number in (start, end, step)):
        return (ceil((end - start) / step),)
    return (-((start - end) // step),)


@law
def linspace(op: Operator, steps: int, **_: Any) -> Shape:
    """As many as asked for."""
    require(steps >= 0, f"{steps} steps")
    return (steps,)


@law
def sized(op: Operator, size: list[int], **_: Any) -> Shape:
    """The size asked for."""
    require_each((n >= 0 for n in size), f"{size} has a negative size")
    return tuple(size)


@law
def eye(op: Operator, n: int, m: int, **_: Any) -> Shape:
    """n × m."""
    require(n >= 0 and m >= 0, f"{n} × {m} is no matrix")
    return n, m


@law
def number(op: Operator, x: Shape, **attributes: Any) -> Shape:
    """A number has no axes; `size` needs the axis, `item` a single element."""
    if "dim" in attributes:
        require(bool(x), "a number has no sizes")
        axis(attributes["dim"], len(x))
    else:
        require(prod(x) == 1, f"{x} has not one element")
    return ()
