"""When windows lie symmetrically on an axis, and what small change would make them.

Windows of extent d·(k - 1) + 1 at stride s over an axis of size n with p zeros on both sides are the mirror
image of themselves exactly when s divides n + 2·p - d·(k - 1) - 1: otherwise the last one ends before the
border does, and the first one starts at it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

FARTHEST = 8
"""Changes of a size by more are no small ones."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows along one axis: its size, the kernel, stride, padding on both sides, and dilation."""

    size: int
    kernel: int
    stride: int
    padding: int = 0
    dilation: int = 1
    pools: bool = False
    """Whether it is a pooling, whose padding is at most half the kernel."""

    @property
    def span(self) -> int:
        """Places at which a window may start, less one."""
        return self.size + 2 * self.padding - self.dilation * (self.kernel - 1) - 1

    @property
    def symmetric(self) -> bool:
        """Whether a flip of the axis maps windows onto windows."""
        return self.span % self.stride == 0

    @property
    def legal(self) -> bool:
        """Whether there is a window at all."""
        fits = self.size > 0 and self.kernel > 0 and self.stride > 0 and self.padding >= 0
        return fits and self.span >= 0 and not (self.pools and 2 * self.padding > self.kernel)

    def remedies(self, name: str) -> tuple[str, ...]:
        """The nearest sizes, paddings, kernels and strides that would do, each alone, found by trying.

        `name` is what the axis is called: `height`.
        """
        found = []
        for label, changes in (
            (name, self._changed("size", self.size)),
            ("padding", self._changed("padding", self.padding)),
            ("kernel", self._changed("kernel", self.kernel)),
        ):
            near = next(changes, None)
            if near is not None:
                found.append(f"{label} {near}")
        smaller = (s for s in range(self.stride - 1, 0, -1) if replace(self, stride=s).symmetric)
        if (stride := next(smaller, None)) is not None:
            found.append(f"stride {stride}")
        return tuple(found)

    def _changed(self, field: str, now: int) -> Iterator[int]:
        """Values of a field that would do, nearest first, the larger of two."""
        for off in range(1, FARTHEST + 1):
            for value in (now + off, now - off):
                tried = replace(self, **{field: value})  # type: ignore[arg-type]  # all fields are numbers
                if tried.legal and tried.symmetric:
                    yield value


def axis_name(axis: int, axes: int) -> str:
    """What spatial axis number `axis` of `axes` is called: height and width, with depth before them."""
    names = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
    return names[axes][axis] if axes in names else f"axis {axis - axes}"


def asymmetry(windows: Windows, axis: int, axes: int, action: str) -> str:
    """Why windows along a spatial axis do not commute with an action, and what would do."""
    name = axis_name(axis, axes)
    kind = "even" if windows.size % 2 == 0 else "odd"
    padded = f", padding {windows.padding}" if windows.padding else ""
    dilated = f", dilation {windows.dilation}" if windows.dilation > 1 else ""
    what = (
        f"stride {windows.stride}, kernel {windows.kernel}{padded}{dilated} on {kind} {name} {windows.size}: "
        f"{action} does not commute"
    )
    remedies = windows.remedies(name)
    if not remedies:
        return what
    *most, last = remedies
    listed = f"{', '.join(most)} or {last}" if most else last
    return f"{what}; {listed} does"
