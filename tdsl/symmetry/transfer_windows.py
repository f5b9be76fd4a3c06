"""Actions through windows on spatial axes: pooling, resizing, and the static border rule that they share.

Flips commute with windows that lie symmetrically (`border`), an order of axes with windows that are alike on
them, a roll by whole strides with windows side by side. Whether that is so is known from the sizes alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import floor
from typing import Any

from tdsl.ops.laws_window import spatial_axes
from tdsl.symmetry.action import Action, action, resized
from tdsl.symmetry.along import Along, Turn, flip, keeps_signs, permutes, roll
from tdsl.symmetry.border import Windows, asymmetry, axis_name
from tdsl.symmetry.transfer import Breaks, Law, Site, law, transfer


@dataclass(frozen=True, slots=True)
class Spatial:
    """How an action passes through windows: on the axes of the result, and on the axes of a kernel."""

    result: dict[int, Along]
    kernel: dict[int, bool]
    """Spatial axis of the tensor → whether a kernel sees it flipped."""
    broken: str = ""
    """Why it does not pass, if the windows do not lie symmetrically; the rest says what would be."""


def spatial(acting: Action, windows: Sequence[Windows], results: Sequence[int]) -> Spatial:
    """What becomes of the parts of an action on the last axes, windows moving along them.

    `results` are the sizes of these axes in the result. Raises `Breaks` for what no windows commute with.
    """
    axes = len(windows)
    first = acting.rank - axes
    found: dict[int, Along] = {}
    flips: dict[int, bool] = {}
    broken = ""
    for axis, element in acting.parts:
        if axis < first:
            continue
        at = axis - first
        one = windows[at]
        if one.kernel == one.stride == 1 and one.padding == 0:
            found[axis] = element
            if isinstance(element, Turn) and element.is_flip:
                flips[axis] = True
            continue
        if not isinstance(element, Turn):
            raise Breaks(f"windows along axis {axis - acting.rank} do not commute with {acting}")
        apart = one.padding == 0 and one.dilation * (one.kernel - 1) < one.stride
        whole = apart and one.size % one.stride == 0
        mirrored = element.mirrored or element.is_flip
        start = element.then(flip(element.size)) if mirrored else element
        shift = -start.start % one.size
        if shift and not (whole and shift % one.stride == 0):
            raise Breaks(
                f"windows along axis {axis - acting.rank} commute with no roll by {shift}"
                + (
                    f", only by multiples of the stride {one.stride}"
                    if whole
                    else ": it carries the border in"
                )
            )
        size = results[at]
        made = roll(size, shift // one.stride) if shift else Turn(size, 0)
        if mirrored:
            flips[axis] = True
            # x mirrored and then rolled: the same of the result
            made = flip(size).then(made) if not shift else _turned(element, one, size)
            if not one.symmetric and not broken:
                broken = asymmetry(one, at, axes, _in_words(acting, axes))
        found[axis] = made
    for place, axis in enumerate(acting.order):
        if place >= first and place != axis and axis >= first and not broken:
            here, there = windows[place - first], windows[axis - first]
            if (here.kernel, here.stride, here.padding, here.dilation) != (
                there.kernel, there.stride, there.padding, there.dilation
            ):  # fmt: skip
                names = axis_name(place - first, axes), axis_name(axis - first, axes)
                broken = f"windows differ along {names[0]} and {names[1]}, which {acting} exchanges"
    return Spatial(found, flips, broken)


def _in_words(acting: Action, axes: int) -> str:
    """What is done to the spatial axes, by their names: `rot90(height, width)`."""
    first = acting.rank - axes
    names = [""] * first + [axis_name(at, axes) for at in range(axes)]
    return acting.restricted(range(first, acting.rank)).text(names)


def _turned(element: Turn, windows: Windows, size: int) -> Turn:
    """A mirror image rolled by whole windows, as it is on the axis of the windows."""
    # x'[i] = x[c - i]; the window at j·s covers j·s … j·s + s - 1, whose image begins at c - j·s - (s - 1)
    start = (element.start - (windows.stride - 1)) // windows.stride
    return Turn(size, start, True)


def require_channels(acting: Action, axes: int) -> None:
    """Raise `Breaks` where spatial axes change places with others."""
    first = acting.rank - axes
    if any((place >= first) != (axis >= first) for place, axis in enumerate(acting.order)):
        raise Breaks(f"{acting} exchanges spatial axes and others")


def _pooled(site: Site) -> Law:
    """Windows that are averaged, or whose largest element is taken."""
    x = site["x"]
    axes = spatial_axes(site.operator)
    acting: Action = x.action
    require_channels(acting, axes)
    stride = site["stride"] or site["kernel"]
    dilation = site.arguments.get("dilation") or [1] * axes
    sizes = x.shape[-axes:]
    windows = [
        Windows(*numbers, pools=True)
        for numbers in zip(sizes, site["kernel"], stride, site["padding"], dilation, strict=True)
    ]
    found = spatial(acting, windows, site.shapes[0][-axes:])
    made = _with_spatial(acting, found, axes)
    if found.broken:
        raise Breaks(found.broken, made)
    return law(site, *[made] * len(site.shapes))


def _require_positive(site: Site) -> None:
    """Raise `Breaks` for what does not keep the order of numbers."""
    acting = site.x.action
    if not all(keeps_signs(element) for _, element in acting.parts):
        raise Breaks(
            f"{site.operator.name} commutes with permutations and positive scales, not with {acting}"
        )


def _with_spatial(acting: Action, found: Spatial, axes: int) -> Action:
    first = acting.rank - axes
    kept = {axis: element for axis, element in acting.parts if axis < first}
    return action(acting.rank, {**kept, **found.result}, acting.order)


@transfer(*(f"avg_pool{n}d" for n in (1, 2, 3)))
def _average(site: Site) -> Law:
    return _pooled(site)


@transfer(*(f"max_pool{n}d" for n in (1, 2, 3)))
def _largest(site: Site) -> Law:
    _require_positive(site)
    return _pooled(site)


@transfer(*(f"max_pool{n}d_with_indices" for n in (1, 2, 3)))
def _largest_with_places(site: Site) -> Law:
    site.require_values_only()
    return _largest(site)


@transfer(*(f"adaptive_max_pool{n}d" for n in (1, 2, 3)))
def _adaptive_largest(site: Site) -> Law:
    site.require_values_only()
    _require_positive(site)
    return _adaptive(site)


@transfer(*(f"adaptive_avg_pool{n}d" for n in (1, 2, 3)))
def _adaptive(site: Site) -> Law:
    """Windows from ⌊i·n/m⌋ to ⌈(i+1)·n/m⌉ are mirror images of each other, whatever the sizes."""
    x = site["x"]
    axes = len(site["size"])
    acting: Action = x.action
    require_channels(acting, axes)
    first = x.rank - axes
    parts = {axis: element for axis, element in acting.parts if axis < first}
    for axis, element in acting.parts:
        if axis < first:
            continue
        size = site.shapes[0][axis]
        if size == 1 and permutes(element):
            continue
        if size == x.shape[axis]:
            parts[axis] = element
        elif isinstance(element, Turn) and element.is_flip:
            parts[axis] = flip(size)
        elif isinstance(element, Turn) and x.shape[axis] % size == 0 and not element.mirrored:
            step, shift = x.shape[axis] // size, -element.start % element.size
            if shift % step:
                raise Breaks(
                    f"pooling to {size} places commutes with rolls by multiples of {step}, not {shift}"
                )
            parts[axis] = roll(size, shift // step)
        else:
            raise Breaks(f"pooling along axis {axis - x.rank} does not commute with {acting}")
    sizes = site.shapes[0]
    if any(sizes[place] != sizes[axis] for place, axis in enumerate(acting.order) if place >= first):
        raise Breaks(f"pooling to other sizes along axes that {acting} exchanges")
    return law(site, *[action(x.rank, parts, acting.order)] * len(site.shapes))


# ---------------------------------------------------------------- resizing


def _nearest_sources(size: int, result: int, scale: float | None, offset: float) -> list[int]:
    step = 1 / scale if scale else size / result
    return [min(floor((i + offset) * step), size - 1) for i in range(result)]


Turned = Callable[[Turn, int, float | None], Turn | None]
"""What acts on the places of the result, whose number is given, when a ring of places is turned."""


def _resized(
    site: Site,
    symmetric: Callable[[int, int, float | None], str],
    turned: Turned = lambda element, result, scale: None,
) -> Law:
    """`symmetric` says why resizing from one size to another does not commute with a flip, or nothing.

    `turned` says what becomes of a roll, or of a flip and a roll.
    """
    x = site["x"]
    axes = x.rank - 2
    acting: Action = x.action
    require_channels(acting, axes)
    scales: Any = site["scale"] or [None] * axes
    parts = {axis: element for axis, element in acting.parts if axis < 2}
    broken = ""
    for axis, element in acting.parts:
        if axis < 2:
            continue
        before, after = x.shape[axis], site.shapes[0][axis]
        if before == after and scales[axis - 2] in (None, 1.0):
            parts[axis] = element
        elif not isinstance(element, Turn) or not element.is_flip:
            made = turned(element, after, scales[axis - 2]) if isinstance(element, Turn) else None
            if made is None:
                raise Breaks(f"resizing along axis {axis - x.rank} does not commute with {acting}")
            parts[axis] = made
        else:
            parts[axis] = resized(element, after)
            if not broken and (why := symmetric(before, after, scales[axis - 2])):
                name = axis_name(axis - 2, axes)
                what = _in_words(acting, axes)
                broken = f"resizing {name} {before} to {after} does not commute with {what}: {why}"
    whole = action(x.rank, parts, acting.order)
    ratio = [site.shapes[0][axis] / x.shape[axis] for axis in range(2, x.rank)]
    for place, axis in enumerate(acting.order):
        if place != axis and place >= 2 and ratio[place - 2] != ratio[axis - 2] and not broken:
            broken = f"resizing differs along the axes that {acting} exchanges"
    if broken:
        raise Breaks(broken, whole)
    return law(site, whole)


def _multiple(size: int, result: int, offset: float) -> str:
    """The nearest result sizes for which each place takes a neighbour's value symmetrically."""
    for off in range(1, size + 1):
        for tried in (result + off, result - off):
            if tried > 0 and _mirrored(_nearest_sources(size, tried, None, offset), size):
                return f"; {tried} does"
    return ""


def _mirrored(sources: Sequence[int], size: int) -> bool:
    return all(a == size - 1 - b for a, b in zip(sources, reversed(sources), strict=True))


@transfer(*(f"upsample_nearest{n}d" for n in (1, 2, 3)))
def _nearest(site: Site) -> Law:
    return _at_neighbours(site, 0.0)


@transfer(*(f"upsample_nearest_exact{n}d" for n in (1, 2, 3)))
def _nearest_exact(site: Site) -> Law:
    return _at_neighbours(site, 0.5)


def _at_neighbours(site: Site, offset: float) -> Law:
    """Each place takes the value of one that does not depend on the values."""

    def turned(element: Turn, result: int, scale: float | None) -> Turn | None:
        sources = _nearest_sources(element.size, result, scale, offset)
        wanted = [element.places[source] for source in sources]
        starts = [place for place, source in enumerate(sources) if source == wanted[0]]
        tried = (Turn(result, start, element.mirrored) for start in starts)
        return next((one for one in tried if [sources[place] for place in one.places] == wanted), None)

    return _resized(site, lambda n, m, s: _nearest_why(n, m, s, offset), turned)


def _nearest_why(size: int, result: int, scale: float | None, offset: float) -> str:
    if _mirrored(_nearest_sources(size, result, scale, offset), size):
        return ""
    return f"places are rounded to one side{_multiple(size, result, offset)}"


@transfer("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d", "upsample_bicubic2d",
          "upsample_bilinear2d_aa", "upsample_bicubic2d_aa")  # fmt: skip
def _smooth(site: Site) -> Law:
    """Places between others, symmetric unless a scale was given that the sizes are not the ratio of."""

    def why(size: int, result: int, scale: float | None) -> str:
        if site.operator.name.endswith("_aa") and site["align_corners"]:
            return "antialiased windows between aligned corners begin at the first one"
        if site["align_corners"]:
            return "" if result > 1 or size == 1 else "the one place takes the first one's value"
        if scale is None or abs(size * scale - result) < 1e-9:
            return ""
        return f"{size} times {scale:g} is {size * scale:g}, not {result}"

    return _resized(site, why)
