"""The largest and smallest of all entries in models that the exporter traces again."""

import pytest
import torch
from torch import nn

import tdsl
from tdsl.emit import run, session


class Cut(nn.Module):
    """As many entries as a value says: the exporter takes the size apart, and so traces the model again."""

    def forward(self, count, x):
        largest = count.max().item()
        torch._check(largest > 0)
        torch._check(largest < 20)
        return x[: largest + 1] + count.min()


class Branch(nn.Module):
    def forward(self, count, x):
        return torch.cond(x.max() > 1.0, torch.sin, torch.cos, (x,)) - x.min()


@pytest.mark.parametrize("model", [Cut(), Branch()], ids=["cut", "branch"])
def test_extremes_of_all_entries_are_written_though_the_program_is_traced_again(model):
    result = tdsl.compile(model, (torch.randint(1, 9, (2, 5)), torch.randn(20)), latency=False)
    reductions = {node.op_type for node in result.onnx.graph.node}
    assert {"ReduceMax", "ReduceMin"} <= reductions
    seen = []
    for low, high, scale in ((1, 4, 0.1), (5, 15, 4.0)):
        count, x = torch.randint(low, high, (2, 5)), scale * torch.rand(20)
        (output,) = run(session(result.onnx), {"count": count, "x": x}).values()
        torch.testing.assert_close(torch.from_numpy(output), model(count, x))
        seen.append(output)
    assert seen[0].shape != seen[1].shape or not (seen[0] == seen[1]).all()
