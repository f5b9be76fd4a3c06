"""Layers on matrices by their parts: of weights, with two kinds of items, and of space."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tdsl.capture import capture
from tdsl.engine.driver import rewrite
from tdsl.engine.library import standard_library
from tdsl.engine.text import graph_text
from tdsl.symmetry.element import Permutation, identity, kronecker
from tdsl.symmetry.finite import commutant_dimension, reynolds
from tdsl.symmetry.group import product, symmetric
from tdsl.symmetry.representation import Representation


def entries(n: int, m: int) -> Representation:
    """S(n) × S(m) on the entries of n × m matrices."""
    group = product(symmetric(n), symmetric(m))
    rows = [kronecker([g, identity(m)]) for g in symmetric(n).generators]
    columns = [kronecker([identity(n), g]) for g in symmetric(m).generators]
    return Representation(group, "entries", n * m, (*rows, *columns))


def weight_space(n: int, m: int) -> Tensor:
    """a·1 + b·(sums of rows) + c·(sums of columns) + d·(the total), [n·m, n·m] (Navon et al., 2023)."""
    random = torch.Generator().manual_seed(0)
    a, b, c, d = torch.randn(4, generator=random, dtype=torch.float64).tolist()
    unit = [torch.eye(size, dtype=torch.float64) for size in (n, m)]
    ones = [torch.ones(size, size, dtype=torch.float64) for size in (n, m)]
    return sum(
        scale * torch.kron(left, right)
        for scale, left, right in (
            (a, unit[0], unit[1]),
            (b, unit[0], ones[1]),
            (c, ones[0], unit[1]),
            (d, ones[0], ones[1]),
        )
    )


def fires(rule: str, weight: Tensor) -> str | None:
    """The graph that a rule makes of a dense layer of this weight; `None` where it leaves it alone."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False).double()
    layer.weight.data = weight.clone()
    x = torch.randn(3, weight.shape[1], dtype=torch.float64)
    captured = capture(layer.eval(), (x,)).module
    expected = layer(x).detach()
    if not rewrite(captured, [standard_library().rule(f"decompose.diagrams.{rule}", {"least": 1})]):
        return None
    torch.testing.assert_close(captured(x), expected, rtol=1e-9, atol=1e-9)
    return graph_text(captured)


def test_a_layer_on_weight_matrices_has_four_numbers_and_is_found() -> None:
    n, m = 6, 4
    rho = entries(n, m)
    assert commutant_dimension(rho, rho) == 4
    weight = weight_space(n, m)
    torch.testing.assert_close(reynolds(weight, rho, rho), weight)
    assert fires("diagrams_of_two_linear", weight) is not None
    exchanged = Permutation(tuple(i * m + j for j in range(m) for i in range(n))).matrix()
    assert not torch.allclose(reynolds(exchanged @ weight, rho, rho), exchanged @ weight)
    assert fires("diagrams_of_two_linear", exchanged @ weight) is None


def parts() -> list[Tensor]:
    """The projections of 3 × 3 matrices onto multiples of 1, skew ones, and symmetric ones without trace."""
    unit = torch.eye(9, dtype=torch.float64)
    transposed = unit.reshape(3, 3, 9).transpose(0, 1).reshape(9, 9)
    flat = torch.eye(3, dtype=torch.float64).flatten()
    trace = torch.outer(flat, flat) / 3
    return [trace, (unit - transposed) / 2, (unit + transposed) / 2 - trace]


def test_channels_mixed_part_by_part_are_three_diagrams() -> None:
    """TensorNet's layer (Simeon and De Fabritiis, 2023): own weights for each irreducible part."""
    random = torch.Generator().manual_seed(1)
    mixes = torch.randn(3, 8, 8, generator=random, dtype=torch.float64)
    weight = sum(torch.kron(part, mix) for part, mix in zip(parts(), mixes, strict=True))
    assert fires("diagrams_linear", weight) is not None
    across = parts()[0] @ torch.randn(9, 9, generator=random, dtype=torch.float64) @ parts()[1]
    assert float(across.norm()) > 0.1
    assert fires("diagrams_linear", weight + torch.kron(across, mixes[0])) is None
