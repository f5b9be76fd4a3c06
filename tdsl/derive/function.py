"""The functions that a rule is derived from: their operands, what is said of these, tensors to trace with.

    def before(x: Tensor["...", "n"], A: Const["k", "n"], b: Optional[Const["k"]]): …
    def before(x=torch.ones(4, 8), A=nn.Parameter(torch.ones(6, 8))): …

Sizes are names, numbers, or those of a default; a weight is a `Const`, an `nn.Parameter`, or named by the
caller. Parameters with any other default are not operands and keep it.
"""

from __future__ import annotations

import inspect
import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tdsl.capture.failure import line_span, reason_of, span_of_exception
from tdsl.capture.spec_file import load_function
from tdsl.engine.pattern import ELLIPSIS
from tdsl.engine.python_rule import annotations_of
from tdsl.errors import Span, TdslError

_SIZES = '`{0}: Tensor["n", 8]`, `{0}: Const["m", "n"]` for a weight, or an example `{0}=torch.ones(4, 8)`'


@dataclass(frozen=True, slots=True)
class Operand:
    """A tensor that a function takes; `sizes` are numbers and names, `None` where nothing is said."""

    name: str
    sizes: tuple[int | str, ...] | None
    const: bool
    optional: bool
    dtype: torch.dtype


@dataclass(frozen=True)
class Function:
    """A Python function on tensors."""

    call: Callable[..., Any]
    operands: tuple[Operand, ...]
    path: str

    @property
    def name(self) -> str:
        """What it is called in its file."""
        return self.call.__name__

    @property
    def doc(self) -> str:
        """The first paragraph of its docstring."""
        return (inspect.getdoc(self.call) or "").partition("\n\n")[0]

    @property
    def span(self) -> Span:
        """The line of its `def`."""
        code = self.call.__code__
        return line_span(code.co_filename, code.co_firstlineno)


def read_function(spec: str, constants: Sequence[str] = ()) -> Function:
    """The function that `file.py` or `file.py:function` names; `constants` are operands that are weights.

    Raises `TdslError` when there is none, or one with operands that cannot be told apart.
    """
    path, _, name = spec.rpartition(":") if ".py:" in spec else (spec, "", "")
    call = load_function(path, name)
    return Function(call, tuple(_operands(call, constants)), str(Path(call.__code__.co_filename)))


def _operands(call: Callable[..., Any], constants: Sequence[str]) -> Iterator[Operand]:
    types = annotations_of(call)
    for parameter in inspect.signature(call).parameters.values():
        default = parameter.default
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            code = call.__code__
            raise TdslError(
                f"`{parameter.name}` is any number of operands",
                line_span(code.co_filename, code.co_firstlineno),
                expected="each operand by a name of its own",
                hint="write the rule by hand: `xs...` stands for a list of operands",
            )
        type_, optional = types.get(parameter.name, (None, False))
        if isinstance(default, torch.Tensor):
            const = isinstance(default, nn.Parameter) or parameter.name in constants
            dtype = torch.float64 if default.is_floating_point() else default.dtype
            yield Operand(parameter.name, tuple(default.shape), const, optional, dtype)
        elif default is parameter.empty:
            const = (type_ is not None and type_.const) or parameter.name in constants
            dims = type_.dims if type_ is not None else None
            sizes = None if dims is None else tuple(d for d in dims if isinstance(d, int | str))
            yield Operand(parameter.name, sizes, const, optional, torch.float64)


# ---------------------------------------------------------------- example sizes


def example_values(function: Function) -> dict[str, torch.Tensor]:
    """Random tensors, on which `function` runs: names of sizes get small numbers, each its own if possible.

    Raises `TdslError` for an operand without sizes, and where the function fails on every attempt.
    """
    for operand in function.operands:
        if operand.sizes is None:
            raise TdslError(
                f"nothing says which sizes `{operand.name}` has",
                function.span,
                expected=_SIZES.format(operand.name),
            )
    names = [d for o in function.operands for d in o.sizes or () if isinstance(d, str) and d != ELLIPSIS]
    failure: BaseException | None = None
    for chosen in _assignments(list(dict.fromkeys(names))):
        values = _values(function.operands, chosen)
        try:
            with torch.no_grad():
                function.call(**values)
            return values
        except Exception as error:  # the user's function raises whatever it likes
            failure = failure or error
    assert failure is not None
    shown = ", ".join(f"{name}: {list(value.shape)}" for name, value in values.items())
    raise TdslError(
        f"{function.name} fails on {shown}: {reason_of(failure)}",
        span_of_exception(failure, only=function.path) or function.span,
        hint="give sizes that fit each other; equal names are equal sizes",
    )


def _assignments(names: list[str]) -> Iterator[dict[str, int]]:
    """Numbers for the names: all different at first, in several orders, then equal ones."""
    yield dict(zip(names, itertools.count(3), strict=False))
    yield dict(zip(reversed(names), itertools.count(3), strict=False))
    shuffled = random.Random(0)
    for _ in range(20 if names else 0):
        numbers = shuffled.sample(range(2, 4 + len(names)), len(names))
        yield dict(zip(names, numbers, strict=True))
    if names:
        yield dict.fromkeys(names, 4)


def _values(operands: Sequence[Operand], chosen: Mapping[str, int]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    found: dict[str, torch.Tensor] = {}
    for operand in operands:
        sizes = [2 if d == ELLIPSIS else chosen[d] if isinstance(d, str) else d for d in operand.sizes or ()]
        if operand.dtype.is_floating_point:
            found[operand.name] = torch.randn(sizes, generator=generator, dtype=operand.dtype)
        else:
            found[operand.name] = torch.randint(0, 2, sizes, generator=generator).to(operand.dtype)
    return found
