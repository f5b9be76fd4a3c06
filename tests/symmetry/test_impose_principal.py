"""Principal prefixes: inner products at full width, the energy lost below it, one layer in the file."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import tdsl
from tdsl.errors import TdslError
from tdsl.symmetry.group import orthogonal
from tdsl.symmetry.impose import PrincipalPrefix


def encoder(rank: int = 12, turn: Tensor | None = None) -> nn.Sequential:
    """Twelve outputs of which the last layer uses `rank` directions, in no good coordinates."""
    generator = torch.Generator().manual_seed(0)
    module = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 12)).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / 3)
        decay = 0.6 ** torch.arange(12, dtype=torch.float64) * (torch.arange(12) < rank)
        mix = orthogonal(12).sample(1, 5)[0] * decay
        mix = mix if turn is None else turn @ mix
        module[2].weight.copy_(mix @ module[2].weight)
        module[2].bias.copy_(mix @ module[2].bias)
    return module.requires_grad_(False)


def batches(count: int, seed: int = 1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(50, 8, generator=generator, dtype=torch.float64) for _ in range(count)]


DATA = batches(8)
ALL = torch.cat(DATA)


def gram(z: Tensor) -> Tensor:
    return z @ z.T


def test_at_full_width_inner_products_are_what_they_were() -> None:
    prefix = PrincipalPrefix(encoder(), DATA)
    x = torch.cat(batches(2, seed=3))
    torch.testing.assert_close(gram(prefix(x)), gram(encoder()(x)), rtol=0, atol=1e-12)
    assert prefix.lost == 0
    assert not torch.allclose(prefix(x), encoder()(x), atol=0.1)  # it does change what the outputs mean


@pytest.mark.parametrize("width", [2, 4, 8])
def test_a_prefix_loses_the_energy_beyond_it_and_less_than_a_slice(width: int) -> None:
    prefix, whole = PrincipalPrefix(encoder(), DATA, width), encoder()(ALL)
    missed = 1 - float(prefix(ALL).square().sum() / whole.square().sum())
    assert prefix.lost == pytest.approx(missed, rel=1e-9)
    sliced = 1 - float(whole[:, :width].square().sum() / whole.square().sum())
    assert 0 < prefix.lost < 0.5 * sliced
    longer = PrincipalPrefix(encoder(), DATA)
    torch.testing.assert_close(longer(ALL)[:, :width], prefix(ALL), rtol=0, atol=1e-12)


def test_outputs_of_few_directions_lose_nothing() -> None:
    prefix = PrincipalPrefix(encoder(rank=3), DATA, 3)
    x = torch.cat(batches(2, seed=3))
    torch.testing.assert_close(gram(prefix(x)), gram(encoder(rank=3)(x)), rtol=0, atol=1e-12)
    assert PrincipalPrefix(encoder(rank=4), DATA, 3).lost > 1e-6


def test_encoders_that_differ_by_a_rotation_have_the_same_coordinates() -> None:
    turned = encoder(turn=orthogonal(12).sample(1, 7)[0])
    one, other = PrincipalPrefix(encoder(), DATA, 5)(ALL), PrincipalPrefix(turned, DATA, 5)(ALL)
    torch.testing.assert_close(one.abs(), other.abs(), rtol=0, atol=1e-9)


def test_centring_keeps_distances() -> None:
    prefix = PrincipalPrefix(encoder(), DATA, centred=True)
    torch.testing.assert_close(
        torch.cdist(prefix(ALL), prefix(ALL)), torch.cdist(encoder()(ALL), encoder()(ALL)), rtol=0, atol=1e-6
    )
    assert prefix(ALL).mean(0).abs().max() < 1e-12


def test_the_file_has_one_smaller_layer_and_no_slice() -> None:
    prefix = PrincipalPrefix(encoder(), DATA, 4).float()
    result = tdsl.compile(prefix, (ALL[:3].float(),), latency=False)
    weights = sorted(tuple(p.shape) for p in result.module.parameters() if p.ndim == 2)
    assert weights == [(4, 16), (16, 8)]


def test_mistakes_are_said() -> None:
    with pytest.raises(TdslError, match="13 of 12"):
        PrincipalPrefix(encoder(), DATA, 13)
    with pytest.raises(TdslError, match="of nothing"):
        PrincipalPrefix(encoder(), [])
    with pytest.raises(TdslError, match=r"\[1, 50, 12\]"):
        PrincipalPrefix(encoder(), [DATA[0][None]])
    with pytest.raises(TdslError, match="a batch of data is a tuple"):
        PrincipalPrefix(encoder(), [(DATA[0],)])  # type: ignore[list-item]
    with pytest.raises(TdslError, match="not finite"):
        PrincipalPrefix(encoder(), [DATA[0] * math.nan])
