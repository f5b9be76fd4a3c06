"""What planning holds in memory: sums in a file, as much at once as there is room for, nothing left over."""

from __future__ import annotations

import gc
import tempfile
import weakref
from itertools import pairwise

import pytest
import torch
from plan_models import batches, drawn, perceptron, planned
from torch import Tensor, nn

from tdsl.capture import capture
from tdsl.engine.census import copied
from tdsl.engine.journal import Journal
from tdsl.engine.library import standard_library
from tdsl.engine.staged import Constant, parts_of
from tdsl.engine.statistics import Answers, request_of
from tdsl.errors import TdslError
from tdsl.heal import least_squares as healing
from tdsl.plan import candidates as trying
from tdsl.plan.calibrate import Data, collect
from tdsl.plan.candidates import Choice, candidates
from tdsl.plan.extent import Extent
from tdsl.plan.shelf import Shelf

aten = torch.ops.aten
WIDTH, DEPTH = 96, 12


class Attention(nn.Module):
    """Scores of every two positions: what they take grows with the square of the length."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.value = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        scores = torch.softmax(self.query(x) @ x.transpose(1, 2), -1)
        return self.value(scores @ x)


def attention():
    axes = {0: torch.export.Dim("batch", max=64), 1: torch.export.Dim("length", max=256)}
    return capture(Attention().eval(), (drawn(2, 5, 8),), dynamic_shapes={"x": axes})


def sums_alive() -> int:
    """Bytes of the float64 tensors that are alive and not small."""
    gc.collect()
    found = [o for o in gc.get_objects() if type(o) is Tensor and o.dtype == torch.float64]
    return sum({t.untyped_storage().data_ptr(): t.nbytes for t in found if t.numel() >= WIDTH**2}.values())


def test_moments_of_many_sites_stand_in_a_file() -> None:
    layers = [layer for _ in range(DEPTH) for layer in (nn.Linear(WIDTH, WIDTH), nn.Tanh())]
    captured = capture(nn.Sequential(*layers).eval(), (drawn(4, WIDTH),), dynamic_shapes=({0: "batch"},))
    data = Data.of(captured, [(drawn(8, WIDTH, seed=i),) for i in range(3)])
    asked = [
        request_of("covariance", node, -1, node.meta["val"])
        for node in captured.module.graph.nodes
        if node.target is aten.tanh.default
    ]
    one, before = 8 * WIDTH**2, sums_alive()
    held = collect(captured.module, data, asked, memory=10**9)
    assert sums_alive() - before == DEPTH * one  # the control: with room for them they are all there
    laid = collect(captured.module, data, asked, memory=0)
    assert sums_alive() - before == DEPTH * one
    for request in asked:
        torch.testing.assert_close(laid.answer(request), held.answer(request), rtol=1e-5, atol=1e-7)


def test_sizes_are_told_at_those_of_the_batch() -> None:
    captured = attention()
    graph = captured.module.graph
    inputs = list(graph.find_nodes(op="placeholder"))
    inputs = [node for node in inputs if isinstance(node.meta.get("val"), Tensor)]
    [scores] = graph.find_nodes(op="call_function", target=aten.softmax.int)
    taken = []
    for samples, length in ((3, 7), (3, 14)):
        batch = (drawn(samples, length, 8),)
        extent = Extent(inputs, batch)
        computed = [node for node in graph.nodes if node.op == "call_function"]
        run = Data.of(captured, [batch]).execution(captured.module, batch, computed)
        run.advance()
        for node in computed:
            assert extent.bytes(node) == run.values[node].nbytes
        taken.append(extent.bytes(scores))
        assert extent.bytes(scores) < extent.most(graph) <= sum(map(extent.bytes, computed))
        assert extent.most(graph, computed) == sum(map(extent.bytes, computed))
    assert taken[1] == 4 * taken[0]


def test_of_long_texts_fewer_run_at_once() -> None:
    captured = attention()
    short, long = (drawn(16, 8, 8),), (drawn(16, 64, 8),)
    data = Data.of(captured, [short, long])
    assert [len(x) for (x,) in data.pieces(short, 50_000, captured.module)] == [16]
    parts = data.pieces(long, 50_000, captured.module)
    assert len(parts) > 8
    assert torch.equal(torch.cat([x for (x,) in parts]), long[0])


def test_gradients_of_parts_count_as_those_of_the_whole_batch() -> None:
    captured, known = perceptron(), batches(40)
    node = next(n for n in captured.module.graph.nodes if n.name == "relu_1")
    asked = request_of("gradient_moment", node, -1, node.meta["val"])
    whole, parts = (
        collect(captured.module, Data.of(captured, known), [asked], memory=memory).answer(asked)
        for memory in (10**9, 1)
    )
    assert 0.6 < float(parts.trace() / whole.trace()) < 1.7  # each relative to itself: else 16 times as much


@pytest.mark.parametrize("name", ["svd_linear", "interpolative_neurons"])
def test_nothing_of_a_candidate_waits_for_the_collector(name: str, monkeypatch) -> None:
    captured = perceptron()
    rule = f"factorize.linear.{name}"
    choices = [
        Choice(rule, {"rank": rank}, standard_library().rule(rule, {"rank": rank})) for rank in (4, 8, 16)
    ]
    data = Data.of(captured, batches(4))
    asked = trying.requests_of(captured.module, choices, None)
    answers = collect(captured.module, data, asked) if asked else Answers({})
    made: list[weakref.ref[Tensor]] = []
    real = trying._candidate

    def noted(choice, variant, found, *others):
        made.extend(weakref.ref(p.values) for p in parts_of(found.values) if isinstance(p, Constant))
        return real(choice, variant, found, *others)

    monkeypatch.setattr(trying, "_candidate", noted)
    gc.collect()
    gc.disable()
    try:
        counted = ("parameters",)
        found = candidates(captured.module, choices, answers, data, None, counted, 10**6)
        assert found and made
        assert not [one for one in made if one() is not None]
    finally:
        gc.enable()


def healed(memory: int, monkeypatch):
    real = healing.least_squares
    captured = perceptron(None)
    text = """
    pipeline cut {
        once factorize.linear.svd_linear(rank=40%)
        heal least_squares
        check error <= 100%
    }
    """
    runner, planner = planned(captured, text, batches(16, 32))
    monkeypatch.setattr(
        "tdsl.planner.least_squares",
        lambda module, reference, data, rules, damping, _, progress: real(
            module, reference, data, rules, damping, memory, progress
        ),
    )
    module = copied(captured.module)
    runner.run(module, Journal())
    return planner.healed, module


def test_recovery_is_the_same_whether_batches_wait_in_memory_or_in_a_file(monkeypatch) -> None:
    files, real = [], tempfile.TemporaryFile
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **named: files.append(1) or real(**named))
    (held, first), (laid, second) = (healed(memory, monkeypatch) for memory in (10**9, 0))
    assert files
    assert [one.site for one in held] == [one.site for one in laid]
    assert any(one.after < one.before for one in held)
    assert [one.after for one in held] == pytest.approx([one.after for one in laid], rel=1e-3)
    for a, b in pairwise([first.state_dict(), second.state_dict()]):
        for name, weight in a.items():
            torch.testing.assert_close(weight, b[name], rtol=1e-2, atol=1e-4)


def test_no_batch_has_its_values_at_hand_while_a_factor_is_solved(monkeypatch) -> None:
    pairs, at_hand = [], []
    make, solve = healing._Pair.__init__, healing._solve

    def noted(pair, *parts) -> None:
        make(pair, *parts)
        pairs.append(pair)

    def solved(*given):
        runs = [run for pair in pairs for run in (pair.ours, pair.theirs)]
        at_hand.append([node for run in runs for node in run.values if node.op != "get_attr"])
        return solve(*given)

    monkeypatch.setattr(healing._Pair, "__init__", noted)
    monkeypatch.setattr(healing, "_solve", solved)
    found, _ = healed(0, monkeypatch)
    assert len(pairs) > 1 and len(at_hand) == len(found) > 1
    assert not any(at_hand)  # at the last factor, too


# ---------------------------------------------------------------- files


def test_a_drawer_holds_what_was_put_back() -> None:
    for room in (0, 10**6):
        shelf = Shelf(room)
        first, second = (shelf.drawer((3, 4), torch.float64) for _ in range(2))
        assert not first.take().any()
        for number in range(3):
            first.back(first.take().add_(number))
        second.back(second.take() + 7 if room == 0 else second.take().add_(7))
        assert first.take().eq(3).all() and second.take().eq(7).all()
        assert (first.take() is first.take()) == bool(room)


def test_files_have_no_name_and_are_gone_after_an_interrupt(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    shelf = Shelf(0)
    fetch = shelf.put(drawn(4, 4))
    assert list(tmp_path.iterdir()) == []
    assert torch.equal(fetch(), drawn(4, 4))
    captured = perceptron()
    node = next(n for n in captured.module.graph.nodes if n.name == "relu")
    asked = request_of("covariance", node, -1, node.meta["val"])
    real, runs = Data.execution, []

    def interrupted(self, *others, **named):
        runs.append(1)
        if len(runs) == 3:
            raise KeyboardInterrupt
        return real(self, *others, **named)

    monkeypatch.setattr(Data, "execution", interrupted)
    with pytest.raises(KeyboardInterrupt):
        collect(captured.module, Data.of(captured, batches()), [asked], memory=0)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_closed_with_the_last_value_in_it(monkeypatch) -> None:
    opened = []
    real = tempfile.TemporaryFile

    def kept(**named):
        opened.append(real(**named))
        return opened[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", kept)
    fetch = Shelf(0).put(drawn(4, 4))
    assert torch.equal(fetch(), drawn(4, 4)) and not opened[0].closed
    del fetch
    assert opened[0].closed


def test_a_full_disk_is_said(monkeypatch) -> None:
    full = open("/dev/full", "r+b", buffering=0)  # noqa: SIM115  (closed by the shelf)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **named: full)
    captured = perceptron()
    node = next(n for n in captured.module.graph.nodes if n.name == "relu")
    asked = request_of("covariance", node, -1, node.meta["val"])
    with pytest.raises(TdslError, match="cannot write to a temporary file: No space left") as told:
        collect(captured.module, Data.of(captured, batches()), [asked], memory=0)
    assert "TMPDIR" in str(told.value)
