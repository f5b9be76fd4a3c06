"""Sums of diagrams as operators are the layers that they stand for, and share what diagrams share."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from tdsl.factor.diagram_sum import diagram_sum, diagram_sum_planes
from tdsl.factor.diagrams import diagrams_planes_product, diagrams_product
from tdsl.factor.table import TERMS

OPERATORS = {
    "add": torch.add,
    "concat": torch.cat,
    "expand": lambda x, sizes: x.expand(sizes),
    "index_select": torch.index_select,
    "linear": torch.nn.functional.linear,
    "matmul": torch.matmul,
    "pad": torch.nn.functional.pad,
    "permute": torch.permute,
    "reshape": torch.reshape,
    "slice": lambda x, dim, start, end, step=1: x.movedim(dim, 0)[start:end:step].movedim(0, dim),
    "sum": torch.sum,
}


class Computed:
    """Terms that are computed at once; `calls` are the operators."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __call__(self, operator: str, *arguments: Any) -> Any:
        self.calls.append(operator)
        return OPERATORS[operator](*arguments)  # type: ignore[operator]

    def known(self, value: Any) -> Tensor:
        return value  # type: ignore[no-any-return]

    def constant(self, values: Tensor) -> Tensor:
        return values


def drawn(seed: int, groups: list[tuple[int, int, int]], count: int, p: int, q: int) -> list[Tensor]:
    """Random mixes and labels; the same diagram may be there twice."""
    random = torch.Generator().manual_seed(seed)
    parts = [torch.randn(count, p, q, generator=random, dtype=torch.float64)]
    for n, outputs, inputs in groups:
        parts += [torch.randint(0, 3, (count, axes), generator=random) for axes in (outputs, inputs)]
        parts.append(torch.arange(n))
    return parts


GROUP = st.tuples(st.integers(1, 4), st.integers(0, 3), st.integers(0, 3))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.lists(GROUP, min_size=1, max_size=2),
    st.integers(1, 6),
    st.sampled_from([1, 3, 9]),
    st.sampled_from([2, 7]),
)
def test_any_diagrams_are_applied(
    seed: int, groups: list[tuple[int, int, int]], count: int, p: int, q: int
) -> None:
    """Also where there are more channels than places, which then stand side by side."""
    assume(p * q * math.prod(n ** (outputs + inputs) for n, outputs, inputs in groups) <= 1 << 18)
    parts = drawn(seed, groups, count, p, q)
    for apply, product in ((diagram_sum, diagrams_product), (diagram_sum_planes, diagrams_planes_product)):
        weight = product(*parts)
        x = torch.randn(3, weight.shape[1], dtype=torch.float64)
        value = apply(Computed(), x, *parts)
        assert tuple(value.shape) == TERMS[apply.__name__].shape(x.shape, *(part.shape for part in parts))
        torch.testing.assert_close(value.flatten(1), x @ weight.T)


@pytest.mark.parametrize("n", [5, 9])
def test_all_fifteen_diagrams_of_pairs_sum_the_operand_twice(n: int) -> None:
    """Rows and columns; the total and the trace are sums of sums, and every place has one mix of channels."""
    from tdsl.symmetry.diagrams.partitions import set_partitions

    labels = torch.tensor(set_partitions(4, 4))
    terms = Computed()
    sums: list[int] = []

    def counted(x: Tensor, *rest: Any) -> Tensor:
        sums.append(x[0].numel())
        return torch.sum(x, *rest)

    mixes = torch.randn(15, 16, 16, dtype=torch.float64)
    x = torch.randn(2, n * n * 16, dtype=torch.float64)
    before = OPERATORS["sum"]
    OPERATORS["sum"] = counted
    try:
        value = diagram_sum(terms, x, mixes, labels[:, :2], labels[:, 2:], torch.arange(n))
    finally:
        OPERATORS["sum"] = before
    weight = diagrams_product(mixes, labels[:, :2], labels[:, 2:], torch.arange(n))
    torch.testing.assert_close(value.flatten(1), x @ weight.T)
    assert sums.count(n * n * 16) == 2 and sums.count(n * 16) == 2
    assert terms.calls.count("linear") == 7
