"""Cases of `merge.duplicates`, `merge.calls` and `merge.orbits`.

More, and controls, are in `tests/symmetry/test_hidden_merge.py`, `test_calls.py` and `test_orbits.py`.
"""

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


def towers(m, x):
    """One net of two dense layers on the row and on its mirror image."""
    return [F.linear(torch.tanh(F.linear(one, m.w)), m.v) for one in (x, x.flip(1))]


def pairs(tensor: torch.Tensor) -> torch.Tensor:
    """The second half of the rows is the first, mirrored."""
    half = len(tensor) // 2
    tensor[half:] = tensor[:half].flip(1)
    return tensor


CASES = [
    fires(
        "merge.orbits",
        towers,
        (2, 6),
        w=pairs(number(8, 6)),
        v=number(3, 4).repeat(1, 2),
        expect="""
            linear = linear(x, w)
            tanh = tanh(linear)
            linear_1 = linear(tanh, v)
        """,
    ),
    leaves(
        "merge.orbits",
        towers,
        (2, 6),
        w=number(8, 6),
        v=number(3, 4).repeat(1, 2),
        because="nothing of the first layer is mirrored",
    ),
    fires(
        "merge.calls",
        towers,
        (1, 256),
        w=number(256, 256),
        v=number(256, 256),
        expect="""
            flip = flip(x, [-1])
            concat = concat(x, flip)
            linear_4 = linear(concat, w)
            tanh_2 = tanh(linear_4)
            linear_5 = linear(tanh_2, v)
            split = split(linear_5, [1, 1], dim=-2)
            getitem = split[0]
            getitem_1 = split[1]
        """,
    ),
    leaves(
        "merge.calls",
        towers,
        (64, 256),
        w=number(256, 256),
        v=number(256, 256),
        because="of so many rows the weights are read once for all",
    ),
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
