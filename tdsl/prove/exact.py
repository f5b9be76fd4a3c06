"""The first checker: rules over the prime field, with oracles for what is no rational function."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from tdsl.factor.declare import CompileTimeFunction, Decomposition
from tdsl.lang.shapes import UnknownValueError
from tdsl.ops import (  # the meanings register themselves
    OPERATORS,
    Operator,
    meanings_elementwise,  # noqa: F401
    meanings_index,  # noqa: F401
    meanings_linear,  # noqa: F401
    meanings_recurrent,  # noqa: F401
    meanings_reduce,  # noqa: F401
)
from tdsl.ops.meaning import MEANINGS
from tdsl.ops.meanings_rows import of_rows, of_sets
from tdsl.ops.shapes import ShapeMismatch, result_shape
from tdsl.prove import field
from tdsl.prove.algebra import FieldAlgebra
from tdsl.prove.checker import Known
from tdsl.prove.dtypes import holds
from tdsl.prove.facts import OF_TRUTH_VALUES
from tdsl.prove.field import Elements
from tdsl.prove.kernel import NoMeaning, mapped, moved
from tdsl.prove.structures import ARRANGED, LABELS, arranged, chosen, mirrors, orthogonal

LARGEST = 1 << 20
"""Most elements of a tensor that is evaluated."""
MANY = 1 << 15
"""Instances of so many elements are drawn from those of the field whose products are cheap."""


class ExactChecker:
    """Tensors of elements of the field of 2⁶¹ − 1."""

    def __init__(self, seed: int, elements: int = 0, centred: bool = False) -> None:
        """For an instance of so many elements; `centred` as of `FieldAlgebra`."""
        self.random = np.random.default_rng(seed)
        self.algebra = FieldAlgebra(seed, centred)
        self.choices = field.FEW if elements >= MANY else field.P
        """From how many elements of the field random ones are drawn."""

    @property
    def decisive(self) -> bool:
        """Whether a difference means that the rule is wrong: nothing but rational functions took part."""
        return self.algebra.comparands == 1 and not self.algebra.named

    def draw(self, shape: Sequence[int], dtype: str, kind: str, bound: int) -> Known:
        """A random tensor, as `tdsl.prove.checker.Checker` says."""
        shape = tuple(shape)
        values = field.drawn(self.random, shape, self.choices)
        if dtype == "bool":
            values = values & np.uint64(1)
        if kind == "index":
            values = self.random.integers(0, bound, size=shape).astype(np.uint64)
        elif kind == "permutation":
            values = self.random.permutation(int(np.prod(shape))).astype(np.uint64).reshape(shape)
        elif kind == "labels":
            values = self.random.integers(0, LABELS, size=shape).astype(np.uint64)
        elif kind in ARRANGED:
            found = arranged(kind, int(np.prod(shape)), lambda n: self.random.permutation(n).tolist())
            values = np.array(found, dtype=np.uint64).reshape(shape)
        elif kind == "segments":
            count = int(np.prod(shape))
            values = (np.arange(count, dtype=np.uint64) * np.uint64(bound) // np.uint64(count)).reshape(shape)
        elif kind == "selection":
            values = np.zeros(shape, dtype=np.uint64)
            values[range(shape[0]), self.random.permutation(shape[1])[: shape[0]]] = 1
        return Known(shape, values, dtype, dtype)

    def structured(self, shape: Sequence[int], family: str) -> Known:
        """Of most structures the field knows nothing; a draw without any is the harder test."""
        drawn = self.draw(shape, "f32", "dense", 0)
        square = len(shape) == 2 and shape[0] == shape[1]
        if family == "orthogonal" and square:
            value = orthogonal(self.random, shape[0])
            return Known(drawn.shape, value, degree=2 * shape[0])
        if family == "identity" and square:
            return Known(drawn.shape, np.eye(shape[0], dtype=np.uint64))
        if family == "mirrored" and shape:
            value = drawn.value
            for axis in mirrors(len(shape), lambda n: self.random.permutation(n).tolist()):
                value = field.add(value, np.flip(value, axis))
            return Known(drawn.shape, value)
        entries = chosen(family, shape, lambda n: self.random.permutation(n).tolist())
        if entries is not None:
            value = np.zeros_like(drawn.value)
            for i, j, sign in entries:
                value[i, j] = field.element(sign) if sign else drawn.value[i, j]
            return Known(drawn.shape, value)
        return drawn

    def filled(self, shape: Sequence[int], value: float) -> Known:
        """A tensor of one number."""
        return Known(tuple(shape), self.algebra.filled(shape, value))

    def apply(self, operator: Operator, arguments: Mapping[str, Any]) -> Any:
        """The meaning of the operator; data movement, pointwise and linear ones by what they are."""
        if operator.name == "getitem":
            return arguments["x"][arguments["index"]]
        if operator.name == "cast":
            return self._cast(arguments["x"], arguments["dtype"])
        if operator.pointwise and operator.moves:  # a copy
            return arguments["x"]
        if operator.random:
            return self._undisturbed(operator, arguments)
        operands = [v for v in _flat(arguments.values()) if isinstance(v, Known)]
        if operator.moves and operands:
            described = (operands[0].dtype, operands[0].exact)
        else:
            dtype = _widest([k.dtype for k in operands])
            if operator.name == "bitwise_not" and dtype == "bool":
                operator = OPERATORS["logical_not"]
            if operator.name in OF_TRUTH_VALUES and not operator.name.startswith("bitwise"):
                dtype = "bool"
            described = (dtype, dtype)
        plain = {n: _values(v) for n, v in arguments.items()}
        try:
            result = self._computed(operator, plain)
        except (NotImplementedError, ValueError, IndexError, ArithmeticError) as reason:
            raise NoMeaning(f"{operator.name}: {reason}") from None
        degree = max(1, sum(k.degree for k in operands))
        degree *= 4 if operator.name.endswith("norm") else 1
        if isinstance(result, tuple):
            return tuple(Known(part.shape, part, *described, degree) for part in result)
        result = np.asarray(result)
        if result.size > LARGEST:
            raise NoMeaning(f"{operator.name} makes {result.size} elements")
        return Known(result.shape, result, *described, degree)

    def _computed(self, operator: Operator, arguments: Mapping[str, Any]) -> Any:
        if operator.name in MEANINGS:
            known = {
                n: self.algebra.number(v) if _is_value(operator, n, v) else v for n, v in arguments.items()
            }
            return MEANINGS[operator.name](self.algebra, **known)
        if operator.moves:
            return moved(operator, arguments)
        operands = [arguments[p.name] for p in operator.operands]
        attributes = [arguments[p.name] for p in operator.params if not p.is_operand]
        if operator.pointwise or operator.elementwise:
            present = [x for x in operands if x is not None]
            return self.algebra.oracle(operator.name, *present, attributes=attributes)
        if operator.linear_in == (operator.operands[0].name,):
            return mapped(operator, arguments)
        raise NoMeaning(f"`{operator.name}` has no exact meaning")

    def _cast(self, x: Known, dtype: str) -> Known:
        if holds(dtype, x.exact):
            return Known(x.shape, x.value, dtype, x.exact, x.degree)
        return Known(x.shape, self.algebra.oracle("cast", x.value, attributes=(dtype,)), dtype, dtype)

    def _undisturbed(self, operator: Operator, arguments: Mapping[str, Any]) -> Any:
        if arguments.get("train") is not False:
            raise NoMeaning(f"`{operator.name}` draws random numbers")
        x = arguments["x"]
        return (x, self.filled(x.shape, 1)) if operator.results == 2 else x

    def unnamed(self, name: str, operator: Operator, arguments: Mapping[str, Any]) -> Any:
        """An operator variable of a class: any function of elements, rows or sets, as the drawn member is."""
        if operator.rowwise or operator.reduces:
            return self._unnamed_fold(name, operator, arguments)
        if not (operator.pointwise or operator.elementwise):
            return self.apply(operator, arguments)
        given = [_values(arguments[p.name]) for p in operator.operands]
        operands = [v for v in given if v is not None]
        named = self.algebra.named
        result = self.algebra.oracle(f"variable {name}", *operands)
        self.algebra.named = named  # what is shown for any function is shown
        first = next(v for v in arguments.values() if isinstance(v, Known))
        return Known(result.shape, result, first.dtype, first.dtype)

    def _unnamed_fold(self, name: str, operator: Operator, arguments: Mapping[str, Any]) -> Known:
        x, dim, keepdim = arguments["x"], arguments["dim"], arguments.get("keepdim", False)
        if not x.shape:
            raise NoMeaning(f"{operator.name} of a number")
        shapes = {n: v.shape if isinstance(v, Known) else v for n, v in arguments.items()}
        rest = [v for n, v in arguments.items() if n not in ("x", "dim", "keepdim")]
        named = self.algebra.named
        if operator.reduces:
            result = of_sets(self.algebra, f"variable {name}", x.value, dim, keepdim, rest)
        else:
            count = result_shape(operator, shapes)[dim]
            assert isinstance(count, int)
            result = of_rows(self.algebra, f"variable {name}", x.value, dim, count, rest)
        self.algebra.named = named  # what is shown for any function is shown
        return Known(tuple(result.shape), result, x.dtype, x.dtype)

    def rebuilt(self, declared: Decomposition, factors: Sequence[Known]) -> Known:
        """The promise, its sums of products taken over the field."""
        tensors = [torch.from_numpy(k.value.astype(np.int64)) for k in factors]
        try:
            with _OverTheField():
                result = declared.promise(*tensors)
        except (RuntimeError, IndexError, ValueError) as reason:
            raise ShapeMismatch(f"{declared.name}: {reason}") from None
        return Known(tuple(result.shape), _elements(result), degree=len(factors))

    def function(self, declared: CompileTimeFunction, values: Sequence[Any]) -> Any:
        """What the function says over the field; of norms and ranks there are none."""
        tensors = [v for v in values if isinstance(v, Known)]
        if all(v.dtype == "i64" for v in tensors):  # whole numbers are what they are
            plain = [
                torch.from_numpy(v.value.astype(np.int64)) if isinstance(v, Known) else v for v in values
            ]
            result = declared.function(*plain)
        elif declared.exact is not None:
            result = declared.exact(self.algebra, *map(_values, values))
        else:
            raise UnknownValueError(f"`{declared.name}` depends on the values of weights")
        if isinstance(result, torch.Tensor):
            return Known(tuple(result.shape), _elements(result), "i64", "i64")
        return result

    def plain(self, value: Known) -> torch.Tensor:
        """Whole numbers as a tensor of int64."""
        return torch.from_numpy(value.value.astype(np.int64))

    def constant(self, values: torch.Tensor) -> Known:
        """A constant of small whole numbers."""
        dtype = "f32" if values.is_floating_point() else "i64"
        return Known(tuple(values.shape), _elements(values.to(torch.int64)), dtype, dtype)

    def numbered(self, shape: Sequence[int], first: int) -> Known:
        """The numbers from `first` on, in order."""
        values = np.arange(first, first + math.prod(shape), dtype=np.uint64).reshape(tuple(shape))
        return Known(tuple(shape), values)

    def rearranged(self, places: Known, values: Known, shapes: Sequence[Sequence[int]]) -> list[Known]:
        """Tensors whose elements, counted through all of them, have `values[i]` at number `places[i]`."""
        result = np.empty(values.value.size, dtype=np.uint64)
        result[places.value.reshape(-1).astype(np.int64)] = values.value.reshape(-1)
        parts = np.split(result, list(itertools.accumulate(map(math.prod, shapes)))[:-1])
        return [
            Known(tuple(shape), part.reshape(tuple(shape)), degree=values.degree)
            for shape, part in zip(shapes, parts, strict=True)
        ]

    def solved(
        self, unknowns: Sequence[Known], residual: Callable[[Sequence[Known]], Known]
    ) -> list[Known] | None:
        """A random solution from the null space of the residual and of its constant part."""
        sizes = [k.value.size for k in unknowns]

        def at(position: int) -> Elements:
            flat = np.zeros(sum(sizes), dtype=np.uint64)
            if position >= 0:
                flat[position] = 1
            return residual(_split(flat, unknowns)).value.reshape(-1)  # type: ignore[no-any-return]

        constant = at(-1)
        columns = [field.subtract(at(i), constant) for i in range(sum(sizes))]
        found = field.null_vector(np.stack([*columns, constant], 1), self.random)
        if found is None or found[-1] == 0:
            return None
        solution = field.multiply(found[:-1], field.inverse(found[-1:]))
        return _split(solution, unknowns)

    def differs(self, left: Known, right: Known) -> bool:
        """Whether two values are different."""
        return left.shape != right.shape or bool(np.any(left.value != right.value))


def _split(flat: Elements, like: Sequence[Known]) -> list[Known]:
    ends = np.cumsum([k.value.size for k in like])[:-1]
    return [
        Known(k.shape, part.reshape(k.shape), k.dtype, k.exact)
        for k, part in zip(like, np.split(flat, ends), strict=True)
    ]


def _flat(values: Any) -> list[Any]:
    return [w for v in values for w in (_flat(v) if isinstance(v, list | tuple) else [v])]


def _values(argument: Any) -> Any:
    if isinstance(argument, list | tuple):
        return [_values(v) for v in argument]
    return argument.value if isinstance(argument, Known) else argument


def _is_value(operator: Operator, name: str, value: Any) -> bool:
    """Whether this is a number in the place of a tensor; exponents stay numbers."""
    param = operator.param(name)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and param is not None and param.is_operand and name != "exponent"


_ORDER = ("bool", "u8", "i8", "i16", "i32", "i64", "f16", "bf16", "f32", "f64")


def _widest(dtypes: Sequence[str]) -> str:
    return max(dtypes, key=_ORDER.index, default="f32")


# ---------------------------------------------------------------- promises


def _elements(tensor: torch.Tensor) -> Elements:
    return tensor.contiguous().numpy().astype(np.uint64)


class _OverTheField(TorchFunctionMode):
    """Takes the sums and products of a promise over the field; everything else moves integers."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        over = _OVER_THE_FIELD.get(name)
        if over is None:
            return func(*args, **(kwargs or {}))
        if name == "einsum":
            equation, *tensors = args
            operands = tensors[0] if isinstance(tensors[0], list | tuple) else tensors
            result = field.einsum(equation, [_elements(t) for t in operands])
        else:
            operands = [_elements(a) if isinstance(a, torch.Tensor) else field.element(a) for a in args[:2]]
            result = over(*(np.asarray(o, dtype=np.uint64) for o in operands))
        return torch.from_numpy(np.ascontiguousarray(result).astype(np.int64))


def _broadcast(function: Callable[[Elements, Elements], Elements]) -> Callable[..., Elements]:
    return lambda x, y: function(*np.broadcast_arrays(x, y))


_OVER_THE_FIELD: Mapping[str, Callable[..., Elements]] = {
    "einsum": field.einsum,
    **dict.fromkeys(("matmul", "__matmul__"), field.matmul),
    **dict.fromkeys(("add", "__add__", "__radd__"), _broadcast(field.add)),
    **dict.fromkeys(("sub", "__sub__"), _broadcast(field.subtract)),
    **dict.fromkeys(("mul", "__mul__", "__rmul__"), _broadcast(field.multiply)),
}
