"""The declarations against the ATen schemas they speak of."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch

from tdsl.ops import FAMILIES, OPERATORS, Operator
from tdsl.ops.spec import REQUIRED
from tdsl.ops.targets import (
    operator_of,
    operators_by_python_spelling,
    operators_by_target,
    overload,
    overload_for,
    resolve,
    spellings_of,
)

ATEN = [op for op in OPERATORS.values() if op.target.startswith("aten.")]


def disagreements(op: Operator) -> list[str]:
    """How the declaration differs from the schemas of the overload and its variants."""
    found: list[str] = []
    for target in (op.target, *op.variants):
        arguments = resolve(target)._schema.arguments
        if len(arguments) != len(op.params):
            return [f"{target} has {len(arguments)} arguments, {op.name} {len(op.params)} parameters"]
        for argument, param in zip(arguments, op.params, strict=True):
            kind = str(argument.type)
            if argument.kwarg_only != param.keyword_only:
                found.append(f"{param.name}: keyword-only")
            if param.keyword_only and param.name != argument.name:
                found.append(f"{param.name}: called {argument.name}")
            if param.kind == "tensor" and (param.optional != ("Optional" in kind) or "Tensor" not in kind):
                found.append(f"{param.name}: {kind}")
            if param.kind == "tensors" and "List" not in kind:
                found.append(f"{param.name}: {kind}")
            if param.is_operand:
                continue
            default = argument.default_value if argument.has_default_value() else REQUIRED
            if default is REQUIRED and param.kind == "dims" and param.default is None:
                continue  # `sum(x)` reduces all axes, as torch.sum does by another overload
            if default != param.default:
                found.append(f"{param.name}: default {default}, not {param.default}")
    return found


@pytest.mark.parametrize("op", ATEN, ids=lambda op: op.name)
def test_parameters_are_those_of_the_schema(op: Operator) -> None:
    assert disagreements(op) == []


def test_a_wrong_declaration_disagrees_with_its_schema() -> None:
    softmax, gelu = OPERATORS["softmax"], OPERATORS["gelu"]
    dim = softmax.params[1]
    assert disagreements(replace(softmax, params=softmax.params[:2]))
    assert disagreements(replace(softmax, params=(softmax.params[0], replace(dim, default=-1), dim)))
    assert disagreements(replace(gelu, params=(gelu.params[0], replace(gelu.params[1], keyword_only=False))))
    assert disagreements(replace(gelu, params=(gelu.params[0], replace(gelu.params[1], name="kind"))))


@pytest.mark.parametrize("op", ATEN, ids=lambda op: op.name)
def test_the_number_of_results_is_that_of_the_schema(op: Operator) -> None:
    returns = [str(r.type) for r in overload(op)._schema.returns]
    many = any(r.startswith("List") for r in returns)
    assert op.results == (0 if many else len(returns))


def test_every_operator_is_declared_once_and_explained() -> None:
    assert sum(map(len, FAMILIES)) == len(OPERATORS)
    assert len(operators_by_target()) == sum(1 + len(op.variants) for op in OPERATORS.values())
    for op in OPERATORS.values():
        assert op.doc.endswith("."), op.name
        assert operator_of(overload(op)) is op


def test_a_canonical_overload_is_no_spelling_of_another_operator() -> None:
    assert not any(spellings_of(target) for target in operators_by_target())


def test_facts_name_operands() -> None:
    for op in OPERATORS.values():
        names = {p.name for p in op.operands}
        assert set(op.linear_in) <= names, op.name
        if op.commutative or op.associative:
            assert all(p.kind in ("tensor", "value") for p in op.operands[:2]), op.name
            assert len(op.operands) == 2, op.name


def test_one_overload_may_spell_several_operators() -> None:
    names = [op.name for op, _ in spellings_of(torch.ops.aten.convolution.default)]
    assert names == [f"conv{t}{n}d" for n in (1, 2, 3) for t in ("", "_transpose")]
    assert spellings_of(torch.ops.aten.linear.default) == ()
    assert operator_of(torch.ops.aten.convolution.default) is None


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("eq", (torch.ones(2), torch.ones(2)), torch.ops.aten.eq.Tensor),
        ("eq", (torch.ones(2), 1), torch.ops.aten.eq.Scalar),
        ("pow", (torch.ones(2), 2), torch.ops.aten.pow.Tensor_Scalar),
        ("pow", (torch.ones(2), torch.ones(2)), torch.ops.aten.pow.Tensor_Tensor),
        ("pow", (2, torch.ones(2)), torch.ops.aten.pow.Scalar),
        ("where", (torch.ones(2) > 0, torch.ones(2), 0.0), torch.ops.aten.where.ScalarOther),
        ("where", (torch.ones(2) > 0, 1.0, torch.ones(2)), torch.ops.aten.where.ScalarSelf),
        ("add", (torch.ones(2), 1), torch.ops.aten.add.Tensor),
        ("lerp", (torch.ones(2), torch.ones(2), torch.ones(2)), torch.ops.aten.lerp.Tensor),
    ],
)
def test_numbers_choose_the_overload(name: str, arguments: tuple[Any, ...], expected: Any) -> None:
    assert overload_for(OPERATORS[name], arguments) is expected
    assert operator_of(expected) is OPERATORS[name]
    expected(*arguments)


def test_python_functions_name_operators() -> None:
    table = operators_by_python_spelling()
    assert table[torch.relu] is table[torch.nn.functional.relu] is OPERATORS["relu"]
    assert table["view"] is OPERATORS["reshape"]


def test_the_table_needs_no_torch() -> None:
    code = "import sys, tdsl.ops, tdsl.ops.shapes; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    control = "import sys, tdsl.ops.targets; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", control], check=False).returncode == 1
