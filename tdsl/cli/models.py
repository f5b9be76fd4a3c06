"""Models as the command line names them: a function in a Python file, a `.pt2` file, an `.onnx` file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tdsl.errors import TdslError

if TYPE_CHECKING:
    import onnx

    from tdsl.capture import Captured

Kind = Literal["function", "program", "onnx"]

FORMS = "path/to/file.py:function or a .pt2 file"
FORMS_OR_ONNX = "path/to/file.py:function, a .pt2 file or an .onnx file"


def kind_of(spec: str) -> Kind | None:
    """Which kind of model `spec` names by its form; `None` when it names none."""
    if spec.endswith(".onnx"):
        return "onnx"
    if spec.endswith(".pt2"):
        return "program"
    return "function" if ".py:" in spec or spec.endswith(".py") else None


def short_name(spec: str) -> str:
    """`digits.cnn` for `examples/digits.py:cnn`, `model` for `models/model.pt2`."""
    path, _, function = spec.partition(".py:")
    return f"{Path(path).name}.{function}" if function else Path(spec).stem


def default_output(spec: str) -> Path:
    """Where the file goes by default: `out/digits/cnn/model.onnx`; for a `.pt2`, `out/NAME/model.onnx`."""
    return Path("out", *short_name(spec).split(".", 1), "model.onnx")


def captured_model(spec: str) -> Captured:
    """Capture the PyTorch model that `spec` names. Raises `TdslError`."""
    kind = kind_of(spec)
    if kind == "onnx":
        raise TdslError(
            f"{spec} is a compiled file, and only PyTorch models can be rewritten", expected=FORMS
        )
    if kind is None:
        what = "is a directory" if Path(spec).is_dir() else "is no model"
        raise TdslError(f"{spec} {what}", expected=FORMS)
    from tdsl.capture.spec_file import capture_spec

    return capture_spec(spec)


def onnx_model(path: str, *, weights: bool = True) -> onnx.ModelProto:
    """The ONNX model in the file at `path`; `weights=False` leaves out those kept in other files.

    Raises `TdslError` when there is none.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load(path, load_external_data=weights)
    except FileNotFoundError as missing:
        raise TdslError(f"there is no file {missing.filename or path}") from None
    except IsADirectoryError:
        raise TdslError(f"{path} is a directory", expected="an .onnx file") from None
    except OSError as reason:
        raise TdslError(f"{path} cannot be read: {reason.strerror or reason}") from None
    except DecodeError:
        raise TdslError(
            f"{path} is not an ONNX file", expected="a file that `tdsl compile` could write"
        ) from None
    if not model.graph.output:
        raise TdslError(f"{path} is not an ONNX file: it has no outputs")
    return model
