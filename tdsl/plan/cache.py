"""Answers remembered in a folder, a file each, by the content of everything that they were computed from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, fx

from tdsl.capture.normal import weights_of
from tdsl.engine.statistics import Answers, Request
from tdsl.engine.text import graph_text
from tdsl.errors import TdslError
from tdsl.factor.memo import digest
from tdsl.files import require_writable, whole
from tdsl.plan.calibrate import ROOM, Data, Progress, collect
from tdsl.plan.packed import Packed

_GRADIENTS = "gradient_moment"
_NAME = "statistic"
_ROWS = "rows"
"""The tensors of a file: a statistic, and how many rows it is the mean of."""
_DIGEST = "digest"
"""What the file says of the content of its statistic."""


def collect_cached(
    module: fx.GraphModule,
    data: Data,
    requests: Sequence[Request],
    folder: Path | None,
    progress: Progress = lambda stage: None,
    memory: int = ROOM,
) -> Answers:
    """The statistics asked for, those from files in `folder` that are there for the same model and data.

    The name of a file is a digest of the graph, its weights, the data and the request, of gradients that of
    the loss by its name and of the labels as well; one that is damaged is computed anew. Without a folder
    nothing is remembered, nor are gradients of a loss that is the user's own, whose content cannot be told.
    Raises `TdslError` for a folder that cannot be written.
    """
    if folder is None:
        return collect(module, data, requests, progress, memory)
    content = _content(module, data)
    files = {
        request: folder / f"{_named(content + _weighed_by(data, request), request)}.safetensors"
        for request in requests
        if request.kind != _GRADIENTS or data.loss is None or data.loss.name
    }
    missing = [request for request in requests if request not in files or not _readable(files[request])]
    fetches: dict[Request, Callable[[], Tensor]] = {r: partial(_read, path) for r, path in files.items()}
    rows = {}
    if missing:
        _require_folder(folder)
        found = collect(module, data, missing, progress, memory)
        assert isinstance(found.values, Packed)
        _write(found, {r: files[r] for r in missing if r in files})
        fetches.update({r: found.values.stored[r] for r in missing if r not in files})
        rows = {r: found.rows[r] for r in missing if r not in files}
    rows.update({r: int(_read(path, _ROWS)) for r, path in files.items()})
    return Answers(Packed({r: fetches[r] for r in requests}), {r: rows[r] for r in requests})


def _weighed_by(data: Data, request: Request) -> bytes:
    """What gradients depend on besides; nothing without a loss."""
    if request.kind != _GRADIENTS or data.loss is None:
        return b""
    return repr((data.loss.name, [[digest(one) for one in labels] for labels in data.labels])).encode()


def _require_folder(folder: Path) -> None:
    """Make the folder, before the work and not after it. Raises `TdslError` where that cannot be."""
    require_writable(folder / _NAME)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as reason:
        raise TdslError(f"cannot make the folder {folder}: {reason.strerror}") from None


def _write(answers: Answers, files: dict[Request, Path]) -> None:
    """One statistic after the other."""
    assert isinstance(answers.values, Packed)
    for request, path in files.items():
        try:
            with whole(path) as part:
                held = {_NAME: answers.values.stored[request](), _ROWS: torch.tensor(answers.rows[request])}
                save_file(held, part, {_DIGEST: repr(digest(held[_NAME]))})
        except (OSError, SafetensorError) as reason:
            said = getattr(reason, "strerror", None) or reason
            raise TdslError(f"cannot write to {path.parent}: {said}") from None


def _readable(path: Path) -> bool:
    """Whether a file is there and holds what was written."""
    try:
        with safe_open(path, "pt") as file:
            if not {_NAME, _ROWS} <= set(file.keys()):
                return False
            written: str | None = (file.metadata() or {}).get(_DIGEST)
            return repr(digest(file.get_tensor(_NAME))) == written
    except (OSError, SafetensorError):
        return False


def _read(path: Path, name: str = _NAME) -> Tensor:
    try:
        with safe_open(path, "pt") as file:
            found: Tensor = file.get_tensor(name)
            return found.clone()  # the file is not kept mapped
    except (OSError, SafetensorError) as reason:
        raise TdslError(f"cannot read {path}, which was there before: {reason}") from None


def _content(module: fx.GraphModule, data: Data) -> bytes:
    """A digest of what every statistic depends on."""
    found = hashlib.blake2b(digest_size=16)
    found.update(graph_text(module).encode())
    for path, value in weights_of(module).items():
        found.update(repr((path, digest(value))).encode())
    for batch in data.batches:
        found.update(repr([digest(tensor) for tensor in batch]).encode())
    found.update(repr((data.mask, data.added, data.seed)).encode())
    return found.digest()


def _named(content: bytes, request: Request) -> str:
    what = repr((request.kind, request.axis, request.size, request.identity))
    return hashlib.blake2b(content + what.encode(), digest_size=16).hexdigest()
