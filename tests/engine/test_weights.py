"""New weights: element type, precision, training; and that the user's model is never touched."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from rewriting import apply, graph_of, run_pipeline
from torch import nn

from tdsl.engine.census import census

MERGE = """
rule merge {
    linear(linear(x: [..., n], A: const [k, n], a?), B: const [m, k], b?)
  =>
    linear(x, B @ A, B @ a + b)
}
"""


def two_layers(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 40), nn.Linear(40, 5), nn.Tanh()).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_new_weight_has_the_element_type_of_the_model_and_is_computed_in_float64(dtype):
    model = two_layers(dtype)
    result = apply(MERGE, graph_of(model, torch.randn(3, 6, dtype=dtype)))
    weight, a, outer, b = (p.detach() for p in model.parameters())
    bias, merged = sorted(result.module.parameters(), key=lambda p: p.ndim)
    assert merged.dtype == bias.dtype == dtype
    assert torch.equal(merged, (outer.double() @ weight.double()).to(dtype))
    assert torch.equal(bias, (outer.double() @ a.double() + b.double()).to(dtype))
    # In the model's own precision the bias would be rounded twice.
    assert torch.equal(bias, outer @ a + b) == (dtype == torch.float64)


def test_new_parameters_are_trained_like_any_other():
    x, wanted = torch.randn(8, 6), torch.randn(8, 5)
    result = apply(MERGE, graph_of(two_layers(), x))
    assert result.rules == ["merge"]
    parameters = list(result.module.parameters())
    assert len(parameters) == 2 and all(p.requires_grad for p in parameters)
    optimizer = torch.optim.SGD(parameters, 0.1)
    before = F.mse_loss(result.module(x), wanted)
    before.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in parameters)
    optimizer.step()
    assert F.mse_loss(result.module(x), wanted) < before


class Scaled(nn.Module):
    """Inputs by a table of angles, as rotary positions are, and by a layer."""

    def __init__(self, *, trained: bool) -> None:
        super().__init__()
        angles = torch.linspace(0.1, 1.0, 6)
        self.angles = nn.Parameter(angles) if trained else nn.Buffer(angles)
        self.dense = nn.Linear(6, 6)

    def forward(self, x):
        return self.dense(x * self.angles.cos()) * self.angles.sin()


@pytest.mark.parametrize("trained", [True, False])
def test_what_is_made_of_buffers_alone_is_one(trained):
    """Angles that are not trained are not by being folded; by a layer they are, since it is."""
    model = Scaled(trained=trained)
    graph = graph_of(model, torch.randn(2, 6))
    module = run_pipeline("pipeline p { once cleanup.fold_constants }", graph).module
    assert len(list(module.buffers())) == (0 if trained else 2)
    assert len(list(module.parameters())) == (4 if trained else 2)
    merged = "repeat cleanup.*, fold.* until stable"
    folded = run_pipeline(f"pipeline p {{ {merged} }}", graph).module
    assert not list(folded.buffers())
    assert [p.requires_grad for p in folded.parameters()] == [True, True]


def test_the_users_weights_are_never_written_and_the_captured_graph_stays():
    model = two_layers()
    before = copy.deepcopy(model.state_dict())
    graph = graph_of(model, torch.randn(3, 6))
    code = graph.module.code
    result = apply(MERGE, graph)
    assert graph.module.code == code and result.module.code != code
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert set(dict(graph.module.named_parameters())) == set(dict(model.named_parameters()))


def test_a_weight_that_stays_is_the_users_own():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.ReLU())
    graph = graph_of(model, torch.randn(2, 4))
    result = apply("rule twice {\n    relu(relu(x))\n  =>\n    relu(x)\n}\n", graph)
    assert result.module.get_parameter("0.weight") is model[0].weight


def test_a_new_weight_is_named_after_the_one_it_was_made_from():
    result = apply(MERGE, graph_of(two_layers(), torch.randn(3, 6)))
    names = sorted(dict(result.module.named_parameters()))
    assert names and all(name.startswith(("0.", "1.")) for name in names)
    assert sorted(result.module.state_dict()) == names


def test_weights_that_are_used_no_more_are_dropped():
    result = apply(MERGE, graph_of(two_layers(), torch.randn(3, 6)))
    assert sum(p.numel() for p in result.module.parameters()) == 6 * 5 + 5


def test_a_folded_weight_keeps_its_name_and_a_merged_one_gets_its_own():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 9), nn.Linear(9, 4))
    pipeline = "pipeline p { repeat fold.* until stable }"
    result = run_pipeline(pipeline, graph_of(model, torch.randn(3, 6)))
    assert result.rules == ["merge_linear", "batch_norm_of_linear"]
    assert dict(result.module.named_parameters()).keys() == {
        "0.weight",
        "0.bias",
        "4.bias",
        "4.weight_merge_linear",
    }
    assert result.module.get_parameter("0.weight") is not model[0].weight
    result.assert_equal()


def test_weights_that_are_parts_of_one_memory_count_each_and_one_seen_twice_counts_once():
    """As `vector_to_parameters` leaves them; the control is a weight and its transpose."""
    model, inputs = two_layers(), torch.randn(3, 6)
    apart = census(graph_of(model, inputs).module)
    flat = nn.utils.parameters_to_vector(model.parameters()).detach()
    nn.utils.vector_to_parameters(flat, model.parameters())
    assert census(graph_of(model, inputs).module) == apart
    tied = nn.Sequential(nn.Linear(6, 40, bias=False), nn.Linear(40, 6, bias=False))
    tied[1].weight = nn.Parameter(tied[0].weight.detach().T)
    assert census(graph_of(tied, inputs).module).parameters == 240
