"""Float64 copies, and the bounds that rounding is held to."""

import copy

import pytest
import torch
from torch import fx, nn

from tdsl.capture import capture
from tdsl.verify import NotInDouble, double_runs, in_double, steps_of, stored_precision
from tdsl.verify.tolerance import double_bound, file_bound, unmeasured_bound

X = torch.linspace(-1, 1, 6).reshape(2, 3)
EPS32, EPS64 = torch.finfo(torch.float32).eps, torch.finfo(torch.float64).eps


class Casts(nn.Module):
    def forward(self, x):
        return x.to(torch.float32).exp().to(x.dtype)


class HardCoded(nn.Module):
    def forward(self, x):
        return x @ torch.ones(3, 3, dtype=torch.float32)


def test_a_module_runs_in_float64_and_the_original_is_left_alone():
    model = nn.Linear(3, 2)
    (wide,) = in_double(model, (X,))((X,))
    assert wide.dtype == torch.float64
    assert model.weight.dtype == torch.float32
    assert torch.allclose(wide, nn.functional.linear(X.double(), model.weight.double(), model.bias.double()))


def test_keyword_arguments_are_widened_and_integers_are_not():
    class Picks(nn.Module):
        def forward(self, x, *, rows):
            return x[rows]

    rows = torch.tensor([1])
    (wide,) = in_double(Picks(), (X,), {"rows": rows})((X, rows))
    assert torch.equal(wide, X[1:].double())


def test_a_dtype_that_clashes_is_said():
    with pytest.raises(NotInDouble, match="fails in float64"):
        in_double(HardCoded(), (X,))


def test_precision_lost_inside_is_noticed_although_the_output_is_float64():
    with pytest.raises(NotInDouble, match=r"narrows float64 inside .*float32"):
        in_double(Casts(), (X,))


class Chooses(nn.Module):
    def __init__(self, dtype):
        super().__init__()
        self.branches = nn.ModuleList([Branch(dtype), Branch(torch.float64)])

    def forward(self, x):
        return torch.ops.higher_order.cond(x.sum() > 0, *self.branches, (x,))[0]


class Branch(nn.Module):
    def __init__(self, dtype):
        super().__init__()
        self.dtype = dtype

    def forward(self, x):
        return (x.to(self.dtype).exp().double(),)


def test_precision_lost_in_a_branch_is_noticed_as_well():
    with pytest.raises(NotInDouble, match=r"narrows float64 inside .*float32"):
        in_double(Chooses(torch.float32), (X + 2,))
    (wide,) = in_double(Chooses(torch.float64), (X + 2,))((X + 2,))
    assert torch.equal(wide, (X + 2).double().exp())


def test_a_captured_graph_has_its_written_dtypes_widened():
    for model in (Casts(), HardCoded()):
        graph = torch.export.export(model, (X,)).module()
        (wide,) = in_double(graph, (X,))((X,))
        (narrow,) = [graph(X)]
        assert wide.dtype == torch.float64
        assert torch.allclose(wide.float(), narrow, rtol=1e-5)
        assert narrow.dtype == torch.float32


def test_constants_that_are_plain_attributes_are_widened():
    class Holds(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.tensor([1.0, 2.0, 3.0])

        def forward(self, x):
            return x * self.scale

    assert in_double(fx.symbolic_trace(Holds()), (X,))((X,))[0].dtype == torch.float64


def test_new_weights_are_known_from_old_ones():
    model = nn.Linear(3, 3)
    permuted = copy.deepcopy(model)
    permuted.weight.data = permuted.weight.data.T.contiguous()
    assert stored_precision(model, permuted) == torch.float64
    scaled = copy.deepcopy(model)
    scaled.weight.data *= 1.1
    assert stored_precision(model, scaled) == torch.float32
    assert double_runs(model, scaled, (X,)).stored == torch.float32
    assert stored_precision(model, copy.deepcopy(model).double()) == torch.float64
    assert stored_precision(model, copy.deepcopy(model).bfloat16()) == torch.bfloat16


def test_bounds_follow_the_measured_condition_above_their_floor():
    condition = 1e-5
    assert file_bound(condition, torch.float32, 1) == pytest.approx(8e-5)
    assert file_bound(0.0, torch.float32, 100) == pytest.approx(4 * EPS32 * 10)
    sharp = double_bound(condition, torch.float32, torch.float64, 1)
    assert sharp == pytest.approx(1024 * condition / EPS32 * EPS64)
    assert double_bound(condition, torch.float32, torch.float32, 1) == pytest.approx(8e-5)
    assert double_bound(0.0, torch.float32, torch.float64, 4) == pytest.approx(8 * EPS64)
    assert unmeasured_bound(torch.float32, 4) == pytest.approx(128 * EPS32)
    assert unmeasured_bound(torch.float16, 1) > 1000 * unmeasured_bound(torch.float32, 1)


class Sums(nn.Module):
    def forward(self, x):
        return x.relu().sum(1).exp()


@pytest.mark.parametrize("dynamic", [None, {"x": {1: "length"}}])
def test_a_sum_is_as_many_steps_as_it_has_terms(dynamic):
    module = capture(Sums(), (torch.ones(2, 1000, 3),), dynamic_shapes=dynamic).module
    operators = sum(node.op == "call_function" for node in module.graph.nodes)
    assert steps_of(module.graph) == operators - 1 + 1000
