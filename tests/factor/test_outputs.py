"""Truncations by moments of outputs are those by moments of inputs, from fewer numbers."""

from __future__ import annotations

import pytest
import torch
from data_metrics import gaussian, moment, samples

from tdsl.errors import TdslError
from tdsl.factor.matrix import svd
from tdsl.factor.moment import input_error, two_sided_error
from tdsl.factor.outputs import output_svd, two_sided_output_svd
from tdsl.factor.rank import Energy
from tdsl.factor.structure import relative_error
from tdsl.factor.table import DECOMPOSITIONS
from tdsl.factor.whitened import two_sided_svd, whitened_svd

SHAPES = ((10, 60), (14, 10))
"""Fewer outputs than inputs, and more: then C has no part outside the range of the weight."""


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rank", [1, 4, Energy(0.9)])
def test_it_is_what_the_moment_of_the_inputs_gives(shape: tuple[int, int], rank: object) -> None:
    weight, inputs, gradients = gaussian(*shape), moment(shape[1]), moment(shape[0], seed=3)
    outputs = weight @ inputs @ weight.T
    one, other = whitened_svd(weight, inputs, rank), output_svd(weight, outputs, rank)
    assert other[0].shape == one[0].shape
    assert relative_error(one[0] @ one[1], other[0] @ other[1]) < 1e-5
    one = two_sided_svd(weight, inputs, gradients, rank)
    other = two_sided_output_svd(weight, outputs, gradients, rank)
    assert relative_error(one[0] @ one[1], other[0] @ other[1]) < 1e-5
    # Controls: the plain truncation, and moments of other outputs.
    for kept in (svd(weight, 4), output_svd(weight, moment(shape[0], seed=9), 4)):
        assert input_error(weight - kept[0] @ kept[1], inputs) > 1.05 * input_error(
            weight - torch.matmul(*output_svd(weight, outputs, 4)), inputs
        )


@pytest.mark.parametrize(
    ("by_outputs", "of_inputs", "extra"),
    [
        ("output_svd", input_error, ()),
        ("two_sided_output_svd", two_sided_error, (moment(10, seed=3),)),
    ],
)
def test_the_stated_error_is_that_in_the_moment_of_the_inputs(by_outputs, of_inputs, extra) -> None:
    weight, inputs = gaussian(10, 60), moment(60)
    declared = DECOMPOSITIONS[by_outputs]
    known = (weight @ inputs @ weight.T, *extra)
    rebuilt = torch.matmul(*declared.function(weight, *known, 4))
    stated = declared.relative_error(weight, rebuilt, *known)
    real = (of_inputs(weight - rebuilt, inputs, *extra) / of_inputs(weight, inputs, *extra)) ** 0.5
    assert 0.01 < stated < 1
    assert stated == pytest.approx(real, rel=1e-6)


def test_of_few_rows_what_they_never_show_comes_last_and_by_the_weight() -> None:
    weight = gaussian(10, 60)
    x = samples(3, moment(60))
    outputs = (x @ weight.T).T @ (x @ weight.T) / len(x)
    left, right = output_svd(weight, outputs, 3)
    assert relative_error(x @ weight.T, x @ (left @ right).T) < 1e-6
    left, right = output_svd(weight, outputs, 6)
    seen = torch.linalg.qr((x @ weight.T).T).Q
    rest = weight - seen @ (seen.T @ weight)
    assert relative_error(weight, left @ right) == pytest.approx(
        float(torch.linalg.svdvals(rest)[3:].norm() / weight.norm()), rel=1e-3
    )
    whole = output_svd(weight, outputs, 10)
    assert relative_error(weight, whole[0] @ whole[1]) < 1e-12
    assert relative_error(weight, torch.matmul(*output_svd(weight, torch.zeros(10, 10), 4))) == pytest.approx(
        relative_error(weight, torch.matmul(*svd(weight, 4)))
    )


def test_a_large_weight_is_cut_by_random_projection_as_well() -> None:
    """Beyond a thousand outputs a small rank is not taken from the whole decomposition."""
    weight = gaussian(1040, 2) @ gaussian(2, 1060, seed=1) + 1e-4 * gaussian(1040, 1060, seed=2)
    x = gaussian(1060, 40, seed=3) * 0.9 ** torch.arange(40)
    outputs = (weight @ x) @ (weight @ x).T / 40
    left, right = output_svd(weight, outputs, 2)
    assert left.shape == (1040, 2)
    assert relative_error(weight @ x, left @ (right @ x)) < 2e-3


def test_a_moment_of_another_size_is_refused() -> None:
    with pytest.raises(TdslError, match="moment"):
        output_svd(gaussian(10, 60), moment(60), 4)
