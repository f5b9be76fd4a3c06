"""What is the same in every instance of a rule: its conditions, decompositions, and what matters to it."""

from __future__ import annotations

from collections.abc import Collection

from tdsl.factor.declare import Decomposition
from tdsl.factor.table import DECOMPOSITIONS, FUNCTIONS
from tdsl.lang import tree
from tdsl.lang.resolve import Resolved
from tdsl.lang.vocabulary import COSTS, DTYPES
from tdsl.lang.walk import walk

OF_TRUTH_VALUES = frozenset(
    {"eq", "ne", "lt", "le", "gt", "ge", "any", "all", "isnan", "isinf", "isfinite"}
    | {f"logical_{name}" for name in ("not", "and", "or", "xor")}
    | {f"bitwise_{name}" for name in ("not", "and", "or", "xor")}
)
"""Operators that make or take truth values."""
FAMILIES = (
    "dense",
    "zeros",
    "constant",
    "rank one",
    "sparse",
    "symmetric",
    "diagonal",
    "identity",
    "circulant",
    "positive",
    "orthogonal",
    "mirrored",
    "selection",
    "scaled selection",
    "incidence",
)
"""Structures of weights that a condition may ask for."""
INDICES = ("index", "permutation", "segments")
"""Structures of index tensors."""


class Facts:
    """What is the same in every instance of a rule."""

    def __init__(self, resolved: Resolved) -> None:
        rule = resolved.rule
        self.definitions: dict[str, tree.Definition] = {
            target.name: clause
            for clause in rule.where
            if isinstance(clause, tree.Definition)
            for target in clause.targets
        }
        self.types = {
            node.name: node.type
            for node in walk(rule)
            if isinstance(node, tree.Declared) and node.type is not None
        }
        self.structured: dict[str, tuple[str, ...]] = {}
        """Weights on whose values a condition depends, with the families that conditions ask for by name."""
        for clause in rule.where:
            for call in walk(clause.test) if isinstance(clause, tree.Condition) else ():
                if isinstance(call, tree.Call) and call.callee in FUNCTIONS:
                    family = FUNCTIONS[call.callee].family
                    for node in walk(call):
                        if isinstance(node, tree.Name):
                            asked = self.structured.setdefault(node.id, ())
                            self.structured[node.id] = (*asked, family) if family else asked
        self.sensitive = speaks_of_dtypes(resolved)
        """Whether element types matter."""
        self.conditions = [
            (clause, any(calls(clause.test, {name}) for name in FUNCTIONS))
            for clause in rule.where
            if isinstance(clause, tree.Condition) and not calls(clause.test, COSTS)
        ]
        """Conditions that are no matter of cost, and whether they depend on the values of weights."""
        self.decompositions = [
            clause
            for clause in rule.where
            if isinstance(clause, tree.Definition) and decomposition_of(clause) is not None
        ]


def decomposition_of(clause: tree.Definition) -> Decomposition | None:
    """The decomposition that a definition calls; `None` for another definition."""
    value = clause.value
    return DECOMPOSITIONS.get(value.callee) if isinstance(value, tree.Call) else None


def calls(expr: tree.Node, names: Collection[str]) -> bool:
    """Whether one of these functions is called in an expression."""
    return any(isinstance(node, tree.Call) and node.callee in names for node in walk(expr))


def speaks_of_dtypes(resolved: Resolved) -> bool:
    """Whether element types matter to a rule."""
    rule = resolved.rule
    named = {node.callee for node in walk(rule) if isinstance(node, tree.Call)}
    named |= {op.name for many in resolved.operators.values() if len(many) < 8 for op in many}
    return bool(named & OF_TRUTH_VALUES) or any(
        (isinstance(node, tree.Call) and node.callee in ("cast", "dtype", "holds"))
        or (isinstance(node, tree.Name) and node.id in DTYPES)
        or (isinstance(node, tree.TensorType) and node.dtype is not None)
        for node in walk(rule)
    )
