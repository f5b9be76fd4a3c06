"""Resizing of the spatial axes by interpolation."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor
from typing import Any

from tdsl.ops.spec import Conversion, Converted, Operand, Operator, operator


def _scales(x: Operand, size: Sequence[Any], scales: tuple[float | None, ...]) -> tuple[Any, Any] | None:
    """Size and scale of the `.vec` overload: one of them is absent, and the scale wins where it was given."""
    if all(scale is None for scale in scales):
        return list(size), None
    if x.shape is None or any(scale is None for scale in scales):
        return None
    own = x.shape[2:]
    if not all(isinstance(n, int) for n in (*own, *size)):
        return None
    fits = all(floor(n * (s or 0)) == out for n, s, out in zip(own, scales, size, strict=True))
    return (None, list(scales)) if fits else None


def _nearest(x: Operand, size: Sequence[Any], *scales: float | None) -> Converted:
    found = _scales(x, size, scales)
    return None if found is None else (x, *found)


def _smooth(x: Operand, size: Sequence[Any], align_corners: bool, *scales: float | None) -> Converted:
    found = _scales(x, size, scales)
    return None if found is None else (x, found[0], align_corners, found[1])


def _resize(name: str, doc: str, *, aten: str = "", moves: bool = False) -> Operator:
    aten = aten or name
    convert: Conversion = _nearest if moves else _smooth
    align = "" if moves else "align_corners: bool, "
    return operator(
        f"{name}(x, size: extents, {align}scale: scales) -> resize",
        aten=f"aten.{aten}.vec",
        spellings={f"aten.{aten}.default": convert},
        moves=moves,
        linear_in=("x",),
        doc=f"{doc} One of size and scale is none.",
    )


RESIZE = (
    *(
        _resize(
            f"upsample_nearest{n}d", "Each position takes the nearest one's value, rounded down.", moves=True
        )
        for n in (1, 2, 3)
    ),
    *(
        _resize(
            f"upsample_nearest_exact{n}d",
            "Each position takes the value of the one its centre falls in.",
            aten=f"_upsample_nearest_exact{n}d",
            moves=True,
        )
        for n in (1, 2, 3)
    ),
    _resize("upsample_linear1d", "Linear interpolation."),
    _resize("upsample_bilinear2d", "Linear interpolation along two axes."),
    _resize("upsample_trilinear3d", "Linear interpolation along three axes."),
    _resize("upsample_bicubic2d", "Cubic interpolation along two axes."),
    _resize("upsample_bilinear2d_aa", "Bilinear, smoothed when shrinking.", aten="_upsample_bilinear2d_aa"),
    _resize("upsample_bicubic2d_aa", "Bicubic, smoothed when shrinking.", aten="_upsample_bicubic2d_aa"),
    operator(
        "grid_sample(x: [b, c, h, w], grid: [b, i, j, 2], interpolation: int, padding: int, "
        "align_corners: bool) -> [b, c, i, j]",
        aten="aten.grid_sampler.default",
        spellings={"aten.grid_sampler_2d.default": None},
        linear_in=("x",),
        doc="x read at the places in [-1, 1]² that the grid names.",
    ),
)
