"""Cases of `passes/commute/rows.tdsl` and `folds.tdsl`, and of what does not see a place or a factor."""

import torch
import torch.nn.functional as F
from rule_cases import fires, leaves, number

ORDER = {
    n: torch.tensor([*range(2, n), 0, 1]) if n > 3 else torch.tensor([*range(1, n), 0]) for n in range(2, 9)
}

CASES = [
    fires(
        "commute.rows.rows_of_action",
        lambda m, x: x.flip(1).cumsum(2),
        (2, 5, 6),
        expect="""
            cumsum_1 = cumsum(x, -1)
            flip_1 = flip(cumsum_1, [-2])
        """,
    ),
    leaves(
        "commute.rows.rows_of_action",
        lambda m, x: x.flip(1).cumsum(1),
        (2, 5, 6),
        because="the sum is along that axis",
    ),
    fires(
        "commute.rows.rows_of_permutation",
        lambda m, x: F.glu(x.index_select(1, m.i), 2),
        (2, 5, 6),
        i=ORDER[5],
        expect="""
            glu_1 = glu(x)
            index_select_1 = index_select(glu_1, -2, i)
        """,
    ),
    leaves(
        "commute.rows.rows_of_permutation",
        lambda m, x: x.index_select(1, m.i).cumprod(2),
        (2, 7, 6),
        i=ORDER[5],
        because="some rows are left out",
    ),
    fires(
        "commute.rows.rows_of_permute",
        lambda m, x: x.permute(0, 2, 1)[:, 1:4],
        (2, 5, 6),
        expect="""
            slice_2 = slice(x, dim=-1, start=1, end=4)
            permute_1 = permute(slice_2, [0, 2, 1])
        """,
    ),
    leaves(
        "commute.rows.rows_of_permute",
        lambda m, x: x.permute(0, 2, 1).exp().cumsum(1),
        (2, 5, 6),
        because="another function stands between",
    ),
    fires(
        "commute.rows.sorted_of_action",
        lambda m, x: x.roll(1, 1).topk(2, 2)[0],
        (2, 5, 6),
        expect="""
            topk_1 = topk(x, 2)
            getitem_1 = topk_1[0]
            roll_1 = roll(getitem_1, [1], dims=[-2])
        """,
    ),
    leaves(
        "commute.rows.sorted_of_action",
        lambda m, x: x.roll(1, 2).topk(2, 2)[1],
        (2, 5, 6),
        because="places are rotated, too",
    ),
    fires(
        "commute.rows.sorted_of_permutation",
        lambda m, x: x.index_select(1, m.i).sort(2)[1],
        (2, 5, 6),
        i=ORDER[5],
        expect="""
            sort_1 = sort(x)
            getitem = sort_1[1]
            index_select_1 = index_select(getitem, -2, i)
        """,
    ),
    leaves(
        "commute.rows.sorted_of_permutation",
        lambda m, x: x.index_select(1, m.i).sort(1)[1],
        (2, 5, 6),
        i=ORDER[5],
        because="places are exchanged, too",
    ),
    fires(
        "commute.rows.sorted_of_permute",
        lambda m, x: x.permute(2, 0, 1).topk(2, 2)[1],
        (2, 5, 6),
        expect="""
            topk_1 = topk(x, 2, dim=-2)
            getitem = topk_1[1]
            permute_1 = permute(getitem, [2, 0, 1])
        """,
    ),
    leaves(
        "commute.rows.sorted_of_permute",
        lambda m, x: x.permute(2, 0, 1).exp().topk(2, 2)[1],
        (2, 5, 6),
        because="another function stands between",
    ),
    fires(
        "commute.rows.place_of_action",
        lambda m, x: x.flip(1).argmax(2, keepdim=True),
        (2, 5, 6),
        expect="""
            argmax_1 = argmax(x, dim=-1, keepdim=true)
            flip_1 = flip(argmax_1, [-2])
        """,
    ),
    leaves(
        "commute.rows.place_of_action",
        lambda m, x: x.flip(2).argmax(2, keepdim=True),
        (2, 5, 6),
        because="places count from the other end",
    ),
    fires(
        "commute.rows.closed_place_of_action",
        lambda m, x: x.flip(1).argmin(2),
        (2, 5, 6),
        expect="""
            argmin_1 = argmin(x, dim=-1)
            flip_1 = flip(argmin_1, [-1])
        """,
    ),
    leaves(
        "commute.rows.closed_place_of_action",
        lambda m, x: x.flip(1).argmin(),
        (2, 5, 6),
        because="places are counted through all rows",
    ),
    fires(
        "commute.rows.closed_place_of_permutation",
        lambda m, x: x.index_select(1, m.i).argmax(2),
        (2, 5, 6),
        i=ORDER[5],
        expect="""
            argmax_1 = argmax(x, dim=-1)
            index_select_1 = index_select(argmax_1, -1, i)
        """,
    ),
    leaves(
        "commute.rows.closed_place_of_permutation",
        lambda m, x: x.index_select(1, m.i).argmax(1),
        (2, 5, 6),
        i=ORDER[5],
        because="places are exchanged",
    ),
    fires(
        "commute.rows.closed_place_of_permute",
        lambda m, x: x.permute(2, 0, 1).argmax(0),
        (2, 5, 6),
        expect="""
            argmax_1 = argmax(x, dim=-1)
            permute_1 = permute(argmax_1, [0, 1])
        """,
    ),
    leaves(
        "commute.rows.closed_place_of_permute",
        lambda m, x: x.permute(2, 0, 1).argmax(),
        (2, 5, 6),
        because="places are counted through all rows",
    ),
    fires(
        "commute.folds.fold_of_action",
        lambda m, x: x.flip(1).logsumexp((1, 2)),
        (2, 5, 6),
        expect="logsumexp_1 = logsumexp(x, [-2, -1])",
    ),
    leaves(
        "commute.folds.fold_of_action",
        lambda m, x: x.flip(1).logsumexp(2),
        (2, 5, 6),
        because="the axis stays",
    ),
    fires(
        "commute.folds.kept_fold_of_action",
        lambda m, x: x.roll(1, 1).norm(dim=2, keepdim=True),
        (2, 5, 6),
        expect="""
            norm = norm(x, dim=[-1], keepdim=true)
            roll_1 = roll(norm, [1], dims=[-2])
        """,
    ),
    leaves(
        "commute.folds.kept_fold_of_action",
        lambda m, x: x.roll(1, 1).norm(dim=1, keepdim=True),
        (2, 5, 6),
        because="the axis goes",
    ),
    fires(
        "commute.folds.closed_fold_of_action",
        lambda m, x: x.flip(1).std(2),
        (2, 5, 6),
        expect="""
            std_1 = std(x, dim=[-1], correction=1)
            flip_1 = flip(std_1, [-1])
        """,
    ),
    leaves(
        "commute.folds.closed_fold_of_action",
        lambda m, x: x.flip((1, 2)).std(2),
        (2, 5, 6),
        because="one of the two axes goes",
    ),
    fires(
        "commute.folds.fold_of_permutation",
        lambda m, x: x.index_select(1, m.i).var(1),
        (2, 5, 6),
        i=ORDER[5],
        expect="var_1 = var(x, dim=[-2], correction=1)",
    ),
    leaves(
        "commute.folds.fold_of_permutation",
        lambda m, x: x.index_select(1, m.i).var(1),
        (2, 7, 6),
        i=ORDER[5],
        because="some places are left out",
    ),
    fires(
        "commute.folds.kept_fold_of_permutation",
        lambda m, x: x.index_select(1, m.i).amin(2, keepdim=True),
        (2, 5, 6),
        i=ORDER[5],
        expect="""
            amin_1 = amin(x, dim=[-1], keepdim=true)
            index_select_1 = index_select(amin_1, -2, i)
        """,
    ),
    leaves(
        "commute.folds.kept_fold_of_permutation",
        lambda m, x: x.index_select(1, m.i).amin(2, keepdim=True),
        (2, 7, 6),
        i=ORDER[5],
        because="some places are left out",
    ),
    fires(
        "commute.folds.closed_fold_of_permutation",
        lambda m, x: x.index_select(1, m.i).sum(2),
        (2, 5, 6),
        i=ORDER[5],
        expect="""
            sum_2 = sum(x, dim=[-1])
            index_select_1 = index_select(sum_2, -1, i)
        """,
    ),
    leaves(
        "commute.folds.closed_fold_of_permutation",
        lambda m, x: x.index_select(1, m.i).sum(1),
        (2, 5, 6),
        i=ORDER[5],
        because="the places go",
    ),
    fires(
        "commute.folds.fold_of_permute",
        lambda m, x: x.permute(1, 2, 0).norm(dim=(0, 1)),
        (2, 5, 6),
        expect="""
            norm = norm(x, dim=[-2, -1])
            permute_1 = permute(norm, [0])
        """,
    ),
    leaves(
        "commute.folds.fold_of_permute",
        lambda m, x: x.permute(1, 2, 0).norm(dim=0, keepdim=True),
        (2, 5, 6),
        because="the axis is kept",
    ),
    fires(
        "commute.folds.kept_fold_of_permute",
        lambda m, x: x.permute(1, 2, 0).amax(1, keepdim=True),
        (2, 5, 6),
        expect="""
            amax_1 = amax(x, dim=[-1], keepdim=true)
            permute_1 = permute(amax_1, [1, 2, 0])
        """,
    ),
    leaves(
        "commute.folds.kept_fold_of_permute",
        lambda m, x: x.permute(1, 2, 0).amax(1),
        (2, 5, 6),
        because="the axis goes",
    ),
    fires(
        "commute.tokens.place_of_largest",
        lambda m, x: x.max(2)[1],
        (2, 5, 6),
        expect="argmax = argmax(x, dim=-1)",
    ),
    leaves(
        "commute.tokens.place_of_largest",
        lambda m, x: sum(x.max(2)),
        (2, 5, 6),
        because="the number is read, too",
    ),
    fires(
        "commute.tokens.place_of_smallest",
        lambda m, x: x.min(2)[1],
        (2, 5, 6),
        expect="argmin = argmin(x, dim=-1)",
    ),
    leaves(
        "commute.tokens.place_of_smallest",
        lambda m, x: sum(x.min(2)),
        (2, 5, 6),
        because="the number is read, too",
    ),
    fires(
        "commute.invariance.largest_of_multiple",
        lambda m, x: (x / 0.7).argmax(2),
        (2, 5, 6),
        expect="argmax_1 = argmax(x, dim=-1)",
    ),
    leaves(
        "commute.invariance.largest_of_multiple",
        lambda m, x: (x * -2).argmax(2),
        (2, 5, 6),
        because="the sign changes",
    ),
    fires(
        "commute.scaling.fold_of_multiple",
        lambda m, x: (x * 0.5).sum(1),
        (2, 5, 6),
        expect="""
            sum_2 = sum(x, dim=[-2])
            mul_1 = mul(sum_2, 0.5)
        """,
    ),
    leaves(
        "commute.scaling.fold_of_multiple",
        lambda m, x: (x * m.a).sum(1),
        (2, 5, 6),
        a=number(5, 1),
        because="it is a factor for each place",
    ),
]
