"""`tdsl certify`: files that keep a contract, that break it, and that are constant."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from contracts import D4, SETS, DeepSet
from onnx import TensorProto, helper, numpy_helper
from p4m import P4M
from torch import nn
from typer.testing import CliRunner

from tdsl.capture import capture
from tdsl.cli.app import app
from tdsl.emit import emit, save
from tdsl.symmetry.certify import Certificate, Measurement
from tdsl.symmetry.probe import Whole
from tdsl.verify.wide_file import widened_model


def write(path: str, model: nn.Module, *shape: int, **options: Any) -> None:
    save(emit(capture(model.eval(), (torch.randn(shape),), **options)), path)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.chdir(tmp_path)
    Path("d4.tdsl").write_text(D4, encoding="utf-8")
    Path("sets.tdsl").write_text(SETS, encoding="utf-8")

    def invoke(*arguments: str) -> Any:
        result = CliRunner().invoke(app, ["certify", *arguments], prog_name="tdsl")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


def test_a_file_of_a_symmetric_net_is_certified(run: Callable[..., Any]) -> None:
    write("net.onnx", P4M((2, 2)), 2, 3, 12, 12)
    result = run("net.onnx", "d4.tdsl", "-o", "certificate.json")
    assert result.exit_code == 0
    assert result.stdout.startswith("CERTIFIED  net.onnx against invariant (dihedral(4)): defect ")
    found = json.loads(Path("certificate.json").read_text(encoding="utf-8"))
    assert found["sha256"] == hashlib.sha256(Path("net.onnx").read_bytes()).hexdigest()
    assert found["text"] == D4
    assert found["seeds"] == [0, 1]
    runtime, reference = found["measurements"]
    assert (runtime["precision"], reference["precision"]) == ("float32", "float64")
    assert 1e-9 < runtime["elements"]["r"]["defects"][0] < runtime["bound"] < 1e-4
    assert reference["elements"]["r"]["defects"][0] < 1e-13
    assert reference["elements"]["r"]["controls"][0] > 1e-3


def test_one_wrong_weight_that_float32_does_not_see_is_refused(run: Callable[..., Any]) -> None:
    model = P4M((2, 2))
    with torch.no_grad():
        model.layers[3].weight[5, 7, 1, 2] *= 1 + 1e-4
    write("net.onnx", model, 2, 3, 12, 12)
    result = run("net.onnx", "d4.tdsl", "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert found["verdict"] == "refused"
    runtime, reference = found["measurements"]
    assert runtime["elements"]["r"]["defects"][0] < runtime["bound"]
    assert 1e-9 < reference["elements"]["r"]["defects"][0] < 1e-5


def test_a_file_that_breaks_it_is_refused(run: Callable[..., Any]) -> None:
    model = P4M((2, 2))
    model.layers[3].stride = (2, 2)
    write("net.onnx", model, 2, 3, 12, 12)
    result = run("net.onnx", "d4.tdsl")
    assert result.exit_code == 1
    assert result.stdout.startswith("REFUSED  ")


@pytest.mark.parametrize("bias", [0.0, 1.0])
def test_a_constant_file_is_rejected(run: Callable[..., Any], bias: float) -> None:
    model = P4M((2, 2))
    nn.init.zeros_(model.classifier.weight)
    nn.init.constant_(model.classifier.bias, bias)
    write("constant.onnx", model, 2, 3, 12, 12)
    result = run("constant.onnx", "d4.tdsl")
    assert result.exit_code == 1
    assert result.stdout.startswith("VACUOUS  constant.onnx against invariant")
    assert "this is no certificate" in result.stdout


def test_in_float64_where_there_are_kernels_at_dynamic_sizes(run: Callable[..., Any]) -> None:
    write("set.onnx", DeepSet(), 2, 5, 4, dynamic_shapes={"points": {0: "batch", 1: "points"}})
    result = run("set.onnx", "sets.tdsl", "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert [one["precision"] for one in found["measurements"]] == ["float64"]
    assert found["shapes"] == {"points": [2, 8, 4]}
    assert found["group"] == "S(8)"


def test_sizes_of_the_contract_weights_beside_the_file_and_an_output_that_nothing_is_claimed_of(
    run: Callable[..., Any],
) -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 9, opset_import: ["" : 18]>
        g (float[b, n, 4] points, float[b, n, 4] others) => (float[b, n, 4] moved, float[b, n, 4] scanned)
        <int64 axis = {1}> {
            both = Add(points, others)
            moved = MatMul(both, w)
            scanned = CumSum(moved, axis)
        }
    """)
    weight = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    onnx.save(model, "both.onnx", save_as_external_data=True, location="both.data", size_threshold=0)
    text = """\
group Sn = S(n)

action shuffle of Sn on [..., n, d] {
    generator: g @ x
}

symmetry both {
    group Sn
    input points: [b, 5, d] by shuffle
    input others: [..., n, d] by shuffle
    output moved: [..., n, d] by shuffle
}
"""
    Path("both.tdsl").write_text("group Unused = S(3)\n" + text, encoding="utf-8")
    result = run("both.onnx", "both.tdsl", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["shapes"] == {"points": [2, 5, 4], "others": [2, 5, 4]}
    assert found["data"] == {"both.data": hashlib.sha256(Path("both.data").read_bytes()).hexdigest()}
    assert found["text"] == text and found["outputs"] == ["moved"]
    claims = text.replace("output moved", "output scanned")
    Path("both.tdsl").write_text(claims, encoding="utf-8")
    assert json.loads(run("both.onnx", "both.tdsl", "--json").stdout)["verdict"] == "refused"


def test_whole_numbers_need_inputs(run: Callable[..., Any]) -> None:
    table = numpy_helper.from_array(
        np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32), "table"
    )
    nodes = [
        helper.make_node("Gather", ["table", "points"], ["rows"]),
        helper.make_node("ReduceSum", ["rows", "axes"], ["output"], keepdims=0),
    ]
    axes = numpy_helper.from_array(np.array([1]), "axes")
    graph = helper.make_graph(
        nodes,
        "bag",
        [helper.make_tensor_value_info("points", TensorProto.INT64, [2, 5])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [2, 4])],
        [table, axes],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), "bag.onnx")
    text = "group Sn = S(n)\naction shuffle of Sn on [..., n] { generator: index_select(x, n, g) }\n"
    text += "symmetry bag { group Sn input points: [b, n] by shuffle output output: [b, d] invariant }\n"
    Path("bag.tdsl").write_text(text, encoding="utf-8")
    refused = run("bag.onnx", "bag.tdsl")
    assert "input points is int64, and a file does not say which values are legal" in refused.stderr
    np.savez("ids.npz", points=np.random.default_rng(1).integers(0, 9, (3, 2, 5)))
    kept = run("bag.onnx", "bag.tdsl", "--inputs", "ids.npz")
    assert kept.exit_code == 0, kept.output


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((2, 5, 12, 12), np.float32), "the file does not take sample 1, of shape [2, 5, 12, 12]"),
        (np.full((2, 3, 12, 12), np.nan, np.float32), "sample 1 has NaN values"),
    ],
)
def test_samples_that_the_file_does_not_take(run: Callable[..., Any], values: Any, message: str) -> None:
    write("net.onnx", P4M((2, 2)), 2, 3, 12, 12)
    np.savez("given.npz", **{onnx.load("net.onnx").graph.input[0].name: values})
    result = run("net.onnx", "d4.tdsl", "--inputs", "given.npz")
    assert result.exit_code == 1 and message in result.output


def test_an_image_that_is_no_square_does_not_fit_when_it_is_turned(run: Callable[..., Any]) -> None:
    write("net.onnx", P4M((2, 2)), 2, 3, 12, 10)
    result = run("net.onnx", "d4.tdsl")
    assert result.exit_code == 1 and "under r, which has the shape [2, 3, 10, 12]" in result.output


def test_what_is_no_file(run: Callable[..., Any]) -> None:
    assert "error: model.pt2 is no ONNX file" in run("model.pt2", "d4.tdsl").stderr
    assert "error: there is no file missing.onnx" in run("missing.onnx", "d4.tdsl").stderr


def test_a_widened_file_computes_the_same_in_double(run: Callable[..., Any]) -> None:
    from onnx.reference import ReferenceEvaluator

    write("net.onnx", P4M((2, 2)), 1, 3, 8, 8)
    model = onnx.load("net.onnx")
    wide = widened_model(model)
    assert all(weight.data_type != TensorProto.FLOAT for weight in wide.graph.initializer)
    image = np.random.default_rng(0).standard_normal((1, 3, 8, 8))
    [narrow] = ReferenceEvaluator(model).run(None, {"image": image.astype(np.float32)})
    [double] = ReferenceEvaluator(wide).run(None, {"image": image})
    assert double.dtype == np.float64
    np.testing.assert_allclose(narrow, double, rtol=1e-4)


def measured(
    *defects: tuple[float, ...],
    control: float = 1.0,
    lie: tuple[tuple[float, ...], ...] = (),
    bound: float = 0.0,
) -> Measurement:
    elements = {f"g{i}": Whole(one, (control,) * len(one)) for i, one in enumerate(defects)}
    slopes = {f"A{i}": one for i, one in enumerate(lie)}
    return Measurement("a runtime", "float64", bound, elements, slopes)


GOOD = measured((1e-12, 1e-12), (1e-12, 1e-12), lie=((1e-12,), (1e-12,)))


@pytest.mark.parametrize(
    ("measurements", "verdict"),
    [
        ([GOOD], "certified"),
        ([GOOD, measured((1e-12, 1e-12), (1e-12, 2e-9))], "refused"),  # one output under one element
        ([measured((2e-9, 1e-12), (1e-12, 1e-12)), GOOD], "refused"),
        ([measured((1e-12,), (float("inf"),))], "refused"),
        (
            [measured((1e-12,), lie=((0.9e-7,), (1e-12,)))],
            "certified",
        ),  # derivatives have a hundred tolerances
        ([measured((1e-12,), lie=((1.1e-7,), (1e-12,)))], "refused"),
        ([measured((1e-12,), lie=((1e-12,), (1.1e-7,)))], "refused"),
        ([measured((2e-9,), bound=1e-6)], "certified"),  # rounding, in float32
        ([measured((2e-6,), bound=1e-6)], "refused"),
        ([measured((1e-12,), control=0.9e-5, bound=1e-6)], "vacuous"),  # a wrong claim would be rounding
        ([measured((1e-12,), control=0.9e-8)], "vacuous"),
        ([measured((1e-12,), control=1.1e-8)], "certified"),
        ([GOOD, measured((1e-12,), control=0.0)], "vacuous"),
        ([measured((2e-9,), control=0.0)], "refused"),
        ([measured((1e-12,), lie=((1.1e-7, 1e-12),))], "refused"),  # of either output
    ],
)
def test_every_measurement_must_hold_and_be_able_to_fail(
    measurements: list[Measurement], verdict: str
) -> None:
    found = Certificate(
        *("a.onnx", "", {}, "kept", "", "G", 1e-9, ("y",)), tuple(measurements), {}, samples=2, seeds=(0, 1)
    )
    assert found.verdict == verdict
