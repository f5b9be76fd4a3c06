"""Samples from `.npz` and `.safetensors` files and from functions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tdsl.cli.samples import read_samples
from tdsl.errors import TdslError
from tdsl.verify import Input

IDS = Input("ids", torch.zeros(2, 3, dtype=torch.int64), {1: "length"})
MASK = Input("mask", torch.ones(2, 3), {1: "length"})


def arrays(**shapes):
    return {name.replace("_", "/"): torch.arange(float(np.prod(s))).reshape(s) for name, s in shapes.items()}


@pytest.fixture(params=["samples.npz", "samples.safetensors"])
def write(request, folder):
    def write(tensors):
        if request.param.endswith(".npz"):
            np.savez(request.param, **{name: tensor.numpy() for name, tensor in tensors.items()})
        else:
            save_file(tensors, request.param)
        return request.param

    return write


def refusal(spec, inputs=(IDS, MASK)):
    with pytest.raises(TdslError) as caught:
        read_samples(spec, inputs)
    return caught.value


def test_one_axis_more_runs_over_the_samples(write):
    tensors = arrays(mask=(4, 2, 3), ids=(4, 2, 3))
    samples = read_samples(write(tensors), (IDS, MASK))
    assert [[v.shape for v in sample] for sample in samples] == [[(2, 3), (2, 3)]] * 4
    assert torch.equal(samples[3][0], tensors["ids"][3])


def test_as_many_axes_are_one_sample(write):
    [sample] = read_samples(write(arrays(ids=(2, 5), mask=(2, 5))), (IDS, MASK))
    assert [v.shape for v in sample] == [(2, 5), (2, 5)]


def test_numbered_arrays_are_samples_of_their_own_sizes(write):
    sizes = {f"{name}_{i}": (2, 3 + i) for name in ("ids", "mask") for i in range(11)}
    samples = read_samples(write(arrays(**sizes)), (IDS, MASK))
    assert [sample[0].shape[1] for sample in samples] == [3 + i for i in range(11)]


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"ids": (4, 2, 3)}, "{} has no samples of mask"),
        ({"ids": (4, 2, 3), "mask": (5, 2, 3)}, "{} has different numbers of samples: 4 of ids, 5 of mask"),
        ({"ids": (2, 3), "mask": (3,)}, "mask in {} has 1 axis"),
        (
            {"ids_0": (2, 3), "ids_2": (2, 3), "mask": (2, 3)},
            "the samples of ids in {} are not numbered 0, 1, 2, …",
        ),
        ({"ids": (2, 3), "maks": (2, 3)}, "{} has an array maks, and the model no input of that name"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(write, shapes, message):
    spec = write(arrays(**shapes))
    assert refusal(spec).message == message.format(spec)


def test_a_misspelt_array_gets_a_suggestion(write):
    assert refusal(write(arrays(ids=(2, 3), maks=(2, 3)))).hint == "did you mean `mask`?"


def test_a_function_may_yield_tuples_tensors_or_dictionaries(folder):
    (folder / "data.py").write_text(
        "import torch\n"
        "def tuples(): yield torch.zeros(2, 3), torch.ones(2, 3)\n"
        "def named(): return [{'mask': torch.ones(2, 3), 'ids': torch.zeros(2, 3)}]\n"
        "def tensors(): return [torch.zeros(2, 3)] * 3\n"
        "def texts(): return ['a']\n"
        "def number(): return 1\n"
        "def wrong(): return [{'ids': torch.zeros(2, 3)}]\n"
        "def failing():\n    yield torch.zeros(2, 3)\n    raise ValueError('no more')\n",
        encoding="utf-8",
    )
    for name in ("tuples", "named"):
        [[ids, mask]] = read_samples(f"data.py:{name}", (IDS, MASK))
        assert (float(ids.sum()), float(mask.sum())) == (0, 6)
    assert len(read_samples("data.py:tensors", (IDS,))) == 3
    assert refusal("data.py:number").message == "data.py:number returned an int"
    assert refusal("data.py:texts").message == "sample 1 of data.py:texts holds a str"
    assert refusal("data.py:wrong").expected == "ids, mask"
    failure = refusal("data.py:failing")
    assert (failure.message, failure.span.line) == ("data.py raised ValueError: no more", 10)


@pytest.mark.parametrize("name", ["junk.npz", "junk.safetensors"])
def test_damaged_files_are_one_message(folder, name):
    (folder / name).write_bytes(b"junk")
    expected = "is no .npz file" if name.endswith("npz") else "cannot be read as .safetensors"
    assert refusal(name).message.startswith(f"{name} {expected}")


def test_a_single_array_and_a_file_without_samples_are_told_apart(folder):
    np.save("alone.npy", np.zeros((3, 2), np.int64))
    (folder / "alone.npy").rename(folder / "alone.npz")
    assert "np.savez" in refusal("alone.npz").expected
    np.savez("none.npz", ids=np.zeros((0, 1, 2), np.int64), mask=np.zeros((0, 1, 2), np.int64))
    assert refusal("none.npz").message == "none.npz gives no samples"


def test_a_file_of_objects_runs_nothing(folder):
    np.savez("objects.npz", ids=np.array([{"a": 1}], dtype=object))
    assert "allow_pickle=False" in refusal("objects.npz").message
    assert refusal("objects.npz").message.startswith("ids in objects.npz cannot be read")


def test_arrays_of_another_byte_order_are_read(folder):
    ids = np.arange(12, dtype=">i8").reshape(2, 2, 3)
    np.savez("big.npz", ids=ids, mask=np.ones((2, 2, 3), ">f4"))
    (first, _), (second, mask) = read_samples("big.npz", (IDS, MASK))
    assert first.tolist() == [[0, 1, 2], [3, 4, 5]] and second.tolist() == [[6, 7, 8], [9, 10, 11]]
    assert mask.dtype == torch.float32 and bool((mask == 1).all())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nosuch.npz", "there is no file nosuch.npz"),
        ("folder.npz", "folder.npz is a directory"),
        ("lossy.tdsl", "lossy.tdsl is no file of samples"),
        ("tiny.py:nosuch", "tiny.py has no function `nosuch`"),
    ],
)
def test_what_is_no_file_of_samples_is_refused(folder, spec, message):
    (folder / "folder.npz").mkdir()
    assert refusal(spec).message == message
