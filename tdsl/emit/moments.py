"""Second moments of what the layers of an emitted model are applied to, over samples.

A step that works on the file asks the file: its values are those that its weights meet, after all rewrites
and by the names that they have there. Sums are kept, not values, so that memory does not grow with the data.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch.nn import functional

from tdsl.emit.outside import Array, Emitted
from tdsl.emit.reads import Patches
from tdsl.emit.runtime import run, session

LARGEST = 4096
"""Most inputs of a layer whose second moments are taken: 128 MB."""
MEMORY = 2**29
"""Bytes of sums that are under way at once; more values are dealt with in further passes over the samples."""
SHRINKAGE = 0.1
"""How many vectors for each input outweigh the assumption that inputs are not correlated."""
PIECE = 2**20
"""Numbers that are widened at once."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The vectors that a layer is applied to: along the last axis of a value, or patches of it."""

    value: str
    size: int
    patches: Patches | None = None


@dataclass(frozen=True, slots=True)
class Samples:
    """Inputs by name, and of each batch which positions are not padding, if that is known."""

    batches: Sequence[Mapping[str, torch.Tensor]]
    kept: Sequence[torch.Tensor | None] = ()


def moments(model: Emitted, samples: Samples, asked: Sequence[Asked]) -> Iterator[dict[Asked, Array]]:
    """E[x·xᵀ] of what is asked for, [size, size] in float64, some of them at a time.

    Nothing is known of a value that the samples leave empty.
    """
    wanted = [one for one in dict.fromkeys(asked) if one.size <= LARGEST]
    if not wanted or not samples.batches:
        return
    runtime = session(_with_outputs(model, {one.value for one in wanted}))
    while wanted:
        some = [wanted.pop(0)]
        while wanted and sum(8 * one.size**2 for one in (*some, wanted[0])) <= MEMORY:
            some.append(wanted.pop(0))
        sums = {one: np.zeros((one.size, one.size)) for one in some}
        counts = dict.fromkeys(some, 0)
        for batch, kept in itertools.zip_longest(samples.batches, samples.kept):
            values: dict[str, Array] = {name: value.detach().cpu().numpy() for name, value in batch.items()}
            values.update(run(runtime, batch))
            mask = None if kept is None else kept.numpy()
            for one in some:
                for rows in _rows(values[one.value], one, mask):
                    sums[one] += rows.T @ rows
                    counts[one] += len(rows)
        yield {one: shrunk(total / counts[one], counts[one]) for one, total in sums.items() if counts[one]}


def shrunk(moment: Array, count: int) -> Array:
    """A second moment of few vectors, nearer to that of inputs without correlations. [n, n] → [n, n]."""
    kept = count / (count + SHRINKAGE * len(moment))
    found = kept * moment
    np.fill_diagonal(found, np.diag(moment))
    return found


def _with_outputs(model: Emitted, names: set[str]) -> Emitted:
    """The model with some inner values among its outputs."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    known = {value.name for value in (*proto.graph.input, *proto.graph.output)}
    for name in sorted(names - known):
        proto.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return Emitted(proto, model.weights)


def _rows(value: Array, asked: Asked, mask: Array | None) -> Iterator[Array]:
    """The vectors of a value, some at a time, in float64; those of padding are left out. → [rows, size]"""
    if asked.patches is not None:
        rows = _patches(torch.from_numpy(value), asked.patches)
    else:
        rows = value.reshape(-1, value.shape[-1])
        if mask is not None and _by_position(value, mask):
            rows = rows[mask.reshape(-1)]
    step = max(1, PIECE // max(1, asked.size))
    for start in range(0, len(rows), step):
        yield rows[start : start + step].astype(np.float64)


def _by_position(value: Array, mask: Array) -> bool:
    """Whether the vectors of a value belong to the positions that a mask marks, one after the other."""
    leading = value.shape[:-1]
    return leading == mask.shape or leading == (mask.size,)


def _patches(value: torch.Tensor, how: Patches) -> Array:
    """The patches that a convolution multiplies by its kernels. [b, c, …] → [patches, c · kernel]."""
    axes = len(how.kernel)
    begins, ends = how.pads[:axes], how.pads[axes:]
    around = [side for pair in zip(reversed(begins), reversed(ends), strict=True) for side in pair]
    padded = functional.pad(value, around)
    kernel, strides, dilations = how.kernel, how.strides, how.dilations
    if axes == 1:
        padded, kernel, strides, dilations = padded[:, :, None], (1, *kernel), (1, *strides), (1, *dilations)
    columns = functional.unfold(padded, kernel, dilations, 0, strides)
    found: Array = columns.transpose(1, 2).reshape(-1, columns.shape[1]).numpy()
    return found
