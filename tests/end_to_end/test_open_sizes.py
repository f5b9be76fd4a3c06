"""Sizes that are open stay open through rewriting: nothing that looks at a graph decides what they are."""

import re

import pytest
import torch
from torch import nn
from torch.export import Dim

import tdsl
from tdsl.emit import run, session
from tdsl.verify import draw_samples, inputs_of


class Slopes(nn.Module):
    """A bias on keys that is steeper for every head, as in ALiBi: heads stand where others have the batch."""

    def forward(self, x, slopes):
        places = torch.arange(x.shape[-1])
        return torch.softmax(x + slopes.flip(0)[:, None] * places * (slopes[:, None] * x), -1)


class Similar(nn.Module):
    """How alike texts and images are: the product of what two towers make, one of them turned round."""

    def __init__(self):
        super().__init__()
        self.texts, self.images = nn.Linear(6, 4), nn.Linear(5, 4)

    def forward(self, texts, images):
        images, texts = self.images(images), self.texts(texts)
        return torch.softmax(torch.matmul(texts, images.T) + torch.matmul(texts.flip(0), images.T), -1)


class Chosen(nn.Module):
    """As many rows as pass a threshold, scaled and turned round, through a dense layer."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(4, 3)

    def forward(self, x):
        rows = torch.nonzero(x[:, 0] > 0.0)[:, 0]
        return self.dense(torch.relu(x[rows].flip(1) * 2.0)) - 1.0


class Chunks(nn.Module):
    """Steps in chunks of four, filled up with zeros, as in state space models: remainders of sizes."""

    def forward(self, x):
        length = x.shape[1]
        x = torch.nn.functional.pad(x, (0, 0, 0, (4 - length % 4) % 4))
        chunks = x.reshape(x.shape[0], x.shape[1] // 4, 4, x.shape[2])
        return chunks.cumsum(1).reshape(x.shape[0], -1, x.shape[2])[:, :length]


class FilledUp(nn.Module):
    """Chunks of four again, filled up only where that is needed."""

    def forward(self, x):
        if (missing := -x.shape[1] % 4) > 0:
            x = torch.nn.functional.pad(x, (0, 0, 0, missing))
        return x.unflatten(1, (-1, 4)).cumsum(1) * 2.0


class Routed(nn.Module):
    """Tokens in the order of their experts and back, as in mixtures of experts: a product of sizes, twice."""

    def __init__(self):
        super().__init__()
        self.router, self.dense = nn.Linear(4, 3), nn.Linear(4, 4)

    def forward(self, x):
        x = x + torch.arange(x.shape[1])[None, :, None]
        tokens = x.reshape(-1, x.shape[2])
        weights, experts = torch.topk(self.router(tokens).softmax(-1), 2)
        order = torch.argsort(experts.reshape(-1))
        rows = self.dense(tokens[order // 2])
        back = torch.empty_like(order)
        back[order] = torch.arange(order.shape[0])
        mixed = rows[back].reshape(-1, 2, x.shape[2]) * weights[..., None]
        return mixed.sum(1).reshape(x.shape)


class Whole(nn.Module):
    """Sums within chunks of four steps, of as many as there are, and differences of one step more."""

    def forward(self, x, edges):
        return x.unflatten(1, (-1, 4)).cumsum(2).flatten(1, 2) + edges[:, 1:] - edges[:, :-1]


def file_agrees(model, result, *inputs):
    (output,) = run(
        session(result.onnx), dict(zip(result.captured.input_names, inputs, strict=True))
    ).values()
    wanted = model(*inputs)
    torch.testing.assert_close(torch.from_numpy(output), wanted, rtol=1e-5, atol=1e-5)
    return wanted


def test_a_batch_is_not_taken_for_heads():
    model, slopes = Slopes().eval(), torch.rand(4)
    sizes = {"x": {0: "batch", 2: "length"}, "slopes": None}
    result = tdsl.compile(model, (torch.randn(2, 4, 6), slopes), dynamic_shapes=sizes, latency=False)
    for batch in (3, 4):
        file_agrees(model, result, torch.randn(batch, 4, 5), slopes)


def test_a_batch_is_not_taken_for_features():
    model = Similar().eval()
    sizes = {"texts": {0: "texts"}, "images": {0: "images"}}
    result = tdsl.compile(model, (torch.randn(2, 6), torch.randn(3, 5)), dynamic_shapes=sizes, latency=False)
    for texts, images in ((5, 2), (4, 4)):
        file_agrees(model, result, torch.randn(texts, 6), torch.randn(images, 5))


def test_a_number_of_rows_that_values_decide_is_left_open():
    model, x = Chosen().eval(), torch.randn(6, 4)
    result = tdsl.compile(model, (x,), latency=False)
    counts = {len(file_agrees(model, result, x + shift)) for shift in (0.0, 5.0, -0.5)}
    assert len(counts) > 1


def test_remainders_of_sizes_are_numbers_to_the_rewritten_module_and_to_the_file():
    model = Chunks()
    sizes = {"x": {0: "batch", 1: "length"}}
    result = tdsl.compile(model, (torch.randn(2, 8, 3),), dynamic_shapes=sizes, latency=False)
    assert result.report.correctness.rounding is not None  # measured in float64, so the graph runs
    for length in (4, 5, 13):
        x = torch.randn(3, length, 3)
        wanted = file_agrees(model, result, x)
        torch.testing.assert_close(result.module(x), wanted)
        assert wanted.shape == x.shape


def test_a_branch_that_other_sizes_would_not_take_is_told():
    def told(model):
        sizes = {"x": {1: "length"}}
        result = tdsl.compile(model, (torch.randn(2, 8, 3),), dynamic_shapes=sizes, latency=False)
        return [note.text for note in result.report.notes if note.kind == "sizes" and "branch" in note.text]

    (text,) = told(FilledUp())
    assert re.search(r"open_sizes.py:\d+ took the way of the example, where .*not for length = 9", text)
    assert not told(Chunks())


def test_products_of_sizes_are_numbers_to_the_exporter_and_each_is_computed_before_it_is_read():
    model = Routed().eval()
    sizes = {"x": {0: "batch", 1: "length"}}
    result = tdsl.compile(model, (torch.randn(2, 5, 4),), dynamic_shapes=sizes, latency=False)
    with torch.no_grad():
        for shape in ((3, 7, 4), (1, 4, 4)):
            assert file_agrees(model, result, torch.randn(shape)).shape == shape


def test_axes_of_several_times_a_size_are_tried_at_other_sizes():
    model, chunks = Whole(), Dim("chunks")
    example = (torch.randn(2, 8, 3), torch.randn(2, 9, 3))
    sizes = {"x": {1: 4 * chunks}, "edges": {1: 4 * chunks + 1}}
    result = tdsl.compile(model, example, dynamic_shapes=sizes, latency=False)
    assert [axes[1].name for axes in result.captured.dynamic_axes] == ["chunks", "chunks"]
    assert [one.type.tensor_type.shape.dim[1].dim_param for one in result.onnx.graph.input] == [
        "4*chunks",
        "4*chunks + 1",
    ]
    inputs, ranges = inputs_of(result.captured)
    tried = {tuple(value.shape[1] for value in one.inputs) for one in draw_samples(inputs, ranges=ranges)}
    assert len(tried) > 1 and all(steps % 4 == 0 and edges == steps + 1 for steps, edges in tried)
    assert file_agrees(model, result, torch.randn(2, 20, 3), torch.randn(2, 21, 3)).shape == (2, 20, 3)
    uneven = [(torch.randn(2, 10, 3), torch.randn(2, 11, 3))]
    with pytest.raises(tdsl.TdslError, match=r"\[2, 4\*chunks, 3\]"):
        tdsl.compile(model, example, dynamic_shapes=sizes, held_out=uneven, latency=False)
