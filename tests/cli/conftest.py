"""A folder with small models and rules, and `tdsl` run in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tdsl.cli.app import app

MODELS = """\
import torch
from torch import nn
from torch.export import Dim


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(8, 16)
        self.drop = nn.Dropout()
        self.second = nn.Linear(16, 4)

    def forward(self, x):
        return self.second(self.drop(torch.relu(self.first(x))))


def model():
    torch.manual_seed(0)
    return Tiny().eval(), (torch.randn(2, 8),), {"x": {0: Dim("batch", min=1, max=64)}}


def other():
    torch.manual_seed(1)
    return Tiny().eval(), (torch.randn(2, 8),), {"x": {0: Dim("batch", min=1, max=64)}}


def samples():
    generator = torch.Generator().manual_seed(2)
    for _ in range(8):
        yield torch.randn(4, 8, generator=generator)


def noisy():
    print("training")
    return model()


def untraceable():
    class Branch(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    return Branch(), (torch.randn(2, 8),)


def mismatched():
    return nn.Linear(8, 4), (torch.randn(2, 7),)


def damaged():
    layer = nn.Linear(8, 4)
    layer.weight.data[0, 0] = float("nan")
    return layer, (torch.randn(2, 8),)


def without_onnx_form():
    class Bessel(nn.Module):
        def forward(self, x):
            return torch.special.bessel_j0(x)

    return Bessel(), (torch.randn(2, 8),)


def raising():
    return [][1]
"""

LOSSY = """\
/// Half the rank, whatever that costs.
rule halve(rank: Rank = 50%) {
    linear(x: [..., n], W: const [m, n], b?)
  ~>
    linear(linear(x, V), U, b)
  where
    (U: [m, r], V: [r, n]) = svd(W, rank)
}

/// A contract that such a loss does not keep.
pipeline lossy(rank: Rank = 50%) {
    once halve(rank=rank)
    check cosine >= 0.9999
}
"""


@dataclass(frozen=True)
class Outcome:
    """What a command printed, and its exit status."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with `tiny.py` and `lossy.tdsl`."""
    (tmp_path / "tiny.py").write_text(MODELS, encoding="utf-8")
    (tmp_path / "lossy.tdsl").write_text(LOSSY, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def tdsl(folder: Path) -> Callable[..., Outcome]:
    """Runs a command in `folder`; an exception that is no diagnostic escapes."""

    def run(*arguments: str, stdin: str | bytes | None = None) -> Outcome:
        result = CliRunner().invoke(app, list(arguments), input=stdin, prog_name="tdsl")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture(scope="session")
def models() -> dict[str, Any]:
    """The functions of `tiny.py`."""
    namespace: dict[str, Any] = {}
    exec(MODELS, namespace)
    return namespace


@pytest.fixture(scope="session")
def place() -> Callable[[str], str]:
    """Where in `tiny.py` the first occurrence of a piece of code stands: `tiny.py:12:5`."""

    def place(code: str) -> str:
        before = MODELS[: MODELS.index(code)]
        return f"tiny.py:{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"

    return place
