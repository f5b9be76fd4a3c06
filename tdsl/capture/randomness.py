"""Refuses models that draw random numbers: no two runs of them could be compared."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from tdsl.capture.failure import line_span
from tdsl.errors import TdslError
from tdsl.frames import frames_of, user_frame

_TRAINING = ("train", "training")
"""Names of the flag without which dropout and recurrent layers draw nothing."""

_SHARE = "dropout_p"
"""Name of the share of entries that attention drops: none by default."""


def require_deterministic(module: fx.GraphModule) -> None:
    """Refuse a captured graph whose outputs depend on random numbers.

    Raises:
        TdslError: an operator draws random numbers, at the user's line.
    """
    for node in module.graph.nodes:
        if not _draws(node):
            continue
        frame = user_frame(frames_of(node.meta.get("stack_trace", "")))
        raise TdslError(
            f"the model draws random numbers: {node.target}",
            line_span(*frame) if frame else None,
            expected="outputs that the inputs alone determine: no file could be compared with the model",
            hint="make the numbers an input of the model, or leave sampling to the program that runs it",
        )


def _draws(node: fx.Node) -> bool:
    target: Any = node.target
    if not isinstance(target, torch._ops.OpOverload) or torch.Tag.nondeterministic_seeded not in target.tags:
        return False
    given = {a.name: a.default_value for a in target._schema.arguments}
    given |= dict(zip(given, node.args, strict=False)) | node.kwargs
    return not any(given.get(flag) is False for flag in _TRAINING) and given.get(_SHARE) != 0
