"""What staging knows of a graph module: its constants and their values, shapes by fake tensors."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import fx
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, disable_fake_tensor_cache

from tdsl.capture.recurrences import RECURRENT, described
from tdsl.engine.staged import CannotStage, Constant, Filled, Staged, Value, map_values, tensors_in
from tdsl.ops.spec import REQUIRED
from tdsl.ops.targets import operator_of

if TYPE_CHECKING:
    from tdsl.engine.statistics import Statistics

T = TypeVar("T")

_FAKE_LOGS = tuple(
    logging.getLogger(name)
    for name in ("torch._subclasses.fake_tensor", "torch.fx.experimental.symbolic_shapes")
)

_LAYOUT_DEPENDENT = frozenset({"conv", "conv_transpose", "pool", "resize", "attention"})
"""Shape laws of the operators whose fake kernels choose a memory layout by the sizes."""
_EXPAND = torch.ops.aten.expand.default
_IN_PYTHON = frozenset({"im2col"})
"""Shape laws of the operators that are described by their implementation in Python."""


def _padded(x: torch.Tensor, border: Sequence[Any], *_: Any) -> torch.Tensor:
    """What padding gives, by its sizes alone: the kernel for fakes asks for the traced example's."""
    sizes = list(x.shape)
    for i, amount in enumerate(border):
        sizes[-1 - i // 2] += amount
    return x.new_empty(sizes)


_BY_SIZES: Mapping[Any, Callable[..., Any]] = {
    torch.ops.aten.pad.default: _padded,
    **dict.fromkeys(RECURRENT, described),
}
"""What describes the results of operators whose kernels for fakes make numbers of symbolic sizes."""


class Workspace:
    """What staging needs to know of one graph module: constants, shapes, and what was computed before."""

    def __init__(self, module: fx.GraphModule) -> None:
        self.module = module
        self._inferred: dict[Any, Any] = {}
        self._met: set[Any] = set()
        self._kinds: dict[int, tuple[Any, int]] = {}
        self._numbers: dict[Any, int] = {}
        self._answers: dict[Any, tuple[Any, torch.Tensor, Any]] = {}
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

    def asked(self, question: Callable[..., T], node: fx.Node, *about: Hashable) -> T:
        """`question(tensor, *about)` of the tensor behind a `get_attr` node, asked once.

        And again where that node names another tensor by now, or the same one with other numbers.
        """
        tensor = self.tensor(node)
        if tensor.is_inference():  # whose changes are not counted
            return question(tensor, *about)
        key = (question, node.target, about)
        state = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, tensor._version)
        if key not in self._answers or self._answers[key][0] != state:
            # The tensor is kept: as long as it is, no other one lies where it does.
            self._answers[key] = state, tensor, question(tensor, *about)
        return self._answers[key][2]  # type: ignore[no-any-return]

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

    def keep_spread(self, value: Any) -> None:
        """Leave an expansion of a constant to the run time where it would be more than what it is made of."""
        if isinstance(value, Staged) and value.target is _EXPAND and self.is_const(value):
            val, source = self.val(value), self.val(value.args[0])
            value._const = val is None or source is None or val.numel() <= source.numel()

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
        kinds = self._kinds_of(args, kwargs)
        if kinds is None:
            return None
        key = (target, kinds)
        if key not in self._inferred and target not in self._met:
            self._met.add(target)
            self._read(target)
        if key not in self._inferred:
            fake_args = map_values(args, self.val)
            fake_kwargs = {k: map_values(v, self.val) for k, v in kwargs.items()}
            try:
                self._inferred[key] = self._run(target, fake_args, fake_kwargs)
            except (RuntimeError, ValueError, TypeError, IndexError) as reason:
                name = op.name if (op := operator_of(target)) else str(target)
                raise CannotStage(f"{name} refuses these operands: {str(reason).splitlines()[0]}") from None
        return self._inferred[key]

    def _read(self, target: Any) -> None:
        """Remember what the graph says of its calls of `target`: the same operands give the same again."""
        for node in self.module.graph.find_nodes(op="call_function", target=target, sort=False):
            val = node.meta.get("val")
            kinds = self._kinds_of(node.args, node.kwargs)
            if val is not None and kinds is not None:
                self._inferred.setdefault((target, kinds), val)

    def alike(self, a: Any, b: Any) -> bool:
        """Whether two descriptions (fake tensors, sizes) are the same, symbol by symbol."""
        return a is b or self._kind_of(a) == self._kind_of(b)

    def _kinds_of(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, Any] | None:
        """All that inference can depend on in the arguments of a call; `None` where an operand is untyped."""
        kinds = self._kind(args), self._kind(tuple(sorted(kwargs.items()))) if kwargs else ()
        return None if None in kinds else kinds

    def _kind(self, value: Any) -> Any:
        """All that inference can depend on in an argument, hashable; `None` where an operand is untyped."""
        if isinstance(value, tuple | list):
            kinds = tuple([self._kind(item) for item in value])
            return None if None in kinds else kinds
        if isinstance(value, Constant):  # told without describing it
            return self._number(_tensor_key(value.values.shape, value.dtype))
        if isinstance(value, Value):
            val = self.val(value)
            return None if val is None else self._kind_of(val)
        return _key(value)

    def _kind_of(self, val: Any) -> int:
        """The number of all descriptions like this one; most are met again, and told by their identity."""
        known = self._kinds.get(id(val))
        if known is None:
            # The description is kept: its identity is its own as long as it lives.
            known = val, self._number(_key(val))
            self._kinds[id(val)] = known
        return known[1]

    def _number(self, key: Any) -> int:
        return self._numbers.setdefault(key, len(self._numbers))

    def _run(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """`target` on fake tensors, for every value of the symbolic sizes.

        An answer that holds only for the traced example (a broadcast of `s` with 2 where `s` was 2) would be
        a guard, and raises. Where a kernel asks such questions to choose a memory layout, they are answered
        for the example and forgotten: its sizes do not depend on them. The cache of fake tensors asks more
        than the operators do (whether a storage is large enough), and is left out. Of windows only the
        implementation in Python knows symbolic sizes; a model is captured by that as well.
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
            with guards, disable_fake_tensor_cache(self._mode), self._mode, in_python, torch.no_grad():
                return _BY_SIZES.get(target, target)(*args, **kwargs)
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


def _symbolic(value: Any) -> bool:
    """Whether a size that is not known at compile time is among the arguments."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return any(_symbolic(item) for item in value)
    return isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype.is_floating_point else dtype


def _widen(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def _tensor_key(shape: Sequence[Any], dtype: torch.dtype) -> Any:
    return ("tensor", _key(tuple(shape)), dtype)


def _key(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return _tensor_key(value.shape, value.dtype)
    if isinstance(value, list | tuple):
        return tuple(_key(item) for item in value)
    if isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool):
        return ("symbol", value.node.expr)
    return (type(value), value)
