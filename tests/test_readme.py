"""What the README shows is what there is: its rules load, its pipeline runs, its files exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from torch import eye, manual_seed, nn, randn

import tdsl
from tdsl.capture import capture
from tdsl.engine.driver import rewrite
from tdsl.engine.journal import Journal
from tdsl.engine.library import Library, standard_library
from tdsl.engine.strategy import Runner
from tdsl.lang import format_file, parse, tree

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```tdsl\n(.*?)```", README, re.DOTALL)


def example(start: str) -> str:
    """The one example with a line that begins so."""
    [found] = [text for text in EXAMPLES if any(line.startswith(start) for line in text.splitlines())]
    return found


@pytest.mark.parametrize("text", EXAMPLES)
def test_examples_are_canonical_and_load(text: str) -> None:
    file = parse(text, "README.md")
    assert format_file(file) == text
    library = Library()
    library.add_file(file, "readme")
    assert library.rules or library.pipelines


def test_the_rules_shown_are_those_of_the_library() -> None:
    shown = [item for text in EXAMPLES for item in parse(text).items if isinstance(item, tree.Rule)]
    shipped = {d.source.name: d.source for d in standard_library().rules.values()}
    assert [rule.name for rule in shown] == ["spelt_relu", "merge_linear", "svd_linear", "deep_sets"]
    for rule in shown[1:3]:
        assert (rule.lhs, rule.rhs, rule.where) == (
            shipped[rule.name].lhs,
            shipped[rule.name].rhs,
            shipped[rule.name].where,
        )


def test_the_rule_about_a_group_finds_a_weight_of_two_numbers() -> None:
    library = standard_library().extended(Library())
    library.add_file(parse(example("rule deep_sets")), "readme")
    assert library.rules["readme.deep_sets"].verdict.status == "proved"
    layer = nn.Linear(8, 8)
    layer.weight.data = 2 * eye(8) + 0.5
    module = capture(layer.eval(), (randn(2, 8),)).module
    assert rewrite(module, [library.rule("readme.deep_sets")]) == 1
    assert "linear" not in {node.name for node in module.graph.nodes}


def test_the_pipeline_shown_rewrites_the_layers_that_it_names() -> None:
    library = standard_library().extended(Library())
    library.add_file(parse(example("pipeline small")), "readme")
    layer = nn.ModuleDict({"dense": nn.Linear(8, 8)})

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.ModuleDict({"layer": nn.ModuleList([layer])})
            self.head = nn.Linear(8, 8)

        def forward(self, x):
            return self.head(self.encoder["layer"][0]["dense"](x).relu())

    captured = capture(Encoder().eval(), (randn(2, 8),))
    journal = Journal()
    Runner(library, library.pipeline("small")).run(captured.module, journal)
    assert [(entry.rule, entry.site) for entry in journal.entries] == [
        ("factorize.linear.svd_linear", "encoder.layer.0.dense")
    ]


def test_the_plan_shown_keeps_its_budget_and_its_contract() -> None:
    """Inputs on three directions, and a last layer of rank four."""
    manual_seed(0)
    library = standard_library().extended(Library())
    library.add_file(parse(example("pipeline half")), "readme")
    directions = randn(3, 32)
    batches = [randn(16, 3) @ directions for _ in range(8)]
    model = nn.Sequential(nn.Linear(32, 48), nn.ReLU(), nn.Linear(48, 32)).eval()
    model[2].weight.data = randn(32, 4) @ randn(4, 48) / 10
    result = tdsl.compile(
        model, (batches[0],), pipeline="half", rules=library, calibration=batches, latency=False
    )
    assert result.report.correctness.passed
    kept = sum(p.numel() for p in result.module.parameters())
    assert kept <= 0.5 * sum(p.numel() for p in model.parameters())


def test_links_lead_to_files() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
