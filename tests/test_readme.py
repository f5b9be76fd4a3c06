"""What the README shows is what there is: its rules load, its pipeline runs, its files exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from torch import nn, randn

from tdsl.capture import capture
from tdsl.engine.journal import Journal
from tdsl.engine.library import Library, standard_library
from tdsl.engine.strategy import Runner
from tdsl.lang import format_file, parse, tree

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```tdsl\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("text", EXAMPLES)
def test_examples_are_canonical_and_load(text: str) -> None:
    file = parse(text, "README.md")
    assert format_file(file) == text
    library = Library()
    library.add_file(file, "readme")
    assert len(library.rules) + len(library.pipelines) == 1


def test_the_rules_shown_are_those_of_the_library() -> None:
    shown = [item for text in EXAMPLES for item in parse(text).items if isinstance(item, tree.Rule)]
    shipped = {d.source.name: d.source for d in standard_library().rules.values()}
    assert [rule.name for rule in shown] == ["merge_linear", "svd_linear"]
    for rule in shown:
        assert (rule.lhs, rule.rhs, rule.where) == (
            shipped[rule.name].lhs,
            shipped[rule.name].rhs,
            shipped[rule.name].where,
        )


def test_the_pipeline_shown_rewrites_the_layers_that_it_names() -> None:
    library = standard_library().extended(Library())
    library.add_file(parse(EXAMPLES[-1]), "readme")
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


def test_links_lead_to_files() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
