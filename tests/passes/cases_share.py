"""Cases of `passes/share` and `passes/narrow`: what layers have in common, and widths that they share."""

import torch
import torch.nn.functional as F
from rule_cases import fires, leaves, low_rank, number
from torch import Tensor

from tdsl.factor.rank import Energy, Ratio

KEPT = 1e-5
"""Precision where all that is left out is nothing."""


# ---------------------------------------------------------------- bases and cosines

_OUT, _IN = number(48, 3), number(3, 24)
SHARED = {name: _OUT @ number(3, 3) @ _IN for name in "abc"}
APART = {name: low_rank(48, 24, 3) for name in "abc"}


def three(m: torch.nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    """Three dense layers of one shape."""
    return tuple(F.linear(x, w).tanh() for w in (m.a, m.b, m.c))


def ridge(rows: int, columns: int) -> Tensor:
    """Rows that are smooth, of a rank that is hardly smaller."""
    places = torch.linspace(0, 1, columns, dtype=torch.float64)
    centres = torch.linspace(0, 1, rows, dtype=torch.float64)[:, None]
    return torch.exp(-((places - centres) ** 2) / 0.02)


def layer(m: torch.nn.Module, x: Tensor) -> Tensor:
    """A dense layer."""
    return F.linear(x, m.w)


# ---------------------------------------------------------------- widths

_BASIS = torch.linalg.qr(number(12, 5))[0]
_COPIES = torch.arange(8) % 4


def stream(m: torch.nn.Module, x: Tensor) -> Tensor:
    """A stream of 12 channels, with a layer beside it, behind norms."""
    h = F.linear(x, m.first)
    h = h + F.linear(F.linear(F.rms_norm(h, [12], eps=1e-6), m.up).tanh(), m.down)
    return F.linear(F.rms_norm(h, [12], eps=1e-6), m.last)


def seen(m: torch.nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    """The same without norms."""
    h = F.linear(x, m.first)
    return F.linear(h + F.linear(F.linear(h, m.up).tanh(), m.down), m.last)


STREAM = {
    "first": _BASIS @ number(5, 7),
    "up": number(9, 12),
    "down": _BASIS @ number(5, 9) / 9,
    "last": number(4, 12),
}
UNITS = {"up": number(4, 6)[_COPIES], "u": number(4)[_COPIES], "down": number(3, 8)}


def hidden(m: torch.nn.Module, x: Tensor) -> Tensor:
    """Hidden units, half of them copies of the others."""
    return F.linear(F.linear(x, m.up, m.u).tanh(), m.down)


def hidden_and_seen(m: torch.nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """The same, whose hidden units are an output, too."""
    h = F.linear(x, m.up, m.u).tanh()
    return F.linear(h, m.down), h


def spelt(axis: int):
    """A root mean square over an axis."""
    return lambda m, x: x * torch.rsqrt(x.pow(2).mean(axis, keepdim=True) + 1e-6)


NORM = {"g": number(6), "b": number(6), "w": number(4, 6), "v": number(4)}

CASES = [
    fires(
        "share.factors",
        three,
        (5, 24),
        **SHARED,
        parameters={"error": 1e-6},
        times=3,
        precision=KEPT,
        expect="""
            linear_3 = linear(x, a_shared_in)
            linear_4 = linear(linear_3, a_core)
            linear_5 = linear(linear_4, a_shared_out, factors)
            tanh = tanh(linear_5)
            linear_6 = linear(linear_3, b_core)
            linear_7 = linear(linear_6, a_shared_out, factors_1)
            tanh_1 = tanh(linear_7)
            linear_8 = linear(linear_3, c_core)
            linear_9 = linear(linear_8, a_shared_out, factors_2)
            tanh_2 = tanh(linear_9)
        """,
    ),
    leaves(
        "share.factors",
        three,
        (5, 24),
        **APART,
        parameters={"error": 1e-6},
        because="each layer has spaces of its own",
    ),
    fires(
        "share.cosines",
        layer,
        (40, 24),
        w=ridge(48, 24),
        parameters={"error": 0.02},
        precision=0.1,
        expect="""
            arange = arange(1, 48, step=2, dtype=i64, device=cpu)
            mul = mul(w_frequencies, arange)
            remainder = remainder(mul, 96)
            mul_1 = mul(remainder, w_unit)
            cos = cos(mul_1)
            linear_1 = linear(x, cos)
            linear_2 = linear(linear_1, w_core, cosines)
        """,
    ),
    leaves(
        "share.cosines",
        layer,
        (40, 24),
        w=low_rank(48, 24, 3),
        parameters={"error": 0.02},
        because="its rows are not smooth",
    ),
    fires(
        "narrow.stream",
        stream,
        (40, 7),
        **STREAM,
        parameters={"width": Energy(1 - 1e-9)},
        precision=1e-3,
        expect="""
            linear = linear(x, first)
            rms_norm = rms_norm(linear, [5], first_gain, eps=2.4e-06)
            linear_1 = linear(rms_norm, up)
            tanh = tanh(linear_1)
            linear_2 = linear(tanh, down)
            add = add(linear, linear_2)
            rms_norm_1 = rms_norm(add, [5], first_gain, eps=2.4e-06)
            linear_3 = linear(rms_norm_1, last)
        """,
    ),
    leaves(
        "narrow.stream",
        seen,
        (40, 7),
        **STREAM,
        parameters={"width": Energy(1 - 1e-9)},
        because="without norms it is no stream",
    ),
    fires(
        "narrow.neurons",
        hidden,
        (40, 6),
        **UNITS,
        parameters={"width": Ratio(0.5)},
        precision=KEPT,
        expect="""
            linear_2 = linear(x, up_merged, u_merged)
            tanh_1 = tanh(linear_2)
            linear_3 = linear(tanh_1, down_neurons, neurons)
        """,
    ),
    leaves(
        "narrow.neurons",
        hidden_and_seen,
        (40, 6),
        **UNITS,
        parameters={"width": Ratio(0.5)},
        because="the units are an output",
    ),
    fires("narrow.spelt_norms", spelt(-1), (3, 6), expect="rms_norm = rms_norm(x, [6], eps=1e-06)"),
    leaves("narrow.spelt_norms", spelt(-2), (3, 6), because="the mean is over another axis"),
    fires(
        "narrow.norms.gain_of_rms_norm",
        lambda m, x: F.rms_norm(x, [6], eps=1e-6) * m.g,
        (3, 6),
        **NORM,
        expect="rms_norm_1 = rms_norm(x, [6], g, eps=1e-06)",
    ),
    leaves(
        "narrow.norms.gain_of_rms_norm",
        lambda m, x: F.rms_norm(x, [6], eps=1e-6) * m.v.unsqueeze(-1),
        (4, 6),
        **NORM,
        because="the factor is of a row",
    ),
    fires(
        "narrow.norms.rms_norm_into_linear",
        lambda m, x: F.linear(F.rms_norm(x, [6], m.g, eps=1e-6), m.w, m.v),
        (3, 6),
        **NORM,
        expect="""
            rms_norm_1 = rms_norm(x, [6], eps=1e-06)
            linear_1 = linear(rms_norm_1, w_rms_norm_into_linear, v)
        """,
    ),
    leaves(
        "narrow.norms.rms_norm_into_linear",
        lambda m, x: F.linear(F.rms_norm(x, [6], m.g, eps=1e-6), m.w) + F.linear(x, m.w),
        (3, 6),
        **NORM,
        because="another layer uses the weight",
    ),
    fires(
        "narrow.norms.layer_norm_into_linear",
        lambda m, x: F.linear(F.layer_norm(x, [6], m.g, m.b), m.w, m.v),
        (3, 6),
        **NORM,
        expect="""
            layer_norm_1 = layer_norm(x, [6])
            linear_1 = linear(layer_norm_1, w_layer_norm_into_linear, v_layer_norm_into_linear)
        """,
    ),
    leaves(
        "narrow.norms.layer_norm_into_linear",
        lambda m, x: F.linear(F.layer_norm(x, [6], m.g, m.b), m.w) + F.linear(x, m.w),
        (3, 6),
        **NORM,
        because="another layer uses the weight",
    ),
]
