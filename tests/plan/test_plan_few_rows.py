"""Few rows of calibration data: nothing is fitted to chance, what a plan promises holds on other rows."""

from __future__ import annotations

import math
import re
from statistics import geometric_mean

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plan_models import decaying, drawn
from torch import Tensor, nn

import tdsl
from tdsl import planner
from tdsl.engine.census import census, copied
from tdsl.engine.journal import Journal
from tdsl.engine.library import Library
from tdsl.engine.statistics import Answers, request_of
from tdsl.factor.whitened import whitened_svd
from tdsl.lang import parse
from tdsl.plan import few_rows
from tdsl.plan.calibrate import Data, collect
from tdsl.plan.few_rows import ENOUGH, scarce, shrinkage, shrunk, told
from tdsl.prepare import prepare

WIDTH = 64
DRAWS = (100, 300, 500)
SHAPE = decaying(WIDTH, WIDTH, power=0.5, seed=7) * 5


def samples(count: int, rows: int = 4, seed: int = 100) -> list[Tensor]:
    return [drawn(rows, WIDTH, seed=seed + i) @ SHAPE for i in range(count)]


@pytest.fixture(scope="module")
def wide() -> nn.Module:
    """Three layers of 64 features whose spectra decay."""
    torch.manual_seed(0)
    dense = [nn.Linear(WIDTH, WIDTH) for _ in range(3)]
    for number, layer in enumerate(dense):
        layer.weight.data = 4 * decaying(WIDTH, WIDTH, seed=40 + 2 * number)
    return nn.Sequential(dense[0], nn.GELU(), dense[1], nn.GELU(), dense[2]).eval()


def pipeline(steps: str) -> Library:
    library = Library()
    library.add_file(parse(f"pipeline few {{ {steps} check error <= 1000% }}", "few"), "")
    return library


RULES = "factorize.linear.whitened_linear, factorize.linear.interpolative_neurons"
HALF = pipeline(f"choose {RULES} minimize error subject to parameters <= 50%")


def half(model: nn.Module, known: list[Tensor], *, all_rows: bool = True) -> tuple[float, float, list[str]]:
    """What a plan of half the size promises, what it does on other rows, and what is said of the data."""
    batch = ({0: "batch"},)
    made = prepare(
        model, known[0], dynamic_shapes=batch, pipeline="few", rules=HALF, calibration=known, verified=False
    )
    module = copied(made.captured.module)
    if not all_rows:
        made.planner.whole = None
    made.runner.run(module, Journal())
    [outcome] = made.planner.outcomes
    promised = math.sqrt(sum(c.error**2 for c in outcome.chosen))
    assert 0.3 < census(module).parameters / census(made.captured.module).parameters <= 0.5
    unseen = torch.cat(samples(64, seed=9000))
    with torch.no_grad():
        return promised, relative(module(unseen), model(unseen)), made.planner.cautions()


@pytest.fixture(scope="module")
def draws(wide) -> list[tuple[float, float, list[str]]]:
    """Plans from eight batches of four rows for 64 features, three times."""
    return [half(wide, samples(8, seed=seed)) for seed in DRAWS]


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any number of rows counts as enough."""
    monkeypatch.setattr(few_rows, "ENOUGH", 0)


def test_what_a_plan_promises_of_few_rows_holds_on_others(wide, draws, monkeypatch) -> None:
    """Eight batches of four rows for 64 features; the control is a plan that takes them for enough.

    Eight of the rows judge, and are what chance makes them: the promise is right over several draws.
    """
    assert all(1 / 2 < met / promised < 2 and met < 0.35 for promised, met, _ in draws)
    assert 1 / 1.3 < geometric_mean([met / promised for promised, met, _ in draws]) < 1.3
    for _, _, [line] in draws:
        assert "24 for the 64 features" in line
        assert f"{ENOUGH * WIDTH} rows" in line
    trusting(monkeypatch)
    believed, suffered, quiet = half(wide, samples(8))
    assert suffered > 10 * believed
    assert suffered > 1.5 * draws[0][1]
    assert not quiet


def test_of_many_rows_nothing_changes(wide, monkeypatch) -> None:
    many = samples(16, rows=32)
    found = half(wide, many)
    assert not found[2]
    trusting(monkeypatch)
    assert half(wide, many) == found


def test_a_budget_on_the_error_holds_on_rows_that_nothing_was_fitted_to(wide) -> None:
    few = samples(12, rows=6)
    rules = pipeline(f"choose {RULES} minimize parameters subject to error <= 10%")
    unseen = torch.cat(samples(64, seed=9000))
    batch = ({0: "batch"},)
    made = tdsl.compile(
        wide, few[0], dynamic_shapes=batch, pipeline="few", rules=rules, calibration=few, latency=False
    )
    with torch.no_grad():
        assert relative(made.module(unseen), wide(unseen)) < 1.5 * 0.1
    assert census(made.module).parameters < census(made.captured.module).parameters
    [note] = [note.text for note in made.report.notes if note.kind == "calibration"]
    assert note.startswith("few rows of calibration data")
    [said] = [note.text for note in made.report.notes if " ± " in note.text]
    assert re.fullmatch(
        r"error: 0\.\d+ ± 0\.\d+ on the \d+ samples that judge plans, the budget is error <= 10%; "
        r"on as many others up to 0\.\d+ is no surprise",
        said,
    )
    assert any("adds up to an error of" in note.text for note in made.report.notes)


def test_what_judged_takes_part_in_the_end(wide, draws) -> None:
    """A plan is chosen by rows that fitted nothing, then carried out by all; the control goes without."""
    without = [half(wide, samples(8, seed=seed), all_rows=False) for seed in DRAWS]
    assert [found[0] for found in draws] == [found[0] for found in without]
    together, apart = (geometric_mean([found[1] for found in each]) for each in (draws, without))
    assert together < 0.97 * apart


def test_a_tight_budget_is_used_where_rows_are_few(wide, monkeypatch) -> None:
    """32 rows of white inputs: some neurons go. The control takes away eight at once, or none."""
    few = [drawn(4, WIDTH, seed=500 + i) for i in range(8)]
    unseen = torch.cat([drawn(64, WIDTH, seed=9000 + i) for i in range(16)])
    rules = pipeline(f"choose {RULES} minimize parameters subject to error <= 5%")

    def planned() -> tuple[float, float]:
        made = prepare(
            wide,
            few[0],
            dynamic_shapes=({0: "batch"},),
            pipeline="few",
            rules=rules,
            calibration=few,
            verified=False,
        )
        module = copied(made.captured.module)
        made.runner.run(module, Journal())
        with torch.no_grad():
            size = census(module).parameters / census(made.captured.module).parameters
            return size, relative(module(unseen), wide(unseen))

    size, error = planned()
    assert size < 0.97 and 0 < error < 0.05
    monkeypatch.setattr(planner, "GENTLE_LEVELS", ())
    assert planned() == (1.0, 0.0)


def test_one_batch_is_cut_so_that_some_of_it_judges(wide) -> None:
    """The control is one whose size is fixed: it cannot be cut, and that is said."""
    whole = torch.cat(samples(16))
    made = prepare(
        wide, whole, dynamic_shapes=({0: "batch"},), pipeline="few", rules=HALF, calibration=[whole]
    )
    fitted, judging = (
        torch.cat([batch[0] for batch in data.batches])
        for data in (made.planner.data, made.planner.judged_on)
    )
    kept = torch.cat([sample.inputs[0] for sample in made.samples if sample.kind == "held-out"])
    rows = [tuple(row) for part in (fitted, judging, kept) for row in part.tolist()]
    assert len(rows) == len(set(rows)) == len(whole)
    assert min(len(fitted), len(judging), len(kept)) > 4
    fixed = prepare(wide, whole, pipeline="few", rules=HALF, calibration=[whole])
    fixed.runner.run(copied(fixed.captured.module), Journal())
    assert any("judged by the samples they are fitted to" in line for line in fixed.planner.cautions())


# ---------------------------------------------------------------- moments


@pytest.mark.parametrize("rows", [16, 32, 64, 200])
@pytest.mark.parametrize("scales", ["alike", "apart"])
def test_a_truncation_by_a_shrunk_moment_is_better_on_other_rows(rows: int, scales: str) -> None:
    """And what it loses by that moment is about what it loses there; the plain moment sees a fraction."""
    scale = torch.exp(1.2 * drawn(WIDTH, seed=77)) if scales == "apart" else torch.ones(WIDTH)
    shape = (SHAPE * scale).double()
    weight = decaying(WIDTH, WIDTH, seed=1).double()
    seen, unseen = (drawn(n, WIDTH, seed=200 + n).double() @ shape for n in (rows, 3000))
    plain = seen.T @ seen / rows
    share = shrinkage(plain, rows)
    assert 0 < share < 1
    moment = (1 - share) * plain + share * plain.diagonal().diag()

    def lost(difference: Tensor, by: Tensor) -> float:
        return float(((difference @ by) * difference).sum() / ((weight @ by) * weight).sum()) ** 0.5

    truth = unseen.T @ unseen / len(unseen)
    fits = [weight - u @ v for u, v in (whitened_svd(weight, by, 12) for by in (plain, moment))]
    blind, guarded = (lost(fit, truth) for fit in fits)
    assert guarded < 1.01 * blind
    assert 1 / 1.5 < guarded / lost(fits[1], moment) < 1.5
    if rows < WIDTH:
        assert guarded < blind
        assert blind > 1.3 * lost(fits[0], plain)


def test_a_subspace_that_rows_confirm_is_left_as_it_is() -> None:
    """Rows on 8 directions: 16 of them tell. The control: 64 rows on all of them."""
    basis = drawn(8, WIDTH, seed=3).double()
    rows = drawn(16, 8, seed=4).double() @ basis
    assert shrinkage(rows.T @ rows / 16, 16) == 0
    free = drawn(64, WIDTH, seed=5).double()
    assert shrinkage(free.T @ free / 64, 64) > 0.5


def test_features_that_are_always_zero_do_not_count() -> None:
    found = drawn(12, 10, seed=6).double()
    moment = found.T @ found / 12
    padded = torch.zeros(16, 16, dtype=torch.float64)
    padded[:10, :10] = moment
    assert shrinkage(padded, 12) == shrinkage(moment, 12) > 0


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 99), st.floats(1e-3, 1e3))
def test_a_share_does_not_depend_on_units(rows: int, size: int, seed: int, scale: float) -> None:
    found = drawn(rows, size, seed=seed).double()
    moment = found.T @ found / rows
    units = scale ** torch.linspace(-1, 1, size, dtype=torch.float64)
    share = shrinkage(moment, rows)
    assert 0 <= share <= 1
    assert share == pytest.approx(shrinkage(units[:, None] * moment * units, rows), rel=1e-3, abs=1e-6)


def test_moments_of_few_rows_are_shrunk_and_others_are_not(wide) -> None:
    captured = tdsl.capture.capture(wide, samples(1)[0], dynamic_shapes=({0: "batch"},))
    node = captured.module.graph.find_nodes(op="placeholder")[-1]
    kinds = ("second_moment", "covariance", "first_moment")
    asked = [request_of(kind, node, -1, node.meta["val"]) for kind in kinds]

    def both(count: int, rows: int = 32) -> tuple[Answers, Answers]:
        data = Data.of(captured, [(batch,) for batch in samples(count, rows)])
        plain = collect(captured.module, data, asked)
        return plain, shrunk(plain)

    few, damped = both(2)
    for request in asked[:2]:
        before, after = few.answer(request), damped.answer(request)
        assert torch.equal(before.diagonal(), after.diagonal())
        beside = ~torch.eye(WIDTH, dtype=torch.bool)
        share = 1 - after[beside] / before[beside]
        assert 0 < float(share.mean()) < 1 and float(share.std()) < 1e-9
    assert torch.equal(few.answer(asked[2]), damped.answer(asked[2]))
    plain, damped = (found.answer(asked[1]) for found in both(2, rows=8))
    share = 1 - float(damped[0, 1] / plain[0, 1])
    assert share == pytest.approx(shrinkage(plain, 15)), "the mean of 16 rows takes one"
    assert abs(share - shrinkage(plain, 16)) > 0.1
    many, same = both(ENOUGH * WIDTH // 32)
    assert same is many
    assert [(one.rows, one.features, one.needed) for one in scarce(few)] == [(64, WIDTH, ENOUGH * WIDTH)]
    assert "64 for the 64 features of" in told(scarce(few))
    assert not scarce(many)
    weighs = request_of("gradient_moment", node, -1, node.meta["val"])
    assert not scarce(Answers({}, {weighs: 3})), "nothing is fitted to gradients"


def test_a_sweep_says_so_too(wide) -> None:
    known = samples(8)
    arguments = {"dynamic_shapes": ({0: "batch"},), "pipeline": "few", "rules": HALF, "shares": (0.5,)}
    few = tdsl.sweep(wide, known[0], calibration=known, **arguments)
    assert [line.startswith("few rows of calibration data") for line in few.cautions] == [True]
