"""Dense layers of a graph, for passes that look at several: what they are, what they read, what is said."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from tdsl.engine.driver import Scope
from tdsl.engine.explain import Explanation, Failure, Site, place_of
from tdsl.engine.stage import stage
from tdsl.engine.staged import CannotStage, Constant
from tdsl.engine.statistics import Request, Statistics, request_of
from tdsl.engine.workspace import Workspace
from tdsl.errors import Span, TdslError
from tdsl.factor.shared import Layer
from tdsl.ops import OPERATORS
from tdsl.ops.targets import operator_of
from tdsl.provenance import REWRITE


@dataclass(frozen=True, slots=True)
class Dense:
    """A dense layer whose weight nothing else reads; `x` [..., n], the weight [m, n], the bias [m]."""

    node: fx.Node
    x: fx.Node
    weight: fx.Node
    bias: fx.Node | None

    @property
    def kind(self) -> tuple[Any, ...]:
        """Layers that can share weights have the same: sizes and element type."""
        described = self.weight.meta["val"]
        return (*described.shape, described.dtype)

    @property
    def dtype(self) -> torch.dtype:
        """The element type of the weight."""
        found: torch.dtype = self.weight.meta["val"].dtype
        return found

    def requests(self) -> tuple[Request, Request] | None:
        """Covariance and mean of the inputs; `None` where they are too wide to be known."""
        try:
            return _request("covariance", self.x), _request("first_moment", self.x)
        except CannotStage:
            return None

    def layer(self, work: Workspace, statistics: Statistics | None) -> tuple[Layer | None, Tensor | None]:
        """The weight as its inputs make it count, and their mean; without data the weight as it is."""
        weight, asked = work.evaluate(self.weight), self.requests()
        moment = mean = None
        if statistics is not None and asked is not None and self._correctable:
            moment, mean = (statistics.answer(request) for request in asked)
        return Layer.of(weight, moment), mean

    @property
    def _correctable(self) -> bool:
        """Whether the bias can take what is lost of the mean: it is known, or there is none."""
        return self.bias is None or self.bias.op == "get_attr"

    def corrected_bias(self, work: Workspace, missed: Tensor, mean: Tensor | None) -> Any:
        """The bias with what an approximation of the weight loses of the mean. `missed` is W − Ŵ, [m, n]."""
        if mean is None:
            return self.bias
        lost = missed @ mean
        own = lost if self.bias is None else work.evaluate(self.bias) + lost
        return Constant(own, self.dtype, "", self.bias)


def dense_layers(module: fx.GraphModule, scope: Scope | None, made_by: str) -> list[Dense]:
    """The dense layers of a typed graph in order, without those that the pass `made_by` made itself."""
    found = []
    for node in module.graph.nodes:
        op = operator_of(node.target) if node.op == "call_function" else None
        if op is None or op.name != "linear" or (scope is not None and not scope(node)):
            continue
        made = node.meta.get(REWRITE)
        if made is not None and made.rule == made_by:
            continue
        x, weight, bias = (*node.args, None)[:3]
        if not isinstance(x, fx.Node) or not isinstance(weight, fx.Node) or weight.op != "get_attr":
            continue
        described = weight.meta.get("val")
        if isinstance(described, Tensor) and described.is_floating_point() and len(weight.users) == 1:
            found.append(Dense(node, x, weight, bias))
    return found


def linear(work: Workspace, x: Any, weight: Any, bias: Any = None) -> Any:
    """A dense layer, staged."""
    return stage(work, OPERATORS["linear"], {"x": x, "weight": weight, "bias": bias})


def require_share(name: str, value: float, most: float, span: Span | None) -> None:
    """Raise `TdslError` for a parameter that is not above 0 and at most `most`."""
    if not 0 < value <= most:
        raise TdslError(
            f"this is no value for {name}", span, expected=f"a number above 0 and up to {most:g}: 0.02 or 2%"
        )


def explanation(
    name: str, fired: Iterable[fx.Node], left: Sequence[tuple[fx.Node, str]], limit: int
) -> Explanation:
    """Which dense layers a pass rewrites, and why not the others."""
    places = [place_of(node) for node in fired]
    sites = [Site(place_of(node), 1, 2, (), (_failure(node, reason),), 0) for node, reason in left[:limit]]
    return Explanation(
        rule=name,
        candidates=len(places) + len(left),
        fires=len(places),
        fired=tuple(places[:limit]),
        sites=tuple(sites),
        root="linear",
        nearest=(),
        otherwise=(),
    )


def _failure(node: fx.Node, reason: str) -> Failure:
    return Failure("condition", reason, "", "", "", place_of(node), (), "", "")


def _request(kind: Any, x: fx.Node) -> Request:
    return request_of(kind, x, -1, x.meta.get("val"))
