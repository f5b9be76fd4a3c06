"""What is written for an attribute of an operator is of its kind, or refused where it stands."""

from __future__ import annotations

import pytest

from tdsl.errors import TdslError
from tdsl.lang import parse, tree
from tdsl.lang.resolve import resolve
from tdsl.lang.typecheck import check_types
from tdsl.lang.vocabulary import Vocabulary
from tdsl.ops import OPERATORS, Operator, Param
from tdsl.ops.spec import REQUIRED

VOCABULARY = Vocabulary.standard()
RIGHT = {
    **dict.fromkeys(("int", "dim", "newdim"), "-1"),
    **dict.fromkeys(("float", "scalar"), "0.5"),
    **dict.fromkeys(("dims", "axes"), "[-1]"),
    "bool": "true",
    "text": '"none"',
    "border": '"constant"',
    "dtype": "f32",
    "perm": "[1, 0]",
}
"""What may be written for an attribute of each kind; a list of sizes for every other."""
WRITTEN = ("n", "[]", '["a"]')


def call(operator: Operator, asked: Param, written: str) -> str:
    """A call of an operator on x with that attribute, and what others it needs."""
    parts = []
    for param in operator.params:
        if param.kind == "tensors":
            parts.append("[x, x]")
        elif param.is_operand and not param.optional:
            parts.append("x")
        elif param is asked:
            parts.append(f"{param.name}={written}")
        elif param.default is REQUIRED and not param.is_operand:
            parts.append(f"{param.name}={RIGHT.get(param.kind, '[2, 2]')}")
    return f"{operator.name}({', '.join(parts)})"


def refused(text: str) -> bool:
    (rule,) = parse(text).items
    assert isinstance(rule, tree.Rule)
    try:
        check_types(resolve(rule, VOCABULARY))
    except TdslError:
        return True
    return False


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_what_is_no_attribute_is_refused_on_both_sides_and_never_a_crash(name: str) -> None:
    operator = OPERATORS[name]
    for asked in (param for param in operator.params if not param.is_operand):
        for written in WRITTEN:
            made = call(operator, asked, written)
            right = refused(f"rule r {{ p = exp(x: [n, n])\n q = relu(x) => q = {made} }}")
            typed = made.replace("(x", "(x: [n, n]", 1)
            left = written != "n" and typed != made and refused(f"rule r {{ relu({typed}) => relu(x) }}")
            if asked.kind != "any" and written == '["a"]':
                assert right, made
                assert left or typed == made, typed


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("shape", "2"),
        ("perm", "n"),
        ("dim", "[1]"),
        ("dims", "0.5"),
        ("bool", "1"),
        ("dtype", '"f32"'),
        ("text", "none"),
        ("ints2", '"same"'),
    ],
)
def test_each_kind_has_what_is_none_of_it(kind: str, wrong: str) -> None:
    cases = [(op, p) for op in OPERATORS.values() for p in op.params if p.kind == kind]
    cases = [(op, p) for op, p in cases if p.name != "padding" and (wrong != "none" or p.default is not None)]
    assert cases
    for operator, param in cases:
        assert refused(f"rule r {{ p = exp(x: [n, n])\n q = relu(x) => q = {call(operator, param, wrong)} }}")
