"""Calls of one subnetwork become one call, where its copies stay apart and where that costs less."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from rewriting import Rewritten, graph_of, run_pipeline
from torch import Tensor, nn

from tdsl.engine.census import copied
from tdsl.engine.journal import Journal
from tdsl.engine.library import standard_library
from tdsl.engine.strategy import Runner
from tdsl.errors import TdslError

PIPELINE = """
pipeline p {
    repeat cleanup.*, layout.*, fold.* until stable
    once merge.calls
    repeat cleanup.* until stable
}
"""


class Part(nn.Module):
    """A function of its own modules and of values."""

    def __init__(self, function: Callable[..., Any], **parts: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, *values: Tensor) -> Any:
        return self.function(self, *values)


class Twice(nn.Module):
    """A net on two values."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.net(x), self.net(y)


class Attention(nn.Module):
    """Heads split and joined by reshapes, as models write them."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.into, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        parts = self.into(x).view(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = (q @ k.transpose(-1, -2)).softmax(-1) @ v
        return self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))  # type: ignore[no-any-return]


class Classified(nn.Module):
    """Attention with a token of its own, as image transformers have it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.layer = nn.Linear(width, width), Attention(width, 2)
        self.token = nn.Parameter(torch.randn(1, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        tokens = torch.cat([self.token.expand(len(x), -1, -1), self.first(x)], 1)
        return self.layer(tokens)[:, 0]  # type: ignore[no-any-return]


def merged(model: nn.Module, *args: Tensor) -> tuple[Rewritten, list[Any]]:
    """The model after the pass, checked in float64, and the entries of the journal."""
    wide = [arg.double() if arg.is_floating_point() else arg for arg in args]
    found = run_pipeline(PIPELINE, graph_of(model.double(), *wide))
    found.assert_equal(tolerance=1e-12)
    fresh = [torch.randn_like(arg) if arg.is_floating_point() else arg.flip(-1) for arg in wide]
    found.assert_equal(*fresh, tolerance=1e-12)
    return found, [entry for entry in found.journal.entries if entry.rule == "merge.calls"]


def normal(*sizes: int) -> tuple[Tensor, Tensor]:
    return torch.randn(*sizes), torch.randn(*sizes)


def dense(width: int, function: Callable[..., Any]) -> nn.Module:
    """A function between two dense layers, `a` and `b`."""
    return Part(
        lambda self, x: self.b(function(self.a(x))), a=nn.Linear(width, width), b=nn.Linear(width, width)
    )


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies cost nothing, so that whatever may be merged is."""
    from tdsl.passes.merge import call_cost

    monkeypatch.setattr(call_cost.Cost, "pays", True)


ENCODER = functools.partial(nn.TransformerEncoderLayer, 8, 2, 16, batch_first=True)

APART: dict[str, tuple[Callable[[], nn.Module], tuple[Tensor, ...]]] = {
    "dense layers": (lambda: dense(4, torch.tanh), normal(1, 4)),
    "a batch of each": (lambda: dense(4, torch.tanh), normal(3, 4)),
    "a shortcut": (
        lambda: Part(lambda s, x: x + s.a(s.n(x)), a=nn.Linear(4, 4), n=nn.LayerNorm(4)),
        normal(2, 4),
    ),
    "a layer twice": (lambda: Part(lambda s, x: s.a(s.a(x).tanh()), a=nn.Linear(4, 4)), normal(1, 4)),
    "heads of one text": (lambda: Attention(8, 2), normal(1, 3, 8)),
    "heads of two texts": (lambda: Attention(8, 2), normal(2, 3, 8)),
    "an encoder that puts tokens first": (lambda: ENCODER(), normal(3, 5, 8)),
    "images": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3)
        ),
        normal(1, 2, 8, 8),
    ),
    "tokens": (
        lambda: nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 4)),
        (torch.randint(0, 9, (2, 3)), torch.randint(0, 9, (2, 3))),
    ),
    "several results": (lambda: dense(4, lambda h: torch.cat(h.chunk(2, -1)[::-1], -1)), normal(1, 4)),
    "sequences": (
        lambda: Part(lambda s, x: s.r(x)[0][:, -1], r=nn.LSTM(4, 3, 2, batch_first=True, bidirectional=True)),
        normal(2, 5, 4),
    ),
    "one sequence": (
        lambda: Part(lambda s, x: s.r(x)[0][:, -1], r=nn.LSTM(4, 3, batch_first=True)),
        normal(1, 5, 4),
    ),
    "a token before the others": (lambda: Classified(8), normal(1, 3, 8)),
    "the batch moved": (lambda: dense(4, lambda h: h.permute(1, 0, 2).relu()), normal(2, 3, 4)),
    "rows and back": (lambda: dense(4, lambda h: h.reshape(-1, 4).tanh()), normal(2, 3, 4)),
}


@pytest.mark.parametrize("name", APART)
def test_one_call(name: str, free: None) -> None:
    build, args = APART[name]
    found, entries = merged(Twice(build().eval()), *args)
    assert len(entries) == 1
    assert len(entries[0].replaced) == 2 * entries[0].details["operators"]
    weighted = [op for op in found.operators if op in ("linear", "conv2d", "embedding")]
    assert len(weighted) == len([m for m in _layers(build()) if m]) or name == "a layer twice"


def _layers(net: nn.Module) -> list[nn.Module]:
    kinds = (nn.Linear, nn.Conv2d, nn.Embedding, nn.MultiheadAttention)
    return [part for part in net.modules() if isinstance(part, kinds)]


MIXED: dict[str, tuple[Callable[[Tensor], Tensor], int, str]] = {
    "a softmax over the batch": (lambda h: h.softmax(0), 3, "softmax mixes the copies"),
    "a softmax over a batch of one": (lambda h: h.softmax(0), 1, "softmax mixes the copies"),
    "a mean over the batch": (lambda h: h - h.mean(0, keepdim=True), 3, "along one axis"),
    "statistics of the batch": (
        lambda h: F.batch_norm(h, None, None, training=True),
        3,
        "batch_norm mixes the copies",
    ),
    "a norm of all numbers": (lambda h: F.layer_norm(h, (3, 4)), 3, "layer_norm refuses"),
    "products of samples": (lambda h: (h @ h.T) @ h, 3, "along one axis"),
    "a running sum": (lambda h: h.cumsum(0), 3, "order along its axis"),
    "a roll": (lambda h: h.roll(1, 0), 3, "along one axis"),
}


@pytest.mark.parametrize("name", MIXED)
def test_what_mixes_samples_stays_apart(name: str, free: None) -> None:
    """The layers before and behind it are each called once; it is called for each value, and explained."""
    function, batch, reason = MIXED[name]
    model = Twice(dense(4, function))
    found, entries = merged(model, *normal(batch, 4))
    assert len(entries) == 2 and found.operators.count("linear") == 2
    captured = graph_of(model.double(), *(x.double() for x in normal(batch, 4)))
    explained = standard_library().passes["merge.calls"]().explain(captured.module)
    assert any(reason in failure.message for site in explained.sites for failure in site.failures)


BEHIND: dict[str, tuple[Callable[[], nn.Module], tuple[Tensor, ...]]] = {
    "a softmax over the steps": (lambda: dense(4, lambda h: h.softmax(0)), normal(3, 2, 4)),
    "steps first": (lambda: Part(lambda s, x: s.r(x)[0][-1], r=nn.LSTM(4, 3)), normal(5, 2, 4)),
    "an encoder of steps": (lambda: nn.TransformerEncoderLayer(8, 2, 16), normal(3, 5, 8)),
    "an axis that is moved": (
        lambda: dense(4, lambda h: h.softmax(0).permute(1, 0, 2, 3).flatten(1, 2)),
        normal(2, 3, 5, 4),
    ),
}
"""Nets that mix along the first axis; samples lie along the second."""


@pytest.mark.parametrize("name", BEHIND)
def test_samples_may_lie_along_another_axis(name: str, free: None) -> None:
    build, args = BEHIND[name]
    found, entries = merged(Twice(build().eval()), *args)
    assert len(entries) == 1 and found.operators.count("concat") == 1
    assert len(entries[0].replaced) == 2 * entries[0].details["operators"]


def test_what_mixes_along_every_axis_is_explained_for_each(free: None) -> None:
    model = Twice(dense(4, lambda h: h.flatten(0, 1).softmax(0)))
    assert len(merged(model, *normal(3, 2, 4))[1]) == 2  # the layers before and behind
    captured = graph_of(model.double(), *(x.double() for x in normal(3, 2, 4)))
    explained = standard_library().passes["merge.calls"]().explain(captured.module)
    reasons = {failure.message for site in explained.sites for failure in site.failures}
    assert any(one.startswith("softmax mixes the copies; axis 1: softmax mixes") for one in reasons)


PAIR = {"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)}
TANGLED: dict[str, Callable[[Any, Tensor, Tensor], Any]] = {
    "one copy reads the other": lambda s, x, y: s.a(s.a(x) + y),
    "a chain": lambda s, x, y: s.b(s.a(s.b(s.a(x)) + y)),
}
"""Calls of the same layers that depend on one another."""


@pytest.mark.parametrize("name", TANGLED)
def test_copies_that_depend_on_one_another_stay(name: str, free: None) -> None:
    assert not merged(Part(TANGLED[name], **PAIR), *normal(1, 4))[1]


def test_copies_that_meet_are_merged_up_to_there(free: None) -> None:
    def crossed(s: Any, x: Tensor, y: Tensor) -> Any:
        u, v = s.a(x), s.a(y)
        return s.b(u + v.tanh()), s.b(v + u.tanh())

    found, entries = merged(Part(crossed, **PAIR), *normal(1, 4))
    assert len(entries) == 2 and found.operators.count("linear") == 2


def test_channels_are_no_batch(free: None) -> None:
    """A value without a batch is not joined along its channels."""
    net = Part(lambda s, x: s.c(x[None])[0], c=nn.Conv2d(2, 2, 3, padding=1))
    found, _ = merged(Twice(net), *normal(2, 5, 5))
    assert all("[4" not in line for line in found.text.splitlines())


def test_other_weights_are_other_nets() -> None:
    nets = [dense(64, torch.tanh) for _ in range(2)]
    model = Part(lambda s, x, y: (s.a(x), s.b(y)), a=nets[0], b=nets[1])
    assert not merged(model, *normal(1, 64))[1]


def test_dynamic_batches_stay() -> None:
    model = Twice(dense(256, torch.tanh))
    batch = torch.export.Dim("batch")
    args = [x.double() for x in normal(2, 256)]
    dynamic = {"x": {0: batch}, "y": {0: batch}}
    found = run_pipeline(PIPELINE, graph_of(model.double(), *args, dynamic=dynamic))
    assert "calls" not in found.rules
    explained = standard_library().passes["merge.calls"]().explain(found.module)
    assert explained.fires == 0 and "sizes are dynamic" in explained.sites[0].failures[0].message


@pytest.mark.parametrize(
    ("width", "batch", "count", "pays"),
    [
        (256, 1, 2, True),  # a row for each: weights are read once
        (256, 16, 2, False),  # products of matrices read them once anyway
        (16, 1, 2, False),  # small weights, few operators
        (16, 1, 8, True),  # many operators
    ],
)
def test_what_pays(width: int, batch: int, count: int, pays: bool) -> None:
    net = nn.Sequential(*(nn.Linear(width, width) for _ in range(3))).double()
    net.insert(1, nn.ReLU()), net.insert(3, nn.ReLU())
    model = Part(lambda s, *xs: tuple(s.net(x) for x in xs), net=net)
    _, entries = merged(model, *(torch.randn(batch, width) for _ in range(count)))
    assert bool(entries) == pays


def test_a_head_pays_where_its_backbone_does_not() -> None:
    """Joining images costs more than it saves; behind the pooling it does not."""
    net = nn.Sequential(
        nn.Conv2d(3, 64, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 1024)
    )
    _, [entry] = merged(Twice(net), *normal(1, 3, 72, 72))
    assert entry.details["operators"] < 5


def test_augmentation_by_the_default_pipeline() -> None:
    """The four calls are one, whose weights, now read once, take up the norms."""

    def augmented(s: Any, x: Tensor) -> Tensor:
        return torch.stack([s.net(x), s.net(x.flip(3)), s.net(x.flip(2)), s.net(x.flip(2, 3))]).mean(0)

    def layer(channels: int) -> list[nn.Module]:
        return [nn.Conv2d(channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()]

    net = nn.Sequential(*layer(2), *layer(4), *layer(4), nn.Flatten(), nn.Linear(64, 5))
    captured = graph_of(Part(augmented, net=net).double(), torch.randn(1, 2, 4, 4).double())
    module, journal = copied(captured.module), Journal()
    Runner(standard_library(), standard_library().pipeline("pipelines.exact")).run(module, journal)
    rules = [entry.rule for entry in journal.entries]
    assert rules.count("merge.calls") == 1 and "fold.batch_norm.batch_norm_of_conv" in rules
    Rewritten(captured, module, journal).assert_equal(tolerance=1e-12)


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("join", [torch.stack, torch.cat])
def test_what_is_put_together_again_is_not_taken_apart(join: Any, dim: int, free: None) -> None:
    model = Part(lambda s, x, y: join([s.net(x), s.net(y)], dim).sin(), net=dense(4, torch.tanh))
    found, entries = merged(model, *normal(2, 4))
    assert len(entries) == 1 and ("split" in found.operators) == (dim == 1)
    kept = [name for name in found.operators if name in ("stack", "concat")]
    assert len(kept) == (1 if dim == 0 else 2)  # that of what goes in


@settings(max_examples=12, deadline=None)
@given(st.lists(st.sampled_from(range(8)), min_size=1, max_size=5), st.integers(1, 3), st.integers(2, 3))
def test_any_chain(choice: list[int], batch: int, count: int) -> None:
    """Whatever is called, the numbers stay."""
    from tdsl.passes.merge import call_cost

    pieces: list[Callable[[Tensor], Tensor]] = [
        torch.tanh,
        lambda h: h.softmax(-1),
        lambda h: h.softmax(0),
        lambda h: h - h.mean(0),
        lambda h: h.reshape(-1, 4).tanh().reshape(h.shape),
        lambda h: h.transpose(0, 1).cumsum(0).transpose(0, 1),
        lambda h: h.transpose(1, 2),
        lambda h: F.layer_norm(h, h.shape[1:]),
    ]

    def net(s: Any, *xs: Tensor) -> Any:
        return tuple(functools.reduce(lambda h, i: pieces[i](s.a(h)), choice, x) for x in xs)

    pays, call_cost.Cost.pays = call_cost.Cost.pays, True  # type: ignore[method-assign, assignment]
    try:
        merged(Part(net, a=nn.Linear(4, 4)), *(torch.randn(batch, 4, 4) for _ in range(count)))
    finally:
        call_cost.Cost.pays = pays  # type: ignore[method-assign]


def test_a_pass_that_explains_nothing_says_so() -> None:
    captured = graph_of(dense(4, torch.tanh), torch.randn(1, 4))
    with pytest.raises(TdslError, match="does not say where it applies"):
        standard_library().passes["merge.duplicates"]().explain(captured.module)
