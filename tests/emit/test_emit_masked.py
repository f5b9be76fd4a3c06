"""A query that a mask lets attend to nothing gives zeros in the file, as it does in torch."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tdsl.capture import capture
from tdsl.emit import emit, run, session

NOTHING = {torch.bool: False, torch.float32: float("-inf")}


class Attend(nn.Module):
    def forward(self, query, key, mask):
        return F.scaled_dot_product_attention(query, key, key + 1, attn_mask=mask)


class Buffered(Attend):
    """The same under a mask that is known."""

    def __init__(self, mask):
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, query, key):
        return super().forward(query, key, self.mask)


def causal(dtype):
    mask = torch.ones(4, 4, dtype=torch.bool).tril()
    return mask if dtype == torch.bool else torch.zeros(4, 4).masked_fill(~mask, float("-inf"))


def padded(dtype):
    """A causal mask for a sequence whose first two positions are padding: their queries see nothing."""
    mask = causal(dtype)
    mask[:, :2] = NOTHING[dtype]
    return mask


def file_of(model, args, opset):
    captured = capture(model, args)
    proto = emit(captured, opset=opset)
    open_session = session(proto)

    def call(*inputs):
        (output,) = run(open_session, dict(zip(captured.input_names, inputs, strict=True))).values()
        return torch.from_numpy(output)

    return proto, call


@pytest.mark.parametrize("dtype", NOTHING)
@pytest.mark.parametrize(("rank", "opset"), [(2, 18), (4, 20), (5, 20), (4, 23)])
def test_a_query_that_sees_nothing_gives_zeros(dtype, rank, opset):
    shape = [2] * (rank - 2) + [4, 8]
    query, key = torch.randn(shape), torch.randn(shape)
    _, call = file_of(Attend(), (query, key, causal(dtype)), opset)
    for mask in (causal(dtype), padded(dtype)):
        wanted = Attend()(query, key, mask)
        torch.testing.assert_close(call(query, key, mask), wanted)
        assert bool((wanted[..., :2, :] == 0).all()) == (mask.tolist() == padded(dtype).tolist())
    assert wanted[..., 2:, :].abs().min() > 0


@pytest.mark.parametrize("dtype", NOTHING)
def test_a_known_mask_is_asked_when_the_file_is_written(dtype):
    query, key = torch.randn(2, 2, 4, 8), torch.randn(2, 2, 4, 8)
    sizes = []
    for mask in (causal(dtype), padded(dtype)):
        model = Buffered(mask)
        proto, call = file_of(model, (query, key), None)
        torch.testing.assert_close(call(query, key), model(query, key))
        sizes.append([node.op_type for node in proto.graph.node].count("Where"))
    assert sizes == [0, 1]
