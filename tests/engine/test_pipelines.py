"""Pipelines: what each strategy does, and what is refused where."""

from __future__ import annotations

import pytest
import torch
from rewriting import graph_of, library, run_pipeline
from torch import nn

from tdsl import NotSupportedYet, TdslError
from tdsl.engine.library import standard_library
from tdsl.engine.parameters import as_written
from tdsl.engine.strategy import Runner
from tdsl.lang import parse
from tdsl.lang.format import format_file

X = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))

RULES = """
rule relu_to_sigmoid {
    relu(x)
  =>
    sigmoid(x)
}

rule sigmoid_to_tanh {
    sigmoid(x)
  =>
    tanh(x)
}

rule tanh_to_relu {
    tanh(x)
  =>
    relu(x)
}

rule three_negations {
    neg(neg(x))
  =>
    x + 0
}

rule halve(rank: Rank = 1) {
    linear(x: [..., n], W: const [m, n], b?)
  ~>
    linear(linear(x, V), U, b)
  where
    (U: [m, r], V: [r, n]) = svd(W, rank)
    r * (m + n) < m * n
}
"""


def steps(text: str) -> str:
    """The rules above and a pipeline `p` of some steps."""
    return f"{RULES}\npipeline p {{\n{text}\n}}\n"


def result(text: str, graph, **parameters) -> list[str]:
    return run_pipeline(text if "pipeline" in text else steps(text), graph, **parameters).operators


@pytest.fixture(scope="module")
def relu_exp_sigmoid():
    return graph_of(lambda x: torch.sigmoid(torch.exp(torch.relu(x))), X)


# ---------------------------------------------------------------- strategies


def test_repeat_goes_on_until_nothing_changes(relu_exp_sigmoid):
    assert result("repeat relu_to_sigmoid, sigmoid_to_tanh until stable", relu_exp_sigmoid) == [
        "tanh",
        "exp",
        "tanh",
    ]


def test_once_does_not_touch_what_it_made(relu_exp_sigmoid):
    assert result("once relu_to_sigmoid, sigmoid_to_tanh", relu_exp_sigmoid) == ["sigmoid", "exp", "tanh"]


def test_steps_run_one_after_the_other(relu_exp_sigmoid):
    text = "once relu_to_sigmoid\nonce sigmoid_to_tanh\nonce tanh_to_relu"
    assert result(text, relu_exp_sigmoid) == ["relu", "exp", "relu"]


def test_a_limit_stops_a_loop_and_says_who_is_in_it(relu_exp_sigmoid):
    loop = "repeat relu_to_sigmoid, sigmoid_to_tanh, tanh_to_relu until stable limit 9"
    with pytest.raises(TdslError, match="no fixed point after 9 rewrites") as error:
        result(loop, relu_exp_sigmoid)
    for name in ("relu_to_sigmoid", "sigmoid_to_tanh", "tanh_to_relu"):
        assert name in error.value.message
    enough = "repeat relu_to_sigmoid, sigmoid_to_tanh until stable limit 3"
    assert result(enough, relu_exp_sigmoid) == ["tanh", "exp", "tanh"]
    with pytest.raises(TdslError, match="after 2 rewrites"):
        result(enough.replace("3", "2"), relu_exp_sigmoid)


@pytest.mark.parametrize(
    "attempt, expected",
    [("relu_to_sigmoid", ["sigmoid", "exp", "sigmoid"]), ("tanh_to_relu", ["relu", "exp", "tanh"])],
)
def test_else_runs_only_when_the_first_block_rewrote_nothing(relu_exp_sigmoid, attempt, expected):
    text = f"first {{\n once {attempt}\n}} else {{\n once sigmoid_to_tanh\n}}"
    assert result(text, relu_exp_sigmoid) == expected


@pytest.mark.parametrize(
    "order, expected", [("top_down", ["neg", "add", "exp"]), ("bottom_up", ["add", "neg", "exp"])]
)
def test_the_order_reaches_the_steps_inside(order, expected):
    graph = graph_of(lambda x: torch.exp(x.neg().neg().neg()), X)
    assert result(f"{order} {{\n once three_negations\n}}", graph) == expected


class Tower(nn.Module):
    """Blocks of a rectifier and a logistic function, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleDict({"ffn": nn.Sequential(nn.ReLU()), "out": nn.Sigmoid()}) for _ in range(2)
        )
        self.head = nn.ReLU()

    def forward(self, x):
        for layer in self.layers:
            x = layer["out"](layer["ffn"](x))
        return self.head(x)


@pytest.mark.parametrize(
    "paths, expected",
    [
        ('"layers.*.ffn"', ["tanh", "sigmoid", "tanh", "sigmoid", "relu"]),
        ('"layers.1"', ["relu", "sigmoid", "tanh", "sigmoid", "relu"]),
        ('"layers.0.ffn", "head"', ["tanh", "sigmoid", "relu", "sigmoid", "tanh"]),
        ('"*"', ["tanh", "sigmoid", "tanh", "sigmoid", "tanh"]),
        ('"nowhere"', ["relu", "sigmoid", "relu", "sigmoid", "relu"]),
    ],
)
def test_at_keeps_rewrites_inside_modules_that_a_path_matches(paths, expected):
    rule = "rule direct {\n    relu(x)\n  =>\n    tanh(x)\n}\n"
    text = f"{rule}\npipeline p {{\n at {paths} {{\n  repeat direct until stable\n }}\n}}\n"
    assert result(text, graph_of(Tower(), X)) == expected


def test_nested_places_must_both_hold():
    rule = "rule direct {\n    relu(x)\n  =>\n    tanh(x)\n}\n"
    inner = ' at "layers.*" {\n  at "layers.0", "head" {\n   once direct\n  }\n }'
    text = f"{rule}\npipeline p {{\n{inner}\n}}\n"
    assert result(text, graph_of(Tower(), X)) == ["tanh", "sigmoid", "relu", "sigmoid", "relu"]


def test_a_place_holds_for_passes_as_well_as_rules():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Tanh()

        def forward(self, x):
            return self.inner(x) + self.inner(x), torch.exp(x) + torch.exp(x)

    text = 'pipeline p {\n at "inner" {\n  once cleanup.common_subexpressions\n }\n}\n'
    assert sorted(result(text, graph_of(Twice(), X))) == ["add", "add", "exp", "exp", "tanh"]


# ---------------------------------------------------------------- parameters

FACTOR = f"""{RULES}
pipeline p(rank: Rank = 2, least: Ratio = 50%) {{
    once halve(rank=rank)
    check cosine >= least
}}
"""


def ranks(**parameters) -> list[int]:
    graph = graph_of(nn.Linear(12, 10), torch.randn(2, 12))
    rewritten = run_pipeline(FACTOR, graph, **parameters)
    return sorted(min(p.shape) for p in rewritten.module.parameters() if p.ndim == 2)


def test_a_parameter_reaches_the_rule_it_is_handed_to():
    assert ranks() == [2, 2]
    assert ranks(rank=3) == [3, 3]


def test_a_parameter_reaches_the_contract():
    loaded = library(FACTOR)
    runner = Runner(loaded, loaded.pipeline("p"), {"least": 0.75})
    assert [(b.metric, b.relation, b.value) for b in runner.contract] == [("cosine", ">=", 0.75)]


def test_a_parameter_that_the_pipeline_does_not_have_is_refused():
    with pytest.raises(TdslError, match="has no parameter size") as error:
        ranks(size=3)
    assert error.value.expected == "one of rank, least"


def test_a_parameter_without_a_value_is_asked_for():
    text = FACTOR.replace("rank: Rank = 2", "rank: Rank")
    loaded = library(text)
    with pytest.raises(TdslError, match="needs a value for rank"):
        Runner(loaded, loaded.pipeline("p"), {})


def test_a_kind_of_parameter_that_there_is_not_is_refused():
    loaded = library(FACTOR.replace("rank: Rank = 2", "rank: Rankk = 2"))
    with pytest.raises(TdslError, match="`Rankk` is no kind of parameter") as error:
        Runner(loaded, loaded.pipeline("p"), {})
    assert error.value.hint == "did you mean `Rank`?" and error.value.span is not None


def test_an_argument_that_the_rule_does_not_have_is_refused():
    with pytest.raises(TdslError, match="no parameter size"):
        result("once halve(size=2)\ncheck cosine >= 0.5", graph_of(nn.Linear(4, 4), X))


# ---------------------------------------------------------------- names


def test_a_misspelt_rule_is_refused_with_the_nearest_name_at_its_place(relu_exp_sigmoid):
    with pytest.raises(TdslError, match="unknown rule or pass relu_to_sigmod") as error:
        result("once relu_to_sigmod", relu_exp_sigmoid)
    assert error.value.hint == "did you mean `rules.relu_to_sigmoid`?"
    span = error.value.span
    assert span is not None and span.source.line(span.line).strip() == "once relu_to_sigmod"


def test_a_glob_that_matches_nothing_is_refused(relu_exp_sigmoid):
    with pytest.raises(TdslError, match=r"unknown rule or pass clenup\.\*"):
        result("once clenup.*", relu_exp_sigmoid)


def test_a_misspelt_pipeline_is_refused_with_the_nearest_name():
    with pytest.raises(TdslError, match="unknown pipeline exat") as error:
        standard_library().pipeline("exat")
    assert "pipelines.exact" in (error.value.hint or "")
    assert standard_library().pipeline("exact") is standard_library().pipeline("pipelines.exact")


def test_a_law_does_not_fire():
    text = "law swap {\n    sub(x, y) == neg(sub(y, x))\n}\n\npipeline p {\n once swap\n}\n"
    with pytest.raises(TdslError, match="swap is a law"):
        result(text, graph_of(lambda x: x - 1, X))


def test_an_ambiguous_name_is_refused_with_the_choices():
    first = library("rule same {\n    relu(x)\n  =>\n    tanh(x)\n}\n", "one")
    second = library("rule same {\n    relu(x)\n  =>\n    tanh(x)\n}\n", "two")
    with pytest.raises(TdslError, match="same is ambiguous") as error:
        first.extended(second).select("same")
    assert error.value.expected == "one of one.same, two.same"


# ---------------------------------------------------------------- contracts


def test_an_approximate_rule_without_a_contract_is_refused():
    graph = graph_of(nn.Linear(12, 10), torch.randn(2, 12))
    with pytest.raises(TdslError, match=r"loses something \(rules\.halve\) and declares no contract"):
        result("once halve", graph)
    assert result("once halve\ncheck cosine >= 0.1", graph) == ["linear", "linear"]


def test_a_check_that_compares_nothing_is_refused():
    with pytest.raises(TdslError) as error:
        result("once halve\ncheck cosine + 1", graph_of(nn.Linear(12, 10), torch.randn(2, 12)))
    assert "compares a metric with a number" in str(error.value)


# ---------------------------------------------------------------- not yet


@pytest.mark.parametrize(
    "step, what",
    [
        ("heal sgd", "recovery by `sgd`"),
    ],
)
def test_what_is_not_supported_yet_is_refused_at_its_own_line(step, what):
    with pytest.raises(NotSupportedYet) as error:
        library(f"pipeline p {{\n    once cleanup.*\n    {step}\n}}\n")
    assert "not supported yet" in error.value.message and what in error.value.message
    assert error.value.span is not None and error.value.span.line == 3


def test_the_same_pipeline_without_that_step_is_loaded():
    assert list(library("pipeline p {\n    once cleanup.*\n}\n").pipelines) == ["rules.p"]


def test_a_pipeline_is_not_taken_for_a_rule():
    loaded = library("pipeline p {\n    once cleanup.*\n}\n")
    with pytest.raises(TdslError, match=r"rules\.p is a pipeline"):
        loaded.as_pass("rules.p")
    assert repr(loaded) == "Library(pipelines=['rules.p'])"


def test_parameters_from_python_may_be_written_as_in_the_language():
    [pipeline] = parse('pipeline p(rank: Rank = 1, name: Text = "a") {\n    once cleanup.*\n}\n').items
    given = as_written(pipeline.parameters, {"rank": "50%", "name": "50%", "other": 3})
    assert given == {"rank": 0.5, "name": "50%", "other": 3}
    with pytest.raises(TdslError, match="unknown name energy") as error:
        as_written(pipeline.parameters, {"rank": "energy"})
    assert error.value.hint == "it is a function: `energy(kept)`"


# ---------------------------------------------------------------- one pipeline in another

OUTER = (
    FACTOR
    + """
pipeline middle(width: Rank = 4, kept: Ratio = 90%) {
    run p(rank=width, least=kept)
    check error <= kept
}

pipeline q(r: Rank = 2) {
    at "head" {
        run middle(width=r, kept=80%)
    }
    run p(rank=r)
}
"""
)


def test_a_pipeline_that_is_run_acts_where_it_stands_with_the_values_it_is_given():
    net = nn.ModuleDict({"body": nn.Linear(12, 10), "head": nn.Linear(10, 8)})

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = net
            self.head = net["head"]

        def forward(self, x):
            return self.head(self.parts["body"](x))

    graph = graph_of(Net(), torch.randn(2, 12))
    once = OUTER.replace("    run p(rank=r)\n}", "}")
    whole = [run_pipeline(text, graph, name="q", r=3) for text in (once, OUTER)]
    ranks = [sorted(min(w.shape) for w in one.module.parameters() if w.ndim == 2) for one in whole]
    assert ranks == [[3, 3, 10], [3, 3, 3, 3]]


def test_what_it_checks_is_checked_and_a_metric_is_not_taken_for_a_parameter():
    loaded = library(OUTER.replace("least", "cosine"))
    runner = Runner(loaded, loaded.pipeline("q"))
    bounds = [(one.metric, one.relation, one.value) for one in runner.contract]
    assert bounds == [("cosine", ">=", 0.8), ("error", "<=", 0.8), ("cosine", ">=", 0.5)]


@pytest.mark.parametrize(
    ("step", "message", "expected"),
    [
        ("run rules.*", "`run` takes one pipeline", "a name, such as `pipelines.exact`"),
        ("run p(size=3)", "pipeline p has no parameter size", "one of rank, least"),
        ("run p(3)", "an argument of a pipeline has no name", "size=50%, as it declares it"),
        ("run p(rank=true)", "this is no value for rank", None),
        ("run halve", "halve is a rule or a pass, and what is applied is a pipeline", None),
        ("run pp", "unknown pipeline pp", None),
        ("once p", "p is a pipeline", "a rule or a pass"),
        ("run q", "pipeline q runs itself: q → q", None),
        ("run r", "pipeline q runs itself: q → r → q", None),
        ("attempt {\n run p\n}", "`check` stands inside `attempt`", None),
    ],
)
def test_what_cannot_be_run_is_refused_at_its_place(step, message, expected):
    text = f"{FACTOR}\npipeline q {{\n    {step}\n}}\n\npipeline r {{\n    run q\n}}\n"
    loaded = library(text)
    with pytest.raises(TdslError) as error:
        Runner(loaded, loaded.pipeline("q"))
    assert message in error.value.message and error.value.span is not None
    assert expected is None or error.value.expected == expected


def test_a_default_may_be_a_parameter_before_it():
    text = (
        FACTOR.replace("least: Ratio = 50%", "least: Ratio = rank")
        + "pipeline q {\n    run p(rank=0.25)\n}\n"
    )
    loaded = library(text)
    assert [one.value for one in Runner(loaded, loaded.pipeline("q")).contract] == [0.25]


def test_what_is_run_is_written_back_as_it_was():
    text = "pipeline q(r: Rank = 2) {\n    run p(rank=r, least=50%)\n    run pipelines.exact\n}\n"
    assert format_file(parse(text)) == text
