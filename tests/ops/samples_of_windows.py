"""Samples of convolution, pooling and resizing."""

from __future__ import annotations

from collections.abc import Callable

import torch
from operator_draws import SAMPLES, Draw, Sample, T, sample

from tdsl.ops import OPERATORS


def _conv(axes: int) -> Callable[[Draw], Sample]:
    def draw(d: Draw) -> Sample:
        groups = d.pick(1, 1, 2)
        c, o = groups * d.int(1, 2), groups * d.int(1, 2)
        kernel = [d.int(1, 3) for _ in range(axes)]
        batch = d.pick((), (d.size(),))
        one = d.pick(True, False)
        return {
            "x": T((*batch, c, *(d.int(5, 7) for _ in range(axes)))),
            "weight": T((o, c // groups, *kernel)),
            "bias": d.maybe(T((o,))),
            "stride": d.pick(1, 2) if one else [d.int(1, 3) for _ in range(axes)],
            "padding": [d.int(0, 2) for _ in range(axes)],
            "dilation": [d.int(1, 2) for _ in range(axes)],
            "groups": groups,
        }

    return draw


def _conv_transpose(axes: int) -> Callable[[Draw], Sample]:
    def draw(d: Draw) -> Sample:
        found = _conv(axes)(d)
        groups = found["groups"]
        c, o = found["x"].shape[-axes - 1], groups * d.int(1, 2)
        strides = [d.int(1, 3) for _ in range(axes)]
        found.update(
            weight=T((c, o // groups, *found["weight"].shape[2:])),
            bias=d.maybe(T((o,))),
            stride=strides,
            output_padding=[d.int(0, s - 1) for s in strides],
        )
        return found

    return draw


def _pool(axes: int, dilated: bool, divisor: bool) -> Callable[[Draw], Sample]:
    def draw(d: Draw) -> Sample:
        kernel = [d.int(1, 3) for _ in range(axes)]
        found: Sample = {
            "x": T((*d.pick((), (d.some(),)), d.some(), *(d.int(5, 7) for _ in range(axes)))),
            "kernel": kernel,
            "stride": d.pick([], [d.int(1, 3) for _ in range(axes)]),
            "padding": [d.int(0, k // 2) for k in kernel],
            "ceil_mode": d.pick(True, False),
        }
        if dilated:
            found["dilation"] = d.pick([1] * axes, [d.int(1, 2) for _ in range(axes)])
        else:
            found["count_include_pad"] = d.pick(True, False)
        if divisor:
            found["divisor"] = d.pick(None, 3)
        return found

    return draw


def _adaptive(axes: int) -> Callable[[Draw], Sample]:
    def draw(d: Draw) -> Sample:
        x = (*d.pick((), (d.some(),)), d.some(), *(d.int(1, 7) for _ in range(axes)))
        return {"x": T(x), "size": [d.int(1, 4) for _ in range(axes)]}

    return draw


for _n in (1, 2, 3):
    SAMPLES[f"conv{_n}d"] = _conv(_n)
    SAMPLES[f"conv_transpose{_n}d"] = _conv_transpose(_n)
    SAMPLES[f"avg_pool{_n}d"] = _pool(_n, dilated=False, divisor=_n > 1)
    SAMPLES[f"max_pool{_n}d"] = SAMPLES[f"max_pool{_n}d_with_indices"] = _pool(
        _n, dilated=True, divisor=False
    )
    SAMPLES[f"adaptive_avg_pool{_n}d"] = SAMPLES[f"adaptive_max_pool{_n}d"] = _adaptive(_n)


def _resize(axes: int, align: bool) -> Callable[[Draw], Sample]:
    def draw(d: Draw) -> Sample:
        by_size = d.pick(True, False)
        found: Sample = {
            "x": T((d.some(), d.some(), *(d.int(2, 6) for _ in range(axes)))),
            "size": [d.int(1, 8) for _ in range(axes)] if by_size else None,
            "scale": None if by_size else [d.pick(2.0, 0.5, 1.5) for _ in range(axes)],
        }
        if align:
            found["align_corners"] = d.pick(True, False)
        return found

    return draw


for _name, _op in OPERATORS.items():
    if _op.result == "resize":
        _axes = int(_name.removesuffix("_aa")[-2])
        SAMPLES[_name] = _resize(_axes, align=_op.param("align_corners") is not None)


@sample("grid_sample")
def _grid_sample(d: Draw) -> Sample:
    b = d.some()
    return {
        "x": T((b, d.some(), d.some(), d.some())),
        "grid": T((b, d.some(), d.some(), 2), "unit"),
        "interpolation": d.int(0, 2),
        "padding": d.int(0, 2),
        "align_corners": d.pick(True, False),
    }


@sample("im2col")
def _im2col(d: Draw) -> Sample:
    return {
        "x": T((d.some(), d.some(), d.int(5, 7), d.int(5, 7))),
        "kernel": [d.int(1, 3), d.int(1, 3)],
        "dilation": [d.int(1, 2), d.int(1, 2)],
        "padding": [d.int(0, 1), d.int(0, 1)],
        "stride": [d.int(1, 2), d.int(1, 2)],
    }


@sample("col2im")
def _col2im(d: Draw) -> Sample:
    found = _im2col(d)
    image = found.pop("x")
    columns = torch.nn.functional.unfold(
        torch.empty(image.shape, device="meta"),
        found["kernel"],
        dilation=found["dilation"],
        padding=found["padding"],
        stride=found["stride"],
    )
    return {"x": T(tuple(columns.shape)), "size": list(image.shape[2:]), **found}
