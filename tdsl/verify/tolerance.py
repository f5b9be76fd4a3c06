"""How far rounding may move the result of an exact pipeline: derived from the model, never a blanket rtol.

An exact rule computes the same function of real numbers, so that only rounding can move the outputs,
and how much rounding moves the outputs of *this* model is measured: with u the spacing of float32 at 1
and e the relative distance between the original's float32 and float64 runs, κ = e / u is its rounding
condition on that sample. (Higham 2002, Accuracy and Stability of Numerical Algorithms, ch. 1: forward
error ≲ condition number × backward error; random signs make n roundings add up like √n.)

* The file in float32 rounds about as often as the original, in another order. Its distance to the
  float64 original may be `SLACK` times the original's own.
* The original is held to that itself, with κ of the graph that was captured of it and runs in its place in
  float64: a capture that computes something else would pass for a model that rounds badly.
* The rewritten module in float64, against the original in float64, may differ by `DOUBLE_SLACK`·κ·u₆₄.
  A wrong rule is off by an amount that does not shrink with u, so that generosity costs nothing here.
  Where a rewrite computed new weights and stored them in float32, these were rounded once to float32
  whatever they run in, and the bound is the file's; so it is where a rewrite did without a weight for
  what it is up to rounding (an orthogonal matrix and its transpose).

A measured distance can be zero by luck (small integers, one output). Both bounds therefore have a floor
of `FLOOR`·√steps roundings, where `steps` counts the operations on the way to the output, a sum of n numbers
as n: one kernel adds pairs of sums, another one number after the other.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch._ops import HigherOrderOperator
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from tdsl.ops.targets import operator_of
from tdsl.verify.runner import Runner, module_runner
from tdsl.verify.wide import WIDE, widened_value, widening_graph

SLACK = 8.0
"""Two runs that round independently differ by √2 times the distance of one, kernels that add in another
order by a small factor more, and a distance measured on few outputs is uncertain by about as much."""

DOUBLE_SLACK = 1024.0
"""As `SLACK`, with room for rules that reassociate products, whose intermediate values round worse."""

FLOOR = 4.0
"""Roundings a step that are granted whatever was measured."""

CELL = 8
"""Roundings at each step of a recurrent layer: gates, the function of each, the cell, its output."""

UNMEASURED = 64.0
"""Roundings a step where the condition cannot be measured, because the model does not run in float64."""


class NotInDouble(Exception):
    """The model cannot be run in float64; the text says why."""


@dataclass(frozen=True, slots=True)
class Double:
    """The original and the rewritten module in float64.

    `stored` is the precision that weights made by rewrites were stored in before they became float64.
    `narrow` is what runs as `original`, in its own precision: where a captured graph stands for the model,
    what it differs by from itself is rounding, and what the model differs by may be an error of the capture.
    """

    original: Runner
    rewritten: Runner | None = None
    stored: torch.dtype = torch.float64
    narrow: Runner | None = None


def double_runs(
    original: nn.Module,
    rewritten: nn.Module | None,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
) -> Double:
    """`original` and `rewritten`, which take the same arguments, in float64 (on copies).

    Raises `NotInDouble` when one of them fails in float64, or narrows numbers inside.
    """
    narrow = module_runner(original, args, kwargs)
    if rewritten is None:
        return Double(in_double(original, args, kwargs), narrow=narrow)
    runs = in_double(original, args, kwargs), in_double(rewritten, args, kwargs)
    return Double(*runs, stored_precision(original, rewritten), narrow)


def in_double(module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None) -> Runner:
    """`module` in float64, as a runner of inputs that may be narrower; tried once on `args`.

    In an `fx.GraphModule`, dtypes written into the graph are widened as well; a cast in the Python code
    of another module cannot be, so prefer a captured graph. Raises `NotInDouble`.
    """
    if isinstance(module, fx.GraphModule):
        run_wide = module_runner(widening_graph(module), args, kwargs, _own_or_narrow)
    else:
        run_wide = module_runner(widened(module), args, kwargs, _own_wide)
    tensors = tuple(leaf for leaf in pytree.tree_leaves((args, kwargs or {})) if isinstance(leaf, Tensor))
    narrowing = _Narrowing()  # type: ignore[no-untyped-call]
    try:
        with narrowing:
            run_wide(tensors)
    except Exception as error:  # whatever a model may raise when its dtypes clash
        raise NotInDouble(f"it fails in float64: {_first_line(error)}") from error
    if narrowing.found:
        raise NotInDouble(f"it narrows float64 inside ({narrowing.found})")
    return run_wide


def _own_or_narrow(value: Tensor) -> Tensor:
    """A copy, unless the graph widens it and so makes one of its own, which it frees after its last use."""
    return value if value.dtype in WIDE else value.clone()


def _own_wide(value: Tensor) -> Tensor:
    """A copy, in float64 where it was narrower."""
    wide = widened_value(value)
    return value.clone() if wide is value else wide


def widened(module: nn.Module) -> nn.Module:
    """A copy of `module` whose parameters, buffers and tensor attributes are float64."""
    wide = copy.deepcopy(module).double()
    for part in wide.modules():
        for name, value in list(vars(part).items()):
            if isinstance(value, Tensor):
                setattr(part, name, widened_value(value))
    return wide


def stored_precision(original: nn.Module, rewritten: nn.Module) -> torch.dtype:
    """The lowest precision of the weights in `rewritten` that `original` does not have.

    Where there are none, that of the weights which `original` alone has: a rule took them for what they are
    to their own precision, the inverse of one another perhaps. float64 when the weights are the same, or when
    new ones are kept in float64.
    """
    made = _apart(rewritten, original) or _apart(original, rewritten)
    return max(made, key=lambda dtype: torch.finfo(dtype).eps, default=torch.float64)


def _apart(module: nn.Module, other: nn.Module) -> list[torch.dtype]:
    """The element types of the weights that only `module` has."""
    shared = {value.data_ptr() for value in _weights(other)}
    new = [value for value in _weights(module) if value.data_ptr() not in shared]
    alike = {(value.dtype, value.numel()) for value in new}
    known = {_content(value) for value in _weights(other) if (value.dtype, value.numel()) in alike}
    return [value.dtype for value in new if _content(value) not in known]


# ---------------------------------------------------------------- bounds


def steps_of(graph: fx.Graph) -> int:
    """How often numbers are rounded on the way through a captured graph; sums count by their length."""
    return sum(_terms(node) for node in graph.nodes if node.op == "call_function")


def _terms(node: fx.Node) -> int:
    op = operator_of(node.target)
    if op is not None and op.result in ("lstm", "recurrent"):
        given: dict[str, Any] = dict(zip((param.name for param in op.params), node.args, strict=True))
        sizes = _sizes(given["x"].meta["val"])
        layers: int = given["num_layers"]
        return CELL * layers * sizes[1 if given["batch_first"] else 0]
    if op is None or not (op.reduces and op.linear_in) or not isinstance(node.args[0], fx.Node):
        return 1
    before, after = (_elements(part.meta.get("val")) for part in (node.args[0], node))
    return max(1, before // max(1, after))


def _elements(value: Any) -> int:
    """Elements of a tensor, 1 of anything else."""
    return math.prod(_sizes(value)) if isinstance(value, Tensor) else 1


def _sizes(value: Tensor) -> list[int]:
    """Its sizes; a symbolic one is what it was in the example, 1 if that is unknown."""
    return [n if isinstance(n, int) else (n.node.hint or 1) for n in value.shape]


def file_bound(condition: float, dtype: torch.dtype, steps: int) -> float:
    """Largest relative distance of a file of `dtype` to the float64 original.

    `condition` is the relative distance of the original, run in `dtype`, to itself in float64.
    """
    return max(SLACK * condition, _floor(dtype, steps))


def double_bound(condition: float, dtype: torch.dtype, stored: torch.dtype, steps: int) -> float:
    """Largest relative distance between the original and the rewritten module, both in float64.

    `condition` is as for `file_bound`, for the original in `dtype`; `stored` is as in `Double`.
    """
    if stored != torch.float64:
        return max(SLACK * condition * _unit(stored) / _unit(dtype), _floor(stored, steps))
    return max(DOUBLE_SLACK * condition * _unit(stored) / _unit(dtype), _floor(stored, steps))


def unmeasured_bound(dtype: torch.dtype, steps: int) -> float:
    """Largest relative distance of the file to the original, both of `dtype`, with no float64 run at hand."""
    return UNMEASURED * _unit(dtype) * math.sqrt(max(1, steps))


def _floor(dtype: torch.dtype, steps: int) -> float:
    return FLOOR * _unit(dtype) * math.sqrt(max(1, steps))


def _unit(dtype: torch.dtype) -> float:
    """Spacing of `dtype` at 1; an integer output is exact, and is only as good as float32 before it."""
    return torch.finfo(dtype if dtype.is_floating_point or dtype.is_complex else torch.float32).eps


class _Narrowing(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the first operation that makes a narrower float of a float64 tensor: precision is lost there."""

    found = ""
    supports_higher_order_operators = True

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if isinstance(func, HigherOrderOperator):  # what its branches compute is looked at as well
            args = tuple(self._watched(arg) if isinstance(arg, nn.Module) else arg for arg in args)
        result = func(*args, **(kwargs or {}))
        taken = (leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor))
        made = (leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor))
        if not self.found and any(value.dtype == torch.float64 for value in taken):
            narrow = [value.dtype for value in made if value.dtype in WIDE]
            self.found = f"{func} makes {narrow[0]}" if narrow else ""
        return result

    def _watched(self, branch: nn.Module) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            with self:
                return branch(*args)

        return run


def _weights(module: nn.Module) -> list[Tensor]:
    """Every floating-point tensor that `module` holds."""
    held = [value for part in module.modules() for value in vars(part).values() if isinstance(value, Tensor)]
    return [v for v in (*module.parameters(), *module.buffers(), *held) if v.is_floating_point()]


def _content(value: Tensor) -> tuple[torch.dtype, bytes]:
    """What makes two weights the same one: dtype and sorted entries, since to permute is not to round."""
    narrow = value.dtype in (torch.bfloat16, torch.float16)
    entries = (value.float() if narrow else value).detach().cpu().flatten().numpy()
    return value.dtype, hashlib.sha256(np.sort(entries).data).digest()


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
