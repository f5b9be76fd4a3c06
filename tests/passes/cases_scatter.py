"""Cases of `passes/commute/scatter.tdsl`: means, extremes, and what is written at places of an index."""

import torch
from rule_cases import fires, leaves

ORDER = torch.tensor([2, 0, 4, 1, 3])
TWICE = torch.tensor([2, 0, 4, 1, 1])
SEGMENTS = torch.arange(3).repeat_interleave(2)

CASES = [
    fires(
        "commute.scatter.extreme_of_one_segment",
        lambda m, y: torch.zeros(1, 3, dtype=y.dtype).scatter_reduce(0, m.i, y, "amax", include_self=False),
        (7, 3),
        i=torch.zeros(7, 3, dtype=torch.long),
        expect="""
            zeros = zeros([1, 3], dtype=f64, device=cpu)
            amax = amax(y, dim=[-2], keepdim=true)
        """,
    ),
    leaves(
        "commute.scatter.extreme_of_one_segment",
        lambda m, y: torch.zeros(2, 3, dtype=y.dtype).scatter_reduce(0, m.i, y, "amax", include_self=False),
        (7, 3),
        i=torch.arange(7)[:, None].expand(7, 3) % 2,
        because="two segments",
    ),
    fires(
        "commute.scatter.mean_of_one_segment",
        lambda m, y: torch.zeros(1, 3, dtype=y.dtype).scatter_reduce(0, m.i, y, "mean", include_self=False),
        (7, 3),
        i=torch.zeros(7, 3, dtype=torch.long),
        expect="""
            zeros = zeros([1, 3], dtype=f64, device=cpu)
            mean = mean(y, dim=[-2], keepdim=true)
        """,
    ),
    leaves(
        "commute.scatter.mean_of_one_segment",
        lambda m, y: torch.zeros(2, 3, dtype=y.dtype).scatter_reduce(0, m.i, y, "mean", include_self=False),
        (7, 3),
        i=torch.arange(7)[:, None].expand(7, 3) % 2,
        because="two segments",
    ),
    fires(
        "commute.scatter.sum_of_one_segment",
        lambda m, x, y: x.scatter_reduce(0, m.i, y, "sum"),
        (1, 3),
        (7, 3),
        i=torch.zeros(7, 3, dtype=torch.long),
        expect="""
            sum_1 = sum(y, dim=[-2], keepdim=true)
            add = add(x, sum_1)
        """,
        more_operators="nothing is scattered",
    ),
    leaves(
        "commute.scatter.sum_of_one_segment",
        lambda m, y: torch.zeros(2, 3, dtype=y.dtype).scatter_reduce(0, m.i, y, "sum"),
        (7, 3),
        i=torch.arange(7)[:, None].expand(7, 3) % 2,
        because="two segments",
    ),
    leaves(
        "commute.scatter.mean_of_one_segment",
        lambda m, y: torch.zeros(1, 3, dtype=y.dtype).scatter_reduce(0, m.i, y, "mean"),
        (7, 3),
        i=torch.zeros(7, 3, dtype=torch.long),
        because="the zero that was there counts",
    ),
    fires(
        "commute.scatter.mean_of_segments",
        lambda m, x, y: x.scatter_reduce(0, m.i.expand(6, 4), y, "mean", include_self=False),
        (3, 4),
        (6, 4),
        i=SEGMENTS[:, None],
        expect="""
            reshape = reshape(y, [3, 2, 4])
            mean = mean(reshape, dim=[-2])
        """,
    ),
    leaves(
        "commute.scatter.mean_of_segments",
        lambda m, x, y: x.scatter_reduce(0, m.i.expand(6, 4), y, "mean", include_self=False),
        (3, 4),
        (6, 4),
        i=SEGMENTS[:, None].reshape(3, 2).T.reshape(6, 1),
        because="segments in turns",
    ),
    fires(
        "commute.scatter.extreme_of_segments",
        lambda m, x, y: x.scatter_reduce(0, m.i.expand(6, 4), y, "amax", include_self=False),
        (3, 4),
        (6, 4),
        i=SEGMENTS[:, None],
        expect="""
            reshape = reshape(y, [3, 2, 4])
            amax = amax(reshape, dim=[-2])
        """,
    ),
    leaves(
        "commute.scatter.extreme_of_segments",
        lambda m, x, y: x.scatter_reduce(0, m.i.expand(6, 4), y, "amax", include_self=False),
        (3, 4),
        (6, 4),
        i=SEGMENTS[:, None].reshape(3, 2).T.reshape(6, 1),
        because="segments in turns",
    ),
    fires(
        "commute.scatter.index_copy_of_permutation",
        lambda m, x, y: x.index_copy(0, m.i, y),
        (5, 3),
        (5, 3),
        i=ORDER,
        expect="index_select = index_select(y, -2, i_index_copy_of_permutation)",
    ),
    leaves(
        "commute.scatter.index_copy_of_permutation",
        lambda m, x, y: x.index_copy(0, m.i, y),
        (5, 3),
        (5, 3),
        i=TWICE,
        because="a place is named twice",
    ),
    fires(
        "commute.scatter.index_put_of_permutation",
        lambda m, x, y: x.index_put((m.i,), y),
        (5, 3),
        (5, 3),
        i=ORDER,
        expect="index_select = index_select(y, -2, i_index_put_of_permutation)",
    ),
    leaves(
        "commute.scatter.index_put_of_permutation",
        lambda m, x, y: x.index_put((m.i,), y),
        (5, 3),
        (5, 3),
        i=TWICE,
        because="a place is named twice",
    ),
    fires(
        "commute.scatter.scatter_of_permutation",
        lambda m, x, y: x.scatter(0, m.i.expand(5, 3), y),
        (5, 3),
        (5, 3),
        i=ORDER[:, None],
        expect="index_select = index_select(y, -2, i_scatter_of_permutation)",
    ),
    leaves(
        "commute.scatter.scatter_of_permutation",
        lambda m, x, y: x.scatter(0, m.i.expand(5, 3), y),
        (5, 3),
        (5, 3),
        i=TWICE[:, None],
        because="a place is named twice",
    ),
    leaves(
        "commute.scatter.index_put_of_permutation",
        lambda m, x, y: x.index_put((m.i,), y, True),
        (5, 3),
        (5, 3),
        i=ORDER,
        because="they are added to what is there",
    ),
]
