"""Where the weights of a graph are multiplied with values, and the statistics of these that this asks for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from tdsl.capture.normal import attribute
from tdsl.engine.staged import Staged, Value
from tdsl.engine.statistics import LARGEST, Kind, Request, request_of
from tdsl.ops.spec import Operator
from tdsl.ops.targets import operator_of
from tdsl.symmetry.hidden.roles import argument

aten = torch.ops.aten


@dataclass(frozen=True, slots=True)
class Use:
    """One product of a weight, as a matrix [m, n], with features of n numbers at each position.

    Of a table (`embedding`) the features are unit vectors: n is then 0, and `size` the number of rows.
    """

    node: fx.Node
    features: Value
    axis: int
    """Axis of the features, counted from the last."""
    size: int
    """How many there are: n, or m for a table."""
    output_axis: int
    """Axis of the result along which its m (for a table, n) numbers are."""
    outputs: int
    transposed: bool
    """Whether the weight is stored as [n, m]."""
    table: bool
    bias: fx.Node | None

    def requests(self, gradients: bool) -> Iterator[Request]:
        """The statistics of the features, and perhaps of gradients at the result."""
        if self.table:
            yield self.frequency
        else:
            yield self.second_moment
            yield self.first_moment
        if gradients:
            yield self.gradient_moment

    @property
    def frequency(self) -> Request:
        """How often each row of a table is read."""
        return request_of("frequency", self.features, -1, None, self.size)

    @property
    def second_moment(self) -> Request:
        """E[x·xᵀ] of the features x."""
        return self._of_features("second_moment")

    @property
    def first_moment(self) -> Request:
        """E[x] of the features x."""
        return self._of_features("first_moment")

    @property
    def gradient_moment(self) -> Request:
        """E[g·gᵀ] of the gradients g at the result."""
        return request_of("gradient_moment", self.node, self.output_axis, None, self.outputs)

    def _of_features(self, kind: Kind) -> Request:
        return request_of(kind, self.features, self.axis, None, self.size)

    def matrix(self, weight: Tensor) -> Tensor:
        """The weight as the matrix [m, n] that it is here."""
        return weight.T if self.transposed else weight.reshape(len(weight), -1)

    def weight(self, matrix: Tensor, shape: torch.Size) -> Tensor:
        """The weight that is this matrix [m, n]."""
        return (matrix.T if self.transposed else matrix).reshape(shape)


def uses_of(module: fx.GraphModule) -> dict[str, tuple[Use, ...]]:
    """The products of every weight that is in products only, all of one orientation, by its path."""
    found: dict[str, tuple[Use, ...]] = {}
    for weight in module.graph.find_nodes(op="get_attr"):
        tensor = attribute(module, str(weight.target))
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            continue
        uses = [_use(node, weight, tensor.shape) for node in weight.users]
        products = [use for use in uses if use is not None]
        if products and len(products) == len(uses) and len({use.transposed for use in products}) == 1:
            found[str(weight.target)] = tuple(products)
    return found


def own_bias(uses: Sequence[Use]) -> str | None:
    """The bias that is fitted together with a weight: that of its only product, if nothing else reads it."""
    bias = uses[0].bias if len(uses) == 1 else None
    return str(bias.target) if bias is not None and len(bias.users) == 1 else None


def _use(node: fx.Node, weight: fx.Node, shape: torch.Size) -> Use | None:
    """The product that a node is of a weight and features; `None` for anything else."""
    op = operator_of(node.target) if node.op == "call_function" else None
    if op is None or list(node.all_input_nodes).count(weight) != 1 or max(shape, default=0) > LARGEST:
        return None
    name = op.name
    bias = argument(node, op, "bias") if name in ("linear", "addmm", "conv1d", "conv2d") else None
    if bias is weight:
        return None
    bias = bias if isinstance(bias, fx.Node) and bias.op == "get_attr" else None
    match name:
        case "linear" if len(shape) == 2 and argument(node, op, "weight") is weight:
            x = argument(node, op, "x")
            return _product(node, x, -1, shape[1], -1, shape[0], bias)
        case "matmul" | "addmm" if len(shape) == 2 and _second(node, op) is weight:
            x = argument(node, op, "x")
            return _product(node, x, -1, shape[0], -1, shape[1], bias, transposed=True)
        case "embedding" if argument(node, op, "weight") is weight:
            indices = argument(node, op, "indices")
            if not isinstance(indices, fx.Node):
                return None
            return Use(node, indices, -1, shape[0], -1, shape[1], False, True, None)
        case "conv1d" | "conv2d" if argument(node, op, "weight") is weight:
            return _convolution(node, op, shape, bias)
    return None


def _second(node: fx.Node, op: Operator) -> Any:
    """The right factor of a matrix product; `None` where it is scaled on the way."""
    if op.name == "matmul":
        return argument(node, op, "y")
    scaled = argument(node, op, "alpha") != 1 or argument(node, op, "beta") != 1
    return None if scaled else argument(node, op, "weight")


def _product(
    node: fx.Node,
    x: Any,
    axis: int,
    size: int,
    output_axis: int,
    outputs: int,
    bias: fx.Node | None,
    transposed: bool = False,
) -> Use | None:
    known = not isinstance(x, Value) or (isinstance(x, fx.Node) and x.op == "get_attr")
    if known or size > LARGEST:
        return None
    return Use(node, x, axis, size, output_axis, outputs, transposed, False, bias)


def _convolution(node: fx.Node, op: Operator, shape: torch.Size, bias: fx.Node | None) -> Use | None:
    """A convolution is a product with the patch at each position."""
    x = argument(node, op, "x")
    window = {name: argument(node, op, name) for name in ("dilation", "padding", "stride")}
    plain = all(isinstance(sizes, (list, tuple)) for sizes in window.values())
    if argument(node, op, "groups") != 1 or not plain or not isinstance(x, fx.Node) or x.op == "get_attr":
        return None
    kernel = list(shape[2:])
    if len(kernel) == 1:
        x = Staged(aten.unsqueeze.default, (x, -2), {})
        kernel = [1, *kernel]
        window = {name: [int(name != "padding"), *sizes] for name, sizes in window.items()}
    patches = Staged(
        aten.im2col.default, (x, kernel, *(list(window[n]) for n in ("dilation", "padding", "stride"))), {}
    )
    return _product(node, patches, -2, shape[1:].numel(), 1 - len(shape), shape[0], bias)
