"""Cases of `passes/decompose/project.tdsl` and `soft.tdsl`: weights that are nearly symmetric, and others."""

import math
import textwrap
from collections.abc import Callable

import torch.nn.functional as F
from rule_cases import Case, fires, leaves, low_rank, number
from torch import Tensor

from tdsl.factor.rank import Energy, Error
from tdsl.factor.soft_symmetry import exchangeable_sum, mirror_sum

NEAR = 0.05
"""Precision where a kernel is made symmetric that is so to one percent."""
FULL = 1e-9


def nearly(kernel: Tensor, *axes: int) -> Tensor:
    return kernel + kernel.flip(axes) + 0.01 * number(*kernel.shape)


def convolved(convolve: Callable[..., Tensor], **attributes: int) -> Callable[..., Tensor]:
    return lambda m, x: convolve(x, m.w, getattr(m, "b", None), **attributes)


def kernels() -> list[Case]:
    cases: list[Case] = []
    for rule, made, shape, axes in (
        ("mirror_conv1d", "mirrored_kernel", (6, 2, 5), (-1,)),
        ("mirror_conv2d", "mirrored_kernel", (6, 2, 3, 3), (-1,)),
        ("symmetric_conv2d", "symmetric_kernel", (6, 2, 3, 4), (-2, -1)),
    ):
        name, spatial = f"decompose.project.{rule}", len(shape) - 2
        two = [2] * spatial
        convolve, operator = (F.conv1d, F.conv2d)[spatial - 1], f"conv{spatial}d"
        plain, x = convolved(convolve, padding=1), (2, 2, *(9,) * spatial)
        near, random = nearly(number(*shape), *axes), number(*shape)
        cases += [
            fires(
                name,
                plain,
                x,
                w=near,
                b=number(6),
                precision=NEAR,
                expect=f"{operator}_1 = {operator}(x, w_{made}, b, padding={[1] * spatial})",
            ),
            fires(
                name,
                convolved(convolve, stride=2, dilation=2, groups=2),
                (2, 4, *(12,) * spatial),
                w=near,
                precision=NEAR,
                expect=f"{operator}_1 = {operator}(x, w_{made}, stride={two}, dilation={two}, groups=2)",
            ),
            leaves(name, plain, x, w=random, b=number(6), because="it is random"),
            leaves(name, plain, x, w=random + random.flip(axes), because="it is symmetric already"),
            leaves(
                name,
                plain,
                x,
                w=near,
                parameters={"rank": Error(1e-3)},
                because="the bound is smaller than the distance",
            ),
            leaves(name, twice(convolve), x, w=near, because="the weight has another reader"),
        ]
    return cases


def twice(layer: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda m, x: layer(x, m.w) + layer(x + 1, m.w)


def soft(rule: str, weight: Tensor, steps: str, plain: Tensor) -> list[Case]:
    """The rule finds both parts, under rank rules of several kinds, with and without a bias."""
    name = f"decompose.soft.{rule}"
    outputs, inputs = weight.shape
    cases = []
    for rank, leading, bias in (
        (Error(1e-6), (3,), True),
        (Energy(1 - 1e-12), (2, 5), True),
        (1, (3,), False),
    ):
        shown = (
            textwrap.dedent(steps)
            .strip()
            .replace("$rows", str(math.prod(leading)))
            .replace("$shape", str([*leading, outputs]))
        )
        shown = shown if bias else shown.replace(", b)", ")")
        cases.append(
            fires(
                name,
                (lambda m, x: F.linear(x, m.w, m.b)) if bias else (lambda m, x: F.linear(x, m.w)),
                (*leading, inputs),
                w=weight,
                b=number(outputs),
                parameters={"rank": rank},
                precision=FULL,
                expect=shown,
            )
        )
    return [
        *cases,
        leaves(name, lambda m, x: F.linear(x, m.w), (3, plain.shape[1]), w=plain, because="it is random"),
        leaves(
            name,
            twice(F.linear),
            (3, inputs),
            w=weight,
            because="the weight has another reader",
        ),
        leaves(
            name, lambda m, x: F.linear(x, m.w), (3, 7), w=low_rank(5, 7, 1), because="sizes do not divide"
        ),
    ]


ALIKE = exchangeable_sum(number(3, 2), number(3, 2), number(36, 1), number(1, 24))
MIRRORED = mirror_sum(number(8, 10), number(8, 10), number(16, 1), number(1, 20))

CASES = [
    *kernels(),
    *soft(
        "exchangeable_plus_low_rank_linear",
        ALIKE,
        """
        reshape = reshape(x, [$rows, 12, 2])
        linear_1 = linear(reshape, w_exchangeable_plus_low_rank)
        reshape_1 = reshape(x, [$rows, 12, 2])
        sum_1 = sum(reshape_1, dim=[-2], keepdim=true)
        linear_2 = linear(sum_1, w_exchangeable_plus_low_rank_1)
        add = add(linear_1, linear_2)
        reshape_2 = reshape(add, $shape)
        linear_3 = linear(x, w_exchangeable_plus_low_rank_2)
        linear_4 = linear(linear_3, w_exchangeable_plus_low_rank_3, b)
        add_1 = add(reshape_2, linear_4)
        """,
        number(36, 24),
    ),
    *soft(
        "mirror_plus_low_rank_linear",
        MIRRORED,
        """
        flip = flip(x, [-1])
        add = add(x, flip)
        slice_1 = slice(add, dim=-1, start=0, end=10)
        linear_1 = linear(slice_1, w_mirror_plus_low_rank)
        arange = arange(0, 8)
        arange_1 = arange(0, 8)
        flip_1 = flip(arange_1, [-1])
        concat = concat(arange, flip_1, dim=-1)
        index_select = index_select(linear_1, -1, concat)
        flip_2 = flip(x, [-1])
        sub = sub(x, flip_2)
        slice_2 = slice(sub, dim=-1, start=0, end=10)
        linear_2 = linear(slice_2, w_mirror_plus_low_rank_1)
        arange_2 = arange(0, 8)
        arange_3 = arange(0, 8)
        flip_3 = flip(arange_3, [-1])
        concat_1 = concat(arange_2, flip_3, dim=-1)
        index_select_1 = index_select(linear_2, -1, concat_1)
        ones = ones([8])
        ones_1 = ones([8])
        neg = neg(ones_1)
        concat_2 = concat(ones, neg, dim=-1)
        mul = mul(index_select_1, concat_2)
        add_1 = add(index_select, mul)
        linear_3 = linear(x, w_mirror_plus_low_rank_2)
        linear_4 = linear(linear_3, w_mirror_plus_low_rank_3, b)
        add_2 = add(add_1, linear_4)
        """,
        number(16, 20),
    ),
]
