"""Emitted graphs compute no shapes that are known, move nothing twice and hand over no defaults."""

from __future__ import annotations

import collections

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import tdsl
from tdsl.capture import capture
from tdsl.emit import emit
from tdsl.emit.arrangement import Arrangement
from tdsl.emit.sizes import parsed, product, quotient, symbol
from tdsl.emit.targets import target
from tdsl.emit.tidy import shorten

BATCH, LENGTH = symbol("batch"), symbol("length")


def graph(nodes, inputs, outputs, constants=None):
    """An IR model with float inputs and outputs of these shapes."""
    kinds = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in values.items()]
        for values in (inputs, outputs)
    ]
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()]
    proto = helper.make_model(
        helper.make_graph(nodes, "g", *kinds, tensors),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=9,
    )
    onnx.checker.check_model(proto, full_check=True)
    return onnx.shape_inference.infer_shapes(proto)


def shortened(proto):
    """The model after tidying, and how often it has each operator."""
    model = ir.serde.deserialize_model(proto)
    shorten(model)
    after = ir.serde.serialize_model(model)
    onnx.checker.check_model(after, full_check=True)
    return after, collections.Counter(node.op_type for node in after.graph.node)


def run(proto, **inputs):
    known = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return known.run(None, inputs)


def random(*shape):
    return np.random.standard_normal(shape).astype(np.float32)


def assert_same(before, after, **inputs):
    expected = run(before, **inputs)
    assert expected[0].size == 0 or expected[0].std() > 0
    for a, b in zip(expected, run(after, **inputs), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("text", "size"),
    [("12", 12), ("2*batch", 2 * BATCH), ("batch*(length + 1)", BATCH * LENGTH + BATCH)],
)
def test_names_of_axes_are_polynomials(text, size):
    assert parsed(text) == size


def test_a_name_that_states_no_polynomial_stands_for_itself():
    assert parsed("batch//2") == parsed("batch//2") != parsed("batch//3")
    assert quotient(parsed("batch//2"), BATCH) is None


def test_quotients_are_found_only_where_they_hold_for_every_size():
    assert quotient(product([BATCH, 6, LENGTH]), 3 * LENGTH) == 2 * BATCH
    assert quotient(BATCH * LENGTH + BATCH, BATCH) == LENGTH + 1
    assert quotient(BATCH, 2) is None and quotient(7, 2) is None and quotient(BATCH, LENGTH) is None


@pytest.mark.parametrize(
    ("given_shape", "wanted", "expected"),
    [
        ((7, BATCH, 2, 12), (7, BATCH, 24), (7, 0, 24)),
        ((BATCH, LENGTH, 2, 12), (BATCH, LENGTH, 24), (0, 0, 24)),
        ((BATCH * LENGTH, 8), (BATCH * LENGTH, 2, 4), (0, 2, 4)),
        ((4 * BATCH, 16, 8), (BATCH, 8, 8, 8), (-1, 8, 8, 8)),
        ((BATCH, LENGTH, 6), (LENGTH, BATCH, 6), None),
        ((BATCH, 2, LENGTH), (BATCH, 2 * LENGTH), None),  # with no rows at all -1 could be anything
    ],
)
def test_targets_of_reshapes_that_hold_for_every_size(given_shape, wanted, expected):
    assert target(given_shape, wanted) == expected


# ---------------------------------------------------------------- arrangements


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_an_arrangement_does_what_its_chain_does(data):
    x = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    expected, found = x, Arrangement.of(x.shape)
    for _ in range(data.draw(st.integers(1, 5))):
        if data.draw(st.booleans()):
            order = data.draw(st.permutations(range(expected.ndim)))
            expected, found = expected.transpose(order), found.transposed(order)
        else:
            shapes = [
                (6, 20),
                (2, 1, 12, 5),
                (4, 3, 2, 5),
                (5, 4, 3, 2),
                (2, 3, 20),
                (120,),
                (2, 3, 2, 2, 5, 1),
            ]
            shape = data.draw(st.sampled_from(shapes))
            after = found.reshaped(shape)
            if after is None:
                continue
            expected, found = expected.reshape(shape), after
    read, order = found.steps()
    again = x.reshape(read)
    again = again.transpose(order) if order is not None else again
    assert found.shape == expected.shape
    assert np.array_equal(again.reshape(expected.shape), expected)


def attention_keys(read):
    """What torch's exporter makes of transposed keys with dynamic axes; `read` are the last axes."""
    end = np.iinfo(np.int64).max
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Slice", ["s", "m1", "end"], ["d"]),
        helper.make_node("Slice", ["s", "m2", "m1"], ["l"]),
        helper.make_node("Slice", ["s", "zero", "m2"], ["front"]),
        helper.make_node("Concat", ["m1", "l", "d"], ["t"], axis=0),
        helper.make_node("Reshape", ["x", "t"], ["y"]),
        helper.make_node("Transpose", ["y"], ["z"], perm=[0, 2, 1]),
        helper.make_node("Concat", ["front", *read], ["u"], axis=0),
        helper.make_node("Reshape", ["z", "u"], ["keys"]),
    ]
    constants = {"m1": [-1], "m2": [-2], "zero": [0], "end": [end], "four": [4], "two": [2]}
    rank = 4 if read == ("d", "l") else 5
    return graph(nodes, {"x": ["batch", 3, "length", 8]}, {"keys": [None] * rank}, constants)


def test_keys_are_transposed_by_one_operator():
    before = attention_keys(("d", "l"))
    after, kinds = shortened(before)
    assert kinds == {"Transpose": 1}
    for shape in ((2, 3, 5, 8), (1, 3, 1, 8), (0, 3, 5, 8)):
        assert_same(before, after, x=random(*shape))


def test_axes_that_are_taken_apart_after_a_transposition_stay():
    before = attention_keys(("two", "four", "l"))
    after, kinds = shortened(before)
    assert kinds["Transpose"] == 1 and kinds["Reshape"] >= 1
    assert_same(before, after, x=random(2, 3, 5, 8))


def test_a_value_between_that_somebody_reads_stays():
    nodes = [
        helper.make_node("Transpose", ["x"], ["y"], perm=[1, 0, 2]),
        helper.make_node("Relu", ["y"], ["other"]),
        helper.make_node("Transpose", ["y"], ["z"], perm=[1, 0, 2]),
    ]
    before = graph(nodes, {"x": [2, 3, 4]}, {"z": [2, 3, 4], "other": [3, 2, 4]})
    after, kinds = shortened(before)
    assert kinds["Relu"] == 1 and kinds["Transpose"] == 1
    assert_same(before, after, x=random(2, 3, 4))


# ---------------------------------------------------------------- recurrent layers


class Recurrent(nn.Module):
    """A recurrent layer; `state` says whether initial states are an input."""

    def __init__(self, kind, *, state=False, **options):
        super().__init__()
        self.layer, self.state = kind(5, 6, **options), state

    def forward(self, x, *state):
        y, last = self.layer(x, (state if len(state) > 1 else state[0]) if self.state else None)
        return y, *(last if isinstance(last, tuple) else (last,))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize(
    ("options", "most"),
    [
        ({}, 3),
        ({"batch_first": True}, 5),
        ({"bidirectional": True, "batch_first": True}, 4),
        ({"num_layers": 2, "bidirectional": True}, 8),
    ],
)
def test_no_shapes_are_computed_around_recurrent_layers(kind, options, most):
    torch.manual_seed(0)
    model = Recurrent(kind, **options).eval()
    batch = 0 if options.get("batch_first") else 1
    axes = ({batch: torch.export.Dim("batch")},)
    proto = emit(capture(model, (torch.randn(3, 3, 5),), dynamic_shapes=axes))
    kinds = collections.Counter(node.op_type for node in proto.graph.node)
    assert not kinds.keys() & {"Shape", "Mul", "Concat", "Expand", "Slice"} - (
        {"Concat"} if "num_layers" in options else set()
    )
    assert sum(kinds.values()) <= most
    for size in (3, 7, 1):
        x = torch.randn(*((size, 3) if batch == 0 else (3, size)), 5)
        expected = [value.detach().numpy() for value in model(x)]
        assert expected[0].std() > 0
        for a, b in zip(expected, run(proto, x=x.numpy()), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("kind", "states"), [(nn.LSTM, 2), (nn.GRU, 1)])
def test_initial_states_of_the_user_stay(kind, states):
    torch.manual_seed(0)
    model = Recurrent(kind, state=True).eval()
    args = (torch.randn(4, 3, 5), *(torch.randn(1, 3, 6) for _ in range(states)))
    proto = emit(capture(model, args))
    (node,) = (node for node in proto.graph.node if node.op_type in ("LSTM", "GRU"))
    assert len(node.input) == 5 + states
    inputs = dict(zip([i.name for i in proto.graph.input], (a.numpy() for a in args), strict=True))
    found = run(proto, **inputs)
    np.testing.assert_allclose(model(*args)[0].detach().numpy(), found[0], rtol=1e-4, atol=1e-5)
    assert not np.allclose(
        found[0],
        run(proto, **(inputs | {proto.graph.input[1].name: inputs[proto.graph.input[1].name] + 1}))[0],
    )


@pytest.mark.parametrize(("fill", "left"), [(0.0, 3), (0.5, 6)])
def test_only_zeros_are_left_out(fill, left):
    nodes = [
        helper.make_node("Expand", ["fill", "shape"], ["h"]),
        helper.make_node("GRU", ["x", "w", "r", "", "", "h"], ["y"], hidden_size=4),
    ]
    constants = {"fill": np.float32(fill), "shape": [1, 3, 4], "w": random(1, 12, 5), "r": random(1, 12, 4)}
    before = graph(nodes, {"x": [2, 3, 5]}, {"y": [2, 1, 3, 4]}, constants)
    after, _ = shortened(before)
    (layer,) = (node for node in after.graph.node if node.op_type == "GRU")
    assert len(layer.input) == left
    assert_same(before, after, x=random(2, 3, 5))


def test_a_file_says_no_inner_shapes_but_those_of_inputs_and_outputs():
    proto = emit(
        capture(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval(), (torch.randn(2, 4),))
    )
    assert len(proto.graph.node) == 3 and not proto.graph.value_info
    assert [len(v.type.tensor_type.shape.dim) for v in (*proto.graph.input, *proto.graph.output)] == [2, 2]


def test_a_state_that_is_filled_with_another_number_stays():
    """The control of what a model without initial states looks like: the same graph filled with zeros."""
    for fill, left in ((0.5, 6), (0.0, 3)):
        filled = helper.make_tensor("fill", TensorProto.FLOAT, [1], [fill])
        nodes = [
            helper.make_node("ConstantOfShape", ["shape"], ["h"], value=filled),
            helper.make_node("GRU", ["x", "w", "r", "", "", "h"], ["y"], hidden_size=4),
        ]
        constants = {"shape": [1, 3, 4], "w": random(1, 12, 5), "r": random(1, 12, 4)}
        before = graph(nodes, {"x": [2, 3, 5]}, {"y": [2, 1, 3, 4]}, constants)
        after, _ = shortened(before)
        (layer,) = (node for node in after.graph.node if node.op_type == "GRU")
        assert len(layer.input) == left
        assert_same(before, after, x=random(2, 3, 5))


# ---------------------------------------------------------------- slices, layers, quotients


def test_slices_of_different_axes_are_one_and_one_entry_is_gathered():
    nodes = [
        helper.make_node("Slice", ["x", "zero", "two", "zero"], ["a"]),
        helper.make_node("Slice", ["a", "one", "three", "one"], ["y"]),
        helper.make_node("Slice", ["x", "one", "two", "one"], ["b"]),
        helper.make_node("Squeeze", ["b", "one"], ["z"]),
    ]
    constants = {"zero": [0], "one": [1], "two": [2], "three": [3]}
    before = graph(nodes, {"x": [4, 5, 6]}, {"y": [2, 2, 6], "z": [4, 6]}, constants)
    after, kinds = shortened(before)
    assert kinds == {"Slice": 1, "Gather": 1}
    assert_same(before, after, x=random(4, 5, 6))


def test_slices_of_one_axis_stay():
    nodes = [
        helper.make_node("Slice", ["x", "one", "three", "zero"], ["a"]),
        helper.make_node("Slice", ["a", "one", "two", "zero"], ["y"]),
    ]
    before = graph(nodes, {"x": [4, 5]}, {"y": [1, 5]}, {"zero": [0], "one": [1], "two": [2], "three": [3]})
    after, kinds = shortened(before)
    assert kinds == {"Slice": 2}
    assert_same(before, after, x=random(4, 5))


def dense(pointwise):
    """Two layers with `pointwise` between them."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        helper.make_node("Add", ["p", "b"], ["q"]),
        helper.make_node(pointwise, ["q"], ["r"], **({"axis": 1} if pointwise == "Softmax" else {})),
        helper.make_node("MatMul", ["r", "w"], ["s"]),
        helper.make_node("Add", ["s", "b"], ["y"]),
    ]
    shape = ["batch", 3, 5, 8]
    return graph(nodes, {"x": shape}, {"y": shape}, {"w": random(8, 8), "b": random(8)})


def test_layers_one_after_the_other_read_rows():
    before = dense("Gelu")
    after, kinds = shortened(before)
    assert kinds == {"Reshape": 2, "Gemm": 2, "Gelu": 1}
    assert_same(before, after, x=random(2, 3, 5, 8))
    assert_same(before, after, x=random(0, 3, 5, 8))


def test_layers_between_which_axes_meet_stay():
    _, kinds = shortened(dense("Softmax"))
    assert kinds == {"MatMul": 2, "Add": 2, "Softmax": 1}


@pytest.mark.parametrize(
    ("shared", "left"), [(False, {"Sqrt", "Div"}), (True, {"Sqrt", "Reciprocal", "Mul"})]
)
def test_products_with_reciprocals_are_quotients(shared, left):
    nodes = [
        helper.make_node("Sqrt", ["v"], ["s"]),
        helper.make_node("Reciprocal", ["s"], ["r"]),
        helper.make_node("Mul", ["x", "r"], ["y"]),
    ]
    outputs = {"y": [3, 4]} | ({"r": [3, 1]} if shared else {})
    before = graph(nodes, {"x": [3, 4], "v": [3, 1]}, outputs)
    after, kinds = shortened(before)
    assert kinds.keys() == left
    assert_same(before, after, x=random(3, 4), v=np.abs(random(3, 1)) + 1)


def test_a_reciprocal_that_is_added_stays():
    nodes = [
        helper.make_node("Reciprocal", ["v"], ["r"]),
        helper.make_node("Add", ["x", "r"], ["y"]),
    ]
    before = graph(nodes, {"x": [3, 4], "v": [3, 1]}, {"y": [3, 4]})
    after, kinds = shortened(before)
    assert kinds == {"Reciprocal": 1, "Add": 1}
    assert_same(before, after, x=random(3, 4), v=np.abs(random(3, 1)) + 1)


class RootMeanSquare(nn.Module):
    """A normalisation with a weight, which the layer behind it takes in, and one without, read by a sum."""

    def __init__(self, power: int = 2, axis: int = -1) -> None:
        super().__init__()
        self.weight, self.layer = nn.Parameter(torch.randn(8)), nn.Linear(8, 8)
        self.power, self.axis = power, axis

    def normed(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.pow(self.power).mean(self.axis, keepdim=True) + 1e-5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.layer(self.normed(x) * self.weight)
        return h + self.normed(h)


def computed(model: onnx.ModelProto, folder) -> collections.Counter:
    """The operators that onnxruntime computes a model by."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(folder / "optimised.onnx"), 4
    onnxruntime.InferenceSession(model.SerializeToString(), options)
    return collections.Counter(
        node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node
    )


def test_a_normalisation_whose_weight_a_layer_took_in_is_computed_in_one_pass(tmp_path):
    result = tdsl.compile(RootMeanSquare(), (torch.randn(2, 3, 8),), latency=False)
    assert any(record.rule == "fold.scale.linear_of_scaled" for record in result.report.rewrites)
    kinds = computed(result.onnx, tmp_path)
    assert kinds["SimplifiedLayerNormalization"] == kinds["Sqrt"] == 1
    assert len(result.onnx.graph.initializer) == len({i.name for i in result.onnx.graph.initializer})
    assert (
        sum(
            list(i.dims) == [8] and (numpy_helper.to_array(i) == 1).all()
            for i in result.onnx.graph.initializer
        )
        == 1
    )


@pytest.mark.parametrize("other", [{"power": 4}, {"axis": 1}])
def test_what_onnxruntime_knows_as_no_normalisation_is_not_multiplied(other):
    result = tdsl.compile(RootMeanSquare(**other), (torch.rand(2, 3, 8) + 1,), latency=False)
    assert not any(
        list(i.dims) == [8] and (numpy_helper.to_array(i) == 1).all() for i in result.onnx.graph.initializer
    )


class PaddedPool(nn.Module):
    def __init__(self, before: nn.Module, border: float) -> None:
        super().__init__()
        self.before, self.border = before, border

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.max_pool2d(nn.functional.pad(self.before(x), (1, 0, 1, 0), value=self.border), 2)


@pytest.mark.parametrize(
    ("before", "border", "named"),
    [(nn.Conv2d(3, 4, 1), 0.0, True), (nn.ReLU(), 0.0, False), (nn.Conv2d(3, 4, 1), -torch.inf, False)],
)
def test_zeros_around_an_image_are_seen_by_the_largest_of_a_window(before, border, named):
    x = torch.randn(2, 3, 5, 5)
    model = PaddedPool(before, border)
    proto = emit(capture(model, (x,)))
    (pad,) = (node for node in proto.graph.node if node.op_type == "Pad")
    assert (len(pad.input) == 4) is named
    (output,) = run(proto, x=x.numpy())
    torch.testing.assert_close(torch.from_numpy(output), model(x).detach())


def test_an_expansion_before_a_broadcast_goes_and_one_that_makes_the_shape_stays():
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Expand", ["c", "s"], ["e"]),
        helper.make_node("Mul", ["x", "e"], ["y"]),
        helper.make_node("Expand", ["c", "s"], ["f"]),
        helper.make_node("Mul", ["f", "c"], ["z"]),
    ]
    before = graph(nodes, {"x": ["n", 4]}, {"y": ["n", 4], "z": ["n", 4]}, {"c": random(1, 4)})
    after, kinds = shortened(before)
    assert kinds["Expand"] == 1
    for rows in (3, 1):
        assert_same(before, after, x=random(rows, 4))


def test_heads_of_one_sequence_are_moved_in_blocks():
    nodes = [
        helper.make_node("Reshape", ["x", "heads"], ["split"]),
        helper.make_node("Transpose", ["split"], ["turned"], perm=[1, 0, 2]),
        helper.make_node("Reshape", ["turned", "batch"], ["z"]),
    ]
    targets = {"heads": np.array([8, 4, 6]), "batch": np.array([1, 4, 8, 6])}
    before = graph(nodes, {"x": [8, 1, 24]}, {"z": [1, 4, 8, 6]}, targets)
    after, kinds = shortened(before)
    assert kinds == {"Reshape": 1, "Transpose": 1}
    assert_same(before, after, x=random(8, 1, 24))
    (order,) = [list(node.attribute[0].ints) for node in after.graph.node if node.op_type == "Transpose"]
    assert order == [0, 2, 1, 3]  # a last axis of size 1 that went elsewhere would be moved number by number


# ---------------------------------------------------------------- joins


class Expanded(nn.Module):
    """A part of SqueezeNet (Iandola et al., 2016): two convolutions of one image, joined along channels."""

    def __init__(self):
        super().__init__()
        self.squeeze, self.narrow = nn.Conv2d(32, 16, 1), nn.Conv2d(16, 16, 1)
        self.wide, self.last = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(32, 32, 1)

    def forward(self, x):
        x = self.squeeze(x).relu()
        return self.last(torch.cat([self.narrow(x).relu(), self.wide(x).relu()], 1))


def test_images_stay_in_blocks_where_they_are_joined(tmp_path):
    model = emit(capture(Expanded().eval(), (torch.randn(1, 32, 9, 9),)))
    axes = [a.i for node in model.graph.node if node.op_type == "Concat" for a in node.attribute]
    assert axes == [1]
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = collections.Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
    assert found["ReorderInput"] + found["ReorderOutput"] <= 2


def test_an_axis_is_counted_from_the_front_where_the_number_of_axes_is_known():
    join = helper.make_node("Concat", ["x", "y"], ["z"], axis=-2)
    before = graph([join], {"x": ["n", 3, 4], "y": ["n", 5, 4]}, {"z": ["n", 8, 4]})
    after, _ = shortened(before)
    assert after.graph.node[0].attribute[0].i == 1
    assert_same(before, after, x=random(2, 3, 4), y=random(2, 5, 4))
