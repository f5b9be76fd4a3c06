"""Runs ONNX models in onnxruntime, the same way every time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike, fspath

import numpy as np
import onnx
import onnxruntime
import torch
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernel

from tdsl.emit.outside import Array, Emitted
from tdsl.errors import TdslError


class _Session(onnxruntime.InferenceSession):  # type: ignore[misc]
    """A session that keeps alive what it shares."""

    def __init__(
        self,
        source: bytes | str,
        options: onnxruntime.SessionOptions,
        shared: Sequence[onnxruntime.OrtValue],
    ) -> None:
        self.shared = shared
        super().__init__(source, options, providers=["CPUExecutionProvider"])


def session(
    model: onnx.ModelProto | Emitted | str | PathLike[str], threads: int = 1
) -> onnxruntime.InferenceSession:
    """A CPU session of a model or a file; one thread and fixed kernels give the same bits each run.

    Weights that stand outside a model are shared with it; onnxruntime copies those that it packs.

    Raises `TdslError` where onnxruntime has no kernel for an operator on its element type (bfloat16, mostly).
    """
    shared: list[onnxruntime.OrtValue] = []
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    if isinstance(model, onnx.ModelProto):
        model = Emitted.of(model)
    if isinstance(model, Emitted):
        # The graph optimisations see these, and the kernels copies of them, unless they are named twice.
        laid_out = {name: np.ascontiguousarray(array) for name, array in model.weights.items()}
        values = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in laid_out.items()}
        options.add_external_initializers(list(values), list(values.values()))
        for name, value in values.items():
            if laid_out[name] is model.weights[name]:
                options.add_initializer(name, value)
                shared.append(value)
        source: bytes | str = model.proto.SerializeToString()
    else:
        source = fspath(model)
    try:
        return _Session(source, options, shared)
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
