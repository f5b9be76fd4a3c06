"""What is broken is found, named and not written; what the user got wrong is said."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from rewriting import library
from torch import nn
from torch.export import Dim

import tdsl
from tdsl import BrokenContract, TdslError
from tdsl.capture import capture

PLANTED = """
/// Of the right shape, and wrong.
rule wrong {
    relu(x)
  =>
    gelu(x)
}

/// Right.
rule right {
    relu(x)
  =>
    maximum(x, 0 * x)
}

rule thin(rank: Rank = 1) {
    linear(x: [..., n], W: const [m, n], b?)
  ~>
    linear(linear(x, V), U, b)
  where
    (U: [m, r], V: [r, n]) = svd(W, rank)
    r * (m + n) < m * n
}

pipeline bad {
    repeat cleanup.*, fold.* until stable
    at "third" {
        once wrong
    }
    at "first" {
        once right
    }
}

pipeline good {
    repeat cleanup.*, fold.* until stable
    at "third", "first" {
        once right
    }
}

pipeline strict {
    once thin(rank=1)
    check cosine >= 0.9999
}

pipeline loose {
    once thin(rank=1)
    check cosine >= 0.01
}
"""


class Model(nn.Module):
    """Three rectifiers between dense layers, the middle one behind a dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(12, 16), nn.Linear(16, 16), nn.Linear(16, 6)
        self.first, self.second, self.third = nn.ReLU(), nn.ReLU(), nn.ReLU()
        self.dropout = nn.Dropout(0.1)

    def forward(self, x):
        x = self.first(self.a(x))
        x = self.second(self.b(self.dropout(x)))
        return self.third(self.c(x))


def model() -> Model:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Model().eval()


@pytest.fixture(scope="module")
def rules() -> tdsl.Library:
    with pytest.MonkeyPatch.context() as patch:  # a wrong rule does not load, but one of ours might one day
        patch.setattr("tdsl.engine.library.refuse_refuted", lambda rule, verdict: None)
        return library(PLANTED, "planted")


def x(*sizes: int) -> torch.Tensor:
    return torch.randn(*(sizes or (3, 12)), generator=torch.Generator().manual_seed(1))


def compile_to(path: Path, network: nn.Module | None = None, **options):
    options = {"latency": False, **options}
    return tdsl.compile(network or model(), options.pop("args", x()), output=path, **options)


# ---------------------------------------------------------------- what holds is written


def test_a_file_that_keeps_its_contract_is_written_with_its_report(tmp_path, rules):
    path = tmp_path / "new" / "model.onnx"
    result = compile_to(path, rules=rules, pipeline="planted.good", latency=True)
    assert result.path == path and result.module is not None
    assert onnx.load(path).SerializeToString() == result.onnx.SerializeToString()
    (output,) = onnxruntime.InferenceSession(path).run(None, {"x": x().numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(output, model()(x()).numpy(), atol=1e-5)
    report = json.loads((path.parent / "report.json").read_text())
    assert [r["rule"] for r in report["rewrites"]] == [
        "cleanup.identity.dropout_at_inference",
        "planted.right",
        "planted.right",
    ]
    assert report["correctness"]["passed"] and report["latency"] is not None
    assert sorted(p.name for p in path.parent.iterdir()) == ["model.onnx", "report.json"]


def test_without_an_output_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = compile_to(None)
    assert result.path is None and list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- what is broken is not


def test_a_planted_wrong_rule_is_found_named_and_nothing_is_written(tmp_path, rules):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"what was there before")
    with pytest.raises(BrokenContract) as error:
        compile_to(path, rules=rules, pipeline="planted.bad")
    assert path.read_bytes() == b"what was there before"
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]
    report = error.value.report
    assert not report.correctness.passed
    applied = [r.rule for r in report.rewrites]
    assert applied == ["cleanup.identity.dropout_at_inference", "planted.wrong", "planted.right"]
    assert report.correctness.guilty == 2
    assert "rewrite 2, planted.wrong at third" in str(error.value)
    assert "test_contracts.py:" in str(error.value)


def test_an_approximation_beyond_the_check_is_refused_with_what_was_measured(tmp_path, rules):
    path = tmp_path / "model.onnx"
    with pytest.raises(BrokenContract) as error:
        compile_to(path, rules=rules, pipeline="planted.strict")
    assert not list(tmp_path.iterdir())
    (promise,) = error.value.report.correctness.contract
    assert promise.bound == "cosine >= 0.9999" and not promise.kept and promise.measured < 0.9999
    text = str(error.value)
    assert "cosine" in text and f"{promise.measured:.3f}"[:5] in text and "0.9999" in text
    assert "planted.thin" in text


def test_the_same_approximation_passes_a_looser_check(tmp_path, rules):
    path = tmp_path / "model.onnx"
    result = compile_to(path, rules=rules, pipeline="planted.loose")
    assert path.exists()
    assert {r.rule for r in result.report.rewrites} == {"planted.thin"}
    assert all(r.error is not None and 0 < r.error < 1 for r in result.report.rewrites)
    (promise,) = result.report.correctness.contract
    assert promise.kept and promise.measured < 0.9999


def test_a_capture_that_is_not_the_model_is_no_matter_of_rounding(tmp_path):
    """What its captured graph does not compute is no poor condition of the model and no fault of a rule."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 3)).eval()
    captured = capture(model, (torch.randn(4, 8),))
    model[3].bias = nn.Parameter(model[3].bias + 0.1)
    path = tmp_path / "model.onnx"
    with pytest.raises(BrokenContract, match="the captured graph, in float64, is") as error:
        tdsl.compile(captured, output=path)
    assert not list(tmp_path.iterdir())
    assert "no rule is to blame" in str(error.value) and error.value.report.correctness.guilty is None


class Filled(nn.Module):
    """Sums of four steps each; what was filled up is cut off again, if there was any."""

    def forward(self, x):
        length = x.shape[1]
        missing = (4 - length % 4) % 4
        x = torch.nn.functional.pad(x, (0, 0, 0, missing)).unflatten(1, (-1, 4)).cumsum(2).flatten(1, 2)
        if missing > 0:
            x = x[:, :length]
        return x


def test_a_branch_on_a_size_that_only_the_example_takes_is_shown_with_its_line():
    with pytest.raises(BrokenContract) as error:
        tdsl.compile(Filled(), (torch.randn(2, 8, 3),), dynamic_shapes={"x": {1: "length"}}, latency=False)
    text = str(error.value)
    line = inspect.getsourcelines(Filled.forward)[1] + 4
    assert f"test_contracts.py:{line}" in text and "length" in text and "way of the example" in text
    assert "onnxruntime" not in text.rpartition("hint:")[2] and "`dynamic_shapes`" in text
    fixed = tdsl.compile(Filled(), (torch.randn(2, 8, 3),), dynamic_shapes={"x": {0: "batch"}}, latency=False)
    assert fixed.report.correctness.passed


class Leaders(nn.Module):
    """The three first of many equals: torch and onnxruntime do not agree on which these are."""

    def forward(self, x):
        return x.gather(1, torch.topk(x * 0.0, 3, dim=1).indices)


def test_a_choice_among_equals_is_named_where_a_file_chooses_others():
    with pytest.raises(BrokenContract) as error:
        tdsl.compile(Leaders(), (torch.randn(2, 20),), latency=False)
    assert "chooses by `topk`" in str(error.value) and "test_contracts.py:" in str(error.value)


# ---------------------------------------------------------------- what the user got wrong


class Slopes(nn.Module):
    """A bias that its own code makes in bfloat16, whatever the model is converted to."""

    def forward(self, x):
        return x + (torch.arange(x.shape[1]).bfloat16() * x[:, :1].bfloat16()).float()


def test_what_onnxruntime_has_no_kernel_for_is_shown_at_its_line():
    with pytest.raises(TdslError, match="onnxruntime cannot run the model") as error:
        tdsl.compile(Slopes().eval(), (torch.randn(2, 8),), latency=False)
    line = inspect.getsourcelines(Slopes.forward)[1] + 1
    assert f"test_contracts.py:{line}" in str(error.value) and "bfloat16" in str(error.value)


def test_nan_weights_are_refused_by_name(tmp_path):
    network = model()
    with torch.no_grad():
        network.b.weight[0, 0] = float("nan")
    with pytest.raises(TdslError, match=r"`b\.weight` has 1 NaN value"):
        compile_to(tmp_path / "model.onnx", network)
    assert not list(tmp_path.iterdir())


def test_a_model_that_does_not_trace_is_one_clear_message_at_its_line(tmp_path):
    class Branches(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(TdslError) as error:
        compile_to(tmp_path / "model.onnx", Branches())
    assert "return x if x.sum() > 0 else -x" in str(error.value)
    assert not list(tmp_path.iterdir())


class Empty(nn.Module):
    """A dense layer of no outputs beside an ordinary one."""

    def __init__(self) -> None:
        super().__init__()
        self.none, self.some = nn.Linear(12, 0), nn.Linear(12, 3)

    def forward(self, x):
        return torch.cat([self.none(x), self.some(x)], dim=-1)


def test_a_dimension_of_size_zero_in_a_weight_is_compiled(tmp_path):
    path = tmp_path / "model.onnx"
    with pytest.warns(UserWarning, match="zero-element"):
        network = Empty().eval()
    result = compile_to(path, network)
    assert result.report.correctness.passed
    (output,) = onnxruntime.InferenceSession(path).run(None, {"x": x().numpy()})
    assert output.shape == (3, 3)


def test_an_example_of_no_samples_is_compiled(tmp_path):
    result = compile_to(tmp_path / "model.onnx", args=torch.zeros(0, 12))
    assert result.report.correctness.passed
    assert any("does not vary" in note.text for note in result.report.notes)


def test_an_empty_batch_is_a_sample_where_the_batch_may_be_empty(tmp_path):
    path, batch = tmp_path / "model.onnx", Dim("batch", min=0, max=8)
    options = {"calibration": [torch.zeros(0, 12)], "dynamic_shapes": {"x": {0: batch}}}
    result = compile_to(path, **options)
    groups = [group.group for group in result.report.correctness.errors]
    assert result.report.correctness.passed and "calibration" in groups
    (output,) = onnxruntime.InferenceSession(path).run(None, {"x": np.zeros((0, 12), np.float32)})
    assert output.shape == (0, 6)


@pytest.mark.parametrize("size", [0, 1])
def test_a_dynamic_axis_cannot_be_shown_by_an_example_of_size_zero_or_one(tmp_path, size):
    with pytest.raises(TdslError, match="cannot be traced") as error:
        compile_to(tmp_path / "m.onnx", args=torch.zeros(size, 12), dynamic_shapes={"x": {0: Dim("n")}})
    assert f"`n` is {size} in the example" in str(error.value) and "2 places or more" in str(error.value)
    assert not list(tmp_path.iterdir())


def test_inputs_that_the_model_does_not_accept_are_refused_at_its_line(tmp_path):
    with pytest.raises(TdslError, match=r"x = self\.first"):
        compile_to(tmp_path / "model.onnx", args=x(3, 13))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "samples, said",
    [
        ([torch.zeros(3, 11)], "11"),
        ([torch.zeros(3)], "1 axis"),
        ([(torch.zeros(3, 12), torch.zeros(3, 12))], "2"),
        ([torch.zeros(3, 12, dtype=torch.int64)], "int64"),
        ([3], "calibration sample 1 is an int"),
    ],
)
def test_calibration_samples_that_do_not_fit_are_refused(tmp_path, samples, said):
    with pytest.raises(TdslError) as error:
        compile_to(tmp_path / "model.onnx", calibration=samples)
    assert said in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_directory_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TdslError, match="cannot write"):
        compile_to(tmp_path / "file" / "model.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_target_that_is_a_directory_is_refused(tmp_path):
    (tmp_path / "model.onnx").mkdir()
    with pytest.raises(TdslError, match="it is a directory"):
        compile_to(tmp_path / "model.onnx")


def test_an_unknown_pipeline_is_refused_before_anything_is_done(tmp_path):
    with pytest.raises(TdslError, match="unknown pipeline") as error:
        compile_to(tmp_path / "model.onnx", pipeline="pipelines.exat")
    assert "pipelines.exact" in str(error.value)


def test_a_metric_that_there_is_not_is_refused_at_its_line_before_anything_is_done(tmp_path):
    (tmp_path / "mine.tdsl").write_text("pipeline mine {\n    check cosin >= 0.9\n}\n")
    stages = []
    with pytest.raises(TdslError, match="unknown metric 'cosin'") as error:
        compile_to(
            tmp_path / "model.onnx",
            pipeline="mine",
            rules=tmp_path / "mine.tdsl",
            progress=stages.append,
        )
    assert error.value.span.line == 2 and "cosine" in error.value.hint
    assert stages == ["capture"]
