"""Duplicates and dead units that were planted are merged exactly; what is nearly equal is left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hidden_models import EXPECTED, Built, made
from torch import Tensor, nn
from zoo import ZOO

import tdsl
from tdsl.capture import Captured, capture
from tdsl.engine.journal import Journal
from tdsl.engine.passes import standard_passes
from tdsl.symmetry.hidden import Merged, hidden_symmetry, merge_duplicates, weights_of, with_weights
from tdsl.symmetry.hidden.layout import Atom
from tdsl.symmetry.hidden.roles import roles_of
from tdsl.symmetry.hidden.units import places_in


def mlp(activation: Callable[[Tensor], Tensor] = torch.tanh, bias: bool = True) -> Built:
    torch.manual_seed(0)
    return made(
        lambda m, x: m.b(activation(m.a(x))),
        torch.randn(8, 5),
        a=nn.Linear(5, 7),
        b=nn.Linear(7, 3, bias=bias),
    )


def cnn(padding: int = 0) -> Built:
    torch.manual_seed(0)
    return made(
        lambda m, x: m.b(F.relu(m.norm(m.a(x)))),
        torch.randn(2, 3, 7, 7),
        a=nn.Conv2d(3, 6, 3),
        norm=nn.BatchNorm2d(6),
        b=nn.Conv2d(6, 4, 3, padding=padding, bias=False),
    )


def error(found: Captured, merged: Merged) -> float:
    with torch.no_grad():
        before = found.flat_outputs(found.module(*found.args, **found.kwargs))
        after = found.flat_outputs(merged.module(*found.args, **found.kwargs))
    assert all(float(x.std()) > 0 for x in before)
    return max(float((x - y).abs().max() / x.abs().max()) for x, y in zip(before, after, strict=True))


def with_duplicates(found: Captured) -> tuple[Captured, int]:
    """Unit 1 of every group that allows it made a copy of unit 0; how many groups that are."""
    inference = hidden_symmetry(found).inference
    weights = weights_of(found.module)
    count = 0
    for group in hidden_symmetry(found).groups:
        roles = roles_of(inference, group.atom)
        if group.over or roles.refused is not None:
            continue
        count += 1
        for node, axis in roles.own:
            layout, path = inference.axes(node)[axis], str(node.target)
            sizes = {number: inference.system.size(Atom(number)) for number in group.sizes}
            first, second, *_ = (torch.from_numpy(p) for p in places_in(layout, group.atom, sizes))
            tensor = weights[path].clone()
            weights[path] = tensor.index_copy_(axis, second, tensor.index_select(axis, first))
    args, kwargs = found.args, found.kwargs
    return capture(with_weights(found.module, weights), args, kwargs), count


def set_rows(model: nn.Module, name: str, change: Callable[[Tensor], None]) -> None:
    with torch.no_grad():
        change(model.get_parameter(name))


@pytest.mark.parametrize(
    ("name", "count"), [("mlp", 2), ("cnn_flatten", 1), ("residual", 3), ("depthwise", 1), ("concat", 2)]
)
def test_planted_duplicates_are_merged(name: str, count: int) -> None:
    torch.manual_seed(0)
    found, planted = with_duplicates(capture(*EXPECTED[name][0]()))
    before = sum(t.numel() for t in weights_of(found.module).values())
    merged = merge_duplicates(found)
    assert len(merged.groups) == planted == count
    assert all(group.duplicates == 1 and group.constants == 0 for group in merged.groups)
    assert error(found, merged) <= 1e-12
    after = sum(t.numel() for t in weights_of(merged.module).values())
    assert merged.saved_parameters == before - after > 0


@pytest.mark.parametrize("name", ["resnet", "mobilenet", "densenet", "unet", "gpt2", "vit"])
def test_planted_in_the_zoo(name: str) -> None:
    model, args, _ = ZOO[name]()
    args = tuple(x.double() if x.is_floating_point() else x for x in args)
    found, planted = with_duplicates(capture(model.double(), args))
    merged = merge_duplicates(found)
    assert len(merged.groups) == planted >= 2
    assert error(found, merged) <= 1e-10


@pytest.mark.parametrize("name", EXPECTED)
def test_nothing_is_merged_where_nothing_is_equal(name: str) -> None:
    torch.manual_seed(0)
    assert not merge_duplicates(capture(*EXPECTED[name][0]())).groups


def test_near_duplicates_are_left() -> None:
    model, args = mlp()
    set_rows(model, "a.weight", lambda w: w[1].copy_(w[0] * 1.001))
    set_rows(model, "a.bias", lambda b: b[1].copy_(b[0]))
    assert not merge_duplicates(capture(model, args)).groups
    set_rows(model, "a.weight", lambda w: w[1].copy_(w[0]))
    assert merge_duplicates(capture(model, args)).groups[0].duplicates == 1


@pytest.mark.parametrize("bias", [True, False])
def test_constant_units_go_into_the_bias(bias: bool) -> None:
    model, args = mlp(bias=bias)
    set_rows(model, "a.weight", lambda w: w[2:5].zero_())
    found = capture(model, args)
    merged = merge_duplicates(found)
    (group,) = merged.groups
    assert (group.size, group.duplicates, group.constants) == (7, 0, 3)
    assert error(found, merged) <= 1e-12
    assert merged.saved_parameters == 3 * (5 + 1 + 3) - (0 if bias else 3)


def test_constants_of_a_convolution_pass_its_norm() -> None:
    model, args = cnn()
    set_rows(model, "a.weight", lambda w: w[1].zero_())
    set_rows(model, "norm.bias", lambda b: b[1].fill_(9.0))
    found = capture(model, args)
    merged = merge_duplicates(found)
    assert merged.groups[0].constants == 1
    assert error(found, merged) <= 1e-12


def test_a_padded_border_keeps_a_constant_that_is_not_zero() -> None:
    model, args = cnn(padding=1)
    set_rows(model, "a.weight", lambda w: w[1].zero_())
    set_rows(model, "norm.bias", lambda b: b[1].fill_(9.0))
    assert not merge_duplicates(capture(model, args)).groups
    set_rows(model, "norm.bias", lambda b: b[1].fill_(-9.0))  # relu makes it 0, and 0 is 0 at the border
    found = capture(model, args)
    merged = merge_duplicates(found)
    assert merged.groups[0].constants == 1
    assert error(found, merged) <= 1e-12


@pytest.mark.parametrize(("padding", "constants"), [(0, 1), (1, 0)])
def test_a_padded_mean_does_not_keep_a_constant(padding: int, constants: int) -> None:
    torch.manual_seed(0)
    model, args = made(
        lambda m, x: m.b(F.avg_pool2d(F.relu(m.a(x)), 3, 2, padding)),
        torch.randn(2, 3, 9, 9),
        a=nn.Conv2d(3, 6, 3),
        b=nn.Conv2d(6, 4, 2),
    )
    set_rows(model, "a.weight", lambda w: w[1].zero_())
    found = capture(model, args)
    merged = merge_duplicates(found)
    assert sum(group.constants for group in merged.groups) == constants
    assert error(found, merged) <= 1e-12


def test_a_norm_of_factor_zero_makes_a_constant() -> None:
    model, args = cnn()
    set_rows(model, "norm.weight", lambda w: w[1:3].zero_())
    found = capture(model, args)
    merged = merge_duplicates(found)
    assert merged.groups[0].constants == 2
    assert error(found, merged) <= 1e-12


def test_a_layer_of_constants_keeps_one_unit() -> None:
    model, args = mlp()
    set_rows(model, "a.weight", lambda w: w.zero_())
    merged = merge_duplicates(capture(model, args))
    assert merged.groups[0].constants == 6
    with torch.no_grad():
        assert torch.allclose(merged.module(*args)[0], model(*args), rtol=0, atol=1e-12)


def test_multiples_are_one_unit_only_where_that_is_said_and_true() -> None:
    model, args = mlp(torch.relu)
    set_rows(model, "a.weight", lambda w: w[1].copy_(4 * w[0]))
    set_rows(model, "a.bias", lambda b: b[1].copy_(4 * b[0]))
    found = capture(model, args)
    assert not merge_duplicates(found).groups
    merged = merge_duplicates(found, scaled=True)
    assert merged.groups[0].duplicates == 1
    assert error(found, merged) <= 1e-12
    smooth, _ = mlp(torch.tanh)
    smooth.load_state_dict(model.state_dict())
    assert not merge_duplicates(capture(smooth, args), scaled=True).groups
    set_rows(model, "a.weight", lambda w: w[1].neg_())
    assert not merge_duplicates(capture(model, args), scaled=True).groups


@pytest.mark.parametrize(
    ("activation", "reason"),
    [
        (lambda h: h.softmax(-1), "softmax"),
        (lambda h: F.layer_norm(h, (7,)), "layer_norm"),
        (lambda h: h / h.norm(dim=-1, keepdim=True), "norm"),
    ],
)
def test_what_counts_the_units_is_refused(activation: Callable[[Tensor], Tensor], reason: str) -> None:
    model, args = mlp(activation)
    set_rows(model, "a.weight", lambda w: w[1].copy_(w[0]))
    set_rows(model, "a.bias", lambda b: b[1].copy_(b[0]))
    symmetry = hidden_symmetry(found := capture(model, args))
    refused = roles_of(symmetry.inference, symmetry.group("a.weight", 0).atom).refused
    assert refused is not None
    assert reason in str(refused)
    assert not merge_duplicates(found).groups


def test_the_original_stays_as_it_is() -> None:
    model, args = mlp()
    set_rows(model, "a.weight", lambda w: w[2].zero_())
    found = capture(model, args)
    before = {path: tensor.clone() for path, tensor in model.state_dict().items()}
    merge_duplicates(found)
    standard_passes()["merge.duplicates"]().rewrite(found.module, Journal())
    assert all(torch.equal(before[path], tensor) for path, tensor in model.state_dict().items())


def test_as_a_pass_with_its_journal() -> None:
    model, args = mlp()
    for name in ("a.weight", "a.bias"):
        set_rows(model, name, lambda w: w[1].copy_(w[0]))
    found = capture(model, args)
    journal = Journal()
    assert standard_passes()["merge.duplicates"]().rewrite(found.module, journal) == 1
    (entry,) = journal.entries
    assert entry.saved_parameters == 5 + 1 + 3
    assert entry.saved_macs == 8 * (5 + 3)
    assert entry.details == {"units": 7, "duplicates": 1, "constants": 0}
    assert standard_passes()["merge.duplicates"]().rewrite(found.module, Journal(limit=0)) == 0
    outside = capture(model, args)
    assert standard_passes()["merge.duplicates"]().rewrite(outside.module, Journal(), lambda node: False) == 0


def test_compiled_with_a_dynamic_batch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, args = EXPECTED["cnn_flatten"][0]()
    model, args = model.float(), tuple(x.float() for x in args)
    set_rows(model, "conv.weight", lambda w: w[3].copy_(w[0]))
    with torch.no_grad():
        for tensor in (model.conv.bias, model.norm.weight, model.norm.bias):
            tensor[3] = tensor[0]
        for tensor in (model.norm.running_mean, model.norm.running_var):
            tensor[3] = tensor[0]
    rules = tmp_path / "once.tdsl"
    rules.write_text("pipeline merged {\n    once merge.duplicates\n}\n")
    result = tdsl.compile(
        model,
        args,
        dynamic_shapes=(({0: "batch"},),),
        pipeline="merged",
        rules=str(rules),
        output=tmp_path / "model.onnx",
    )
    assert result.report.correctness.passed
    assert np.prod(result.module.get_parameter("fc.weight").shape) == 4 * 4 * 16
