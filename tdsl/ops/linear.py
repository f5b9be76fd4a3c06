"""Dense linear algebra."""

from __future__ import annotations

from math import prod

from tdsl.ops.spec import operator

LINEAR = (
    operator(
        "linear(x: [..., n], weight: [m, n], bias?: [m] = 0) -> [..., m]",
        aten="aten.linear.default",
        torch="F.linear",
        linear_in=("x", "weight"),
        macs=lambda x, weight, **_: prod(x) * weight[0],
        doc="x · weightᵀ + bias over the last axis.",
    ),
)
