"""Cases of `passes/commute/axes.tdsl`: actions along axes that an operator leaves alone."""

import torch
from rule_cases import fires, leaves

ORDER = {
    n: torch.tensor([*range(2, n), 0, 1]) if n > 3 else torch.tensor([*range(1, n), 0]) for n in range(2, 9)
}

CASES = [
    fires(
        "commute.axes.reshape_of_flip",
        lambda m, x: x.flip(1).reshape(2, 5, 3, 2),
        (2, 5, 6),
        expect="""
            reshape_1 = reshape(x, [2, 5, 3, 2])
            flip_1 = flip(reshape_1, [-3])
        """,
    ),
    leaves(
        "commute.axes.reshape_of_flip",
        lambda m, x: x.flip(1).reshape(2, 30),
        (2, 5, 6),
        because="places and features are joined",
    ),
    fires(
        "commute.axes.reshape_of_roll",
        lambda m, x: x.roll(1, 1).reshape(2, 5, 3, 2),
        (2, 5, 6),
        expect="""
            reshape_1 = reshape(x, [2, 5, 3, 2])
            roll_1 = roll(reshape_1, [1], dims=[-3])
        """,
    ),
    leaves(
        "commute.axes.reshape_of_roll",
        lambda m, x: x.roll(1, 1).reshape(2, 30),
        (2, 5, 6),
        because="places and features are joined",
    ),
    fires(
        "commute.axes.reshape_of_permutation",
        lambda m, x: x.index_select(1, m.i).reshape(2, 5, 3, 2),
        (2, 5, 6),
        i=ORDER[5],
        expect="""
            reshape_1 = reshape(x, [2, 5, 3, 2])
            index_select_1 = index_select(reshape_1, -3, i)
        """,
    ),
    leaves(
        "commute.axes.reshape_of_permutation",
        lambda m, x: x.index_select(1, m.i).reshape(2, 30),
        (2, 5, 6),
        i=ORDER[5],
        because="places and features are joined",
    ),
    fires(
        "commute.axes.permute_of_permutation",
        lambda m, x: x.index_select(1, m.i).permute(1, 2, 0),
        (2, 5, 6),
        i=ORDER[5],
        expect="""
            permute_1 = permute(x, [1, 2, 0])
            index_select_1 = index_select(permute_1, -3, i)
        """,
    ),
    leaves(
        "commute.axes.permute_of_permutation",
        lambda m, x: x.index_select(1, m.i[:3]).permute(1, 2, 0),
        (2, 5, 6),
        i=ORDER[5],
        because="some are left out",
    ),
    fires(
        "commute.axes.select_of_flip",
        lambda m, x: x.flip(2).select(1, 2),
        (2, 5, 6),
        expect="""
            select_1 = select(x, -2, 2)
            flip_1 = flip(select_1, [-1])
        """,
    ),
    leaves(
        "commute.axes.select_of_flip",
        lambda m, x: x.flip(1).select(1, 2),
        (2, 5, 6),
        because="it is the axis itself",
    ),
    fires(
        "commute.axes.select_of_roll",
        lambda m, x: x.roll(1, 2).select(1, 2),
        (2, 5, 6),
        expect="""
            select_1 = select(x, -2, 2)
            roll_1 = roll(select_1, [1], dims=[-1])
        """,
    ),
    leaves(
        "commute.axes.select_of_roll",
        lambda m, x: x.roll(1, 1).select(1, 2),
        (2, 5, 6),
        because="it is the axis itself",
    ),
    fires(
        "commute.axes.select_of_permutation",
        lambda m, x: x.index_select(2, m.i).select(1, 2),
        (2, 5, 6),
        i=ORDER[6],
        expect="""
            select_1 = select(x, -2, 2)
            index_select_1 = index_select(select_1, -1, i)
        """,
    ),
    leaves(
        "commute.axes.select_of_permutation",
        lambda m, x: x.index_select(1, m.j).select(1, 2),
        (2, 5, 6),
        j=ORDER[5],
        because="it is the axis itself",
    ),
    fires(
        "commute.axes.unbind_of_flip",
        lambda m, x: (lambda p, q, r: p * q + r)(*x.flip(1).unbind(0)),
        (3, 5, 6),
        more_operators="each part is moved",
        expect="""
            unbind_1 = unbind(x, dim=-3)
            getitem_3 = unbind_1[0]
            flip_1 = flip(getitem_3, [-2])
            unbind_2 = unbind(x, dim=-3)
            getitem_4 = unbind_2[1]
            flip_2 = flip(getitem_4, [-2])
            unbind_3 = unbind(x, dim=-3)
            getitem_5 = unbind_3[2]
            flip_3 = flip(getitem_5, [-2])
            mul = mul(flip_1, flip_2)
            add = add(mul, flip_3)
        """,
    ),
    leaves(
        "commute.axes.unbind_of_flip",
        lambda m, x: (lambda p, q, r: p * q + r)(*x.flip(0).unbind(0)),
        (3, 5, 6),
        because="it is the axis itself",
    ),
    fires(
        "commute.axes.unbind_of_roll",
        lambda m, x: (lambda p, q, r: p * q + r)(*x.roll(1, 1).unbind(0)),
        (3, 5, 6),
        more_operators="each part is moved",
        expect="""
            unbind_1 = unbind(x, dim=-3)
            getitem_3 = unbind_1[0]
            roll_1 = roll(getitem_3, [1], dims=[-2])
            unbind_2 = unbind(x, dim=-3)
            getitem_4 = unbind_2[1]
            roll_2 = roll(getitem_4, [1], dims=[-2])
            unbind_3 = unbind(x, dim=-3)
            getitem_5 = unbind_3[2]
            roll_3 = roll(getitem_5, [1], dims=[-2])
            mul = mul(roll_1, roll_2)
            add = add(mul, roll_3)
        """,
    ),
    leaves(
        "commute.axes.unbind_of_roll",
        lambda m, x: (lambda p, q, r: p * q + r)(*x.roll(1, 0).unbind(0)),
        (3, 5, 6),
        because="it is the axis itself",
    ),
    fires(
        "commute.axes.unbind_of_permutation",
        lambda m, x: (lambda p, q, r: p * q + r)(*x.index_select(1, m.i).unbind(0)),
        (3, 5, 6),
        i=ORDER[5],
        more_operators="each part is moved",
        expect="""
            unbind_1 = unbind(x, dim=-3)
            getitem_3 = unbind_1[0]
            index_select_1 = index_select(getitem_3, -2, i)
            unbind_2 = unbind(x, dim=-3)
            getitem_4 = unbind_2[1]
            index_select_2 = index_select(getitem_4, -2, i)
            unbind_3 = unbind(x, dim=-3)
            getitem_5 = unbind_3[2]
            index_select_3 = index_select(getitem_5, -2, i)
            mul = mul(index_select_1, index_select_2)
            add = add(mul, index_select_3)
        """,
    ),
    leaves(
        "commute.axes.unbind_of_permutation",
        lambda m, x: (lambda p, q, r: p * q + r)(*x.index_select(0, m.j).unbind(0)),
        (3, 5, 6),
        j=ORDER[3],
        because="it is the axis itself",
    ),
    fires(
        "commute.axes.slice_of_flip",
        lambda m, x: x.flip(1)[..., 1:4],
        (2, 5, 6),
        expect="""
            slice_2 = slice(x, dim=-1, start=1, end=4)
            flip_1 = flip(slice_2, [-2])
        """,
    ),
    leaves(
        "commute.axes.slice_of_flip",
        lambda m, x: x.flip(2)[..., 1:4],
        (2, 5, 6),
        because="it is the axis itself",
    ),
    fires(
        "commute.axes.slice_of_roll",
        lambda m, x: x.roll(1, 1)[..., 1:4],
        (2, 5, 6),
        expect="""
            slice_2 = slice(x, dim=-1, start=1, end=4)
            roll_1 = roll(slice_2, [1], dims=[-2])
        """,
    ),
    leaves(
        "commute.axes.slice_of_roll",
        lambda m, x: x.roll(1, 2)[..., 1:4],
        (2, 5, 6),
        because="it is the axis itself",
    ),
    fires(
        "commute.axes.slice_of_permutation",
        lambda m, x: x.index_select(1, m.i)[..., 1:4],
        (2, 5, 6),
        i=ORDER[5],
        expect="""
            slice_2 = slice(x, dim=-1, start=1, end=4)
            index_select_1 = index_select(slice_2, -2, i)
        """,
    ),
    leaves(
        "commute.axes.slice_of_permutation",
        lambda m, x: x.index_select(2, m.j)[..., 1:4],
        (2, 5, 6),
        j=ORDER[6],
        because="it is the axis itself",
    ),
    fires(
        "commute.axes.split_of_flip",
        lambda m, x: (lambda p, q: p * q.sin())(*x.flip(1).split([3, 3], 2)),
        (2, 5, 6),
        more_operators="each part is moved",
        expect="""
            split = split(x, [3, 3], dim=-1)
            getitem_2 = split[0]
            flip_1 = flip(getitem_2, [-2])
            split_1 = split(x, [3, 3], dim=-1)
            getitem_3 = split_1[1]
            flip_2 = flip(getitem_3, [-2])
            sin = sin(flip_2)
            mul = mul(flip_1, sin)
        """,
    ),
    leaves(
        "commute.axes.split_of_flip",
        lambda m, x: (lambda p, q: p * q.sin())(*x.flip(2).split([3, 3], 2)),
        (2, 5, 6),
        because="it is the axis itself",
    ),
    fires(
        "commute.axes.split_of_roll",
        lambda m, x: (lambda p, q: p * q.sin())(*x.roll(1, 1).split([3, 3], 2)),
        (2, 5, 6),
        more_operators="each part is moved",
        expect="""
            split = split(x, [3, 3], dim=-1)
            getitem_2 = split[0]
            roll_1 = roll(getitem_2, [1], dims=[-2])
            split_1 = split(x, [3, 3], dim=-1)
            getitem_3 = split_1[1]
            roll_2 = roll(getitem_3, [1], dims=[-2])
            sin = sin(roll_2)
            mul = mul(roll_1, sin)
        """,
    ),
    leaves(
        "commute.axes.split_of_roll",
        lambda m, x: (lambda p, q: p * q.sin())(*x.roll(1, 2).split([3, 3], 2)),
        (2, 5, 6),
        because="it is the axis itself",
    ),
    fires(
        "commute.axes.split_of_permutation",
        lambda m, x: (lambda p, q: p * q.sin())(*x.index_select(1, m.i).split([3, 3], 2)),
        (2, 5, 6),
        i=ORDER[5],
        more_operators="each part is moved",
        expect="""
            split = split(x, [3, 3], dim=-1)
            getitem_2 = split[0]
            index_select_1 = index_select(getitem_2, -2, i)
            split_1 = split(x, [3, 3], dim=-1)
            getitem_3 = split_1[1]
            index_select_2 = index_select(getitem_3, -2, i)
            sin = sin(index_select_2)
            mul = mul(index_select_1, sin)
        """,
    ),
    leaves(
        "commute.axes.split_of_permutation",
        lambda m, x: (lambda p, q: p * q.sin())(*x.index_select(2, m.j).split([3, 3], 2)),
        (2, 5, 6),
        j=ORDER[6],
        because="it is the axis itself",
    ),
    fires(
        "commute.axes.three_parts_of_flip",
        lambda m, x: (lambda p, q, r: p * q + r)(*x.flip(1).split([2, 2, 2], 2)),
        (2, 5, 6),
        more_operators="each part is moved",
        expect="""
            split = split(x, [2, 2, 2], dim=-1)
            getitem_3 = split[0]
            flip_1 = flip(getitem_3, [-2])
            split_1 = split(x, [2, 2, 2], dim=-1)
            getitem_4 = split_1[1]
            flip_2 = flip(getitem_4, [-2])
            split_2 = split(x, [2, 2, 2], dim=-1)
            getitem_5 = split_2[2]
            flip_3 = flip(getitem_5, [-2])
            mul = mul(flip_1, flip_2)
            add = add(mul, flip_3)
        """,
    ),
    leaves(
        "commute.axes.three_parts_of_flip",
        lambda m, x: (lambda p, q, r: p * q + r)(*x.flip(2).split([2, 2, 2], 2)),
        (2, 5, 6),
        because="it is the axis itself",
    ),
    fires(
        "commute.axes.three_parts_of_roll",
        lambda m, x: (lambda p, q, r: p * q + r)(*x.roll(1, 1).split([2, 2, 2], 2)),
        (2, 5, 6),
        more_operators="each part is moved",
        expect="""
            split = split(x, [2, 2, 2], dim=-1)
            getitem_3 = split[0]
            roll_1 = roll(getitem_3, [1], dims=[-2])
            split_1 = split(x, [2, 2, 2], dim=-1)
            getitem_4 = split_1[1]
            roll_2 = roll(getitem_4, [1], dims=[-2])
            split_2 = split(x, [2, 2, 2], dim=-1)
            getitem_5 = split_2[2]
            roll_3 = roll(getitem_5, [1], dims=[-2])
            mul = mul(roll_1, roll_2)
            add = add(mul, roll_3)
        """,
    ),
    leaves(
        "commute.axes.three_parts_of_roll",
        lambda m, x: (lambda p, q, r: p * q + r)(*x.roll(1, 2).split([2, 2, 2], 2)),
        (2, 5, 6),
        because="it is the axis itself",
    ),
    fires(
        "commute.axes.three_parts_of_permutation",
        lambda m, x: (lambda p, q, r: p * q + r)(*x.index_select(1, m.i).split([2, 2, 2], 2)),
        (2, 5, 6),
        i=ORDER[5],
        more_operators="each part is moved",
        expect="""
            split = split(x, [2, 2, 2], dim=-1)
            getitem_3 = split[0]
            index_select_1 = index_select(getitem_3, -2, i)
            split_1 = split(x, [2, 2, 2], dim=-1)
            getitem_4 = split_1[1]
            index_select_2 = index_select(getitem_4, -2, i)
            split_2 = split(x, [2, 2, 2], dim=-1)
            getitem_5 = split_2[2]
            index_select_3 = index_select(getitem_5, -2, i)
            mul = mul(index_select_1, index_select_2)
            add = add(mul, index_select_3)
        """,
    ),
    leaves(
        "commute.axes.three_parts_of_permutation",
        lambda m, x: (lambda p, q, r: p * q + r)(*x.index_select(2, m.j).split([2, 2, 2], 2)),
        (2, 5, 6),
        j=ORDER[6],
        because="it is the axis itself",
    ),
]
