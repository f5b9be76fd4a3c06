"""The terms of an example as graphs, and as a model with random weights that is captured like a user's.

All tensors of a graph are its inputs at first, weights too, so that nothing is computed before its time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from tdsl.capture import Captured, capture
from tdsl.engine.arithmetic import apply
from tdsl.engine.expression import compile_expression
from tdsl.engine.frame import Frame, Variant
from tdsl.engine.pattern import Pattern
from tdsl.engine.staged import CannotStage, Constant, Staged, map_values
from tdsl.engine.workspace import Workspace
from tdsl.errors import TdslError
from tdsl.lang import tree
from tdsl.lang.example import Example, Leaf
from tdsl.lang.walk import walk
from tdsl.ops.targets import DTYPES, operator_of

_NO_VARIANT = Variant(Pattern(()), (), {}, lambda _: ())


@dataclass(frozen=True)
class Drawn:
    """Random tensors for an example: inputs and weights, computed weights among these."""

    inputs: Mapping[str, torch.Tensor]
    weights: Mapping[str, torch.Tensor]


def draw(example: Example, seed: int) -> Drawn:
    """Normally distributed numbers (float64 unless a type says otherwise), the same for the same seed.

    Whole numbers are below the smallest size declared, so that they may be indices.
    """
    generator = torch.Generator().manual_seed(seed)
    sizes = [size for leaf in example.leaves.values() for size in leaf.sizes if size]
    values = {name: _random(leaf, generator, min(sizes, default=2)) for name, leaf in example.leaves.items()}
    inputs = {name: values[name] for name, leaf in example.leaves.items() if not leaf.const}
    weights = {name: value for name, value in values.items() if name not in inputs}
    return Drawn(inputs, _with_definitions(example, weights))


def _random(leaf: Leaf, generator: torch.Generator, below: int) -> torch.Tensor:
    dtype = DTYPES[leaf.dtype] if leaf.dtype else torch.float64
    if dtype is torch.bool:
        return torch.randint(0, 2, leaf.sizes, generator=generator).bool()
    if not dtype.is_floating_point:
        return torch.randint(0, below, leaf.sizes, generator=generator).to(dtype)
    return torch.randn(leaf.sizes, generator=generator, dtype=torch.float64).to(dtype)


def _with_definitions(example: Example, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights and what `where` computes from them; those that it names anew only are left out."""
    scene = _Scene({})
    frame = scene.frame
    frame.env.update({name: Constant(value, value.dtype) for name, value in weights.items()})
    for clause in example.definitions:
        try:
            value = compile_expression(clause.value, {})(frame)
            found = value if len(clause.targets) > 1 else [value]
            for target, part in zip(clause.targets, found, strict=True):
                tensor = scene.work.evaluate(part).contiguous()
                frame.env[target.name] = Constant(tensor, tensor.dtype)
        except (CannotStage, RuntimeError, ValueError, TypeError, AttributeError) as reason:
            raise TdslError(f"this cannot be computed: {_first_line(reason)}", clause.span) from None
    used = {n for e in (*example.lhs, *example.rhs) for n in _names(e.term)}
    return {name: value.values for name, value in frame.env.items() if name in used}


def _names(term: tree.Expr) -> set[str]:
    return {node.id for node in walk(term) if isinstance(node, tree.Name)}


# ---------------------------------------------------------------- terms as a graph


class _Scene:
    """An empty graph with an input for each tensor, in which terms of the language have values."""

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        mode = FakeTensorMode()
        self.graph = fx.Graph()
        self.nodes: dict[str, fx.Node] = {}
        for name, tensor in tensors.items():
            node = self.graph.placeholder(name)
            node.meta["val"] = mode.from_tensor(tensor, static_shapes=True)
            self.nodes[name] = node
        self.graph.output(())
        self.work = Workspace(fx.GraphModule(nn.Module(), self.graph))
        self.work._mode = mode
        self.frame = Frame(self.work, _NO_VARIANT, (), dict(self.nodes), {})

    def define(self, equations: Sequence[tree.Equation]) -> None:
        """Give the names of some equations their values; a term without a name has the name ""."""
        for equation in equations:
            names = equation.names or ("",)
            try:
                value = compile_expression(equation.term, {}, term=True)(self.frame)
                described = self.work.val(value) if isinstance(value, Staged) else None
                if len(names) > 1 and not isinstance(value, list | tuple):
                    value = [apply(self.frame, "getitem", value, i) for i in range(len(names))]
                for part in value if isinstance(value, list | tuple) else ():
                    self.work.val(part)
            except CannotStage as reason:
                raise TdslError(f"this cannot be computed: {reason}", equation.term.span) from None
            if isinstance(described, list | tuple) and len(described) != len(names):
                raise TdslError(
                    f"this has {len(described)} results, and {len(names)} names on the left of `=`",
                    equation.span,
                )
            self.frame.env.update(zip(names, value if len(names) > 1 else (value,), strict=True))

    def module(self, outputs: Sequence[str]) -> fx.GraphModule:
        """The graph that computes `outputs`."""
        results = tuple(self._node(self.frame.env[name]) for name in outputs)
        self.graph.output_node().args = (results,)
        return fx.GraphModule(nn.Module(), self.graph)

    def _node(self, value: Any) -> Any:
        if not isinstance(value, Staged):
            return value
        if value.node is None:
            args, kwargs = map_values(value.args, self._node), map_values(value.kwargs, self._node)
            op = operator_of(value.target)
            name = op.name if op else None
            with self.graph.inserting_before(self.graph.output_node()):
                value.node = self.graph.create_node("call_function", value.target, args, kwargs, name)
            value.node.meta["val"] = self.work.val(value)
        return value.node


def model_of(example: Example, drawn: Drawn) -> Captured:
    """The left side as a model with the weights drawn, captured on the inputs drawn. Raises `TdslError`."""
    scene = _Scene({**drawn.inputs, **drawn.weights})
    scene.define(example.lhs)
    module = scene.module(example.outputs)
    for node in module.graph.find_nodes(op="placeholder"):
        if node.target in drawn.weights:
            _hold(module, node, drawn.weights[node.target])
    module.graph.lint()
    module.recompile()
    return capture(module.eval(), tuple(drawn.inputs.values()))


def _hold(module: fx.GraphModule, node: fx.Node, values: torch.Tensor) -> None:
    """Make the input `node` a weight of the module, under its own name where that is free."""
    path = node.target if not hasattr(module, str(node.target)) else f"{node.target}_"
    if values.is_floating_point():
        module.register_parameter(str(path), nn.Parameter(values, requires_grad=False))
    else:
        module.register_buffer(str(path), values)
    with module.graph.inserting_before(node):
        held = module.graph.get_attr(str(path))
    node.replace_all_uses_with(held)
    module.graph.erase_node(node)


def expected_graph(example: Example, drawn: Drawn) -> fx.GraphModule:
    """The expected side as a graph whose inputs are all of inputs, weights and free names."""
    free = {
        name: torch.empty(leaf.sizes, dtype=DTYPES[leaf.dtype] if leaf.dtype else torch.float64)
        for name, leaf in example.free.items()
    }
    scene = _Scene({**drawn.inputs, **drawn.weights, **free})
    scene.define(example.lhs)
    scene.define(example.rhs)
    return scene.module(example.outputs)


def _first_line(reason: Exception) -> str:
    return (str(reason).splitlines() or [type(reason).__name__])[0]
