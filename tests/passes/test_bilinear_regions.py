"""Bilinear maps are found however they are written, and the whole road leads to few products."""

from __future__ import annotations

from functools import reduce
from operator import add
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_cases import net, number
from tdsl.passes.decompose.bilinear_forms import FIRST, SECOND, Forms
from torch import Tensor, nn

import tdsl
from tdsl.capture import capture
from tdsl.engine.journal import Journal
from tdsl.engine.library import standard_library
from tdsl.engine.workspace import Workspace
from tdsl.factor.bilinear_harmonics import clebsch_gordan, wigner

PIPELINE = """
pipeline few {
    repeat decompose.bilinear_regions, decompose.bilinear.* until stable
    check error <= 1e-9
}
"""


def tensor_of(forward: object, *shapes: tuple[int, ...], leading: int = 1, **parts: Tensor) -> Tensor | None:
    """The tensor by which the result of a model is bilinear in its two inputs, `None` where it is not."""
    model = net(forward, **parts)
    module = capture(model, tuple(torch.randn(shape, dtype=torch.float64) for shape in shapes)).module
    nodes = list(module.graph.nodes)
    first, second = (node for node in nodes if node.op == "placeholder")
    forms = Forms(Workspace(module), first, second, leading)
    found = None
    for node in nodes:
        if node.op in ("call_function", "get_attr"):
            found = forms.of(node)
    return None if found is None or found.kind != FIRST | SECOND else found.values


def written(way: str, m: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """One bilinear map in several spellings; `m.t` is its tensor [a, b, c]."""
    a, b, c = m.t.shape
    if way == "einsum":
        return torch.einsum("zi,zj,ijk->zk", x, y, m.t)
    if way == "tensor first":
        return torch.einsum("kji,zi,zj->zk", m.t.permute(2, 1, 0), x, y)
    if way == "outer product":
        return (x[:, :, None] * y[:, None, :]).flatten(1) @ m.t.reshape(a * b, c)
    if way == "two products":
        return (y[:, None] @ (x @ m.t.reshape(a, b * c)).reshape(-1, b, c)).squeeze(1)
    if way == "sum":
        return ((x @ m.t.reshape(a, b * c)).reshape(-1, b, c) * y[:, :, None]).sum(1)
    pairs = [(i, j) for i in range(a) for j in range(b)]
    parts = [reduce(add, (m.t[i, j, k] * x[:, i] * y[:, j] for i, j in pairs)) for k in range(c)]
    return torch.stack(parts, -1)


WAYS = ("einsum", "tensor first", "outer product", "two products", "sum", "slices")


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_writing_a_map_is_its_tensor(way: str) -> None:
    tensor = number(3, 2, 4)
    found = tensor_of(lambda m, x, y: written(way, m, x, y), (5, 3), (5, 2), t=tensor)
    assert found is not None
    assert torch.allclose(found, tensor, rtol=1e-14, atol=0)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.sampled_from(WAYS))
@settings(max_examples=15, deadline=None)
def test_sizes_do_not_matter(a: int, b: int, c: int, way: str) -> None:
    """A batch of the size of a feature is still a batch."""
    tensor = number(a, b, c)
    found = tensor_of(lambda m, x, y: written(way, m, x, y), (a, a), (a, b), t=tensor)
    assert found is not None
    assert torch.allclose(found, tensor, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize(
    "forward",
    [
        pytest.param(lambda m, x, y: x * y + x, id="a sum of two kinds"),
        pytest.param(lambda m, x, y: x * y + 1, id="a constant is added"),
        pytest.param(lambda m, x, y: x * x * y, id="a square"),
        pytest.param(lambda m, x, y: x * y.relu(), id="not linear"),
        pytest.param(lambda m, x, y: x / y, id="a quotient"),
        pytest.param(lambda m, x, y: x @ y, id="the batch is summed over"),
        pytest.param(lambda m, x, y: x * y.T, id="the batch becomes a feature"),
        pytest.param(lambda m, x, y: x * y * m.w, id="a weight for each element of the batch"),
        pytest.param(lambda m, x, y: x * y.flip(0), id="elements of the batch change places"),
        pytest.param(lambda m, x, y: (x * y).sum(0), id="the batch is summed"),
        pytest.param(lambda m, x, y: x * y[:1], id="one element for all"),
        pytest.param(lambda m, x, y: (x[:, None] * y).sum(1), id="every element meets every other"),
        pytest.param(lambda m, x, y: torch.cat([x * y, x], -1), id="only a part of it"),
        pytest.param(lambda m, x, y: x * y.reshape(2, 8).reshape(4, 4)[[1, 0, 2, 3]], id="an index"),
    ],
)
def test_what_is_not_bilinear_for_each_element_alike_is_none(forward: object) -> None:
    assert tensor_of(forward, (4, 4), (4, 4), w=number(4, 4)) is None


def test_paths_of_a_tensor_product_become_one_map() -> None:
    """Weights of paths are folded in; what was equivariant stays so, and does not stand still."""
    paths = [(0, 0, 0), (1, 1, 0), (0, 1, 1), (1, 0, 1), (1, 1, 1)]
    weights = {f"w{i}": number(3, 2, 2) for i in range(len(paths))}
    tensors = {f"t{i}": torch.from_numpy(clebsch_gordan(*path)) for i, path in enumerate(paths)}

    def forward(m: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        ones = [x[:, :3].reshape(-1, 3, 1), x[:, 3:].reshape(-1, 3, 3)]
        twos = [y[:, :2].reshape(-1, 2, 1), y[:, 2:].reshape(-1, 2, 3)]
        results = [
            torch.einsum(
                "zui,zvj,ijk,uvw->zwk", ones[a], twos[b], getattr(m, f"t{i}"), getattr(m, f"w{i}")
            ).flatten(1)
            for i, (a, b, _) in enumerate(paths)
        ]
        return torch.cat([results[0] + results[1], results[2] + results[3] + results[4]], -1)

    model = net(forward, **weights, **tensors)
    x, y = number(40, 12), number(40, 8)
    module = capture(model, (x, y)).module
    journal = Journal()
    assert standard_library().passes["decompose.bilinear_regions"]().rewrite(module, journal) == 1
    module.recompile()
    calls = [node for node in module.graph.nodes if node.op == "call_function"]
    assert [node.target.__name__ for node in calls] == ["einsum.default"]
    assert torch.allclose(module(x, y), model(x, y), rtol=1e-11, atol=1e-12)

    turn = torch.from_numpy(wigner(1, torch.linalg.qr(number(3, 3)).Q.numpy()))

    def turned(value: Tensor, channels: int) -> Tensor:
        vectors = value[:, channels:].reshape(-1, channels, 3) @ turn.T
        return torch.cat([value[:, :channels], vectors.flatten(1)], -1)

    if torch.linalg.det(turn) > 0:
        result = module(turned(x, 3), turned(y, 2))
        assert torch.allclose(result, turned(module(x, y), 2), rtol=1e-9, atol=1e-10)
        assert (result - module(x, y)).abs().max() > 0.1


def test_the_whole_road_takes_three_multiplications_for_a_complex_number(tmp_path: Path) -> None:
    """From Python to a file that was run against the original."""
    rules = tmp_path / "rules.tdsl"
    rules.write_text(PIPELINE)

    class Numbers(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            (a, b), (c, d) = x.unbind(-1), y.unbind(-1)
            return torch.stack([a * c - b * d, a * d + b * c], -1)

    inputs = (number(500, 2), number(500, 2))
    result = tdsl.compile(Numbers(), inputs, rules=rules, pipeline="rules.few", latency=False)
    fired = [entry.rule for entry in result.report.rewrites]
    assert fired == ["decompose.bilinear_regions", "decompose.bilinear.bilinear_map"]
    widths = [tuple(b.shape) for b in result.module.buffers()]
    assert sorted(widths) == [(2, 3), (3, 2), (3, 2)]
    assert (result.module(*inputs) - Numbers()(*inputs)).abs().max() < 1e-12
