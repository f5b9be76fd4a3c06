"""Emit a captured or rewritten model as a checked ONNX file, and run it."""

from tdsl.emit.emitter import emit, emit_apart
from tdsl.emit.outside import Emitted
from tdsl.emit.runtime import run, session
from tdsl.emit.write import save, size

__all__ = ["Emitted", "emit", "emit_apart", "run", "save", "session", "size"]
