"""Multiply–accumulates against torch's own counter, and against a count by hand."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from operator_samples import SAMPLES, Draw, Sample, T, called, shapes
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tdsl.ops import OPERATORS
from tdsl.ops.shapes import result_shape

COUNTED = ["linear", "matmul", "addmm", "baddbmm", "attention"] + [
    f"conv{transposed}{n}d" for n in (1, 2, 3) for transposed in ("", "_transpose")
]


def macs(name: str, found: Sample) -> int:
    op, arguments = OPERATORS[name], shapes(found)
    assert op.macs is not None
    return op.macs(**arguments, result=result_shape(op, arguments))


def counted(name: str, found: Sample) -> int:
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        called(OPERATORS[name], found, lambda t: t.make())
    return counter.get_total_flops() // 2


def is_vector_product(name: str, found: Sample) -> bool:
    """Products with a vector, or of nothing, are no matrix product to torch's counter."""
    tensors = [v for v in found.values() if isinstance(v, T)]
    return any(0 in t.shape for t in tensors) or (name == "matmul" and min(len(t.shape) for t in tensors) < 2)


@pytest.mark.parametrize("name", COUNTED)
def test_macs_are_half_of_the_counted_operations(name: str) -> None:
    compared = 0
    for seed in range(30):
        found = SAMPLES[name](Draw(seed))
        if not is_vector_product(name, found):
            assert macs(name, found) == counted(name, found), found
            compared += 1
    assert compared >= 5


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("linear", {"x": (2, 5, 3), "weight": (4, 3)}, 2 * 5 * 3 * 4),
        ("matmul", {"x": (3,), "y": (3,)}, 3),
        ("matmul", {"x": (2, 3), "y": (3,)}, 6),
        ("matmul", {"x": (3,), "y": (5, 3, 4)}, 60),
        ("outer", {"x": (3,), "y": (4,)}, 12),
        ("conv2d", {"x": (1, 3, 8, 8), "weight": (6, 3, 3, 3)}, 6 * 6 * 6 * 27),
        (
            "attention",
            {"query": (1, 2, 5, 4), "key": (1, 2, 7, 4), "value": (1, 2, 7, 3)},
            2 * 5 * 7 * (4 + 3),
        ),
    ],
)
def test_macs_by_example(name: str, arguments: dict[str, Any], expected: int) -> None:
    assert OPERATORS[name].macs(**arguments, result=result_shape(OPERATORS[name], arguments)) == expected  # type: ignore[misc]


@pytest.mark.parametrize(("name", "gates", "states"), [("lstm", 4, 2), ("gru", 3, 1), ("rnn_tanh", 1, 1)])
def test_recurrent_layers_multiply_at_every_step(name: str, gates: int, states: int) -> None:
    rows = gates * 5
    layer = [(rows, 3), (rows, 5), (rows,), (rows,)]
    state: dict[str, Any] = {"states": [(1, 2, 5)] * 2} if states == 2 else {"state": (1, 2, 5)}
    given = {"x": (2, 7, 3), **state, "weights": layer, "has_biases": True, "num_layers": 1, "dropout": 0.0}
    given |= {"train": False, "bidirectional": False, "batch_first": True}
    assert OPERATORS[name].macs(**given, result=None) == 2 * 7 * rows * (3 + 5)  # type: ignore[misc]


def products(equation: str, operands: list[tuple[int, ...]]) -> int:
    """One multiplication for each assignment of the letters, counted one by one, for two operands."""
    sizes = {c: n for term, shape in zip(equation.partition("->")[0].split(","), operands, strict=True)
             for c, n in zip(term, shape, strict=True)}  # fmt: skip
    return sum(1 for _ in product(*(range(n) for n in sizes.values())))


@pytest.mark.parametrize(
    ("equation", "operands"),
    [
        ("ij,jk->ik", [(2, 3), (3, 4)]),
        ("bij,bjk->bik", [(2, 3, 4), (2, 4, 5)]),
        ("i,j->ij", [(3,), (4,)]),
        ("ij,ij->", [(2, 3), (2, 3)]),
        ("ij,jk", [(2, 3), (3, 0)]),
    ],
)
def test_einsum_multiplies_once_for_each_assignment(equation: str, operands: list[tuple[int, ...]]) -> None:
    found: Sample = {"equation": equation, "tensors": [T(shape) for shape in operands]}
    assert macs("einsum", found) == products(equation, operands)


def test_einsum_counts_the_axes_behind_dots_and_nothing_for_one_operand() -> None:
    found: Sample = {"equation": "...ij,...jk->...ik", "tensors": [T((5, 2, 3)), T((3, 4))]}
    assert macs("einsum", found) == 5 * 2 * 3 * 4
    found = {"equation": "...ij,...jk->...ik", "tensors": [T((5, 1, 2, 3)), T((6, 3, 4))]}
    assert macs("einsum", found) == 5 * 6 * 2 * 3 * 4
    assert macs("einsum", {"equation": "ij->ji", "tensors": [T((2, 3))]}) == 0


def test_the_counter_tells_a_wrong_count() -> None:
    found = SAMPLES["conv2d"](Draw(1))
    assert macs("conv2d", found) != counted("conv2d", {**found, "padding": [3, 3]})


def test_only_products_cost() -> None:
    costly = {name for name, op in OPERATORS.items() if op.macs is not None}
    assert costly == {*COUNTED, "outer", "einsum", "lstm", "gru", "rnn_tanh", "rnn_relu"}
