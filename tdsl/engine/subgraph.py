"""`replace_pattern`: PyTorch's subgraph rewriter on this engine.

Signature and results are those of `torch.fx.subgraph_rewriter` (PyTorch 2.13): one pass over the matches of
the graph as it is, those that overlap an earlier one left out. What differs: a pattern means the operators
it calls, however they are spelt, operands of commutative operators in either order; two parameters may stand
for one value; and a replacement of several values is put where all its inputs are ready, or not at all.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.fx.passes.utils.matcher_utils import InternalMatch
from torch.fx.subgraph_rewriter import Match, ReplacedPatterns

from tdsl.capture.normal import attribute
from tdsl.engine.edit import Editor
from tdsl.engine.matcher import compile_pattern
from tdsl.engine.nodes import erase
from tdsl.engine.order import reaches
from tdsl.engine.pattern import Apply
from tdsl.engine.rule import Replacement, Rule
from tdsl.engine.sizes import compare, describe
from tdsl.engine.staged import CannotStage, Constant, map_values, tensors_in
from tdsl.engine.traced import (
    Traceable,
    TracedPattern,
    as_written,
    respelled,
    speaks_aten,
    trace,
    translate,
)
from tdsl.engine.traced_side import stage_graph
from tdsl.engine.workspace import Workspace
from tdsl.errors import TdslError, kind_of

MatchFilter = Callable[[InternalMatch, fx.Graph, fx.Graph], bool]
"""(match, graph, pattern graph) → whether to replace the match."""
ReplacementCallback = Callable[[InternalMatch, fx.Graph, fx.Graph], fx.Graph]


def replace_pattern(gm: fx.GraphModule, pattern: Traceable, replacement: Traceable) -> list[Match]:
    """Replace every non-overlapping occurrence of `pattern` in `gm`, in place, by `replacement`.

    Both are functions, modules or graphs with the same parameters in the same order. Returns a `Match` for
    each: `nodes_map` from the pattern's nodes to those of the graph before, and `anchor`, the pattern's
    node that it was found from.

    Raises `TdslError` when pattern and replacement do not fit each other, or a site.
    """
    found = replace_pattern_with_filters(gm, pattern, replacement)
    return [Match(anchor=match.anchor, nodes_map=match.nodes_map) for match in found]


def replace_pattern_with_filters(
    gm: fx.GraphModule,
    pattern: Traceable,
    replacement: Traceable | None = None,
    match_filters: Sequence[MatchFilter] | None = None,
    ignore_literals: bool = False,
    replacement_callback: ReplacementCallback | None = None,
) -> list[ReplacedPatterns]:
    """`replace_pattern` where every filter agrees; each result lists the new nodes as `replacements`.

    With `ignore_literals` a literal of the pattern stands for any literal. `replacement_callback` builds
    the replacement of each match.
    """
    if replacement is None and replacement_callback is None:
        raise TdslError(
            "nothing to put in place of the pattern", expected="a replacement or replacement_callback"
        )
    if not isinstance(gm, fx.GraphModule):
        raise TdslError(
            f"{kind_of(gm)} has no graph",
            expected="a torch.fx.GraphModule",
            hint="`torch.fx.symbolic_trace(model)` makes one of a module",
        )
    aten = speaks_aten(gm.graph)
    graph, root = trace(pattern, inline=aten)
    typed = Workspace(gm).typed
    traced = translate(graph, root, typed=typed, any_value=True, ignore_literals=ignore_literals)
    matches = _Search(gm, traced, match_filters or ()).matches()
    common = None if replacement is None else trace(replacement, inline=aten)
    rewriter = _Rewriter(gm, traced, aten)
    planned: list[tuple[InternalMatch, fx.Graph, nn.Module]] = []
    for match in matches:
        if replacement_callback is not None:
            made = replacement_callback(match, gm.graph, graph)
            planned.append((match, made, made.owning_module or nn.Module()))
        else:
            assert common is not None
            planned.append((match, *common))
    for plan in planned:
        rewriter.check(*plan)
    results = [result for plan in planned if (result := rewriter.apply(*plan)) is not None]
    if results:
        if isinstance(replacement, nn.Module):
            gm.delete_all_unused_submodules()
        gm.graph.lint()
    gm.recompile()
    return results


# ---------------------------------------------------------------- finding


class _Search:
    """Finds the matches of a traced pattern in a graph, none of which shares a replaced node with another."""

    def __init__(self, gm: fx.GraphModule, traced: TracedPattern, filters: Sequence[MatchFilter]) -> None:
        self.graph = gm.graph
        self.traced = traced
        self.filters = filters
        self.copy, self.originals = respelled(gm.graph, gm)
        self.taken: set[fx.Node] = set()

    def matches(self) -> list[InternalMatch]:
        """The matches, in graph order of the node they are found from."""
        root = self.traced.pattern.roots[0]
        assert isinstance(root, Apply)
        matcher = compile_pattern(self.traced.pattern, "the pattern")
        found: list[InternalMatch] = []
        for node in self.copy.nodes:
            if node.op == root.op and node.target in root.targets:
                match = matcher(node, self.accept)
                if match is not None:
                    found.append(match)
        return found

    def accept(self, nodes: tuple[fx.Node, ...], env: dict[str, Any]) -> InternalMatch | None:
        """The match in terms of the two original graphs; `None` lets the matcher look for another one."""
        traced = self.traced
        if not traced.fits(env) or any(node in self.taken for node in nodes):
            return None
        bound = [env[name] for _, name in traced.parameters if name in env]
        outputs = [env[f"@{i}"] for i in range(len(traced.outputs))]
        if not _independent(outputs, bound):
            return None
        match = self.described(env)
        if not all(agrees(match, self.graph, traced.graph) for agrees in self.filters):
            return None
        self.taken.update(nodes)
        return match

    def described(self, env: Mapping[str, Any]) -> InternalMatch:
        traced = self.traced
        nodes_map: dict[Any, Any] = {}
        for i, call in enumerate(traced.calls):
            nodes_map[call] = self.originals[env[f"@{i}"]]
        for leaf, name in (*traced.parameters, *traced.constants):
            if name in env:
                nodes_map[leaf] = as_written(env[name], self.originals)
        return InternalMatch(
            anchors=[traced.anchor()],
            nodes_map=nodes_map,
            placeholder_nodes=[nodes_map[leaf] for leaf, _ in traced.parameters if leaf in nodes_map],
            returning_nodes=[nodes_map[node] for node in traced.outputs],
        )


def _independent(outputs: Sequence[fx.Node], inputs: Sequence[Any]) -> bool:
    """Whether nothing that goes into a replacement is computed from what it replaces."""
    return not reaches(outputs, [node for value in inputs for node in tensors_in(value)])


# ---------------------------------------------------------------- replacing


def _held(owner: nn.Module) -> Callable[[fx.Node], Any]:
    """The attributes of a replacement while it is only looked at."""

    def held(node: fx.Node) -> Any:
        value = attribute(owner, str(node.target))
        if value is None:
            raise TdslError(f"the replacement uses the attribute {node.target}, which it does not have")
        return Constant(value.detach(), value.dtype) if isinstance(value, torch.Tensor) else str(node.target)

    return held


class _Rewriter:
    """Puts replacements into the graph, one after the other."""

    def __init__(self, gm: fx.GraphModule, traced: TracedPattern, aten: bool) -> None:
        self.gm = gm
        self.traced = traced
        self.aten = aten
        self.work = Workspace(gm)
        self.editor = Editor(self.work)
        self.rule = Rule("replace_pattern", ())
        self.replaced: dict[fx.Node, Any] = {}
        self.adopted: dict[tuple[int, str], str] = {}
        self.constants: dict[str, fx.Node] = {}
        self.count = 0

    def inputs(self, match: InternalMatch, graph: fx.Graph) -> dict[fx.Node, Any]:
        """What the replacement's parameters stand for: values of the match, as they are by now."""
        given = graph.find_nodes(op="placeholder")
        parameters = self.traced.parameters
        declared = self.traced.graph.find_nodes(op="placeholder")
        if len(given) != len(declared):
            raise TdslError(
                f"the replacement has {len(given)} parameters, the pattern {len(declared)}",
                expected="the same parameters in the same order",
            )
        known = {leaf for leaf, _ in parameters if leaf in match.nodes_map}
        values: dict[fx.Node, Any] = {}
        for mine, theirs in zip(given, declared, strict=True):
            if theirs in known:
                values[mine] = map_values(match.nodes_map[theirs], self.current)
            elif mine.users:
                raise TdslError(
                    f"the replacement uses {mine.target}, of which the pattern knows nothing",
                    expected="a parameter that the pattern uses",
                )
        return values

    def current(self, node: fx.Node) -> Any:
        """The value that stands for a node of the original graph now."""
        while node in self.replaced:
            node = self.replaced[node]
        return node

    def check(self, match: InternalMatch, graph: fx.Graph, owner: nn.Module) -> None:
        """Refuse, before anything is changed, a replacement that does not fit the pattern or this site."""
        outputs = match.returning_nodes
        try:
            values = stage_graph(graph, self.inputs(match, graph), _held(owner), self.work, aten=self.aten)
        except CannotStage as reason:
            raise self.refused(match, str(reason)) from None
        if len(values) != len(outputs):
            raise TdslError(f"the replacement returns {len(values)} values, the pattern {len(outputs)}")
        for old, new in zip(outputs, values, strict=True):
            if not tensors_in(new):
                raise TdslError(f"the replacement returns {new!r}", expected="values that it computes")
            before, after = self.work.val(old), self.work.val(new)
            if isinstance(before, torch.Tensor) and isinstance(after, torch.Tensor):
                same = before.dtype == after.dtype and compare("==", list(before.shape), list(after.shape))
                if not same:
                    raise self.refused(match, f"{describe(before)} would become {describe(after)}")

    def refused(self, match: InternalMatch, reason: str) -> TdslError:
        return TdslError(
            f"the replacement does not fit at {match.returning_nodes[0].name}: {reason}",
            hint="`match_filters` of replace_pattern_with_filters can leave sites out",
        )

    def apply(self, match: InternalMatch, graph: fx.Graph, owner: nn.Module) -> ReplacedPatterns | None:
        """Replace the match; `None` where an earlier replacement has made it depend on itself."""
        for leaf, value in list(match.nodes_map.items()):
            if leaf.op == "placeholder":
                match.nodes_map[leaf] = map_values(value, self.current)
        inputs = self.inputs(match, graph)
        outputs = tuple(match.returning_nodes)
        if not _independent(outputs, list(inputs.values())):
            return None
        values = stage_graph(
            graph, inputs, lambda node: self.attribute(node, owner), self.work, aten=self.aten
        )
        matched = tuple(match.nodes_map[call] for call in self.traced.calls)
        constants = tuple(match.nodes_map[leaf] for leaf, _ in self.traced.constants)
        self.count += 1
        created = self.editor.apply(Replacement(self.rule, outputs, values, matched), self.count).created
        erase(set(constants))
        for old, new in zip(outputs, values, strict=True):
            self.replaced[old] = new if isinstance(new, fx.Node) else new.node
        return ReplacedPatterns(match.anchors[0], match.nodes_map, created)

    # ------------------------------------------------------------ attributes of the replacement

    def attribute(self, node: fx.Node, owner: nn.Module) -> Any:
        """The constant of a `get_attr` node, or the path of a called module, moved into the graph module."""
        key = (id(owner), str(node.target))
        if key not in self.adopted:
            self.adopted[key] = self.adopt(str(node.target), attribute(owner, str(node.target)))
        path = self.adopted[key]
        if node.op == "call_module":
            return path
        if path not in self.constants:
            with self.gm.graph.inserting_before(next(iter(self.gm.graph.nodes))):
                self.constants[path] = self.gm.graph.get_attr(path)
            mode = self.work.mode()
            if mode is not None:
                value = mode.from_tensor(attribute(self.gm, path), static_shapes=True)
                self.constants[path].meta["val"] = value
        return self.constants[path]

    def adopt(self, path: str, value: Any) -> str:
        """Copy an attribute into the graph module, under its own path unless something else stands there."""
        free, count = path, 0
        while (existing := attribute(self.gm, free)) is not None and not _alike(existing, value):
            count += 1
            free = f"{path}_{count}"
        if existing is None:
            _set_attribute(self.gm, free, copy.deepcopy(value))
        return free


def _alike(a: Any, b: Any) -> bool:
    """Whether two attributes are interchangeable: equal tensors, or modules of one make and state."""
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, nn.Module):
        states = a.state_dict(), b.state_dict()
        same_state = states[0].keys() == states[1].keys() and all(
            _alike(v, states[1][k]) for k, v in states[0].items()
        )
        return same_state and repr(a) == repr(b)
    return bool(a == b)


def _set_attribute(module: nn.Module, path: str, value: Any) -> None:
    parent, _, name = path.rpartition(".")
    if isinstance(value, nn.Module):
        module.add_submodule(path, value)  # type: ignore[operator]
        return
    owner: nn.Module = module
    for part in parent.split(".") if parent else ():
        if not hasattr(owner, part):
            owner.add_module(part, nn.Module())
        owner = getattr(owner, part)
    if isinstance(value, torch.Tensor) and not isinstance(value, nn.Parameter):
        owner.register_buffer(name, value)
    else:
        setattr(owner, name, value)


__all__ = ["Match", "ReplacedPatterns", "replace_pattern", "replace_pattern_with_filters"]
