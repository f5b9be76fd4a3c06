"""The steps of a graph that take time when its file runs: an operator with the shapes of its operands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from tdsl.engine.staged import Constant, Filled, Staged, map_values, tensors_in
from tdsl.engine.workspace import Workspace
from tdsl.ops.targets import operator_of


@dataclass(frozen=True, slots=True)
class Tensor:
    """What is known of an operand: its sizes, its element type, and whether it is a constant."""

    sizes: tuple[int, ...]
    dtype: torch.dtype
    const: bool

    def __str__(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')}{list(self.sizes)}{' const' if self.const else ''}"


@dataclass(frozen=True, slots=True)
class Step:
    """One operator with the shapes of its operands and its attributes, as the graph calls it."""

    name: str
    arguments: tuple[tuple[str, Any], ...]
    result: tuple[int, ...]

    def __str__(self) -> str:
        shown = ", ".join(f"{name}={_shown(value)}" for name, value in self.arguments if value is not None)
        return f"{self.name}({shown}) -> {list(self.result)}"


def steps_of(
    work: Workspace, values: Iterable[fx.Node | Staged], sizes: Mapping[str, int] | None = None
) -> list[Step]:
    """The steps of graph nodes or staged terms that take time when the file runs.

    Dynamic sizes are those of the traced example, or those that `sizes` gives to torch's symbols.
    """
    at = _Sizes(sizes or {})
    found = []
    for value in values:
        op = operator_of(value.target)
        val = work.val(value)
        if op is None or not isinstance(val, torch.Tensor):
            continue
        args = dict(zip((p.name for p in op.params), value.args, strict=False)) | value.kwargs
        arguments = tuple((name, at.described(work, argument)) for name, argument in args.items())
        found.append(Step(op.name, arguments, at.numbers(val.shape)))
    return found


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Dynamic sizes as numbers."""

    known: Mapping[str, int]

    def number(self, size: Any) -> int:
        if not isinstance(size, torch.SymInt):
            return int(size)
        if not self.known:
            return int(size.node.hint)
        free = size.node.expr.free_symbols
        at = {s: self.known[str(s)] for s in free if str(s) in self.known}
        return int(size.node.expr.xreplace(at)) if len(at) == len(free) else int(size.node.hint)

    def numbers(self, sizes: Iterable[Any]) -> tuple[int, ...]:
        return tuple(map(self.number, sizes))

    def described(self, work: Workspace, value: Any) -> Any:
        if isinstance(value, fx.Node | Constant | Filled | Staged):
            val = work.val(value)
            if not isinstance(val, torch.Tensor):
                return self.number(val) if isinstance(val, torch.SymInt | int) else None
            return Tensor(self.numbers(val.shape), val.dtype, work.is_const(value))
        if tensors_in(value):
            return [self.described(work, item) for item in value]
        return self._plain(map_values(value, lambda part: part))

    def _plain(self, value: Any) -> Any:
        if isinstance(value, torch.SymInt):
            return self.number(value)
        if isinstance(value, list | tuple):
            return [self._plain(item) for item in value]
        return value


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    return str(value)
