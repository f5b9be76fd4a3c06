"""Axes through pooling and resizing: channels are carried, positions are seen in order."""

from __future__ import annotations

from tdsl.symmetry.hidden.flow import Call, Value, axis_law
from tdsl.symmetry.hidden.layout import UNIT, Axes

_POOLS = [
    name
    for n in (1, 2, 3)
    for name in (
        f"avg_pool{n}d",
        f"adaptive_avg_pool{n}d",
        f"max_pool{n}d",
        f"max_pool{n}d_with_indices",
        f"adaptive_max_pool{n}d",
    )
]
_RESIZES = [
    *(f"upsample_nearest{n}d" for n in (1, 2, 3)),
    *(f"upsample_nearest_exact{n}d" for n in (1, 2, 3)),
    "upsample_linear1d",
    "upsample_bilinear2d",
    "upsample_trilinear3d",
    "upsample_bicubic2d",
    "upsample_bilinear2d_aa",
    "upsample_bicubic2d_aa",
]


@axis_law(*_POOLS, *_RESIZES)
def _positions(call: Call) -> Value:
    """The same for every channel: the trailing axes are positions, the leading ones are carried."""
    x = call.axes("x")
    spatial = next(int(c) for c in reversed(call.operator.name.removesuffix("_with_indices")) if c.isdigit())
    leading = x[: len(x) - spatial]
    call.along(x, range(len(leading), len(x)), "windows slide over it")
    call.relate((leading, range(len(leading))))
    results: list[Axes] = []
    for shape in call.shapes():
        positions = tuple(
            UNIT if size == 1 else call.pinned(size, "the places of the windows")
            for size in shape[len(leading) :]
        )
        results.append((*leading, *positions))
    return results[0] if call.operator.results == 1 else results


@axis_law("grid_sample")
def _grid_sample(call: Call) -> Value:
    x, grid = call.axes("x"), call.axes("grid")
    for layout in x[2:]:
        call.pin(layout, "is read at places that are computed")
    call.pin(grid[3], "the coordinates of a place")
    letters = call.relate((x[:2], "bc"), (grid[:3], "bij"))
    return tuple(letters[name] for name in "bcij")
