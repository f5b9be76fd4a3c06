"""Irreducible spaces of every type, products with few multiplications, and groups read off weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor.group_blocks import group_blocks, group_blocks_product
from tdsl.factor.group_spaces import (
    group_spaces,
    group_spaces_inside,
    group_spaces_inside_product,
    group_spaces_product,
)
from tdsl.factor.group_svd import group_svd
from tdsl.factor.matrix import svd
from tdsl.factor.rank import Energy, Error
from tdsl.symmetry.element import Linear, Permutation
from tdsl.symmetry.finite import defect, reynolds
from tdsl.symmetry.finite.isotypic import isotypic, shared_components
from tdsl.symmetry.finite.products import ALGEBRAS, matrix_product
from tdsl.symmetry.group import Group, alternating, cyclic, dihedral, generated, symmetric
from tdsl.symmetry.representation import Representation, copies, defining, regular

TIGHT = Error(1e-6)


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def quaternions() -> Group:
    """The group of order eight of ±1, ±i, ±j, ±k."""
    i = [[0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, -1], [0, 0, 1, 0]]
    j = [[0, 0, -1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, -1, 0, 0]]
    return generated([Linear(torch.tensor(one, dtype=torch.float64)) for one in (i, j)], "Q8")


GROUPS = {
    "mirror": (cyclic(2), [("real", 1, 1)] * 2, 2),
    "C4": (cyclic(4), [("real", 1, 1)] * 2 + [("complex", 2, 1)], 5),
    "D3": (dihedral(3), [("real", 1, 1)] * 2 + [("real", 2, 2)], 9),
    "D4": (dihedral(4), [("real", 1, 1)] * 4 + [("real", 2, 2)], 11),
    "C7": (cyclic(7), [("real", 1, 1)] + [("complex", 2, 1)] * 3, 10),
    "A4": (alternating(4), [("real", 1, 1), ("complex", 2, 1), ("real", 3, 3)], 31),
    "S4": (symmetric(4), [("real", 1, 1)] * 2 + [("real", 2, 2)] + [("real", 3, 3)] * 2, 63),
    "Q8": (quaternions(), [("real", 1, 1)] * 4 + [("quaternionic", 4, 1)], 12),
}


@pytest.mark.parametrize(("group", "expected", "products"), GROUPS.values(), ids=GROUPS)
class TestGroups:
    def test_spaces_of_the_regular_representation(self, group, expected, products):
        rho = regular(group)
        found = isotypic(rho)
        assert [(c.kind, c.dimension, len(c.copies)) for c in found] == expected
        basis = torch.cat([c.copies.permute(1, 0, 2).flatten(1) for c in found], 1)
        assert torch.allclose(basis.T @ basis, torch.eye(rho.size, dtype=torch.float64), atol=1e-10)
        for component in found:
            for g in rho.generators:
                acts = [copy.T @ g.matrix() @ copy for copy in component.copies]
                assert all(torch.allclose(one, acts[0], atol=1e-10) for one in acts)
                assert all(torch.allclose(acts[0] @ u, u @ acts[0], atol=1e-10) for u in component.units)
            for unit in component.units[1:]:
                assert torch.allclose(unit @ unit, -component.units[0], atol=1e-10)

    def test_a_weight_is_found_without_a_word_about_the_group(self, group, expected, products):
        out, inner = copies(regular(group), 5), copies(regular(group), 6)
        weight = reynolds(gaussian(out.size, inner.size), out, inner)
        factors = group_blocks(weight.float(), TIGHT)
        assert len(factors[0]) == products
        assert factors[1].shape[1:] == (6, 5)
        rebuilt = group_blocks_product(*factors)
        assert float((rebuilt - weight).norm() / weight.norm()) < 1e-6
        assert defect(rebuilt, out, inner) < 1e-12

    def test_low_rank_keeps_the_symmetry(self, group, expected, products):
        out, inner = copies(regular(group), 5), copies(regular(group), 6)
        weight = reynolds(gaussian(out.size, inner.size), out, inner)
        for rule in (Energy(0.7), Error(0.5), 7):
            left, right = group_svd(weight, rule)
            best = svd(weight, right.shape[0])
            lost, least = ((weight - u @ v).norm() for u, v in ((left, right), best))
            assert torch.allclose(lost, least, rtol=1e-9)  # no space is cut, so none is nearer
            assert defect(left @ right, out, inner) < 1e-12


def test_a_plain_decomposition_of_the_same_size_breaks_the_symmetry():
    rho = copies(regular(dihedral(4)), 6)
    weight = reynolds(gaussian(rho.size, rho.size), rho, rho)
    plain = [defect(u @ v, rho, rho) for u, v in (svd(weight, r) for r in range(1, 20))]
    ours = [defect(u @ v, rho, rho) for u, v in (group_svd(weight, r) for r in range(2, 20))]
    assert max(plain) > 1e-2
    assert max(ours) < 1e-12


def held(factors: tuple[Tensor, ...]) -> int:
    """How many numbers the products of channels are."""
    return factors[2].numel() + factors[6].numel()


@pytest.mark.parametrize("name", GROUPS)
def test_one_product_for_each_irreducible_space(name):
    group = GROUPS[name][0]
    # Three products for the two numbers of a complex space, eight for the four of a quaternionic one.
    complex_ways = {"C4": 5, "C7": 10, "A4": 13, "Q8": 12}
    for inside, find, product in (
        (False, group_spaces, group_spaces_product),
        (True, group_spaces_inside, group_spaces_inside_product),
    ):
        out, inner = (copies(regular(group), c, inside=not inside) for c in (5, 6))
        weight = reynolds(gaussian(out.size, inner.size), out, inner)
        factors = find(weight, TIGHT)
        assert held(factors) == 30 * complex_ways.get(name, group.order)
        assert torch.allclose(product(*factors), weight, atol=1e-12)
        other = group_spaces if inside else group_spaces_inside
        assert held(other(weight, TIGHT)) == weight.numel()


def test_a_mirror_of_many_places_is_two_products():
    rho = copies(Representation(cyclic(2), "reversed", 12, (Permutation(tuple(range(11, -1, -1))),)), 3)
    weight = reynolds(gaussian(36, 36), rho, rho)
    factors = group_spaces(weight, TIGHT)
    assert held(factors) == weight.numel() / 2
    assert torch.allclose(group_spaces_product(*factors), weight, atol=1e-12)


def table(n: int, m: int, wreath: bool) -> Tensor:
    """A layer of two channels on n × m places in an unknown order, that treats all n alike, and all m."""
    random = torch.Generator().manual_seed(n)
    one, other = torch.eye(n, dtype=torch.float64), torch.eye(m, dtype=torch.float64)
    parts = [(one, other), (one, torch.ones_like(other)), (torch.ones_like(one), torch.ones_like(other))]
    parts += [] if wreath else [(torch.ones_like(one), other)]
    rows, columns = (torch.randperm(n * m, generator=random) for _ in range(2))
    return sum(
        torch.kron(torch.kron(a, b)[rows][:, columns], gaussian(2, 2, seed=place))
        for place, (a, b) in enumerate(parts)
    )


@pytest.mark.parametrize("wreath", [False, True])
def test_the_places_of_a_table_in_any_order(wreath):
    weight = table(12, 15, wreath)
    factors = group_spaces(weight.float(), TIGHT)
    assert held(factors) == (3 if wreath else 4) * 4  # a product at each place, and sums of rows and columns
    assert len(factors[0]) == (12 if wreath else 26)
    assert torch.allclose(group_spaces_product(*factors), weight, atol=1e-6)
    for spoilt in (weight + 1e-3 * gaussian(360, 360), gaussian(360, 360)):
        assert held(group_spaces(spoilt, TIGHT)) == weight.numel()
    weight[7, 9] += 1
    changed = group_spaces(weight, TIGHT)  # what leaves the entry where it is still commutes
    assert torch.allclose(group_spaces_product(*changed), weight, atol=1e-9)


def test_places_that_change_their_sign():
    rho = copies(regular(dihedral(4)), 4)
    weight = reynolds(gaussian(32, 32), rho, rho)
    signs = torch.tensor([1.0, -1, -1, 1, 1, 1, -1, 1], dtype=torch.float64).repeat_interleave(4)
    factors = group_spaces(signs[:, None] * weight, TIGHT)
    assert held(factors) == weight.numel() / 8
    assert torch.allclose(group_spaces_product(*factors), signs[:, None] * weight, atol=1e-12)


class TestDetection:
    def test_the_order_of_the_elements_does_not_matter(self):
        rho = copies(regular(dihedral(4)), 4)
        weight = reynolds(gaussian(32, 32), rho, rho)
        rows, columns = (torch.randperm(8, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
        shuffled = weight.reshape(8, 4, 8, 4)[rows][:, :, columns].reshape(32, 32)
        assert len(group_blocks(shuffled, TIGHT)[0]) == 11

    def test_the_action_need_not_be_free(self):
        group = dihedral(4)
        corners, square = copies(defining(group), 6), copies(regular(group), 6)
        weight = reynolds(gaussian(square.size, corners.size), square, corners)
        factors = group_blocks(weight, TIGHT)
        assert sum(f.numel() for f in factors) < weight.numel() / 2
        assert torch.allclose(group_blocks_product(*factors), weight, atol=1e-12)

    @pytest.mark.parametrize("noise", [1.0, 1e-3])
    def test_what_has_no_group_or_nearly_has_one_is_left_alone(self, noise):
        rho = copies(regular(dihedral(4)), 6)
        weight = reynolds(gaussian(48, 48), rho, rho)
        weight = weight + noise * float(weight.std()) * gaussian(48, 48, seed=1)
        assert len(group_blocks(weight, TIGHT)[0]) == 1
        assert len(group_blocks(weight, Error(1e-2))[0]) == (11 if noise < 1e-2 else 1)

    def test_one_entry_more_is_noticed(self):
        rho = copies(regular(cyclic(4)), 8)
        weight = reynolds(gaussian(32, 32), rho, rho)
        assert len(group_blocks(weight, TIGHT)[0]) == 5
        weight[17, 9] += 1e-3
        assert len(group_blocks(weight, TIGHT)[0]) == 1


# ---------------------------------------------------------------- products


@pytest.mark.parametrize(
    ("sizes", "count"), [((2, 2, 2), 7), ((4, 4, 4), 49), ((2, 4, 6), 42), ((3, 3, 3), 27)]
)
def test_matrices_in_few_multiplications(sizes, count):
    rows, inner, columns = sizes
    ways = matrix_product(*sizes)
    a, b = gaussian(rows, inner), gaussian(inner, columns, seed=1)
    assert len(ways) == count
    assert torch.allclose(ways(a.flatten(), b.flatten()), (a @ b).flatten(), atol=1e-12)


def test_complex_numbers_in_three_and_quaternions_in_eight():
    x, y = gaussian(2), gaussian(2, seed=1)
    product = torch.view_as_real(torch.view_as_complex(x) * torch.view_as_complex(y))
    assert len(ALGEBRAS[2]) == 3 and torch.allclose(ALGEBRAS[2](x, y), product)
    (a, b, c, d), (e, f, g, h) = q, p = gaussian(4), gaussian(4, seed=1)
    left_first = torch.stack(
        [
            a * e - b * f - c * g - d * h,
            a * f + b * e + c * h - d * g,
            a * g - b * h + c * e + d * f,
            a * h + b * g - c * f + d * e,
        ]
    )
    assert len(ALGEBRAS[4]) == 8
    assert torch.allclose(ALGEBRAS[4](p, q), left_first)
    assert not torch.allclose(ALGEBRAS[4](q, p), left_first)


def test_spaces_in_common_have_one_action():
    group = dihedral(4)
    pairs = shared_components(regular(group), defining(group))
    assert [(i.dimension, len(i.copies), len(o.copies)) for i, o in pairs] == [
        (1, 1, 1),
        (1, 1, 1),
        (2, 2, 1),
    ]
    for inner, out in pairs:
        for a, b in zip(regular(group).generators, defining(group).generators, strict=True):
            first, second = (x.copies[0].T @ g.matrix() @ x.copies[0] for x, g in ((inner, a), (out, b)))
            assert torch.allclose(first, second, atol=1e-10)


def test_what_is_not_orthogonal_is_an_error():
    sheared = Linear(torch.tensor([[1.0, 1.0], [0.0, -1.0]]))
    with pytest.raises(TdslError, match="not orthogonal"):
        isotypic(Representation(cyclic(2), "sheared", 2, (sheared,)))
    assert isotypic(Representation(cyclic(2), "swap", 2, (Permutation((1, 0)),)))


# ---------------------------------------------------------------- trained nets


def shares_of_spaces(shuffled: bool) -> tuple[Tensor, Tensor]:
    """A net is trained on all sums modulo 7; the largest share of its hidden units in one space, and place.

    Of each unit, a vector of seven weights: in one irreducible space of the cyclic group, and at
    one of the places. `shuffled` draws the sums in another order, which no group has.
    """
    n, units = 7, 48
    random = torch.Generator().manual_seed(0)
    a, b = (one.flatten() for one in torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij"))
    sums = (a + b) % n
    sums = sums[torch.randperm(n * n, generator=random)] if shuffled else sums
    first, second, last = ((0.3 * torch.randn(n, units, generator=random)).requires_grad_() for _ in range(3))
    optimiser = torch.optim.Adam([first, second, last], lr=0.02)
    for _ in range(900):
        scores = (first[a] + second[b]).square() @ last.T
        size = sum(one.square().sum() for one in (first, second, last))
        loss = torch.nn.functional.cross_entropy(scores, sums) + 3e-4 * size
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert bool((scores.argmax(1) == sums).all())
    weights = first.detach().double()
    spaces = [c.copies.permute(1, 0, 2).flatten(1) for c in isotypic(regular(cyclic(n)))]
    inside = torch.stack([(space.T @ weights).square().sum(0) for space in spaces[1:]])  # of what varies
    energy = inside.sum(0)
    used = energy > 1e-2 * energy.max()
    places = (weights - weights.mean(0)).square()
    return (inside.amax(0) / energy)[used].mean(), (places.amax(0) / places.sum(0))[used].mean()


def test_a_net_that_learned_a_group_has_units_of_one_irreducible_space():
    """Of modular addition (Nanda et al., 2023; Morwani et al., 2024); other sums have no such spaces."""
    space, place = shares_of_spaces(shuffled=False)
    assert space > 0.9 and place < 0.5
    assert shares_of_spaces(shuffled=True)[0] < 0.75
