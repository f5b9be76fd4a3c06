"""A loss: what the outputs of a model cost by labels, a number whose gradients weigh errors."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tdsl.errors import TdslError, kind_of
from tdsl.spelling import did_you_mean
from tdsl.verify.task import alone

Function = Callable[[Any, Any], Tensor]
"""`loss(output, labels)`, the mean over a batch; tuples where the model has several outputs or labels."""


@dataclass(frozen=True, slots=True)
class Loss:
    """A function of outputs and labels, and its name in `torch.nn.functional`, if it has one there."""

    function: Function
    name: str = ""

    @classmethod
    def of(cls, wanted: str | Function) -> Loss:
        """The loss that a user names or gives. Raises `TdslError` for anything else."""
        if not isinstance(wanted, str):
            if callable(wanted):
                return cls(wanted)
            raise TdslError(
                f"`loss` is {kind_of(wanted)}",
                expected="a function of (output, labels), or the name of one of torch.nn.functional",
            )
        known = losses()
        if wanted not in known:
            raise TdslError(
                f"torch.nn.functional has no loss {wanted!r}",
                expected=f"one of {', '.join(known)}, or a function of (output, labels)",
                hint=did_you_mean(wanted, known),
            )
        return cls(known[wanted], wanted)

    def __call__(self, outputs: Sequence[Tensor], labels: Sequence[Tensor], where: str = "a batch") -> Tensor:
        """The loss of the outputs of one batch, a single finite number.

        Raises `TdslError`, which names the batch by `where`, if the function fails, gives anything else or
        what gradients do not reach.
        """
        try:
            found = self.function(alone(outputs), alone(labels))
        except Exception as reason:
            said = (str(reason).splitlines() or [""])[0]
            raise TdslError(
                f"{self} fails on {where}: {type(reason).__name__}: {said}",
                expected=f"a function of the output, {_shown(outputs)}, and of the labels, {_shown(labels)}",
                hint="the model has several outputs, which come as a tuple: "
                "`loss=lambda outputs, labels: …` takes the one that counts"
                if len(outputs) > 1
                else None,
            ) from None
        if not isinstance(found, Tensor) or found.numel() != 1:
            shape = f"a tensor {list(found.shape)}" if isinstance(found, Tensor) else kind_of(found)
            raise TdslError(
                f"{self} gives {shape} on {where}",
                expected="one number, as a tensor",
                hint="take the mean over the batch: `reduction='none'` gives a number for each sample"
                if isinstance(found, Tensor)
                else "`.item()` and `float` leave a number without gradients",
            )
        if not bool(found.detach().isfinite().all()):
            raise TdslError(
                f"{self} is {float(found.detach()):g} on {where}", expected="a finite number for every batch"
            )
        if not found.requires_grad and any(out.requires_grad for out in outputs):
            raise TdslError(
                f"{self} has no gradient with respect to the output",
                expected="a number that follows from the output by differentiable operations",
                hint="`argmax`, comparisons, `.detach()` and `torch.no_grad()` cut gradients off",
            )
        return found.reshape(())

    def __str__(self) -> str:
        return f"the loss {self.name}" if self.name else "the loss"


def losses() -> dict[str, Function]:
    """The functions of `torch.nn.functional` that take an input and a target, and need nothing else."""
    found: dict[str, Function] = {}
    for name, one in vars(torch.nn.functional).items():
        if name.startswith("_") or not inspect.isfunction(one):
            continue
        takes = list(inspect.signature(one).parameters.values())
        optional = all(each.default is not each.empty for each in takes[2:])
        if [each.name for each in takes[:2]] == ["input", "target"] and optional:
            found[name] = one
    return found


def _shown(tensors: Sequence[Tensor]) -> str:
    """`float32 [8, 10]`."""
    return ", ".join(f"{str(one.dtype).removeprefix('torch.')} {list(one.shape)}" for one in tensors)
