"""Second moments of what layers of a file are applied to: patches, padding, memory, few samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from quantising import X, normal, product
from torch.nn import functional

import tdsl.emit.moments
from tdsl.emit.moments import Asked, Samples, _patches, moments, shrunk
from tdsl.emit.reads import Patches


@pytest.mark.parametrize(
    "how",
    [
        Patches((3,), (2,), (1,), (1, 0)),
        Patches((5,), (1,), (2,), (4, 4)),
        Patches((3, 2), (1, 2), (2, 1), (1, 0, 2, 3)),
        Patches((1, 1), (1, 1), (1, 1), (0, 0, 0, 0)),
    ],
)
def test_patches_are_what_a_convolution_multiplies_by_its_kernels(how):
    axes = len(how.kernel)
    x, kernels = torch.randn(2, 4, *(13, 11)[:axes]), torch.randn(6, 4, *how.kernel)
    around = [
        side
        for pair in zip(how.pads[axes - 1 :: -1], how.pads[: axes - 1 : -1], strict=True)
        for side in pair
    ]
    convolution = functional.conv1d if axes == 1 else functional.conv2d
    expected = convolution(functional.pad(x, around), kernels, stride=how.strides, dilation=how.dilations)
    found = torch.from_numpy(_patches(x, how)) @ kernels.reshape(6, -1).T
    assert torch.allclose(found, expected.flatten(2).transpose(1, 2).reshape(-1, 6), atol=1e-5)


def test_padding_is_left_out_of_what_a_layer_is_applied_to():
    model = product(normal(16, 20))
    x, mask = torch.from_numpy(normal(2, 3, 16)), torch.tensor([[1, 1, 0], [1, 0, 0]])
    x[mask == 0] = 1e6
    asked = [Asked(X, 16)]
    [found] = moments(model, Samples([{X: x.reshape(6, 16), "mask": mask}], [mask != 0]), asked)
    kept = x[mask == 1].double().numpy()
    assert np.allclose(np.diag(found[asked[0]]), (kept**2).mean(0))
    [all_of_them] = moments(model, Samples([{X: x.reshape(6, 16)}]), asked)
    assert np.diag(all_of_them[asked[0]]).min() > 1e6


def test_what_does_not_fit_at_once_is_summed_in_further_passes(monkeypatch):
    model = product(normal(16, 20))
    batches = [{X: torch.from_numpy(normal(7, 16, seed=seed))} for seed in range(3)]
    asked = [Asked(X, 16), Asked("y", 20), Asked(X, 16)]
    [together] = moments(model, Samples(batches), asked)
    monkeypatch.setattr(tdsl.emit.moments, "MEMORY", 8 * 20**2)
    first, second = moments(model, Samples(batches), asked)
    assert set(together) == set(asked) and len(first) == len(second) == 1
    for one, found in {**first, **second}.items():
        assert np.array_equal(found, together[one])
    monkeypatch.setattr(tdsl.emit.moments, "LARGEST", 16)
    assert [set(found) for found in moments(model, Samples(batches), asked)] == [{Asked(X, 16)}]


def test_few_vectors_say_little_about_correlations():
    moment = np.array([[2.0, 1.5], [1.5, 3.0]])
    assert np.array_equal(np.diag(shrunk(moment, 1)), [2.0, 3.0])
    few, many = shrunk(moment, 1)[0, 1], shrunk(moment, 10**6)[0, 1]
    assert few < 1.3 and many == pytest.approx(1.5, rel=1e-5)
