"""`tdsl compile`: what it writes and prints, and that it writes nothing when something is wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path

import onnx
import pytest


def files(folder: Path):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def untouched(folder):
    """Fails the test when a file appeared or vanished."""
    before = files(folder)
    yield
    assert [path for path in files(folder) if not path.endswith(".pyc")] == before


def test_a_model_becomes_a_file_and_a_report(tdsl, folder):
    outcome = tdsl("compile", "tiny.py:model", "--no-latency")
    assert outcome.status == 0
    assert outcome.err == "wrote out/tiny/model/model.onnx and out/tiny/model/report.json\n"
    first, *rest = outcome.out.splitlines()
    assert first == "PASSED  tiny.model, pipeline exact: it equals the original up to rounding"
    assert any("cleanup.identity." in line for line in rest)
    onnx.checker.check_model("out/tiny/model/model.onnx", full_check=True)
    report = json.loads(Path("out/tiny/model/report.json").read_text(encoding="utf-8"))
    assert (report["format"], report["model"], report["pipeline"]) == ("tdsl-report/1", "tiny.model", "exact")


def test_json_is_the_report_and_what_was_written(tdsl):
    arguments = (
        "compile",
        "tiny.py:noisy",
        "--no-latency",
        "-o",
        "deep/down/m.onnx",
        "--json",
        "--opset",
        "20",
    )
    outcome = tdsl(*arguments)
    found = outcome.json
    assert outcome.err == "training\nwrote deep/down/m.onnx and deep/down/report.json\n"
    assert list(found) == ["format", "written", "report"]
    assert found["format"] == "tdsl-compile/1"
    assert found["written"] == ["deep/down/m.onnx", "deep/down/report.json"]
    assert found["report"] == json.loads(Path("deep/down/report.json").read_text(encoding="utf-8"))
    assert onnx.load("deep/down/m.onnx").opset_import[0].version == 20


def test_a_broken_contract_names_the_rewrite_and_writes_nothing(tdsl, untouched):
    arguments = ("compile", "tiny.py:model", "--rules", "lossy.tdsl", "--pipeline", "lossy", "-o", "m.onnx")
    outcome = tdsl(*arguments, "--calibration", "tiny.py:samples")
    assert outcome.status == 1
    assert outcome.out.startswith("FAILED  tiny.model, pipeline lossy: no file was written\n")
    assert "first broken by rewrite 1: lossy.halve at " in " ".join(outcome.out.split())
    error, expected, hint = outcome.err.splitlines()
    assert error == "error: the contract is not kept, and nothing was written"
    assert expected == "  expected: cosine >= 0.9999"
    assert hint.startswith("  hint: rewrite 1, lossy.halve at ")

    found = tdsl(*arguments, "--set", "rank=1", "--json")
    assert (found.status, found.json["written"]) == (1, [])
    assert found.json["report"]["correctness"]["passed"] is False
    assert found.json["report"]["correctness"]["guilty"] == 1


def test_samples_decide_what_is_judged(tdsl):
    arguments = ("compile", "tiny.py:model", "--rules", "lossy.tdsl", "-p", "lossy", "--no-latency")
    full_rank = ("--set", "rank=8", "--json")
    outcome = tdsl(
        *arguments, *full_rank, "--calibration", "tiny.py:samples", "--held-out", "tiny.py:samples"
    )
    correctness = outcome.json["report"]["correctness"]
    assert (correctness["judged_on"], correctness["judged_samples"]) == ("held-out", 8)
    assert outcome.status == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nosuch.py:model"], "error: there is no file 'nosuch.py'\n"),
        (["nosuch"], "error: nosuch is no model\n  expected: path/to/file.py:function or a .pt2 file\n"),
        (["."], "error: . is a directory\n"),
        (["tiny.py"], "error: 'tiny.py' names no function\n"),
        (["lossy.onnx"], "error: lossy.onnx is a compiled file"),
        (["nosuch.pt2"], "error: there is no file 'nosuch.pt2'\n"),
        (["tiny.py:modle"], "error: tiny.py has no function `modle`\n  expected: one of "),
        (["tiny.py:raising"], "@return [][1]: error: tiny.py raised IndexError: list index out of range\n"),
        (["tiny.py:untraceable"], "@return x if x.sum(): error: the model cannot be traced: "),
        (["tiny.py:mismatched"], "error: the model cannot be traced: a and b must have same reduction dim"),
        (["tiny.py:damaged"], "error: parameter `weight` has 1 NaN value among 32\n"),
        (
            ["tiny.py:without_onnx_form"],
            "@return torch.special: error: the operator aten.special_bessel_j0.default has no",
        ),
        (
            ["tiny.py:model", "-p", "exakt"],
            "error: unknown pipeline exakt\n  hint: did you mean `pipelines.exact`?\n",
        ),
        (
            ["tiny.py:model", "--set", "n=1"],
            "error: pipeline exact has no parameter n\n  expected: no values: ",
        ),
        (["tiny.py:model", "--opset", "3"], "error: opset 3 is not available\n"),
        (["tiny.py:model", "-o", "."], "error: cannot write .: it is a directory\n"),
        (
            ["tiny.py:model", "-o", "model.bin"],
            "error: cannot write model.bin\n  expected: a file name such as",
        ),
        (["tiny.py:model", "-o", "tiny.py/m.onnx"], "error: cannot write tiny.py/m.onnx: "),
        (
            ["tiny.py:model", "--calibration", "tiny.py:raising"],
            "@return [][1]: error: tiny.py raised IndexError",
        ),
        (["tiny.py:model", "--calibration", "tiny.py:model"], "error: sample 1 of tiny.py:model holds a "),
    ],
)
def test_mistakes_are_one_message(tdsl, untouched, place, arguments, expected):
    if expected.startswith("@"):
        code, colon, message = expected[1:].partition(": ")
        expected = place(code) + colon + message
    outcome = tdsl("compile", *arguments)
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.startswith(expected)
    assert "Traceback" not in outcome.err


def test_a_full_disk_is_one_message_and_leaves_the_old_file(tdsl, folder, monkeypatch):
    (folder / "m.onnx").write_text("old", encoding="utf-8")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    outcome = tdsl("compile", "tiny.py:model", "-o", "m.onnx", "--no-latency")
    assert outcome.status == 1
    assert outcome.err.startswith("error: cannot write m.onnx: No space left on device\n")
    assert (folder / "m.onnx").read_text(encoding="utf-8") == "old"
    assert [path for path in files(folder) if not path.endswith(".pyc")] == [
        "lossy.tdsl",
        "m.onnx",
        "tiny.py",
    ]
