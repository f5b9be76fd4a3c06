"""`quantize` as a step: the contract, the report, the site of each weight, what is refused at its line."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

import tdsl
from tdsl.compiler import BrokenContract
from tdsl.engine.library import Library, standard_library
from tdsl.engine.strategy import Runner
from tdsl.errors import TdslError
from tdsl.lang import format_file, parse
from tdsl.quantise.table import SCHEMES

PAGE = (Path(__file__).parents[2] / "docs" / "quantisation.md").read_text(encoding="utf-8")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(64, 48)
        self.inner = nn.Linear(48, 96)
        self.head = nn.Linear(96, 40)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.inner(self.table(ids))))


def library(steps: str) -> Library:
    made = Library()
    made.add_file(parse(f"pipeline small {{\n{steps}\n}}\n"), "")
    return made


def compiled(steps: str, **options):
    random = torch.Generator().manual_seed(0)
    batches = [torch.randint(0, 64, (8, 5), generator=random) for _ in range(16)]
    return tdsl.compile(
        Net(),
        batches[0],
        pipeline="small",
        rules=library(steps),
        calibration=batches,
        latency=False,
        **options,
    )


def test_every_weight_is_reported_at_its_place_with_its_error():
    plain = compiled("repeat cleanup.* until stable")
    result = compiled("repeat cleanup.* until stable\nquantize int8\ncheck error <= 2%")
    assert result.report.result.bytes < 0.4 * plain.report.result.bytes
    records = [r for r in result.report.rewrites if r.rule == "quantize.int8"]
    assert sorted(r.site for r in records) == ["head", "inner", "table"]
    assert all(r.error is not None and 1e-4 < r.error < 0.02 for r in records)
    [note] = [n.text for n in result.report.notes if n.kind == "storage"]
    assert "3 weights are stored as int8" in note and "calibration data" in note
    assert all(later.number == first.number + 1 for first, later in pairwise(result.report.rewrites))


def test_what_one_scheme_leaves_is_stored_by_the_next():
    alone = compiled("quantize int8(error=0.01%)\ncheck error <= 2%")
    assert not alone.report.rewrites and any("no weight" in n.text for n in alone.report.notes)
    both = compiled("quantize int8(error=0.01%)\nquantize f16\ncheck error <= 2%")
    assert {r.rule for r in both.report.rewrites} == {"quantize.f16"}
    assert both.report.result.bytes < 0.7 * alone.report.result.bytes


def test_scales_of_one_scheme_are_no_weights_to_the_next():
    both = compiled("quantize int8\nquantize f16\ncheck error <= 2%")
    assert [r.site for r in both.report.rewrites if r.rule == "quantize.f16"] == []
    last = compiled("quantize f16\nquantize int8\ncheck error <= 2%")
    assert {r.rule for r in last.report.rewrites} == {"quantize.f16"}


def test_a_broken_contract_names_the_step_and_the_weight():
    with pytest.raises(BrokenContract) as broken:
        compiled("repeat cleanup.* until stable\nquantize int8\ncheck error <= 0.001%")
    assert "without `quantize int8` it is kept" in (broken.value.hint or "")
    with pytest.raises(BrokenContract) as broken:
        compiled("quantize int8\ncheck error <= 0%")
    assert "without" not in (broken.value.hint or "")


@pytest.mark.parametrize("scheme", [s for s in SCHEMES.values() if s.lossy], ids=lambda s: s.name)
def test_a_step_that_rounds_needs_a_contract(scheme):
    [pipeline] = parse(f"pipeline p {{ quantize {scheme.name} }}").items
    with pytest.raises(TdslError, match=f"rounds weights to {scheme.name} and declares no contract"):
        Runner(Library(), pipeline)
    [pipeline] = parse(f"pipeline p {{ quantize {scheme.name} check error <= 1% }}").items
    assert Runner(Library(), pipeline).storage[0].scheme is scheme


def test_an_older_operator_set_is_refused_at_the_step():
    with pytest.raises(TdslError, match="opset 18 has no form") as refused:
        compiled("quantize int4\ncheck error <= 20%", opset=18)
    compiled("quantize int8\ncheck error <= 2%", opset=18)
    assert refused.value.span is not None and refused.value.span.line == 2


def test_layers_may_be_stored_in_ways_of_their_own():
    made = compiled(
        'at "head", "table" { quantize int8 }\nat "inner" { at "i*" { quantize int4 } }\ncheck error <= 20%'
    )
    assert {r.site: r.rule for r in made.report.rewrites} == {
        **dict.fromkeys(("head", "table"), "quantize.int8"),
        "inner": "quantize.int4",
    }
    none = compiled('at "nowhere" { quantize int8 }\ncheck error <= 20%')
    assert none.report.rewrites == ()


@pytest.mark.parametrize("block", ["first { quantize f16 } else { }", 'at "a" { top_down { quantize f16 } }'])
def test_no_block_of_rules_holds_the_step(block):
    with pytest.raises(TdslError, match="stands in a block of rules"):
        compiled(f"{block}\ncheck error <= 1%")


def test_the_page_shows_every_scheme_as_it_is_and_examples_that_hold():
    shown = set(re.findall(r"^\| `([^`]+)` \|", PAGE.partition("## Errors")[0], re.MULTILINE))
    assert shown == {re.sub(r": \w+ = ", "=", scheme.signature) for scheme in SCHEMES.values()}
    examples = re.findall(r"```tdsl\n(.*?)```", PAGE, re.DOTALL)
    assert len(examples) == 2
    for text in examples:
        assert format_file(parse(text)) == text
        [pipeline] = parse(text).items
        assert Runner(standard_library(), pipeline).storage


def test_a_parameter_of_the_pipeline_is_an_argument_of_the_scheme():
    text = "pipeline p(size: Int = 64) { quantize int8(block=size) check error <= 1% }"
    [pipeline] = parse(text).items
    assert Runner(Library(), pipeline, {"size": 16}).storage[0].arguments["block"] == 16
    assert Runner(Library(), pipeline).storage[0].arguments["block"] == 64
