"""Runs ONNX models in onnxruntime, the same way every time."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike, fspath
from types import MappingProxyType

import numpy as np
import onnx
import onnxruntime
import torch
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernel

from tdsl.emit.outside import Array, with_weights_outside
from tdsl.errors import TdslError


def session(
    model: onnx.ModelProto | str | PathLike[str],
    threads: int = 1,
    weights: Mapping[str, Array] = MappingProxyType({}),
) -> onnxruntime.InferenceSession:
    """A CPU session of a model or a file; one thread and fixed kernels give the same bits each run.

    `weights` are initializers that the model leaves outside, by name; they are shared, not copied.

    Raises `TdslError` where onnxruntime has no kernel for an operator on its element type (bfloat16, mostly).
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    if isinstance(model, onnx.ModelProto) and not weights:
        model, weights = with_weights_outside(model)
    if weights:
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in weights.values()]
        options.add_external_initializers(list(weights), values)
    source = model.SerializeToString() if isinstance(model, onnx.ModelProto) else fspath(model)
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except NoKernel as reason:
        raise TdslError(
            f"onnxruntime cannot run the model: {str(reason).partition(' : ')[2]}",
            hint="it has few kernels for bfloat16 on the CPU: convert the model with `model.float()`",
        ) from None


def run(
    session: onnxruntime.InferenceSession, inputs: Mapping[str, torch.Tensor | Array]
) -> dict[str, Array]:
    """The outputs by name; inputs that the model does not read may be given all the same."""
    known = {value.name for value in session.get_inputs()}
    feeds = {
        name: value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
        for name, value in inputs.items()
        if name in known
    }
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))
