"""Dense linear algebra: products of matrices and vectors."""

from __future__ import annotations

from math import prod
from typing import Any

from tdsl.ops.einsum import canonical_equation, read_einsum
from tdsl.ops.spec import Converted, Operand, Shape, operator


def _matmul_macs(x: Shape, y: Shape, result: Shape, **_: Any) -> Any:
    return prod(result) * x[-1]


def _einsum_macs(equation: str, tensors: list[Shape], **_: Any) -> Any:
    """One multiplication for every assignment of the indices and each operand after the first.

    That is exact for two operands; for more it is the cost without a clever order of contraction.
    """
    read = read_einsum(equation, tensors)
    return prod((*read.sizes.values(), *read.batch)) * (len(tensors) - 1)


def _one_spelling(equation: str, tensors: list[Operand], *, path: Any = None) -> Converted:
    """The equation in its canonical spelling."""
    return canonical_equation(equation), tensors, {"path": path}


LINEAR = (
    operator(
        "linear(x: [..., n], weight: [m, n], bias?: [m] = 0) -> [..., m]",
        aten="aten.linear.default",
        torch="F.linear",
        linear_in=("x", "weight"),
        macs=lambda x, weight, **_: prod(x) * weight[0],
        doc="x · weightᵀ + bias over the last axis.",
    ),
    operator(
        "matmul(x, y) -> matmul",
        aten="aten.matmul.default",
        spellings=dict.fromkeys(
            ("aten.mm.default", "aten.bmm.default", "aten.mv.default", "aten.dot.default")
        ),
        torch="torch.matmul torch.mm torch.bmm torch.mv operator.matmul Tensor.matmul Tensor.mm Tensor.bmm",
        associative=True,
        linear_in=("x", "y"),
        macs=_matmul_macs,
        doc="Product over the last two axes, the others broadcast; associative if no operand is a vector.",
    ),
    operator(
        "addmm(bias, x: [l, n], weight: [n, m], *, beta: scalar = 1, alpha: scalar = 1) -> addmm",
        aten="aten.addmm.default",
        torch="torch.addmm",
        linear_in=("x", "weight"),
        macs=lambda x, weight, **_: prod(x) * weight[1],
        doc="beta · bias + alpha · x · weight, for matrices.",
    ),
    operator(
        "baddbmm(bias, x: [b, l, n], weight: [b, n, m], *, beta: scalar = 1, alpha: scalar = 1) -> addmm",
        aten="aten.baddbmm.default",
        torch="torch.baddbmm",
        linear_in=("x", "weight"),
        macs=lambda x, weight, **_: prod(x) * weight[2],
        doc="beta · bias + alpha · x · weight, for batches of matrices.",
    ),
    operator(
        "outer(x: [n], y: [m]) -> [n, m]",
        aten="aten.outer.default",
        spellings={"aten.ger.default": None},
        torch="torch.outer",
        linear_in=("x", "y"),
        macs=lambda x, y, **_: x[0] * y[0],
        doc="Every product of an element of x and one of y.",
    ),
    operator(
        "einsum(equation: text, tensors..., *, path: any = None) -> einsum",
        aten="aten.einsum.default",
        normal=_one_spelling,
        macs=_einsum_macs,
        doc="Sum of products, the indices named in the equation.",
    ),
)
