"""The syntax tree of a `.tdsl` file: what was written, before anything is resolved.

Every node carries its `span`, which takes no part in equality, so that `parse(format(t)) == t`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal as OneOf

from tdsl.errors import Span

# ---------------------------------------------------------------- expressions


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Anything that stands somewhere in a text."""

    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Name(Node):
    """A variable, dimension, parameter, operator class or output: `x`, `n`, `rank`."""

    id: str


@dataclass(frozen=True, slots=True)
class Constant(Node):
    """A literal: number, text, `true`/`false`, `none`. `percent` remembers `50%` (value 0.5)."""

    value: int | float | str | bool | None
    percent: bool = False


@dataclass(frozen=True, slots=True)
class ListOf(Node):
    """`[a, b, xs...]`."""

    items: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class TupleOf(Node):
    """`(p, q)`: two items or more."""

    items: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Splat(Node):
    """`xs...`: every element of a variadic operand; `f(xs)...` applies `f` to each of them."""

    value: Expr


@dataclass(frozen=True, slots=True)
class Argument(Node):
    """One argument of a call, by position (`name is None`) or by name."""

    value: Expr
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Repeat(Node):
    """`f{*}(x)`, `f{+}(x)`, `f{2}(x)`, `f{1,3}(x)`: a chain of that many applications."""

    least: int
    most: int | None


@dataclass(frozen=True, slots=True)
class Call(Node):
    """An operator or a compile-time function applied to arguments."""

    callee: str
    arguments: tuple[Argument, ...]
    repeat: Repeat | None = None


@dataclass(frozen=True, slots=True)
class Unary(Node):
    """`-a`, `not a`, and `a.T` (operator `T`: the last two axes swapped)."""

    operator: OneOf["-", "not", "T"]
    operand: Expr


@dataclass(frozen=True, slots=True)
class Binary(Node):
    """Arithmetic, comparison or logic: `+ - * / // % @ **`, `< <= > >= == !=`, `and or`."""

    operator: str
    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True)
class Declared(Node):
    """A variable and what is known: `x: [..., n]`, `W: const f32 [m, n]`, `b?` (`xs...`: see `Splat`)."""

    name: str
    type: TensorType | None = None
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Option(Node):
    """One branch of an alternative, with the conditions that hold for this branch only."""

    term: Expr
    where: tuple[Clause, ...] = ()


@dataclass(frozen=True, slots=True)
class Alternatives(Node):
    """`(relu(x) | gelu(x) where n > 8)`: the first branch that matches."""

    options: tuple[Option, ...]


Expr = Name | Constant | ListOf | TupleOf | Splat | Call | Unary | Binary | Declared | Alternatives

# ---------------------------------------------------------------- types


@dataclass(frozen=True, slots=True)
class Ellipsis_(Node):  # noqa: N801
    """`...` in a shape: any number of leading dimensions."""


@dataclass(frozen=True, slots=True)
class TensorType(Node):
    """`const f32 [m, 2*n]`; `dims` is `None` where no shape is written."""

    const: bool = False
    dtype: str | None = None
    dims: tuple[Expr | Ellipsis_, ...] | None = None


@dataclass(frozen=True, slots=True)
class Parameter(Node):
    """A rule's or pipeline's parameter: `rank: Rank = energy(0.95)`, `pool: max_pool2d | avg_pool2d`.

    `kinds` holds one name, or the operators of an alternative.
    """

    name: str
    kinds: tuple[str, ...]
    default: Expr | None = None


# ---------------------------------------------------------------- rules and laws


@dataclass(frozen=True, slots=True)
class Equation(Node):
    """One line of a side: a term, named or not. `p = linear(x, A)`; `(p, q) = split(…)`."""

    names: tuple[str, ...]
    term: Expr


@dataclass(frozen=True, slots=True)
class Condition(Node):
    """A predicate of a `where` block."""

    test: Expr


@dataclass(frozen=True, slots=True)
class Definition(Node):
    """`(U: [m, r], V: [r, n]) = svd(W, rank)` or `k = m // 2` in a `where` block."""

    targets: tuple[Declared, ...]
    value: Expr


Clause = Condition | Definition


@dataclass(frozen=True, slots=True)
class Rule(Node):
    """`rule name(params) { lhs => rhs where … }`; a `law` has the arrow `==`."""

    name: str
    parameters: tuple[Parameter, ...]
    lhs: tuple[Equation, ...]
    arrow: OneOf["=>", "~>", "=="]
    rhs: tuple[Equation, ...]
    where: tuple[Clause, ...] = ()
    doc: str = ""


# ---------------------------------------------------------------- examples


@dataclass(frozen=True, slots=True)
class Example(Node):
    """`example double_relu { relu(relu(x: [3])) => relu(x) }`: what rules make of a model of given sizes.

    Without `arrow` the rules fire, and what comes out is shown; with `unchanged` they do not fire.
    """

    reference: RuleRef
    lhs: tuple[Equation, ...]
    arrow: OneOf["=>", "~>"] | None = None
    rhs: tuple[Equation, ...] = ()
    unchanged: bool = False
    where: tuple[Clause, ...] = ()
    doc: str = ""


# ---------------------------------------------------------------- groups and contracts


@dataclass(frozen=True, slots=True)
class Group(Node):
    """`group C4 = cyclic(4)`."""

    name: str
    value: Expr
    doc: str = ""


@dataclass(frozen=True, slots=True)
class Generator(Node):
    """`generator: rot90(x, dims=(H, W))` inside an action."""

    value: Expr


@dataclass(frozen=True, slots=True)
class Action(Node):
    """`action rot90 of C4 on [..., H, W] { generator: … }`."""

    name: str
    group: str
    type: TensorType
    generators: tuple[Generator, ...]
    doc: str = ""


@dataclass(frozen=True, slots=True)
class Edge(Node):
    """`input image: [N, C, H, W] by rot90` or `output logits: [N, K] invariant` (`action is None`)."""

    side: OneOf["input", "output"]
    name: str
    type: TensorType
    action: str | None


@dataclass(frozen=True, slots=True)
class Symmetry(Node):
    """`symmetry name { group … input … output … tolerance … }`."""

    name: str
    group: str
    edges: tuple[Edge, ...]
    tolerance: Expr | None = None
    doc: str = ""


# ---------------------------------------------------------------- pipelines


@dataclass(frozen=True, slots=True)
class RuleRef(Node):
    """A rule, a pass or a glob over their names, with arguments: `cleanup.*`, `svd_linear(rank=64)`."""

    pattern: str
    arguments: tuple[Argument, ...] = ()


@dataclass(frozen=True, slots=True)
class Repeated(Node):
    """`repeat a, b until stable limit n`."""

    rules: tuple[RuleRef, ...]
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Once(Node):
    """`once a, b`: every site is visited once, what a rewrite creates is not revisited."""

    rules: tuple[RuleRef, ...]


@dataclass(frozen=True, slots=True)
class Run(Node):
    """`run small(rank=64)`: the steps of another pipeline, what it checks included."""

    pipeline: RuleRef


@dataclass(frozen=True, slots=True)
class First(Node):
    """`first { … } else { … }`: the second block runs when the first rewrote nothing."""

    attempt: tuple[Step, ...]
    otherwise: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Attempt(Node):
    """`attempt { … }`: of what the block does, what leaves fewer operators is kept."""

    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Ordered(Node):
    """`top_down { … }` visits users before their operands, `bottom_up { … }` operands first."""

    order: OneOf["top_down", "bottom_up"]
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class At(Node):
    """`at "encoder.layers.*.ffn" { … }`: only sites inside modules that a path matches."""

    paths: tuple[str, ...]
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Choose(Node):
    """`choose a, b minimize latency subject to bytes <= 50%, error <= 1%`."""

    rules: tuple[RuleRef, ...]
    objective: str
    budgets: tuple[Expr, ...] = ()


@dataclass(frozen=True, slots=True)
class Heal(Node):
    """`heal least_squares`."""

    method: str
    arguments: tuple[Argument, ...] = ()


@dataclass(frozen=True, slots=True)
class Quantize(Node):
    """`quantize int8`."""

    scheme: str
    arguments: tuple[Argument, ...] = ()


@dataclass(frozen=True, slots=True)
class Kept(Node):
    """`symmetry digits within 1e-4`: a declared symmetry that the graph and the file must keep."""

    name: str
    within: Expr | None = None
    """The largest relative defect, in place of the tolerance that the symmetry declares."""


@dataclass(frozen=True, slots=True)
class Check(Node):
    """`check error <= 2%, cosine >= 0.999, symmetry digits`: the contract the file must keep."""

    bounds: tuple[Expr, ...]
    symmetries: tuple[Kept, ...] = ()


Step = Repeated | Once | Run | First | Attempt | Ordered | At | Choose | Heal | Quantize | Check


@dataclass(frozen=True, slots=True)
class Pipeline(Node):
    """`pipeline edge(size: Ratio = 50%) { … }`."""

    name: str
    parameters: tuple[Parameter, ...]
    steps: tuple[Step, ...]
    doc: str = ""


@dataclass(frozen=True, slots=True)
class Import(Node):
    """`import "blocks.tdsl"` or (`library`) `import cleanup.identity`: makes its declarations visible."""

    path: str
    library: bool = False


Item = Import | Rule | Example | Group | Action | Symmetry | Pipeline


@dataclass(frozen=True, slots=True)
class File(Node):
    """A whole `.tdsl` file, its comments by line for the formatter."""

    items: tuple[Item, ...]
    comments: tuple[tuple[int, str], ...] = field(default=(), compare=False)
