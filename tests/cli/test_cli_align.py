"""`tdsl align`: groups of a model, and a checkpoint in the order of another, written whole or not at all."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from tdsl.capture.spec_file import capture_spec
from tdsl.symmetry.hidden import axis_groups, weights_of


@pytest.fixture
def shuffled(folder):
    """The weights of `tiny.py:model`, its sixteen hidden units in another order, and the permutation."""
    captured = capture_spec("tiny.py:model")
    (group,) = axis_groups(captured)
    permutation = torch.randperm(16, generator=torch.Generator().manual_seed(0)).numpy()
    weights = weights_of(captured.module) | group.permute(permutation)
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, "shuffled.safetensors")
    return weights_of(captured.module)


def test_groups_of_a_model(tdsl):
    outcome = tdsl("align", "tiny.py:model", "--pinned")
    assert outcome.status == 0
    assert outcome.out.splitlines()[2].split() == ["first.weight[0]", "16", "3"]
    assert "1 group\n" in outcome.out
    assert "second.weight[0]: output: a graph output" in outcome.out


def test_groups_as_json(tdsl):
    found = tdsl("align", "tiny.py:model", "--json", "--pinned").json
    assert found["format"] == "tdsl-align/1"
    (group,) = found["groups"]
    assert (group["size"], group["blocks"]) == (16, [])
    assert {"weight": "second.weight", "axis": 1, "places": "*"} in group["members"]
    assert {pin["weight"] for pin in found["pinned"]} == {"first.weight", "second.weight", "second.bias"}


def test_a_shuffled_checkpoint_comes_back(tdsl, shuffled):
    outcome = tdsl("align", "tiny.py:model", "shuffled.safetensors", "-o", "back.safetensors")
    assert outcome.status == 0
    assert "100 %" in outcome.out
    assert outcome.err == "wrote back.safetensors\n"
    back = load_file("back.safetensors")
    assert set(back) == set(shuffled)
    assert all(torch.equal(back[name], tensor) for name, tensor in shuffled.items())


def test_matched_by_what_units_compute(tdsl, shuffled):
    found = tdsl(
        "align", "tiny.py:model", "shuffled.safetensors", "--inputs", "tiny.py:samples", "--json"
    ).json
    assert found["before"] > 0.5
    assert found["after"] == 0.0


def test_what_the_file_has_besides_is_kept(tdsl, shuffled):
    tensors = load_file("shuffled.safetensors") | {"steps": torch.tensor([3])}
    save_file({name: tensor.double() for name, tensor in tensors.items()}, "more.safetensors")
    assert tdsl("align", "tiny.py:model", "more.safetensors", "-o", "back.safetensors").status == 0
    back = load_file("back.safetensors")
    assert back["steps"].tolist() == [3.0]
    assert back["first.weight"].dtype == torch.float64


def test_two_models_and_a_program(tdsl):
    outcome = tdsl("align", "tiny.py:model", "tiny.py:other", "-o", "aligned.pt2", "--json")
    assert outcome.status == 0
    found = outcome.json
    assert 0 < found["after"] < found["before"]
    assert found["groups"][0]["matched"] < 0.5
    assert tdsl("check", "tiny.py:other", "aligned.pt2").status == 0
    again = tdsl("align", "tiny.py:model", "aligned.pt2", "-o", "again.safetensors", "--json").json
    assert again["before"] == again["after"] == pytest.approx(found["after"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tiny.py:model", "-o", "x.pt2"], "nothing to align"),
        (["tiny.py:model", "tiny.py:other", "-o", "x.onnx"], "no form that can be written"),
        (["tiny.py:model", "missing.safetensors"], "there is no file"),
        (["tiny.py:model", "small.safetensors"], "has no weight first.bias"),
        (["tiny.py:model", "wide.safetensors"], "first.weight is [16, 8] in the model"),
        (["tiny.py:model", "tiny.py"], "names no function"),
    ],
)
def test_mistakes(tdsl, folder, arguments, message):
    save_file({"first.weight": torch.zeros(16, 8)}, "small.safetensors")
    save_file({"first.weight": torch.zeros(16, 9), "first.bias": torch.zeros(16)}, "wide.safetensors")
    outcome = tdsl("align", *arguments)
    assert outcome.status == 1
    assert message in outcome.err
    assert not (folder / "x.pt2").exists()
