"""Convolutions of every kind whose kernels have exactly the structure, and the rank, that a rule asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from rule_cases import number
from torch import Tensor

from tdsl.factor.table import DECOMPOSITIONS


@dataclass(frozen=True)
class Site:
    """A convolution whose kernel is a product of factors of that rank."""

    rule: str
    conv: Callable[..., Tensor]
    channels: int
    weight: Tensor
    rank: int
    groups: int = 1

    @property
    def axes(self) -> int:
        return self.weight.ndim - 2

    @property
    def kernel(self) -> tuple[int, ...]:
        return tuple(self.weight.shape[2:])

    @property
    def filters(self) -> int:
        transposed = "transpose" in self.conv.__name__
        return self.weight.shape[1] * self.groups if transposed else self.weight.shape[0]

    def image(self, batch: int | None = 2) -> Tensor:
        sizes = (self.channels, *(12, 14, 8)[: self.axes])
        return number(*sizes) if batch is None else number(batch, *sizes)


def planted(decomposition: str, shape: tuple[int, ...], rank: int) -> Tensor:
    """A kernel that the decomposition holds exactly: the product of its factors of random numbers."""
    declared = DECOMPOSITIONS[decomposition]
    weight: Tensor = declared.promise(*declared.function(number(*shape), rank))
    return weight


def sites() -> dict[str, Site]:
    found = {}
    for name, rule, shape, rank in [
        ("channel_svd", "conv.channel_svd", (8, 6, 3, 3), 2),
        ("input_svd", "conv.input_svd", (8, 6, 3, 3), 2),
        ("input_svd", "conv1d.input_svd_1d", (8, 6, 5), 2),
        ("spatial_svd", "conv.spatial_svd", (8, 6, 3, 3), 2),
        ("tucker2", "conv.tucker2", (8, 6, 3, 3), 2),
        ("depthwise_separable", "conv.depthwise_separable", (8, 6, 3, 3), 2),
        ("channel_svd", "conv1d.channel_svd_1d", (8, 6, 5), 2),
        ("tucker2", "conv1d.tucker2_1d", (8, 6, 5), 2),
        ("depthwise_separable", "conv1d.depthwise_separable_1d", (8, 6, 5), 2),
        ("spatial_svd", "conv3d.spatial_svd_3d", (8, 6, 3, 3, 2), 2),
        ("channel_svd", "conv3d.channel_svd_3d", (8, 6, 3, 3, 2), 2),
        ("tucker2", "conv3d.tucker2_3d", (8, 6, 3, 3, 2), 2),
        ("cp", "conv_cp.cp", (8, 6, 3, 3), 2),
        ("cp_separable", "conv_cp.cp_separable", (8, 6, 3, 3), 2),
        ("cp", "conv_cp.cp_1d", (8, 6, 5), 2),
        ("cp", "conv_cp.cp_3d", (8, 6, 3, 3, 2), 2),
    ]:
        conv = (F.conv1d, F.conv2d, F.conv3d)[len(shape) - 3]
        found[rule] = Site(f"factorize.{rule}", conv, shape[1], planted(name, shape, rank), rank)
    for name, rule, shape, rank in [
        ("grouped_channel_svd", "conv_grouped.grouped_channel_svd", (2, 4, 3, 3, 3), 1),
        ("grouped_channel_svd", "conv_grouped.grouped_channel_svd_1d", (2, 4, 3, 5), 1),
        ("grouped_spatial_svd", "conv_grouped.grouped_spatial_svd", (3, 4, 2, 3, 3), 1),
    ]:
        groups, outputs, inputs, *size = shape
        weight = planted(name, shape, rank).reshape(groups * outputs, inputs, *size)
        conv = (F.conv1d, F.conv2d)[len(size) - 1]
        found[rule] = Site(f"factorize.{rule}", conv, groups * inputs, weight, rank, groups)
    for multiplier in (1, 2):
        weight = planted("grouped_spatial_svd", (6, multiplier, 1, 5, 5), 1).reshape(6 * multiplier, 1, 5, 5)
        rule = "factorize.conv_grouped.grouped_spatial_svd"
        found[f"depthwise by {multiplier}"] = Site(rule, F.conv2d, 6, weight, 1, 6)
    for name, rule, shape, rank, turned in [
        ("channel_svd", "channel_svd_transposed", (6, 8, 3, 3), 2, True),
        ("channel_svd", "input_svd_transposed", (8, 6, 3, 3), 2, False),
        ("channel_svd", "input_svd_transposed_1d", (8, 6, 5), 2, False),
        ("channel_svd", "input_svd_transposed_3d", (8, 6, 3, 2, 3), 2, False),
        ("spatial_svd", "spatial_svd_transposed", (6, 8, 3, 3), 2, True),
        ("tucker2", "tucker2_transposed", (6, 8, 3, 3), 2, True),
    ]:
        weight = planted(name, shape, rank)
        weight = weight.transpose(0, 1).contiguous() if turned else weight
        conv = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[len(shape) - 3]
        found[rule] = Site(f"factorize.conv_transpose.{rule}", conv, weight.shape[0], weight, rank)
    return found


SITES = sites()
PLAIN = [name for name, site in SITES.items() if "transpose" not in site.rule]
