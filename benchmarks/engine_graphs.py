"""Synthetic FX graphs of any size, for the engine and for other rewriters. Needs torch alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensorMode

ADD, MUL, SUB = torch.ops.aten.add.Tensor, torch.ops.aten.mul.Tensor, torch.ops.aten.sub.Tensor
MM = torch.ops.aten.matmul.default


def graph_of(build: Callable[[fx.Graph], fx.Node], *, typed: bool = False) -> fx.GraphModule:
    """A module around a graph; in a typed one every value is described as a matrix [8, 8]."""
    graph = fx.Graph()
    graph.output(build(graph))
    if typed:
        with FakeTensorMode():
            matrix = torch.empty(8, 8)
        for node in graph.nodes:
            node.meta["val"] = matrix
    return fx.GraphModule(torch.nn.Module(), graph)


def dense(nodes: int) -> fx.GraphModule:
    """x·a + x·b again and again: every third node roots a match."""

    def build(graph: fx.Graph) -> fx.Node:
        x, a, b = (graph.placeholder(name) for name in "xab")
        for _ in range(nodes // 3):
            x = graph.call_function(ADD, (graph.call_function(MUL, (x, a)), graph.call_function(MUL, (x, b))))
        return x

    return graph_of(build)


def without_match(nodes: int) -> fx.GraphModule:
    """A chain of products and differences, in which no sum occurs."""

    def build(graph: fx.Graph) -> fx.Node:
        x, a = graph.placeholder("x"), graph.placeholder("a")
        for i in range(nodes):
            x = graph.call_function(SUB if i % 2 else MUL, (x, a))
        return x

    return graph_of(build)


def near_misses(nodes: int) -> fx.GraphModule:
    """Sums of products of different values: every root is tried and none matches."""

    def build(graph: fx.Graph) -> fx.Node:
        x, a, b = (graph.placeholder(name) for name in "xab")
        for _ in range(nodes // 3):
            x = graph.call_function(ADD, (graph.call_function(MUL, (x, x)), graph.call_function(MUL, (a, b))))
        return x

    return graph_of(build)


def siblings(nodes: int) -> fx.GraphModule:
    """Pairs of products of one value."""

    def build(graph: fx.Graph) -> fx.Node:
        x, a, b = (graph.placeholder(name) for name in "xab")
        for _ in range(nodes // 3):
            x = graph.call_function(ADD, (graph.call_function(MM, (x, a)), graph.call_function(MM, (x, b))))
        return x

    return graph_of(build, typed=True)


def chain(nodes: int) -> fx.GraphModule:
    """((x·w)·w)·w…: a rule that brackets to the right takes one rewrite a product."""

    def build(graph: fx.Graph) -> fx.Node:
        x, w = graph.placeholder("x"), graph.placeholder("w")
        for _ in range(nodes):
            x = graph.call_function(MM, (x, w))
        return x

    return graph_of(build, typed=True)


def tower(nodes: int, target: object) -> fx.GraphModule:
    """A difference and three applications of a binary operator on top, again and again, operands swapped."""

    def build(graph: fx.Graph) -> fx.Node:
        x, a, b = (graph.placeholder(name) for name in "xab")
        for i in range(nodes // 4):
            x = graph.call_function(SUB, (x, a))
            for k in range(3):
                swap = target is MUL and (i + k) % 2
                x = graph.call_function(target, (b, x) if swap else (x, b))
        return x

    return graph_of(build, typed=True)
