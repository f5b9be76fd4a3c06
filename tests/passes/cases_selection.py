"""Cases of `passes/runtime/selection`: products with matrices that select, as gathers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from rule_cases import fires, leaves, number
from torch import Tensor

F64 = torch.float64


def rows(*entries: dict[int, float], columns: int) -> Tensor:
    """A matrix by the entries of each row that are not zero."""
    found = torch.zeros(len(entries), columns, dtype=F64)
    for i, row in enumerate(entries):
        for j, value in row.items():
            found[i, j] = value
    return found


PICKED = rows({2: 1}, {0: 1}, {2: 1}, columns=4)
SCALED = rows({2: 0.5}, {0: 1}, {2: -3}, columns=4)
EDGES = rows({0: 1, 1: -1}, {3: 1, 1: -1}, {2: 1, 3: -1}, {0: -1, 3: 1}, columns=4)
HALF = rows({0: 1, 1: -1}, {3: 1, 1: -0.5}, columns=4)
WIDTH = {"width": 4}
WORK = {"work": 0}

CASES = [
    fires(
        "runtime.selection.linear_of_selection",
        lambda m, x: F.linear(x, m.w, m.b),
        (2, 5, 4),
        parameters=WIDTH,
        dynamic={"x": {0: "batch"}},
        w=PICKED,
        b=number(3),
        more_operators="a gather and a sum are cheaper than a wide product",
        more_bytes="places take eight bytes each",
        expect="""
            index_select = index_select(x, -1, w_selected)
            add = add(index_select, b)
        """,
    ),
    leaves(
        "runtime.selection.linear_of_selection",
        lambda m, x: F.linear(x, m.w),
        (5, 4),
        parameters=WIDTH,
        w=SCALED,
        because="an entry is a half",
    ),
    leaves(
        "runtime.selection.linear_of_selection",
        lambda m, x: F.linear(x, m.w),
        (5, 4),
        w=PICKED,
        because="narrow layers are multiplied faster",
    ),
    fires(
        "runtime.selection.linear_of_scaled_selection",
        lambda m, x: F.linear(x, m.w),
        (5, 4),
        parameters=WIDTH,
        w=SCALED,
        more_operators="a gather and a product of numbers are cheaper than a wide product",
        more_bytes="places take eight bytes each",
        expect="""
            index_select = index_select(x, -1, w_selected)
            mul = mul(index_select, w_linear_of_scaled_selection)
        """,
    ),
    leaves(
        "runtime.selection.linear_of_scaled_selection",
        lambda m, x: F.linear(x, m.w),
        (5, 4),
        parameters=WIDTH,
        w=SCALED + rows({}, {3: 1e-12}, {}, columns=4),
        because="a second entry in one row",
    ),
    fires(
        "runtime.selection.linear_of_incidence",
        lambda m, x: F.linear(x, m.w),
        (5, 4),
        parameters=WIDTH,
        w=EDGES,
        more_operators="two gathers and a difference are cheaper than a wide product",
        more_bytes="places take eight bytes each",
        expect="""
            index_select = index_select(x, -1, w_selected)
            index_select_1 = index_select(x, -1, w_selected_1)
            sub = sub(index_select, index_select_1)
        """,
    ),
    leaves(
        "runtime.selection.linear_of_incidence",
        lambda m, x: F.linear(x, m.w),
        (5, 4),
        parameters=WIDTH,
        w=HALF,
        because="an entry is a half",
    ),
    fires(
        "runtime.selection.product_of_selection",
        lambda m, x: m.s @ x,
        (2, 4, 6),
        dynamic={"x": {0: "batch", 2: "features"}},
        s=PICKED,
        more_bytes="places take eight bytes each",
        expect="index_select = index_select(x, -2, s_selected)",
    ),
    leaves(
        "runtime.selection.product_of_selection",
        lambda m, x: m.s @ x,
        (4, 6),
        s=EDGES,
        because="rows are subtracted",
    ),
    leaves(
        "runtime.selection.product_of_selection",
        lambda m, x: (m.s * x.sum()) @ x,
        (4, 6),
        s=PICKED,
        because="the matrix is not known",
    ),
    fires(
        "runtime.selection.product_of_scaled_selection",
        lambda m, x: m.s @ x,
        (2, 4, 6),
        parameters=WORK,
        s=SCALED,
        more_operators="a gather and a product of numbers are cheaper than a large product",
        more_bytes="places take eight bytes each",
        expect="""
            index_select = index_select(x, -2, s_selected)
            mul = mul(index_select, s_product_of_scaled_selection)
        """,
    ),
    leaves(
        "runtime.selection.product_of_scaled_selection",
        lambda m, x: m.s @ x,
        (4, 6),
        parameters=WORK,
        s=SCALED + rows({}, {3: 1e-12}, {}, columns=4),
        because="a row has two entries",
    ),
    fires(
        "runtime.selection.product_of_incidence",
        lambda m, x: m.s @ x,
        (4, 6),
        parameters=WORK,
        s=EDGES,
        more_operators="two gathers and a difference are cheaper than a large product",
        more_bytes="places take eight bytes each",
        expect="""
            index_select = index_select(x, -2, s_selected)
            index_select_1 = index_select(x, -2, s_selected_1)
            sub = sub(index_select, index_select_1)
        """,
    ),
    leaves(
        "runtime.selection.product_of_incidence",
        lambda m, x: m.s @ x,
        (4, 6),
        parameters=WORK,
        s=HALF,
        because="an entry is a half",
    ),
    leaves(
        "runtime.selection.product_of_incidence",
        lambda m, x: m.s @ x,
        (4, 6),
        s=EDGES,
        because="so little is multiplied faster",
    ),
]
