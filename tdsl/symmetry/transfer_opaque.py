"""What the operator table does not know, and overloads that mean no operator of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import fx

from tdsl.symmetry.action import Action, identity_on
from tdsl.symmetry.transfer import Breaks, Law


def opaque(node: fx.Node, shapes: Sequence[tuple[int, ...]], actions: Sequence[Action | None]) -> Law:
    """A function of what nothing acts on is acted on by nothing; of anything else nothing is known."""
    if all(one is None or one.is_identity for one in actions):
        return Law(tuple(identity_on(len(shape)) for shape in shapes))
    name = str(node.target)
    if name.startswith("aten.conv") and name.endswith(".padding") and "same" in node.args:
        raise Breaks(_uneven(node))
    raise Breaks(f"no law of {name} is known")


def _uneven(node: fx.Node) -> str:
    """`padding="same"` that pads one side more: the only kind that has no numbers in the normal form."""
    weight: Any = node.args[1]
    kernel = [int(size) for size in weight.meta["val"].shape[2:]]
    given: Any = node.args[5] if len(node.args) > 5 else [1]
    dilations = list(given)
    for k, d in zip(kernel, dilations * (len(kernel) if len(dilations) == 1 else 1), strict=True):
        total = d * (k - 1)
        if total % 2:
            return (
                f'padding="same" with kernel {k} pads {total // 2} before and {total - total // 2} behind:'
                f" no flip commutes; kernel {k + 1} or {k - 1} does"
            )
    return 'no law of padding="same" is known'
