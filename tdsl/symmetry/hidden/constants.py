"""Units that compute the same number whatever the input: the number, operator by operator.

A vector has one entry for each unit, NaN where it is not known to be constant.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from tdsl.capture.normal import attribute
from tdsl.ops.spec import Operator
from tdsl.ops.targets import operator_of
from tdsl.symmetry.hidden.infer import Inference
from tdsl.symmetry.hidden.layout import Atom
from tdsl.symmetry.hidden.roles import Roles, argument

_KEEPS = frozenset(
    ["reshape", "permute", "squeeze", "unsqueeze", "contiguous", "detach", "dropout", "expand"]
)
_MEANS = ("mean", "amax", "amin")


def constants_of(inference: Inference, roles: Roles, atom: int) -> dict[fx.Node, Tensor]:
    """For each node that carries the group, the constant of every unit, in float64."""
    size = inference.system.size(Atom(atom))
    found: dict[fx.Node, Tensor] = {}
    for node in roles.carried:
        op = operator_of(node.target)
        value = _Step(inference, node, op, atom, size, found).value() if op is not None else None
        found[node] = torch.full((size,), torch.nan).double() if value is None else value.expand(size).clone()
    return found


class _Step:
    """One node: its constants from those of its operands."""

    def __init__(
        self,
        inference: Inference,
        node: fx.Node,
        op: Operator,
        atom: int,
        size: int,
        known: dict[fx.Node, Tensor],
    ) -> None:
        self.inference = inference
        self.node = node
        self.op = op
        self.atom = atom
        self.size = size
        self.known = known

    def value(self) -> Tensor | None:
        name = self.op.name
        if self.op.pointwise or self.op.elementwise:
            return self._of_each()
        if name in ("linear", "addmm", "matmul") or name.startswith("conv"):
            return self._of_weights()
        if name == "batch_norm":
            return self._batch_norm()
        first = self._operand(self.node.args[0]) if self.node.args else None
        if first is None:
            return None
        if name in _KEEPS or name in _MEANS or name.startswith(("max_pool", "adaptive_avg", "upsample_")):
            return first
        if name.startswith("avg_pool") and not any(self._argument("padding")):
            return first
        return torch.where(first == 0, 0.0, torch.nan)  # zero in, zero out: sums, padded means

    def _argument(self, name: str) -> Any:
        return argument(self.node, self.op, name)

    def _operand(self, value: Any) -> Tensor | None:
        """An operand as one number for each unit: a number, a weight of the units alone, or a known value."""
        if isinstance(value, (int, float)):
            return torch.full((self.size,), float(value)).double()
        if not isinstance(value, fx.Node):
            return None
        if value in self.known:
            return self.known[value]
        if value.op != "get_attr":
            return None
        tensor = attribute(self.inference.module, str(value.target)).detach()
        if tensor.numel() == 1:
            return torch.full((self.size,), float(tensor)).double()
        layouts = [layout for layout in self.inference.axes(value) if self.inference.system.size(layout) != 1]
        found: Tensor = tensor.double().flatten()
        return found if layouts == [Atom(self.atom)] else None

    def _of_each(self) -> Tensor | None:
        """The operator itself on the constants."""
        if not all(n.meta["val"].is_floating_point() for n in self.node.all_input_nodes):
            return None
        operands = {n: self._operand(n) for n in self.node.all_input_nodes}
        if any(value is None for value in operands.values()):
            return None
        if self.op.name in ("cast", "dropout"):
            return self._operand(self.node.args[0])
        target: Any = self.node.target
        args, kwargs = fx.map_arg((self.node.args, self.node.kwargs), lambda n: operands[n])
        result: Tensor = target(*args, **kwargs).double()
        # What is not known stays so, whatever the operator makes of NaN.
        unknown = torch.stack([value.isnan() for value in operands.values() if value is not None]).any(0)
        return torch.where(unknown, torch.nan, result)

    def _of_weights(self) -> Tensor | None:
        """Rows of zeros give the bias; so does a filter for each unit that reads a constant zero."""
        name = self.op.name
        weight = self._argument("y" if name == "matmul" else "weight")
        bias = None if name == "matmul" else self._argument("bias")
        if not isinstance(weight, fx.Node) or weight.op != "get_attr" or self.node.kwargs:
            return None
        rank = len(self.inference.axes(weight))
        if name.startswith("conv_transpose") and self._argument("groups") == 1:
            own = 1
        else:
            own = rank - 1 if name in ("matmul", "addmm") else 0
        if self.inference.axes(weight)[own] != Atom(self.atom):
            return None
        values = attribute(self.inference.module, str(weight.target)).detach()
        dead = (values.movedim(own, 0).flatten(1) == 0).all(1)
        offset = torch.zeros(self.size).double() if bias is None else self._operand(bias)
        if offset is None:
            return None
        if name.startswith("conv") and self._argument("groups") != 1:
            before = self._operand(self._argument("x"))
            if before is not None:
                dead = dead | (before == 0)
        return torch.where(dead, offset, torch.nan)

    def _batch_norm(self) -> Tensor | None:
        """Of a constant; of anything at all where the factor is zero."""
        x = self._operand(self._argument("x"))
        given = {name: self._argument(name) for name in ("mean", "var", "weight", "bias")}
        parts = {name: self._operand(value) for name, value in given.items() if value is not None}
        found = {name: part for name, part in parts.items() if part is not None}
        if self._argument("training") or len(found) != len(parts):
            return None
        zero, one = torch.zeros(self.size).double(), torch.ones(self.size).double()
        weight, bias = found.get("weight", one), found.get("bias", zero)
        mean, var = found.get("mean", zero), found.get("var", one)
        before = torch.full((self.size,), torch.nan).double() if x is None else x
        scaled = (before - mean) / torch.sqrt(var + self._argument("eps")) * weight
        return torch.where(weight == 0, 0.0, scaled) + bias
