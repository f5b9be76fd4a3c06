"""Cases of `passes/factorize/conv_channels`: channels that repeat others are not missed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from rule_cases import fires, leaves, number

from tdsl.factor.rank import Error

IMAGE = (2, 5, 9, 8)
MOMENT = 1e-6
"""Precision where moments are inverted with damping."""
HALF = number(6, 5, 3, 3)
FIRST = torch.cat([HALF, 2 * HALF])
"""Twelve filters, six of them twice the others."""
SECOND = number(4, 12, 3, 3)
SHIFT = number(6)
TWINS = {"a": FIRST, "c": torch.cat([SHIFT, 2 * SHIFT]), "b": SECOND, "d": number(4)}

CASES = [
    case
    for rule in ("interpolative_channels", "interpolative_channels_weighted")
    for case in [
        *(
            fires(
                f"factorize.conv_channels.{rule}",
                lambda m, x: F.conv2d(F.conv2d(x, m.a, m.c, padding=1).relu(), m.b, m.d, stride=2),
                IMAGE,
                **TWINS,
                parameters={"rank": rank},
                precision=MOMENT,
                expect=f"""
                    conv2d_2 = conv2d(x, b_{rule}, b_{rule}_1, padding=[1, 1])
                    relu_1 = relu(conv2d_2)
                    conv2d_3 = conv2d(relu_1, b_{rule}_2, d_{rule}, stride=[2, 2])
                """,
            )
            for rank in (6, 0.5, Error(1e-4))
        ),
        leaves(
            f"factorize.conv_channels.{rule}",
            lambda m, x: (lambda z: F.conv2d(z, m.b, padding=1) + z[:, :4])(F.conv2d(x, m.a).relu()),
            IMAGE,
            a=FIRST,
            b=SECOND,
            because="a residual connection reads the channels too",
        ),
        leaves(
            f"factorize.conv_channels.{rule}",
            lambda m, x: F.conv2d(F.conv2d(x, m.a).softmax(1), m.b).relu(),
            IMAGE,
            a=FIRST,
            b=SECOND,
            because="a softmax mixes the channels",
        ),
        leaves(
            f"factorize.conv_channels.{rule}",
            lambda m, x: F.conv2d(F.conv2d(x, m.a).relu(), m.b),
            IMAGE,
            a=number(12, 5, 3, 3),
            b=SECOND,
            parameters={"rank": Error(1e-4)},
            because="no channel repeats others",
        ),
    ]
]
