"""What is NaN or infinite in samples, and the input that is to blame for it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tdsl.errors import TdslError


def no_number(value: Tensor) -> str:
    """`NaN` or `infinite` where some of a value is that; else nothing."""
    if not (value.is_floating_point() or value.is_complex()) or bool(value.isfinite().all()):
        return ""
    return "NaN" if bool(value.isnan().any()) else "infinite"


def blamed(names: Sequence[str], inputs: Sequence[Tensor], message: str) -> TdslError:
    """An error that ends in the first place of an input, by its name, that is no number, if there is one."""
    for name, value in zip(names, inputs, strict=False):
        if what := no_number(value):
            wrong = torch.isnan(value) if what == "NaN" else torch.isinf(value)
            at = torch.nonzero(wrong)[0].tolist()
            held = "NaN" if what == "NaN" else "an infinity"
            return TdslError(
                f"{message}: its input {name} holds {held}",
                expected="samples of numbers that the model can compute with",
                hint=f"{name}{at} is the first of {int(wrong.sum())}: leave the sample out, "
                "or put numbers there",
            )
    return TdslError(
        f"{message}, though its inputs are numbers",
        expected="samples on which the model gives numbers",
        hint="the model itself makes it, as the logarithm of 0 does: leave the sample out, or mend the model",
    )
