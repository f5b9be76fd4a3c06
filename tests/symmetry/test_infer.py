"""What acts on every edge of a model: recovered from the weights, and claimed of nothing else."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
import torch
from p4m import P4M
from torch import Tensor, nn
from torch.nn import functional as F

from tdsl.capture import capture
from tdsl.errors import TdslError
from tdsl.symmetry.action import Action, action, flipped, identity_on, rolled, rotated
from tdsl.symmetry.along import Monomial, matrix, permutes
from tdsl.symmetry.element import Linear, Permutation
from tdsl.symmetry.infer import Inference, infer
from tdsl.symmetry.match import matched

SHAPE = (2, 3, 12, 12)


def of(model: nn.Module, shape: tuple[int, ...], *actions: Action) -> list[Inference]:
    module = capture(model.eval(), (torch.randn(shape),)).module
    return [infer(module, [one]) for one in actions]


def turn_and_flip() -> tuple[Action, Action]:
    return rotated(SHAPE, 1, 2, 3), flipped(SHAPE, (3,))


@pytest.mark.parametrize("seed", [0, 1])
def test_d4_is_recovered_from_shuffled_channels(seed: int) -> None:
    model = P4M((2, 3, 2), seed=seed)
    found = of(model, SHAPE, *turn_and_flip())
    for one in found:
        assert one.strength == "weights"
        assert one.outputs == (identity_on(2),)
        assert one.residual == 0
        channels = [step.action.part(1) for step in one.steps.values() if step.node.name.startswith("conv")]
        assert all(part is not None and permutes(part) for part in channels)
    for turned, mirrored in zip(found[0].steps.values(), found[1].steps.values(), strict=True):
        if turned.node.name.startswith("conv"):  # the relations of D4, on channels that were shuffled
            r, s = (action(1, {0: step.action.part(1)}) for step in (turned, mirrored))
            assert r.then(r).then(r).then(r).is_identity
            assert not r.then(r).is_identity
            assert s.then(r).then(s) == r.inverse()


def test_nothing_is_claimed_of_a_random_net() -> None:
    model = P4M((2, 3, 2))
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.normal_(layer.weight)
    for found in of(model, SHAPE, *turn_and_flip()):
        broken = found.broken
        assert broken is not None and broken.node.name == "conv2d"
        assert broken.reason.startswith("the filters of conv2d are not permuted by it")
        assert broken.residual > 0.3
        assert found.outputs == (None,)
        later = list(found.steps.values())[1:]
        assert {step.strength for step in later} == {"unknown"}


def test_one_perturbed_weight_is_reported_with_its_residual_at_its_layer() -> None:
    model = P4M((2, 3, 2))
    convolution = model.layers[3]
    with torch.no_grad():
        weight = convolution.weight
        size = float(weight.double().norm())
        change = float(weight[5, 7, 1, 2]) * 1e-3
        weight[5, 7, 1, 2] += change
    for found in of(model, SHAPE, *turn_and_flip()):
        approximate = [step for step in found.steps.values() if step.strength == "approximate"]
        assert [step.node.name for step in approximate] == ["conv2d_1"]
        assert approximate[0].residual == pytest.approx(abs(change) / size * 2**0.5, rel=0.02)
        assert found.strength == "approximate"
        assert found.outputs == (identity_on(2),)


class Signed(nn.Module):
    """A layer whose filters are ± each other under a flip, and an odd function behind it."""

    def __init__(self, function: nn.Module) -> None:
        super().__init__()
        base = torch.randn(4, 6)
        even, odd = base + base.flip(1), base - base.flip(1)
        self.first = nn.Linear(6, 8, bias=False)
        self.first.weight.data = torch.cat([even, odd])[torch.randperm(8)]
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.first(x))


def test_signs_pass_odd_functions_only() -> None:
    [odd] = of(Signed(nn.Tanh()), (3, 6), flipped((3, 6), (1,)))
    assert odd.broken is None
    assert str(odd.outputs[0]) == "signs(-1)"
    [even] = of(Signed(nn.ReLU()), (3, 6), flipped((3, 6), (1,)))
    assert even.broken is not None
    assert even.broken.reason == "relu is not odd: relu(-x) is not -relu(x)"
    assert [step.strength for step in even.steps.values()] == ["weights", "broken"]


def test_a_matrix_is_found_where_filters_mix() -> None:
    """A change of basis turns a permutation into a matrix, and a second one turns it back."""
    basis = torch.linalg.qr(torch.randn(6, 6)).Q
    there, back = nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False)
    there.weight.data, back.weight.data = basis, basis.T.contiguous()
    [found] = of(nn.Sequential(there, back, nn.ReLU()), (3, 6), rolled((3, 6), (2,), (1,)))
    first, second, _ = found.steps.values()
    mixed = first.action.part(1)
    assert isinstance(mixed, Linear)
    assert torch.allclose(mixed.values @ mixed.values.T, torch.eye(6, dtype=torch.float64), atol=1e-5)
    assert first.strength == "weights" and second.strength == "weights"
    assert torch.allclose(
        found.outputs[0].apply(torch.arange(6.0).expand(3, 6)),
        torch.arange(6.0).roll(2).expand(3, 6),
        atol=1e-4,
    )


def test_many_filters_are_no_excuse_for_a_matrix() -> None:
    """With more filters than inputs some matrix always fits; that would say nothing."""
    [found] = of(nn.Linear(4, 9), (3, 4), rolled((3, 4), (1,), (1,)))
    assert found.broken is not None


class Mixer(nn.Module):
    """Token-symmetric, channel-wise: what structure alone passes."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.dense, self.attention = (
            nn.LayerNorm(8),
            nn.Linear(8, 8),
            nn.MultiheadAttention(8, 2, batch_first=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return (x + torch.tanh(self.dense(self.norm(x)))).softmax(-1)


def test_tokens_permute_through_a_transformer_for_any_weights() -> None:
    shuffle = action(3, {1: Permutation((2, 0, 1, 4, 3))})
    [found] = of(Mixer(), (2, 5, 8), shuffle)
    assert found.broken is None, found.broken
    assert found.strength == "structural"
    assert found.outputs == (shuffle,)


class Positions(Mixer):
    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.randn(5, 8))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + self.place)


def test_positional_constants_break_it() -> None:
    [found] = of(Positions(), (2, 5, 8), action(3, {1: Permutation((2, 0, 1, 4, 3))}))
    assert found.broken is not None
    assert found.broken.reason.startswith("the constant operand of add is not invariant under permute(-2)")


class Grouped(nn.Module):
    """Depthwise and grouped convolutions, a norm over groups, a shuffle of channels."""

    def __init__(self, tied: bool) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.grouped = nn.Conv2d(4, 8, 1, groups=2)
        self.norm = nn.GroupNorm(2, 8)
        if tied:
            for weight in (
                self.depthwise.weight,
                self.depthwise.bias,
                self.grouped.weight,
                self.grouped.bias,
            ):
                half = len(weight) // 2
                weight.data[half:] = weight.data[:half]

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.grouped(self.depthwise(x)))).amax((2, 3))


def test_groups_of_channels_change_places_as_wholes() -> None:
    shape = (2, 4, 6, 6)
    halves = action(4, {1: Permutation((2, 3, 0, 1))})
    [tied] = of(Grouped(True), shape, halves)
    assert tied.broken is None, tied.broken
    assert tied.outputs == (action(2, {1: Permutation((4, 5, 6, 7, 0, 1, 2, 3))}),)
    [loose] = of(Grouped(False), shape, halves)
    assert loose.broken is not None and loose.broken.node.name == "conv2d"
    [torn] = of(Grouped(True), shape, action(4, {1: Permutation((2, 1, 0, 3))}))
    assert torn.broken is not None


def test_positive_scales_pass_relu_and_not_gelu() -> None:
    scaled = action(2, {1: Monomial((0, 1, 2), (1.0, 2.0, 3.0))})
    [relu] = of(nn.Sequential(nn.ReLU(), nn.ReLU()), (2, 3), scaled)
    assert relu.strength == "structural" and relu.outputs == (scaled,)
    [gelu] = of(nn.GELU(), (2, 3), scaled)
    assert gelu.broken is not None
    assert gelu.broken.reason == "gelu is not homogeneous: gelu(s·x) is not s·gelu(x)"


@pytest.mark.parametrize(
    ("layer", "passes"), [(nn.RMSNorm(6, elementwise_affine=False), True), (nn.LayerNorm(6), False)]
)
def test_orthogonal_matrices_pass_rms_norm_and_not_layer_norm(layer: nn.Module, passes: bool) -> None:
    matrix = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64)).Q
    [found] = of(layer, (2, 6), action(2, {1: Linear(matrix)}))
    assert (found.broken is None) is passes


def test_a_scan_depends_on_the_order() -> None:
    class Scan(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cumsum(x, 1)

    [found] = of(Scan(), (2, 5), flipped((2, 5), (1,)))
    assert found.broken is not None
    assert found.broken.reason == "cumsum depends on the order along its axis, which flip(-1) changes"
    [other] = of(Scan(), (2, 5), flipped((2, 5), (0,)))
    assert other.outputs == (flipped((2, 5), (0,)),)


class Reads(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


READERS: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "the largest": (lambda x: x.max(2).values, "1"),
    "the smallest, the axis kept": (lambda x: x.min(2, keepdim=True)[0], "1"),
    "the three largest": (lambda x: x.topk(3, 2).values, "1"),
    "in order": (lambda x: torch.sort(x, dim=2, stable=True).values, "1"),
    "the largest of windows": (lambda x: F.max_pool2d(x, 2, return_indices=True)[0], "roll(-2, 1)"),
    "the largest of as many windows as asked for": (lambda x: F.adaptive_max_pool2d(x, 4), "roll(-2, 1)"),
    "beside their mean": (
        lambda x: torch.cat([x, x.mean(2, keepdim=True).expand(-1, -1, 8, -1)], 1),
        "roll(-2, 2)",
    ),
    "beside their largest": (
        lambda x: torch.cat([x.amax(2, keepdim=True).repeat(1, 1, 8, 1), x], 1),
        "roll(-2, 2)",
    ),
    "less their mean, spelt out": (lambda x: x - x.mean(2, keepdim=True).expand_as(x), "roll(-2, 2)"),
    "of length one": (lambda x: F.normalize(x, dim=2), "roll(-2, 2)"),
    "against their mean": (lambda x: F.cosine_similarity(x, x.mean(2, keepdim=True), dim=1), "roll(-2, 2)"),
    "against each other": (lambda x: torch.einsum("bcnd,bcmd->bcnm", x, x), "roll(-2, 2) · roll(-1, 2)"),
    "weighed by each other": (lambda x: torch.einsum("...nd,...md,...me->...ne", x, x, x), "roll(-2, 2)"),
    "a window of other places": (lambda x: x.unfold(3, 3, 1).prod(-1), "roll(-2, 2)"),
    "enlarged": (lambda x: F.interpolate(x, scale_factor=3), "roll(-2, 6)"),
}
PLACES: dict[str, Callable[[Tensor], Tensor]] = {
    "where the largest is": lambda x: x.max(2).indices + 0.0,
    "both": lambda x: sum(x.max(2)),
    "where they were": lambda x: x.sort(2).indices + x,
    "the largest in no order": lambda x: x.topk(7, 2, sorted=False).values,
    "beside what varies": lambda x: torch.cat([x, x.cumsum(2)], 1),
    "where the largest is, added": lambda x: x + x.argmax(2, keepdim=True),
    "against their neighbours": lambda x: torch.einsum("bcnd,bcmd->bcnm", x, x[:, :, :2]),
    "windows": lambda x: x.unfold(2, 3, 1).prod(-1),
    "where in its window": lambda x: F.max_pool2d(x, 2, return_indices=True)[1] + 0.0,
    "between places": lambda x: F.interpolate(x, scale_factor=3, mode="bilinear"),
    "places left out": lambda x: F.interpolate(x, size=(3, 8)),
}


@pytest.mark.parametrize("name", READERS)
def test_values_pass_where_nothing_reads_their_places(name: str) -> None:
    function, expected = READERS[name]
    x = torch.randn(2, 3, 8, 8)
    (found,) = of(Reads(function), (2, 3, 8, 8), rolled(x.shape, [2], [2]))
    assert found.broken is None
    assert str(found.outputs[0]) == expected
    assert found.outputs[0] is not None
    torch.testing.assert_close(found.outputs[0].apply(function(x)), function(x.roll(2, 2)))


@pytest.mark.parametrize("name", PLACES)
def test_places_and_what_lies_between_break_a_roll(name: str) -> None:
    (found,) = of(Reads(PLACES[name]), (2, 3, 8, 8), rolled((2, 3, 8, 8), [1], [2]))
    assert found.broken is not None and found.broken.reason
    x = torch.randn(2, 3, 8, 8)
    assert not PLACES[name](x).equal(PLACES[name](x.roll(1, 2)))


def test_flatten_after_pooling_keeps_channels_and_before_it_mixes_them_with_places() -> None:
    shape = (2, 3, 4, 4)
    channels = action(4, {1: Permutation((2, 0, 1))})
    [pooled] = of(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), shape, channels)
    assert pooled.outputs == (action(2, {1: Permutation((2, 0, 1))}),)
    [flat] = of(nn.Flatten(), shape, flipped(shape, (3,)))
    part = flat.outputs[0].part(1)
    assert part.places[:4] == (3, 2, 1, 0)


class Pooled(nn.Module):
    """Channels of orbits of eight, pooled over the orbit behind a reshape."""

    def __init__(self, shuffled: bool) -> None:
        super().__init__()
        self.net = P4M((2, 3), shuffled=shuffled).layers

    def forward(self, image: Tensor) -> Tensor:
        y = self.net(image)
        return y.reshape(len(y), 3, 8, y.shape[2], y.shape[3]).amax(2)


def test_a_reshape_splits_the_channels_of_orbits() -> None:
    turn = rotated(SHAPE, 1, 2, 3)
    [found] = of(Pooled(False), SHAPE, turn)
    assert found.outputs == (turn,)
    [torn] = of(Pooled(True), SHAPE, turn)
    assert torn.broken is not None
    assert torn.broken.reason.startswith("reshape tears apart an axis that permute(-3)")


class Windows(nn.Module):
    """A dense layer and a softmax over the pixels of windows of 2 × 2, on images with channels last."""

    def __init__(self, places: float = 0.0) -> None:
        super().__init__()
        self.mix = nn.Linear(4, 4)
        self.place = nn.Parameter(places * torch.arange(4.0)[:, None])

    def forward(self, image: Tensor) -> Tensor:
        b, h, w, c = image.shape
        rows = image.reshape(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, c)
        rows = self.mix(rows + self.place).softmax(1) * rows
        tiles = rows.reshape(b, h // 2, w // 2, 2, 2, c).permute(0, 1, 3, 2, 4, 5)
        return tiles.reshape(b, h, w, c)


def test_rows_and_columns_that_change_places_are_followed_into_windows() -> None:
    shape = (2, 6, 6, 4)
    turn = rotated(shape, 1, 1, 2)
    [found] = of(Windows(), shape, turn)
    assert found.outputs == (turn,)
    assert found.strength == "weights"  # the constant is zero everywhere
    [told] = of(Windows(places=1.0), shape, turn)
    assert told.broken is not None and told.broken.node.name == "add"
    [oblong] = of(Windows(), (2, 6, 4, 4), flipped((2, 6, 4, 4), (1,)))
    assert oblong.outputs == (flipped((2, 6, 4, 4), (1,)),)


def test_a_symmetry_that_is_half_there_is_broken_and_followed() -> None:
    """Weights that were tied before noise: every later layer is judged on its own."""
    model = P4M((2, 3, 2))
    with torch.no_grad():
        model.layers[3].weight += (
            0.4 * model.layers[3].weight.std() * torch.randn_like(model.layers[3].weight)
        )
    [found] = of(model, SHAPE, rotated(SHAPE, 1, 2, 3))
    broken = [step for step in found.steps.values() if step.strength == "broken"]
    assert [step.node.name for step in broken] == ["conv2d_1"]
    assert 0.3 < broken[0].residual < 0.7
    later = list(found.steps.values())[4:]
    assert all(step.nominal and step.passes for step in later)


class Reader(nn.Module):
    """Words in a row, read by a recurrent layer, beside a constant token."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.reads = nn.Embedding(9, 4), nn.LSTM(4, 5, batch_first=True)
        self.first = nn.Parameter(torch.randn(1, 1, 4))

    def forward(self, ids: Tensor) -> Tensor:
        words = torch.cat([self.first.expand(len(ids), 1, 4), self.words(ids)], 1)
        return torch.dropout(self.reads(words)[0], 0.5, self.training)


def test_the_sequences_of_a_batch_change_places_and_the_words_of_one_do_not() -> None:
    ids = torch.randint(0, 9, (4, 6))
    module = capture(Reader().eval(), (ids,)).module
    batch = action(2, {0: Permutation((2, 0, 3, 1))})
    found = infer(module, [batch])
    assert found.broken is None
    [out] = found.outputs
    assert torch.allclose(module(batch.apply(ids)), out.apply(module(ids)), atol=1e-6)
    assert infer(module, [flipped((4, 6), (1,))]).broken is not None


def test_sizes_may_be_dynamic() -> None:
    class Flat(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(x).reshape(x.shape[0], -1).sum(-1)

    module = capture(Flat(), (torch.randn(3, 2, 4),), dynamic_shapes={"x": {0: "batch", 2: "n"}}).module
    found = infer(module, [action(3, {0: Permutation((1, 2, 0))})])
    assert found.outputs == (action(1, {0: Permutation((1, 2, 0))}),)


def test_an_action_that_does_not_fit_is_refused() -> None:
    module = capture(nn.ReLU(), (torch.randn(2, 3),)).module
    with pytest.raises(TdslError, match=r"flip\(-1\) does not act on input input_1, whose shape is \[2, 3\]"):
        infer(module, [flipped((2, 4), (1,))])
    with pytest.raises(TdslError, match="2 actions were given for 1 inputs"):
        infer(module, [None, None])


def test_a_matrix_on_filters_is_a_law_where_it_is_the_only_one() -> None:
    generator = torch.Generator().manual_seed(0)
    draw = functools.partial(torch.randn, generator=generator, dtype=torch.float64)
    mix = draw(5, 5)
    weight = draw(5, 8)
    found = matched(mix @ weight, weight, matrix=True)
    assert found.residual.exact and torch.allclose(matrix(found.element), mix)
    weight[4] = weight[0] - weight[1]  # of dependent filters many matrices would do
    assert not matched(mix @ weight, weight, matrix=True).residual.exact
    few = draw(5, 4)
    assert not matched(mix @ few, few, matrix=True).residual.exact
