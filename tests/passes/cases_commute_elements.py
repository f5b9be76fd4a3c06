"""Cases of `passes/commute/pointwise.tdsl` and `choices.tdsl`: actions on several operands."""

import torch
from rule_cases import fires, leaves, number

ORDER = {
    n: torch.tensor([*range(2, n), 0, 1]) if n > 3 else torch.tensor([*range(1, n), 0]) for n in range(2, 9)
}

CASES = [
    fires(
        "commute.pointwise.elementwise_of_actions",
        lambda m, x, y: torch.atan2(x.roll(1, 1), y.roll(1, 1)),
        (2, 5, 6),
        (2, 5, 6),
        expect="""
            atan2_1 = atan2(x, y)
            roll_2 = roll(atan2_1, [1], dims=[-2])
        """,
    ),
    leaves(
        "commute.pointwise.elementwise_of_actions",
        lambda m, x, y: torch.atan2(x.roll(1, 1), y.roll(2, 1)),
        (2, 5, 6),
        (2, 5, 6),
        because="they are rotated by different numbers",
    ),
    fires(
        "commute.pointwise.elementwise_of_permutes",
        lambda m, x, y: x.mT < y.mT,
        (2, 5, 6),
        (2, 1, 6),
        expect="""
            lt_1 = lt(x, y)
            permute = permute(lt_1, [0, 2, 1])
        """,
    ),
    leaves(
        "commute.pointwise.elementwise_of_permutes",
        lambda m, x, y: x.permute(0, 2, 1) < y.permute(1, 0),
        (2, 5, 6),
        (5, 6),
        because="one has fewer axes",
    ),
    fires(
        "commute.pointwise.elementwise_of_permutations",
        lambda m, x, y: x.index_select(1, m.i).fmod(y.index_select(1, m.i)),
        (2, 5, 6),
        (2, 5, 6),
        i=ORDER[5],
        expect="""
            fmod_1 = fmod(x, y)
            index_select_2 = index_select(fmod_1, -2, i)
        """,
    ),
    leaves(
        "commute.pointwise.elementwise_of_permutations",
        lambda m, x, y: x.index_select(1, m.i) - y.index_select(1, m.i * 0),
        (2, 5, 6),
        (2, 1, 6),
        i=ORDER[5],
        because="one value is the same in all places",
    ),
    fires(
        "commute.pointwise.elementwise_of_reshapes",
        lambda m, x, y: x.reshape(2, 30).fmod(y.reshape(2, 30)),
        (2, 5, 6),
        (2, 5, 6),
        expect="""
            fmod_1 = fmod(x, y)
            reshape_2 = reshape(fmod_1, [2, 30])
        """,
    ),
    leaves(
        "commute.pointwise.elementwise_of_reshapes",
        lambda m, x, y: x.reshape(2, 30) * y.reshape(1, 30),
        (2, 5, 6),
        (5, 6),
        because="one is repeated",
    ),
    fires(
        "commute.pointwise.elementwise_of_action_itself",
        lambda m, x: (lambda h: h * h)(x.flip(1)),
        (2, 5, 6),
        expect="""
            mul_1 = mul(x, x)
            flip_1 = flip(mul_1, [-2])
        """,
    ),
    leaves(
        "commute.pointwise.elementwise_of_action_itself",
        lambda m, x: x.flip(1) * x,
        (2, 5, 6),
        because="the other operand is not reflected",
    ),
    fires(
        "commute.pointwise.elementwise_of_action_and_number",
        lambda m, x: x.permute(0, 2, 1) > 0.5,
        (2, 5, 6),
        expect="""
            gt_1 = gt(x, 0.5)
            permute_1 = permute(gt_1, [0, 2, 1])
        """,
    ),
    leaves(
        "commute.pointwise.elementwise_of_action_and_number",
        lambda m, x: x.permute(0, 2, 1) > m.a,
        (2, 5, 6),
        a=number(6, 1),
        because="it is a number for each row",
    ),
    fires(
        "commute.pointwise.elementwise_of_number_and_action",
        lambda m, x: 1.5 - x.permute(0, 2, 1),
        (2, 5, 6),
        expect="""
            sub = sub(1.5, x)
            permute_1 = permute(sub, [0, 2, 1])
        """,
    ),
    leaves(
        "commute.pointwise.elementwise_of_number_and_action",
        lambda m, x: m.a - x.permute(0, 2, 1),
        (2, 5, 6),
        a=number(6, 1),
        because="it is a number for each row",
    ),
    fires(
        "commute.pointwise.elementwise_of_action_and_broadcast",
        lambda m, x: x.flip(1) - x.mean(1, keepdim=True),
        (2, 5, 6),
        expect="""
            mean = mean(x, dim=[-2], keepdim=true)
            sub_1 = sub(x, mean)
            flip_1 = flip(sub_1, [-2])
        """,
    ),
    leaves(
        "commute.pointwise.elementwise_of_action_and_broadcast",
        lambda m, x: x.flip(1) - x.mean(2, keepdim=True),
        (2, 5, 6),
        because="the mean differs along that axis",
    ),
    fires(
        "commute.pointwise.elementwise_of_broadcast_and_action",
        lambda m, x: x.mean(1, keepdim=True) - x.roll(1, 1),
        (2, 5, 6),
        expect="""
            mean = mean(x, dim=[-2], keepdim=true)
            sub_1 = sub(mean, x)
            roll_1 = roll(sub_1, [1], dims=[-2])
        """,
    ),
    leaves(
        "commute.pointwise.elementwise_of_broadcast_and_action",
        lambda m, x: x.mean(2, keepdim=True) - x.roll(1, 1),
        (2, 5, 6),
        because="the mean differs along that axis",
    ),
    fires(
        "commute.pointwise.elementwise_of_permutation_and_broadcast",
        lambda m, x: x.index_select(1, m.i) / x.amax(1, keepdim=True),
        (2, 5, 6),
        i=ORDER[5],
        expect="""
            amax = amax(x, dim=[-2], keepdim=true)
            div_1 = div(x, amax)
            index_select_1 = index_select(div_1, -2, i)
        """,
    ),
    leaves(
        "commute.pointwise.elementwise_of_permutation_and_broadcast",
        lambda m, x: x.index_select(1, m.i) / x.amax(2, keepdim=True),
        (2, 5, 6),
        i=ORDER[5],
        because="the maximum differs along that axis",
    ),
    fires(
        "commute.pointwise.elementwise_of_broadcast_and_permutation",
        lambda m, x: 1.5 - x.index_select(1, m.i),
        (2, 5, 6),
        i=ORDER[5],
        expect="""
            sub = sub(1.5, x)
            index_select_1 = index_select(sub, -2, i)
        """,
    ),
    leaves(
        "commute.pointwise.elementwise_of_broadcast_and_permutation",
        lambda m, x: x.amax(2, keepdim=True) - x.index_select(1, m.i),
        (2, 5, 6),
        i=ORDER[5],
        because="the maximum differs along that axis",
    ),
    fires(
        "commute.choices.choice_of_actions",
        lambda m, x, y, c: torch.where((c > 0).flip(1), x.flip(1), y.flip(1)),
        (2, 5, 6),
        (2, 5, 6),
        (2, 5, 6),
        expect="""
            gt = gt(c, 0)
            where_1 = where(gt, x, y)
            flip_3 = flip(where_1, [-2])
        """,
    ),
    leaves(
        "commute.choices.choice_of_actions",
        lambda m, x, y, c: torch.where(c > 0, x.flip(1), y.flip(1)),
        (2, 5, 6),
        (2, 5, 6),
        (2, 5, 6),
        because="the condition is not reflected",
    ),
    fires(
        "commute.choices.choice_or_broadcast_of_action",
        lambda m, x, y: torch.where((y > 0).roll(1, 1), x.roll(1, 1), 0.5),
        (2, 5, 6),
        (2, 5, 6),
        expect="""
            gt = gt(y, 0)
            where_1 = where(gt, x, 0.5)
            roll_2 = roll(where_1, [1], dims=[-2])
        """,
    ),
    leaves(
        "commute.choices.choice_or_broadcast_of_action",
        lambda m, x, y: torch.where((y > 0).roll(2, 1), x.roll(1, 1), 0.5),
        (2, 5, 6),
        (2, 5, 6),
        because="the condition is rotated by another number",
    ),
    fires(
        "commute.choices.broadcast_or_choice_of_action",
        lambda m, x, y: torch.where((y > 0).flip(1), 0.5, x.flip(1)),
        (2, 5, 6),
        (2, 5, 6),
        expect="""
            gt = gt(y, 0)
            where_1 = where(gt, 0.5, x)
            flip_2 = flip(where_1, [-2])
        """,
    ),
    leaves(
        "commute.choices.broadcast_or_choice_of_action",
        lambda m, x, y: torch.where(y > 0, 0.5, x.flip(1)),
        (2, 5, 6),
        (2, 5, 6),
        because="the condition is not reflected",
    ),
    fires(
        "commute.choices.mask_of_actions",
        lambda m, x, y: x.flip(1).masked_fill((y > 0).flip(1), 0.5),
        (2, 5, 6),
        (2, 5, 6),
        expect="""
            gt = gt(y, 0)
            masked_fill_1 = masked_fill(x, gt, 0.5)
            flip_2 = flip(masked_fill_1, [-2])
        """,
    ),
    leaves(
        "commute.choices.mask_of_actions",
        lambda m, x, y: x.flip(1).masked_fill(y > 0, 0.5),
        (2, 5, 6),
        (2, 5, 6),
        because="the mask is not reflected",
    ),
    fires(
        "commute.choices.mask_of_action_and_broadcast",
        lambda m, x, y: x.flip(1).masked_fill(y > 0, 0.5),
        (2, 5, 6),
        (6,),
        expect="""
            gt = gt(y, 0)
            masked_fill_1 = masked_fill(x, gt, 0.5)
            flip_1 = flip(masked_fill_1, [-2])
        """,
    ),
    leaves(
        "commute.choices.mask_of_action_and_broadcast",
        lambda m, x, y: x.flip(1).masked_fill(y > 0, 0.5),
        (2, 5, 6),
        (5, 1),
        because="the mask has an element for each place",
    ),
    fires(
        "commute.choices.choice_of_permutes",
        lambda m, x, y, c: torch.where((c > 0).mT, x.mT, y.mT),
        (2, 5, 6),
        (2, 5, 6),
        (2, 5, 6),
        expect="""
            gt = gt(c, 0)
            where_1 = where(gt, x, y)
            permute = permute(where_1, [0, 2, 1])
        """,
    ),
    leaves(
        "commute.choices.choice_of_permutes",
        lambda m, x, y, c: torch.where(c > 0, x.mT, y.mT),
        (2, 5, 6),
        (2, 5, 6),
        (2, 6, 5),
        because="the condition stands as it is",
    ),
    fires(
        "commute.choices.mask_of_permutes",
        lambda m, x, y: x.mT.masked_fill((y > 0).mT, 0.5),
        (2, 5, 6),
        (2, 5, 6),
        expect="""
            gt = gt(y, 0)
            masked_fill_1 = masked_fill(x, gt, 0.5)
            permute = permute(masked_fill_1, [0, 2, 1])
        """,
    ),
    leaves(
        "commute.choices.mask_of_permutes",
        lambda m, x, y: x.mT.masked_fill(y > 0, 0.5),
        (2, 5, 6),
        (2, 6, 5),
        because="the mask stands as it is",
    ),
]
