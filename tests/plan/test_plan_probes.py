"""What a change does to the output: measured as if it were applied, known before, on as much as is needed."""

from __future__ import annotations

import weakref

import pytest
import torch
from plan_models import batches, drawn, perceptron, planned

from tdsl.capture import capture
from tdsl.engine.census import copied
from tdsl.engine.journal import Journal
from tdsl.engine.library import standard_library
from tdsl.engine.workspace import Workspace
from tdsl.errors import Span
from tdsl.factor.rank import Ratio, Tiled
from tdsl.plan import probes
from tdsl.plan.calibrate import Data
from tdsl.plan.candidates import Candidate, Choice, Measures
from tdsl.plan.choose import Problem, Unrecorded, apply_plan, search
from tdsl.plan.execute import Execution
from tdsl.plan.judged import Judged
from tdsl.plan.latency import LatencyTable
from tdsl.plan.packed import square
from tdsl.plan.probes import Change, Effects, Probes
from tdsl.plan.remembering import Remembering
from tdsl.plan.shelf import Shelf
from tdsl.plan.steps import Step
from tdsl.verify.compare import Metrics

RANK = 6


def changes(captured, work):
    """Every dense layer cut to rank `RANK`, and how to apply each."""
    rule = standard_library().rule("factorize.linear.svd_linear", {"rank": RANK})
    attempt = rule.attempt(rule.variants[0], work)
    found = [attempt(node) for node in captured.module.graph.nodes if node.target in rule.roots[0]]
    choice = Choice(rule.name, rule.parameters, rule)
    nothing = dict.fromkeys(("bytes", "parameters", "macs", "latency"), 0.0)
    return [
        (Change.of(one, work), Candidate(choice, one.outputs[0].name, frozenset(), nothing, 0.0, 0.0))
        for one in found
    ]


@torch.no_grad()
def test_a_change_is_measured_as_if_it_were_applied(monkeypatch) -> None:
    monkeypatch.setattr(probes, "PRECISION", 0.0)
    captured, known = perceptron(), batches()
    made = changes(captured, Workspace(captured.module))
    effects = Effects(captured.module, Data.of(captured, known), 10**9)
    found = [effects.errors([change])[0] for change, _ in made]
    assert found == pytest.approx(effects.errors([change for change, _ in made]))
    for error, (_, candidate) in zip(found, made, strict=True):
        copy = copied(captured.module)
        assert apply_plan(copy, [candidate], None, Unrecorded()) == 1
        copy.recompile()
        pairs = [(captured.module(x[: probes.AT_ONCE]), copy(x[: probes.AT_ONCE])) for (x,) in known]
        missed = sum(float((a - b).square().sum()) for a, b in pairs)
        assert error == pytest.approx(
            (missed / sum(float(a.square().sum()) for a, _ in pairs)) ** 0.5, rel=0.1
        )
    assert len({round(error, 3) for error in found}) == 3


def test_changes_of_several_values_reach_what_stands_between_them() -> None:
    captured = perceptron()
    nodes = {node.name: node for node in captured.module.graph.nodes}
    effects = Effects(captured.module, Data.of(captured, batches()), 10**9)
    both = Change((nodes["relu"], nodes["linear_2"]), (nodes["linear"], nodes["linear_2"]))
    last = Change((nodes["linear_2"],), (nodes["linear_2"],))
    assert effects.errors([last]) == [0.0]
    assert effects.errors([both]) == [0.0]  # the second value is given, whatever the first one is


def test_measuring_ends_when_enough_is_known(monkeypatch) -> None:
    monkeypatch.setattr(probes, "PRECISION", 0.5)
    captured, known = perceptron(), batches(40)
    taken: list[int] = []
    real = Data.execution
    monkeypatch.setattr(Data, "execution", lambda self, *a, **k: taken.append(1) or real(self, *a, **k))
    effects = Effects(captured.module, Data.of(captured, known), 10**9)
    [(change, _), *_] = changes(captured, Workspace(captured.module))
    effects.errors([change])
    few = len(taken)
    monkeypatch.setattr(probes, "PRECISION", 0.0)
    effects.errors([change])
    assert few * probes.AT_ONCE >= 2 * probes.LEAST_SAMPLES
    assert few < len(taken) - few


@pytest.mark.parametrize("memory", [1, 500_000, 10**9])
def test_samples_are_as_many_as_the_memory_has_room_for(memory: int, monkeypatch) -> None:
    laid_aside = []
    put = Shelf.put
    monkeypatch.setattr(Shelf, "put", lambda self, value: laid_aside.append(value) or put(self, value))
    captured = perceptron()
    nodes = [node for node in captured.module.graph.nodes if node.op == "call_function"]
    Probes(captured.module, Data.of(captured, batches(40)), nodes, nodes, memory)
    used = sum(tensor.numel() * tensor.element_size() for tensor in laid_aside)
    least = probes.LEAST_SAMPLES * (96 * 4 + 24) * 4 * 3
    assert used <= max(memory, least)
    assert used == least if memory == 1 else used > min(memory / 2, 3 * least)


def test_errors_are_the_same_whether_values_are_in_memory_or_in_a_file(monkeypatch) -> None:
    captured = perceptron()
    nodes = [node for node in captured.module.graph.nodes if node.op in ("placeholder", "call_function")]
    data, work = Data.of(captured, batches(40)), Workspace(captured.module)
    found = []
    for room in (10**9, 0):
        monkeypatch.setattr(probes, "Shelf", lambda memory, room=room: Shelf(room))
        some = Probes(captured.module, data, nodes, nodes, 10**6)
        found.append([some.errors(change) for change, _ in changes(captured, work)])
    assert found[0] == found[1]
    assert len({round(error, 4) for error, _ in found[0]}) == 3


def test_a_shelf_keeps_its_room_in_memory_and_the_rest_in_a_file() -> None:
    shelf, given = Shelf(100), [drawn(5, 4), drawn(5, 5), drawn(3, 4).T, torch.tensor(True), (1, None)]
    fetches = [shelf.put(value) for value in given]
    assert fetches[0]() is given[0]
    assert fetches[4]() is given[4]
    for fetch, value in zip(fetches[1:4], given[1:4], strict=True):
        assert torch.equal(fetch(), value)
    assert fetches[1]() is not given[1]
    half = Shelf(0).put(given[1].bfloat16())()
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, given[1].bfloat16())


def test_a_batch_is_cut_only_where_its_size_is_free() -> None:
    free, (batch,) = perceptron(), batches(1)
    assert len(Data.of(free, [batch]).cut(batch, 3)[0]) == 3
    fixed = capture(free.original, (drawn(16, 48),))
    assert len(Data.of(fixed, [batch]).cut(batch, 3)[0]) == 16


def test_a_fork_leaves_the_run_as_it_was() -> None:
    captured, [(x,)] = perceptron(), batches(1)
    run = Execution(captured.module, [x])
    middle = next(node for node in captured.module.graph.nodes if node.name == "relu")
    run.advance(middle.next)
    other = run.fork({middle: torch.zeros_like(run.values[middle])})
    other.advance()
    run.advance()
    torch.testing.assert_close(run.outputs[0], captured.module(x))
    assert not torch.allclose(run.outputs[0], other.outputs[0])


@pytest.mark.parametrize("size", [1, 5, 300])
def test_a_symmetric_matrix_is_known_from_its_triangle(size: int) -> None:
    rows = drawn(size + 3, size).double()
    matrix = rows.T @ rows
    packed = matrix[tuple(torch.triu_indices(size, size))]
    assert packed.numel() == size * (size + 1) // 2
    assert torch.equal(square(packed, size), matrix.triu() + matrix.triu(1).T)


def test_products_with_a_vector_are_the_same_from_the_right() -> None:
    captured = perceptron()
    rule = standard_library().rule("factorize.linear.svd_linear", {"rank": RANK})
    plain, work = Workspace(captured.module), Remembering(captured.module, None)
    weight = next(node for node in captured.module.graph.nodes if node.target == "middle.weight")
    from tdsl.engine.staged import Constant, Staged

    aten = torch.ops.aten
    left, right, vector = (
        Constant(drawn(*sizes).double(), torch.float32) for sizes in ((96, 5), (5, 96), (96,))
    )
    product = Staged(aten.matmul.default, (left, right), {})
    missed = Staged(aten.sub.Tensor, (weight, product), {})
    applied = Staged(aten.matmul.default, (missed, vector), {})
    torch.testing.assert_close(work.evaluate(applied), plain.evaluate(applied))
    assert work.evaluate(weight) is work.evaluate(weight)
    assert plain.evaluate(weight) is not plain.evaluate(weight)
    assert rule.approximate


# ---------------------------------------------------------------- what is worth its error


def candidate(rank: int, **saved: float) -> Candidate:
    costs = dict.fromkeys(("bytes", "parameters", "macs", "latency"), 0.0) | saved
    choice = Choice("factorize.linear.svd_linear", {}, None)
    return Candidate(choice, "x", frozenset({"x"}), costs, 0.1, 0.1, {"r": rank})


def test_what_saves_no_more_than_a_larger_one_is_not_looked_at() -> None:
    measures = Measures(None, None, None, ("latency",))
    large = candidate(16, latency=2.0)
    assert measures.useful(candidate(8, latency=3.0), [large])
    assert not measures.useful(candidate(8, latency=2.0, bytes=9.0), [large])
    assert not measures.useful(candidate(8, bytes=9.0), [])
    both = Measures(None, None, None, ("latency", "bytes"))
    assert both.useful(candidate(8, latency=2.0, bytes=9.0), [large])
    assert measures.useful(candidate(32, latency=1.0), [large])  # loses less


def step(name: str) -> Step:
    return Step(name, (), (1,))


def test_a_gain_within_the_spread_of_timings_is_none() -> None:
    old, new = step("old"), step("new")
    table = LatencyTable({str(old): 10.0, str(new): 9.0}, {str(old): 0.8, str(new): 0.8})
    assert table.gain([old], [new]) == 0.0 == table.gain([new], [old])
    table.spread[str(new)] = 0.1
    assert table.gain([old], [new]) == 1.0
    assert table.gain([new], [old]) == -1.0


def test_spreads_are_written_and_read(tmp_path) -> None:
    table = LatencyTable({"a": 1.0}, {"a": 0.5}, "here")
    table.write(tmp_path / "profile.json")
    read = LatencyTable.read(tmp_path / "profile.json")
    assert (read.seconds, read.spread, read.fixed) == ({"a": 1.0}, {"a": 0.5}, True)


def test_layers_whose_gain_is_chance_are_left_alone() -> None:
    """Timed unevenly, so that every gain may be chance, nothing is rewritten; timed well, something is."""

    class Drawn(LatencyTable):
        def __init__(self, spread: float) -> None:
            super().__init__()
            self.unevenness = spread

        def _one(self, one: Step) -> float:
            sizes = dict(one.arguments)["weight"].sizes if one.name == "linear" else (0, 0)
            self.seconds[str(one)] = float(sizes[0] * sizes[1])
            self.spread[str(one)] = self.unevenness
            return self.seconds[str(one)]

    text = """
    pipeline fast {
        choose factorize.linear.svd_linear minimize latency subject to error <= 90%
        check error <= 100%
    }
    """
    for spread, rewritten in ((1e9, False), (1.0, True)):
        captured = perceptron()
        runner, _ = planned(captured, text, batches(), Drawn(spread))
        journal = Journal()
        runner.run(copied(captured.module), journal)
        assert bool(journal.entries) == rewritten


def test_one_rank_that_is_given_leaves_the_others_as_they_are() -> None:
    text = """
    pipeline p {
        choose factorize.conv_data.whitened_tucker2(rank=25%) minimize error subject to bytes <= 99%
        check error <= 100%
    }
    """
    runner, planner = planned(perceptron(), text, batches())
    [step_] = runner._choices.values()
    ranks = [Tiled(Ratio(0.25), 8), Tiled(Ratio(0.5), 8)]
    levels = [planner._at(alternative, ranks) for alternative in step_.alternatives]
    assert [len(made) for made in levels] == [1]


def test_the_gentlest_plan_is_tried_as_it_was_found() -> None:
    """Solved anew within its own error it may be missed by a rounding; the search must not depend on that."""
    captured = perceptron()
    span = Span("test", 1, 1, 1, 2)
    text = """
    pipeline p {
        choose factorize.linear.svd_linear minimize bytes subject to bytes <= 70%, error <= 1%
        check error <= 100%
    }
    """
    runner, planner = planned(captured, text, batches())
    [step_] = runner._choices.values()
    problem, statistics = planner.problem(step_, captured.module)
    stubborn = Stubborn(problem.candidates, "latency", problem.budgets, problem.totals, span)
    found = Judged(Metrics(0.0, 0.0, 1.0, 1.0), 1)
    outcome = search(stubborn, captured.module, statistics, lambda module: found, lambda module: None)
    assert outcome.chosen


class Stubborn(Problem):
    """Finds no plan within any allowance of errors."""

    def solve(self, allowance):
        return None if allowance is not None else super().solve(allowance)


@torch.no_grad()
@pytest.mark.parametrize("memory", [0, 10**9])
def test_outputs_that_changes_are_held_against_are_laid_aside(memory: int, monkeypatch) -> None:
    monkeypatch.setattr(probes, "PRECISION", 0.0)
    captured = perceptron()
    effects = Effects(captured.module, Data.of(captured, batches()), memory)
    alive = []
    real = probes.compare

    def noted(expected, changed):
        alive.append(weakref.ref(expected))
        return real(expected, changed)

    monkeypatch.setattr(probes, "compare", noted)
    made = [change for change, _ in changes(captured, Workspace(captured.module))]
    first = effects.errors(made)
    assert effects.errors(made) == first  # read from the shelf now
    kept = {id(one()) for one in alive if one() is not None}
    assert bool(kept) == (memory > 0)  # with room for them they stay
