"""Nodes put into a graph before another one, with what they compute and where they came from."""

from __future__ import annotations

from typing import Any

from torch import fx


class Inserter:
    """Calls operators right before a node and describes each result; `with inserter:` while calling."""

    def __init__(self, node: fx.Node) -> None:
        self._graph = node.graph
        self._place = node.graph.inserting_before(node)
        self._trace = node.meta.get("stack_trace", "")

    def __enter__(self) -> Inserter:
        self._place.__enter__()
        return self

    def __exit__(self, *reason: Any) -> None:
        self._place.__exit__(*reason)

    def call(self, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        """The call of `target`, whose result is computed from the descriptions of the operands."""
        fakes, named = fx.node.map_arg((args, kwargs), lambda n: n.meta["val"])
        return self.described(target(*fakes, **named), target, *args, **kwargs)

    def described(self, value: Any, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        """The same, with a description of the result that the caller knows."""
        made = self._graph.call_function(target, args, kwargs)
        made.meta = {"val": value, "stack_trace": self._trace}
        return made
