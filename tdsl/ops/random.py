"""What draws random numbers or has an effect."""

from __future__ import annotations

from tdsl.ops.spec import operator

RANDOM = (
    operator(
        "dropout(x, p: float, train: bool) -> like",
        aten="aten.dropout.default",
        torch="F.dropout torch.dropout",
        random=True,
        doc="In training, each element zero with probability p, the others divided by 1 - p; otherwise x.",
    ),
)
