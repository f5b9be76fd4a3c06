"""Answers remembered in a folder, by the content of everything that they were computed from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import fx

from tdsl.capture.normal import weights_of
from tdsl.engine.statistics import Answers, Request
from tdsl.engine.text import graph_text
from tdsl.errors import TdslError
from tdsl.factor.memo import digest
from tdsl.files import whole
from tdsl.plan.calibrate import ROOM, Data, Progress, collect
from tdsl.plan.packed import Packed


def collect_cached(
    module: fx.GraphModule,
    data: Data,
    requests: Sequence[Request],
    folder: Path | None,
    progress: Progress = lambda stage: None,
    memory: int = ROOM,
) -> Answers:
    """The statistics asked for, from a file in `folder` where the same ones of the same model and data are.

    The name of the file is a digest of the graph, its weights, the data and the requests; one that is damaged
    is computed anew. Without a folder, and with a loss, whose content cannot be told, nothing is remembered.
    Raises `TdslError` for a folder that cannot be written.
    """
    if folder is None or data.loss is not None:
        return collect(module, data, requests, progress, memory)
    path = folder / f"{_content(module, data, requests)}.safetensors"
    try:
        known = load_file(path)
        return Answers(Packed({request: known[str(i)] for i, request in enumerate(requests)}))
    except (OSError, KeyError, SafetensorError):
        answers = collect(module, data, requests, progress, memory)
    assert isinstance(answers.values, Packed)
    tensors = {str(i): answers.values.stored[request] for i, request in enumerate(requests)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with whole(path) as part:
            save_file(tensors, part)
    except OSError as reason:
        raise TdslError(f"cannot write to {folder}: {reason.strerror}") from None
    return answers


def _content(module: fx.GraphModule, data: Data, requests: Sequence[Request]) -> str:
    found = hashlib.blake2b(digest_size=16)
    found.update(graph_text(module).encode())
    for path, value in weights_of(module).items():
        found.update(repr((path, digest(value))).encode())
    for batch in data.batches:
        found.update(repr([digest(tensor) for tensor in batch]).encode())
    found.update(repr((data.mask, data.seed)).encode())
    for request in requests:
        found.update(repr((request.kind, request.axis, request.size, request.identity)).encode())
    return found.hexdigest()
