"""Samples of pointwise and elementwise operators and of reductions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from operator_draws import SAMPLES, Draw, Sample, T, sample

from tdsl.ops import OPERATORS, Operator

_ROLES = {
    "sqrt": "positive", "rsqrt": "positive", "log": "positive", "log2": "positive", "log10": "positive",
    "log1p": "positive", "asin": "unit", "acos": "unit", "atanh": "unit", "erfinv": "unit", "acosh": "above",
    "logit": "unit", "bitwise_not": "whole", "bernoulli": "share",
}  # fmt: skip
_ATTRIBUTES: dict[str, Sample] = {
    "threshold": {"bound": 0.5, "value": -1.0},
    "clamp": {"min": -0.5, "max": 1.0},
    "cast": {"dtype": torch.float32},
    "logit": {"eps": 0.1},
    "dropout": {"p": 0.5, "train": False},
    "feature_dropout": {"p": 0.5, "train": False},
    "alpha_dropout": {"p": 0.5, "train": False},
    "native_dropout": {"p": 0.5, "train": True},
    "full_like": {"value": 2.0},
    "fill": {"value": 2.0},
}


def _like(op: Operator) -> Callable[[Draw], Sample]:
    def draw(d: Draw) -> Sample:
        return {"x": T(d.shape(), _ROLES.get(op.name, "real")), **_ATTRIBUTES.get(op.name, {})}

    return draw


def _broadcast(op: Operator) -> Callable[[Draw], Sample]:
    bits, logic = op.name.startswith("bitwise"), op.name in ("where", "masked_fill")
    role = "whole" if bits else "positive" if op.name in ("pow", "addcdiv") else "real"

    def draw(d: Draw) -> Sample:
        shape = d.shape()
        found: Sample = {}
        for i, p in enumerate(op.operands):
            first = "condition" if op.name == "where" else "mask"
            own = "bool" if logic and p.name == first else role
            found[p.name] = T(shape if i == 0 else d.under(shape), own)
            if p.kind == "value" and i > 0 and d.pick(True, False, False):
                found[p.name] = 3 if bits else 1.5
        if op.name == "masked_fill":
            found["value"] = d.pick(2.0, T(()))
        if op.name == "div_rounded":
            found["rounding_mode"] = d.pick("floor", "trunc")
        if op.name == "lerp":
            found["weight"] = d.pick(0.3, found["weight"])
        if op.name == "clamp_tensor":
            absent = d.pick("min", "max", None)
            if absent:
                found[absent] = None
        return found

    return draw


for _name, _op in OPERATORS.items():
    if _op.result == "like" and _name not in ("bucketize",):
        SAMPLES.setdefault(_name, _like(_op))
    if _op.result in ("broadcast", "masked_fill"):
        SAMPLES.setdefault(_name, _broadcast(_op))

SAMPLES["native_dropout"] = _like(OPERATORS["native_dropout"])


@sample("feature_dropout")
def _feature_dropout(d: Draw) -> Sample:
    return {"x": T(d.shape(2, 4)), "p": 0.5, "train": False}


@sample("bucketize")
def _bucketize(d: Draw) -> Sample:
    return {"x": T(d.shape()), "boundaries": T((d.some(),))}


@sample("copy")
def _copy(d: Draw) -> Sample:
    shape = d.shape()
    return {"x": T(shape), "source": T(d.under(shape))}


@sample("sum", "mean", "amax", "amin", "var", "std", "var_mean", "norm", "any", "all")
def _reduce(d: Draw) -> Sample:
    shape = d.shape(empty=False)
    return {"x": T(shape), "dim": d.dims(len(shape)), "keepdim": d.pick(True, False)}


@sample("logsumexp")
def _reduce_named(d: Draw) -> Sample:
    shape = d.shape(1, 4)
    return {"x": T(shape), "dim": d.dims(len(shape), least=1), "keepdim": d.pick(True, False)}


@sample("prod", "argmax", "argmin", "max_and_index", "min_and_index")
def _reduce_one(d: Draw) -> Sample:
    shape = d.shape(empty=False)
    return {"x": T(shape), "dim": d.dim(len(shape)), "keepdim": d.pick(True, False)}


@sample("topk")
def _topk(d: Draw) -> Sample:
    shape = d.shape(1, 3)
    dim = d.dim(len(shape))
    return {"x": T(shape), "k": d.int(0, shape[dim]), "dim": dim, "largest": d.pick(True, False)}
