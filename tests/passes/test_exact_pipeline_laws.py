"""Laws of the pipeline `exact` on random models: equal, never larger, a fixed point, the same every time."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_cases import operators, randomised, relative_error, stored_bytes, text_of
from torch import Tensor, fx, nn

from tdsl.capture import capture
from tdsl.engine.census import copied
from tdsl.engine.journal import Journal
from tdsl.engine.library import standard_library
from tdsl.engine.strategy import Runner

ACTIVATIONS = (nn.Identity, nn.ReLU, nn.Tanh, nn.Dropout)


@dataclass(frozen=True)
class Layer:
    """One layer of a random stack; `width` is that of its output."""

    kind: str
    width: int
    detail: int
    bias: bool


LAYERS = st.lists(
    st.builds(
        Layer,
        st.sampled_from(["main", "main", "norm", "activation", "scale", "branches", "tied"]),
        st.integers(1, 5),
        st.integers(0, 3),
        st.booleans(),
    ),
    min_size=1,
    max_size=6,
)


class Scale(nn.Module):
    """A factor, a constant, or both for each channel; a single number where told so."""

    def __init__(self, width: int, axes: int, detail: int) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(width, *[1] * axes))
        self.shift = nn.Parameter(torch.ones(1, width, *[1] * axes))
        self.detail = detail

    def forward(self, x: Tensor) -> Tensor:
        if self.detail == 0:
            return x / 2
        if self.detail == 1:
            return x * self.factor
        return x * self.factor + self.shift if self.detail == 2 else 0.25 * x - self.factor


class Branches(nn.Module):
    """Two layers that read the same input, put together or added."""

    def __init__(self, left: nn.Module, right: nn.Module, concatenate: bool, axis: int) -> None:
        super().__init__()
        self.left, self.right, self.concatenate, self.axis = left, right, concatenate, axis

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.left(x), self.right(x)
        return torch.cat([left, right], self.axis) if self.concatenate else left + right


class Stack(nn.Module):
    """Dense (0 spatial axes) or convolutional (1, 2) layers in a row."""

    def __init__(self, layers: list[Layer], width: int, axes: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for layer in layers:
            made, width = self.make(layer, width, axes)
            self.layers.append(made)
        randomised(self)

    def make(self, layer: Layer, width: int, axes: int) -> tuple[nn.Module, int]:
        if layer.kind == "norm":
            norm = (nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d)[axes]
            return norm(width, affine=layer.bias), width
        if layer.kind == "activation":
            return ACTIVATIONS[layer.detail](), width
        if layer.kind == "scale":
            return Scale(width, axes, layer.detail), width
        if layer.kind == "tied":
            shared = main(width, width, axes, 0, layer.bias)
            return nn.Sequential(shared, nn.ReLU() if layer.detail else nn.Identity(), shared), width
        if layer.kind == "branches":
            both = [main(width, layer.width, axes, layer.detail, layer.bias) for _ in range(2)]
            concatenate = layer.width % 2 == 0
            return Branches(*both, concatenate, 1), layer.width * (1 + concatenate)
        return main(width, layer.width, axes, layer.detail, layer.bias), layer.width

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def main(inputs: int, outputs: int, axes: int, detail: int, bias: bool) -> nn.Module:
    """A dense layer or a convolution: 1×1, 3×3 with a border, grouped where it can be, transposed."""
    if axes == 0:
        return nn.Linear(inputs, outputs, bias=bias)
    conv, transposed = ((nn.Conv1d, nn.ConvTranspose1d), (nn.Conv2d, nn.ConvTranspose2d))[axes - 1]
    if detail == 0:
        return conv(inputs, outputs, 1, bias=bias)
    if detail == 1:
        return conv(inputs, outputs, 3, padding=1, bias=bias)
    if detail == 2:
        return conv(
            inputs,
            outputs,
            3,
            padding=2,
            dilation=2,
            groups=inputs if outputs % inputs == 0 else 1,
            bias=bias,
        )
    return transposed(inputs, outputs, 3, padding=1, bias=bias)


def example(width: int, axes: int, seed: int, batch: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, width, *[5] * axes, generator=generator, dtype=torch.float64)


@cache
def runner() -> Runner:
    """The pipeline, its rules compiled once."""
    library = standard_library()
    return Runner(library, library.pipelines["pipelines.exact"])


def exact(module: fx.GraphModule) -> int:
    """Run the pipeline in place; returns the number of rewrites."""
    return runner().run(module, Journal())


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(LAYERS, st.integers(1, 5), st.integers(0, 2), st.booleans())
def test_laws_of_the_exact_pipeline(layers: list[Layer], width: int, axes: int, dynamic: bool) -> None:
    model = Stack(layers, width, axes).eval()
    shapes = {"x": {0: "batch"}} if dynamic else None
    captured = capture(model, (example(width, axes, 0),), dynamic_shapes=shapes)
    first, second = copied(captured.module), copied(captured.module)
    rewrites = exact(first)

    # Equal in float64, for another batch too where that is dynamic.
    x = example(width, axes, 1, batch=3 + 2 * dynamic)
    with torch.no_grad():
        assert relative_error(model(x), first(x)) <= 1e-11

    # Never more operators, never more bytes.
    assert operators(first) <= operators(captured.module)
    assert stored_bytes(first) <= stored_bytes(captured.module)

    # Deterministic, weights included.
    assert exact(second) == rewrites
    assert text_of(second) == text_of(first)
    assert all(
        torch.equal(a, b)
        for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )

    # A fixed point.
    text = text_of(first)
    assert exact(first) == 0
    assert text_of(first) == text


@settings(max_examples=20, deadline=None, derandomize=True, database=None)
@given(st.integers(2, 5), st.booleans(), st.booleans())
def test_tied_weights_stay_tied(width: int, bias: bool, between: bool) -> None:
    """A table that is also the output layer, and a layer used twice, are read as often as before."""
    table = nn.Embedding(7, width)
    layer = nn.Linear(width, width, bias=bias)
    decoder = nn.Linear(width, 7, bias=False)
    decoder.weight = table.weight

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.layer, self.decoder = table, layer, decoder
            randomised(self)

        def forward(self, ids: Tensor) -> Tensor:
            x = self.layer(self.table(ids) * 2).relu()
            return self.decoder((self.layer(x) if between else self.layer(x.relu())) * 3)

    ids = torch.tensor([[0, 5, 2]])
    original = Tied().eval()
    module = copied(capture(original, (ids,)).module)
    before = readers(module)
    exact(module)
    assert max(before.values()) == 2
    assert readers(module) == before
    with torch.no_grad():
        assert relative_error(original(ids), module(ids)) <= 1e-12


def readers(module: fx.GraphModule) -> Counter[str]:
    """How many operators read each weight."""
    return Counter({str(n.target): len(n.users) for n in module.graph.find_nodes(op="get_attr")})


def test_a_batch_norm_is_folded_before_siblings_are_merged() -> None:
    """Merged first, the branches would leave their norms behind the split."""
    blocks = [nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)) for _ in range(2)]
    model = randomised(Branches(*blocks, True, 1)).eval()
    module = copied(capture(model, (example(3, 2, 0),)).module)
    exact(module)
    assert [n.name.rsplit("_", 1)[0] for n in module.graph.nodes if n.op == "call_function"] == ["conv2d"]
