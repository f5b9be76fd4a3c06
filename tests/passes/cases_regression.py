"""Cases of `passes/factorize/regression.tdsl`: dense layers over flattened features with a small core."""

import torch
import torch.nn.functional as F
from rule_cases import Case, fires, leaves, number
from torch import Tensor

from tdsl.factor.rank import Energy, Error

FULL = 1e-9
"""Precision where the ranks kept are those planted."""
FEATURES = (5, 6, 3, 4)
WEIGHT = torch.einsum("cr,qs,orq->ocs", number(6, 2), number(3, 12), number(10, 2, 3)).reshape(10, 72)
PARTS = {"w": WEIGHT, "b": number(10)}


def head(m: torch.nn.Module, x: Tensor) -> Tensor:
    """Features flattened, channels first."""
    return F.linear(x.flatten(1), m.w, m.b)


def last(m: torch.nn.Module, x: Tensor) -> Tensor:
    """The same weight over features flattened with their channels last."""
    return F.linear(x.permute(0, 2, 3, 1).flatten(1), m.w, m.b)


def planted(rule: str) -> list[Case]:
    """The rule finds the planted ranks, and none where there are none."""
    name = f"factorize.regression.{rule}"
    return [
        *(
            fires(
                name,
                head,
                FEATURES,
                **PARTS,
                parameters={"rank": rank},
                precision=FULL,
                expect=f"""
                    reshape = reshape(x, [5, 6, 12])
                    matmul = matmul(w_{rule}, reshape)
                    matmul_1 = matmul(matmul, w_{rule}_1)
                    reshape_1 = reshape(matmul_1, [5, 6])
                    linear_1 = linear(reshape_1, w_{rule}_2, b)
                """,
            )
            for rank in (Energy(1 - 1e-12), Error(1e-6))
        ),
        leaves(
            name,
            last,
            FEATURES,
            **PARTS,
            parameters={"rank": Error(1e-6)},
            because="channels were flattened last",
        ),
        leaves(
            name,
            head,
            FEATURES,
            w=number(10, 72),
            b=number(10),
            parameters={"rank": Error(1e-6)},
            because="the weight has no small core",
        ),
        leaves(
            name,
            lambda m, x: F.linear(F.linear(x.flatten(1), m.w, m.b), m.w.T),
            FEATURES,
            **PARTS,
            parameters={"rank": Error(1e-6)},
            because="the weight is tied",
        ),
    ]


CASES = [*planted("tucker_head"), *planted("tucker_head_data")]
