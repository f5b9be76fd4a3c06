"""Planted permutations are recovered exactly, independent seeds are not, a canonical order is one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hidden_models import EXPECTED, made
from torch import Tensor, fx, nn
from zoo import ZOO

from tdsl.capture import Captured, capture
from tdsl.errors import TdslError
from tdsl.symmetry.hidden import align, axis_groups, canonical, weights_of, with_weights


def captured(name: str, seed: int = 0) -> Captured:
    torch.manual_seed(seed)
    return capture(*EXPECTED[name][0]())


def planted(found: Captured, seed: int = 1) -> fx.GraphModule:
    """The same function with every group permuted at random."""
    generator = np.random.default_rng(seed)
    weights = weights_of(found.module)
    for group in axis_groups(found):
        weights = weights | group.permute(group.random(generator), weights)
    return with_weights(found.module, weights)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[path], other[path]) for path in one)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_planted_permutation_is_recovered_exactly(name: str) -> None:
    found = captured(name)
    own, other = weights_of(found.module), planted(found)
    assert not same(own, weights_of(other))
    result = align(found, other)
    assert same(own, result.weights)
    assert result.before > 0.1
    assert result.after == 0.0
    assert all(row.matched == 1.0 for row in result.groups)


@pytest.mark.parametrize("name", ["resnet", "vit", "gpt2", "t5", "densenet", "swin"])
def test_planted_in_the_zoo(name: str) -> None:
    model, args, dynamic = ZOO[name]()
    found = capture(model, args, dynamic_shapes=dynamic)
    assert same(weights_of(found.module), align(found, planted(found)).weights)


def test_64_relu_units_by_activations() -> None:
    torch.manual_seed(0)
    found = capture(
        *made(
            lambda m, x: m.b(torch.relu(m.a(x))),
            torch.randn(100, 10),
            a=nn.Linear(10, 64),
            b=nn.Linear(64, 3),
        )
    )
    (group,) = axis_groups(found)
    permutation = np.random.default_rng(0).permutation(64)
    other = with_weights(found.module, weights_of(found.module) | group.permute(permutation))
    inputs = [(torch.randn(100, 10, dtype=torch.float64),) for _ in range(20)]
    result = align(found, other, inputs)
    assert result.after == 0.0
    ((_, inverse),) = result.permutations
    assert np.array_equal(permutation[inverse], np.arange(64))


@pytest.mark.parametrize("name", ["cnn_flatten", "residual", "attention", "transformer"])
def test_by_activations(name: str) -> None:
    found = captured(name)
    generator = torch.Generator().manual_seed(0)
    inputs = [
        tuple(
            torch.randn(x.shape, dtype=x.dtype, generator=generator)
            if x.is_floating_point()
            else torch.randint(0, 11, x.shape, generator=generator)
            for x in found.args
        )
        for _ in range(20)
    ]
    assert align(found, planted(found), inputs).after == 0.0


@pytest.mark.parametrize("name", ["residual", "transformer"])
def test_a_perturbed_copy_is_matched(name: str) -> None:
    found = captured(name)
    other = planted(found)
    generator = torch.Generator().manual_seed(3)
    noisy = {
        path: tensor
        + 0.05 * tensor.std() * torch.randn(tensor.shape, dtype=tensor.dtype, generator=generator)
        for path, tensor in weights_of(other).items()
        if tensor.numel() > 1
    }
    result = align(found, with_weights(other, noisy))
    assert all(row.matched == 1.0 for row in result.groups)
    assert 0.01 < result.after < 0.1 < result.before


@pytest.mark.parametrize("name", ["mlp", "residual", "transformer", "recurrent"])
def test_independent_seeds_do_not_match(name: str) -> None:
    found, other = captured(name), captured(name, seed=1)
    result = align(found, other)
    assert 0.2 < result.after < result.before
    assert np.mean([row.matched for row in result.groups]) < 0.3
    before, after = (module(*other.args) for module in (other.module, result.module))
    with torch.no_grad():
        for a, b in zip(other.flat_outputs(before), other.flat_outputs(after), strict=True):
            assert float((a - b).abs().max() / a.abs().max()) <= 1e-10


def test_other_models_are_refused() -> None:
    with pytest.raises(TdslError, match="different weights"):
        align(captured("mlp"), captured("gated"))
    torch.manual_seed(0)
    narrow, wide = (
        capture(
            *made(
                lambda m, x: m.b(torch.relu(m.a(x))), torch.randn(3, 5), a=nn.Linear(5, n), b=nn.Linear(n, 2)
            )
        )
        for n in (4, 6)
    )
    with pytest.raises(TdslError, match="in the first model and"):
        align(narrow, wide)
    other = capture(
        *made(lambda m, x: m.b(torch.tanh(m.a(x))), torch.randn(3, 5), a=nn.Linear(5, 4), b=nn.Linear(4, 2))
    )
    with pytest.raises(TdslError, match="not the same graph"):
        align(narrow, other)


@pytest.mark.parametrize("name", EXPECTED)
def test_canonical_order_forgets_a_permutation(name: str) -> None:
    found = captured(name)
    one, other = canonical(found), canonical(planted(found))
    assert same(one.weights, other.weights)
    assert not same(one.weights, weights_of(found.module))
    before, after = found.module(*found.args), one.module(*found.args)
    with torch.no_grad():
        for a, b in zip(found.flat_outputs(before), found.flat_outputs(after), strict=True):
            assert float((a - b).abs().max() / a.abs().max()) <= 1e-10


def test_canonical_order_of_equal_units_is_their_own() -> None:
    model, args = EXPECTED["mlp"][0]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
    assert all(
        np.array_equal(p, group.identity()) for group, p in canonical(capture(model, args)).permutations
    )
