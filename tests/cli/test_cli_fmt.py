"""`tdsl fmt`."""

from __future__ import annotations

import os

import pytest

UGLY = "rule  a{relu(relu(x))=>relu(x)}\n"
NEAT = "rule a {\n    relu(relu(x))\n  =>\n    relu(x)\n}\n"
WRONG = "rule a { relu(x) => }\n"


@pytest.fixture
def ugly(folder):
    path = folder / "ugly.tdsl"
    path.write_text(UGLY, encoding="utf-8")
    return path


def test_files_are_written_in_canonical_form(tdsl, ugly):
    ugly.chmod(0o640)
    outcome = tdsl("fmt", "ugly.tdsl", "lossy.tdsl")
    assert (outcome.status, outcome.out, outcome.err) == (0, "", "formatted ugly.tdsl\n")
    assert ugly.read_text(encoding="utf-8") == NEAT
    assert ugly.stat().st_mode & 0o777 == 0o640
    assert tdsl("fmt", "ugly.tdsl").err == ""


def test_a_folder_means_every_file_below_it(tdsl, ugly):
    assert tdsl("fmt", ".").err == "formatted ugly.tdsl\n"


def test_a_link_stays_a_link(tdsl, ugly, folder):
    (folder / "link.tdsl").symlink_to(ugly)
    tdsl("fmt", "link.tdsl")
    assert (folder / "link.tdsl").is_symlink()
    assert ugly.read_text(encoding="utf-8") == NEAT


def test_check_writes_nothing_and_exits_with_1(tdsl, ugly):
    outcome = tdsl("fmt", "--check", "ugly.tdsl")
    assert (outcome.status, outcome.out, outcome.err) == (1, "", "would change ugly.tdsl\n")
    assert ugly.read_text(encoding="utf-8") == UGLY
    assert tdsl("fmt", "--check", "lossy.tdsl").status == 0


def test_diff_shows_what_would_change(tdsl, ugly):
    outcome = tdsl("fmt", "--diff", "ugly.tdsl")
    assert outcome.status == 0
    assert outcome.out.splitlines() == [
        "--- ugly.tdsl",
        "+++ ugly.tdsl",
        "@@ -1 +1,5 @@",
        "-" + UGLY.strip(),
        *("+" + line for line in NEAT.splitlines()),
    ]
    assert ugly.read_text(encoding="utf-8") == UGLY


def test_standard_input_goes_to_standard_output(tdsl):
    assert tdsl("fmt", "-", stdin=UGLY).out == NEAT
    assert tdsl("fmt", "-", "--json", stdin=UGLY).json == {
        "format": "tdsl-fmt/1",
        "files": [{"file": "-", "changed": True, "text": NEAT}],
    }
    outcome = tdsl("fmt", "-", stdin=b"\xff")
    assert (outcome.status, outcome.err) == (1, "error: standard input is not UTF-8 text\n")


def test_one_mistake_and_no_file_is_written(tdsl, ugly, folder):
    (folder / "wrong.tdsl").write_text(WRONG, encoding="utf-8")
    outcome = tdsl("fmt", "wrong.tdsl", "ugly.tdsl", "nosuch.tdsl")
    assert outcome.status == 1
    assert outcome.err.startswith("wrong.tdsl:1:21: error: unexpected `}`\n")
    assert outcome.err.endswith("error: there is no file nosuch.tdsl\n")
    assert ugly.read_text(encoding="utf-8") == UGLY


def test_a_full_disk_leaves_the_file_as_it_was(tdsl, ugly, folder, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    outcome = tdsl("fmt", "ugly.tdsl")
    assert outcome.status == 1
    assert outcome.err.startswith("error: cannot write ugly.tdsl: No space left on device\n")
    assert ugly.read_text(encoding="utf-8") == UGLY
    assert sorted(path.name for path in folder.iterdir()) == ["lossy.tdsl", "tiny.py", "ugly.tdsl"]
