"""The names a rule may use: operators, classes of operators, compile-time functions, types."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tdsl.ops import OPERATORS, Operator

DTYPES = ("f16", "bf16", "f32", "f64", "i8", "u8", "i16", "i32", "i64", "bool")
"""Element types, in types (`x: f32 [n]`) and where an attribute is one (`cast(x, f32)`)."""

PARAMETER_KINDS: Mapping[str, str] = MappingProxyType(
    {
        "Rank": "a rank: a number (64), a ratio (50%), or a rule such as energy(0.9)",
        "Real": "a number",
        "Ratio": "a ratio such as 99% or 0.99",
        "Int": "a whole number",
        "Bool": "true or false",
        "Text": 'a text in quotes: "…"',
    }
)
"""What a rule's or pipeline's parameter may be, besides an operator, and what is written for it."""

SIDES = ("lhs", "rhs")
"""The arguments of the `COSTS`; no variable may be called so."""

COSTS = frozenset({"macs", "params", "bytes", "nodes", "written"})
"""Functions that say what a whole side costs, and nothing about what it computes."""

INFIX: Mapping[str, str] = MappingProxyType(
    {
        "+": "add",
        "-": "sub",
        "*": "mul",
        "/": "div",
        "//": "floor_divide",
        "%": "remainder",
        "**": "pow",
        "@": "matmul",
    }
)
"""The operator that an infix sign means between tensors."""


@dataclass(frozen=True)
class Function:
    """A compile-time function: on numbers, lists, constants or whole sides; or one that builds a term."""

    name: str
    kind: str
    """`number`, `predicate`, `tensor`, `decomposition`, `rank`, `group`, `space` or `term`."""
    params: tuple[str, ...]
    """Names of the parameters; a trailing `?` marks an optional one, a trailing `...` a list."""
    results: int = 1
    doc: str = ""
    shape: Callable[..., tuple[int, ...]] | None = None
    """Of a term, its shape from those of the tensors among the arguments, and from the others as they are."""

    @property
    def least(self) -> int:
        """How many arguments it needs."""
        return sum(not p.endswith(("?", "...")) for p in self.params)

    @property
    def most(self) -> int | None:
        """How many it takes; `None` for any number."""
        return None if any(p.endswith("...") for p in self.params) else len(self.params)

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters' names, without their marks."""
        return tuple(p.removesuffix("...").removesuffix("?") for p in self.params)


def _functions(kind: str, **declared: tuple[str, str]) -> tuple[Function, ...]:
    return tuple(
        Function(name, kind, tuple(params.split()), 1, doc) for name, (params, doc) in declared.items()
    )


BUILT_IN: tuple[Function, ...] = (
    *_functions(
        "number",
        macs=("side", "Multiply–accumulates of a side, as matched or as built."),
        params=("side", "Elements of the constants that a side needs."),
        bytes=("side", "Bytes of the constants that a side needs."),
        nodes=("side", "Operators on a side."),
        written=("side", "Numbers that the operators of a side write."),
        prod=("values", "Product of a list of numbers."),
        min=("values...", "Least of its arguments, or of one list."),
        max=("values...", "Greatest of its arguments, or of one list."),
        abs=("value", "Absolute value."),
        sqrt=("value", "Square root."),
        log2=("value", "Logarithm to base 2."),
        len=("values", "Length of a list."),
        rank_of=("tensor", "Number of axes of a tensor, or of the first output of a side."),
        shape=("tensor", "Sizes of a tensor or of the first output of a side, as a list."),
        size_along=("tensor dims", "Product of the sizes along some axes, or one; of all for `none`."),
        unit_width=("tensor", "Numbers of the last axis that one hidden unit has, a head of attention say."),
        dtype=("tensor", "Element type of a tensor, or of the first output of a side."),
        inverse=("p", "The inverse of a permutation of axes."),
        compose=("p q", "The permutation that permutes by `p` first, then by `q`."),
        exchange=("n a b", "The permutation of `n` axes that exchanges `a` and `b`."),
        sources=("p axes", "Which axes of x stand at the places `axes` of `permute(x, p)`."),
        remaining=("p axes", "The order of the axes of `permute(x, p)` that stay when those at `axes` go."),
        standing=("axes gone", "Which axes these are when others are gone; fails where one of them goes."),
        kept=(
            "x y axes",
            "Which axes of `y`, a reshape of `x`, these axes of `x` are; fails where one is none.",
        ),
        unpermuted=(
            "values p",
            "Numbers for the last axes of `permute(x, p)` in the order of x; fails where others come.",
        ),
        entries=(
            "values axes otherwise",
            "Numbers at some axes, of a list of one for each of the last axes; `otherwise` before those.",
        ),
        apart=("axes others", "The axes that are in one of two lists and not in the other."),
        reflected=("pad axes", "Border widths with before and after exchanged along some axes."),
        sizes=("tensor axes", "Sizes of a tensor along some axes, 1 where it has no such axis."),
        aligned=("tensor n", "The shape of a tensor with axes of size 1 in front, `n` axes in all."),
    ),
    *_functions(
        "tensor",
        second_moment=("tensor axis?", "E[x·xᵀ] along an axis (the last), over calibration data."),
        covariance=("tensor axis?", "Covariance along an axis (the last), over calibration data."),
        first_moment=("tensor axis?", "Mean along an axis (the last), over calibration data."),
        gradient_moment=(
            "tensor axis?",
            "E[g·gᵀ], g the gradient of the model's output, over calibration data.",
        ),
        frequency=("tensor size", "How often each id 0 … size − 1 occurs, over calibration data."),
    ),
    *_functions(
        "predicate",
        square=("v", "The entries of a list, or the last two sizes of a tensor, are equal."),
        holds=("wide narrow", "Every value of the second element type is a value of the first."),
        used_once=("x", "Nothing outside the match uses this value."),
        same=("x y", "Both are the same value of the graph."),
        broadcasts_to=("x shape", "Broadcasting `x` to that shape changes no size of the shape."),
        is_identity=("p", "The permutation moves nothing."),
        all_equal=("values value", "Every entry of the list is that value."),
        includes=("values value", "The list has that entry."),
        covers=("dims axes", "A fold of the axes `dims` (none of them: all) takes all of `axes`."),
    ),
)
"""Functions the engine itself provides."""

STATISTICS = frozenset(f.name for f in BUILT_IN if f.kind == "tensor")
"""Functions of calibration data."""

CLASSES: Mapping[str, Callable[[Operator], bool]] = MappingProxyType(
    {
        "pointwise": lambda op: op.pointwise,
        "elementwise": lambda op: op.elementwise,
        "moves": lambda op: op.moves,
        "binary": lambda op: op.elementwise and len(op.operands) == 2,
        "reduces": lambda op: op.reduces and op.results == 1,
        "rowwise": lambda op: op.rowwise and op.results == 1,
    }
)
"""Classes of operators by the fact that makes an operator a member."""


@dataclass(frozen=True)
class Vocabulary:
    """Every name that means something before a rule is read."""

    operators: Mapping[str, Operator]
    functions: Mapping[str, Function]
    classes: Mapping[str, Callable[[Operator], bool]]

    @classmethod
    def standard(
        cls, functions: Iterable[Function] = (), operators: Mapping[str, Operator] = OPERATORS
    ) -> Vocabulary:
        """The operator table, the built-in functions and the `functions` handed in."""
        known = {f.name: f for f in (*BUILT_IN, *functions)}
        return cls(operators, MappingProxyType(known), CLASSES)

    def members(self, kind: str) -> tuple[Operator, ...]:
        """The operators that an operator's name or a class stands for; empty for any other name."""
        if kind in self.operators:
            return (self.operators[kind],)
        if kind in self.classes:
            return tuple(op for op in self.operators.values() if self.classes[kind](op))
        return ()
