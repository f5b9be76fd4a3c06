"""Rules about diagrams together: fifteen terms, each for itself, come out as one shared form."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tdsl.capture import capture
from tdsl.engine.census import census
from tdsl.engine.driver import rewrite
from tdsl.engine.journal import Journal
from tdsl.engine.library import standard_library


class Terms(nn.Module):
    """The fifteen maps that commute with S(n) on pairs, each contracted, mixed and spread by itself."""

    def __init__(self, n: int, channels: int, *, mixed_after: bool) -> None:
        super().__init__()
        self.mixed_after = mixed_after
        self.mixes = nn.ModuleList(nn.Linear(channels, channels, bias=False) for _ in range(15))
        self.register_buffer("equal", torch.eye(n)[:, :, None])

    def forward(self, x: Tensor) -> Tensor:
        def diagonal() -> Tensor:
            return torch.diagonal(x, dim1=1, dim2=2).transpose(1, 2)

        rows = [lambda v: v[:, :, None].expand_as(x), lambda v: v[:, None].expand_as(x)]
        vectors = [*rows, lambda v: rows[0](v) * self.equal]
        everywhere = [lambda v: v[:, None, None].expand_as(x)]
        scalars = [*everywhere, lambda v: everywhere[0](v) * self.equal]
        terms = [(x, lambda v: v), (x.transpose(1, 2), lambda v: v)]
        terms += [(v(), s) for v in (diagonal, lambda: x.sum(2), lambda: x.sum(1)) for s in vectors]
        terms += [(v(), s) for v in (lambda: diagonal().sum(1), lambda: x.sum((1, 2))) for s in scalars]
        found = [
            mix(spread(value)) if self.mixed_after else spread(mix(value))
            for mix, (value, spread) in zip(self.mixes, terms, strict=True)
        ]
        return sum(found[1:], found[0])


@pytest.mark.parametrize("mixed_after", [False, True])
def test_fifteen_terms_share_what_is_contracted(mixed_after: bool) -> None:
    torch.manual_seed(0)
    n, channels = 6, 3
    model = Terms(n, channels, mixed_after=mixed_after).double().eval()
    x = torch.randn(2, n, n, channels, dtype=torch.float64)
    module = capture(model, (x,)).module
    expected: Tensor = model(x)
    library = standard_library()
    names = [name for glob in ("cleanup.*", "decompose.shared.*") for name in library.select(glob)]
    rules = [library.rule(name) for name in names if name not in library.passes]
    passes = [library.passes[name]() for name in (*library.passes,) if name in names]
    passes.append(library.passes["decompose.regroup_sums"]())
    before = census(module)
    while rewrite(module, rules, None, Journal()) + sum(p.rewrite(module, Journal()) for p in passes):
        pass
    module.recompile()
    torch.testing.assert_close(module(x), expected)
    assert expected.std() > 0.1
    mixes = 2 * n * n + 9 * n + 4
    assert census(module).macs == 2 * channels**2 * mixes <= before.macs
    full = [node for node in module.graph.nodes if node.op == "call_function" and _is_full(node, x)]
    kinds = [node.target.__name__.partition(".")[0] for node in full]
    assert kinds.count("add") == 4 and kinds.count("mul") == 1 and "expand" not in kinds
    assert sum(kind.startswith("sum") for kind in kinds) == 0
    reads = [node for node in module.graph.nodes if "sum" in str(node.target) and str(node.args[0]) == "x"]
    assert len(reads) == 2  # the rows and the columns; the total is the sum of the rows


def _is_full(node: Any, x: Tensor) -> bool:
    return tuple(node.meta["val"].shape) == tuple(x.shape)
