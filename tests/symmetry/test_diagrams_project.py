"""Projections on diagrams: what commutes is found exactly, what does not is refused by its distance."""

from __future__ import annotations

import pytest
import torch
from groups_by_chance import elements, power
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tdsl.symmetry.diagrams import basis
from tdsl.symmetry.diagrams.project import Projection, by_channel, project

SIZES = {"S": (2, 3, 4), "A": (2, 3), "O": (2, 3), "SO": (2, 3), "Sp": (2, 4)}
KINDS = st.sampled_from([(family, n) for family, sizes in SIZES.items() for n in sizes])


def drawn(*sizes: int, seed: int = 0) -> Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def planted(family: str, n: int, k: int, l: int, seed: int = 0) -> Tensor:  # noqa: E741
    """A weight of two output and three input channels, channels last."""
    whole = torch.zeros(2 * n**l, 3 * n**k, dtype=torch.float64)
    for place, diagram in enumerate(basis(family, n, k, l)):
        whole += torch.kron(diagram.dense(n), drawn(2, 3, seed=seed + place))
    return whole


def expanded(found: Projection, n: int) -> Tensor:
    """The map of the coefficients, as `project` takes it. → [C_out, n, …, C_in, n, …]"""
    first, channels = found.diagrams[0], found.coefficients.shape[1:]
    parts = zip(found.diagrams, found.coefficients, strict=True)
    whole = sum(torch.einsum("oc,yx->oycx", mix, diagram.dense(n)) for diagram, mix in parts)
    return whole.reshape(channels[0], *[n] * first.outputs, channels[1], *[n] * first.inputs)


def projected(weight: Tensor, family: str, n: int, k: int, l: int) -> Projection:  # noqa: E741
    return project(by_channel(weight, n, k, l, channels_last=True), family, n, k, l)


@given(KINDS, st.integers(0, 2), st.integers(0, 2), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_a_planted_weight_is_found_and_a_perturbed_one_is_not(
    kind: tuple[str, int],
    k: int,
    l: int,  # noqa: E741
    seed: int,
) -> None:
    family, n = kind
    weight = planted(family, n, k, l, seed)
    found = projected(weight, family, n, k, l)
    for place, coefficient in enumerate(found.coefficients):
        torch.testing.assert_close(coefficient, drawn(2, 3, seed=seed + place))
    assert found.residual < 1e-13 and found.coefficients.dtype == torch.float64
    if len(found.diagrams) < n ** (k + l):
        weight[0, -1] += 1
        assert projected(weight, family, n, k, l).residual > 1e-3


@given(KINDS, st.integers(0, 2), st.integers(0, 2), st.integers(0, 99), st.booleans())
@settings(max_examples=40, deadline=None)
def test_it_is_the_nearest_that_commutes(
    kind: tuple[str, int],
    k: int,
    l: int,  # noqa: E741
    seed: int,
    channels_last: bool,
) -> None:
    family, n = kind
    view = by_channel(drawn(2 * n**l, 3 * n**k, seed=seed), n, k, l, channels_last=channels_last)
    found = project(view, family, n, k, l)
    columns = view.movedim(l + 1, 1).reshape(6, -1).T
    nearest = torch.zeros_like(columns)
    if found.diagrams:
        span = torch.stack([d.dense(n).flatten() for d in found.diagrams], 1)
        nearest = span @ torch.linalg.lstsq(span, columns).solution
        torch.testing.assert_close(expanded(found, n).movedim(l + 1, 1).reshape(6, -1).T, nearest)
    assert found.lost == pytest.approx(float((columns - nearest).norm()), abs=1e-12)
    assert found.kept == pytest.approx(float(nearest.norm()), abs=1e-6)


def test_the_projection_on_what_commutes_with_permutations_is_the_mean_over_them() -> None:
    import itertools

    weight = drawn(16, 16)
    view = by_channel(weight, 4, 2, 2, channels_last=True)
    mean = torch.zeros(16, 16, dtype=torch.float64)
    for order in itertools.permutations(range(4)):
        acting = power(torch.eye(4, dtype=torch.float64)[list(order)], 2)
        mean += acting @ weight @ acting.T / 24
    torch.testing.assert_close(expanded(project(view, "S", 4, 2, 2), 4).reshape(16, 16), mean)


def test_means_over_orbits_are_no_coefficients_of_diagrams() -> None:
    """The trap: the two bases of the maps that commute with S(n) differ."""
    from tdsl.symmetry.diagrams.partitions import orbit

    weight = planted("S", 4, 2, 2)[:16, :16]  # one channel is enough
    single = by_channel(planted("S", 4, 2, 2)[::2, ::3], 4, 2, 2, channels_last=True)
    found = project(single, "S", 4, 2, 2)
    taken = torch.zeros(16, 16, dtype=torch.float64)
    for diagram in found.diagrams:
        inside = orbit(diagram.labels, 4).reshape(16, 16)
        taken += diagram.dense(4) * (single.reshape(16, 16) * inside).sum() / inside.sum()
    assert (taken - single.reshape(16, 16)).norm() > 0.1 * weight.norm()
    torch.testing.assert_close(expanded(found, 4), single)


def test_declaring_reflections_takes_the_cross_product_away() -> None:
    cross = by_channel(basis("SO", 3, 2, 1)[0].dense(3), 3, 2, 1, channels_last=True)
    assert project(cross, "SO", 3, 2, 1).residual == 0
    as_orthogonal = project(cross, "O", 3, 2, 1)
    assert as_orthogonal.kept == 0 and as_orthogonal.residual == 1


def test_a_projection_commutes() -> None:
    found = projected(drawn(8, 12), "Sp", 2, 2, 2)
    matrix = expanded(found, 2)[0, ..., 0, :, :].reshape(4, 4)
    assert matrix.norm() > 0.1
    for element in elements("Sp", 2):
        torch.testing.assert_close(power(element, 2) @ matrix, matrix @ power(element, 2))
