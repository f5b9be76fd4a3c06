"""The places that recovery works on: rewritten values whose last factor is a linear map of known features."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from tdsl.capture.normal import attribute
from tdsl.engine.census import census
from tdsl.engine.journal import Applied
from tdsl.engine.sizes import same_shape
from tdsl.factor.matrix import triplets
from tdsl.heal.damping import Damping
from tdsl.plan.calibrate import Data
from tdsl.plan.execute import Batch, Execution
from tdsl.provenance import REWRITE, VALUE, Origin, Rewrite, module_path, value_name

aten = torch.ops.aten

LINEAR = aten.linear.default
LARGEST, LEAST_LARGEST = 4096, 2048
"""Most features that a normal equation is set up for, in any model and in a small one."""
_NUMBER = 3 * 8
"""Bytes for each entry of the matrix of a normal equation: two sums, and the one that is solved."""


@dataclass(frozen=True, slots=True)
class Factors:
    """The last factor [m, k] and its bias [m], and the factor [k, n] before it where there is one."""

    last: Tensor
    bias: Tensor | None
    first: Tensor | None = None

    @property
    def joined(self) -> Tensor:
        """The map from features to the value, the bias as its last column. → [m, n + 1]."""
        whole = self.last if self.first is None else self.last @ self.first
        bias = torch.zeros(len(whole), dtype=whole.dtype) if self.bias is None else self.bias
        return torch.cat([whole, bias[:, None]], dim=1)

    def store(self, module: fx.GraphModule, site: Site) -> None:
        """Put the factors where the graph of `module` reads them."""
        _set(module, site.weight, self.last.reshape(attribute(module, str(site.weight.target)).shape))
        if self.bias is not None and site.bias is not None:
            _set(module, site.bias, self.bias)
        if self.first is not None and site.first is not None:
            _set(module, site.first, self.first)


@dataclass(frozen=True, slots=True)
class Site:
    """One rewritten value: `node` computes it, `target` is the reference's node that says what it is for.

    That is the value itself, or, where its only use is a sum with `beside` (a residual connection), the sum:
    what the other summand has lost can then be made up for as well. `features` is what the factors are
    applied to; `first` is the weight of the inner linear map, absent where only the last factor is solved.
    """

    node: fx.Node
    target: fx.Node
    beside: fx.Node | None
    features: fx.Node
    weight: fx.Node
    bias: fx.Node | None
    first: fx.Node | None

    @property
    def path(self) -> str:
        """The module that the value was traced in."""
        return module_path(self.node)

    def factors(self, module: fx.GraphModule) -> Factors:
        """The present factors, float64; a kernel as the matrix that it is on patches."""
        last = _read(module, self.weight)
        return Factors(
            last.reshape(len(last), -1),
            None if self.bias is None else _read(module, self.bias),
            None if self.first is None else _read(module, self.first),
        )

    def rows(self, ours: Execution, theirs: Execution, data: Data, batch: Batch) -> tuple[Tensor, Tensor]:
        """Features and targets at the positions that are not padding. → [rows, n], [rows, m]."""
        x, y = ours.values[self.features], theirs.values[self.target]
        if self.beside is not None:
            y = y - ours.values[self.beside]
        if self.node.target is LINEAR:
            described = self.target.meta.get("val")
            of_x = self.features.meta.get("val")
            return data.rows(batch, x, of_x), data.rows(batch, y, described)
        return _patches(self.node, x, attribute(ours.module, str(self.weight.target))), y.movedim(
            1, -1
        ).reshape(-1, y.shape[1])

    def solutions(
        self, present: Factors, features: Tensor, products: Tensor, damping: Damping
    ) -> Iterator[Factors]:
        """Factors to try: the last one alone, then both together."""
        if self.first is None:
            yield _regression(present, features, products, damping, fit_bias=self.bias is not None)
            return
        assert present.first is not None
        rank = len(present.first)
        inner = torch.nn.functional.pad(present.first, (0, 1))
        inner = torch.cat([inner, torch.zeros(1, inner.shape[1], dtype=inner.dtype)])
        inner[-1, -1] = 1.0
        alone = Factors(present.last, present.bias)
        solved = _regression(
            alone, inner @ features @ inner.T, products @ inner.T, damping, fit_bias=self.bias is not None
        )
        yield Factors(solved.last, solved.bias, present.first)
        if self.bias is not None:
            yield _reduced_rank(present, features, products, rank, damping)

    def refresh(self, module: fx.GraphModule, run: Execution) -> None:
        """Let a run that has read the old factors read the new ones, and compute again what used them."""
        for node in (self.weight, self.bias, self.first):
            if node is not None:
                run.values[node] = attribute(module, str(node.target)).detach()
        inner = self.node.args[0]
        if self.first is not None and isinstance(inner, fx.Node):
            run.values[inner] = torch.nn.functional.linear(run.values[self.features], run.values[self.first])


def sites_of(module: fx.GraphModule, reference: fx.GraphModule, approximate: Collection[str]) -> list[Site]:
    """The rewritten values of `module`, in its order, that some node of `reference` computes as well.

    Those with so many features are left out that normal equations would take more memory than the model.
    """
    largest = min(LARGEST, max(LEAST_LARGEST, math.isqrt(census(reference).bytes // _NUMBER)))
    known = {node.meta.get(VALUE, node.name): node for node in reference.graph.nodes}
    found = []
    for node in module.graph.nodes:
        name = node.meta.get(VALUE)
        if name not in known or not _approximated(node.meta.get(REWRITE), approximate):
            continue
        site = _site(module, node, *_aim(node, known), largest)
        if site is not None:
            found.append(site)
    return found


def _aim(node: fx.Node, known: Mapping[str, fx.Node]) -> tuple[fx.Node, fx.Node | None]:
    """What a value is to reproduce: the reference's, or a sum that it is only part of, and the other part."""
    target = known[node.meta[VALUE]]
    [user] = node.users if len(node.users) == 1 else [None]
    if user is None or user.target is not aten.add.Tensor or user.kwargs or len(user.args) != 2:
        return target, None
    total = known.get(value_name(user))
    beside = user.args[1] if user.args[0] is node else user.args[0]
    shapes = [n.meta["val"].shape for n in (node, beside, user) if isinstance(n, fx.Node) and "val" in n.meta]
    alike = len(shapes) == 3 and all(same_shape(shape, shapes[0]) for shape in shapes)
    if total is None or total.target is not user.target or not alike or not isinstance(beside, fx.Node):
        return target, None
    return (total, beside) if beside < node else (target, None)


def approximate_rules(entries: Collection[Applied]) -> set[str]:
    """The names of the rules among some rewrites that lost something."""
    return {entry.rule for entry in entries if entry.approximate}


def _approximated(made: Origin | Rewrite | None, rules: Collection[str]) -> bool:
    if not isinstance(made, Rewrite):
        return False
    return made.rule in rules or any(_approximated(part, rules) for part in made.consumed)


def _site(
    module: fx.GraphModule, node: fx.Node, target: fx.Node, beside: fx.Node | None, largest: int
) -> Site | None:
    if node.target is not LINEAR and node.target not in _CONVOLUTIONS:
        return None
    features, weight, bias = (*node.args[:3], None)[:3]
    if not isinstance(features, fx.Node) or not _own(weight) or (bias is not None and not _own(bias)):
        return None
    assert isinstance(weight, fx.Node)
    shape = attribute(module, str(weight.target)).shape
    if node.target in _CONVOLUTIONS and not _plain_convolution(node):
        return None
    if shape[1:].numel() > largest:
        return None
    inner = features
    first = inner.args[1] if inner.target is LINEAR and len(inner.args) == 2 else None
    made = node.target is LINEAR and len(inner.users) == 1 and inner.meta.get(REWRITE) is not None
    if made and isinstance(first, fx.Node) and _own(first) and isinstance(inner.args[0], fx.Node):
        return Site(node, target, beside, inner.args[0], weight, bias, first)  # type: ignore[arg-type]
    return Site(node, target, beside, features, weight, bias, None)  # type: ignore[arg-type]


_CONVOLUTIONS = (aten.conv1d.default, aten.conv2d.default)


def _own(node: object) -> bool:
    """Whether this is a weight that nothing else reads."""
    return isinstance(node, fx.Node) and node.op == "get_attr" and len(node.users) == 1


def _plain_convolution(node: fx.Node) -> bool:
    groups = node.args[6] if len(node.args) > 6 else 1
    return bool(groups == 1) and all(isinstance(v, list | tuple | int) for v in node.args[3:6])


def _patches(node: fx.Node, x: Tensor, weight: Tensor) -> Tensor:
    """What a convolution multiplies its kernel with, position by position. → [b · positions, i · k]."""
    axes = weight.dim() - 2
    stride, padding, dilation = (
        _per_axis(node.args[i] if len(node.args) > i else default, axes)
        for i, default in ((3, 1), (4, 0), (5, 1))
    )
    if axes == 1:
        x, kernel = x[:, :, None], (1, weight.shape[2])
        stride, padding, dilation = (1, *stride), (0, *padding), (1, *dilation)
    else:
        kernel = (weight.shape[2], weight.shape[3])
    unfolded = nn.functional.unfold(x, kernel, dilation, padding, stride)
    return unfolded.transpose(1, 2).reshape(-1, unfolded.shape[1])


def _per_axis(value: object, axes: int) -> tuple[int, ...]:
    many = tuple(value) if isinstance(value, list | tuple) else (value,)
    return many * axes if len(many) == 1 else many


def _regression(
    present: Factors, features: Tensor, products: Tensor, damping: Damping, *, fit_bias: bool
) -> Factors:
    """Damped regression drawn towards the present factor; a bias only where the graph has one."""
    weight = present.joined
    if not fit_bias:
        features, products, weight = features[:-1, :-1], products[:, :-1], weight[:, :-1]
    solved = weight + damping.step(features, products - weight @ features)
    return Factors(solved[:, :-1], solved[:, -1]) if fit_bias else Factors(solved, None)


def _reduced_rank(
    present: Factors, features: Tensor, products: Tensor, rank: int, damping: Damping
) -> Factors:
    """The best pair of factors of that rank for the features at hand (Izenman, 1975), and the bias."""
    whole = _regression(
        Factors(present.joined[:, :-1], present.bias), features, products, damping, fit_bias=True
    )
    count = features[-1, -1]
    mean = features[-1, :-1] / count
    covariance = features[:-1, :-1] / count - torch.outer(mean, mean)
    values, vectors = torch.linalg.eigh(covariance)
    root = values.clamp_min(damping.amount * values.clamp_min(0).mean() + 1e-300).sqrt()
    found = triplets((whole.last @ vectors) * root)
    last = found.left[:, :rank] * found.values[:rank].sqrt()
    first = found.values[:rank].sqrt()[:, None] * ((found.right[:rank] / root) @ vectors.T)
    assert whole.bias is not None
    return Factors(last, whole.bias + (whole.last - last @ first) @ mean, first)


def _read(module: fx.GraphModule, node: fx.Node) -> Tensor:
    value: Tensor = attribute(module, str(node.target))
    return value.detach().double()


def _set(module: fx.GraphModule, node: fx.Node, values: Tensor) -> None:
    """A parameter of the module's own, whoever else holds the old one."""
    path = str(node.target)
    old = attribute(module, path)
    owner, _, leaf = path.rpartition(".")
    setattr(module.get_submodule(owner), leaf, nn.Parameter(values.to(old.dtype).contiguous()))
