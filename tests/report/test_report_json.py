"""The report as JSON: valid, deterministic, written whole or not at all."""

import dataclasses
import json
import math
import os

import pytest
import torch

from tdsl.errors import TdslError
from tdsl.report import (
    Correctness,
    GroupErrors,
    Report,
    RewriteRecord,
    Size,
    correctness_of,
    environment,
    notes_of,
    to_json,
    write_json,
)
from tdsl.verify import Contract, Input, Metrics, draw_samples, verify

REPORT = Report(
    "net",
    "edge",
    Correctness(
        True,
        False,
        "held-out",
        2,
        errors=(GroupErrors("hard", 1, False, Metrics(math.inf, 1.5, math.nan, -0.5)),),
    ),
    Size(100, 20, None, 3),
    Size(50, 10, None, 2),
    rewrites=(RewriteRecord(1, "svd_linear", "head", "net.py:3", 0.1, 10, 10, -1),),
    environment={"torch": "2", "numpy": "1"},
    seeds={"samples": 0},
)


def refuse(token):
    raise AssertionError(f"{token} is no JSON")


def test_the_json_is_valid_and_says_what_the_report_says():
    value = json.loads(to_json(REPORT), parse_constant=refuse)
    assert value["format"] == "tdsl-report/1"
    assert value["original"] == {"bytes": 100, "parameters": 20, "macs": None, "nodes": 3}
    assert value["rewrites"][0]["site"] == "head"
    assert value["correctness"]["errors"][0]["metrics"] == {
        "error": "inf",
        "max_error": 1.5,
        "cosine": "nan",
        "mean_cosine": -0.5,
    }


def test_every_field_is_in_the_json():
    assert set(json.loads(to_json(REPORT))) == {"format", *(f.name for f in dataclasses.fields(Report))}


def test_equal_reports_have_equal_bytes_whatever_order_mappings_were_filled_in():
    other = dataclasses.replace(REPORT, environment={"numpy": "1", "torch": "2"})
    assert to_json(other) == to_json(REPORT)
    assert to_json(dataclasses.replace(REPORT, model="other")) != to_json(REPORT)


def test_a_report_is_written_and_replaces_an_older_one(tmp_path):
    path = tmp_path / "report.json"
    path.write_text("old")
    write_json(REPORT, path)
    assert path.read_text(encoding="utf-8") == to_json(REPORT)
    assert os.listdir(tmp_path) == ["report.json"]


def test_a_failed_write_leaves_the_old_report_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "report.json"
    path.write_text("old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TdslError, match="No space left on device"):
        write_json(REPORT, path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["report.json"]


def test_a_missing_folder_is_made_and_one_that_is_a_file_is_the_users_mistake(tmp_path):
    write_json(REPORT, tmp_path / "missing" / "report.json")
    with pytest.raises(TdslError, match=r"cannot write .*report.json"):
        write_json(REPORT, tmp_path / "missing" / "report.json" / "report.json")


def test_a_verdict_becomes_the_correctness_of_a_report():
    x = torch.arange(6.0).reshape(2, 3)
    samples = draw_samples([Input("x", x, {0: "batch"})], held_out=[(x + 1,)])
    verdict = verify(
        lambda inputs: (inputs[0] * 2,),
        lambda inputs: (inputs[0] * 2.1,),
        samples,
        Contract.parse("error <= 2%", "cosine >= 0.9"),
        exact=False,
        output_names=("y",),
    )
    found = correctness_of(verdict, guilty=4)
    assert (found.passed, found.guilty, found.judged_on, found.judged_samples) == (False, 4, "held-out", 1)
    assert [(promise.metric, promise.kept) for promise in found.contract] == [
        ("error", False),
        ("cosine", True),
    ]
    assert found.contract[0].measured == pytest.approx(0.05, rel=1e-4)
    assert [(g.group, g.decides) for g in found.errors] == [
        ("example", False),
        ("held-out", True),
        ("random", False),
        ("hard", False),
    ]
    assert len(found.violations) == 1


def test_an_exact_verdict_tells_the_closest_approach_to_the_rounding_bound():
    x = torch.arange(6.0).reshape(2, 3)
    samples = draw_samples([Input("x", x)])
    verdict = verify(
        lambda inputs: (inputs[0] * 2,),
        lambda inputs: (inputs[0] * 2,),
        samples,
        exact=True,
        not_in_double="no",
    )
    assert correctness_of(verdict).rounding.result == 0
    assert [note.kind for note in notes_of(verdict)] == ["warning"]


def test_the_environment_names_the_versions_that_matter():
    found = environment()
    assert found["torch"] == torch.__version__
    assert {"tdsl", "onnx", "onnxruntime", "python"} <= set(found)
