"""Weights between two actions of one group, places in any order: found without a word about either."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tdsl.capture import capture
from tdsl.engine.explain import explain
from tdsl.engine.library import standard_library
from tdsl.factor.group_places import chosen_places
from tdsl.factor.group_spaces import group_spaces, group_spaces_product, numbers_of_spaces
from tdsl.factor.rank import Error
from tdsl.symmetry.element import Permutation
from tdsl.symmetry.finite import commutant_dimension, reynolds
from tdsl.symmetry.group import alternating, cyclic, dihedral, generated, symmetric
from tdsl.symmetry.representation import Representation, copies, defining, power, regular

TIGHT = Error(1e-6)
FROBENIUS = generated(
    [Permutation(tuple((place + 1) % 7 for place in range(7))), Permutation((0, 2, 4, 6, 1, 3, 5))], "F21"
)
"""x ↦ a·x + b modulo 7, a one of 1, 2, 4."""
PAIRS = generated(
    [Permutation((1, 2, 3, 0, 4, 5, 6, 7, 8, 9)), Permutation((0, 1, 2, 3, 5, 6, 7, 8, 9, 4))], "Z4 × Z6"
)


def planted(out: Representation, inner: Representation, p: int, q: int) -> Tensor:
    """A random weight from places of q channels to places of p channels, both in an order of their own."""
    random = torch.Generator().manual_seed(out.size + inner.size)
    weight = reynolds(
        torch.randn(out.size * p, inner.size * q, generator=random, dtype=torch.float64),
        copies(out, p),
        copies(inner, q),
    )
    rows, columns = (torch.randperm(one.size, generator=random) for one in (out, inner))
    blocks = weight.reshape(out.size, p, inner.size, q)[rows][:, :, columns]
    return blocks.reshape(out.size * p, inner.size * q)


ACTIONS = {
    "A5 on pairs of five points, from itself": (alternating(5), lambda g: power(defining(g), 2), regular),
    "S5 on itself, from pairs": (symmetric(5), regular, lambda g: power(defining(g), 2)),
    "C12 on pairs of its elements, from itself": (cyclic(12), lambda g: power(regular(g), 2), regular),
    "D5 on pairs of five points, from itself": (dihedral(5), lambda g: power(defining(g), 2), regular),
    "F21 on seven points, from itself": (FROBENIUS, defining, regular),
    "F21 on itself": (FROBENIUS, regular, regular),
    "A5 on itself": (alternating(5), regular, regular),
    "Z4 × Z6 on itself": (PAIRS, regular, regular),
}


@pytest.mark.parametrize("name", ACTIONS)
def test_the_actions_of_a_weight_are_read_off_it(name):
    group, out, inner = ACTIONS[name]
    rho_out, rho_in = out(group), inner(group)
    p, q = (10, 12) if rho_out.size * rho_in.size < 1000 else (4, 5)
    weight = planted(rho_out, rho_in, p, q)
    chosen = chosen_places(weight, TIGHT, True, numbers_of_spaces)
    assert chosen is not None
    assert (chosen[0].rows, chosen[0].columns) == (rho_out.size, rho_in.size)
    assert chosen[0].numbers == commutant_dimension(rho_out, rho_in)
    assert torch.allclose(group_spaces_product(*group_spaces(weight, TIGHT)), weight, atol=1e-11)
    random = torch.Generator().manual_seed(1)
    noise = torch.randn(weight.shape, generator=random, dtype=torch.float64)
    for spoilt in (weight + 1e-3 * noise, noise):
        assert chosen_places(spoilt, TIGHT, True, numbers_of_spaces) is None


@pytest.mark.parametrize(
    "group", [FROBENIUS, PAIRS, dihedral(5), alternating(4), symmetric(4)], ids=lambda one: one.name
)
def test_a_group_acts_on_itself(group):
    regular(group).check()  # two words of one element do the same: of F21 they did not, read backwards
    assert commutant_dimension(defining(group), regular(group)) == group.degree


def test_a_weight_of_no_group_is_said_to_have_none():
    layer = nn.Linear(12, 12)
    module = capture(layer, (torch.zeros(2, 12),)).module
    rule = standard_library().rule("decompose.finite.group_linear")
    text = explain(rule, module, 1).render()
    assert "h > 1  // no group permutes places of this weight" in text
