"""The generated matchers against the definition of a match, on random graphs and patterns.

Most patterns are made from a part of the graph, by forgetting some of it, so that many of them match.
"""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from textbook_matcher import matches
from torch import fx

from tdsl.engine.matcher import _Emitter, compile_pattern
from tdsl.engine.pattern import (
    Anything,
    Apply,
    Attribute,
    Bind,
    Chain,
    Items,
    Literal,
    Nary,
    Pattern,
    Splat,
    Type,
    find_roots,
)
from tdsl.errors import TdslError
from tdsl.ops import OPERATORS

A = torch.ops.aten
UNARY = (A.relu.default, A.neg.default, A.sigmoid.default)
CAT, SOFTMAX, LINEAR = A.cat.default, A.softmax.int, A.linear.default
NAMES = ("x", "y", "root", "accept", "None", "größe", "not a name", "Node", "result", "_", "ok")
SIZES = ((2, 2), (2, 3), (3, 2), (2, 2, 2))


# ---------------------------------------------------------------- random graphs


def random_graph(rng: random.Random, size: int) -> fx.GraphModule:
    """A graph over few operators, in which much is shared; its sizes fit nothing in particular."""
    graph = fx.Graph()
    values = [graph.placeholder(name) for name in "ab"]
    values.append(graph.create_node("get_attr", "w"))

    def pick() -> fx.Node:
        recent = values[-4:] if rng.random() < 0.7 else values
        return rng.choice(recent)

    for _ in range(size):
        kind = rng.choice(("unary", "unary", "add", "add", "mul", "sub", "cat", "softmax", "linear"))
        if kind == "unary":
            node = graph.call_function(rng.choice(UNARY), (pick(),))
        elif kind == "add":
            kwargs = {"alpha": 2} if rng.random() < 0.1 else {}
            node = graph.call_function(A.add.Tensor, (pick(), pick()), kwargs)
        elif kind == "mul":
            node = graph.call_function(A.mul.Tensor, (pick(), pick() if rng.random() < 0.8 else 2))
        elif kind == "sub":
            node = graph.call_function(A.sub.Tensor, (pick(), pick()))
        elif kind == "cat":
            node = graph.call_function(
                CAT, ([pick() for _ in range(rng.randint(1, 3))], rng.choice((-1, -2)))
            )
        elif kind == "softmax":
            node = graph.call_function(SOFTMAX, (pick(), rng.choice((-1, -2))))
        else:
            node = graph.call_function(LINEAR, (pick(), values[2], rng.choice((None, pick()))))
        values.append(node)
    for node in values:
        dtype = rng.choice((torch.float32, torch.float16))
        node.meta["val"] = torch.empty(rng.choice(SIZES), dtype=dtype, device="meta")
    graph.output(tuple(rng.sample(values[3:], rng.randint(1, 2))))
    root = torch.nn.Module()
    root.register_buffer("w", torch.zeros(2))
    return fx.GraphModule(root, graph)


# ---------------------------------------------------------------- random patterns


class Forgetting:
    """Makes a pattern from the graph below a node: every choice forgets something or keeps it."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.names: dict[Any, str] = {}
        self.terms: dict[fx.Node, Any] = {}
        self.fresh = itertools.count()
        self.one_variable = rng.random() < 0.3

    def pattern(self, node: fx.Node) -> Pattern:
        first = self.term(node, 3)
        terms = [first]
        others = [
            user
            for value in dict.fromkeys(self.names)
            if isinstance(value, fx.Node)
            for user in value.users
            if user.op == "call_function" and user not in self.terms
        ]
        if others and self.rng.random() < 0.4:
            second = self.term(self.rng.choice(others), 1, simple=True)
            terms.append(second)
        roots = find_roots(tuple(terms))
        inner = [t for t in Pattern((), roots=roots).terms() if not any(t is root for root in roots)]
        kept = []
        if inner and self.rng.random() < 0.3:
            kept.append(("kept", self.rng.choice(inner)))
        if len(roots) > 1 and self.rng.random() < 0.5:
            kept.append(("other", roots[1]))
        outputs = tuple(r for r in roots if not any(r is term for _, term in kept))
        watched = () if roots == outputs and len(outputs) == 1 else outputs
        return Pattern(outputs, tuple(kept), roots, watched)

    def term(self, node: fx.Node, depth: int, *, simple: bool = False) -> Any:
        if node in self.terms and self.rng.random() < 0.8:
            return self.terms[node]
        made = self.make(node, depth, simple)
        self.terms[node] = made
        return made

    def make(self, node: fx.Node, depth: int, simple: bool) -> Any:
        rng = self.rng
        if node.target in UNARY:
            if self.one_variable and (simple or rng.random() < 0.6):
                return Apply(UNARY, (self.operand(node.args[0], depth),), variable="f")
            if not simple and rng.random() < 0.5:
                return self.chain(node, depth)
            targets = UNARY if rng.random() < 0.2 else (node.target,)
            return Apply(targets, (self.operand(node.args[0], depth),))
        if node.target is A.add.Tensor:
            if not simple and rng.random() < 0.5 and not node.kwargs:
                return self.tree(node, depth)
            alpha = () if rng.random() < 0.2 else (("alpha", Literal(rng.choice((1, 1, 2))), 1),)
            return Apply((A.add.Tensor,), self.operands(node, depth, swap=True), alpha, commutative=True)
        if node.target is A.mul.Tensor:
            return Apply((A.mul.Tensor,), self.operands(node, depth, swap=True), commutative=True)
        if node.target is A.sub.Tensor:
            return Apply((A.sub.Tensor,), self.operands(node, depth, swap=rng.random() < 0.3))
        if node.target is CAT:
            return Apply((CAT,), (self.list(node.args[0], depth), self.attribute(node.args[1], "cat")))
        if node.target is SOFTMAX:
            return Apply(
                (SOFTMAX,), (self.operand(node.args[0], depth), self.attribute(node.args[1], "softmax"))
            )
        bias = node.args[2]
        optional = Bind(self.name(bias), optional=True) if rng.random() < 0.5 else self.operand(bias, depth)
        return Apply((LINEAR,), (*(self.operand(a, depth) for a in node.args[:2]), optional))

    def operands(self, node: fx.Node, depth: int, *, swap: bool) -> tuple[Any, ...]:
        made = [self.operand(a, depth) for a in node.args]
        literal = any(isinstance(m, Literal) for m in made)
        return tuple(made[::-1] if swap and not literal and self.rng.random() < 0.5 else made)

    def operand(self, value: Any, depth: int) -> Any:
        if not isinstance(value, fx.Node):
            return Bind(self.name(value)) if self.rng.random() < 0.3 else Literal(value)
        if depth > 0 and value.op == "call_function" and self.rng.random() < 0.75:
            return self.term(value, depth - 1)
        if value.op == "get_attr" and self.rng.random() < 0.3:
            return Apply(("w",), (), op="get_attr")
        return Bind(self.name(value), self.type(value))

    def name(self, value: Any) -> str:
        if value in self.names and self.rng.random() < 0.8:
            return self.names[value]
        name = f"{self.rng.choice(NAMES)}{next(self.fresh)}" if self.rng.random() < 0.5 else None
        name = name or next((n for n in NAMES if n not in self.names.values()), f"v{next(self.fresh)}")
        self.names[value] = name
        return name

    def type(self, value: fx.Node) -> Type | None:
        if self.rng.random() < 0.7:
            return None
        shape = value.meta["val"].shape
        dims: list[int | str] = [self.rng.choice((size, f"n{size}", "m")) for size in shape]
        if self.rng.random() < 0.4:
            start = self.rng.randint(0, len(dims))
            dims[start : start + self.rng.randint(0, 2)] = ["..."]
        const = value.op == "get_attr" and self.rng.random() < 0.5
        return Type(const, self.rng.choice((None, None, "f32")), self.rng.choice((None, tuple(dims))))

    def attribute(self, value: int, op: str) -> Any:
        kind = self.rng.random()
        if kind < 0.3:
            return Attribute(self.rng.choice(("p", "root")))
        if kind < 0.4:
            return Anything()
        return Literal(
            self.rng.choice((value, value + 2)), OPERATORS[op if op == "softmax" else "concat"].param("dim")
        )

    def list(self, values: list[fx.Node], depth: int) -> Items:
        items: list[Any] = [self.operand(v, depth) for v in values]
        if self.rng.random() < 0.5:
            start = self.rng.randint(0, len(items))
            stop = self.rng.randint(start, len(items))
            items[start:stop] = [self.splat(values[start:stop], depth)]
        return Items(tuple(items))

    def splat(self, values: list[Any], depth: int) -> Splat:
        name = f"rest{next(self.fresh)}"
        if values and isinstance(values[0], fx.Node) and values[0].target in (*UNARY, SOFTMAX):
            more = (Literal(self.rng.choice((-1, -2))),) if values[0].target is SOFTMAX else ()
            if self.rng.random() < 0.5:
                return Splat(name, Apply((values[0].target,), (Bind(name), *more)))
        return Splat(name)

    def chain(self, node: fx.Node, depth: int) -> Chain:
        inner: Any = node
        length = self.rng.randint(0, 2)
        targets = UNARY if self.rng.random() < 0.3 else (node.target,)
        for _ in range(length):
            if isinstance(inner, fx.Node) and inner.target in targets:
                inner = inner.args[0]
        least = self.rng.randint(0, 2)
        most = None if self.rng.random() < 0.3 else least + self.rng.randint(0, 2)
        below = self.operand(inner, depth - 1) if inner is not node else Bind(self.name(node.args[0]))
        variable = "f" if self.one_variable or self.rng.random() < 0.3 else f"links{next(self.fresh)}"
        return Chain(targets, variable, below, least, most)

    def tree(self, node: fx.Node, depth: int) -> Nary:
        leaves: list[Any] = []

        def open_up(value: Any, at: int) -> None:
            if (
                isinstance(value, fx.Node)
                and value.target is A.add.Tensor
                and at < 3
                and self.rng.random() < 0.9
            ):
                for operand in value.args:
                    open_up(operand, at + 1)
            else:
                leaves.append(value)

        open_up(node, 0)
        items: list[Any] = [self.operand(v, depth) for v in leaves[:4] if v is not node]
        if self.rng.random() < 0.6 or len(leaves) > 4:
            del items[self.rng.randint(0, len(items)) :]
            items.append(self.splat(leaves[len(items) :], depth))
        commutative = self.rng.random() < 0.7
        if commutative:
            self.rng.shuffle(items)
        return Nary(A.add.Tensor, tuple(items), commutative)


def random_case(seed: int) -> tuple[fx.GraphModule, Pattern]:
    rng = random.Random(seed)
    module = random_graph(rng, rng.randint(3, 12))
    operators = [n for n in module.graph.nodes if n.op == "call_function"]
    return module, Forgetting(rng).pattern(rng.choice(operators))


# ---------------------------------------------------------------- the two, side by side


def root_targets(pattern: Pattern) -> tuple[Any, ...]:
    root = pattern.roots[0]
    return (root.target,) if isinstance(root, Nary) else root.targets


def matchable(pattern: Pattern) -> bool:
    """Whether a matcher can be made: further roots can be found, and sizes are bound by what is there."""
    try:
        compile_pattern(pattern)
    except TdslError as reason:
        assert "cannot be reached" in reason.message or "only by an optional operand" in reason.message
        return False
    return True


def by_definition(module: fx.GraphModule, pattern: Pattern) -> list[list[Any]]:
    """The matches at each candidate, each once, in order of preference."""
    return [_each_once(matches(pattern, node)) for node in candidates(module, pattern)]


def generated(module: fx.GraphModule, pattern: Pattern) -> list[list[Any]]:
    """The same from the generated matcher, all of whose matches are refused."""
    match = compile_pattern(pattern)
    found: list[list[Any]] = []
    for node in candidates(module, pattern):
        at_node: list[Any] = []
        match(node, lambda nodes, env, at_node=at_node: at_node.append((nodes, env)))
        found.append(_each_once(at_node))
    return found


def candidates(module: fx.GraphModule, pattern: Pattern) -> list[fx.Node]:
    return [n for n in module.graph.nodes if n.target in root_targets(pattern)]


def _each_once(found: Any) -> list[Any]:
    distinct: list[Any] = []
    for entry in found:
        if entry not in distinct:
            distinct.append(entry)
    return distinct


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 2**32))
def test_generated_matchers_find_what_the_definition_finds_in_the_same_order(seed):
    module, pattern = random_case(seed)
    if matchable(pattern):
        assert generated(module, pattern) == by_definition(module, pattern)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 3))
def test_the_first_accepted_match_is_the_one_of_the_definition(seed, modulus):
    """A refusal goes back into the choices of the match, and the first acceptance ends the search."""
    module, pattern = random_case(seed)
    if not matchable(pattern):
        return
    match = compile_pattern(pattern)

    def accepted(nodes: tuple[fx.Node, ...], env: dict[str, Any]) -> bool:
        text = repr((nodes, sorted(env.items(), key=lambda item: item[0])))
        return sum(map(ord, text)) % (modulus + 1) == 0

    for node in candidates(module, pattern):
        found = match(node, lambda *entry: entry if accepted(*entry) else None)
        assert found == next((entry for entry in matches(pattern, node) if accepted(*entry)), None)


def test_the_random_cases_match_fail_and_branch():
    """Control: the comparison above is about something."""
    matched = refused = several = 0
    for seed in range(500):
        module, pattern = random_case(seed)
        if matchable(pattern):
            found = by_definition(module, pattern)
            matched += any(found)
            refused += not any(found)
            several += any(len(at_node) > 1 for at_node in found)
    assert matched > 60 and refused > 60 and several > 20


@pytest.mark.parametrize(
    "check", ["distinct", "used_as_written", "operator_variable", "check_type"], ids=lambda name: name
)
def test_a_matcher_that_forgets_a_check_is_noticed(monkeypatch, check):
    """Control: each kind of test that a matcher makes decides some of the random cases."""

    def forgotten(self: Any, *_: Any, **__: Any) -> None:
        if check == "operator_variable":
            self.bound[_[0]] = _[1]

    monkeypatch.setattr(_Emitter, check, forgotten)
    wrong = 0
    for seed in range(3000):
        module, pattern = random_case(seed)
        if matchable(pattern):
            try:
                wrong += generated(module, pattern) != by_definition(module, pattern)
            except KeyError:  # a name that the forgotten check would have bound
                wrong += 1
        if wrong:
            return
    pytest.fail(f"nothing depends on {check}")


# ---------------------------------------------------------------- cases worth naming


def unary(op: Any, arg: Any, **more: Any) -> Apply:
    return Apply((op,), (arg,), **more)


def binary(op: Any, left: Any, right: Any) -> Apply:
    return Apply((op,), (left, right), commutative=op in (A.add.Tensor, A.mul.Tensor))


RELU, NEG, SIGMOID = UNARY
ADD = A.add.Tensor


def graph_of(build: Any, inputs: str = "ab") -> fx.GraphModule:
    """The graph of `build`, which takes a function that adds a node, and the inputs."""
    graph = fx.Graph()
    values = [graph.placeholder(name) for name in inputs]
    result = build(lambda op, *args, **kwargs: graph.call_function(op, args, kwargs), *values)
    graph.output(result)
    return fx.GraphModule(torch.nn.Module(), graph)


def count(module: fx.GraphModule, *terms: Any, **more: Any) -> int:
    """How often a pattern matches; the definition and the generated matcher have to agree on it."""
    roots = find_roots(terms)
    outputs = tuple(r for r in roots if not any(r is t for _, t in more.get("kept", ())))
    pattern = Pattern(outputs, more.get("kept", ()), roots, outputs if len(outputs) > 1 else ())
    found = generated(module, pattern)
    assert found == by_definition(module, pattern)
    return sum(map(len, found))


X, Y = Bind("x"), Bind("y")


def test_two_terms_are_never_one_node_even_inside_a_chain():
    shared = graph_of(lambda op, a, b: op(ADD, r := op(RELU, a), r))
    apart = graph_of(lambda op, a, b: op(ADD, op(RELU, a), op(RELU, b)))
    chained = binary(ADD, unary(RELU, X), Chain((RELU,), "links", Y, 1, None))
    assert count(shared, chained) == 0
    assert count(apart, chained) == 2
    assert count(shared, binary(ADD, X, Y)) == 1, "two names may have one value"


def test_a_value_below_a_chain_of_length_zero_is_used_by_what_stands_above_the_chain():
    relu = unary(RELU, X)
    pattern = binary(ADD, Chain((NEG,), "links", relu, 0, 1), relu)
    assert count(graph_of(lambda op, a, b: op(ADD, r := op(RELU, a), r)), pattern) == 1
    assert count(graph_of(lambda op, a, b: op(ADD, op(NEG, r := op(RELU, a)), r)), pattern) == 1
    used = graph_of(lambda op, a, b: (op(ADD, op(NEG, r := op(RELU, a)), r), op(SIGMOID, r)))
    assert count(used, pattern) == 0


def test_an_inner_value_that_is_an_output_blocks_the_match_unless_it_is_kept():
    inner = unary(RELU, X)
    module = graph_of(lambda op, a, b: (op(NEG, r := op(RELU, a)), r))
    assert count(module, unary(NEG, inner)) == 0
    assert count(module, unary(NEG, inner), kept=(("r", inner),)) == 1


def test_a_chain_that_is_replaced_is_never_empty():
    module = graph_of(lambda op, a, b: op(RELU, op(RELU, a)))
    pattern = Pattern((chain := Chain((RELU,), "links", X, 0, None),), (), (chain,))
    lengths = [len(nodes) for at_node in generated(module, pattern) for nodes, _ in at_node]
    assert generated(module, pattern) == by_definition(module, pattern)
    assert lengths == [1, 2, 1]


def test_a_tree_is_one_user_of_a_value_that_it_holds_twice():
    relu = unary(RELU, X)
    twice = graph_of(lambda op, a, b: op(ADD, op(ADD, r := op(RELU, a), b), r))
    elsewhere = graph_of(lambda op, a, b: (op(ADD, op(ADD, r := op(RELU, a), b), r), op(NEG, r)))
    tree = Nary(ADD, (relu, relu, Splat("rest")), True)
    assert count(twice, tree) == 1
    assert count(elsewhere, tree) == 0


def test_a_sum_that_is_added_to_itself_is_one_leaf_twice():
    module = graph_of(lambda op, a, b: op(ADD, s := op(ADD, a, b), s))
    assert count(module, Nary(ADD, (X, X), True)) == 1
    assert count(module, Nary(ADD, (X, X, Y, Y), True)) == 0


def test_elements_of_a_splat_have_the_attributes_that_are_written():
    each = Apply((SOFTMAX,), (Bind("xs"), Literal(-1)))
    pattern = Apply((CAT,), (Items((Splat("xs", each),)), Literal(-1)))

    def joined(*axes: int) -> fx.GraphModule:
        return graph_of(
            lambda op, a, b: op(CAT, [op(SOFTMAX, v, i) for v, i in zip((a, b), axes, strict=True)], -1)
        )

    assert count(joined(-1, -1), pattern) == 1
    assert count(joined(-2, -2), pattern) == 0
    assert count(joined(-1, -2), pattern) == 0


def test_axes_are_compared_by_the_rank_of_the_first_element_of_a_list():
    module = graph_of(lambda op, a, b: op(CAT, [a, b], -2))
    for node in module.graph.nodes:
        node.meta["val"] = torch.empty(2, 3, device="meta")
    dim = OPERATORS["concat"].param("dim")
    assert count(module, Apply((CAT,), (Items((X, Y)), Literal(0, dim)))) == 1
    assert count(module, Apply((CAT,), (Items((X, Y)), Literal(1, dim)))) == 0


def test_axes_in_any_order_are_the_same_axes():
    mean = A.mean.dim
    module = graph_of(lambda op, a, b: op(mean, a, [-2, -1], False))
    module.graph.find_nodes(op="placeholder")[0].meta["val"] = torch.empty(2, 3, device="meta")
    dims = OPERATORS["mean"].param("dim")
    assert count(module, Apply((mean,), (X, Literal([-1, -2], dims), Literal(False)))) == 1
    assert count(module, Apply((mean,), (X, Literal([-1], dims), Literal(False)))) == 0


def test_sizes_with_symbols_in_them_match_only_what_is_always_so():
    class Shift(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(torch.cat([x, x])) + 1

    program = torch.export.export(Shift(), (torch.zeros(5, 7),), dynamic_shapes=({0: torch.export.Dim("n")},))
    module = program.module(check_guards=False)

    def matching(*dims: Any) -> int:
        inner = Apply((CAT,), (Items((X, X)),))
        return count(module, unary(RELU, Bind("joined", Type(dims=dims)))) + 0 * len(inner.args)

    assert matching("m", 7) == 1
    assert matching("m", "m") == 0
    assert matching(10, 7) == 0, "ten rows in the example only"
    assert matching("...", 7) == 1


def test_an_absent_operand_is_matched_by_an_optional_name_only():
    module = graph_of(lambda op, a, b: op(LINEAR, a, b, None))
    assert count(module, Apply((LINEAR,), (X, Y, Bind("c", optional=True)))) == 1
    assert count(module, Apply((LINEAR,), (X, Y, Bind("c")))) == 0


def test_a_name_is_optional_wherever_it_stands_if_it_is_anywhere():
    module = graph_of(lambda op, a, b: op(LINEAR, op(LINEAR, a, b, None), b, None))
    outer, inner = Bind("c"), Bind("c", optional=True)
    for first, second in ((outer, inner), (inner, outer)):
        nested = Apply((LINEAR,), (Apply((LINEAR,), (X, Y, first)), Y, second))
        assert count(module, nested) == 1


def test_an_operator_variable_stands_for_operators_with_any_number_of_attributes():
    targets = (RELU, A.leaky_relu.default)
    module = graph_of(lambda op, a, b: (op(RELU, a), op(A.leaky_relu.default, a, 0.1)))
    assert count(module, Apply(targets, (X,), variable="f")) == 2
    assert count(module, Apply(targets, (X, Anything()), variable="f")) == 2
    assert count(module, Apply(targets, (X, Literal(0.1)), variable="f")) == 1


def test_an_operator_variable_of_two_chains_stands_for_the_same_operators():
    chains = binary(ADD, Chain((RELU, NEG), "f", X, 1, None), Chain((RELU, NEG), "f", Y, 1, None))
    assert count(graph_of(lambda op, a, b: op(ADD, op(RELU, a), op(RELU, b))), chains) == 2
    assert count(graph_of(lambda op, a, b: op(ADD, op(RELU, a), op(NEG, b))), chains) == 0
    one = binary(ADD, Chain((RELU, NEG), "f", X, 1, None), Apply((RELU, NEG), (Y,), variable="f"))
    assert count(graph_of(lambda op, a, b: op(ADD, op(NEG, a), op(NEG, b))), one) == 2
    assert count(graph_of(lambda op, a, b: op(ADD, op(RELU, a), op(NEG, b))), one) == 0


def test_an_operator_variable_of_two_chains_stands_for_operators_with_the_same_attributes():
    leaky = A.leaky_relu.default
    chains = binary(ADD, Chain((leaky, RELU), "f", X, 1, None), Chain((leaky, RELU), "f", Y, 1, None))

    def slopes(first: float, second: float) -> fx.GraphModule:
        return graph_of(lambda op, a, b: op(ADD, op(leaky, a, first), op(leaky, b, second)))

    assert count(slopes(0.1, 0.1), chains) == 2
    assert count(slopes(0.1, 0.2), chains) == 0


@pytest.mark.parametrize("name", ["größe", "root", "accept", "None", "Node", "a b", "x'y", "result", "T0"])
def test_any_name_makes_a_valid_matcher(name):
    module = graph_of(lambda op, a, b: op(ADD, op(RELU, a), op(SOFTMAX, b, -1)))
    soft = Apply((SOFTMAX,), (Bind(name + "1"), Attribute(name + "2")), variable=name + "3")
    assert count(module, binary(ADD, unary(RELU, Bind(name)), soft)) == 1
    assert count(module, binary(ADD, unary(RELU, Bind(name)), Bind(name))) == 0


def test_more_choices_than_python_nests_loops():
    deep = 30

    def chain_of(make: Any, start: Any, other: Any) -> Any:
        for _ in range(deep):
            start = make(start, other)
        return start

    module = graph_of(lambda op, a, b: chain_of(lambda v, w: op(ADD, w, v), a, b))
    pattern = chain_of(lambda v, w: binary(ADD, v, w), X, Bind("y", Type(dims=None)))
    assert count(module, pattern) == 1
    assert count(module, binary(A.mul.Tensor, pattern, X)) == 0
