"""Functions of one number, applied to each element: activations, elementary functions, casts."""

from __future__ import annotations

from typing import Any

from tdsl.ops.spec import Conversion, Converted, Operand, Operator, operator


def _pointwise(
    name: str,
    doc: str,
    *,
    more: str = "",
    aten: str = "",
    spellings: dict[str, Conversion | None] | None = None,
    torch: str = "",
    **facts: Any,
) -> Operator:
    """An operator of one tensor and the attributes `more`."""
    return operator(
        f"{name}(x{', ' if more else ''}{more}) -> like",
        aten=aten or f"aten.{name}.default",
        spellings=spellings,
        torch=torch,
        pointwise=True,
        doc=doc,
        **facts,
    )


def _elementary(name: str, doc: str, **facts: Any) -> Operator:
    return _pointwise(name, doc, torch=f"torch.{name} Tensor.{name}", **facts)


def _to_values(x: Any, dtype: Any, *_: Any) -> Converted:
    """The memory format, and whether to copy, do not change a value."""
    return x, dtype


def _to_layout(x: Any, *, dtype: Any, layout: Any, device: Any, pin_memory: Any, **_: Any) -> Converted:
    """A change of dtype only, the device staying what it is in every graph of ours."""
    return None if dtype is None else (x, dtype)


def _to_device(x: Any, device: Any, dtype: Any, *_: Any) -> Converted:
    return x, dtype


def _to_other(x: Any, other: Operand, *_: Any) -> Converted:
    return None if other.dtype is None else (x, other.dtype)


_ODD = frozenset(
    ["sin", "tan", "asin", "atan", "sinh", "asinh", "atanh", "erf", "erfinv", "round", "trunc", "frac"]
)
_EVEN = frozenset({"cos", "cosh"})

ACTIVATIONS = (
    _pointwise("relu", "max(x, 0).", torch="F.relu torch.relu Tensor.relu", homogeneous=True),
    _pointwise("relu6", "x clamped to [0, 6].", torch="F.relu6"),
    _pointwise(
        "gelu",
        "x · Φ(x), Φ the normal distribution function, or its approximation by tanh.",
        more='*, approximate: text = "none"',
        torch="F.gelu",
    ),
    _pointwise("silu", "x · sigmoid(x).", torch="F.silu"),
    _elementary("sigmoid", "1 / (1 + exp(-x)).", spellings={"aten.special_expit.default": None}),
    _elementary("tanh", "Hyperbolic tangent.", odd=True),
    _pointwise("mish", "x · tanh(log(1 + exp(x))).", torch="F.mish"),
    _pointwise(
        "elu",
        "scale · (x if x > 0, else alpha · (exp(input_scale · x) - 1)).",
        more="alpha: scalar = 1, scale: scalar = 1, input_scale: scalar = 1",
    ),
    _pointwise("selu", "elu with the constants that keep mean 0 and variance 1.", torch="F.selu"),
    _pointwise(
        "celu",
        "max(x, 0) + min(alpha · (exp(x / alpha) - 1), 0).",
        more="alpha: scalar = 1.0",
        torch="F.celu",
    ),
    _pointwise(
        "leaky_relu",
        "x if x > 0, else slope · x.",
        more="slope: scalar = 0.01",
        torch="F.leaky_relu",
        homogeneous=True,
    ),
    _pointwise(
        "hardtanh", "x clamped to [min, max].", more="min: scalar = -1, max: scalar = 1", torch="F.hardtanh"
    ),
    _pointwise("hardsigmoid", "x / 6 + 1 / 2 clamped to [0, 1].", torch="F.hardsigmoid"),
    _pointwise("hardswish", "x · hardsigmoid(x).", torch="F.hardswish"),
    _pointwise(
        "softplus",
        "log(1 + exp(beta · x)) / beta; x itself where beta · x > threshold.",
        more="beta: scalar = 1, threshold: scalar = 20",
        torch="F.softplus",
    ),
    _pointwise("log_sigmoid", "log(sigmoid(x)).", torch="F.logsigmoid"),
    _pointwise(
        "hardshrink",
        "x where |x| > bound, else 0.",
        more="bound: scalar = 0.5",
        torch="F.hardshrink",
        odd=True,
    ),
    _pointwise(
        "softshrink",
        "x moved towards 0 by the bound.",
        more="bound: scalar = 0.5",
        torch="F.softshrink",
        odd=True,
    ),
    _pointwise(
        "threshold",
        "x where x > bound, else the value.",
        more="bound: scalar, value: scalar",
        torch="F.threshold",
    ),
)

GATES = (
    operator(
        "prelu(x, weight) -> prelu",
        aten="aten.prelu.default",
        torch="F.prelu torch.prelu",
        doc="x if x > 0, else weight · x, the weight one number or one for every channel (axis 1).",
    ),
    operator(
        "glu(x, dim: dim = -1) -> glu",
        aten="aten.glu.default",
        torch="F.glu",
        rowwise=True,
        doc="The first half of the axis times the sigmoid of the second.",
    ),
)

ELEMENTARY = (
    _elementary(
        "neg", "-x.", spellings={"aten.negative.default": None}, linear_in=("x",), odd=True, homogeneous=True
    ),
    _elementary("abs", "|x|.", spellings={"aten.absolute.default": None}, even=True, homogeneous=True),
    _elementary("sign", "-1, 0 or 1.", spellings={"aten.sgn.default": None}, odd=True),
    _elementary(
        "square",
        "x².",
        even=True,
    ),
    _elementary("sqrt", "Square root."),
    _elementary("rsqrt", "1 / sqrt(x)."),
    _elementary("reciprocal", "1 / x.", odd=True),
    *(
        _elementary(name, doc, odd=name in _ODD, even=name in _EVEN)
        for name, doc in (
            ("exp", "eˣ."),
            ("exp2", "2ˣ."),
            ("expm1", "eˣ - 1."),
            ("log", "Natural logarithm."),
            ("log2", "Logarithm to base 2."),
            ("log10", "Logarithm to base 10."),
            ("log1p", "log(1 + x)."),
            ("sin", "Sine."),
            ("cos", "Cosine."),
            ("tan", "Tangent."),
            ("asin", "Inverse sine."),
            ("acos", "Inverse cosine."),
            ("atan", "Inverse tangent."),
            ("sinh", "Hyperbolic sine."),
            ("cosh", "Hyperbolic cosine."),
            ("asinh", "Inverse hyperbolic sine."),
            ("acosh", "Inverse hyperbolic cosine."),
            ("atanh", "Inverse hyperbolic tangent."),
            ("erf", "The error function."),
            ("erfc", "1 - erf(x)."),
            ("erfinv", "Inverse of the error function."),
            ("ceil", "The smallest integer not below x."),
            ("floor", "The largest integer not above x."),
            ("round", "The nearest integer, halves to even."),
            ("trunc", "x without its fraction."),
            ("frac", "x - trunc(x)."),
            ("isnan", "Whether x is NaN."),
            ("isinf", "Whether x is infinite."),
            ("isfinite", "Whether x is neither infinite nor NaN."),
            ("logical_not", "Whether x is zero."),
            ("bitwise_not", "Every bit of x flipped."),
        )
    ),
    _elementary("logit", "log(x / (1 - x)), x clamped to [eps, 1 - eps].", more="eps: float = None"),
    _elementary(
        "nan_to_num",
        "NaN and infinities replaced.",
        more="nan: float = None, posinf: float = None, neginf: float = None",
    ),
    _elementary(
        "clamp",
        "x, but not below min nor above max.",
        more="min: scalar = None, max: scalar = None",
        spellings={
            "aten.clip.default": None,
            "aten.clamp_min.default": None,
            "aten.clamp_max.default": lambda x, most: (x, None, most),
        },
    ),
    operator(
        "clamp_tensor(x, min? = 0, max? = 0) -> broadcast",
        aten="aten.clamp.Tensor",
        spellings={
            "aten.clip.Tensor": None,
            "aten.clamp_min.Tensor": None,
            "aten.clamp_max.Tensor": lambda x, most: (x, None, most),
        },
        elementwise=True,
        doc="x, but not below the elements of min nor above those of max; one of them is given.",
    ),
    operator(
        "cast(x, dtype: dtype, non_blocking: bool = False, copy: bool = False, memory_format: any = None) "
        "-> like",
        aten="aten.to.dtype",
        spellings={
            "aten._to_copy.default": _to_layout,
            "aten.to.dtype_layout": _to_layout,
            "aten.to.device": _to_device,
            "aten.to.other": _to_other,
            "aten.type_as.default": _to_other,
        },
        normal=_to_values,
        torch="Tensor.to",
        pointwise=True,
        doc="x in another dtype.",
    ),
)
