"""The whole road once: a captured model, its emitted file, samples, verdict."""

import torch
from torch import nn

from tdsl.capture import capture
from tdsl.emit import emit, session
from tdsl.verify import Contract, double_of, draw_samples, inputs_of, original_runner, session_runner, verify


class Pooled(nn.Module):
    """Mean of the embeddings that a mask keeps; `unused` is not read."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(20, 6)

    def forward(self, ids, mask, unused):
        weight = mask.to(torch.float32).unsqueeze(-1)
        return {"pooled": (self.table(ids) * weight).sum(1) / weight.sum(1), "tokens": mask.sum(1)}


def captured_model():
    torch.manual_seed(0)
    ids, mask = torch.tensor([[3, 7, 19], [0, 2, 5]]), torch.tensor([[1, 1, 1], [1, 0, 1]])
    sizes = {0: "batch", 1: "sequence"}
    return capture(
        Pooled().eval(),
        (ids, mask, torch.zeros(2)),
        dynamic_shapes={"ids": sizes, "mask": sizes, "unused": None},
    )


def judge(captured, file):
    inputs, ranges = inputs_of(captured)
    samples = draw_samples(inputs, ranges=ranges, largest=32)
    run = session_runner(session(file), captured.input_names, captured.output_names)
    return verify(
        original_runner(captured),
        run,
        samples,
        Contract.parse("cosine >= 0.9999"),
        exact=True,
        double=double_of(captured, captured.module),
        output_names=captured.output_names,
    )


def test_an_emitted_file_equals_its_model_at_every_size():
    captured = captured_model()
    verdict = judge(captured, emit(captured))
    assert verdict.passed, str(verdict)
    assert not verdict.skipped and not verdict.warnings
    assert {"batch=1, sequence=1", "batch=32, sequence=3", "batch=2, sequence=32"} <= {
        row.sample for row in verdict.rows
    }


def test_a_file_of_another_model_is_rejected():
    captured, other = captured_model(), captured_model()
    with torch.no_grad():
        captured.original.table.weight[7, 2] += 1e-3
    assert not judge(captured, emit(other)).passed
