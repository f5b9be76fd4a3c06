"""Makes the example scripts importable by name, and loads or trains each network once a session."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

import crepe
import digits
import minilm


@pytest.fixture(scope="session")
def sentence_encoder():
    return minilm.model()


@pytest.fixture(scope="session", params=["tiny", "full"])
def pitch_tracker(request):
    return crepe.model(request.param)


@pytest.fixture(scope="session", params=["cnn", "vit"])
def digit_classifier(request):
    return getattr(digits, request.param)()
