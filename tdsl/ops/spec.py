"""What an operator is, and the one-line notation it is declared in.

    operator("linear(x: [..., n], weight: [m, n], bias?: [m] = 0) -> [..., m]",
             aten="aten.linear.default", torch="F.linear", linear_in=("x", "weight"), macs=…)

A signature lists the parameters in the order of the ATen schema. A bare name or a shape is a tensor
operand; `name?` may be absent and then stands for the given fill value; `name...` is a list of tensors;
`name: value` is a tensor or a number; anything else names an attribute kind. After `*`, parameters are
keyword-only. The result is a shape, or the name of a law in `shapes.py`.

This room imports no torch: a target is a string until `tdsl.ops.targets` resolves it.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Shape = tuple[Any, ...]
"""Sizes of a tensor: integers, or whatever stands for one (a `SymInt`)."""


class _Required:
    def __repr__(self) -> str:
        return "REQUIRED"


REQUIRED: Final = _Required()

OPERAND_KINDS: Final = frozenset({"tensor", "tensors", "value"})
ATTRIBUTE_KINDS: Final = frozenset(
    {
        "int",  # an integer, possibly symbolic
        "float",
        "scalar",  # int, float or bool
        "bool",
        "text",
        "border",  # what a border is filled with: a constant, or values from inside
        "dtype",
        "dim",  # one axis of the first operand; canonical: counted from the last, negative
        "newdim",  # one axis of the result, which has one axis more; canonical: negative
        "dims",  # several axes, or none for all; canonical: a list of negatives, `none` for all
        "axes",  # exactly these axes, in this order, perhaps none; canonical: a list of negatives
        "perm",  # a permutation of all axes; canonical: a list from 0
        "shape",  # a list of sizes
        "spread",  # a list of sizes that those of 1 are made
        "ints",  # a list of integers of any length
        "ints1",  # per spatial axis; a bare integer means the same on each; canonical: a list
        "ints2",
        "ints3",
        "extents",  # the wanted sizes of the spatial axes, or none
        "scales",  # a factor for each spatial axis, or none
        "any",  # passed through untouched
    }
)


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter of an operator: an operand (a tensor) or an attribute."""

    name: str
    kind: str
    default: Any = field(default=REQUIRED, hash=False)
    optional: bool = False
    keyword_only: bool = False
    dims: tuple[str, ...] | None = None

    @property
    def is_operand(self) -> bool:
        """Whether the parameter carries a tensor (or a list of them)."""
        return self.kind in OPERAND_KINDS

    def canonical(self, value: Any, rank: int | None = None) -> Any:
        """`value` in the normal form of this kind; `rank` is that of the first operand, if known.

        Axes count from the last (`dim=1` of a rank-3 tensor is -2), so that a rule can speak of the
        last axis without knowing the rank; per-axis integers are lists. Unknown rank leaves
        non-negative axes alone.
        """
        kind = self.kind
        if kind in ("dim", "newdim"):
            extra = 1 if kind == "newdim" else 0
            if isinstance(value, int) and value >= 0 and rank is not None:
                return value - max(rank + extra, 1)
            return value
        if kind == "dims":
            if value is None or (isinstance(value, (list, tuple)) and not value):
                return None
            axes = [value] if isinstance(value, int) else list(value)
            if rank is None or not all(isinstance(a, int) for a in axes):
                return axes
            return sorted(a - max(rank, 1) if a >= 0 else a for a in axes)
        if kind == "axes":
            axes = [value] if isinstance(value, int) else list(value)
            if rank is None:
                return axes
            return [a - max(rank, 1) if isinstance(a, int) and a >= 0 else a for a in axes]
        if kind == "perm":
            axes = list(value)
            count = len(axes)
            return [a + count if isinstance(a, int) and a < 0 else a for a in axes]
        if kind in ("ints1", "ints2", "ints3"):
            count = int(kind[-1])
            if isinstance(value, (list, tuple)):
                return list(value) * count if len(value) == 1 else list(value)
            return value if value is None or isinstance(value, str) else [value] * count
        if kind == "ints" and isinstance(value, int) and not isinstance(value, bool):
            return [value]
        if kind in ("shape", "spread", "ints", "extents", "scales"):
            return list(value) if isinstance(value, (list, tuple)) else value
        return value


Converted = tuple[Any, ...] | None
"""Positional arguments of the canonical overload, the last of them a `dict` when some are keyword-only.

Keyword-only parameters have the names that ATen gives them; others may have better ones in the language.

Trailing parameters that are left out have their defaults. `None`: this use has no equivalent.
"""

Conversion = Callable[..., Converted]
"""From the complete arguments of one overload to those of the canonical one.

It is called as the overload is: every positional argument by position, with defaults filled in, every
keyword-only one by name; tensors come as `Operand` (lists of tensors as lists of them) and go out the
same way, as handles of the graph that the caller unpacks.
"""


@dataclass(frozen=True, slots=True)
class Spelling:
    """Another ATen overload that means the same operator.

    Without `convert` the arguments carry over as they are. One overload may spell several operators
    (`aten.convolution` is all six convolutions): the one whose conversion does not return `None` is meant.
    """

    target: str
    convert: Conversion | None = None


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator of the language: its signature, its ATen spellings and what is true of it."""

    name: str
    target: str
    params: tuple[Param, ...]
    result: tuple[str, ...] | str
    results: int = 1
    """How many tensors it returns; 0 when the number depends on an attribute (`split`)."""
    spellings: tuple[Spelling, ...] = ()
    variants: tuple[str, ...] = ()
    """Overloads with the same parameters that differ only in which `value` operands are numbers."""
    normal: Conversion | None = field(default=None, compare=False)
    """Puts arguments of the canonical overload (or a variant) that mean the same into one form."""
    torch: tuple[str, ...] = ()
    """Python spellings, for patterns written as functions: `torch.relu`, `F.relu`, `Tensor.relu`."""
    commutative: bool = False
    """In its first two operands, the attributes at their defaults."""
    associative: bool = False
    """`f(f(x, y), z) = f(x, f(y, z))`, the attributes at their defaults."""
    pointwise: bool = False
    """A function of each element of its first operand, and of nothing but attributes besides."""
    elementwise: bool = False
    """A function of the elements of several operands under broadcasting."""
    odd: bool = False
    """`f(-x) = -f(x)`."""
    even: bool = False
    """`f(-x) = f(x)`."""
    homogeneous: bool = False
    """`f(s · x) = s · f(x)` for positive s."""
    moves: bool = False
    """Data movement: every output element is an input element (or a constant).

    Which one depends on shapes, attributes and integer or boolean operands only, so that it commutes with
    every function of the elements that leaves the constant (of `pad`, say) where it is.
    """
    reduces: bool = False
    """Folds the axes `dim` away, in whatever order their elements come."""
    rowwise: bool = False
    """Treats every row along the axis `dim` by itself, and all alike; each result has the axes of x."""
    random: bool = False
    """Draws random numbers or has an effect: never duplicated, shared, folded or removed."""
    linear_in: tuple[str, ...] = ()
    """Operands in which the operator is linear, the others held fixed.

    Optional operands and one called `bias` are left out or zero: with them it is affine.
    """
    selects: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Operands that select: `"axis"`, places along the axis `dim` of the first operand; `"mask"`, 0 or 1."""
    macs: Callable[..., Any] | None = field(default=None, compare=False)
    """Multiply–accumulates from the shapes of the operands (by name, attributes too) and `result`."""
    signature: str = ""
    doc: str = ""

    def __hash__(self) -> int:
        return hash(self.name)

    def param(self, name: str) -> Param | None:
        """The parameter of that name."""
        return next((p for p in self.params if p.name == name), None)

    @property
    def operands(self) -> tuple[Param, ...]:
        """The tensor parameters, in order."""
        return _operands(self)


@functools.cache
def _operands(operator: Operator) -> tuple[Param, ...]:
    return tuple(p for p in operator.params if p.is_operand)


_PARAM = re.compile(
    r"(?P<name>\w+)(?P<mark>\?|\.\.\.)?\s*(?::\s*(?P<type>\[[^\]]*\]|\w+))?\s*(?:=\s*(?P<default>.+))?$",
    re.DOTALL,
)


def _split(text: str) -> list[str]:
    """Split at commas outside brackets."""
    parts, depth, start = [], 0, 0
    for i, char in enumerate(text):
        depth += (char in "[(") - (char in "])")
        if char == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    parts.append(text[start:])
    return [p.strip() for p in parts if p.strip()]


def _dims(text: str) -> tuple[str, ...]:
    return tuple(_split(text.strip()[1:-1]))


def _param(text: str, keyword_only: bool) -> Param:
    found = _PARAM.match(text)
    if found is None:
        raise ValueError(f"unreadable parameter {text!r}")
    name, mark, kind, default = found.group("name", "mark", "type", "default")
    value: Any = REQUIRED if default is None else ast.literal_eval(default)
    if mark == "...":
        return Param(name, "tensors", keyword_only=keyword_only)
    if kind is None or kind.startswith("["):
        shape = _dims(kind) if kind else None
        optional = mark == "?"
        return Param(
            name, "tensor", None if optional and value is REQUIRED else value, optional, keyword_only, shape
        )
    if kind not in ATTRIBUTE_KINDS | OPERAND_KINDS:
        raise ValueError(f"unknown kind {kind!r} in {text!r}")
    return Param(name, kind, value, mark == "?", keyword_only)


def parse_signature(text: str) -> tuple[str, tuple[Param, ...], tuple[str, ...] | str]:
    """`name(params) -> result` as (name, parameters, result shape or name of its law)."""
    head, _, result = text.rpartition("->")
    name, _, inside = head.strip().partition("(")
    params: list[Param] = []
    keyword_only = False
    for part in _split(inside.rstrip()[:-1]):
        if part == "*":
            keyword_only = True
        else:
            params.append(_param(part, keyword_only))
    result = result.strip()
    return name, tuple(params), _dims(result) if result.startswith("[") else result


def operator(
    signature: str,
    *,
    aten: str,
    spellings: Mapping[str, Conversion | None] | None = None,
    variants: str = "",
    torch: str = "",
    doc: str = "",
    **facts: Any,
) -> Operator:
    """Declare an operator. `variants` and `torch` (Python spellings) are separated by spaces."""
    name, params, result = parse_signature(signature)
    return Operator(
        name=name,
        target=aten,
        params=params,
        result=result,
        spellings=tuple(Spelling(t, c) for t, c in (spellings or {}).items()),
        variants=tuple(variants.split()),
        torch=tuple(torch.split()),
        signature=signature,
        doc=doc,
        **facts,
    )


@dataclass(frozen=True, slots=True)
class Operand:
    """What a conversion sees of a tensor: the graph's own handle, its shape and its dtype if known."""

    handle: Any
    shape: Shape | None
    dtype: Any = None

    @property
    def rank(self) -> int | None:
        """Number of axes, if known."""
        return None if self.shape is None else len(self.shape)
