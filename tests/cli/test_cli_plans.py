"""`tdsl sweep` and `tdsl profile`, and the options of `tdsl compile` that speak of plans."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

from tdsl.errors import TdslError
from tdsl.plan.latency import LatencyTable
from tdsl.planner import DataPlanner

SAMPLES = ("--calibration", "tiny.py:samples")
FAST = """\
/// As fast as may be, whatever that costs.
pipeline fast {
    repeat cleanup.* until stable
    choose factorize.linear.svd_linear
        minimize latency
        subject to error <= 100%
    check error <= 200%
}
"""


@pytest.fixture
def fast(folder: Path) -> Path:
    (folder / "fast.tdsl").write_text(FAST, encoding="utf-8")
    return folder


def test_a_sweep_is_a_table_a_file_and_json(tdsl):
    arguments = ("sweep", "tiny.py:model", *SAMPLES, "--shares", "80%,0.5", "-o", "curve.json")
    shown = tdsl(*arguments)
    assert (shown.status, shown.err) == (0, "")
    head, _, *lines = shown.out.splitlines()
    assert head.split() == ["parameters", "bytes", "MACs", "sites", "error", "cosine", "min", "mean"]
    assert len([line for line in lines if line.count("%") == 4]) == 2
    assert "of the parameters at the least" in lines[-1]
    written = json.loads(Path("curve.json").read_text(encoding="utf-8"))
    assert tdsl(*arguments, "--json").json == written
    assert (written["format"], written["by"]) == ("tdsl-sweep/1", "parameters")
    large, small = written["points"]
    assert (large["asked"], small["asked"]) == (0.8, 0.5)
    assert written["least"] <= small["parameters"] <= 0.5 < large["parameters"] <= 0.8
    assert large["error"] < small["error"] and large["latency"] is None


def test_a_sweep_that_is_cut_off_leaves_what_it_found(tdsl, monkeypatch):
    """The second of three sizes is measured, and then somebody stops the run."""
    arguments = ("sweep", "tiny.py:model", *SAMPLES, "--shares", "80%,50%,30%", "-o", "curve.json")
    whole = tdsl(*arguments, "--json").json
    measure, seen = DataPlanner.measure, []

    def stopped(self, module):
        seen.append(module)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return measure(self, module)

    monkeypatch.setattr(DataPlanner, "measure", stopped)
    assert tdsl(*arguments).status != 0
    left = json.loads(Path("curve.json").read_text(encoding="utf-8"))
    assert len(whole["points"]) == 3
    assert left == {**whole, "points": whole["points"][:2]}


def test_a_sweep_may_be_over_multiplications(tdsl):
    found = tdsl("sweep", "tiny.py:model", *SAMPLES, "--by", "macs", "--shares", "50%", "--json").json
    [point] = found["points"]
    assert found["by"] == "macs" and point["macs"] <= 0.5


def test_a_symmetry_that_is_checked_has_a_line(tdsl, folder):
    """That the batch may be turned round is kept by every plan."""
    (folder / "kept.tdsl").write_text(
        """\
group R = cyclic(2)
action reversed of R on [b, n] {
    generator: flip(x, dims=[b])
}
symmetry batch {
    group R
    input x: [b, n] by reversed
    output second: [b, k] by reversed
}
pipeline p {
    choose factorize.linear.svd_linear minimize error subject to parameters <= 50%
    check error <= 1000%, symmetry batch
}
""",
        encoding="utf-8",
    )
    shown = tdsl("sweep", "tiny.py:model", *SAMPLES, "--shares", "80%", "--rules", "kept.tdsl", "-p", "p")
    assert (shown.status, shown.err) == (0, "")
    assert "symmetry batch: kept at 80.0 % (" in shown.out


def test_a_size_out_of_reach_has_no_line(tdsl):
    found = tdsl("sweep", "tiny.py:model", *SAMPLES, "--shares", "1%", "--json").json
    assert found["points"] == [] and found["least"] > 0.01


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["--by", "speed", *SAMPLES],
            "error: a sweep cannot be over 'speed'\n  expected: one of bytes, parameters, macs, latency\n",
        ),
        (["--shares", "80%,x", *SAMPLES], "error: 80%,x is no list of sizes\n  expected: shares such as "),
        (["--shares", "", *SAMPLES], "is no list of sizes\n  expected: shares such as "),
        (["--shares", "150%", *SAMPLES], "error: the sizes of a sweep are shares of the model\n"),
        (["-p", "exact", *SAMPLES], "error: pipeline exact has no plan\n  expected: a `choose … minimize "),
        (["--mask", "y", *SAMPLES], "error: there is no input y\n  expected: one of x\n"),
        ([], "error: a plan needs calibration data\n"),
        (["-o", ".", *SAMPLES], "error: cannot write .: it is a directory\n"),
    ],
)
def test_mistakes_in_a_sweep_are_errors(tdsl, arguments, expected):
    outcome = tdsl("sweep", "tiny.py:model", *arguments)
    assert (outcome.status, outcome.out) == (1, "")
    assert expected in outcome.err


def test_a_profile_is_written_and_used_again(tdsl, fast, monkeypatch):
    plan = ("--rules", "fast.tdsl", "-p", "fast", *SAMPLES)
    assert tdsl("profile", "tiny.py:model", *plan, "-o", "edge.json").status == 0
    table = json.loads(Path("edge.json").read_text(encoding="utf-8"))
    assert table["format"] == "tdsl-profile/1" and "1 thread" in table["machine"]
    seconds = table["seconds"]
    assert all(0 < value < 1 for value in seconds.values()) and any("linear" in key for key in seconds)

    def chosen() -> int:
        """How many layers are factorized by what `edge.json` says, with no other measurement."""
        Path("edge.json").write_text(json.dumps({**table, "seconds": seconds}), encoding="utf-8")
        command = ("compile", "tiny.py:model", *plan, "--profile", "edge.json", "--no-latency", "--json")
        outcome = tdsl(*command)
        assert outcome.status == 0, outcome.err
        rewrites = outcome.json["report"]["rewrites"]
        return sum(rewrite["rule"].endswith("svd_linear") for rewrite in rewrites)

    monkeypatch.setattr("tdsl.plan.latency.measure", None)
    for key in seconds:  # a device on which one layer is slow, and one where every operator takes as long
        seconds[key] = 1.0 if "weight=float32[16, 8]" in key else 1e-9
    assert chosen() == 1
    for key in seconds:
        seconds[key] = 1.0
    assert chosen() == 0


def test_a_profile_is_timed_at_the_sizes_that_are_asked_for(tdsl, fast):
    plan = ("--rules", "fast.tdsl", "-p", "fast", *SAMPLES)
    assert tdsl("profile", "tiny.py:model", *plan, "--size", "batch=1").status == 0
    table = json.loads(Path("profile.json").read_text(encoding="utf-8"))
    assert table["sizes"] == {"batch": 1} and all(
        "x=float32[1, " in key for key in table["seconds"] if "linear" in key
    )
    by_latency = ("sweep", "tiny.py:model", *SAMPLES, "--rules", "fast.tdsl", "-p", "fast", "--by", "latency")
    found = tdsl(*by_latency, "--profile", "profile.json", "--json")
    assert found.status == 0 and found.json["by"] == "latency"
    older = {**table, "format": "tdsl-profile/0"}
    Path("older.json").write_text(json.dumps(older), encoding="utf-8")
    outcome = tdsl(*by_latency, "--profile", "older.json")
    assert outcome.status == 1 and "was written by another version of tdsl" in outcome.err


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        (["bach=1"], "hint: did you mean `batch`?"),
        (["batch"], "error: `--size batch` gives no size\n  expected: --size AXIS=N, such as batch=1\n"),
        (["batch=0"], "expected: a size of 1 or more"),
        (["batch=1", "batch=2"], "error: `--size` gives batch twice"),
    ],
)
def test_a_size_that_means_nothing_is_an_error(tdsl, sizes, expected):
    given = [part for size in sizes for part in ("--size", size)]
    outcome = tdsl("profile", "tiny.py:model", *SAMPLES, *given)
    assert outcome.status == 1 and expected in outcome.err and not Path("profile.json").exists()


@pytest.mark.parametrize("seconds, spread", [("NaN", "0"), ("1", "NaN"), ("1", "-1")])
def test_a_profile_with_a_time_that_is_none_is_an_error(tdsl, seconds, spread):
    tables = f'"seconds": {{"linear(…)": {seconds}}}, "spread": {{"linear(…)": {spread}}}'
    Path("wrong.json").write_text(
        f'{{"format": "tdsl-profile/1", "machine": "", {tables}}}', encoding="utf-8"
    )
    outcome = tdsl("sweep", "tiny.py:model", *SAMPLES, "--by", "latency", "--profile", "wrong.json")
    assert outcome.status == 1 and "error: wrong.json says that linear(…) takes " in outcome.err


def test_a_profile_without_an_operator_says_which(tdsl, fast):
    plan = ("--rules", "fast.tdsl", "-p", "fast", *SAMPLES)
    empty = {"format": "tdsl-profile/1", "machine": "a board", "seconds": {}}
    Path("empty.json").write_text(json.dumps(empty), encoding="utf-8")
    outcome = tdsl("compile", "tiny.py:model", *plan, "--profile", "empty.json")
    assert outcome.status == 1
    assert "error: the profile has no entry for linear(" in outcome.err
    assert "hint: run `tdsl profile` with the same model and pipeline on that device" in outcome.err


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("tiny.py", "error: tiny.py is no profile\n  expected: a file written by `tdsl profile`\n"),
        ("missing.json", "error: cannot read missing.json: No such file or directory\n"),
    ],
)
def test_an_unreadable_profile_is_an_error(tdsl, path, expected):
    outcome = tdsl("compile", "tiny.py:model", "-p", "compact", *SAMPLES, "--profile", path)
    assert (outcome.status, outcome.out, outcome.err) == (1, "", expected)
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"seconds": {"relu([2])": -1.0}}, "says that relu([2]) takes -1.0 s"),
        ({"seconds": {"relu([2])": math.nan}}, "says that relu([2]) takes nan s"),
        (
            {"format": "tdsl-profile/2"},
            "was written by another version of tdsl: its format is tdsl-profile/2",
        ),
    ],
)
def test_a_profile_of_no_times_or_of_another_version_is_an_error(folder, changed, expected):
    record = {"format": "tdsl-profile/1", "machine": "a board", "seconds": {}, **changed}
    Path("wrong.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(TdslError, match=re.escape(expected)):
        LatencyTable.read(Path("wrong.json"))


def test_a_pipeline_without_a_plan_has_no_profile(tdsl, folder):
    outcome = tdsl("profile", "tiny.py:model", "-p", "exact", *SAMPLES)
    assert outcome.status == 1 and "error: pipeline exact has no plan\n" in outcome.err
    assert not (folder / "profile.json").exists()


def test_a_mask_is_named_by_its_input(tdsl):
    outcome = tdsl("compile", "tiny.py:model", "-p", "compact", *SAMPLES, "--mask", "y")
    assert outcome.status == 1
    assert outcome.err == "error: there is no input y\n  expected: one of x\n"


def test_statistics_of_a_sweep_are_found_by_a_compilation(tdsl, folder, monkeypatch):
    from tdsl.plan import cache

    passes = []
    collect = cache.collect
    monkeypatch.setattr(cache, "collect", lambda *args: passes.append(1) or collect(*args))
    kept = ("--cache", "kept")
    assert tdsl("sweep", "tiny.py:model", *SAMPLES, "--shares", "50%", *kept).status == 0
    files = sorted((folder / "kept").iterdir())
    assert files and passes == [1]
    tdsl("sweep", "tiny.py:model", *SAMPLES, "--shares", "80%", *kept)
    assert passes == [1] and sorted((folder / "kept").iterdir()) == files
    tdsl("sweep", "tiny.py:other", *SAMPLES, "--shares", "80%", *kept)
    assert passes == [1, 1] and len(list((folder / "kept").iterdir())) == 2 * len(files)
    refused = tdsl("sweep", "tiny.py:model", *SAMPLES, "--cache", "tiny.py")
    assert refused.status == 1 and "tiny.py is not a directory" in refused.err
