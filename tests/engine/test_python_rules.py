"""Rules written as Python functions, alone and beside hand-written passes."""

# Sizes in annotations are strings that name nothing in Python, and weights are called as in mathematics.
# ruff: noqa: F821, N803, N806, UP037

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import pytest
import torch
import torch.nn.functional as F
from rewriting import Net
from torch import fx, nn
from torch.fx.passes.infra.pass_base import PassBase, PassResult
from torch.fx.passes.infra.pass_manager import PassManager

import tdsl
from tdsl import Const, Optional, RulePass, TdslError, Tensor
from tdsl.capture import capture
from tdsl.engine.journal import Journal
from tdsl.engine.rule import Rule
from tdsl.engine.strategy import Runner
from tdsl.engine.text import graph_text
from tdsl.lang import parse
from tdsl.provenance import origins_of, provenance, rules_of

DOCS = Path(__file__).parents[2] / "docs" / "python.md"


def draw(*sizes: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(seed))


X = draw(2, 8)


def rewritten(model: nn.Module, rule: Rule, *args: torch.Tensor, dynamic=None, tolerance=1e-5) -> list[str]:
    """Lines of the graph after the rule; its outputs are those of the model unless `tolerance` is `None`."""
    args = args or (X,)
    model.eval()
    module = capture(model, args, dynamic_shapes=dynamic).module
    result = RulePass([rule])(module)
    assert result.modified == any("rewrite" in n.meta for n in module.graph.nodes)
    if tolerance is not None:
        torch.testing.assert_close(module(*args), model(*args), rtol=0, atol=tolerance)
    return [line for line in graph_text(module, types=False).splitlines() if "=" in line]


def operators(lines: list[str]) -> list[str]:
    return [line.partition(" = ")[2].partition("(")[0] for line in lines]


# ---------------------------------------------------------------- weights


def normalised_dense(
    x, W: Const["m", "n"], b: Optional[Const], gamma: Const, beta: Const, mean: Const, var: Const, eps
):
    """Batch normalisation behind a dense layer is part of it."""
    return F.batch_norm(F.linear(x, W, b), mean, var, gamma, beta, training=False, eps=eps)


def one_dense(x, W, b, gamma, beta, mean, var, eps):
    scale = gamma / torch.sqrt(var + eps)
    return F.linear(x, W * scale[:, None], beta + ((0 if b is None else b) - mean) * scale)


FOLD = tdsl.rule(normalised_dense, one_dense)


class Normalised(nn.Module):
    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.dense = nn.Linear(8, 4, bias=bias)
        self.norm = nn.BatchNorm1d(4, eps=1e-3)
        self.norm.running_mean.copy_(draw(4))
        self.norm.running_var.copy_(draw(4).abs() + 0.5)
        nn.init.normal_(self.norm.weight)

    def forward(self, x):
        return self.norm(self.dense(x))


@pytest.mark.parametrize("bias", [True, False])
def test_a_normalisation_folds_into_the_layer_before_it(bias):
    assert operators(rewritten(Normalised(bias), FOLD)) == ["linear"]


def test_a_weight_that_is_an_input_is_not_a_constant():
    class Given(nn.Module):
        def forward(self, x, W):
            return F.batch_norm(F.linear(x, W), *norm)

    norm = (torch.zeros(4), torch.ones(4), torch.ones(4), torch.zeros(4))
    assert operators(rewritten(Given(), FOLD, X, draw(4, 8))) == ["linear", "batch_norm"]


def test_weights_are_computed_in_float64_when_the_rule_is_applied():
    seen: list[torch.dtype] = []

    def pattern(x, W: Const):
        return F.linear(x, W)

    def doubled(x, W):
        seen.append(W.dtype)
        return F.linear(x, W * 2) * 0.5

    rule = tdsl.rule(pattern, doubled, approximate=True)
    model = nn.Linear(8, 4, bias=False)
    module = capture(model, (X,)).module
    RulePass([rule])(module)
    assert set(seen) == {torch.float64}
    assert {p.dtype for p in module.parameters()} == {torch.float32}
    torch.testing.assert_close(module(X), model(X))


def test_a_weight_passed_through_stays_the_same_parameter():
    def pattern(x, W: Const, b: Const):
        return torch.relu(F.linear(x, W, b))

    def clamped(x, W, b):
        return torch.clamp(F.linear(x, W, b), min=0)

    model = nn.Sequential(nn.Linear(8, 4), nn.ReLU())
    lines = rewritten(model, tdsl.rule(pattern, clamped))
    assert lines[0].endswith("0.weight, 0.bias)")
    assert operators(lines) == ["linear", "clamp"]


# ---------------------------------------------------------------- conditions


def dense(x, W: Const["m", "n"], b: Optional):
    return F.linear(x, W, b)


def low_rank(x, W, b, rank=2):
    U, S, V = torch.linalg.svd(W, full_matrices=False)
    return F.linear(F.linear(x, V[:rank]), U[:, :rank] * S[:rank], b)


@pytest.mark.parametrize("sizes, count", [((16, 16), 2), ((16, 2), 1)])
def test_a_condition_sees_sizes_by_name(sizes, count):
    thin = tdsl.rule(dense, low_rank, where=lambda m, n: 2 * (m + n) < m * n, approximate=True)
    lines = rewritten(nn.Linear(*sizes), thin, draw(2, sizes[0]), tolerance=None)
    assert operators(lines) == ["linear"] * count


def test_sizes_may_stand_without_quotes_and_inside_annotated():
    def unquoted(x, W: Const[m, n], b: Annotated[torch.Tensor, Optional]):
        return F.linear(x, W, b)

    for bias in (True, False):
        rule = tdsl.rule(unquoted, low_rank, where=lambda m, n: m == 16 and n == 16, approximate=True)
        assert (
            operators(rewritten(nn.Linear(16, 16, bias=bias), rule, draw(2, 16), tolerance=None))
            == ["linear"] * 2
        )


@pytest.mark.parametrize("scale, count", [(0.0, 0), (1.0, 1)])
def test_a_condition_sees_the_values_of_weights_and_the_shapes_of_the_rest(scale, count):
    def dead(site):
        assert site["x"].shape == (2, 8)
        assert site["W"].dtype == torch.float64
        assert site["b"] is None
        return bool((site["W"] == 0).all()) and site["m"] == 4 and site.module == ""

    def nothing(x, W):
        return torch.zeros_like(x)[:, :4]

    model = nn.Linear(8, 4, bias=False)
    nn.init.constant_(model.weight, scale)
    rule = tdsl.rule(dense, nothing, where=dead)
    assert operators(rewritten(model, rule)).count("linear") == count


def test_a_condition_on_dynamic_sizes_holds_when_it_always_does():
    def product(x: Tensor["t", "n"], W: Const["m", "n"]):
        return F.linear(x, W)

    def swapped(x, W):
        return torch.mm(W, x.t()).t()

    model = nn.Linear(8, 4, bias=False)
    for where, done in ((lambda t, n: t > 0, True), (lambda t, n: t < n, False), (lambda n: n == 8, True)):
        lines = rewritten(model, tdsl.rule(product, swapped, where), dynamic=({0: "batch"},))
        assert ("linear" not in operators(lines)) == done


def test_a_condition_that_fails_looks_for_another_way_to_match():
    def pattern(x, y):
        return torch.exp(x) * torch.exp(y)

    def site_of_second(site):
        return site["y"].shape == (8,)

    model = Net(lambda x, y: y.exp() * x.exp())
    rule = tdsl.rule(pattern, lambda x, y: torch.exp(x + y), where=site_of_second)
    assert rewritten(model, rule, X, draw(8))[0] == "add = add(x, y)"


# ---------------------------------------------------------------- several outputs, provenance


def siblings(
    x: Tensor["...", "n"], A: Const["k", "n"], a: Optional[Const], B: Const["m", "n"], b: Optional[Const]
):
    return F.linear(x, A, a), F.linear(x, B, b)


def one_layer(x, A, a, B, b, k, m):
    bias = None if a is None or b is None else torch.cat([a, b])
    return torch.split(F.linear(x, torch.cat([A, B]), bias), [k, m], -1)


def test_layers_that_read_one_value_become_one():
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.p, self.q = nn.Linear(8, 3), nn.Linear(8, 5)

        def forward(self, x):
            return torch.cat([self.p(x).relu(), self.q(x)], -1)

    both_or_neither = tdsl.rule(siblings, one_layer, where=lambda a, b: (a is None) == (b is None))
    lines = rewritten(Pair(), both_or_neither)
    assert operators(lines).count("linear") == 1


def test_new_nodes_know_the_rule_and_the_nodes_they_come_from():
    module = capture(Normalised(True).eval(), (X,)).module
    RulePass([FOLD])(module)
    (linear,) = (n for n in module.graph.nodes if n.op == "call_function")
    assert rules_of(provenance(linear)) == ("one_dense",)
    assert {origin.module for origin in origins_of(provenance(linear))} == {"dense", "norm"}


def test_an_approximation_of_unknown_error_is_not_reported_as_exact():
    module, journal = capture(nn.Linear(16, 16), (draw(2, 16),)).module, Journal()
    RulePass([tdsl.rule(dense, low_rank, approximate=True)]).rewrite(module, journal)
    (entry,) = journal.entries
    assert entry.error is None and entry.approximate
    assert entry.saved_parameters == 16 * 16 - 2 * 2 * 16


def test_outputs_of_another_shape_leave_the_site_alone():
    rule = tdsl.rule(lambda x: torch.relu(x), lambda x: torch.sum(x))
    assert operators(rewritten(nn.ReLU(), rule)) == ["relu"]
    same_shape = tdsl.rule(lambda x: torch.relu(x), lambda x: torch.clamp(x, min=0))
    assert operators(rewritten(nn.ReLU(), same_shape)) == ["clamp"]


# ---------------------------------------------------------------- with PyTorch's passes


class ReluToAbs(PassBase):
    def call(self, graph_module: fx.GraphModule) -> PassResult:
        found = graph_module.graph.find_nodes(op="call_function", target=torch.ops.aten.relu.default)
        for node in found:
            node.target = torch.ops.aten.abs.default
        graph_module.recompile()
        return PassResult(graph_module, bool(found))


def test_rules_and_hand_written_passes_run_in_one_pass_manager():
    model = nn.Sequential(Normalised(True), nn.ReLU()).eval()
    gone = tdsl.rule(lambda x: torch.abs(torch.neg(x)), lambda x: torch.abs(x))
    result = PassManager([RulePass([FOLD, gone]), ReluToAbs()])(capture(model, (X,)).module)
    assert result.modified
    torch.testing.assert_close(result.graph_module(X), model[0](X).abs())
    again = PassManager([RulePass([FOLD, gone]), ReluToAbs()])(result.graph_module)
    assert not again.modified


# ---------------------------------------------------------------- mistakes


def test_a_rule_that_never_ends_is_reported():
    swap = tdsl.rule(lambda x, y: torch.add(x, y), lambda x, y: torch.add(y, x), name="swap")
    with pytest.raises(TdslError, match=r"no fixed point .* swap"):
        RulePass([swap])(capture(Net(lambda x, y: x + y), (X, X + 1)).module)


@pytest.mark.parametrize(
    "pattern, replacement, where, message",
    [
        (
            lambda x: torch.relu(x),
            lambda y: y,
            None,
            "replacement asks for y, which the pattern does not bind",
        ),
        (lambda x: torch.relu(x), lambda x: x, lambda n: True, "`where` asks for n"),
        (lambda x: (lambda r: (r, r.exp()))(torch.relu(x)), lambda x: x, None, "computed from another"),
        (lambda x: x, lambda x: x, None, "nothing to replace"),
    ],
)
def test_mistakes_are_explained_when_the_rule_is_made(pattern, replacement, where, message):
    with pytest.raises(TdslError, match=message):
        tdsl.rule(pattern, replacement, where)


def test_a_replacement_that_branches_on_values_is_explained():
    rule = tdsl.rule(lambda x: torch.relu(x), lambda x: x if x.sum() > 0 else -x)
    with pytest.raises(TdslError, match="known at run time only"):
        RulePass([rule])(capture(nn.ReLU(), (X,)).module)


def test_annotations_that_mean_nothing_are_explained():
    with pytest.raises(TdslError, match="no sizes"):
        Const[1.5]
    with pytest.raises(TdslError, match="no sizes"):
        Const["...", "n", "..."]

    def clash(x, n: Const["n"]):
        return x + n

    def misspelt(x, W: Cnst):
        return x + W

    with pytest.raises(TdslError, match="Cnst of W is not defined"):
        tdsl.rule(misspelt, lambda x: x)

    def misspelt_with_sizes(x, W: Cnst["m"]):
        return x + W

    with pytest.raises(TdslError, match="of W cannot be read"):
        tdsl.rule(misspelt_with_sizes, lambda x: x)

    with pytest.raises(TdslError, match="both a parameter and a size"):
        tdsl.rule(clash, lambda x: x)

    def only_optional(x, W: Const, b: Optional[Const["m"]]):
        return F.linear(x, W, b)

    with pytest.raises(TdslError, match="bound only by an optional operand"):
        tdsl.rule(only_optional, lambda x: x)


def test_the_examples_of_the_documentation_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 6
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(DOCS), "exec"), names)


def test_a_rule_and_a_pass_written_in_python_have_their_names_in_a_pipeline():
    class Count(tdsl.GraphPass):
        """Count the runs, change nothing."""

        name = "local.count"
        runs = 0

        def rewrite(self, module, journal, scope=None):
            Count.runs += 1
            return 0

    library = tdsl.Library()
    library.add(tdsl.rule(lambda x: F.relu(F.relu(x)), lambda x: F.relu(x), name="local.once"))
    library.add(Count)
    library.add_file(parse("pipeline p { repeat local.* until stable }"), "mine")
    module = capture(nn.Sequential(nn.ReLU(), nn.ReLU(), nn.ReLU()).eval(), (X,)).module
    journal = Journal()
    Runner(library, library.pipeline("p")).run(module, journal)
    assert [entry.rule for entry in journal.entries] == ["local.once", "local.once"]
    assert Count.runs == 1
    with pytest.raises(TdslError, match=r"local.once has no parameter size"):
        library.rule("local.once", {"size": 3})


def test_a_name_declared_twice_is_refused():
    text = "rule r { relu(relu(x)) => relu(x) }\nrule r { neg(neg(x)) => x }\n"
    with pytest.raises(TdslError, match="declared twice"):
        tdsl.Library().add_file(parse(text), "mine")
