"""`tdsl check` and `tdsl explain`, and what `tdsl show` says of a file."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import nn

from tdsl.capture import capture
from tdsl.emit import emit, save


def write(name, model, *args, **options):
    save(emit(capture(model.eval(), args, **options)), name)


@pytest.fixture(scope="module")
def built(tmp_path_factory, models):
    """A folder with the model of `tiny.py` as a `.pt2` and as an `.onnx` file."""
    folder = tmp_path_factory.mktemp("built")
    model, args, shapes = models["model"]()
    save(emit(capture(model, args, dynamic_shapes=shapes)), folder / "tiny.onnx")
    torch.export.save(torch.export.export(model, args, dynamic_shapes=shapes), folder / "tiny.pt2")
    return folder


@pytest.fixture
def compiled(folder, built):
    """Both files in the working directory."""
    for path in built.iterdir():
        shutil.copy(path, folder)


def test_a_model_and_its_file_agree_in_every_form(tdsl, compiled):
    names = ("tiny.py:model", "tiny.pt2", "tiny.onnx")
    for a, b in [(names[0], names[2]), (names[2], names[1]), (names[2], names[2])]:
        outcome = tdsl("check", a, b)
        first = " ".join(outcome.out.split())
        assert outcome.status == 0
        assert first.startswith(f"PASSED {b} against {a}: it equals the original up to rounding")


def test_another_model_does_not_agree(tdsl, compiled):
    outcome = tdsl("check", "tiny.py:other", "tiny.onnx")
    assert outcome.status == 1
    assert outcome.out.startswith(
        "FAILED  tiny.onnx against tiny.py:other: they differ by more than they may\n"
    )


def test_a_contract_replaces_rounding(tdsl, compiled):
    found = tdsl("check", "tiny.py:other", "tiny.onnx", "--contract", "error <= 1000%", "--json")
    assert found.status == 0
    assert list(found.json) == ["format", "a", "b", "correctness", "notes", "seeds"]
    [promise] = found.json["correctness"]["contract"]
    assert (promise["bound"], promise["kept"]) == ("error <= 10", True)
    broken = tdsl("check", "tiny.py:other", "tiny.onnx", "--contract", "cosine >= 0.99", "--json")
    assert (broken.status, broken.json["correctness"]["passed"]) == (1, False)


def test_given_inputs_are_judged(tdsl, compiled):
    found = tdsl("check", "tiny.py:model", "tiny.onnx", "--inputs", "tiny.py:samples", "--json").json
    assert (found["correctness"]["judged_on"], found["correctness"]["judged_samples"]) == ("held-out", 8)


def test_files_with_integers_need_samples(tdsl, folder):
    ids = torch.zeros(2, 3, dtype=torch.int64)
    write("ids.onnx", nn.Embedding(5, 4), ids)
    refused = tdsl("check", "ids.onnx", "ids.onnx")
    assert refused.status == 1
    assert refused.err == (
        "error: ids.onnx does not say which integers its inputs may hold\n"
        "  hint: give samples with --inputs, or a PyTorch model as one of the two\n"
    )
    text = "import torch\ndef ids(): return [torch.tensor([[0, 1, 2], [2, 3, 4]])]\n"
    (folder / "ids.py").write_text(text, encoding="utf-8")
    assert tdsl("check", "ids.onnx", "ids.onnx", "--inputs", "ids.py:ids").status == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nosuch.onnx"], "error: there is no file nosuch.onnx\n"),
        (["junk.onnx"], "error: junk.onnx is not an ONNX file\n"),
        (["folder.onnx"], "error: folder.onnx is a directory\n"),
        (["lossy.tdsl"], "error: lossy.tdsl is no model\n"),
        (["tiny.py:model", "--contract", "eror <= 1"], "error: unknown metric 'eror'\n"),
        (["tiny.py:model", "--contract", "small"], "error: 'small' is not a bound\n"),
        (["tiny.py:model", "--inputs", "nosuch.npz"], "error: there is no file nosuch.npz\n"),
    ],
)
def test_mistakes_are_one_message(tdsl, folder, arguments, expected):
    (folder / "junk.onnx").write_bytes(b"junk")
    (folder / "folder.onnx").mkdir()
    outcome = tdsl("check", "tiny.py:model", *arguments)
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.startswith(expected)


def test_models_with_different_inputs_or_outputs_are_refused(tdsl, folder):
    class Two(nn.Module):
        def forward(self, x):
            return x + 1, x - 1

    write("two.onnx", Two(), torch.randn(2, 8))
    assert (
        tdsl("check", "tiny.py:model", "two.onnx").err == "error: tiny.py:model has 1 outputs, two.onnx 2\n"
    )
    write("three.onnx", nn.Linear(3, 4), torch.randn(2, 3))
    outcome = tdsl("check", "tiny.py:model", "three.onnx")
    assert outcome.status == 1
    assert "Traceback" not in outcome.err


# ---------------------------------------------------------------- show


def test_show_summarises_a_file(tdsl, compiled):
    outcome = tdsl("show", "tiny.onnx")
    head, *lines = outcome.out.splitlines()
    assert head.startswith("ONNX opset ")
    assert head.endswith(", made by tdsl")
    assert lines[:2] == ["input   x: float32[batch, 8]", "output  output: float32[batch, 4]"]
    assert "      2  Gemm" in lines
    assert "  float32       212 elements in 4 tensors" in lines
    found = tdsl("show", "tiny.onnx", "--json").json
    assert found["operators"] == {"Gemm": 2, "Relu": 1}
    assert found["weights"] == [{"dtype": "float32", "tensors": 4, "elements": 212}]


# ---------------------------------------------------------------- explain


def test_explain_says_in_which_state_the_graph_is(tdsl):
    first = tdsl("explain", "double_relu", "tiny.py:model").out.splitlines()[0]
    assert first == "// tiny.py:model, after cleanup.* without this rule, 1 rewrite"
    first = tdsl("explain", "svd_linear", "tiny.py:model", "--no-cleanup").out.splitlines()[0]
    assert first == "// tiny.py:model, as captured"


def test_explain_shows_where_a_rule_fires(tdsl):
    outcome = tdsl("explain", "dropout_at_inference", "tiny.py:model")
    assert outcome.status == 0
    assert "cleanup.identity.dropout_at_inference fires at 1 of 1 candidate" in outcome.out
    assert "in drop, tiny.py:14" in outcome.out


def test_explain_asks_for_calibration_data_and_says_what_stands_in_the_way_with_them(tdsl):
    without = tdsl("explain", "whitened_linear", "tiny.py:model").out
    assert "fires nowhere" in without and "covariance needs calibration data" in without
    at = without.index("(U: [m, r], V: [r, n]) = whitened_svd(W, covariance(x), rank)")
    assert (
        without[at:].splitlines()[1].lstrip().startswith("^^^")
    )  # the definition that asks, not the right side
    data = ("--calibration", "tiny.py:samples")
    two = tdsl("explain", "whitened_linear", "tiny.py:model", *data, "--set", "rank=2").out
    assert "fires at 2 of 2" in two
    too_many = tdsl("explain", "whitened_linear", "tiny.py:model", *data, "--set", "rank=8").out
    assert "fires nowhere" in too_many and "192 < 128 is false" in too_many


@pytest.mark.parametrize(("option", "value"), [("--mask", "x"), ("--loss", "mse_loss")])
def test_explain_refuses_what_is_about_calibration_data_without_any(tdsl, option, value):
    refused = tdsl("explain", "whitened_linear", "tiny.py:model", option, value)
    assert refused.status == 1 and f"{option} is about calibration data" in refused.err


def test_explain_as_json(tdsl):
    found = tdsl("explain", "double_relu", "tiny.py:model", "--limit", "1", "--json").json
    assert list(found)[:4] == ["format", "model", "rule", "state"]
    assert (found["rule"], found["fires"], found["candidates"]) == ("cleanup.identity.double_relu", 0, 1)
    assert len(found["sites"]) == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["double_rellu"], "error: unknown rule or pass double_rellu\n  hint: did you mean "),
        (["cleanup.*"], "error: cleanup.* means "),
        (["cleanup.dead_code"], "error: cleanup.dead_code is a pass that does not say where it applies\n"),
        (["svd_linear", "--set", "rnk=1"], "error: rule factorize.linear.svd_linear has no parameter rnk\n"),
    ],
)
def test_a_wrong_rule_is_one_message(tdsl, arguments, expected):
    rule, *options = arguments
    outcome = tdsl("explain", rule, "tiny.py:model", *options)
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.startswith(expected)
