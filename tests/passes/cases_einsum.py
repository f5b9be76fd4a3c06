"""Cases of `layout.contractions`: sums of products by letters, as layers and products."""

from __future__ import annotations

from typing import Any

import torch
from rule_cases import Case, fires, leaves, number

RULE = "layout.contractions"


def weighted(equation: str, x: tuple[int, ...], w: tuple[int, ...], expect: str, **more: Any) -> Case:
    """A contraction with a weight."""
    return fires(RULE, lambda m, x: torch.einsum(equation, x, m.w), x, w=number(*w), expect=expect, **more)


def both(equation: str, x: tuple[int, ...], y: tuple[int, ...], expect: str, why: str = "") -> Case:
    """A contraction of two inputs; `why` it takes more operators."""
    return fires(RULE, lambda m, x, y: torch.einsum(equation, x, y), x, y, expect=expect, more_operators=why)


MOVES = "axes are moved where einsum moves them too"

CASES = [
    weighted("btd,md->btm", (2, 3, 6), (5, 6), "linear = linear(x, w)"),
    weighted("btd,dm->btm", (2, 3, 6), (6, 5), "linear = linear(x, w_contractions)"),
    fires(
        RULE,
        lambda m, x: torch.einsum("md,btd->btm", m.w, x),
        (2, 3, 6),
        w=number(5, 6),
        dynamic={"x": {0: "batch", 1: "time"}},
        expect="linear = linear(x, w)",
    ),
    weighted(
        "btd,dhk->bhtk",
        (2, 3, 6),
        (6, 2, 4),
        """
        linear = linear(x, w_contractions)
        reshape = reshape(linear, [2, 3, 2, 4])
        permute = permute(reshape, [0, 2, 1, 3])
        """,
        more_operators=MOVES,
    ),
    weighted(
        "bthk,hkd->btd",
        (2, 3, 2, 4),
        (2, 4, 6),
        """
        reshape = reshape(x, [2, 3, 8])
        linear = linear(reshape, w_contractions)
        """,
        more_operators=MOVES,
    ),
    weighted("bchw,oc->bohw", (2, 6, 3, 4), (5, 6), "conv2d = conv2d(x, w_contractions)"),
    weighted("bct,oc->bot", (2, 6, 3), (5, 6), "conv1d = conv1d(x, w_contractions)"),
    weighted(
        "bgd,gdm->bgm",
        (3, 2, 6),
        (2, 6, 5),
        """
        permute = permute(x, [1, 0, 2])
        matmul = matmul(permute, w)
        permute_1 = permute(matmul, [1, 0, 2])
        """,
        more_operators=MOVES,
    ),
    both("...ij,...jk->...ik", (2, 3, 4), (2, 4, 5), "matmul = matmul(x, y)"),
    both(
        "bqhd,bkhd->bhqk",
        (2, 3, 2, 4),
        (2, 5, 2, 4),
        """
        permute = permute(x, [0, 2, 1, 3])
        permute_1 = permute(y, [0, 2, 3, 1])
        matmul = matmul(permute, permute_1)
        """,
        MOVES,
    ),
    both(
        "bij,bj->bi",
        (2, 6, 5),
        (2, 5),
        """
        unsqueeze = unsqueeze(y, -1)
        matmul = matmul(x, unsqueeze)
        squeeze = squeeze(matmul, [-1])
        """,
        MOVES,
    ),
    both(
        "bd,bd->b",
        (3, 40),
        (3, 40),
        """
        mul = mul(x, y)
        sum_1 = sum(mul, dim=[-1])
        """,
        "numbers are multiplied and summed",
    ),
    both(
        "bt,t->tb",
        (2, 3),
        (3,),
        """
        permute = permute(x, [1, 0])
        unsqueeze = unsqueeze(y, -1)
        mul = mul(permute, unsqueeze)
        """,
        MOVES,
    ),
    both(
        "bi,j->b",
        (2, 3),
        (4,),
        """
        sum_1 = sum(x, dim=[-1])
        sum_2 = sum(y, dim=[-1])
        mul = mul(sum_1, sum_2)
        """,
        "sums before products",
    ),
    fires(
        RULE,
        lambda m, x: torch.einsum("bijk->bki", x),
        (2, 3, 4, 5),
        expect="""
            sum_1 = sum(x, dim=[-2])
            permute = permute(sum_1, [0, 2, 1])
        """,
        more_operators=MOVES,
    ),
    leaves(
        RULE,
        lambda m, x, y: torch.einsum("bi,bj,ijk->bk", x, y, m.w),
        (2, 3),
        (2, 4),
        w=number(3, 4, 5),
        because="three operands are a bilinear map",
    ),
    leaves(RULE, lambda m, x: torch.einsum("bii->bi", x), (2, 3, 3), because="a diagonal is taken"),
    leaves(
        RULE,
        lambda m, x: torch.einsum("td,d->t", x, m.w),
        (5, 6),
        w=number(6),
        because="a product with one vector is no faster",
    ),
    leaves(
        RULE,
        lambda m, x, y: torch.einsum("bij,bjk->bik", x, y),
        (2, 3, 4),
        (1, 4, 5),
        because="a batch of one is spread over the other",
    ),
]
