"""Samples from files: `.npz` and `.safetensors` by input name, or a function that yields them.

In a file of arrays, `image` with one axis more than the model's input of that name holds one sample at each
position of its first axis, and with as many axes it is one sample; `image/0`, `image/1`, … are samples of
different sizes. Every input of the model is there, with the same number of samples;
and so is `labels` where labels are asked for, cut along its first axis as the inputs are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tdsl.capture.spec_file import call_function
from tdsl.errors import TdslError, kind_of
from tdsl.samples import LABELS, Given, as_given
from tdsl.spelling import did_you_mean
from tdsl.verify import Input, Tensors

FORMS = "an .npz file, a .safetensors file, or path/to/file.py:function"


def read_samples(spec: str, inputs: Sequence[Input]) -> list[Tensors]:
    """The samples that `spec` names, each a tuple of one tensor for each of `inputs`. Raises `TdslError`."""
    return [sample.inputs for sample in _read(spec, inputs, labels=False)]


def samples_from(
    spec: str | None, inputs: Sequence[Input], *, labelled: bool, needed: bool = False
) -> list[Any]:
    """What an option names, none without it: samples as `tdsl.compile` takes them.

    Those that are `labelled` have as labels the array `labels` of a file, or come from a function as
    `(inputs, labels)`; where labels are not `needed`, a sample may go without.
    """
    if spec is None:
        return []
    if not labelled:
        return read_samples(spec, inputs)
    found = _read(spec, inputs, labels=True, needed=needed)
    return [(sample.inputs, sample.labels) if sample.labels else sample.inputs for sample in found]


def _read(spec: str, inputs: Sequence[Input], *, labels: bool, needed: bool = False) -> list[Given]:
    path, colon, function = spec.rpartition(":")
    if colon and path.endswith(".py"):
        return call_function(path, function, lambda result: _listed(result, spec, inputs, labels, needed))
    readers = {".npz": _read_npz, ".safetensors": _read_safetensors}
    reader = readers.get(Path(spec).suffix)
    if reader is None:
        raise TdslError(f"{spec} is no file of samples", expected=FORMS)
    if not Path(spec).is_file():
        raise TdslError(f"{spec} is a directory" if Path(spec).is_dir() else f"there is no file {spec}")
    return _by_name(reader(spec), spec, inputs, labels, needed)


# ---------------------------------------------------------------- a function


def _listed(result: Any, spec: str, inputs: Sequence[Input], labels: bool, needed: bool) -> list[Given]:
    """What a function returned or yields, with its labels where these are asked for."""
    if isinstance(result, Tensor | Mapping | str) or not isinstance(result, Iterable):
        raise TdslError(
            f"{spec} returned {kind_of(result)}",
            expected="a list or generator of tuples, one tensor for each input of the model",
        )
    names = [item.name for item in inputs]
    samples: list[Given] = []
    for i, item in enumerate(result, start=1):
        if labels:
            samples.append(as_given(item, f"sample {i} of {spec}", names, labels=True, needed=needed))
            continue
        if isinstance(item, Mapping):
            if sorted(item) != sorted(names):
                raise TdslError(f"sample {i} of {spec} has {', '.join(item)}", expected=", ".join(names))
            item = [item[name] for name in names]
        values = tuple(item) if isinstance(item, tuple | list) else (item,)
        wrong = next((value for value in values if not isinstance(value, Tensor)), None)
        if wrong is not None:
            raise TdslError(
                f"sample {i} of {spec} holds {kind_of(wrong)}",
                expected="tensors",
                hint="`torch.as_tensor` makes one of an array" if hasattr(wrong, "__array__") else None,
            )
        samples.append(Given(values))
    if not samples:
        raise TdslError(f"{spec} gives no samples", expected="at least one")
    return samples


# ---------------------------------------------------------------- files of arrays


def _read_npz(path: str) -> dict[str, Tensor]:
    import zipfile

    import numpy as np

    if not zipfile.is_zipfile(path):
        raise TdslError(
            f"{path} is no .npz file",
            expected="arrays under the names of the model's inputs, as `np.savez(path, x=array)` writes them",
        )
    found, at = {}, path
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for name in arrays.files:
                at = f"{name} in {path}"
                array = arrays[name]
                found[name] = torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))
    except (OSError, ValueError, TypeError, EOFError, AttributeError, zipfile.BadZipFile) as reason:
        raise TdslError(f"{at} cannot be read as .npz: {str(reason).splitlines()[0]}") from None
    return found


def _read_safetensors(path: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as reason:
        raise TdslError(f"{path} cannot be read as .safetensors: {reason}") from None


def _by_name(
    arrays: Mapping[str, Tensor], spec: str, inputs: Sequence[Input], labels: bool, needed: bool
) -> list[Given]:
    names = [item.name for item in inputs]
    if labels and LABELS not in names:
        names.append(LABELS)
    stray = next((key for key in arrays if re.sub(r"/\d+$", "", key) not in names), None)
    if stray is not None:
        raise TdslError(
            f"{spec} has an array {stray}, and the model no input of that name",
            expected=f"arrays named {', '.join(names)}",
            hint=f"leave {LABELS} out, or say what they are for where a command has `--loss` or `--metric`"
            if re.fullmatch(rf"{LABELS}(/\d+)?", stray)
            else did_you_mean(re.sub(r"/\d+$", "", stray), names),
        )
    columns = [_samples_of(item.name, item.example.dim(), arrays, spec) for item in inputs]
    labelled = labels and (needed or any(re.fullmatch(rf"{LABELS}(/\d+)?", key) for key in arrays))
    if labelled:
        several = any(item.name in arrays and arrays[item.name].dim() > item.example.dim() for item in inputs)
        rank = arrays[LABELS].dim() - several if LABELS in arrays else 0
        columns.append(_samples_of(LABELS, rank, arrays, spec))
    if len({len(column) for column in columns}) > 1:
        counts = ", ".join(f"{len(c)} of {name}" for name, c in zip(names, columns, strict=True))
        raise TdslError(f"{spec} has different numbers of samples: {counts}")
    if not all(columns):
        raise TdslError(f"{spec} gives no samples", expected="at least one")
    if labelled:
        return [Given(tuple(values), (label,)) for *values, label in zip(*columns, strict=True)]
    return list(map(Given, zip(*columns, strict=True)))


def _samples_of(name: str, rank: int, arrays: Mapping[str, Tensor], spec: str) -> list[Tensor]:
    """The samples of an input, or of the labels, that has so many axes."""
    if name in arrays:
        array = arrays[name]
        if array.dim() == rank:
            return [array]
        if array.dim() == rank + 1:
            return list(array)
        raise TdslError(
            f"{name} in {spec} has {array.dim()} {'axis' if array.dim() == 1 else 'axes'}",
            expected=f"{rank + 1}: the samples, then the {rank} of the input; or {rank}: one sample",
        )
    numbered = sorted(
        (int(key.rpartition("/")[2]), key) for key in arrays if re.fullmatch(re.escape(name) + r"/\d+", key)
    )
    if [number for number, _ in numbered] != list(range(len(numbered))) or not numbered:
        raise TdslError(
            f"{spec} has no {LABELS}"
            if name == LABELS
            else f"{spec} has no samples of {name}"
            if not numbered
            else f"the samples of {name} in {spec} are not numbered 0, 1, 2, …",
            expected=f"an array {name}, or {name}/0, {name}/1, …",
        )
    return [arrays[key] for _, key in numbered]
