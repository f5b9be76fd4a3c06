"""Kronecker factorizations of a weight matrix: sums of products A ⊗ B, and tensor trains of three cores.

Outputs and inputs are split into digits, W[(o₁, o₂), (i₁, i₂)], the last digit running fastest, and the
entries are rearranged so that the pair (o₁, i₁) is a row and (o₂, i₂) a column. The rank of that matrix is
the number of Kronecker terms (Van Loan & Pitsianis, 1993), and the ranks of two nested cuts are those of a
tensor train of matrices (Oseledets, 2010). Everything is computed and returned in float64.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from tdsl.factor.declare import Decomposition, forms
from tdsl.factor.matrix import SEED, checked, truncate
from tdsl.factor.memo import memoised
from tdsl.factor.rank import Fixed, RankRule, Ratio, UnreachableRankError, as_rank_rule
from tdsl.factor.splits import NEGLIGIBLE, Way, best, divisors, error_of

SKETCH = 64
"""Rows of the random projection through which the cuts are compared."""
SEEN = 3 * SKETCH // 4
"""Ranks beyond this are not told from full rank by the projection."""

Cut = tuple[int, int]
"""Sizes (o, i) of the leading digits of outputs and inputs."""


def kronecker(weight: Tensor, rank: object) -> tuple[Tensor, Tensor]:
    """The best sum of r Kronecker products in the Frobenius norm (Van Loan & Pitsianis, 1993).

    [m, n] → A [o, i, r], B [r, p, q] with weight ≈ Σ_r A[:, :, r] ⊗ B[r], m = o·p and n = i·q. `rank` is
    anything `as_rank_rule` takes; the divisors of m and n are searched for the fewest numbers where the
    rule bounds the error, for the smallest error where it does not. Raises `TdslError` for a weight that is
    no finite matrix, `UnreachableRankError` where m and n have no divisors, or no such rank.
    """
    exact, rule = checked(weight, ndim=2), as_rank_rule(rank)
    (cut,) = _cuts(exact, rule, 1)
    left, right, terms = _terms(_rearranged(exact, cut), rule)
    rows, columns = exact.shape
    return (
        left.reshape(*cut, terms),
        right.reshape(terms, rows // cut[0], columns // cut[1]),
    )


def kronecker_product(left: Tensor, right: Tensor) -> Tensor:
    """The sum of Kronecker products. [o, i, r], [r, p, q] → [o·p, i·q]."""
    (rows, columns, _), (_, inner, last) = left.shape, right.shape
    return torch.einsum("oir,rpq->opiq", left, right).reshape(rows * inner, columns * last)


def tensor_train(weight: Tensor, rank: object) -> tuple[Tensor, Tensor, Tensor]:
    """Three cores of a tensor train of matrices, by TT-SVD (Oseledets, 2011).

    [m, n] → A [o₁, i₁, r], B [r, o₂, i₂, s], C [s, o₃, i₃] with m = o₁·o₂·o₃ and n = i₁·i₂·i₃. At most √2
    times the error of the best cores of these ranks. `rank` is anything `as_rank_rule` takes: a bound holds
    for both truncations together, a number is each rank, a ratio is the share of the numbers, at which digits
    and ranks are those of least error. Digits are searched as in `kronecker`; ranks 1 are a Kronecker product
    of three matrices. Raises what `kronecker` raises.
    """
    exact, rule = checked(weight, ndim=2), as_rank_rule(rank)
    parts: list[RankRule]
    if isinstance(rule, Ratio) and (sized := _sized(exact, rule.fraction)) is not None:
        (first, second), parts = sized, [Fixed(r) for r in _ranks_within(exact, sized, rule.fraction)]
    else:
        (first, second), parts = _cuts(exact, rule, 2), [rule.share(2)] * 2
    left, rest, outer = _terms(_rearranged(exact, first), parts[0], shorten=True)
    rows, columns = (size // cut for size, cut in zip(exact.shape, first, strict=True))
    middle = (second[0] // first[0], second[1] // first[1])
    tail = rest.reshape(outer, middle[0], rows // middle[0], middle[1], columns // middle[1])
    unfolded = tail.permute(0, 1, 3, 2, 4).reshape(outer * middle[0] * middle[1], -1)
    core, last, inner = _terms(unfolded, parts[1], shorten=True)
    return (
        left.reshape(*first, outer),
        core.reshape(outer, *middle, inner),
        last.reshape(inner, rows // middle[0], columns // middle[1]),
    )


def train_product(first: Tensor, second: Tensor, third: Tensor) -> Tensor:
    """The matrix of three cores. [o₁, i₁, r], [r, o₂, i₂, s], [s, o₃, i₃] → [o₁·o₂·o₃, i₁·i₂·i₃]."""
    whole = torch.einsum("air,rbjs,sck->abcijk", first, second, third)
    rows = first.shape[0] * second.shape[1] * third.shape[1]
    return whole.reshape(rows, whole.numel() // rows)


# ---------------------------------------------------------------- the search for digits


@memoised
def _cuts(weight: Tensor, rule: RankRule, count: int) -> tuple[Cut, ...]:
    """The nested cuts that `rule` prefers; `UnreachableRankError` where the sizes allow none."""
    rows, columns = weight.shape
    part = rule.share(count)
    single = [way for cut in _all_cuts(rows, columns) if (way := _cut(weight, part, cut)) is not None]
    if count == 1:
        ways = [Way(w.sizes, w.ranks, w.ranks[0] * _pair(weight, w.sizes), w.error) for w in single]
    else:
        ways = [
            _nested(weight, outer, inner)
            for outer, inner in itertools.permutations(single, 2)
            if _contains(outer.sizes, inner.sizes)
        ]
    chosen = best(rule, ways, rows * columns)
    if chosen is None:
        raise UnreachableRankError(
            f"a matrix of shape {[rows, columns]} has no {count + 1} Kronecker factors of that rank",
            expected="sizes that are products, 768 and not 769",
        )
    sizes = chosen.sizes
    return tuple((sizes[k], sizes[k + 1]) for k in range(0, 2 * count, 2))


@memoised
def _sized(weight: Tensor, share: float) -> tuple[Cut, Cut] | None:
    """The nested cuts with the least error for a train of that share of the numbers; `None` where none fits.

    Spectra are estimated by projection; what is beyond it is taken for evenly spread.
    """
    total = float(weight.square().sum())
    tails = {cut: _tail(*_projected(weight, cut), total) for cut in _all_cuts(*weight.shape)}
    found = []
    for outer, inner in itertools.permutations(tails, 2):
        if _contains(outer, inner):
            fit = _fit(weight, (outer, inner), (tails[outer], tails[inner]), share)
            if fit is not None:
                found.append((fit[2] if fit[2] > NEGLIGIBLE**2 * total else 0.0, fit[3], outer, inner))
    return min(found)[2:] if found else None


def _ranks_within(weight: Tensor, cuts: tuple[Cut, Cut], share: float) -> tuple[int, int]:
    """The ranks of least error for a train of that share of the numbers, by the spectra of both cuts."""
    total = float(weight.square().sum())
    spectra = [torch.linalg.svdvals(_rearranged(weight, cut)) for cut in cuts]
    outer, inner = (_tail(values, len(values), total) for values in spectra)
    fit = _fit(weight, cuts, (outer, inner), share)
    assert fit is not None
    return fit[0], fit[1]


def _tail(values: Tensor, shorter: int, total: float) -> Tensor:
    """The squared error of keeping r terms, r = 0 … shorter, from the leading singular values."""
    seen = len(values) if len(values) == shorter else min(SEEN, len(values))
    kept = total - torch.cat([values.new_zeros(1), values[:seen].square().cumsum(0)])
    if seen < shorter:
        kept = torch.cat([kept, torch.linspace(float(kept[-1]), 0, shorter - seen + 1)[1:].double()])
    return kept.clamp_min(0)


def _fit(
    weight: Tensor, cuts: tuple[Cut, Cut], tails: tuple[Tensor, Tensor], share: float
) -> tuple[int, int, float, int] | None:
    """The ranks of least error within a share of the numbers, their squared error and their numbers."""
    (rows, columns), ((o1, i1), (o2, i2)) = weight.shape, cuts
    ends, middle = (o1 * i1, rows // o2 * (columns // i2)), (o2 // o1) * (i2 // i1)
    r = torch.arange(1, len(tails[0]))
    s = (int(share * weight.numel()) - ends[0] * r) // (r * middle + ends[1])
    s = torch.minimum(s, r * middle).clamp_max(len(tails[1]) - 1)
    r, s = r[s > 0], s[s > 0]
    if not len(r):
        return None
    error = tails[0][r] + tails[1][s]
    best = int(error.argmin())
    outer, inner = int(r[best]), int(s[best])
    numbers = ends[0] * outer + outer * middle * inner + inner * ends[1]
    return outer, inner, float(error[best]), numbers


def _all_cuts(rows: int, columns: int) -> list[Cut]:
    """Every pair of leading digits that leaves something on both sides."""
    pairs = [(o, i) for o in divisors(rows) for i in divisors(columns)]
    return [(o, i) for o, i in pairs if 1 < o * i < rows * columns]


def _contains(outer: tuple[int, ...], inner: tuple[int, ...]) -> bool:
    """Whether the cut `inner` goes on where `outer` ends."""
    grown = inner[0] * inner[1] > outer[0] * outer[1]
    return grown and inner[0] % outer[0] == 0 and inner[1] % outer[1] == 0


def _cut(weight: Tensor, rule: RankRule, cut: Cut) -> Way | None:
    """The rank that `rule` chooses at one cut, estimated; `None` where it asks for more than there is."""
    values, shorter = _projected(weight, cut)
    try:
        rank = rule.select(values, _limit(weight, cut))
    except UnreachableRankError:
        return None
    if rule.spectral and rank > SEEN:
        rank = shorter
    return Way(cut, (rank,), 0, error_of(values, rank))


@memoised
def _projected(weight: Tensor, cut: Cut) -> tuple[Tensor, int]:
    """Singular values of a random projection of the rearranged matrix, and its shorter side.

    A matrix of at most `SKETCH` rows or columns is taken as it is.
    """
    matrix = _rearranged(weight, cut)
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    shorter = len(wide)
    if shorter > SKETCH:
        generator = torch.Generator().manual_seed(SEED)
        mix = torch.randn(SKETCH, shorter, generator=generator, dtype=torch.float64) / SKETCH**0.5
        wide = mix @ wide
    # The triangle of a QR has the singular values at a fraction of the price, and to full precision.
    return torch.linalg.svdvals(torch.linalg.qr(wide.T, mode="r").R), shorter


def _nested(weight: Tensor, outer: Way, inner: Way) -> Way:
    """Two cuts as one way."""
    rows, columns = weight.shape
    (o1, i1), (o2, i2) = outer.sizes, inner.sizes
    r, s = outer.ranks[0], inner.ranks[0]
    cores = o1 * i1 * r + r * (o2 // o1) * (i2 // i1) * s + s * (rows // o2) * (columns // i2)
    return Way((o1, i1, o2, i2), (r, s), cores, (outer.error**2 + inner.error**2) ** 0.5)


def _pair(weight: Tensor, cut: tuple[int, ...]) -> int:
    """Numbers of one Kronecker term."""
    o, i = cut
    return o * i + weight.numel() // (o * i)


def _limit(weight: Tensor, cut: Cut) -> int:
    return max(0, (weight.numel() - 1) // _pair(weight, cut))


def _rearranged(weight: Tensor, cut: Cut) -> Tensor:
    """[o·p, i·q] → [o·i, p·q]."""
    (rows, columns), (o, i) = weight.shape, cut
    return weight.reshape(o, rows // o, i, columns // i).transpose(1, 2).reshape(o * i, -1)


def _terms(matrix: Tensor, rule: RankRule, *, shorten: bool = False) -> tuple[Tensor, Tensor, int]:
    """Two balanced factors and their rank; a number beyond the shorter side is cut to it if `shorten`."""
    most = min(matrix.shape)
    known = not rule.spectral and shorten
    if known:
        try:
            rule.select(torch.ones(most), most)
        except UnreachableRankError:
            rule = as_rank_rule(most)
    found = truncate(matrix, rule)
    root = found.values.sqrt()
    return found.left * root, root[:, None] * found.right, len(root)


DECLARED = (
    Decomposition(
        name="kronecker",
        params=("W", "rank"),
        results=2,
        function=kronecker,
        promise_text="W ≈ Σ_r A[:, :, r] ⊗ B[r]",
        promise=kronecker_product,
        forms=forms("[M, N] -> [o, i, r], [r, p, q]"),
        source="Van Loan & Pitsianis, 1993",
        doc="A matrix as a sum of r Kronecker products, of the sizes that serve the rank rule best.",
    ),
    Decomposition(
        name="tensor_train",
        params=("W", "rank"),
        results=3,
        function=tensor_train,
        promise_text="W[o, i] ≈ Σ_r Σ_s A[o₁, i₁, r] · B[r, o₂, i₂, s] · C[s, o₃, i₃]",
        promise=train_product,
        forms=forms("[M, N] -> [o1, i1, r], [r, o2, i2, s], [s, o3, i3]"),
        source="Oseledets, 2010 and 2011",
        doc="A matrix as a tensor train of three cores; of ranks 1, a Kronecker product of three.",
    ),
)
