"""Replacements before they are part of a graph: staged terms, compile-time constants, shape inference.

The right side of a rule is built as `Staged` terms over graph nodes and constants. A term whose tensors
are all known at compile time is itself a constant: it is evaluated in float64 and becomes one new
parameter. Nothing touches the graph until every condition of the rule holds.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import fx
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, disable_fake_tensor_cache

from tdsl.errors import TdslError
from tdsl.ops import Operator
from tdsl.ops.calls import canonical_call
from tdsl.ops.spec import REQUIRED, Operand
from tdsl.ops.targets import operator_of, overload, overload_for

if TYPE_CHECKING:
    from tdsl.engine.statistics import Statistics

_FAKE_LOGS = tuple(
    logging.getLogger(name)
    for name in ("torch._subclasses.fake_tensor", "torch.fx.experimental.symbolic_shapes")
)

_LAYOUT_DEPENDENT = frozenset({"conv", "conv_transpose", "pool", "resize", "attention"})
"""Shape laws of the operators whose fake kernels choose a memory layout by the sizes."""
_IN_PYTHON = frozenset({"im2col", "lstm", "recurrent"})
"""Shape laws of the operators that are described by their implementation in Python."""


def _padded(x: torch.Tensor, border: Sequence[Any]) -> torch.Tensor:
    """What padding gives, by its sizes alone: the kernel for fakes asks for the traced example's."""
    sizes = list(x.shape)
    for i, amount in enumerate(border):
        sizes[-1 - i // 2] += amount
    return x.new_empty(sizes)


class CannotStage(Exception):
    """The replacement has no meaning at this site; the text says why. The site is left alone."""


@dataclass(eq=False, slots=True)
class Constant:
    """A tensor computed at compile time: float64 (or integer) values, and the element type to deploy."""

    values: torch.Tensor
    dtype: torch.dtype
    label: str = ""
    """What to call the new parameter: the name of the definition it comes from."""
    origin: fx.Node | None = None
    """The weight that it was computed from, for naming."""


@dataclass(eq=False, slots=True)
class Filled:
    """A tensor of one value throughout: what an absent operand stands for (a bias of zeros)."""

    fill: float
    sizes: tuple[Any, ...] | None
    dtype: torch.dtype


@dataclass(eq=False, slots=True)
class Staged:
    """An operator applied to graph nodes, constants and other staged terms, not yet in the graph."""

    target: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    label: str = ""
    _val: Any = field(default=REQUIRED, repr=False)
    _const: bool | None = field(default=None, repr=False)
    node: fx.Node | None = None
    """The graph node, once committed."""
    op: str = "call_function"
    """What kind of node it will be; `call_method` and `call_module` occur in untyped graphs only."""


Value = fx.Node | Constant | Filled | Staged


def tensors_in(value: Any) -> list[Any]:
    """The tensor-like values in an argument, nested lists included, in order."""
    if isinstance(value, list | tuple):
        return [t for item in value for t in tensors_in(item)]
    if isinstance(value, dict):
        return [t for item in value.values() for t in tensors_in(item)]
    if isinstance(value, slice):
        return tensors_in([value.start, value.stop, value.step])
    return [value] if isinstance(value, Value) else []


def _symbolic(value: Any) -> bool:
    """Whether a size that is not known at compile time is among the arguments."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return any(_symbolic(item) for item in value)
    return isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool)


def parts_of(values: Iterable[Any], below: Callable[[Staged], bool] = lambda term: True) -> Iterator[Any]:
    """What staged values are made of, themselves included, each part once; `below` says which to enter."""
    seen: set[int] = set()
    stack = list(values)
    while stack:
        value = stack.pop()
        if id(value) in seen or not isinstance(value, Value):
            continue
        seen.add(id(value))
        yield value
        if isinstance(value, Staged) and below(value):
            stack.extend(tensors_in([value.args, value.kwargs]))


def map_values(value: Any, change: Any) -> Any:
    """`value` with every tensor-like part replaced by `change(part)`."""
    if isinstance(value, Value):
        return change(value)
    if isinstance(value, list):
        return [map_values(item, change) for item in value]
    if isinstance(value, tuple):
        return tuple(map_values(item, change) for item in value)
    if isinstance(value, dict):
        return {key: map_values(item, change) for key, item in value.items()}
    if isinstance(value, slice):
        return slice(*(map_values(part, change) for part in (value.start, value.stop, value.step)))
    return value


class Workspace:
    """What staging needs to know of one graph module: constants, shapes, and what was computed before."""

    def __init__(self, module: fx.GraphModule) -> None:
        self.module = module
        self._inferred: dict[Any, Any] = {}
        self._kinds: dict[int, tuple[Any, int]] = {}
        self._numbers: dict[Any, int] = {}
        self.statistics: Statistics | None = None
        """What rules may ask about values of the model; `None` without calibration data."""

    @functools.cached_property
    def _mode(self) -> FakeTensorMode | None:
        """The fake mode of the first value that has a description; looked for when it is first needed."""
        vals = (node.meta.get("val") for node in self.module.graph.nodes)
        return next((val.fake_mode for val in vals if isinstance(val, FakeTensor)), None)

    @property
    def typed(self) -> bool:
        """Whether the graph carries shapes; without them nothing can be inferred or compared."""
        return self._mode is not None

    # ------------------------------------------------------------ constants

    def tensor(self, node: fx.Node) -> torch.Tensor:
        """The tensor behind a `get_attr` node."""
        value: Any = self.module
        for part in str(node.target).split("."):
            value = getattr(value, part)
        return value.detach()  # type: ignore[no-any-return]

    def is_const(self, value: Any) -> bool:
        """Whether a value is known at compile time."""
        if isinstance(value, fx.Node):
            return value.op == "get_attr"
        if isinstance(value, Staged):
            if value._const is None:
                value._const = self._known(value)
            return value._const
        return isinstance(value, Constant | Filled)

    def _known(self, value: Staged) -> bool:
        """Whether all that a term is made of is known at compile time, and nothing drawn at random."""
        for part in value.args:  # most terms end here, at their first operand
            if isinstance(part, fx.Node) and part.op != "get_attr":
                return False
        parts = tensors_in(value.args)
        if value.kwargs:
            parts += tensors_in(value.kwargs)
        if not parts or not all(self.is_const(part) for part in parts):
            return False
        op = operator_of(value.target)
        return (op is None or not op.random) and not _symbolic([value.args, value.kwargs])

    def evaluate(self, value: Any) -> torch.Tensor:
        """The values of a constant, in float64 when it is floating point."""
        if isinstance(value, fx.Node):
            return _widen(self.tensor(value))
        if isinstance(value, Constant):
            return value.values
        if isinstance(value, Filled):
            sizes = self._plain_sizes(value)
            return torch.full(sizes, value.fill, dtype=_wide(value.dtype))
        args = map_values(value.args, self.evaluate)
        kwargs = {k: map_values(v, self.evaluate) for k, v in value.kwargs.items()}
        if isinstance(kwargs.get("dtype"), torch.dtype):
            kwargs["dtype"] = _wide(kwargs["dtype"])
        result: torch.Tensor = value.target(*args, **kwargs)
        return result

    def _plain_sizes(self, value: Filled) -> tuple[int, ...]:
        if value.sizes is None or not all(isinstance(s, int) for s in value.sizes):
            raise CannotStage("an absent operand would need a size that is not known at compile time")
        return value.sizes

    # ------------------------------------------------------------ shapes

    def val(self, value: Any) -> Any:
        """The fake tensor that describes a value; `None` where the graph is untyped."""
        if isinstance(value, fx.Node):
            return value.meta.get("val")
        if self._mode is None:
            return None
        if isinstance(value, Staged):
            if value._val is REQUIRED:
                known = value.op == "call_function"
                value._val = self.infer(value.target, value.args, value.kwargs) if known else None
            return value._val
        if isinstance(value, Constant):
            return self._empty(tuple(value.values.shape), value.dtype)
        if isinstance(value, Filled):
            return None if value.sizes is None else self._empty(value.sizes, value.dtype)
        return value

    def _empty(self, sizes: tuple[Any, ...], dtype: torch.dtype) -> Any:
        assert self._mode is not None
        with self._mode:
            return torch.empty(sizes, dtype=dtype)

    def infer(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Result of `target` on fake tensors; `None` where an operand is untyped.

        Raises `CannotStage` when the operator refuses these operands.
        """
        if self._mode is None:
            return None
        kinds = self._kind(args), self._kind(tuple(sorted(kwargs.items()))) if kwargs else ()
        if None in kinds:
            return None
        key = (target, kinds)
        if key not in self._inferred:
            fake_args = map_values(args, self.val)
            fake_kwargs = {k: map_values(v, self.val) for k, v in kwargs.items()}
            try:
                self._inferred[key] = self._run(target, fake_args, fake_kwargs)
            except (RuntimeError, ValueError, TypeError, IndexError) as reason:
                name = op.name if (op := operator_of(target)) else str(target)
                raise CannotStage(f"{name} refuses these operands: {str(reason).splitlines()[0]}") from None
        return self._inferred[key]

    def alike(self, a: Any, b: Any) -> bool:
        """Whether two descriptions (fake tensors, sizes) are the same, symbol by symbol."""
        return a is b or self._kind_of(a) == self._kind_of(b)

    def _kind(self, value: Any) -> Any:
        """All that inference can depend on in an argument, hashable; `None` where an operand is untyped."""
        if isinstance(value, tuple | list):
            kinds = tuple([self._kind(item) for item in value])
            return None if None in kinds else kinds
        if isinstance(value, Value):
            val = self.val(value)
            return None if val is None else self._kind_of(val)
        return _key(value)

    def _kind_of(self, val: Any) -> int:
        """The number of all descriptions like this one; most are met again, and told by their identity."""
        known = self._kinds.get(id(val))
        if known is None:
            # The description is kept: its identity is its own as long as it lives.
            known = val, self._numbers.setdefault(_key(val), len(self._numbers))
            self._kinds[id(val)] = known
        return known[1]

    def _run(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """`target` on fake tensors, for every value of the symbolic sizes.

        An answer that holds only for the traced example (a broadcast of `s` with 2 where `s` was 2) would be
        a guard, and raises. Where a kernel asks such questions to choose a memory layout, they are answered
        for the example and forgotten: its sizes do not depend on them. The cache of fake tensors asks more
        than the operators do (whether a storage is large enough), and is left out. Of recurrent layers and
        windows only the implementation in Python knows symbolic sizes; a model is captured by that as well.
        """
        assert self._mode is not None
        env = self._mode.shape_env
        op = operator_of(target)
        asks = op is not None and op.result in _LAYOUT_DEPENDENT
        guards = (
            nullcontext() if env is None else env.suppress_guards() if asks else env.error_on_new_guards()
        )
        written = op is not None and op.result in _IN_PYTHON
        in_python = enable_python_dispatcher() if written else nullcontext()
        were_disabled = [log.disabled for log in _FAKE_LOGS]
        for log in _FAKE_LOGS:
            log.disabled = True  # a refusal is an answer here, no error
        try:
            with guards, disable_fake_tensor_cache(self._mode), self._mode, in_python:
                if target is torch.ops.aten.pad.default:
                    return _padded(args[0], args[1])
                return target(*args, **kwargs)
        finally:
            for log, was_disabled in zip(_FAKE_LOGS, were_disabled, strict=True):
                log.disabled = was_disabled

    def guards(self) -> tuple[str, ...]:
        """What the symbolic sizes were assumed to satisfy; rewriting must not add to it."""
        env = self._mode.shape_env if self._mode is not None else None
        return () if env is None else tuple(str(guard.expr) for guard in env.guards)

    def mode(self) -> FakeTensorMode | None:
        """The fake mode of the graph, if it is typed."""
        return self._mode


def stage(work: Workspace, op: Operator, arguments: dict[str, Any], label: str = "") -> Any:
    """`op` on `arguments` (by parameter name, defaults elsewhere), in normal form.

    Returns a `Staged` term, or something simpler when an operand is uniform: zeros vanish in a sum,
    ones in a product, and an absent bias stays absent.
    """
    values = {p.name: arguments.get(p.name, p.default) for p in op.params}
    missing = [p.name for p in op.params if values[p.name] is REQUIRED]
    if missing:
        raise TdslError(f"operator {op.name} needs {', '.join(missing)}")
    for p in op.params:
        if p.optional and p.name not in arguments:
            values[p.name] = None
    simpler = _simplify(work, op, values)
    if simpler is not None:
        return simpler
    for p in op.params:
        value = values[p.name]
        if isinstance(value, Filled):
            if p.optional and value.fill == p.default:
                values[p.name] = None
            elif value.sizes is None:
                raise CannotStage(f"an absent operand meets {op.name}, and its size is not known")
    args = [
        list(values[p.name]) if p.kind == "tensors" else values[p.name]
        for p in op.params
        if not p.keyword_only
    ]
    kwargs = {p.name: values[p.name] for p in op.params if p.keyword_only}
    if _has_one_form(op) and not any(name in arguments for name in kwargs):
        return Staged(overload(op), tuple(args), {}, label)
    call = canonical_call(
        op, [_described(work, a) for a in args], {k: _described(work, v) for k, v in kwargs.items()}
    )
    if call is None:
        raise CannotStage(f"{op.name} has no meaning with these arguments")
    return Staged(call[0], tuple(call[1]), call[2], label)


def stages_directly(op: Operator, names: Collection[str]) -> bool:
    """Whether a call of `op` with these arguments is in normal form as it is, unless one of them is uniform.

    Then `Staged(overload(op), …)` with the defaults filled in is what `stage` makes of it.
    """
    return (
        _has_one_form(op)
        and not any(p.keyword_only and p.name in names for p in op.params)
        and all(p.kind != "tensors" for p in op.params)
        and all(p.name in names or p.default is not REQUIRED for p in op.params)
        and all(p.name in names or not p.optional for p in op.params)
    )


@functools.cache
def _has_one_form(op: Operator) -> bool:
    """Whether operands alone make a call in normal form: no attribute to canonicalise, no other overload."""
    if not op.target.startswith("aten."):
        return True
    return op.normal is None and not op.variants and all(p.is_operand or p.keyword_only for p in op.params)


def _described(work: Workspace, value: Any) -> Any:
    """`value` with tensors as operands that tell their shape."""
    if isinstance(value, list | tuple):
        return [_described(work, item) for item in value]
    if not isinstance(value, Value):
        return value
    val = work.val(value)
    if val is None:
        return Operand(value, None)
    return Operand(value, tuple(val.shape), val.dtype) if isinstance(val, torch.Tensor) else value


def _simplify(work: Workspace, op: Operator, values: dict[str, Any]) -> Any:
    """The result when uniform operands decide it; `None` when they do not."""
    operands = [p for p in op.operands if values[p.name] is not None]
    filled = [p for p in operands if isinstance(values[p.name], Filled)]
    lists = [p for p in operands if p.kind == "tensors"]
    if lists and all(isinstance(v, Filled) for p in lists for v in values[p.name]):
        parts = [v for p in lists for v in values[p.name]]
        if op.moves and len({part.fill for part in parts}) == 1:
            return _filled_like(work, op, values, parts[0].fill, parts[0].dtype)
    if not filled:
        return None
    if op.name in ("add", "sub", "mul", "div") and len(operands) == 2:
        left, right = (values[p.name] for p in operands)
        neutral = 0.0 if op.name in ("add", "sub") else 1.0
        if isinstance(right, Filled) and right.fill == neutral and not isinstance(left, Filled):
            return left
        if (
            op.commutative
            and isinstance(left, Filled)
            and left.fill == neutral
            and not isinstance(right, Filled)
        ):
            return right
    tensors = [values[p.name] for p in operands if p.kind != "tensors"]
    if any(values[p.name].fill == 0.0 and p.name in op.linear_in for p in filled) and not any(
        p.optional and not isinstance(values[p.name], Filled) for p in operands
    ):
        zero = next(values[p.name] for p in filled if p.name in op.linear_in)
        return _filled_like(work, op, values, 0.0, zero.dtype)
    uniform = all(isinstance(t, Filled | int | float) for t in tensors) and not lists
    if uniform and (op.pointwise or op.elementwise or op.moves):
        wide = [torch.tensor(t.fill, dtype=torch.float64) if isinstance(t, Filled) else t for t in tensors]
        first = values[filled[0].name]
        fill = first.fill if op.moves else float(overload_for(op, wide)(*wide))
        return _filled_like(work, op, values, fill, first.dtype)
    return None


def _filled_like(
    work: Workspace, op: Operator, values: dict[str, Any], fill: float, dtype: torch.dtype
) -> Any:
    args = tuple(values[p.name] for p in op.params if not p.keyword_only)
    described = work.infer(overload_for(op, args), args, {})
    return Filled(fill, None if described is None else tuple(described.shape), dtype)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype.is_floating_point else dtype


def _widen(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def _key(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return ("tensor", _key(tuple(value.shape)), value.dtype)
    if isinstance(value, list | tuple):
        return tuple(_key(item) for item in value)
    if isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool):
        return ("symbol", value.node.expr)
    return (type(value), value)
