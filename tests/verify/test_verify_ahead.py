"""A file runs ahead on samples while it is open, and is closed when the first result is asked for."""

import weakref

import pytest
import torch

from tdsl.verify import Ahead, Sample

SAMPLES = [Sample(f"s{i}", "random", (torch.full((4,), float(i)),)) for i in range(6)]
"""Sixteen bytes of outputs each."""


class File:
    """What can be opened: doubles its input, but for one that it refuses."""

    def __init__(self, refused=None):
        self.opened = 0
        self.ran = []
        self.open_now = weakref.WeakSet()
        self.refused = refused

    def open(self):
        self.opened += 1

        def run(inputs):
            number = int(inputs[0][0])
            self.ran.append(number)
            if number == self.refused:
                raise ValueError(f"no {number}")
            return (2 * inputs[0],)

        self.open_now.add(run)
        return run


def test_it_runs_on_all_samples_at_once_and_is_closed():
    file = File()
    ahead = Ahead(file.open, SAMPLES, 1000)
    assert (file.opened, len(file.open_now), file.ran) == (1, 0, list(range(6)))
    for sample in SAMPLES:
        assert torch.equal(ahead(sample.inputs)[0], 2 * sample.inputs[0])
    assert file.opened == 1


def test_large_outputs_are_made_in_parts_and_each_once():
    file = File()
    ahead = Ahead(file.open, SAMPLES, 32)
    assert file.ran == [0, 1]
    found = [int(ahead(sample.inputs)[0][0]) for sample in SAMPLES]
    assert found == [0, 2, 4, 6, 8, 10]
    assert (file.opened, len(file.open_now), file.ran) == (3, 0, list(range(6)))


def test_what_a_sample_raises_is_raised_when_it_is_asked_for_and_keeps_nothing_open():
    file = File(refused=2)
    ahead = Ahead(file.open, SAMPLES, 1000)
    assert len(file.open_now) == 0
    assert torch.equal(ahead(SAMPLES[1].inputs)[0], 2 * SAMPLES[1].inputs[0])
    with pytest.raises(ValueError, match="no 2"):
        ahead(SAMPLES[2].inputs)
    assert torch.equal(ahead(SAMPLES[5].inputs)[0], 2 * SAMPLES[5].inputs[0])
    assert file.opened == 1


def test_a_file_that_does_not_open_says_so_before_anything_runs():
    def refuse():
        raise RuntimeError("no kernel")

    with pytest.raises(RuntimeError, match="no kernel"):
        Ahead(refuse, SAMPLES, 1000)
