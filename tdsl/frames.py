"""Frames of a stack trace: which of them the user wrote, and how to show where they are."""

from __future__ import annotations

import os
import re
import sysconfig
from collections.abc import Iterable
from pathlib import Path

import onnxscript
import torch

_NOT_THE_USERS = (
    *(str(Path(module.__file__ or "").parent) + os.sep for module in (torch, onnxscript)),
    str(Path(__file__).parent) + os.sep,
)
_STANDARD_LIBRARY = sysconfig.get_paths()["stdlib"] + os.sep
_INSTALLED = ("site-packages", "dist-packages")  # may lie inside the folder of the standard library
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')


def shown_path(path: str) -> str:
    """`path` relative to the working directory, or its file name when it lies elsewhere."""
    try:
        relative = os.path.relpath(path)
    except ValueError:  # another drive, on Windows
        return os.path.basename(path)
    return os.path.basename(path) if relative.startswith("..") else relative


def is_user_file(path: str) -> bool:
    """Whether `path` is neither Python's own, torch, the ONNX exporter, generated code, nor tdsl itself."""
    if path.startswith(("<", *_NOT_THE_USERS)):
        return False
    inside = path.removeprefix(_STANDARD_LIBRARY)
    return inside == path or inside.startswith(_INSTALLED)


def user_frame(frames: Iterable[tuple[str, int]]) -> tuple[str, int] | None:
    """The innermost (file, line) that the user wrote; frames come outermost first."""
    return next((frame for frame in reversed(list(frames)) if is_user_file(frame[0])), None)


def frames_of(stack_trace: str) -> list[tuple[str, int]]:
    """(file, line) of every frame in the `stack_trace` that torch records on a node, outermost first."""
    return [(m["file"], int(m["line"])) for m in _FRAME.finditer(stack_trace or "")]
