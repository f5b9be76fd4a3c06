"""A weight matrix as a sum of Kronecker products of three matrices, which share one index: CP of its digits.

The digits are those of a tensor train, whose ranks are the number of terms where there are such terms; these
are fitted by alternating least squares (`rank_one`). Everything is computed and returned in float64.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tdsl.factor.declare import Decomposition, forms
from tdsl.factor.kronecker import tensor_train
from tdsl.factor.matrix import checked
from tdsl.factor.memo import memoised
from tdsl.factor.network_cuts import Digits
from tdsl.factor.rank import Fixed, RankRule, Ratio, UnreachableRankError, as_rank_rule
from tdsl.factor.rank_one import fit, rebuilt
from tdsl.factor.splits import enough

TRIED = 2
"""So many terms more than the train has ranks are tried: a sum may have more than its cuts show."""
MOST_TERMS = 64
LARGEST = 1 << 20
"""Numbers of the largest weight whose terms are sought."""


def kronecker_terms(weight: Tensor, rank: object) -> tuple[Tensor, Tensor, Tensor]:
    """Σ_r A_r ⊗ B_r ⊗ C_r by alternating least squares (Hitchcock, 1927; Phan et al., 2013).

    [m, n] → A [o₁, i₁, r], B [r, o₂, i₂], C [r, o₃, i₃] with m = o₁·o₂·o₃ and n = i₁·i₂·i₃. `rank` is what
    `as_rank_rule` takes; where no few terms keep a bound, A is the weight itself. Raises what `tensor_train`
    raises, and `UnreachableRankError` for weights of more than `LARGEST` numbers.
    """
    exact, rule = checked(weight, ndim=2), as_rank_rule(rank)
    if exact.numel() > LARGEST:
        raise UnreachableRankError(f"terms of weights of more than {LARGEST} numbers are not sought")
    return _found(exact, rule)


def kronecker_terms_product(first: Tensor, second: Tensor, third: Tensor) -> Tensor:
    """The sum. [o₁, i₁, r], [r, o₂, i₂], [r, o₃, i₃] → [o₁·o₂·o₃, i₁·i₂·i₃]."""
    whole = torch.einsum("air,rbj,rck->abcijk", first, second, third)
    return whole.flatten(0, 2).flatten(1)


@memoised
def _found(weight: Tensor, rule: RankRule) -> tuple[Tensor, Tensor, Tensor]:
    first, middle, last = tensor_train(weight, rule)
    digits = Digits(
        (first.shape[0], middle.shape[1], last.shape[1]), (first.shape[1], middle.shape[2], last.shape[2])
    )
    tensor, sizes = digits.tensor(weight), digits.modes
    fewest = max(first.shape[2], last.shape[0])
    if isinstance(rule, Ratio):
        fewest = max(1, int(rule.fraction * weight.numel()) // sum(sizes))
    elif isinstance(rule, Fixed):
        fewest = rule.rank
    for terms in range(fewest, fewest + (TRIED + 1 if rule.spectral else 1)):
        if rule.spectral and (terms > MOST_TERMS or terms * sum(sizes) >= weight.numel()):
            break
        factors = fit(tensor, terms)
        lost = float((tensor - rebuilt(factors)).norm())
        kept = math.sqrt(max(0.0, float(tensor.norm()) ** 2 - lost**2))
        if not rule.spectral or enough(rule, kept, lost):
            one, two, three = factors
            (o1, o2, o3), (i1, i2, i3) = digits.outputs, digits.inputs
            return (
                one.reshape(o1, i1, terms),
                two.T.reshape(terms, o2, i2).contiguous(),
                three.T.reshape(terms, o3, i3).contiguous(),
            )
    return weight[..., None], weight.new_ones(1, 1, 1), weight.new_ones(1, 1, 1)


DECLARED = (
    Decomposition(
        name="kronecker_terms",
        params=("W", "rank"),
        results=3,
        function=kronecker_terms,
        promise_text="W ≈ Σ_r A[:, :, r] ⊗ B[r] ⊗ C[r]",
        promise=kronecker_terms_product,
        forms=forms("[M, N] -> [o1, i1, r], [r, o2, i2], [r, o3, i3]"),
        source="Hitchcock, 1927; Phan et al., 2013",
        doc="A matrix as a sum of r Kronecker products of three matrices.",
    ),
)
