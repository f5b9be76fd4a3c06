"""Statistics over calibration data: what they are, what padding does to them, what is refused."""

from __future__ import annotations

import pytest
import torch
from plan_models import Masked, Perceptron, batches, drawn, perceptron
from torch import nn

import tdsl
from tdsl.capture import capture
from tdsl.engine.library import standard_library
from tdsl.engine.staged import CannotStage
from tdsl.engine.statistics import Answers, Recorder, Request, request_of
from tdsl.engine.workspace import Workspace
from tdsl.errors import TdslError
from tdsl.plan.calibrate import Data, collect
from tdsl.plan.candidates import Choice, requests_of
from tdsl.plan.packed import Packed, Triangle
from tdsl.plan.shelf import Shelf


def ask(captured, node_name, kind, axis=-1, size=None):
    node = next(n for n in captured.module.graph.nodes if n.name == node_name)
    described = node.meta["val"]
    return request_of(kind, node, axis, described, size)


def test_moments_are_those_of_all_rows() -> None:
    captured, known = perceptron(), batches()
    requests = [ask(captured, "x", kind) for kind in ("second_moment", "covariance", "first_moment")]
    answers = collect(captured.module, Data.of(captured, known), requests)
    rows = torch.cat([x for (x,) in known]).double()
    second, covariance, first = (answers.answer(r) for r in requests)
    torch.testing.assert_close(second, rows.T @ rows / len(rows), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(covariance, torch.cov(rows.T, correction=0), rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(first, rows.mean(0), rtol=1e-9, atol=1e-10)
    assert second.dtype == torch.float64


def test_statistics_of_inner_values_and_of_terms_over_them() -> None:
    """`second_moment(relu(linear(x, A)))` is that of the hidden layer, in the graph or not."""
    captured, known = perceptron(), batches()
    work = Workspace(captured.module)
    nodes = {n.name: n for n in captured.module.graph.nodes}
    from tdsl.engine.staged import Staged

    term = Staged(torch.ops.aten.relu.default, (nodes["linear"],), {})
    requests = [
        ask(captured, "relu", "second_moment"),
        request_of("second_moment", term, -1, work.val(term)),
    ]
    assert requests[0] != requests[1]
    answers = collect(captured.module, Data.of(captured, known), requests)
    torch.testing.assert_close(answers.answer(requests[0]), answers.answer(requests[1]))


def test_padding_is_left_out_of_every_statistic() -> None:
    ids = torch.tensor([[3, 4, 0, 0], [5, 0, 0, 0]])
    mask = (ids > 0).long()
    captured = capture(
        Masked().eval(),
        (ids, mask),
        dynamic_shapes={"ids": {0: "b", 1: "s"}, "mask": {0: "b", 1: "s"}},
    )
    requests = [
        ask(captured, "embedding", "second_moment"),
        ask(captured, "ids", "frequency", size=20),
        ask(captured, "linear", "gradient_moment"),
    ]
    data = Data.of(captured, [(ids, mask)])
    assert data.mask == 1
    second, frequency, gradient = (collect(captured.module, data, requests).answer(r) for r in requests)
    table = captured.original.table.weight.detach().double()
    seen = table[[3, 4, 5]]
    torch.testing.assert_close(second, seen.T @ seen / 3)
    assert frequency.tolist() == [1 / 3 if i in (3, 4, 5) else 0 for i in range(20)]
    assert gradient.trace() > 0
    # Control: with the padding in, the same data say something else.
    blind = Data(captured, [(ids, mask)], None)
    assert not torch.allclose(collect(captured.module, blind, requests).answer(requests[0]), second)


def test_a_gradient_moment_predicts_the_effect_of_an_error_on_the_output() -> None:
    """For a linear network tr(G·E[δδᵀ]) per row is the relative squared error of the output."""
    model = nn.Sequential(nn.Linear(6, 5, bias=False), nn.Linear(5, 4, bias=False)).eval()
    captured = capture(model, (drawn(3, 6),), dynamic_shapes={"input": {0: "batch"}})
    known = [(drawn(64, 6, seed=i),) for i in range(40)]
    request = ask(captured, "linear", "gradient_moment")
    found = collect(captured.module, Data.of(captured, known), [request]).answer(request)
    weight = model[1].weight.detach().double()
    outputs = torch.cat([model(x) for (x,) in known]).detach().double()
    expected = weight.T @ weight / (64 * outputs.square().sum(1).mean())
    torch.testing.assert_close(found, expected, rtol=0.2, atol=0.05 * float(expected.abs().max()))


def test_an_output_that_is_zero_has_no_gradient_that_could_overflow() -> None:
    class Zero(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(6, 4, bias=False), nn.Linear(4, 3, bias=False)

        def forward(self, x):
            y = self.first(x * 0.0)
            return self.second(y), (y + 1).sum()

    captured = capture(Zero(), (drawn(8, 6),))
    request = ask(captured, "linear", "gradient_moment")
    known = [(drawn(8, 6, seed=i),) for i in range(4)]
    moment = collect(captured.module, Data.of(captured, known), [request]).answer(request)
    assert moment.isfinite().all() and moment.diagonal().min() > 0


def test_memory_does_not_grow_with_the_data() -> None:
    """Batches may come from a generator that is read once, and are not kept by the sums."""
    captured = perceptron()
    request = ask(captured, "x", "second_moment")
    few = collect(captured.module, Data.of(captured, batches(2)), [request]).answer(request)
    assert few.numel() == 48 * 48


def test_what_cannot_be_collected_says_why() -> None:
    captured, known = perceptron(), batches()
    with pytest.raises(CannotStage, match="dynamic size"):
        ask(captured, "x", "second_moment", axis=0)
    with pytest.raises(CannotStage, match="with an axis 5"):
        ask(captured, "x", "second_moment", axis=5)
    with pytest.raises(CannotStage, match="not known yet"):
        Recorder().answer(Request("second_moment", None, -1, 3, "x"))
    with pytest.raises(TdslError, match="no input nothing"):
        Data.of(captured, known, "nothing")
    ids = torch.zeros(1, 2, dtype=torch.long)
    masked = capture(Masked().eval(), (ids + 1, ids + 1))
    request = ask(masked, "embedding", "second_moment")
    with pytest.raises(TdslError, match="everything is masked out"):
        collect(masked.module, Data.of(masked, [(ids, ids)], "mask"), [request])


def test_a_matrix_too_large_to_hold_is_not_even_asked_for() -> None:
    """Patches of 64 channels × 129 taps: a moment of 545 MB. Rules ask for that of the outputs."""
    model = nn.Sequential(nn.Conv2d(64, 2, (129, 1))).eval()
    captured = capture(model, (torch.zeros(1, 64, 129, 1),))
    [conv] = [n for n in captured.module.graph.nodes if n.target is torch.ops.aten.conv2d.default]
    patches = torch.empty(1, 64 * 129, 1, device="meta")
    with pytest.raises(CannotStage, match="axis of 8256: more than 8192 is too large"):
        request_of("covariance", conv, -2, patches)
    assert request_of("covariance", conv, -2, patches[:, :8192]).size == 8192
    rules = [standard_library().rule(f"factorize.conv_data.{r}") for r in ("output_pca", "whitened_channel")]
    asked = requests_of(captured.module, [Choice(r.name, r.parameters, r) for r in rules], None)
    assert {(r.kind, r.size) for r in asked} == {
        ("covariance", 2),
        ("first_moment", 64 * 129),
        ("second_moment", 64),
    }


@pytest.mark.parametrize("size", [1, 5, 600])
@pytest.mark.parametrize("room", [0, 10**9])
def test_a_triangle_of_sums_is_that_of_the_whole_matrix(size: int, room: int) -> None:
    rows = drawn(40, size).double()
    found = Triangle(size, torch.float64, Shelf(room))
    for some in torch.split(rows, 7):
        found.add(some)
    mean, whole = rows.mean(0), rows.T @ rows / 40
    upper = tuple(torch.triu_indices(size, size))
    torch.testing.assert_close(found.mean(40), whole[upper])
    torch.testing.assert_close(found.mean(40, mean), (whole - torch.outer(mean, mean))[upper])


def test_a_statistic_is_fetched_once_when_it_is_asked_for() -> None:
    """Whether there is one is known without reading it, which may be megabytes in a file."""
    wanted, fetched = ask(perceptron(), "x", "first_moment"), []

    def fetch():
        fetched.append(1)
        return torch.ones(wanted.size)

    answers = Answers(Packed({wanted: fetch}))
    assert wanted in answers.values and not fetched
    torch.testing.assert_close(answers.answer(wanted), torch.ones(wanted.size, dtype=torch.float64))
    assert len(fetched) == 1


def test_statistics_are_the_same_however_few_samples_run_at_once(monkeypatch) -> None:
    captured, known = perceptron(), batches(3)
    asked = [ask(captured, "relu", kind) for kind in ("second_moment", "covariance")]
    runs: list[int] = []
    real = Data.execution

    def noted(self, module, batch, *others, **named):
        runs.append(len(batch[0]))
        return real(self, module, batch, *others, **named)

    monkeypatch.setattr(Data, "execution", noted)
    data = Data.of(captured, known)
    whole, parts = (collect(captured.module, data, asked, memory=memory) for memory in (10**9, 1))
    for request in asked:
        torch.testing.assert_close(whole.answer(request), parts.answer(request), rtol=1e-5, atol=1e-6)
    assert max(runs[:3]) == 16
    assert set(runs[3:]) == {1}


def test_samples_stay_as_they_were_given() -> None:
    """A plan differentiates with respect to what layers read, and the first one reads a sample."""
    given = [drawn(16, 48, seed=i) for i in range(8)]
    smaller = tdsl.factorize(
        Perceptron(None).eval(), given[0], rank=0.5, calibration=given, dynamic_shapes={"x": {0: "batch"}}
    )
    assert smaller(given[0]).requires_grad
    assert not any(x.requires_grad for x in given)
