"""Folds along axes, scans, and what picks the largest: sum, mean, argmax, topk, cumsum."""

from __future__ import annotations

from typing import Any

from tdsl.ops.spec import Converted, Operand, operator


def _whole(x: Operand, *, dtype: Any = None) -> Converted:
    """Over all axes."""
    return x, None, False, {"dtype": dtype}


def _whole_extreme(x: Operand) -> Converted:
    return x, []


def _whole_logic(x: Operand) -> Converted:
    return x, None


def _one_axis(x: Operand, dim: int, keepdim: bool) -> Converted:
    return x, [dim], keepdim


def _bessel(x: Operand, dim: Any, unbiased: bool = True, keepdim: bool = False) -> Converted:
    return x, dim, {"correction": int(unbiased), "keepdim": keepdim}


def _whole_bessel(x: Operand, unbiased: bool) -> Converted:
    return _bessel(x, None, unbiased)


def _correction(x: Operand, dim: Any, *, correction: Any, keepdim: bool) -> Converted:
    """Without a correction it is 1."""
    return x, dim, {"correction": 1 if correction is None else correction, "keepdim": keepdim}


def _norm(x: Operand, p: Any = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Converted:
    """`aten.norm` of vectors; an empty list of axes means all of them."""
    return x, 2 if p is None else p, dim or None, keepdim, {"dtype": dtype}


def _linalg_norm(x: Operand, order: Any, dim: Any, keepdim: bool, *, dtype: Any) -> Converted:
    """Over one axis, or of everything with the default order; otherwise it may be a norm of matrices."""
    axes = [dim] if isinstance(dim, int) else dim
    if (axes is not None and len(axes) == 1) or order is None:
        return x, 2 if order is None else order, axes, keepdim, {"dtype": dtype}
    return None


REDUCTION = (
    operator(
        "sum(x, dim: dims = None, keepdim: bool = False, *, dtype: dtype = None) -> reduce",
        aten="aten.sum.dim_IntList",
        spellings={"aten.sum.default": _whole},
        torch="torch.sum Tensor.sum",
        reduces=True,
        linear_in=("x",),
        doc="The sum over the axes.",
    ),
    operator(
        "mean(x, dim: dims = None, keepdim: bool = False, *, dtype: dtype = None) -> reduce",
        aten="aten.mean.dim",
        spellings={"aten.mean.default": _whole},
        torch="torch.mean Tensor.mean",
        reduces=True,
        linear_in=("x",),
        doc="The mean over the axes.",
    ),
    operator(
        "amax(x, dim: axes = [], keepdim: bool = False) -> extreme",
        aten="aten.amax.default",
        spellings={"aten.max.default": _whole_extreme},
        torch="torch.amax Tensor.amax",
        reduces=True,
        doc="The largest element over the axes; without axes, of all.",
    ),
    operator(
        "amin(x, dim: axes = [], keepdim: bool = False) -> extreme",
        aten="aten.amin.default",
        spellings={"aten.min.default": _whole_extreme},
        torch="torch.amin Tensor.amin",
        reduces=True,
        doc="The smallest element over the axes; without axes, of all.",
    ),
    operator(
        "prod(x, dim: dim, keepdim: bool = False, *, dtype: dtype = None) -> reduce",
        aten="aten.prod.dim_int",
        reduces=True,
        doc="The product over an axis.",
    ),
    operator(
        "var(x, dim: dims = None, *, correction: scalar = None, keepdim: bool = False) -> reduce",
        aten="aten.var.correction",
        spellings={"aten.var.dim": _bessel, "aten.var.default": _whole_bessel},
        normal=_correction,
        torch="torch.var Tensor.var",
        reduces=True,
        doc="The variance over the axes: squares about the mean, summed and divided by (count - correction).",
    ),
    operator(
        "std(x, dim: dims = None, *, correction: scalar = None, keepdim: bool = False) -> reduce",
        aten="aten.std.correction",
        spellings={"aten.std.dim": _bessel, "aten.std.default": _whole_bessel},
        normal=_correction,
        torch="torch.std Tensor.std",
        reduces=True,
        doc="The square root of the variance.",
    ),
    operator(
        "var_mean(x, dim: dims = None, *, correction: scalar = None, keepdim: bool = False) -> reduce_two",
        aten="aten.var_mean.correction",
        results=2,
        spellings={"aten.var_mean.dim": _bessel, "aten.var_mean.default": _whole_bessel},
        normal=_correction,
        torch="torch.var_mean",
        reduces=True,
        doc="The variance and the mean.",
    ),
    operator(
        "norm(x, order: scalar = 2, dim: dims = None, keepdim: bool = False, *, dtype: dtype = None) "
        "-> reduce",
        aten="aten.linalg_vector_norm.default",
        spellings={
            "aten.norm.Scalar": _norm,
            "aten.norm.ScalarOpt_dim": _norm,
            "aten.norm.ScalarOpt_dim_dtype": _norm,
            "aten.norm.ScalarOpt_dtype": _norm,
            "aten.linalg_norm.default": _linalg_norm,
        },
        reduces=True,
        doc="The vector norm over the axes: (sum |x|ᵖ)^(1/p).",
    ),
    operator(
        "logsumexp(x, dim: axes, keepdim: bool = False) -> reduce_named",
        aten="aten.logsumexp.default",
        torch="torch.logsumexp Tensor.logsumexp",
        reduces=True,
        doc="log(sum(exp(x))) over the axes.",
    ),
    operator(
        "any(x, dim: dims = None, keepdim: bool = False) -> reduce",
        aten="aten.any.dims",
        spellings={"aten.any.default": _whole_logic, "aten.any.dim": _one_axis},
        torch="torch.any Tensor.any",
        reduces=True,
        doc="Whether an element over the axes is not zero.",
    ),
    operator(
        "all(x, dim: dims = None, keepdim: bool = False) -> reduce",
        aten="aten.all.dims",
        spellings={"aten.all.default": _whole_logic, "aten.all.dim": _one_axis},
        torch="torch.all Tensor.all",
        reduces=True,
        doc="Whether no element over the axes is zero.",
    ),
    operator(
        "argmax(x, dim: dim = None, keepdim: bool = False) -> extreme",
        aten="aten.argmax.default",
        torch="torch.argmax Tensor.argmax",
        doc="Where along the axis the largest element is (of all elements in a row, without an axis).",
    ),
    operator(
        "argmin(x, dim: dim = None, keepdim: bool = False) -> extreme",
        aten="aten.argmin.default",
        torch="torch.argmin Tensor.argmin",
        doc="Where along the axis the smallest element is (of all elements in a row, without an axis).",
    ),
    operator(
        "max_and_index(x, dim: dim, keepdim: bool = False) -> extreme_two",
        aten="aten.max.dim",
        results=2,
        doc="The largest element along the axis, and where it is.",
    ),
    operator(
        "min_and_index(x, dim: dim, keepdim: bool = False) -> extreme_two",
        aten="aten.min.dim",
        results=2,
        doc="The smallest element along the axis, and where it is.",
    ),
    operator(
        "topk(x, k: int, dim: dim = -1, largest: bool = True, sorted: bool = True) -> topk",
        aten="aten.topk.default",
        results=2,
        torch="torch.topk Tensor.topk",
        rowwise=True,
        doc="The k largest (or smallest) elements along the axis, and where they are.",
    ),
    operator(
        "sort(x, dim: dim = -1, descending: bool = False) -> like_two",
        aten="aten.sort.default",
        results=2,
        rowwise=True,
        doc="The elements along the axis in order, and where they were.",
    ),
    operator(
        "sort_stable(x, *, stable: bool, dim: dim = -1, descending: bool = False) -> like_two",
        aten="aten.sort.stable",
        results=2,
        rowwise=True,
        doc="As sort; equal elements keep their order when stable.",
    ),
    operator(
        "argsort(x, dim: dim = -1, descending: bool = False) -> along",
        aten="aten.argsort.default",
        rowwise=True,
        doc="Where the elements along the axis, in order, are.",
    ),
    operator(
        "cumsum(x, dim: dim, *, dtype: dtype = None) -> along",
        aten="aten.cumsum.default",
        torch="torch.cumsum Tensor.cumsum",
        linear_in=("x",),
        rowwise=True,
        doc="At each place along the axis the sum up to there.",
    ),
    operator(
        "diff(x, order: int = 1, dim: dim = -1, before? = 0, after? = 0) -> diff",
        aten="aten.diff.default",
        torch="torch.diff",
        linear_in=("x",),
        doc="Each element along the axis minus the one before it, so many times; x may be extended first.",
    ),
    operator(
        "cumprod(x, dim: dim, *, dtype: dtype = None) -> along",
        aten="aten.cumprod.default",
        torch="torch.cumprod Tensor.cumprod",
        rowwise=True,
        doc="At each place along the axis the product up to there.",
    ),
    operator(
        "logcumsumexp(x, dim: dim) -> along",
        aten="aten.logcumsumexp.default",
        torch="torch.logcumsumexp",
        rowwise=True,
        doc="At each place along the axis log(sum(exp(x))) up to there.",
    ),
)
