"""Runs ONNX models in onnxruntime, the same way every time."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernel

from tdsl.emit.outside import Array, Emitted
from tdsl.emit.write import write_apart
from tdsl.errors import TdslError
from tdsl.memory import without_remains

_PRODUCTS = ("MatMul", "Gemm", "MatMulNBits", "Conv", "ConvTranspose", "Gather", "LSTM", "GRU", "RNN")
"""Operators whose weights onnxruntime's optimisations leave as they are, or replace under another name."""
MAPPED = 2**22
"""Bytes of weights from which on a session reads them from a file: onnxruntime copies what it is handed."""


class _Session(onnxruntime.InferenceSession):  # type: ignore[misc]
    """A session that keeps alive what it shares."""

    def __init__(
        self, source: bytes | str, options: onnxruntime.SessionOptions, shared: Sequence[object] = ()
    ) -> None:
        self.shared = shared
        super().__init__(source, options, providers=["CPUExecutionProvider"])


def session(
    model: onnx.ModelProto | Emitted | str | PathLike[str], threads: int = 1
) -> onnxruntime.InferenceSession:
    """A CPU session of a model or a file; one thread and fixed kernels give the same bits each run.

    Weights that stand outside a model are shared with it; onnxruntime copies those that it packs. Where they
    are large they pass through a file in the folder for temporary files, one by one.

    Raises `TdslError` where onnxruntime has no kernel for an operator on its element type (bfloat16, mostly).
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    if isinstance(model, onnx.ModelProto):
        model = Emitted.of(model)
    try:
        if not isinstance(model, Emitted):
            return _Session(fspath(model), options)
        if sum(array.nbytes for array in model.weights.values()) < MAPPED:
            return _handed_over(model, options)
        return _mapped(model, options)
    except NoKernel as reason:
        text = str(reason)
        raise TdslError(
            f"onnxruntime cannot run the model: {text.partition(' : ')[2]}{_place(text, model)}",
            hint="on the CPU it has few kernels for bfloat16, and not every one for float64: convert the "
            "model with `model.float()`, and what its own code converts at this line",
        ) from None


def _place(reason: str, model: Emitted | str | PathLike[str]) -> str:
    """Where the node that a message of onnxruntime's names stands in the user's model, as far as is known."""
    name = re.search(r"node with name '([^']*)'", reason)
    origin = model.places.get(name[1]) if isinstance(model, Emitted) and name else None
    parts = [] if origin is None else [part for part in (origin.module, origin.source) if part]
    return f" ({', '.join(parts)})" if parts else ""


def _handed_over(model: Emitted, options: onnxruntime.SessionOptions) -> _Session:
    """A session of a model whose weights are copied while it opens."""
    # The graph optimisations see these, and the kernels copies of them, unless they are named twice.
    laid_out = {name: np.ascontiguousarray(array) for name, array in model.weights.items()}
    values = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in laid_out.items()}
    options.add_external_initializers(list(values), list(values.values()))
    return _Session(model.proto.SerializeToString(), options, _shared(model, options))


def _mapped(model: Emitted, options: onnxruntime.SessionOptions) -> _Session:
    """A session of a model whose weights are read from a file, each in memory while it is looked at."""
    folder = tempfile.TemporaryDirectory(prefix="tdsl-", ignore_cleanup_errors=True)
    file, data = Path(folder.name, "model.onnx"), Path(folder.name, "weights")
    try:
        write_apart(model, file, data, data.name)
    except OSError:  # there is no room for it
        folder.cleanup()
        return _handed_over(model, options)
    shared = (*_shared(model, options), folder)
    return without_remains(lambda: _Session(str(file), options, shared))


def _shared(model: Emitted, options: onnxruntime.SessionOptions) -> list[onnxruntime.OrtValue]:
    """The weights that need not be laid out anew, for kernels to read where they are.

    Where a transpose moves past a sum, onnxruntime turns the other summand under its own name: such weights
    are not handed over a second time, as they would stand there again as they were.
    """
    shared, products = [], _of_products(model.proto.graph)
    for name, array in model.weights.items():
        if array.flags.c_contiguous and name in products:
            shared.append(onnxruntime.OrtValue.ortvalue_from_numpy(array))
            options.add_initializer(name, shared[-1])
    return shared


def _of_products(graph: onnx.GraphProto) -> set[str]:
    """The values that products alone read, as they are or decoded."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def kept(name: str) -> bool:
        return all(
            node.op_type in _PRODUCTS or (node.op_type == "DequantizeLinear" and kept(node.output[0]))
            for node in readers.get(name, ())
        )

    return {name for name in readers if kept(name)}


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
