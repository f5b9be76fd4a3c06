"""Baselines in plain PyTorch: truncations at one ratio everywhere, and AIMET's greedy choice of ratios.

The greedy one is our implementation of what AIMET publishes: each layer at each candidate ratio is evaluated
alone, and the ratios taken are the smallest whose score does not fall below one common bound, which is
lowered until the model has the wanted size.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from benchmarks.models import Task

Truncate = Callable[[nn.Module, float], nn.Module]
"""A layer and the share of its weight's numbers to keep → what takes its place."""

CANDIDATES = tuple(i / 10 for i in range(1, 10))
"""The ratios that the greedy choice evaluates, AIMET's own."""


def everywhere(task: Task, truncate: Mapping[str, Truncate] | Truncate) -> nn.Module:
    """A copy of the model with every treated layer truncated to the ratio of the task."""
    model = copy.deepcopy(task.model)
    for name in task.treated:
        one = truncate[name] if isinstance(truncate, Mapping) else truncate
        model.set_submodule(name, one(model.get_submodule(name), task.ratio))
    return model


def greedy(task: Task, truncate: Truncate) -> nn.Module:
    """A copy of the model with a ratio for each layer, by one evaluation of each layer at each candidate."""
    inputs = torch.cat(task.calibration[:8])
    options: dict[str, list[tuple[float, int, nn.Module]]] = {}
    with torch.no_grad():
        expected = task.model(inputs)
        for name in task.treated:
            layer = task.model.get_submodule(name)
            found = []
            worst = 0.0
            for ratio in reversed(CANDIDATES):
                made = truncate(layer, ratio)
                trial = copy.deepcopy(task.model)
                trial.set_submodule(name, made)
                loss = float((trial(inputs) - expected).norm() / expected.norm())
                worst = max(worst, loss)  # made monotone, as in the publication
                found.append((worst, _numbers(made), made))
            options[name] = found
    target = task.ratio * task.weights

    def taken(bound: float) -> dict[str, tuple[int, nn.Module | None]]:
        chosen = {}
        for name, found in options.items():
            allowed = [(size, made) for loss, size, made in found if loss <= bound]
            whole = task.model.get_submodule(name).weight.numel()
            chosen[name] = min(allowed, key=lambda one: one[0]) if allowed else (whole, None)
        return chosen

    bounds = sorted({loss for found in options.values() for loss, _, _ in found})
    chosen = next(
        (c for c in map(taken, bounds) if sum(size for size, _ in c.values()) <= target), taken(bounds[-1])
    )
    model = copy.deepcopy(task.model)
    for name, (_, made) in chosen.items():
        if made is not None:
            model.set_submodule(name, made)
    return model


# ---------------------------------------------------------------- dense layers


def svd(layer: nn.Linear, ratio: float) -> nn.Module:
    """Truncated singular value decomposition."""
    left, values, right = torch.linalg.svd(layer.weight.detach().double(), full_matrices=False)
    rank = _rank(layer.weight, ratio)
    return _dense(left[:, :rank] * values[:rank], right[:rank], layer.bias)


def whitened(second: Tensor, mean: Tensor) -> Truncate:
    """The truncation of least output error for inputs with that second moment and mean."""

    def truncate(layer: nn.Linear, ratio: float) -> nn.Module:
        weight = layer.weight.detach().double()
        covariance = second - torch.outer(mean, mean)
        vectors = torch.linalg.eigh(weight @ covariance @ weight.T).eigenvectors
        kept = vectors[:, -_rank(layer.weight, ratio) :]
        inner = kept.T @ weight
        bias = layer.bias.detach().double() + (weight - kept @ inner) @ mean
        return _dense(kept, inner, bias)

    return truncate


def moments(task: Task) -> dict[str, tuple[Tensor, Tensor]]:
    """Second moment and mean of the inputs of every treated dense layer, or patches of a convolution."""
    sums: dict[str, list[Tensor]] = {}

    def watch(name: str) -> Callable[..., None]:
        def add(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
            rows = _rows(layer, args[0]).double()
            new = [rows.T @ rows, rows.sum(0), torch.tensor(float(len(rows)))]
            sums[name] = [a + b for a, b in zip(sums[name], new, strict=True)] if name in sums else new

        return add

    hooks = [task.model.get_submodule(n).register_forward_pre_hook(watch(n)) for n in task.treated]
    with torch.no_grad():
        for batch in task.calibration:
            task.model(batch)
    for hook in hooks:
        hook.remove()
    return {name: (squares / count, total / count) for name, (squares, total, count) in sums.items()}


# ---------------------------------------------------------------- convolutions


def output_pca(second: Tensor, mean: Tensor) -> Truncate:
    """`whitened` on patches: a 3×3 convolution to fewer channels, then a 1×1 one with a bias."""

    def truncate(layer: nn.Conv2d, ratio: float) -> nn.Module:
        flat = nn.Linear(layer.weight[0].numel(), layer.out_channels)
        flat.weight.data = layer.weight.detach().flatten(1)
        flat.bias.data = torch.zeros(layer.out_channels)
        first, last = whitened(second, mean)(flat, ratio)
        return nn.Sequential(
            _conv(first.weight.detach().reshape(-1, *layer.weight.shape[1:]), layer.stride, layer.padding),
            _conv(last.weight.detach()[:, :, None, None], bias=last.bias.detach()),
        )

    return truncate


def spatial_svd(layer: nn.Conv2d, ratio: float) -> nn.Module:
    """A vertical and a horizontal convolution."""
    o, i, kh, kw = layer.weight.shape
    matrix = layer.weight.detach().double().permute(1, 2, 0, 3).reshape(i * kh, o * kw)
    rank = max(1, int(ratio * layer.weight.numel() / (i * kh + o * kw)))
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    root = values[:rank].sqrt()
    first = (left[:, :rank] * root).T.reshape(rank, i, kh, 1)
    last = (right[:rank] * root[:, None]).reshape(rank, o, kw).permute(1, 0, 2)[:, :, None]
    (sh, sw), (ph, pw) = layer.stride, layer.padding
    return nn.Sequential(_conv(first, (sh, 1), (ph, 0)), _conv(last, (1, sw), (0, pw)))


def tucker(layer: nn.Conv2d, ratio: float) -> nn.Module:
    """1×1, 3×3 and 1×1 convolutions with ranks in one proportion to both channel counts (HOSVD)."""
    o, i, kh, kw = layer.weight.shape
    share = next(
        s / 256
        for s in range(256, 0, -1)
        if _core(o, i, kh * kw, s / 256) <= ratio * layer.weight.numel() or s == 1
    )
    p, q = max(1, round(share * o)), max(1, round(share * i))
    weight = layer.weight.detach().double()
    out = torch.linalg.svd(weight.flatten(1), full_matrices=False).U[:, :p]
    into = torch.linalg.svd(weight.transpose(0, 1).flatten(1), full_matrices=False).U[:, :q]
    core = torch.einsum("oihw,op,iq->pqhw", weight, out, into)
    return nn.Sequential(
        _conv(into.T[:, :, None, None]),
        _conv(core, layer.stride, layer.padding),
        _conv(out[:, :, None, None]),
    )


def _core(o: int, i: int, taps: int, share: float) -> int:
    p, q = max(1, round(share * o)), max(1, round(share * i))
    return o * p + p * q * taps + q * i


def _conv(
    weight: Tensor,
    stride: tuple[int, ...] = (1, 1),
    padding: tuple[int, ...] = (0, 0),
    bias: Tensor | None = None,
) -> nn.Conv2d:
    o, i, *size = weight.shape
    made = nn.Conv2d(i, o, tuple(size), stride, padding, bias=bias is not None)
    made.weight.data = weight.float().contiguous()
    if bias is not None:
        made.bias.data = bias.float()
    return made


def _dense(left: Tensor, right: Tensor, bias: Tensor) -> nn.Module:
    first, last = nn.Linear(right.shape[1], len(right), bias=False), nn.Linear(left.shape[1], len(left))
    first.weight.data, last.weight.data = right.float().contiguous(), left.float().contiguous()
    last.bias.data = bias.detach().float()
    return nn.Sequential(first, last)


def _rank(weight: Tensor, ratio: float) -> int:
    rows, columns = len(weight), weight[0].numel()
    return max(1, int(ratio * rows * columns / (rows + columns)))


def _rows(layer: nn.Module, x: Tensor) -> Tensor:
    if isinstance(layer, nn.Linear):
        return x.reshape(-1, x.shape[-1])
    patches = nn.functional.unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
    return patches.transpose(1, 2).reshape(-1, patches.shape[1])


def _numbers(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.dim() > 1)
