"""Models named on the command line: `path/to/file.py:function`, or a `.pt2` file."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from tdsl.capture.captured import Captured, ModelLike, capture
from tdsl.capture.failure import line_span, reason_of, span_of_exception
from tdsl.errors import Source, Span, TdslError, kind_of
from tdsl.spelling import did_you_mean

_Result = TypeVar("_Result")

_EXPECTED = "(model, example_inputs) or (model, example_inputs, dynamic_shapes)"


def capture_spec(spec: str) -> Captured:
    """Capture what `spec` names: a `.pt2` file, or `file.py:function`.

    The function takes no arguments and returns `(model, example_inputs)` or `(model, example_inputs,
    dynamic_shapes)`; example inputs are a tuple of positional arguments, a dict of keyword arguments, or one
    tensor.

    Raises:
        TdslError: no such file or function, an exception inside it, or another kind of result.
    """
    path, colon, function = spec.rpartition(":")
    if not colon or spec.endswith(".pt2"):
        if spec.endswith(".py"):
            raise TdslError(
                f"{spec!r} names no function", expected=_functions_in(spec) or "path/to/file.py:function"
            )
        return capture(spec)
    model, args, kwargs, dynamic_shapes = _checked(*_called(path, function), function)
    return capture(model, args, kwargs, dynamic_shapes=dynamic_shapes)


def _functions_in(path: str) -> str:
    """The functions of a file that could be meant: those that take no arguments. Nothing is run."""
    try:
        body = ast.parse(Path(path).read_text(encoding="utf-8")).body
    except (OSError, SyntaxError, ValueError):
        return ""
    names = [f.name for f in body if isinstance(f, ast.FunctionDef) and not f.args.args]
    return f"one of {', '.join(f'{path}:{name}' for name in names)}" if names else ""


def call_function(path: str, name: str, finish: Callable[[Any], _Result]) -> _Result:
    """What the function `name` of the Python file `path` returns, put through `finish`.

    An exception in either (a generator runs in `finish`) becomes a `TdslError` at the user's line.
    """
    result: _Result = _called(path, name, finish)[0]
    return result


def load_function(path: str, name: str = "") -> Callable[..., Any]:
    """The function `name` of the Python file `path`; without a name the only one that is not private.

    Raises:
        TdslError: no such file or function, several of them, or an exception while the file is run.
    """
    file = Path(path).resolve()
    if not file.is_file():
        raise TdslError(f"there is no file {path!r}", expected="path/to/file.py:function")
    namespace = _run(lambda: _import(file), path, file)
    own = {k: v for k, v in namespace.items() if inspect.isfunction(v) and v.__module__ == _name(file)}
    public = [k for k in own if not k.startswith("_")]
    if name in own or (not name and len(public) == 1):
        function: Callable[..., Any] = own[name or public[0]]
        return function
    raise TdslError(
        f"{path} has no function `{name}`" if name else f"{path} has {len(public) or 'no'} functions",
        expected=f"one of {', '.join(f'{path}:{k}' for k in public)}" if public else "a function in it",
        hint=did_you_mean(name, own),
    )


def _called(
    path: str, name: str, finish: Callable[[Any], Any] = lambda result: result
) -> tuple[Any, Callable[..., Any]]:
    """The function's result, and the function."""
    file = Path(path).resolve()
    if not file.is_file():
        raise TdslError(f"there is no file {path!r}", expected="path/to/file.py:function")
    namespace = _run(lambda: _import(file), path, file)
    function = namespace.get(name)
    if not callable(function):
        functions = [k for k, v in namespace.items() if inspect.isfunction(v) and v.__module__ == _name(file)]
        raise TdslError(
            f"{path} has no function `{name}`",
            expected=f"one of {', '.join(functions)}"
            if functions
            else f"a function that returns {_EXPECTED}",
            hint=did_you_mean(name, functions),
        )
    _require_no_arguments(function, path, name)
    return _run(lambda: finish(function()), path, file), function


def _require_no_arguments(function: Callable[..., Any], path: str, name: str) -> None:
    """Raise `TdslError` for a function that cannot be called as it is."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # a builtin, which says by itself what it lacks
        return
    wanted = [
        p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if wanted:
        code = function.__code__ if inspect.isfunction(function) else None
        raise TdslError(
            f"`{name}` in {path} asks for {', '.join(wanted)}",
            line_span(code.co_filename, code.co_firstlineno) if code else None,
            expected="a function without arguments",
        )


def _name(file: Path) -> str:
    return f"tdsl_model_{file.stem}"


def _import(file: Path) -> dict[str, Any]:
    """Run the file as a module of its own name, its neighbours importable as in a script."""
    found = importlib.util.spec_from_file_location(_name(file), file)
    if found is None or found.loader is None:
        raise ImportError(f"{file.name} is not a Python file")
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module  # dataclasses and pickle look their module up by name
    sys.path.insert(0, str(file.parent))
    try:
        found.loader.exec_module(module)
    finally:
        sys.path.remove(str(file.parent))
    return vars(module)


def _run(action: Callable[[], Any], path: str, file: Path) -> Any:
    """The result of the user's code, its exceptions as diagnostics at the user's line."""
    try:
        return action()
    except TdslError:
        raise
    except SyntaxError as error:
        raise TdslError(f"{path} is not valid Python: {error.msg}", _syntax_span(error, path)) from None
    except Exception as error:  # any code may stand in the user's file
        span = span_of_exception(error, only=str(file)) or span_of_exception(error)
        raise TdslError(f"{path} raised {type(error).__name__}: {reason_of(error)}", span) from None


def _syntax_span(error: SyntaxError, path: str) -> Span | None:
    if error.lineno is None:
        return None
    source = Source(path, Path(error.filename or path).read_text(encoding="utf-8", errors="replace"))
    column = error.offset or 1
    return Span(source, error.lineno, column, error.lineno, column + 1)


def _checked(
    result: Any, function: Callable[..., Any], name: str
) -> tuple[ModelLike, tuple[Any, ...], dict[str, Any], Any]:
    """The function's result taken apart."""
    code = function.__code__ if inspect.isfunction(function) else None
    span = line_span(code.co_filename, code.co_firstlineno) if code else None
    if not isinstance(result, tuple) or len(result) not in (2, 3):
        size = f" of {len(result)}" if isinstance(result, tuple) else ""
        raise TdslError(f"`{name}` returned {kind_of(result)}{size}", span, expected=f"a tuple {_EXPECTED}")
    model, inputs, *rest = result
    if not isinstance(model, (nn.Module, torch.export.ExportedProgram)):
        raise TdslError(
            f"the first item that `{name}` returned is {kind_of(model)}",
            span,
            expected="a torch.nn.Module",
        )
    shapes = rest[0] if rest else None
    if isinstance(inputs, torch.Tensor):
        return model, (inputs,), {}, shapes
    if isinstance(inputs, Mapping):
        return model, (), dict(inputs), shapes
    if isinstance(inputs, (tuple, list)):
        return model, tuple(inputs), {}, shapes
    raise TdslError(
        f"the example inputs that `{name}` returned are {kind_of(inputs)}",
        span,
        expected="a tuple of arguments, a dict of keyword arguments, or a tensor",
    )
