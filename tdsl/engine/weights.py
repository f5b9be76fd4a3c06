"""The weights of a graph module by their paths: new ones, unread ones, those that take over a name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import fx, nn

from tdsl.capture.normal import attribute

STANDS_FOR = "stands_for"
"""Key of a `get_attr` node's `meta`: path and shape of the captured weight that it was made from."""


def leading(module: fx.GraphModule, made_of: Iterable[fx.Node]) -> fx.Node | None:
    """Of the weights that a new one is made of the one that says what it is: the first that is trained.

    Else the first parameter, which is frozen then; else the first buffer.
    """

    def rank(node: fx.Node) -> int:
        found = attribute(module, str(node.target))
        return 2 if not isinstance(found, nn.Parameter) else int(not found.requires_grad)

    return min(made_of, key=rank, default=None)


def add_weight(
    module: fx.GraphModule, values: torch.Tensor, kind: fx.Node | None, like: fx.Node | None, label: str
) -> str:
    """Register `values` beside the weight of `like` and return its path, which nothing else has.

    They are what the weight of `kind` is: a parameter, trained or frozen, or a buffer. What is made of no
    weight is a buffer.
    """
    owner_path, _, leaf = str(like.target if like is not None else "").rpartition(".")
    owner: nn.Module = module.get_submodule(owner_path)
    stem = leaf if leaf.endswith(f"_{label}") or not label else f"{leaf}_{label}".lstrip("_")
    name = next(n for n in _numbered(stem or "constant") if not hasattr(owner, n))
    known = attribute(module, str(kind.target)) if kind is not None else None
    if isinstance(known, nn.Parameter) and values.is_floating_point():
        values = nn.Parameter(values, requires_grad=known.requires_grad)
    _register(owner, name, values)
    return f"{owner_path}.{name}" if owner_path else name


def prune_weights(module: fx.GraphModule) -> None:
    """Drop the parameters, buffers and submodules of `module` that its graph does not read."""
    used = {str(node.target) for node in module.graph.find_nodes(op="get_attr")}
    for path, owner in list(module.named_modules()):
        prefix = f"{path}." if path else ""
        if path in used or any(path.startswith(f"{branch}.") for branch in used):
            continue  # a branch of a torch.cond, which reads what it holds
        for table in (owner._parameters, owner._buffers):
            for name in [n for n in table if prefix + n not in used]:
                del table[name]
    module.delete_all_unused_submodules()


def take_over(module: fx.GraphModule, other: fx.GraphModule) -> None:
    """Give `module` the graph of `other`, a copy of it that was rewritten, with the weights that it reads."""
    for node in other.graph.find_nodes(op="get_attr"):
        path = str(node.target)
        values = attribute(other, path)
        if attribute(module, path) is not values:
            owner, _, leaf = path.rpartition(".")
            _remove(module, path)
            _register(module.get_submodule(owner), leaf, values)
    module.graph = other.graph


def restore_names(module: fx.GraphModule) -> None:
    """Give a new weight the name of the captured one that it replaced, where both have the same shape.

    A folded `conv.weight` is `conv.weight` again; a factor, or a merged weight, keeps a name of its own.
    """
    nodes = module.graph.find_nodes(op="get_attr")
    used = {str(node.target) for node in nodes}
    for node in nodes:
        old, shape = node.meta.get(STANDS_FOR, ("", None))
        values = attribute(module, str(node.target))
        if not old or old in used or values.shape != shape:
            continue
        owner_path, _, leaf = old.rpartition(".")
        owner = module.get_submodule(owner_path)
        for path in (str(node.target), old):
            _remove(module, path)
        _register(owner, leaf, values)
        used = (used - {str(node.target)}) | {old}
        node.target = old


def _register(owner: nn.Module, name: str, values: torch.Tensor) -> None:
    if isinstance(values, nn.Parameter):
        owner.register_parameter(name, values)
    else:
        owner.register_buffer(name, values)


def _remove(module: nn.Module, path: str) -> None:
    """Remove what is registered at a path, if anything is."""
    owner_path, _, leaf = path.rpartition(".")
    owner = module.get_submodule(owner_path)
    if hasattr(owner, leaf):
        delattr(owner, leaf)


def _numbered(name: str) -> Iterator[str]:
    """`name`, `name_1`, `name_2`, …"""
    yield name
    count = 0
    while True:
        count += 1
        yield f"{name}_{count}"
