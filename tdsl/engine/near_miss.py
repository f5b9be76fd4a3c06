"""What a person would want to hear about a mismatch: it is nearly right, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import fx

from tdsl.engine.mismatch import Mismatch, operator_name
from tdsl.engine.pattern import Chain, Nary, Term
from tdsl.ops import OPERATORS
from tdsl.ops.targets import operator_of

_REMOVABLE = frozenset({"contiguous", "copy", "detach", "dropout", "cast"})
"""Operators that `cleanup` removes where they change nothing."""


def hint(mismatch: Mismatch) -> str:
    """What makes `mismatch` a near miss, or what to do about it; empty when there is nothing to say."""
    if mismatch.hint or not isinstance(mismatch.value, fx.Node):
        return mismatch.hint
    if mismatch.kind == "operator" and mismatch.term is not None:
        return _of_operator(mismatch.term, mismatch.value)
    if mismatch.kind == "const" and _made_of_weights(mismatch.value):
        return "it is computed from weights alone: run cleanup first, which folds constants"
    return ""


def written_otherwise(name: str, node: Any) -> bool:
    """Whether `node` computes what the operator called `name` does, in other words."""
    return name in _OTHER_WORDS and isinstance(node, fx.Node) and _OTHER_WORDS[name](node)


def _of_operator(term: Term, node: fx.Node) -> str:
    targets = (term.target,) if isinstance(term, Nary) else term.targets
    wanted = {operator_name(target) for target in targets}
    found = operator_name(node.target)
    below = node.args[0] if node.args else None
    if found in _REMOVABLE and isinstance(below, fx.Node) and below.target in targets:
        return f"behind the {found} stands {operator_name(below.target)}: run cleanup first"
    for name in sorted(wanted):
        if written_otherwise(name, node):
            return f"this is {name} in other words; write the rule for {found} too, or {name} in the model"
    op, other = operator_of(node.target), OPERATORS.get(min(wanted))
    if not isinstance(term, Chain) and op and other and op.pointwise and other.pointwise:
        return f"{found} is pointwise, as {other.name} is: a parameter `f: pointwise` would match both"
    return ""


def _made_of_weights(node: fx.Node) -> bool:
    """Whether a computed value depends on weights only."""
    stack, seen = [node], {node}
    while stack:
        current = stack.pop()
        if current.op == "placeholder":
            return False
        below = [operand for operand in current.all_input_nodes if operand not in seen]
        seen.update(below)
        stack.extend(below)
    return True


# ---------------------------------------------------------------- equal meaning


def _calls(value: Any, *names: str) -> bool:
    return isinstance(value, fx.Node) and operator_name(value.target) in names


def _arg(node: Any, index: int) -> Any:
    return node.args[index] if isinstance(node, fx.Node) and index < len(node.args) else None


def _is_gated_by_itself(node: fx.Node) -> bool:
    """Whether `node` is `x * sigmoid(x)` in either order."""
    if not _calls(node, "mul"):
        return False
    left, right = node.args[:2]
    gates = ((left, right), (right, left))
    return any(_calls(gate, "sigmoid") and _arg(gate, 0) is value for value, gate in gates)


def _power(node: fx.Node, exponent: float) -> bool:
    return _calls(node, "pow") and _arg(node, 1) == exponent


def _made_with(node: Any, name: str, depth: int) -> bool:
    """Whether sums, products and quotients of at most `depth` levels lead from `node` to an operator."""
    return _calls(node, name) or (
        depth > 0
        and _calls(node, "mul", "add", "div")
        and any(_made_with(operand, name, depth - 1) for operand in node.args)
    )


def _quotient_of_exponentials(node: fx.Node) -> bool:
    total = _arg(node, 1)
    return (
        _calls(node, "div")
        and _calls(_arg(node, 0), "exp")
        and _calls(total, "sum")
        and total.args[0] is node.args[0]
    )


_OTHER_WORDS: Mapping[str, Callable[[fx.Node], bool]] = {
    "relu": lambda n: _calls(n, "clamp") and _arg(n, 1) == 0 and _arg(n, 2) is None,
    "clamp": lambda n: _calls(n, "relu", "relu6", "hardtanh"),
    "silu": _is_gated_by_itself,
    "mish": lambda n: (
        _calls(n, "mul") and any(_calls(a, "tanh") and _calls(_arg(a, 0), "softplus") for a in n.args)
    ),
    "gelu": lambda n: _calls(n, "mul") and _made_with(n, "erf", 4) and not _is_gated_by_itself(n),
    "softmax": _quotient_of_exponentials,
    "square": lambda n: _power(n, 2) or (_calls(n, "mul") and n.args[0] is n.args[1]),
    "sqrt": lambda n: _power(n, 0.5),
    "rsqrt": lambda n: _power(n, -0.5) or (_calls(n, "reciprocal") and _calls(_arg(n, 0), "sqrt")),
    "reciprocal": lambda n: _power(n, -1) or (_calls(n, "div") and _arg(n, 0) == 1),
    "pow": lambda n: _calls(n, "square", "sqrt", "rsqrt", "reciprocal"),
    "neg": lambda n: _calls(n, "mul") and _arg(n, 1) == -1,
    "sub": lambda n: _calls(n, "add") and any(_calls(a, "neg") for a in n.args),
    "add": lambda n: _calls(n, "sub"),
    "div": lambda n: _calls(n, "mul") and (_calls(_arg(n, 1), "reciprocal") or isinstance(_arg(n, 1), float)),
    "mul": lambda n: _calls(n, "div") and isinstance(_arg(n, 1), int | float),
    "linear": lambda n: _calls(n, "addmm", "matmul", "mm"),
    "matmul": lambda n: _calls(n, "linear", "mm", "bmm"),
}
"""For an operator, how else a model may say the same."""
