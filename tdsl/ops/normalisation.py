"""Normalisation layers and softmax."""

from __future__ import annotations

from typing import Any

from tdsl.ops.spec import Converted, Operand, operator


def _without_cudnn(*arguments: Any) -> Converted:
    """The last argument chooses a kernel, not a meaning."""
    return (*arguments[:-1], True)


def _from_kernel(x: Operand, dim: int, half_to_float: bool) -> Converted:
    return None if half_to_float else (x, dim)


NORMALISATION = (
    operator(
        "batch_norm(x: [b, c, ...], weight?: [c] = 1, bias?: [c] = 0, mean?: [c] = 0, var?: [c] = 1, "
        "training: bool, momentum: float, eps: float, cudnn: bool) -> [b, c, ...]",
        aten="aten.batch_norm.default",
        torch="F.batch_norm",
        normal=_without_cudnn,
        doc="(x - mean) / sqrt(var + eps) · weight + bias for every channel.",
    ),
    operator(
        "native_batch_norm(x: [b, c, ...], weight?: [c] = 1, bias?: [c] = 0, mean: [c], var: [c], "
        "momentum: float, eps: float) -> native_batch_norm",
        aten="aten._native_batch_norm_legit_no_training.default",
        results=3,
        doc="batch_norm at inference, as decomposed: the result, and two empty tensors for training.",
    ),
    operator(
        "native_batch_norm_of_batch(x: [b, c, ...], weight?: [c] = 1, bias?: [c] = 0, training: bool, "
        "momentum: float, eps: float) -> native_batch_norm_of_batch",
        aten="aten._native_batch_norm_legit.no_stats",
        results=3,
        doc="Mean 0 and variance 1 over the batch for each channel; means and 1 / sqrt(variance + eps).",
    ),
    operator(
        "weight_norm(direction, length, dim: int = 0) -> weight_norm",
        aten="aten._weight_norm.default",
        linear_in=("length",),
        doc="The direction scaled to the length, for every slice along the axis (Salimans and Kingma, 2016); "
        "axis -1 is not the last one but none: one length for the whole.",
    ),
    operator(
        "layer_norm(x, shape: shape, weight? = 1, bias? = 0, eps: float = 1e-05, cudnn: bool = True) "
        "-> layer_norm",
        aten="aten.layer_norm.default",
        normal=_without_cudnn,
        torch="F.layer_norm",
        doc="Mean 0 and variance 1 over the last axes, of the given shape, then · weight + bias.",
    ),
    operator(
        "native_layer_norm(x, shape: shape, weight? = 1, bias? = 0, eps: float) -> native_layer_norm",
        aten="aten.native_layer_norm.default",
        results=3,
        doc="layer_norm as decomposed: the result, the mean, and 1 / sqrt(variance + eps).",
    ),
    operator(
        "rms_norm(x, shape: shape, weight? = 1, eps: float = None) -> layer_norm",
        aten="aten.rms_norm.default",
        torch="F.rms_norm",
        doc="x / sqrt(mean(x²) + eps) over the last axes, of the given shape, then · weight.",
    ),
    operator(
        "group_norm(x: [b, c, ...], groups: int, weight?: [c] = 1, bias?: [c] = 0, eps: float = 1e-05, "
        "cudnn: bool = True) -> group_norm",
        aten="aten.group_norm.default",
        normal=_without_cudnn,
        torch="F.group_norm",
        doc="Mean 0 and variance 1 over each group of channels, then · weight + bias for every channel.",
    ),
    operator(
        "native_group_norm(x: [b, c, ...], weight?: [c] = 1, bias?: [c] = 0, batch: int, channels: int, "
        "positions: int, groups: int, eps: float) -> native_group_norm",
        aten="aten.native_group_norm.default",
        results=3,
        doc="group_norm as decomposed: the result, the means, and 1 / sqrt(variance + eps).",
    ),
    operator(
        "instance_norm(x: [b, c, ...], weight?: [c] = 1, bias?: [c] = 0, mean?: [c] = 0, var?: [c] = 1, "
        "use_input_stats: bool, momentum: float, eps: float, cudnn: bool) -> [b, c, ...]",
        aten="aten.instance_norm.default",
        normal=_without_cudnn,
        doc="Mean 0 and variance 1 over the positions of each channel of each sample, then · weight + bias.",
    ),
    operator(
        "softmax(x, dim: dim, dtype: dtype = None) -> along",
        aten="aten.softmax.int",
        spellings={"aten._softmax.default": _from_kernel},
        torch="torch.softmax Tensor.softmax",
        rowwise=True,
        doc="exp(x) / sum(exp(x)) along the axis.",
    ),
    operator(
        "log_softmax(x, dim: dim, dtype: dtype = None) -> along",
        aten="aten.log_softmax.int",
        spellings={"aten._log_softmax.default": _from_kernel},
        torch="torch.log_softmax Tensor.log_softmax",
        rowwise=True,
        doc="x - log(sum(exp(x))) along the axis.",
    ),
    operator(
        "cosine_similarity(x, y, dim: dim = 1, eps: float = 1e-08) -> cosine_similarity",
        aten="aten.cosine_similarity.default",
        torch="F.cosine_similarity",
        commutative=True,
        doc="sum(x · y) / (|x| · |y|) along the axis.",
    ),
    operator(
        "cdist(x, y, order: float = 2.0, mode: any = None) -> distances",
        aten="aten.cdist.default",
        torch="torch.cdist",
        doc="The norm of the difference of every row of x and every row of y.",
    ),
    operator(
        "pairwise_distance(x, y, order: float = 2.0, eps: float = 1e-06, keepdim: bool = False) "
        "-> pair_distances",
        aten="aten.pairwise_distance.default",
        torch="F.pairwise_distance",
        doc="The norm of x - y + eps along the last axis.",
    ),
)
