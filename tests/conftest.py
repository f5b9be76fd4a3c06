"""Helpers beside the tests (`zoo`) are importable everywhere; every test draws the same numbers each time."""

import os
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

os.environ["HF_HUB_OFFLINE"] = "1"  # read when transformers is imported, by whichever test is first

# `--hypothesis-profile=default` draws anew, to look for what these examples miss.
settings.register_profile("same examples", derandomize=True)
settings.load_profile("same examples")


def _seed() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Before the fixtures of a test, whatever ran before it."""
    _seed()


def pytest_collectstart() -> None:
    """Before a module of tests is imported: some draw their weights there."""
    _seed()
