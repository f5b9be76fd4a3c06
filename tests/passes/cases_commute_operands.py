"""Cases of `passes/commute/operands.tdsl`, and of what inference knows of lookups and distances."""

import torch
import torch.nn.functional as F
from rule_cases import fires, leaves, number

HALF = torch.tensor([2, 0, 1])
HALVES = torch.cat([HALF, HALF + 3])
ORDER = torch.tensor([2, 0, 3, 1])
NAMES = torch.randint(0, 4, (2, 4, 3), generator=torch.Generator().manual_seed(0))
IDS = torch.randint(0, 6, (4, 5), generator=torch.Generator().manual_seed(0))
TURN = torch.linalg.qr(number(6, 6))[0]
ROWS = (2, 4, 6)

CASES = [
    fires(
        "commute.operands.elementwise_of_three_permutes",
        lambda m, x, y, z: torch.addcmul(x.mT, y.mT, z.mT, value=0.5),
        ROWS,
        ROWS,
        ROWS,
        expect="""
            addcmul_1 = addcmul(x, y, z, value=0.5)
            permute = permute(addcmul_1, [0, 2, 1])
        """,
    ),
    leaves(
        "commute.operands.elementwise_of_three_permutes",
        lambda m, x, y, z: torch.addcmul(x.mT, y.mT, z, value=0.5),
        ROWS,
        ROWS,
        (2, 6, 4),
        because="the third one has its axes as they were",
    ),
    fires(
        "commute.operands.lerp_of_permutes",
        lambda m, x, y: torch.lerp(x.mT, y.mT, 0.3),
        ROWS,
        ROWS,
        expect="""
            lerp_1 = lerp(x, y, 0.3)
            permute = permute(lerp_1, [0, 2, 1])
        """,
    ),
    leaves(
        "commute.operands.lerp_of_permutes",
        lambda m, x, y: torch.lerp(x.mT, y.mT, m.w),
        ROWS,
        ROWS,
        w=number(4),
        because="there is a weight for each place along an axis",
    ),
    fires(
        "commute.operands.choice_or_number_of_permutes",
        lambda m, x, y: torch.where((x > 0).mT, y.mT, 2.0),
        ROWS,
        ROWS,
        expect="""
            gt = gt(x, 0)
            where_1 = where(gt, y, 2.0)
            permute = permute(where_1, [0, 2, 1])
        """,
    ),
    leaves(
        "commute.operands.choice_or_number_of_permutes",
        lambda m, x, y: torch.where((x > 0).mT, y, 2.0),
        ROWS,
        (2, 6, 4),
        because="the mask alone is in another order",
    ),
    fires(
        "commute.operands.number_or_choice_of_permutes",
        lambda m, x, y: torch.where((x > 0).mT, 2.0, y.mT),
        ROWS,
        ROWS,
        expect="""
            gt = gt(x, 0)
            where_1 = where(gt, 2.0, y)
            permute = permute(where_1, [0, 2, 1])
        """,
    ),
    leaves(
        "commute.operands.number_or_choice_of_permutes",
        lambda m, x, y: torch.where((x > 0).mT, m.v, y.mT),
        ROWS,
        ROWS,
        v=number(4),
        because="the number is another one for each column",
    ),
    fires(
        "commute.operands.numbers_of_permute",
        lambda m, x: torch.where((x > 0).mT, 1.0, 0.0),
        ROWS,
        expect="""
            gt = gt(x, 0)
            where_1 = where(gt, 1.0, 0.0)
            permute = permute(where_1, [0, 2, 1])
        """,
    ),
    leaves(
        "commute.operands.numbers_of_permute",
        lambda m, x: torch.where((x > 0).mT, m.v, 0.0),
        ROWS,
        v=number(4),
        because="the number is another one for each column",
    ),
    fires(
        "commute.operands.prelu_of_permute",
        lambda m, x: F.prelu(x.mT, m.w),
        ROWS,
        w=number(1),
        expect="""
            prelu_1 = prelu(x, w)
            permute = permute(prelu_1, [0, 2, 1])
        """,
    ),
    leaves(
        "commute.operands.prelu_of_permute",
        lambda m, x: F.prelu(x.mT, m.w),
        ROWS,
        w=number(6),
        because="there is a slope for each channel",
    ),
    fires(
        "commute.operands.bucketize_of_permute",
        lambda m, x: torch.bucketize(x.mT, m.b, right=True),
        ROWS,
        b=torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64),
        expect="""
            bucketize_1 = bucketize(x, b, right=true)
            permute = permute(bucketize_1, [0, 2, 1])
        """,
    ),
    leaves(
        "commute.operands.bucketize_of_permute",
        lambda m, x: torch.bucketize(x, m.b).mT,
        ROWS,
        b=torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64),
        because="the order is behind it already",
    ),
    fires(
        "commute.operands.diff_of_permute",
        lambda m, x: torch.diff(x.mT, n=2, dim=1),
        ROWS,
        expect="""
            diff_1 = diff(x, order=2)
            permute = permute(diff_1, [0, 2, 1])
        """,
    ),
    leaves(
        "commute.operands.diff_of_permute",
        lambda m, x, y: torch.diff(x.mT, dim=1, append=y),
        ROWS,
        (2, 1, 4),
        because="what is put behind it has its axes as they were",
    ),
    fires(
        "commute.operands.gather_of_permutes",
        lambda m, x, i: torch.gather(x.mT, 1, i.mT),
        ROWS,
        NAMES,
        expect="""
            gather_1 = gather(x, -1, i)
            permute = permute(gather_1, [0, 2, 1])
        """,
    ),
    leaves(
        "commute.operands.gather_of_permutes",
        lambda m, x, i: torch.gather(x.mT, 1, i),
        ROWS,
        NAMES,
        because="the index is as it was",
    ),
    fires(
        "commute.operands.adaptive_max_pool_of_flip",
        lambda m, x: F.adaptive_max_pool2d(x.flip(-1), 3),
        (1, 2, 6, 7),
        expect="""
            adaptive_max_pool2d_1 = adaptive_max_pool2d(x, [3, 3])
            getitem_1 = adaptive_max_pool2d_1[0]
            flip_1 = flip(getitem_1, [-1])
        """,
    ),
    leaves(
        "commute.operands.adaptive_max_pool_of_flip",
        lambda m, x: F.adaptive_max_pool2d(x.flip(-1), 3, return_indices=True)[1],
        (1, 2, 6, 7),
        because="places are told, which the mirror numbers otherwise",
    ),
    fires(
        "commute.operands.adaptive_max_pool_of_permutation",
        lambda m, x: F.adaptive_max_pool2d(x.index_select(1, m.i), 3),
        (1, 4, 6, 7),
        i=ORDER,
        expect="""
            adaptive_max_pool2d_1 = adaptive_max_pool2d(x, [3, 3])
            getitem_1 = adaptive_max_pool2d_1[0]
            index_select_1 = index_select(getitem_1, -3, i)
        """,
    ),
    leaves(
        "commute.operands.adaptive_max_pool_of_permutation",
        lambda m, x: F.adaptive_max_pool2d(x.index_select(2, m.i), 3),
        (1, 2, 4, 7),
        i=ORDER,
        because="rows of the image are in another order",
    ),
    fires(
        "commute.operands.glu_of_permutation",
        lambda m, x: F.glu(x.index_select(1, m.i), 1),
        (2, 6, 5),
        i=HALVES,
        expect="""
            glu_1 = glu(x, dim=-2)
            index_select_1 = index_select(glu_1, -2, i_glu_of_permutation)
        """,
    ),
    leaves(
        "commute.operands.glu_of_permutation",
        lambda m, x: F.glu(x.index_select(1, m.i), 1),
        (2, 6, 5),
        i=torch.cat([HALF + 3, HALF]),
        because="the halves change places",
    ),
    fires(
        "commute.rows.place_of_permute",
        lambda m, x: x.mT.argmax(1, keepdim=True),
        ROWS,
        expect="""
            argmax_1 = argmax(x, dim=-1, keepdim=true)
            permute = permute(argmax_1, [0, 2, 1])
        """,
    ),
    leaves(
        "commute.rows.place_of_permute",
        lambda m, x: x.mT.argmax(None, keepdim=True),
        ROWS,
        because="the place is one among all elements",
    ),
    fires(
        "commute.carried",
        lambda m, x, i: torch.gather(x.flip(1), 2, i.flip(1)),
        ROWS,
        NAMES,
        expect="""
            gather_1 = gather(x, -1, i)
            flip_2 = flip(gather_1, [-2])
        """,
    ),
    leaves(
        "commute.carried",
        lambda m, x, i: torch.gather(x.flip(1), 2, i[:, :3]),
        ROWS,
        NAMES,
        because="the index names fewer rows than there are, and others",
    ),
    fires(
        "commute.carried",
        lambda m, x, i: x.flip(0)[:, i.index_select(1, m.o)].flip(0),
        (3, 6, 2),
        IDS[:, :4],
        times=2,
        o=ORDER,
        expect="""
            index_1 = index(x, none, i)
            index_select_2 = index_select(index_1, -2, o)
        """,
    ),
    leaves(
        "commute.carried",
        lambda m, x, i: x.flip(1)[:, i],
        (3, 6, 2),
        IDS,
        because="the rows that are named are in another order",
    ),
    fires(
        "commute.carried",
        lambda m, x, y: F.cosine_similarity(x @ m.q, y @ m.q, -1),
        ROWS,
        ROWS,
        q=TURN,
        expect="""
            cosine_similarity_1 = cosine_similarity(x, y, dim=-1)
        """,
    ),
    leaves(
        "commute.carried",
        lambda m, x, y: F.cosine_similarity(x @ m.q, y, -1),
        ROWS,
        ROWS,
        q=TURN,
        because="one of them is turned",
    ),
    fires(
        "commute.carried",
        lambda m, x, y: torch.cdist(x.index_select(1, m.i) @ m.q, y @ m.q),
        ROWS,
        (2, 5, 6),
        i=ORDER,
        q=TURN,
        precision=1e-9,
        expect="""
            cdist_1 = cdist(x, y)
            index_select_1 = index_select(cdist_1, -2, i)
        """,
    ),
    leaves(
        "commute.carried",
        lambda m, x, y: torch.cdist(x @ m.q, y @ m.q, p=1.0),
        ROWS,
        (2, 5, 6),
        q=TURN,
        because="sums of absolute differences are others for turned rows",
    ),
    fires(
        "commute.carried",
        lambda m, x: torch.diff(x.index_select(1, m.i), dim=2),
        ROWS,
        i=ORDER,
        expect="""
            diff_1 = diff(x)
            index_select_1 = index_select(diff_1, -2, i)
        """,
    ),
    leaves(
        "commute.carried",
        lambda m, x, y: torch.diff(x.index_select(1, m.i), dim=2, prepend=y),
        ROWS,
        (2, 4, 1),
        i=ORDER,
        because="what is put before it is in the old order",
    ),
    fires(
        "commute.carried",
        lambda m, i: F.one_hot(i.flip(1), 6),
        IDS,
        expect="""
            one_hot_1 = one_hot(i, classes=6)
            flip_1 = flip(one_hot_1, [-2])
        """,
    ),
]
