"""`tdsl` as a process: what it loads, its exit status, its streams."""

from __future__ import annotations

import importlib.metadata
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

TDSL = (sys.executable, "-m", "tdsl.cli")


def process(*arguments, **options):
    options.setdefault("stdout", subprocess.PIPE)
    return subprocess.Popen([*TDSL, *arguments], stderr=subprocess.PIPE, text=True, **options)


@pytest.mark.parametrize(
    ("arguments", "besides"),
    [
        (["--help"], ()),
        (["list"], ()),
        (["show", "svd_linear"], ()),
        (["fmt", "lossy.tdsl"], ("rich.console",)),
    ],
)
def test_what_needs_no_model_loads_no_torch(folder, arguments, besides):
    script = f"""
import sys
from tdsl.cli.app import app
try:
    app({arguments!r}, prog_name="tdsl")
except SystemExit as end:
    assert end.code == 0, end.code
heavy = ("torch", "onnx", "onnxruntime", "numpy", "scipy", *{besides!r})
print(sorted(set(heavy) & set(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
    control = script.replace("heavy =", "import numpy; heavy =")
    done = subprocess.run([sys.executable, "-c", control], capture_output=True, text=True, check=True)
    assert done.stderr == "['numpy']\n"


def test_the_version_is_that_of_the_package(tdsl):
    assert tdsl("--version").out == f"tdsl {importlib.metadata.version('tdsl')}\n"


@pytest.mark.parametrize(
    "arguments", [[], ["nosuch"], ["list", "--nosuch"], ["explain"], ["show", "--matcher", "tiny.py:model"]]
)
def test_wrong_usage_exits_with_2_and_says_how(tdsl, arguments):
    outcome = tdsl(*arguments)
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith("Usage: tdsl ")


def test_a_closed_pipe_is_no_traceback():
    running = process("list")
    running.stdout.close()
    assert (running.stderr.read(), running.wait()) == ("", 141)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("arguments", [["list"], ["list", "--json"], ["--version"]])
def test_a_full_disk_behind_standard_output_is_one_message(arguments):
    with open("/dev/full", "w") as full:
        running = process(*arguments, stdout=full)
        message = "error: cannot write to standard output: No space left on device\n"
        assert (running.stderr.read(), running.wait()) == (message, 1)


def test_an_interrupt_is_one_line_and_leaves_nothing(folder):
    text = "import time\ndef slow():\n    print('started', flush=True)\n    time.sleep(60)\n"
    (folder / "slow.py").write_text(text, encoding="utf-8")
    running = process("compile", "slow.py:slow")
    assert running.stderr.readline() == "started\n"
    running.send_signal(signal.SIGINT)
    out, err = running.communicate()
    assert (running.returncode, out, err) == (130, "", "interrupted\n")
    assert not (folder / "out").exists()


def test_a_bug_of_ours_is_a_traceback(tdsl, monkeypatch):
    def broken(rules):
        raise AssertionError("a bug")

    monkeypatch.setattr("tdsl.cli.list.catalog", broken)
    with pytest.raises(AssertionError, match="a bug"):
        tdsl("list")


def on_a_terminal(*arguments, command=TDSL, **environment):
    """What a command prints on a terminal of 80 columns, standard error included."""
    keep = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    leader, follower = pty.openpty()
    running = subprocess.Popen(
        [*command, *arguments],
        stdout=follower,
        stderr=follower,
        stdin=follower,
        env={**keep, "TERM": "xterm-256color", "COLUMNS": "80", **environment},
    )
    os.close(follower)
    pieces = []
    try:
        while piece := os.read(leader, 65536):
            pieces.append(piece)
    except OSError:  # the other end is closed
        pass
    finally:
        os.close(leader)
    running.wait()
    return b"".join(pieces).decode()


def test_colours_and_line_breaks_are_for_terminals(tdsl):
    on_terminal = on_a_terminal("list", "factorize.linear")
    piped = tdsl("list", "factorize.linear").out
    assert "\x1b[" in on_terminal
    assert "\x1b[" not in piped
    sentence = "Truncated SVD of a dense layer: the best rank-r approximation in the Frobenius norm"
    assert sentence in piped
    assert sentence not in on_terminal  # does not fit on a line


def test_an_error_is_red_on_a_terminal_only(tdsl):
    assert "\x1b[1;31merror:\x1b[0m" in on_a_terminal("show", "nosuch")
    assert "\x1b[1;31m" not in on_a_terminal("show", "nosuch", NO_COLOR="1")
    assert tdsl("show", "nosuch").err.startswith("error: no rule")


STAGES = """
from tdsl.cli import terminal
with terminal.stages() as progress:
    progress("capture")
    for number in range(1, 41):
        progress(f"calibrate: batch {number} of 40")
    progress("try linear: 1 of 2")
    progress("try linear_1: 2 of 2")
"""


def test_what_is_counted_is_a_bar_and_one_line_when_it_is_over():
    code = (sys.executable, "-c", STAGES)
    printed = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", on_a_terminal(command=code))
    lines = [line for line in re.split(r"[\r\n]+", printed) if re.match(r" +[\d.]+ s  ", line)]
    assert [line.split(" s  ")[1] for line in lines] == ["capture", "calibrate, 40 in all"]
    assert "━" in printed
    piped = subprocess.run(code, capture_output=True, text=True, check=True)
    assert (piped.stdout, piped.stderr) == ("", "")
