"""Emitted files compute what the model computes, under the user's names."""

import functools
import hashlib
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from zoo import ZOO

import tdsl
from tdsl.capture import Captured, capture
from tdsl.emit import emit, run, session

TESTS = Path(__file__).parents[1]


@functools.cache
def from_zoo(name: str) -> Captured:
    model, args, dynamic = ZOO[name]()
    return capture(model, args, dynamic_shapes=dynamic)


@functools.cache
def emitted(name: str) -> onnx.ModelProto:
    return emit(from_zoo(name))


def assert_runs_alike(captured: Captured, proto: onnx.ModelProto, args=None, kwargs=None) -> None:
    """The file and the original agree within float32 rounding of the largest output."""
    args, kwargs = captured.args if args is None else args, captured.kwargs if kwargs is None else kwargs
    with torch.no_grad():
        wanted = captured.flat_outputs(captured.original(*args, **kwargs))
    feeds = dict(zip(captured.input_names, captured.flat_args(args, kwargs), strict=True))
    got = run(session(proto), feeds)
    assert tuple(got) == captured.output_names
    for array, tensor in zip(got.values(), wanted, strict=True):
        scale = max(1.0, float(tensor.abs().max()))
        np.testing.assert_allclose(array, tensor.numpy(), rtol=0, atol=2e-5 * scale)


def shapes(values) -> dict[str, list]:
    return {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}


def test_the_comparison_sees_a_changed_weight():
    captured, proto = from_zoo("resnet"), onnx.ModelProto()
    proto.CopyFrom(emitted("resnet"))
    assert_runs_alike(captured, proto)
    (bias,) = [i for i in proto.graph.initializer if i.name == "fc.bias"]
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + 0.001, bias.name))
    with pytest.raises(AssertionError):
        assert_runs_alike(captured, proto)


@pytest.mark.parametrize("batch, sequence", [(1, 2), (3, 31)])
def test_dynamic_axes_are_dynamic_and_named(batch, sequence):
    captured, proto = from_zoo("bert"), emitted("bert")
    assert shapes(proto.graph.input) == {
        "input_ids": ["batch", "sequence"],
        "attention_mask": ["batch", "sequence"],
    }
    assert shapes(proto.graph.output) == {
        "last_hidden_state": ["batch", "sequence", 16],
        "pooler_output": ["batch", 16],
    }
    ids = torch.randint(0, 40, (batch, sequence))
    assert_runs_alike(captured, proto, (ids, torch.ones_like(ids)), {})


def test_a_computed_axis_is_an_expression_of_the_users_names():
    class Twice(nn.Module):
        def forward(self, x):
            return torch.cat((x, x), 1), x.reshape(-1)

    captured = capture(Twice(), torch.randn(2, 3), dynamic_shapes={"x": {0: "rows", 1: "columns"}})
    dims = shapes(emit(captured).graph.output)
    assert dims["output_0"] == ["rows", "2*columns"]
    assert "columns" in dims["output_1"][0] and "rows" in dims["output_1"][0]


def test_tied_weights_are_one_initializer():
    proto = emitted("gpt2")
    sizes = [list(i.dims) for i in proto.graph.initializer]
    assert sizes.count([40, 16]) + sizes.count([16, 40]) == 1


def weights(proto):
    return [tensor for tensor in proto.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]


def test_equal_weights_are_stored_once_and_transposes_of_weights_are_folded():
    model = nn.Sequential(nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 96)).eval()
    model[2].load_state_dict(model[0].state_dict())
    captured = capture(model, torch.randn(2, 5, 96))  # three axes: the exporter transposes each weight
    proto = emit(captured)
    assert [n.op_type for n in proto.graph.node].count("Transpose") == 0
    assert len(weights(proto)) == 2
    assert_runs_alike(captured, proto)
    with torch.no_grad():
        model[2].weight[0, 0] += 1
    assert len(weights(emit(capture(model, captured.args)))) == 3


class Everything(nn.Module):
    """Nested inputs, a flag, keyword tensors, an unused input, repeated and passed-through outputs."""

    def __init__(self):
        super().__init__()
        self.register_buffer("table", torch.arange(6.0).reshape(2, 3))

    def forward(self, pair, unused, flag=True, *, shift):
        x, index = pair
        y = x + shift if flag else x
        return {"y": y, "again": y, "x": x, "table": self.table, "picked": y[index]}


def test_nested_repeated_and_passed_through_values_keep_their_names():
    pair = (torch.randn(2, 3), torch.tensor([1, 0]))
    captured = capture(Everything(), (pair, torch.zeros(1)), {"shift": torch.ones(3)})
    proto = emit(captured)
    assert [i.name for i in proto.graph.input] == ["pair_0", "pair_1", "unused", "shift"]
    assert [o.name for o in proto.graph.output] == ["y", "again", "x", "table", "picked"]
    assert_runs_alike(captured, proto)


def test_a_name_of_the_users_wins_over_one_of_torchs():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    captured = capture(model, torch.randn(1, 4), input_names=["relu"], output_names=["0.bias"])
    proto = emit(captured)
    assert [i.name for i in proto.graph.input] == ["relu"] and proto.graph.output[0].name == "0.bias"
    assert_runs_alike(captured, proto)


@pytest.mark.parametrize("rank", [2, 3, 4, 5])
def test_attention_of_any_rank_is_emitted(rank):
    class Attend(nn.Module):
        def forward(self, q, mask):
            return F.scaled_dot_product_attention(q, q, q, attn_mask=mask)

    q = torch.randn(*[2] * (rank - 2), 5, 8)
    captured = capture(Attend(), (q, torch.randn(5, 5)))
    assert_runs_alike(captured, emit(captured))


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.float16])
def test_a_number_less_a_mask_is_emitted(dtype):
    """`1.0 - mask` for a mask of whole numbers, as tokenizers give it."""

    class Added(nn.Module):
        def forward(self, mask):
            return (1.0 - (mask + 0)) * -10000.0

    captured = capture(Added(), torch.tensor([[1, 0, 1]]).to(dtype))
    assert_runs_alike(captured, emit(captured))


def test_sizes_that_are_computed_are_numbers_where_an_operator_is_taken_apart():
    """`weight_norm` has no lowering, so that the program is traced again, with the sizes in it."""

    class Halved(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.utils.parametrizations.weight_norm(nn.Conv1d(4, 4, 3, stride=2))

        def forward(self, x):
            steps = (x.shape[-1] - 3) // 2 + 1
            return self.conv(x) + torch.arange(steps) * (2 * steps - 1) / (x.shape[0] + steps % 3)

    dynamic = {"x": {0: "batch", 2: "samples"}}
    captured = capture(Halved().eval(), torch.randn(2, 4, 9), dynamic_shapes=dynamic)
    proto = emit(captured)
    for size in ((2, 9), (3, 14), (5, 31)):
        assert_runs_alike(captured, proto, (torch.randn(size[0], 4, size[1]),))


@pytest.mark.parametrize("opset", [18, 21, 25])
def test_the_opset_is_selectable(opset):
    captured = from_zoo("convnext")
    proto = emit(captured, opset=opset)
    assert [(o.domain, o.version) for o in proto.opset_import] == [("", opset)]
    assert_runs_alike(captured, proto)


def test_the_same_model_gives_the_same_bytes_in_this_and_another_process():
    model, args, dynamic = ZOO["vit"]()
    first = emitted("vit").SerializeToString()
    assert emit(capture(model, args, dynamic_shapes=dynamic)).SerializeToString() == first
    code = (
        f"import sys; sys.path.insert(0, {str(TESTS)!r}); sys.path.insert(0, {str(TESTS / 'emit')!r})\n"
        "import hashlib; from test_emit_models import from_zoo, emit\n"
        "print(hashlib.sha256(emit(from_zoo('vit')).SerializeToString()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": "7", "PATH": ""},
        ).stdout.split()[-1]
    }
    assert digests == {hashlib.sha256(first).hexdigest()}
    assert emitted("convnext").SerializeToString() != first


def test_emitting_says_nothing_and_leaves_the_module_alone(capfd):
    captured = from_zoo("lstm")
    before = captured.module.code, [dict(n.meta) for n in captured.module.graph.nodes]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        emit(captured)
    assert capfd.readouterr() == ("", "")
    assert captured.module.code == before[0]
    assert [list(n.meta) for n in captured.module.graph.nodes] == [list(m) for m in before[1]]


def test_a_program_that_torch_takes_apart_asks_nothing_of_inputs_by_names_it_does_not_have():
    class Turned(nn.Module):
        """rot90 has no lowering of its own; rolling and joining compares sizes with the dynamic one."""

        def __init__(self):
            super().__init__()
            self.one, self.other = nn.Conv2d(4, 2, 1), nn.Conv2d(4, 2, 1)

        def forward(self, input):
            turned = torch.rot90(input.roll(1, 2), 1, [2, 3])
            return torch.cat([self.one(turned), self.other(turned)], 1)

    result = tdsl.compile(
        Turned().eval(), (torch.randn(2, 4, 9, 8),), dynamic_shapes={"input": {0: "batch"}}, latency=False
    )
    assert result.report.correctness.passed and result.report.rewrites
