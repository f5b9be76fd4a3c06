"""A graph after one of its groups has become smaller: sizes that are written out, and shapes."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from torch import fx
from torch._subclasses.fake_tensor import disable_fake_tensor_cache

from tdsl.ops.targets import operator_of
from tdsl.symmetry.hidden.infer import Inference
from tdsl.symmetry.hidden.layout import atoms_in
from tdsl.symmetry.hidden.roles import argument, depthwise

_WRITTEN = {"reshape": "shape", "expand": "shape"}


def resize(inference: Inference, atom: int, size: int, weights: set[fx.Node]) -> None:
    """The group has `size` units from now on, and so have `weights`: correct literals and shapes."""
    nodes = [node for node in inference.module.graph.nodes if node.op == "call_function"]
    single = [node for node in nodes if _is_depthwise(inference, node, atom)]
    inference.system.set_size(atom, size)
    for node in nodes:
        op = operator_of(node.target)
        if op is None:
            continue
        if op.name in _WRITTEN and isinstance(inference.values.get(node), tuple):
            _rewrite(inference, node, atom)
        elif node in single:
            position = next(i for i, param in enumerate(op.params) if param.name == "groups")
            node.update_arg(position, size)
    _propagate(nodes, weights)


def _is_depthwise(inference: Inference, node: fx.Node, atom: int) -> bool:
    op = operator_of(node.target)
    if op is None or not op.name.startswith("conv") or argument(node, op, "groups") == 1:
        return False
    return depthwise(inference, node, op, atom)


def _rewrite(inference: Inference, node: fx.Node, atom: int) -> None:
    axes = inference.axes(node)
    literals: Any = list(node.args[1])  # type: ignore[arg-type]
    for i, layout in enumerate(axes):
        if atom in set(atoms_in(layout)) and isinstance(literals[i], int) and literals[i] != -1:
            literals[i] = inference.system.size(layout)
    node.update_arg(1, literals)


def _propagate(nodes: list[fx.Node], changed: set[fx.Node]) -> None:
    """Run every operator whose operands changed on their new shapes."""
    changed = set(changed)
    for node in nodes:
        if not changed & set(node.all_input_nodes):
            continue
        modes = (getattr(n.meta.get("val"), "fake_mode", None) for n in node.all_input_nodes)
        mode = next((mode for mode in modes if mode is not None), None)
        if mode is None:
            continue
        target: Any = node.target
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: n.meta["val"])
        env = mode.shape_env
        # The sizes that changed are static: what a kernel asks about dynamic ones was answered in the trace.
        quiet = nullcontext() if env is None else env.suppress_guards()
        with quiet, disable_fake_tensor_cache(mode), mode:
            node.meta["val"] = target(*args, **kwargs)
        changed.add(node)
