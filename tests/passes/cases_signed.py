"""Cases of `passes/decompose/signed.tdsl`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from rule_cases import Case, fires, leaves, number
from torch import Tensor

from tdsl.symmetry.diagrams import basis


def planted(family: str, n: int, k: int, l: int, p: int, q: int, *, planes: bool = False) -> Tensor:  # noqa: E741
    """A mix of channels for each diagram of the basis."""
    total = torch.zeros(n**l * p, n**k * q, dtype=torch.float64)
    for diagram in basis(family, n, k, l):
        places, mix = diagram.dense(n), number(p, q)
        total += torch.kron(mix, places) if planes else torch.kron(places, mix)
    return total


def layer(rule: str, weight: Tensor, graph: str, *, planes: bool = False) -> list[Case]:
    """The rule finds `weight`; not one changed entry of it, nor a tied one, nor a small one."""
    name = f"decompose.signed.{rule}"
    outputs, inputs = weight.shape
    perturbed = weight.clone()
    perturbed[1, 0] += 0.5
    reflected = planted("O", 3, 2, 2, 2, 2, planes=planes)

    def forward(m: object, x: Tensor) -> Tensor:
        return F.linear(x, m.w, m.b)  # type: ignore[attr-defined]

    def tied(m: object, x: Tensor) -> Tensor:
        return forward(m, x) * (x @ m.w.T)  # type: ignore[attr-defined]

    free = {"least": 0}
    parts = {"w": weight, "b": number(outputs)}
    other = {"w": reflected, "b": number(len(reflected))}
    return [
        fires(name, forward, (3, inputs), expect=graph, parameters=free, **parts),
        leaves(
            name,
            forward,
            (3, inputs),
            because="an entry is another",
            parameters=free,
            **{**parts, "w": perturbed},
        ),
        leaves(name, forward, (3, 18), because="reflections keep it, too", parameters=free, **other),
        leaves(name, tied, (3, inputs), because="the weight is tied", parameters=free, **parts),
        leaves(name, forward, (3, inputs), because="so small a layer is faster as it is", **parts),
    ]


CROSS, SKEW = planted("SO", 3, 2, 1, 4, 5), planted("SO", 3, 1, 2, 4, 5)
CROSS_PLANES, SKEW_PLANES = (planted("SO", 3, k, 3 - k, 4, 5, planes=True) for k in (2, 1))

CASES = [
    *layer(
        "signed_diagrams_linear",
        CROSS,
        """
        reshape = reshape(x, [3, 9, 5])
        matmul = matmul(w_signed_diagrams_linear, reshape)
        linear_1 = linear(matmul, w_signed_diagrams_linear_1)
        reshape_1 = reshape(linear_1, [3, 12])
        add = add(reshape_1, b)
        """,
    ),
    *layer(
        "signed_diagrams_linear",
        SKEW,
        """
        reshape = reshape(x, [3, 3, 5])
        linear_1 = linear(reshape, w_signed_diagrams_linear_1)
        matmul = matmul(w_signed_diagrams_linear, linear_1)
        reshape_1 = reshape(matmul, [3, 36])
        add = add(reshape_1, b)
        """,
    ),
    *layer(
        "signed_diagrams_linear",
        planted("Sp", 4, 2, 2, 12, 12),
        """
        reshape = reshape(x, [3, 16, 12])
        matmul = matmul(w_signed_diagrams_linear, reshape)
        reshape_1 = reshape(matmul, [3, 16, 36])
        linear_1 = linear(reshape_1, w_signed_diagrams_linear_1)
        reshape_2 = reshape(linear_1, [3, 192])
        add = add(reshape_2, b)
        """,
    ),
    *layer(
        "signed_diagrams_planes_linear",
        CROSS_PLANES,
        """
        reshape = reshape(x, [3, 5, 9])
        linear_1 = linear(reshape, w_signed_diagrams_planes_linear_1)
        matmul = matmul(w_signed_diagrams_planes_linear, linear_1)
        reshape_1 = reshape(matmul, [3, 12])
        add = add(reshape_1, b)
        """,
        planes=True,
    ),
    *layer(
        "signed_diagrams_planes_linear",
        SKEW_PLANES,
        """
        reshape = reshape(x, [3, 5, 3])
        matmul = matmul(w_signed_diagrams_planes_linear, reshape)
        linear_1 = linear(matmul, w_signed_diagrams_planes_linear_1)
        reshape_1 = reshape(linear_1, [3, 36])
        add = add(reshape_1, b)
        """,
        planes=True,
    ),
]
