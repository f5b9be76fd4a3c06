"""`tdsl merge`: checkpoints made one, written whole or not at all; what does not fit together is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tdsl.capture.spec_file import capture_spec
from tdsl.symmetry.hidden import axis_groups, weights_of


@pytest.fixture
def checkpoints(folder):
    """Three files of weights near those of `tiny.py:model`, the third with its units in another order."""
    captured = capture_spec("tiny.py:model")
    generator = torch.Generator().manual_seed(0)
    for name in ("a", "b"):
        tensors = {
            path: tensor + 0.03 * torch.randn(tensor.shape, generator=generator)
            for path, tensor in weights_of(captured.module).items()
        }
        save_file({**tensors, "steps": torch.tensor([3])}, f"{name}.safetensors")
    (group,) = axis_groups(captured)
    order = torch.randperm(16, generator=generator).numpy()
    save_file(tensors | group.permute(order, tensors), "shuffled.safetensors")


SAMPLES = ("--samples", "tiny.py:samples")


def test_two_files_of_weights(tdsl, checkpoints):
    outcome = tdsl(
        "merge", "a.safetensors", "b.safetensors", "--model", "tiny.py:model", *SAMPLES, "-o", "m.safetensors"
    )
    assert outcome.status == 0
    assert "first.weight + first.bias" in outcome.out
    assert "b.safetensors" in outcome.out
    assert outcome.err == "wrote m.safetensors\n"
    a, b, merged = (load_file(f"{name}.safetensors") for name in "abm")
    assert set(merged) == set(a)
    assert merged["steps"].tolist() == [3]
    average = {name: (a[name] + b[name]) / 2 for name in a}
    torch.testing.assert_close(merged["first.weight"], average["first.weight"])  # of the same inputs
    apart = (merged["second.weight"] - average["second.weight"]).norm()
    assert 0.01 < apart / (a["second.weight"] - b["second.weight"]).norm() < 1


def test_a_model_and_its_own_weights_are_left_as_they_are(tdsl, folder):
    model = capture_spec("tiny.py:model").user_model
    save_file(model.state_dict(), "same.safetensors")
    found = tdsl("merge", "tiny.py:model", "same.safetensors", *SAMPLES, "-o", "m.safetensors", "--json").json
    assert (found["format"], found["equal"], found["weights"]) == ("tdsl-merge/1", 4, [])
    assert found["written"] == "m.safetensors"
    assert all(torch.equal(load_file("m.safetensors")[name], t) for name, t in model.state_dict().items())


def test_another_order_is_refused_or_aligned(tdsl, checkpoints, folder):
    arguments = ("merge", "a.safetensors", "shuffled.safetensors", "--model", "tiny.py:model", *SAMPLES)
    refused = tdsl(*arguments, "-o", "m.safetensors")
    assert refused.status == 1
    assert "16 of first.weight[0] would have to move" in refused.err
    assert not (folder / "m.safetensors").exists()
    aligned = tdsl(*arguments, "--align", "--json").json
    plain = tdsl(
        "merge", "a.safetensors", "b.safetensors", "--model", "tiny.py:model", *SAMPLES, "--json"
    ).json
    assert aligned["tasks"][0]["merged"] == pytest.approx(plain["tasks"][0]["merged"], rel=1e-3)
    spoiled = tdsl(*arguments, "--no-align", "--by", "average")
    assert spoiled.status == 0
    assert "warning: on the samples of a.safetensors the merged model is" in spoiled.err


def test_a_program_that_compiles(tdsl, checkpoints):
    outcome = tdsl("merge", "tiny.py:model", "b.safetensors", *SAMPLES, "-o", "m.pt2")
    assert outcome.status == 0
    assert tdsl("merge", "m.pt2", "b.safetensors", "--by", "average").status == 0
    assert tdsl("check", "tiny.py:model", "m.pt2", "--contract", "error <= 50%").status == 0
    assert tdsl("check", "tiny.py:model", "m.pt2").status == 1


def test_samples_that_are_no_numbers_are_named_with_their_model(tdsl, checkpoints, folder):
    good = torch.ones(6, 2, 8)
    bad = good.clone()
    bad[4, 1, 2] = torch.nan
    np.savez("good.npz", x=good.numpy())
    np.savez("bad.npz", x=bad.numpy())
    arguments = (
        "merge",
        "a.safetensors",
        "b.safetensors",
        "--model",
        "tiny.py:model",
        "--samples",
        "good.npz",
    )
    refused = tdsl(*arguments, "--samples", "bad.npz", "-o", "m.safetensors")
    assert refused.status == 1
    assert "on sample 5 of b.safetensors: its input x holds NaN" in refused.err
    assert not (folder / "m.safetensors").exists()
    assert tdsl(*arguments, "--samples", "good.npz").status == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tiny.py:model"], "1 model to merge"),
        (["a.safetensors", "b.safetensors"], "do not say which model"),
        (["tiny.py:model", "a.safetensors"], "no samples, and merging by gram"),
        (["tiny.py:model", "a.safetensors", "-o", "x.onnx"], "no form that can be written"),
        (["tiny.py:model", "a.safetensors", "--by", "median"], "no way to merge"),
        (["tiny.py:model", "missing.safetensors", "--by", "average"], "there is no file"),
    ],
)
def test_mistakes(tdsl, checkpoints, arguments, message):
    outcome = tdsl("merge", *arguments)
    assert outcome.status == 1
    assert message in outcome.err
