"""Models of two tasks become one that serves both; what is no pair of such models is refused or warned of."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

import tdsl
from tdsl.capture import capture
from tdsl.merging import METHODS
from tdsl.symmetry.hidden import axis_groups, weights_of, with_weights

Batches = list[tuple[Tensor, ...]]


class Net(nn.Module):
    """Every kind of weight: a table, convolutions, dense layers with and without a bias, norms, a product."""

    def __init__(self, width: int = 12, stride: int = 1) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 8)
        self.line = nn.Conv1d(8, width, 3, padding=1, stride=stride)
        self.norm = nn.LayerNorm(width)
        self.dense = nn.Linear(width, width, bias=False)
        self.product = nn.Parameter(torch.randn(width, 6) / 4)
        self.counts = nn.Buffer(torch.arange(3))

    def forward(self, ids: Tensor) -> Tensor:
        hidden = torch.relu(self.norm(self.line(self.table(ids).mT).mT))
        return torch.tanh(self.dense(hidden)) @ self.product * self.counts[1]


class Image(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 6, 3, stride=2), nn.Conv2d(6, 6, 3, groups=6)
        self.norm, self.head = nn.BatchNorm2d(6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.norm(self.b(torch.relu(self.a(x))))).mean((2, 3)))


def tuned(model: nn.Module, seed: int, size: float = 0.15) -> nn.Module:
    """The same model after training that moved every weight a little."""
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in other.parameters():
            p.add_(size * p.std().nan_to_num(1.0).clamp_min(0.1) * torch.randn(p.shape, generator=generator))
    return other.eval()


def tokens(low: int, high: int) -> Batches:
    return [(torch.randint(low, high, (8, 9)),) for _ in range(6)]


def pair() -> tuple[nn.Module, nn.Module, list[Batches]]:
    base = Net().eval()
    return tuned(base, 1), tuned(base, 2), [tokens(0, 12), tokens(8, 20)]


def bits(tensor: Tensor) -> bytes:
    return tensor.detach().numpy().tobytes()


@pytest.mark.parametrize("by", METHODS)
def test_identical_models_come_back_bit_for_bit(by: Any) -> None:
    model = Net().eval()
    with torch.no_grad():
        model.norm.bias[0] = -0.0
    merged = tdsl.merge([model, copy.deepcopy(model), model], samples=[tokens(0, 20)], by=by)
    state = model.state_dict()
    assert set(merged.state) == set(state)
    assert all(bits(merged.state[name]) == bits(tensor) for name, tensor in state.items())
    assert merged.rows == ()
    assert [task.merged for task in merged.tasks] == [0.0] * 3


@pytest.mark.parametrize("by", ["gram", "kronecker", "fisher"])
def test_less_is_lost_than_by_the_average(by: Any) -> None:
    a, b, samples = pair()
    merged = tdsl.merge([a, b], samples=samples, by=by)
    methods = {name: row.method for row in merged.rows for name in row.name.split(" + ")}
    assert set(methods) == {name for name, _ in a.named_parameters()}
    products = {"table.weight", "line.weight", "line.bias", "dense.weight", "product"}
    assert {name for name, method in methods.items() if method == by} >= products
    assert methods["norm.weight"] == ("average" if by == "gram" else "fisher")
    assert all(row.objective < 0.97 for row in merged.rows if row.method != "average")
    assert all(0 <= row.residual < 0.05 for row in merged.rows)
    assert sum(task.merged for task in merged.tasks) < 0.9 * sum(task.average for task in merged.tasks)
    assert not merged.warnings
    loaded = copy.deepcopy(a)
    loaded.load_state_dict(merged.state)
    ids = samples[0][0][0]
    torch.testing.assert_close(loaded(ids), merged.module(ids))
    assert not torch.allclose(loaded(ids), a(ids), rtol=1e-2, atol=1e-2)


def test_the_average_needs_no_samples_and_is_the_average() -> None:
    a, b, _ = pair()
    args = (torch.randint(0, 20, (8, 9)),)
    merged = tdsl.merge([a, b], args, by="average")
    for name, tensor in merged.state.items():
        torch.testing.assert_close(
            tensor, (a.state_dict()[name] + b.state_dict()[name]) / 2, check_dtype=False
        )
    assert merged.tasks == ()


def test_a_layer_on_disjoint_inputs_keeps_both_tasks() -> None:
    """Two linear maps of features in complementary subspaces: one map is both, and only data tells which."""
    base = nn.Linear(8, 4).eval()
    a, b = tuned(base, 1, 1.0), tuned(base, 2, 1.0)
    with torch.no_grad():
        b.bias.copy_(a.bias)
    basis = torch.linalg.qr(torch.randn(8, 8)).Q
    samples = [[(torch.randn(32, 4) @ half,)] for half in (basis[:4], basis[4:])]
    merged = tdsl.merge([a, b], samples=samples, damping=0.0, align=False)
    assert all(task.merged < 1e-5 < 0.05 < task.average for task in merged.tasks)
    swapped = tdsl.merge([a, b], samples=samples[::-1], damping=0.0, align=False)
    for model, [(x,)], task in zip((a, b), samples, merged.tasks, strict=True):
        error = (swapped.module(x) - model(x)).norm() / model(x).norm()
        assert float(error.detach()) > task.average  # the samples of the wrong model


def test_convolutions_of_images_and_groups() -> None:
    base = Image().eval()
    a, b = tuned(base, 1), tuned(base, 2)
    samples = [[(torch.randn(4, 2, 9, 9) * scale,) for _ in range(4)] for scale in (torch.ones(()), 2.0)]
    merged = tdsl.merge([a, b], samples=samples)
    methods = {row.name: row.method for row in merged.rows}
    assert methods["a.weight + a.bias"] == methods["head.weight + head.bias"] == "gram"
    assert methods["b.weight"] == methods["norm.weight"] == "average"


def test_padding_counts_in_no_statistic() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 6)

        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return torch.tanh(self.layer(x)) * mask.unsqueeze(-1)

    base = Masked().eval()
    models = [tuned(base, 1), tuned(base, 2)]
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])

    def merged(padding: float) -> Tensor:
        samples = []
        for i in range(2):
            x = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(i))
            samples.append([(torch.where(mask.bool()[..., None], x, padding), mask)])
        return tdsl.merge(models, samples=samples, mask="mask", align=False).state["layer.weight"]

    assert torch.equal(merged(0.0), merged(100.0))


# ---------------------------------------------------------------- order of units


def planted() -> tuple[list[Any], list[Batches]]:
    """Two tuned models, the second with every group of units permuted: the same function as before."""
    base = nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 4)).eval()
    batch = Dim("batch", min=1, max=64)
    a, b = (capture(tuned(base, i), (torch.randn(4, 8),), dynamic_shapes=({0: batch},)) for i in (1, 2))
    weights = weights_of(b.module)
    for group in axis_groups(b):
        weights = weights | group.permute(group.random(np.random.default_rng(0)), weights)
    shuffled = capture(with_weights(b.module, weights), (torch.randn(4, 8),), dynamic_shapes=({0: batch},))
    return [a, b, shuffled], [[(torch.randn(16, 8),) for _ in range(8)] for _ in range(2)]


def test_units_in_another_order_are_refused_and_aligned_on_request() -> None:
    (a, b, shuffled), samples = planted()
    with pytest.raises(tdsl.TdslError, match=r"another order .* of 24 of 0\.weight\[0\]") as refused:
        tdsl.merge([a, shuffled], samples=samples)
    assert refused.value.hint is not None
    assert "--align" in refused.value.hint
    aligned = tdsl.merge([a, shuffled], samples=samples, align=True)
    plain = tdsl.merge([a, b], samples=samples)
    assert not plain.warnings
    assert not aligned.warnings
    for path, tensor in plain.weights.items():
        torch.testing.assert_close(aligned.weights[path], tensor)


@pytest.mark.parametrize(("moved", "refused"), [(2, False), (8, True)])
def test_a_few_units_in_another_place_are_chance_and_a_third_of_them_an_order(moved, refused) -> None:
    (a, b, _), samples = planted()
    group = next(group for group in axis_groups(b) if group.size == 24)
    order = [*range(1, moved), 0, *range(moved, 24)]
    weights = weights_of(b.module)
    args, sizes = (torch.randn(4, 8),), ({0: Dim("batch", min=1, max=64)},)
    turned = capture(
        with_weights(b.module, weights | group.permute(order, weights)), args, dynamic_shapes=sizes
    )
    if refused:
        with pytest.raises(tdsl.TdslError, match=rf"another order .*: {moved} of 24 of"):
            tdsl.merge([a, turned], samples=samples)
    else:
        tdsl.merge([a, turned], samples=samples)


def test_merged_in_different_orders_a_model_is_worse_than_either_parent() -> None:
    """The control: without aligning it is not the model of either task."""
    (a, _, shuffled), samples = planted()
    bad = tdsl.merge([a, shuffled], samples=samples, by="average", align=False)
    assert all(task.merged > task.nearest for task in bad.tasks)
    assert len(bad.warnings) == 2
    assert "merging lost what they have in common" in bad.warnings[0]


def test_independent_seeds_are_refused() -> None:
    models = [nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 4)).eval() for _ in range(2)]
    samples = [[(torch.randn(16, 8),) for _ in range(4)]]
    with pytest.raises(tdsl.TdslError, match="another order"):
        tdsl.merge(models, samples=samples)
    assert "different starts" in tdsl.merge(models, samples=samples, align=True).warnings[0]


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: Net(width=13), r"product is \[12, 6\] in model 1 and \[13, 6\] in model 2"),
        (
            lambda m: Net(stride=2),
            r"conv1d in line at .* has stride = \[1\] in model 1 and stride = \[2\] in",
        ),
        (lambda m: Image(), "different weights"),
        (lambda m: m.counts.add_(1) is None, "table of integers counts is another one in model 2"),
    ],
)
def test_different_models_are_refused_by_their_first_difference(change: Any, message: str) -> None:
    a = Net().eval()
    b = copy.deepcopy(a)
    b = change(b) or b
    args = torch.randn(1, 2, 9, 9) if isinstance(b, Image) else torch.randint(0, 20, (2, 9))
    first = capture(a, (torch.randint(0, 20, (2, 9)),))
    with pytest.raises(tdsl.TdslError, match=message):
        tdsl.merge([first, capture(b.eval(), (args,))], by="average")


SMALL = nn.Sequential(nn.Linear(8, 6), nn.GELU(), nn.Linear(6, 4)).eval()


def spoiled(value: float) -> Batches:
    """Samples of which the third holds that."""
    found = [(torch.randn(5, 8),) for _ in range(4)]
    found[2][0][1, 3] = value
    return found


@pytest.mark.parametrize("by", METHODS)
@pytest.mark.parametrize(("value", "held"), [(float("nan"), "NaN"), (float("inf"), "an infinity")])
def test_a_sample_that_is_no_number_is_named_with_its_model(by: Any, value: float, held: str) -> None:
    samples = [spoiled(0.0), spoiled(value)]
    message = f"on sample 3 of second: its input input holds {held}"
    with pytest.raises(tdsl.TdslError, match=message) as told:
        tdsl.merge([SMALL, tuned(SMALL, 1)], samples=samples, by=by, names=["first", "second"])
    assert "input[1, 3] is the first of 1" in (told.value.hint or "")
    tdsl.merge([SMALL, tuned(SMALL, 1)], samples=[spoiled(0.0), spoiled(1.0)], by=by)  # control


@pytest.mark.parametrize(
    ("samples", "message", "taught"),
    [
        ([(torch.ones(5, 8), torch.ones(5))], "too many positional arguments", "labels are no inputs"),
        ([torch.ones(5, 8), torch.ones(5, 9)], "sample '2 of model 1', input 'input' has shape", "example"),
        ([torch.ones(5, 8), 3], "sample 2 of model 1 is an int", ""),
        (3, r"`samples\[0\]` is of type int", ""),
    ],
)
def test_a_sample_that_does_not_fit_is_named_with_its_model(samples: Any, message: str, taught: str) -> None:
    with pytest.raises(tdsl.TdslError, match=message) as told:
        tdsl.merge([SMALL, tuned(SMALL, 1)], samples=[samples])
    assert taught in (told.value.hint or "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"by": "median"}, "'median' is no way to merge"),
        ({}, "no samples, and merging by gram"),
        ({"samples": [tokens(0, 20), []]}, "samples for 1 of 2 models"),
        ({"samples": [tokens(0, 20)], "damping": -1.0}, "damping -1 in 100 steps"),
        ({"samples": [[torch.zeros(3)]]}, "is .*torch.float32|float32"),
    ],
)
def test_mistakes(arguments: dict[str, Any], message: str) -> None:
    a, b, _ = pair()
    with pytest.raises(tdsl.TdslError, match=message):
        tdsl.merge([a, b], (torch.randint(0, 20, (8, 9)),), **arguments)
    with pytest.raises(tdsl.TdslError, match="1 model to merge"):
        tdsl.merge([a], (torch.randint(0, 20, (8, 9)),), **{**arguments, "by": "gram"})
