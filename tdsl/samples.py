"""Samples as people give them: inputs in one of several forms, and labels where these are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tdsl.errors import TdslError, kind_of
from tdsl.verify import Tensors

LABELS = "labels"
"""The entry of a dict, or of a file of arrays, that holds the labels of a sample."""

Batch = Tensor | Sequence[Any] | Mapping[str, Any]
"""One sample: a tensor, the tensors of several inputs, these by name; or (inputs, labels), or labels last."""

_LABELLED = f"(inputs, labels), or a dict by name with an entry `{LABELS}`"


@dataclass(frozen=True, slots=True)
class Given:
    """One sample: the model's inputs in their order, and its labels, if it has any."""

    inputs: Tensors
    labels: Tensors = ()
    called: str = ""
    """Which of those that were given it is, or is a part of: `calibration sample 3`."""


def listed(batches: Iterable[Batch], like: Any = None) -> list[Batch]:
    """The batches; raises `TdslError` for an iterator at its end, and for a batch alone, `like` an input."""
    if isinstance(batches, Tensor) and isinstance(like, Tensor) and batches.dim() == like.dim():
        raise TdslError(
            f"samples of inputs are one tensor {list(batches.shape)}",
            expected="several of them: `[tensor]` for one batch, or `tensor.split(32)`",
        )
    found = list(batches)
    if not found and not isinstance(batches, list | tuple):
        raise TdslError(
            f"there is not a single sample in the {type(batches).__name__} of inputs",
            expected="at least one",
            hint="an iterator gives its samples once: make a new one, or keep them in a list",
        )
    return found


def as_given(batch: Batch, where: str, names: Sequence[str], *, labels: bool, needed: bool = False) -> Given:
    """One sample of a model whose inputs have these names; with its `labels`, if these are looked at.

    Raises `TdslError`, which calls it what `where` says (`calibration sample 3`), for anything that is no
    sample, and where labels are `needed` and not there.
    """
    if not labels:
        return Given(as_tensors(batch, where, names))
    inputs, found = _parted(batch, names)
    tensors = as_tensors(inputs, where, names)
    if found is None and needed:
        raise TdslError(
            f"{where} has no labels",
            expected=_LABELLED,
            hint="a loss and a metric compare what the model says with what is right: "
            "a DataLoader of (inputs, labels) gives both",
        )
    return Given(tensors, () if found is None else _label_tensors(found, where))


def require_as_many(sample: Given, samples: int, where: str) -> None:
    """Raise `TdslError` for labels of another number of samples than the inputs are."""
    for one in sample.labels:
        if not one.dim() or len(one) != samples:
            count = f"shape {list(one.shape)}" if one.dim() else "no axis"
            raise TdslError(
                f"the labels of {where} have {count} where its inputs are {samples} samples",
                expected=f"labels whose first axis has {samples} entries, one for each sample of the batch",
            )


def parted_labels(labels: Tensors, inputs: Sequence[Tensors]) -> list[Tensors]:
    """The labels of a batch for each of the parts that its inputs were cut into, along the first axis."""
    sizes = [len(part[0]) for part in inputs]
    if not labels or len(inputs) == 1:
        return [labels] * len(inputs)
    return list(zip(*(torch.split(one, sizes) for one in labels), strict=True))


def as_tensors(batch: Batch, where: str, names: Sequence[str]) -> Tensors:
    """The tensors of one sample in the order of the inputs; raises `TdslError` for anything else."""
    if isinstance(batch, Mapping):
        missing = [name for name in names if name not in batch]
        if missing:
            raise TdslError(f"{where} has no {', '.join(missing)}", expected=", ".join(names))
        batch = tuple(batch[name] for name in names)
    tensors = (batch,) if isinstance(batch, Tensor) else tuple(batch) if isinstance(batch, Sequence) else None
    wrong: Any = batch if tensors is None else next((t for t in tensors if not isinstance(t, Tensor)), None)
    if tensors is None or wrong is not None:
        raise TdslError(
            f"{where} {'is' if tensors is None else 'holds'} {kind_of(wrong)}",
            expected="a tensor, a tuple of the model's input tensors in their order, or a dict by name",
            hint=f"the tensors in it are inputs by themselves, a dict by name has all: {', '.join(names)}"
            if tensors and len(tensors) != len(names)
            else "(inputs, labels) are taken apart where `loss=` or `metric=` says what labels are for"
            if tensors and len(tensors) == 2
            else None,
        )
    return tensors


def _parted(batch: Batch, names: Sequence[str]) -> tuple[Batch, Any]:
    """The inputs of a sample, and what stands beside them as labels; `None` for nothing."""
    if isinstance(batch, Mapping):
        return batch, batch.get(LABELS)
    if isinstance(batch, Sequence):
        if len(batch) == 2 and isinstance(batch[0], Mapping | list | tuple):
            return batch[0], batch[1]
        if len(batch) == len(names) + 1:
            return batch[:-1], batch[-1]
    return batch, None


def _label_tensors(found: Any, where: str) -> Tensors:
    several = tuple(found) if isinstance(found, list | tuple) else ()
    tensors = (found,) if isinstance(found, Tensor) else several
    if not tensors or not all(isinstance(one, Tensor) for one in tensors):
        raise TdslError(
            f"the labels of {where} are {kind_of(found)}",
            expected="a tensor, or a tuple of tensors",
            hint="`torch.as_tensor` makes one of a list of numbers",
        )
    return tensors
