"""A weighted kernel is decomposed piece by piece as if it were formed; ranks are prefixes of one basis."""

from __future__ import annotations

import pytest
import torch
from data_metrics import gaussian, moment

from tdsl.factor import tucker
from tdsl.factor.memo import MEMORY, digest
from tdsl.factor.moment import root
from tdsl.factor.tucker import Seen, channel_axes, reduced, truncated

KERNEL = gaussian(14, 10, 3, 3)
INPUTS, OUTPUTS = root(moment(10)), root(moment(14, seed=3))
WHOLE = torch.einsum("ts...,tu,sz->uz...", KERNEL, OUTPUTS, INPUTS)


def rebuilt(found: tucker.Tucker) -> torch.Tensor:
    return torch.einsum("tr,rq...,sq->ts...", found.out, found.core, found.into)


@pytest.mark.parametrize("piece", [1, 8 * 14 * 10 * 4, 2**23])
@pytest.mark.parametrize("ranks", [(3, 4), (9, 2), (14, 10)])
def test_the_weighted_kernel_is_approximated_as_if_it_were_formed(monkeypatch, piece, ranks) -> None:
    monkeypatch.setattr(tucker, "PIECE", piece)
    MEMORY.clear()
    formed = rebuilt(truncated(Seen(WHOLE), *ranks))
    apart = rebuilt(truncated(Seen(KERNEL, INPUTS, OUTPUTS), *ranks))
    torch.testing.assert_close(apart, formed, rtol=1e-8, atol=1e-8 * float(WHOLE.abs().max()))
    if ranks == (14, 10):
        torch.testing.assert_close(apart, WHOLE)
    else:
        assert (apart - WHOLE).norm() > 1e-2 * WHOLE.norm()  # there is something to approximate
        blind = rebuilt(truncated(Seen(KERNEL), *ranks))
        assert (blind - formed).norm() > 1e-2 * formed.norm()


def test_gram_matrices_and_decompositions_find_the_same_axes() -> None:
    gram, exact = (channel_axes(KERNEL, INPUTS, OUTPUTS, gram) for gram in (True, False))
    torch.testing.assert_close(gram.out_values, exact.out_values)
    torch.testing.assert_close(gram.into_values, exact.into_values)
    same = (gram.into.T @ exact.into).diagonal().abs()
    assert float(same.min()) > 1 - 1e-6
    assert float((gram.into.T @ exact.into).triu(1).abs().max()) < 1e-4


def test_refinement_among_leading_directions_gains_what_refinement_among_all_does(monkeypatch) -> None:
    def energy(sweeps: int = tucker.HOOI_SWEEPS) -> float:
        return float(truncated(Seen(KERNEL, INPUTS), 3, 2, sweeps).core.square().sum())

    start, chosen = energy(sweeps=0), energy()
    monkeypatch.setattr(tucker, "MARGIN", 100)
    among_all = energy()
    assert chosen > start
    assert chosen > among_all - 0.02 * (among_all - start)


def test_reduction_of_the_inputs_alone_leaves_the_outputs_unweighted() -> None:
    basis = gaussian(10, 4, seed=5)
    expected = torch.einsum("tshw,sz,zq->hwtq", KERNEL, INPUTS, basis).flatten(0, 1)
    torch.testing.assert_close(reduced(Seen(KERNEL, INPUTS, OUTPUTS), None, basis), expected)


def test_a_digest_follows_what_is_written_into_a_tensor() -> None:
    weight = gaussian(4, 4)
    before = digest(weight)
    assert digest(weight) == before
    weight[0, 0] += 1
    assert digest(weight) != before
    weight[0, 0] -= 1
    assert digest(weight) == digest(weight.clone())
    with torch.inference_mode():  # where no version is counted
        written = gaussian(4, 4)
        first = digest(written)
        written += 1
        assert digest(written) != first


def test_less_is_remembered_while_memory_is_limited() -> None:
    MEMORY.clear()
    with MEMORY.limited(100):
        for number in range(5):
            MEMORY.recall(("limited", number), lambda: torch.zeros(20))
        assert len(MEMORY) == 1
    for number in range(5):
        MEMORY.recall(("limited", number), lambda: torch.zeros(20))
    assert len(MEMORY) == 5
    MEMORY.clear()
