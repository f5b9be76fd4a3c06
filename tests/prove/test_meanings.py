"""What the table says that an operator computes, against its kernel, on small integers.

Small integers are ordered as usual in the field too, so that maxima and comparisons are tested as well.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from operator_samples import SAMPLES, Draw, T, called

from tdsl.ops import OPERATORS
from tdsl.ops.meaning import MEANINGS
from tdsl.ops.spec import REQUIRED
from tdsl.prove import field
from tdsl.prove.checker import Known
from tdsl.prove.exact import ExactChecker
from tdsl.prove.kernel import NoMeaning

DRAWS = 40
OF_ORACLES = frozenset(
    {"attention", "softmax", "log_softmax", "std", "exp", "sqrt", "rsqrt", "sigmoid", "hardsigmoid", "glu"}
    | {"ceil", "floor", "round", "trunc", "lstm", "gru", "rnn_tanh", "weight_norm"}
    | {f"{kind}_norm" for kind in ("batch", "instance", "layer", "rms", "group")}
    | {"norm", "logsumexp", "any", "all", "cumprod", "logcumsumexp", "sort", "sort_stable", "topk"}
    | {"argmax", "argmin", "max_and_index", "min_and_index"}
)
"""Operators that are rational in functions of which the field knows only the names."""

LEFT_OUT = frozenset({"upsample_bicubic2d", "upsample_bicubic2d_aa", "grid_sample", "diff", "pow"})
"""Those with long fractions for coefficients; `diff` has three operands, `pow` a test of its own."""
EXACT = sorted(
    name
    for name, op in OPERATORS.items()
    if name not in LEFT_OUT
    if (name in MEANINGS and name not in OF_ORACLES)
    or op.moves
    or (op.linear_in and op.linear_in == (op.operands[0].name,))
)


@pytest.fixture(autouse=True)
def wrapping() -> object:
    with np.errstate(over="ignore"):
        yield


def integers(given: T, generator: torch.Generator) -> torch.Tensor:
    made = given.make(generator)
    if given.role in ("bool", "index", "whole"):
        return made
    drawn = torch.randint(-3, 4, given.shape, generator=generator).to(torch.float64)
    return drawn.abs() + 1 if given.role in ("positive", "above") else drawn


def known(tensor: torch.Tensor) -> Known:
    values = field.elements(tensor.to(torch.int64).numpy())
    dtype = "bool" if tensor.dtype == torch.bool else "i64" if tensor.dtype == torch.int64 else "f64"
    return Known(tuple(tensor.shape), values, dtype, dtype)


def element(value: float) -> int:
    """The rational of small denominator that a float64 is, within rounding, as an element."""
    return field.quotient(Fraction(value).limit_denominator(10_000))


def compared(name: str) -> int:
    """How many draws could be compared, and were equal."""
    op, count = OPERATORS[name], 0
    for seed in range(DRAWS):
        found = SAMPLES[name](Draw(seed))
        generator = torch.Generator().manual_seed(seed)
        tensors: dict[int, torch.Tensor] = {}

        def make(given: T, tensors: Any = tensors, generator: Any = generator) -> torch.Tensor:
            return tensors.setdefault(id(given), integers(given, generator))

        def value(given: Any, make: Any = make) -> Any:
            if isinstance(given, T):
                return known(make(given))
            return [value(g) for g in given] if isinstance(given, list) else given

        expected = called(op, found, make)
        first = next((v for v in found.values() if isinstance(v, T | list)), None)
        first = first[0] if isinstance(first, list) and first else first
        rank = len(first.shape) if isinstance(first, T) else None
        arguments: dict[str, Any] = {}
        for p in op.params:
            given = found.get(p.name, None if p.default is REQUIRED else p.default)
            arguments[p.name] = value(given) if p.is_operand else p.canonical(given, rank)
        checker = ExactChecker(seed)
        try:
            result = checker.apply(op, arguments)
        except NoMeaning:
            continue
        if checker.algebra.named:  # a power that is no whole number
            continue
        results = result if isinstance(result, tuple) else (result,)
        outputs = expected if isinstance(expected, tuple | list) else (expected,)
        assert len(results) == len(outputs)
        for got, wanted in zip(results, outputs, strict=True):
            assert got.shape == tuple(wanted.shape), found
            if not bool(wanted.to(torch.float64).isfinite().all()):
                continue
            exact = np.array([element(v) for v in wanted.to(torch.float64).reshape(-1).tolist()], np.uint64)
            assert np.array_equal(got.value.reshape(-1), exact), found
            count += bool(wanted.numel())
    return count


@pytest.mark.parametrize("name", [name for name in EXACT if name in SAMPLES])
def test_an_operator_means_what_its_kernel_computes(name: str) -> None:
    assert compared(name) >= 3


@pytest.mark.parametrize("exponent", [-2, 0, 1, 3])
def test_whole_powers_are_exact(exponent: int) -> None:
    x = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    result = ExactChecker(0).apply(OPERATORS["pow"], {"x": known(x), "exponent": exponent})
    assert result.value.tolist() == [element(v) for v in (x**exponent).tolist()]


def test_most_operators_that_have_a_meaning_were_compared() -> None:
    assert len([name for name in EXACT if name in SAMPLES]) > 85
    assert set(MEANINGS) <= set(OPERATORS)


def test_a_wrong_meaning_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MEANINGS, "sub", lambda k, x, y, alpha: k.add(x, y))
    with pytest.raises(AssertionError):
        compared("sub")
