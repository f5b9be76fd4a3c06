"""Random sizes, shapes and attributes for the instances of a left side."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

from tdsl.lang import tree
from tdsl.lang.shapes import UnknownValueError
from tdsl.ops import Operator, Param
from tdsl.ops.laws_window import spatial_axes

SHARES, POSITIVE = (0.25, 0.5, 0.75), frozenset({"p", "dropout", "eps", "momentum", "order"})
"""Probabilities, exponents and constants below a root, and what they are called;"""
SIGNED = (-1.5, 0.25, 0.5, 2.0)
"""what other numbers of attributes may be."""
TEXTS: Mapping[str, tuple[str, ...]] = {
    "approximate": ("none", "tanh"),
    "rounding_mode": ("floor", "trunc"),
    "reduce": ("sum", "prod", "mean", "amax", "amin"),
    "indexing": ("ij", "xy"),
}


class Draws:
    """Draws from one source of random numbers; `pool` are the sizes that an instance has already.

    Numbers of attributes are drawn from a source of their own, `numbers`.
    """

    def __init__(self, source: random.Random, pool: list[int], numbers: random.Random) -> None:
        self.random = source
        self.numbers = numbers
        self.pool = pool
        self.leading = tuple(source.choices(pool, k=source.choice((0, 1, 1, 2, 2))))
        """What `...` in front stands for where nothing else says so."""

    def trailing(self, count: int | None) -> tuple[int, ...]:
        """Sizes for `...` behind a size, as of a kernel, or of a constant for each channel."""
        sizes = (1,) if self.random.random() < 0.5 else (1, *self.pool)
        return tuple(self.random.choices(sizes, k=self.random.randint(0, 3) if count is None else count))

    def in_front(
        self, written: tree.TensorType, rank: int | None, known: Mapping[str, tuple[int, ...]]
    ) -> tuple[int, ...]:
        """Sizes for `...` in front, some of them those of other operands."""
        sizes = (1, *self.pool, *(size for shape in known.values() for size in shape))
        count = self.random.randint(0, 2) if rank is None else rank - len(written.dims or ()) + 1
        return tuple(self.random.choices(sizes, k=max(count, 0)))

    def declared(
        self, operator: Operator, param: Param, known: Mapping[str, tuple[int, ...]]
    ) -> tuple[int, ...]:
        """The shape that the signature gives an operand; dimensions that nothing determines are drawn."""
        leading = not param.dims or param.dims[0] == "..."
        small = [1, 2, 3, *(size for shape in known.values() for size in shape)]
        behind = tuple(self.random.choices(small, k=self.random.randint(1, 4)))
        sizes: dict[str, Any] = {"...": self.leading if leading else behind}
        for other in operator.operands:
            if other.dims is not None and other.name in known:
                _unify(other.dims, known[other.name], sizes)
        shape: list[int] = []
        for dim in param.dims or ():
            if dim == "...":
                shape.extend(sizes["..."])
            else:
                fallback = int(dim) if dim.isdigit() else self.random.choice(self.pool)
                shape.append(sizes.setdefault(dim, fallback))
        return tuple(shape)

    def plausible(self, known: Mapping[str, tuple[int, ...]], rank: int | None) -> tuple[int, ...]:
        """A shape that often fits operands of `known` shapes: like the first, its end, or of its sizes."""
        first = next(iter(known.values()), ())
        if rank is None and list(known) == ["index"]:  # of places along any axis of what it selects from
            return tuple(self.random.choices((*first, *first, *self.pool), k=self.random.randint(1, 4)))
        way = self.random.random()
        if rank is not None and way < 0.9:
            count = rank if way < 0.7 else rank - 1  # or without a batch axis
            ones = (1, 1, 1) if self.random.random() < 0.3 else ()
            return tuple(self.random.choices((*ones, *first, *self.pool), k=count))
        if first and way < 0.3:
            return first
        if first and way < 0.5:
            return first[self.random.randrange(len(first)) :]
        if first and way < 0.8:
            return tuple(self.random.choices((*first, *self.pool), k=len(first)))
        return self.shape()

    def window(
        self,
        operator: Operator,
        param: Param,
        known: Mapping[str, tuple[int, ...]],
        groups: Any,
        single: bool = False,
    ) -> tuple[int, ...] | None:
        """An image for a weight of a convolution, or the other way round: channels agree, a kernel fits.

        `single` says that an image comes in a batch; otherwise it mostly does.
        """
        pick, forwards = self.random, operator.result == "conv"
        groups = groups if isinstance(groups, int) and groups > 0 else 1
        if param.name == "x" and len(known.get("weight", ())) > 2:
            weight = known["weight"]
            own = [size + pick.choice((0, 0, 1, 2, 3)) for size in weight[2:]]
            batch = (pick.choice((1, *self.pool)),) if single or pick.random() < 0.8 else ()
            return (*batch, weight[1] * groups if forwards else weight[0], *own)
        axes = spatial_axes(operator)
        if param.name == "weight" and len(known.get("x", ())) > axes:
            x = known["x"]
            channels, kernel = x[-axes - 1], [pick.randint(1, max(min(size, 3), 1)) for size in x[-axes:]]
            if forwards:
                return (groups * pick.randint(1, 3), max(channels // groups, 1), *kernel)
            return (channels, pick.randint(1, 3), *kernel)
        return None

    def shape(self) -> tuple[int, ...]:
        """Any small shape, of one to four axes."""
        sizes = (1, *self.pool) if self.random.random() < 0.4 else self.pool
        return tuple(self.random.choices(sizes, k=self.random.choice((1, 2, 2, 3, 4, 4))))

    def attribute(self, param: Param, shape: tuple[int, ...]) -> Any:
        """A plausible value for an attribute of an operator whose first operand has `shape`."""
        pick, rank = self.random, len(shape)
        if param.default is None and pick.random() < 0.3:
            return None
        match param.kind:
            case "int":
                return pick.choice((0, 1, 1, 2, 2, 3, *self.pool)) if pick.random() < 0.95 else -1
            case "border":
                return pick.choice(("constant", "reflect", "replicate", "circular"))
            case "float":
                return self.numbers.choice(SHARES if param.name in POSITIVE else SIGNED)
            case "scalar":
                value = pick.randint(1, 3)
                return value if self.numbers.random() < 0.75 else -value
            case "bool":
                return pick.random() < 0.5
            case "dtype":
                return pick.choice(("f32", "f16", "f64", "i64", "i32"))
            case "dim":
                return -pick.randint(1, max(rank, 1))
            case "newdim":
                return -pick.randint(1, rank + 1)
            case "dims" | "axes":
                axes = sorted(pick.sample(range(-rank, 0), pick.randint(min(1, rank), rank)))
                return None if param.kind == "dims" and not axes else axes
            case "perm":
                return pick.sample(range(rank), rank)
            case "shape":
                return self._regrouped(shape)
            case "ints":
                most = pick.choice((0, 2, 2))
                return [pick.randint(min(most, 1), most) for _ in pick.choice((shape, (1, 1), (1,)))]
            case "each":  # of a list for each spatial axis: a rule that has a name for it computes with it
                steps = param.name in ("stride", "dilation")
                return pick.choice(
                    (0, 0, 1, 2) if "padding" in param.name else (1, 2, 2, 3) if steps else (1, 1, 2)
                )
            case "ints1" | "ints2" | "ints3":
                few = (2, 2, 3) if param.name == "size" else (1, 1, 2)
                values = (0, 0, 1, 2) if "padding" in param.name else few
                return pick.choices(values, k=int(param.kind[-1]))
            case "extents":
                own = list(shape[2:])
                others = pick.choices((1, 2, *self.pool), k=len(own))
                return pick.choice((None, None, others, own))
            case "spread":
                lead = [pick.choice(self.pool)] if pick.random() < 0.2 else []
                return lead + [pick.choice((1, *self.pool)) if size == 1 else size for size in shape]
            case "scales":
                return None if pick.random() < 0.5 else pick.choices((0.5, 1.0, 1.5, 2.0), k=max(rank - 2, 0))
            case "any":
                return None
            case "text" if param.name in TEXTS:
                return self.numbers.choice(TEXTS[param.name])
            case _:
                raise UnknownValueError(f"no value to try for `{param.name}`")

    def _regrouped(self, shape: tuple[int, ...]) -> list[int]:
        """As many elements in another shape, the same shape with an axis more, or its last axes."""
        way = self.random.randrange(6)
        if way == 5 and shape:
            return list(shape[self.random.randrange(len(shape)) :])
        if way == 0:
            return [self.random.choice(self.pool), *shape]
        if way == 1:
            return [math.prod(shape)]
        if way == 2 and len(shape) > 1:
            cut = self.random.randrange(1, len(shape))
            return [math.prod(shape[:cut]), *shape[cut:]]
        return list(shape) if way == 3 else self.random.sample(shape, len(shape))


def _unify(dims: tuple[str, ...], shape: tuple[int, ...], sizes: dict[str, Any]) -> None:
    """Bind the declared dimensions of an operand to the sizes it has; a misfit binds what it can."""
    if "..." in dims:
        at = dims.index("...")
        behind = len(dims) - at - 1
        sizes["..."] = shape[at : len(shape) - behind]
        dims = (*dims[:at], *dims[at + 1 :])
        shape = (*shape[:at], *shape[len(shape) - behind :])
    for name, size in zip(dims, shape, strict=False):
        sizes.setdefault(name, size)
