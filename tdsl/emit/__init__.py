"""Emit a captured or rewritten model as a checked ONNX file, and run it."""

from tdsl.emit.emitter import emit
from tdsl.emit.runtime import run, session
from tdsl.emit.write import save

__all__ = ["emit", "run", "save", "session"]
