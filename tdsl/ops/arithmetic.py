"""Arithmetic, comparison and logic: functions of several tensors' elements, under broadcasting."""

from __future__ import annotations

from typing import Any

from tdsl.ops.spec import Conversion, Converted, Operator, operator


def _scaled(x: Any, y: Any, alpha: Any) -> Converted:
    """`aten.add.Scalar` has by position what is keyword-only in `aten.add.Tensor`."""
    return x, y, {"alpha": alpha}


def _reversed(x: Any, y: Any, alpha: Any = 1) -> Converted:
    """`rsub(x, y, alpha) = y - alpha · x`."""
    return y, x, {"alpha": alpha}


def _binary(
    name: str,
    doc: str,
    *,
    variants: tuple[str, ...] = (),
    spellings: dict[str, Conversion | None] | None = None,
    **facts: Any,
) -> Operator:
    """An operator of two tensors; `variants` name the overloads that take a number."""
    overload = "Tensor" if variants else "default"
    kind = ": value" if variants else ""
    return operator(
        f"{name}(x{': value' if 'Scalar_Tensor' in variants else ''}, y{kind}) -> broadcast",
        aten=f"aten.{name}.{overload}",
        variants=" ".join(f"aten.{name}.{variant}" for variant in variants),
        spellings=spellings,
        elementwise=True,
        doc=doc,
        **facts,
    )


def _comparison(name: str, long_name: str, symbol: str, commutative: bool = False) -> Operator:
    return _binary(
        name,
        f"x {symbol} y, element by element.",
        variants=("Scalar",),
        spellings={f"aten.{long_name}.Tensor": None, f"aten.{long_name}.Scalar": None} if long_name else None,
        torch=f"torch.{name} operator.{name} Tensor.{name}",
        commutative=commutative,
    )


ARITHMETIC = (
    operator(
        "add(x: value, y: value, *, alpha: scalar = 1) -> broadcast",
        aten="aten.add.Tensor",
        spellings={"aten.add.Scalar": _scaled},
        torch="torch.add operator.add Tensor.add",
        commutative=True,
        associative=True,
        elementwise=True,
        doc="x + alpha · y.",
    ),
    operator(
        "sub(x: value, y: value, *, alpha: scalar = 1) -> broadcast",
        aten="aten.sub.Tensor",
        spellings={
            "aten.sub.Scalar": _scaled,
            "aten.subtract.Tensor": None,
            "aten.subtract.Scalar": _scaled,
            "aten.rsub.Tensor": _reversed,
            "aten.rsub.Scalar": _reversed,
        },
        torch="torch.sub operator.sub Tensor.sub",
        elementwise=True,
        doc="x - alpha · y.",
    ),
    operator(
        "mul(x: value, y: value) -> broadcast",
        aten="aten.mul.Tensor",
        spellings=dict.fromkeys(("aten.mul.Scalar", "aten.multiply.Tensor", "aten.multiply.Scalar")),
        torch="torch.mul operator.mul Tensor.mul",
        commutative=True,
        associative=True,
        elementwise=True,
        linear_in=("x", "y"),
        doc="x · y, element by element.",
    ),
    operator(
        "div(x: value, y: value) -> broadcast",
        aten="aten.div.Tensor",
        spellings={
            **dict.fromkeys(
                (
                    "aten.div.Scalar",
                    "aten.divide.Tensor",
                    "aten.divide.Scalar",
                    "aten.true_divide.Tensor",
                    "aten.true_divide.Scalar",
                )
            ),
        },
        torch="torch.div operator.truediv Tensor.div",
        elementwise=True,
        linear_in=("x",),
        doc="x / y, element by element.",
    ),
    operator(
        "div_rounded(x, y: value, *, rounding_mode: text) -> broadcast",
        aten="aten.div.Tensor_mode",
        variants="aten.div.Scalar_mode",
        elementwise=True,
        doc='x / y, rounded to an integer ("floor", or "trunc": towards zero), or not (none).',
    ),
    operator(
        "pow(x: value, exponent: value) -> broadcast",
        aten="aten.pow.Tensor_Scalar",
        variants="aten.pow.Tensor_Tensor aten.pow.Scalar",
        torch="torch.pow operator.pow Tensor.pow",
        elementwise=True,
        doc="x to the power of the exponent.",
    ),
    operator(
        "floor_divide(x, y: value) -> broadcast",
        aten="aten.floor_divide.default",
        variants="aten.floor_divide.Scalar",
        torch="torch.floor_divide operator.floordiv",
        elementwise=True,
        doc="The largest integer not above x / y.",
    ),
    _binary(
        "remainder",
        "x modulo y, with the sign of y.",
        variants=("Scalar", "Scalar_Tensor"),
        torch="torch.remainder operator.mod",
    ),
    _binary("fmod", "x modulo y, with the sign of x.", variants=("Scalar",), torch="torch.fmod"),
    _binary(
        "maximum",
        "The larger of x and y.",
        spellings={"aten.max.other": None},
        torch="torch.maximum",
        commutative=True,
        associative=True,
    ),
    _binary(
        "minimum",
        "The smaller of x and y.",
        spellings={"aten.min.other": None},
        torch="torch.minimum",
        commutative=True,
        associative=True,
    ),
    _binary(
        "fmax", "The larger of x and y, ignoring NaN.", torch="torch.fmax", commutative=True, associative=True
    ),
    _binary(
        "fmin",
        "The smaller of x and y, ignoring NaN.",
        torch="torch.fmin",
        commutative=True,
        associative=True,
    ),
    _binary("atan2", "The angle of the point (y, x).", torch="torch.atan2"),
    _binary("hypot", "sqrt(x² + y²).", torch="torch.hypot", commutative=True, associative=True),
    _binary(
        "logaddexp", "log(exp(x) + exp(y)).", torch="torch.logaddexp", commutative=True, associative=True
    ),
    _comparison("eq", "", "==", commutative=True),
    _comparison("ne", "not_equal", "!=", commutative=True),
    _comparison("lt", "less", "<"),
    _comparison("le", "less_equal", "<="),
    _comparison("gt", "greater", ">"),
    _comparison("ge", "greater_equal", ">="),
    _binary("logical_and", "x and y.", torch="torch.logical_and", commutative=True, associative=True),
    _binary("logical_or", "x or y.", torch="torch.logical_or", commutative=True, associative=True),
    _binary(
        "logical_xor",
        "Either x or y, not both.",
        torch="torch.logical_xor",
        commutative=True,
        associative=True,
    ),
    *(
        _binary(
            f"bitwise_{word}",
            f"x {word} y, bit by bit; for booleans the same as logical_{word}.",
            variants=("Scalar", "Scalar_Tensor"),
            spellings={f"aten.__{word}__.Tensor": None, f"aten.__{word}__.Scalar": None},
            torch=f"torch.bitwise_{word} operator.{word}{'' if word == 'xor' else '_'}",
            commutative=True,
            associative=True,
        )
        for word in ("and", "or", "xor")
    ),
    operator(
        "where(condition, x: value, y: value) -> broadcast",
        aten="aten.where.self",
        variants="aten.where.ScalarOther aten.where.ScalarSelf aten.where.Scalar",
        torch="torch.where",
        elementwise=True,
        selects={"condition": "mask"},
        doc="x where the condition holds, y elsewhere.",
    ),
    operator(
        "masked_fill(x, mask, value: value) -> masked_fill",
        aten="aten.masked_fill.Scalar",
        variants="aten.masked_fill.Tensor",
        torch="torch.masked_fill Tensor.masked_fill",
        elementwise=True,
        selects={"mask": "mask"},
        doc="The value where the mask holds, x elsewhere.",
    ),
    _binary("heaviside", "0, y or 1 as x is below, at or above 0.", torch="torch.heaviside"),
    operator(
        "lerp(x, y, weight: value) -> broadcast",
        aten="aten.lerp.Scalar",
        variants="aten.lerp.Tensor",
        torch="torch.lerp",
        elementwise=True,
        doc="x + weight · (y - x).",
    ),
    operator(
        "addcmul(x, y, z, *, value: scalar = 1) -> broadcast",
        aten="aten.addcmul.default",
        torch="torch.addcmul",
        elementwise=True,
        doc="x + value · y · z.",
    ),
    operator(
        "addcdiv(x, y, z, *, value: scalar = 1) -> broadcast",
        aten="aten.addcdiv.default",
        torch="torch.addcdiv",
        elementwise=True,
        doc="x + value · y / z.",
    ),
)
