"""Cases of `merge.duplicates`; more, and controls, are in `tests/symmetry/test_hidden_merge.py`."""

import torch
import torch.nn.functional as F
from rule_cases import fires, leaves, number


def twice(tensor: torch.Tensor, off: float = 0.0) -> torch.Tensor:
    """The second row a copy of the first, or nearly."""
    tensor[1] = tensor[0] * (1 + off)
    return tensor


def mlp(m, x):
    """Two dense layers."""
    return F.linear(torch.tanh(F.linear(x, m.w, m.a)), m.v)


CASES = [
    fires(
        "merge.duplicates",
        mlp,
        (3, 5),
        w=twice(number(4, 5)),
        a=twice(number(4)),
        v=number(2, 4),
        dynamic={"x": {0: "batch"}},
        expect="""
            linear = linear(x, w, a)
            tanh = tanh(linear)
            linear_1 = linear(tanh, v)
        """,
    ),
    leaves(
        "merge.duplicates",
        mlp,
        (3, 5),
        w=twice(number(4, 5), 1e-9),
        a=twice(number(4)),
        v=number(2, 4),
        because="the rows are nearly equal",
    ),
    leaves(
        "merge.duplicates",
        lambda m, x: F.linear(F.linear(x, m.w, m.a).softmax(-1), m.v),
        (3, 5),
        w=twice(number(4, 5)),
        a=twice(number(4)),
        v=number(2, 4),
        because="a softmax counts the units",
    ),
]
