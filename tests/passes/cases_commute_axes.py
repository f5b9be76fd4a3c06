"""Cases of `passes/commute/axes.tdsl`: actions along axes that an operator leaves alone."""

import torch
import torch.nn.functional as F
from rule_cases import fires, leaves

ORDER = {
    n: torch.tensor([*range(2, n), 0, 1]) if n > 3 else torch.tensor([*range(1, n), 0]) for n in range(2, 9)
}

CASES = [
    fires(
        "commute.axes.reshape_of_action",
        lambda m, x: x.flip(1).reshape(2, 5, 3, 2),
        (2, 5, 6),
        expect="""
            reshape_1 = reshape(x, [2, 5, 3, 2])
            flip_1 = flip(reshape_1, [-3])
        """,
    ),
    leaves(
        "commute.axes.reshape_of_action",
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
        lambda m, x: x.index_select(1, m.i).permute(1, 2, 0),
        (2, 6, 6),
        i=ORDER[5],
        because="some places are left out",
    ),
    fires(
        "commute.axes.select_of_action",
        lambda m, x: x.flip(1)[:, :, 2],
        (2, 5, 6),
        expect="""
            select_1 = select(x, -1, 2)
            flip_1 = flip(select_1, [-1])
        """,
    ),
    leaves(
        "commute.axes.select_of_action",
        lambda m, x: x.flip(1)[:, 2],
        (2, 5, 6),
        because="the place counts from the other end",
    ),
    fires(
        "commute.axes.select_of_permutation",
        lambda m, x: x.index_select(1, m.i)[:, :, 2],
        (2, 5, 6),
        i=ORDER[5],
        expect="""
            select_1 = select(x, -1, 2)
            index_select_1 = index_select(select_1, -1, i)
        """,
    ),
    leaves(
        "commute.axes.select_of_permutation",
        lambda m, x: x.index_select(1, m.i)[:, 2],
        (2, 5, 6),
        i=ORDER[5],
        because="another place is selected",
    ),
    fires(
        "commute.axes.select_of_permute",
        lambda m, x: x.permute(2, 0, 1)[:, 1],
        (2, 5, 6),
        expect="""
            select_1 = select(x, -3, 1)
            permute_1 = permute(select_1, [1, 0])
        """,
    ),
    leaves(
        "commute.axes.select_of_permute",
        lambda m, x: x.permute(2, 0, 1)[:, 0:1] + x.permute(2, 0, 1).exp()[:, 1],
        (2, 5, 6),
        because="several places are selected",
    ),
    leaves(
        "commute.axes.select_of_permute",
        lambda m, x: (y := x.permute(2, 0, 1))[1] * y[2].exp(),
        (2, 5, 6),
        because="two parts would be permuted in place of one value",
    ),
    fires(
        "commute.axes.select_between_permutes",
        lambda m, x: (y := x.permute(2, 0, 3, 1, 4))[0] * y[1].exp() + y[2].transpose(1, 2).sum(-1).sum(),
        (2, 6, 3, 4, 5),
        expect="""
            permute = permute(x, [2, 0, 3, 1, 4])
            select = select(permute, -5, 0)
            select_1 = select(permute, -5, 1)
            exp = exp(select_1)
            mul = mul(select, exp)
            select_3 = select(x, -3, 2)
            sum_1 = sum(select_3, dim=[-1])
            sum_2 = sum(sum_1)
            add = add(mul, sum_2)
        """,
    ),
    leaves(
        "commute.axes.select_between_permutes",
        lambda m, x: x.permute(2, 0, 3, 1, 4)[0].transpose(-1, -2),
        (2, 6, 3, 4, 5),
        because="other axes are exchanged than those that were",
    ),
    fires(
        "commute.axes.unbind_of_action",
        lambda m, x: x.roll(1, 1).unbind(2)[3],
        (2, 5, 6),
        expect="""
            unbind_1 = unbind(x, dim=-1)
            getitem = unbind_1[3]
            roll_1 = roll(getitem, [1], dims=[-1])
        """,
    ),
    leaves(
        "commute.axes.unbind_of_action",
        lambda m, x: x.roll(1, 1).unbind(1)[3],
        (2, 5, 6),
        because="other parts come first",
    ),
    fires(
        "commute.axes.unbind_of_permutation",
        lambda m, x: x.index_select(1, m.i).unbind(2)[3],
        (2, 5, 6),
        i=ORDER[5],
        expect="""
            unbind_1 = unbind(x, dim=-1)
            getitem = unbind_1[3]
            index_select_1 = index_select(getitem, -1, i)
        """,
    ),
    leaves(
        "commute.axes.unbind_of_permutation",
        lambda m, x: x.index_select(1, m.i).unbind(1)[3],
        (2, 5, 6),
        i=ORDER[5],
        because="parts come in another order",
    ),
    fires(
        "commute.axes.part_of_action",
        lambda m, x: x.flip(1).split([2, 4], 2)[1],
        (2, 5, 6),
        expect="""
            split = split(x, [2, 4], dim=-1)
            getitem = split[1]
            flip_1 = flip(getitem, [-2])
        """,
    ),
    leaves(
        "commute.axes.part_of_action",
        lambda m, x: x.flip(2).split([2, 4], 2)[1],
        (2, 5, 6),
        because="the cut is elsewhere",
    ),
    fires(
        "commute.axes.part_of_permutation",
        lambda m, x: x.index_select(1, m.i).split([2, 4], 2)[1],
        (2, 5, 6),
        i=ORDER[5],
        expect="""
            split = split(x, [2, 4], dim=-1)
            getitem = split[1]
            index_select_1 = index_select(getitem, -2, i)
        """,
    ),
    leaves(
        "commute.axes.part_of_permutation",
        lambda m, x: x.index_select(1, m.i).split([2, 3], 1)[1],
        (2, 5, 6),
        i=ORDER[5],
        because="other places are in a part",
    ),
    fires(
        "commute.axes.concat_of_actions",
        lambda m, x, y: torch.cat([x.flip(1), y.flip(1)], 2),
        (2, 5, 6),
        (2, 5, 6),
        expect="""
            concat = concat(x, y, dim=-1)
            flip_2 = flip(concat, [-2])
        """,
    ),
    leaves(
        "commute.axes.concat_of_actions",
        lambda m, x, y: torch.cat([x.flip(1), y.flip(1)], 1),
        (2, 5, 6),
        (2, 5, 6),
        because="they are put together along that axis",
    ),
    fires(
        "commute.axes.spread_of_action",
        lambda m, x: x.flip(1).repeat(3, 1, 2),
        (2, 5, 6),
        expect="""
            repeat_1 = repeat(x, [3, 1, 2])
            flip_1 = flip(repeat_1, [-2])
        """,
    ),
    leaves(
        "commute.axes.spread_of_action",
        lambda m, x: x.roll(1, 1).repeat(1, 2, 1),
        (2, 5, 6),
        because="the axis is repeated",
    ),
    fires(
        "commute.axes.spread_of_permutation",
        lambda m, x: x.index_select(1, m.i).expand(3, 2, 5, 6),
        (2, 5, 6),
        i=ORDER[5],
        expect="""
            expand_1 = expand(x, [3, 2, 5, 6])
            index_select_1 = index_select(expand_1, -2, i)
        """,
    ),
    leaves(
        "commute.axes.spread_of_permutation",
        lambda m, x: x.index_select(1, m.i).repeat(1, 2, 1),
        (2, 5, 6),
        i=ORDER[5],
        because="the axis is repeated",
    ),
    fires(
        "commute.axes.selection_of_action",
        lambda m, x: x.flip(1).index_select(2, m.i),
        (2, 5, 6),
        i=ORDER[5],
        expect="""
            index_select_1 = index_select(x, -1, i)
            flip_1 = flip(index_select_1, [-2])
        """,
    ),
    leaves(
        "commute.axes.selection_of_action",
        lambda m, x: x.flip(1).index_select(1, m.i[:3]),
        (2, 5, 6),
        i=ORDER[5],
        because="other places are selected",
    ),
    fires(
        "commute.axes.selection_of_permute",
        lambda m, x: x.permute(2, 0, 1).index_select(0, m.i),
        (2, 5, 6),
        i=ORDER[5],
        expect="""
            index_select_1 = index_select(x, -1, i)
            permute_1 = permute(index_select_1, [2, 0, 1])
        """,
    ),
    leaves(
        "commute.axes.selection_of_permute",
        lambda m, x: x.permute(2, 0, 1).index_select(2, m.i),
        (2, 5, 6),
        i=ORDER[5],
        because="all places are there",
    ),
    fires(
        "commute.axes.triangle_of_action",
        lambda m, x: x.flip(0).tril(),
        (2, 5, 6),
        expect="""
            tril_1 = tril(x)
            flip_1 = flip(tril_1, [-3])
        """,
    ),
    leaves(
        "commute.axes.triangle_of_action",
        lambda m, x: x.flip(1).tril(),
        (2, 5, 6),
        because="rows are reflected",
    ),
    fires(
        "commute.axes.unfold_of_action",
        lambda m, x: x.flip(1).unfold(2, 3, 2),
        (2, 5, 6),
        expect="""
            unfold_1 = unfold(x, -1, 3, 2)
            flip_1 = flip(unfold_1, [-3])
        """,
    ),
    leaves(
        "commute.axes.unfold_of_action",
        lambda m, x: x.flip(1).unfold(1, 3, 2),
        (2, 5, 6),
        because="windows lie along that axis",
    ),
    fires(
        "commute.axes.pad_of_roll",
        lambda m, x: F.pad(x.roll(1, 1), (2, 1)),
        (2, 5, 6),
        expect="""
            pad_1 = pad(x, [2, 1])
            roll_1 = roll(pad_1, [1], dims=[-2])
        """,
    ),
    leaves(
        "commute.axes.pad_of_roll",
        lambda m, x: F.pad(x.roll(1, 1), (0, 0, 2, 1)),
        (2, 5, 6),
        because="the border is along that axis",
    ),
    fires(
        "commute.axes.roll_of_flip",
        lambda m, x: x.flip(1).roll(1, 2),
        (2, 5, 6),
        expect="""
            roll_1 = roll(x, [1], dims=[-1])
            flip_1 = flip(roll_1, [-2])
        """,
    ),
    leaves(
        "commute.axes.roll_of_flip",
        lambda m, x: x.flip(1).roll(1, 1),
        (2, 5, 6),
        because="both act along one axis",
    ),
    fires(
        "commute.axes.permutations_of_two_axes",
        lambda m, x: x.index_select(1, m.i).index_select(2, m.j),
        (2, 5, 6),
        i=ORDER[5],
        j=ORDER[6],
        expect="""
            index_select_2 = index_select(x, -1, j)
            index_select_3 = index_select(index_select_2, -2, i)
        """,
    ),
    leaves(
        "commute.axes.permutations_of_two_axes",
        lambda m, x: x.index_select(2, m.j).index_select(1, m.i),
        (2, 5, 6),
        i=ORDER[5],
        j=ORDER[6],
        because="the last axis comes first",
    ),
]
