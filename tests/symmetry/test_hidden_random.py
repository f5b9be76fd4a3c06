"""Random chains of operators between two dense layers: whatever is found keeps the function."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from hidden_models import Made
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tdsl.capture import capture
from tdsl.symmetry.hidden import axis_groups, canonical, merge_duplicates, with_weights

Step = Callable[[nn.Module, Tensor], Tensor]

STEPS: dict[str, Step] = {
    "relu": lambda m, x: x.relu(),
    "tanh": lambda m, x: x.tanh(),
    "rows": lambda m, x: x.reshape(2, -1, 4) if x.shape[1:].numel() % 4 == 0 else x,
    "columns": lambda m, x: x.reshape(2, 3, -1) if x.shape[1:].numel() % 3 == 0 else x,
    "cube": lambda m, x: x.reshape(2, 3, 2, -1) if x.shape[1:].numel() % 6 == 0 else x,
    "flat": lambda m, x: x.flatten(1),
    "transpose": lambda m, x: x.transpose(1, -1),
    "softmax": lambda m, x: x.softmax(-1),
    "center": lambda m, x: x - x.mean(1, keepdim=True),
    "norm": lambda m, x: F.layer_norm(x, x.shape[-1:]),
    "scale": lambda m, x: x * m.gains[: x.shape[-1]],
    "twice": lambda m, x: torch.cat([x, x.tanh()], -1),
    "halves": lambda m, x: torch.cat([x[:, x.shape[1] // 2 :], x[:, : x.shape[1] // 2].sin()], 1),
    "every other": lambda m, x: x[..., ::2] + x[..., 1::2] if x.shape[-1] % 2 == 0 else x,
    "unbind": lambda m, x: sum(part * (i + 1) for i, part in enumerate(x.unbind(1))) if x.ndim > 2 else x,
    "chunks": lambda m, x: x.chunk(2, -1)[0] * x.chunk(2, -1)[1] if x.shape[-1] % 2 == 0 else x,
    "cumsum": lambda m, x: x.cumsum(-1) if x.shape[-1] < 5 else x,
    "gram": lambda m, x: (x @ x.transpose(-1, -2)).tanh() if x.ndim > 2 else x,
    "heads": lambda m, x: F.scaled_dot_product_attention(x, x, x.tanh()) if x.ndim > 2 else x,
    "outer": lambda m, x: torch.einsum("bi,bj->bij", x[:, :4], x[:, -3:]) if x.ndim == 2 else x,
    "repeat": lambda m, x: x.repeat_interleave(2, 1) if x.shape[1:].numel() < 20 else x,
    "expand": lambda m, x: x[:, None].expand(2, 3, *x.shape[1:]) if x.shape[1:].numel() < 20 else x,
    "pad": lambda m, x: F.pad(x, (1, 2), value=0.5),
    "sum": lambda m, x: x.sum(-1) if x.ndim > 2 else x,
    "sort": lambda m, x: x.sort(-1)[0] if x.shape[-1] < 4 else x,
}


def built(names: list[str], seed: int) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Twelve or twenty-four hidden units, the steps, and a dense layer as wide as what they leave."""
    torch.manual_seed(seed)
    gains = nn.Parameter(torch.rand(400) + 0.5)

    def steps(m: nn.Module, x: Tensor) -> Tensor:
        x = m.a(x)
        for name in names:
            x = STEPS[name](m, x)
        return x.flatten(1)

    x = torch.randn(2, 5, dtype=torch.float64)
    width = 12 if seed % 2 else 24
    model = Made(lambda m, x: m.b(steps(m, x)), a=nn.Linear(5, width), gains=gains).double()
    with torch.no_grad():
        model.b = nn.Linear(steps(model, x).shape[1], 3).double()
    return model.eval(), (x,)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=6), st.integers(0, 3))
def test_every_group_of_a_random_chain_keeps_it(names: list[str], seed: int) -> None:
    found = capture(*built(names, seed))
    with torch.no_grad():
        before = found.module(*found.args)
        for group in axis_groups(found):
            generator = np.random.default_rng(seed)
            for _ in range(2):
                changed = with_weights(found.module, group.permute(group.random(generator)))
                assert float((changed(*found.args) - before).abs().max()) <= 1e-9, (names, group.text)
        assert float((canonical(found).module(*found.args) - before).abs().max()) <= 1e-9, names


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.lists(st.sampled_from(sorted(STEPS)), max_size=4), st.integers(0, 3), st.booleans())
def test_merging_in_a_random_chain_keeps_it(names: list[str], seed: int, dead: bool) -> None:
    model, args = built(names, seed)
    with torch.no_grad():
        model.a.weight[5] = 0.0 if dead else model.a.weight[2]
        model.a.weight[9] = model.a.weight[2]
        model.a.bias[5] = model.a.bias[9] = model.a.bias[2]
    found = capture(model, args)
    merged = merge_duplicates(found, scaled=True)
    with torch.no_grad():
        apart = (merged.module(*args) - found.module(*args)).abs().max()
    assert float(apart) <= 1e-9, names
