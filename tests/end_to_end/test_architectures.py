"""Every architecture of the zoo as it is and through the exact pipeline: equal to rounding, never larger."""

from __future__ import annotations

import functools

import onnx
import pytest
import torch
from zoo import ZOO, plain_export

import tdsl
from tdsl.capture import capture
from tdsl.emit import emit, run, session
from tdsl.engine.census import copied
from tdsl.engine.journal import Journal
from tdsl.engine.library import standard_library
from tdsl.engine.strategy import Runner

FIRES = {
    "resnet": "batch_norm_of_conv",
    "mobilenet": "batch_norm_of_conv",
    "convnext": "scale_of_linear",
    "vit": "dropout_at_inference",
    "bert": "linear_siblings",
    "gpt2": "linear_of_flattened",
    "lstm": "common_subexpressions",
    "gru": "dropout_at_inference",
    "densenet": "batch_norm_of_conv",
    "unet": "batch_norm_of_conv",
    "swin": "fold_constants",
    "t5": "linear_siblings",
}
"""A rule that the exact pipeline applies to each, at least once."""


@functools.cache
def compiled(name: str) -> tdsl.Result:
    model, args, dynamic = ZOO[name]()
    return tdsl.compile(model, args, dynamic_shapes=dynamic, latency=False)


@pytest.mark.parametrize("name", ZOO)
def test_an_architecture_is_equal_to_rounding_and_never_larger_than_torchs_own_export(name):
    result, plain = compiled(name), plain_export(name)
    captured = result.captured
    untouched = emit(captured)
    feeds = dict(zip(captured.input_names, captured.flat_args(), strict=True))
    with torch.no_grad():
        wanted = captured.flat_outputs(captured.original(*captured.args, **captured.kwargs))
    got = run(session(untouched), feeds)
    assert tuple(got) == captured.output_names
    for array, tensor in zip(got.values(), wanted, strict=True):
        scale = max(1.0, float(tensor.abs().max()))
        torch.testing.assert_close(torch.from_numpy(array), tensor, rtol=0, atol=2e-5 * scale)
    # The tied head of gpt2 costs one transpose: the weight is not stored a second time, transposed.
    assert len(untouched.graph.node) <= len(plain.graph.node) + (name == "gpt2")
    assert untouched.ByteSize() < plain.ByteSize()
    assert not any(node.op_type in ("Identity", "Constant") for node in untouched.graph.node)
    # With the rules of the pipeline.
    correctness, rounding = result.report.correctness, result.report.correctness.rounding
    assert correctness.passed and correctness.exact
    assert rounding is not None and rounding.original is not None
    assert rounding.result <= rounding.allowed < 1e-3
    assert len(result.onnx.graph.node) <= len(plain.graph.node)
    assert result.onnx.ByteSize() < plain.ByteSize()
    assert FIRES[name] in {record.rule.rpartition(".")[2] for record in result.report.rewrites}


@pytest.mark.parametrize("name", ["resnet", "convnext", "gpt2", "swin"])
def test_a_model_that_is_built_and_compiled_again_gives_the_same_bytes(name):
    model, args, dynamic = ZOO[name]()
    captured, library = capture(model, args, dynamic_shapes=dynamic), standard_library()
    module = copied(captured.module)
    Runner(library, library.pipeline("pipelines.exact")).run(module, Journal())
    again = emit(captured, module).SerializeToString(deterministic=True)
    assert again == compiled(name).onnx.SerializeToString(deterministic=True)


@pytest.mark.parametrize("name", ["resnet", "gpt2"])
def test_the_rewritten_module_and_the_file_agree_at_another_size(name):
    result = compiled(name)
    size = (3, 3, 16, 16) if name == "resnet" else (5, 11)
    inputs = torch.randn(size) if name == "resnet" else torch.randint(0, 40, size)
    with torch.no_grad():
        wanted, rewritten = result.captured.original(inputs), result.module(inputs)
    torch.testing.assert_close(rewritten, wanted, rtol=1e-4, atol=1e-4)
    (output,) = run(session(result.onnx), {result.captured.input_names[0]: inputs}).values()
    torch.testing.assert_close(torch.from_numpy(output), wanted, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        assert not torch.allclose(result.captured.original(inputs.flip(0)), wanted)


def test_the_rewritten_module_is_trained_like_any_other():
    result = compiled("resnet")
    module = copied(result.module)
    image, label = torch.randn(4, 3, 16, 16), torch.tensor([0, 1, 2, 3])
    optimizer = torch.optim.SGD(module.parameters(), 0.01)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(module(image), label)
        loss.backward()
        assert all(p.grad is not None for p in module.parameters())
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


def test_batch_norm_is_gone_and_fewer_parameters_are_left():
    result = compiled("resnet")
    assert not any(node.op_type == "BatchNormalization" for node in result.onnx.graph.node)
    assert result.report.result.parameters < result.report.original.parameters
    assert result.report.result.nodes < len(list(result.captured.module.graph.nodes))


def test_the_files_pass_onnxs_full_check_and_say_what_was_rewritten():
    proto = compiled("convnext").onnx
    onnx.checker.check_model(proto, full_check=True)
    notes = {p.value for node in proto.graph.node for p in node.metadata_props if p.key == "tdsl.rules"}
    assert "fold.scale.scale_of_linear" in notes
