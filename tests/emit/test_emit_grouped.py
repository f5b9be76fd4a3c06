"""Groups of rows, each by its own matrix, as mixtures of experts in `transformers` compute them."""

import pytest
import torch
from torch import nn

from tdsl.capture import capture
from tdsl.emit import emit, run, session

pytest.importorskip("transformers.integrations.moe")


class Experts(nn.Module):
    def __init__(self):
        super().__init__()
        self.matrices = nn.Parameter(torch.randn(3, 5, 4))

    def forward(self, x, ends):
        matrices = self.matrices.transpose(-2, -1)
        return torch.ops.transformers.grouped_mm_fallback(x, matrices, offs=ends)


@pytest.mark.parametrize("opset", [18, 23])
def test_every_group_of_rows_meets_its_own_matrix(opset):
    model = Experts().eval()
    example = (torch.randn(7, 4), torch.tensor([2, 5, 7], dtype=torch.int32))
    captured = capture(model, example, dynamic_shapes={"x": {0: "rows"}, "ends": None})
    proto = emit(captured, opset=opset)
    assert [node.op_type for node in proto.graph.node].count("MatMul") == 3
    opened = session(proto)
    for rows, ends in ((7, [2, 5, 7]), (9, [0, 0, 9]), (6, [6, 6, 6]), (8, [1, 4, 5]), (4, [0, 0, 0])):
        x, ends = torch.randn(rows, 4), torch.tensor(ends, dtype=torch.int32)
        (output,) = run(opened, {"x": x, "ends": ends}).values()
        wanted = model(x, ends)
        torch.testing.assert_close(torch.from_numpy(output), wanted)
        assert bool((wanted[int(ends[-1]) :] == 0).all())
