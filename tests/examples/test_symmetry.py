"""Networks of the group of the square: what they keep, what an audit says of them, what their file has."""

import pytest
import symmetry
import torch
from torch import nn

import tdsl
from tdsl.capture import capture
from tdsl.symmetry.audit import audit
from tdsl.symmetry.declarations import declarations_of

IMAGES = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def drawn(**options) -> nn.Module:
    """A small network of the group, with random weights and statistics."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = symmetry.Equivariant(fields=4, **options)
        for norm in (one for one in network.modules() if isinstance(one, symmetry.FieldNorm)):
            for value in (norm.running_mean, norm.weight, norm.bias):
                nn.init.normal_(value)
            nn.init.uniform_(norm.running_var, 0.5, 2)
    return network.eval()


def test_digits_are_the_same_in_every_position():
    network = drawn().double()
    answers = [network(symmetry.positioned(IMAGES.double(), *p)) for p in symmetry.POSITIONS]
    assert answers[0].std() > 0.1
    for one in answers[1:]:
        torch.testing.assert_close(one, answers[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("network", "verdict"),
    [
        (drawn(), "kept"),
        (drawn(stride=2), "broken"),
        (symmetry.Averaged(nn.Sequential(nn.Flatten(), nn.Linear(64, 3))), "kept"),
    ],
)
def test_audit(network, verdict):
    contract = declarations_of([symmetry.CONTRACT]).contract("any_way_up")
    found = audit(capture(network, (IMAGES,), input_names=["image"], output_names=["output"]), contract)
    assert found.verdict == verdict


def test_the_strided_layer_is_named_with_what_would_do():
    captured = capture(drawn(stride=2), (IMAGES,), input_names=["image"], output_names=["output"])
    found = audit(captured, declarations_of([symmetry.CONTRACT]).contract("any_way_up"))
    assert found.first_broken is not None
    _, layer = found.first_broken
    assert (layer.module, layer.operator) == ("features.3", "conv2d")
    assert "stride 2, kernel 3, padding 1 on even width 8" in layer.why and "width 9" in layer.why


def test_the_file_has_the_kernels_once_and_nothing_between_layers(tmp_path):
    result = tdsl.compile(
        drawn(),
        (IMAGES,),
        rules=symmetry.CONTRACT,
        pipeline="certified",
        output=tmp_path / "model.onnx",
        latency=False,
    )
    calls = [node.target for node in result.module.graph.nodes if node.op == "call_function"]
    names = [call.overloadpacket.__name__ for call in calls]
    assert names == [*("conv2d", "relu") * 2, "max_pool2d", "conv2d", "relu", "reshape", "mean", "linear"]
    assert result.report.result.bytes < 1.2 * result.report.original.bytes
    [note] = [note.text for note in result.report.notes if "stored as tied" in note.text]
    assert "no number is another one" in note
