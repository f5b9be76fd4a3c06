"""Statistics in a folder: found again by content, never for another model, other data or other requests."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from plan_models import batches, drawn, perceptron

from tdsl.engine.statistics import request_of
from tdsl.errors import TdslError
from tdsl.plan import cache
from tdsl.plan.calibrate import Data, collect
from tdsl.plan.loss import Loss


def request(captured, name="x", kind="second_moment"):
    node = next(n for n in captured.module.graph.nodes if n.name == name)
    return request_of(kind, node, -1, node.meta["val"])


@pytest.fixture
def passes(monkeypatch):
    """How many passes over data were made."""
    made = []

    def counted(*args):
        made.append(1)
        return collect(*args)

    monkeypatch.setattr(cache, "collect", counted)
    return made


def test_the_same_content_is_collected_once(tmp_path, passes) -> None:
    answers = []
    for _ in range(2):
        captured = perceptron()
        data = Data.of(captured, batches())
        found = cache.collect_cached(captured.module, data, [request(captured)], tmp_path)
        answers.append(found.answer(request(captured)))
    assert len(passes) == 1
    assert torch.equal(*answers)


def test_another_weight_other_data_and_another_request_are_collected_anew(tmp_path, passes) -> None:
    captured = perceptron()
    cache.collect_cached(captured.module, Data.of(captured, batches()), [request(captured)], tmp_path)
    cache.collect_cached(captured.module, Data.of(captured, batches(seed=50)), [request(captured)], tmp_path)
    data = Data.of(captured, batches())
    cache.collect_cached(captured.module, data, [request(captured, "relu")], tmp_path)
    other = perceptron(planted=4)
    cache.collect_cached(other.module, Data.of(other, batches()), [request(other)], tmp_path)
    assert len(passes) == 4


def test_another_mask_and_another_draw_of_gradients_are_collected_anew(tmp_path, passes) -> None:
    captured = perceptron()
    data = Data.of(captured, batches())
    for other in (data, replace(data, seed=1), replace(data, mask=0)):
        cache.collect_cached(captured.module, other, [request(captured)], tmp_path)
    assert len(passes) == 3


def test_only_what_is_missing_is_collected(tmp_path, monkeypatch) -> None:
    captured = perceptron()
    data = Data.of(captured, batches())
    known, wanted = request(captured), request(captured, "relu", "covariance")
    cache.collect_cached(captured.module, data, [known], tmp_path)
    asked = []
    monkeypatch.setattr(
        cache,
        "collect",
        lambda module, data, requests, *rest: (
            asked.extend(requests) or collect(module, data, requests, *rest)
        ),
    )
    found = cache.collect_cached(captured.module, data, [known, wanted], tmp_path)
    assert asked == [wanted]
    plain = collect(captured.module, data, [known, wanted])
    for one in (known, wanted):
        assert torch.equal(found.answer(one), plain.answer(one))


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"not a table",
        lambda whole: b"",
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:-40] + bytes(40),
    ],
    ids=["no table", "empty", "cut off", "other numbers"],
)
def test_a_damaged_file_is_replaced(tmp_path, passes, damage) -> None:
    captured = perceptron()
    data = Data.of(captured, batches())
    expected = cache.collect_cached(captured.module, data, [request(captured)], tmp_path)
    [path] = tmp_path.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    again = cache.collect_cached(captured.module, data, [request(captured)], tmp_path)
    assert torch.equal(expected.answer(request(captured)), again.answer(request(captured)))
    assert len(passes) == 2


@pytest.mark.parametrize("below", ["file", "file/below"])
def test_a_folder_that_cannot_be_made_is_said_before_the_work(tmp_path, passes, below) -> None:
    (tmp_path / "file").write_text("")
    captured = perceptron()
    with pytest.raises(TdslError, match="file is not a directory"):
        cache.collect_cached(
            captured.module, Data.of(captured, batches()), [request(captured)], tmp_path / below
        )
    assert not passes


def test_a_loss_weighs_gradients_by_what_it_looks_at() -> None:
    """A loss of the first output alone: the gradient moment of the last layer has one entry."""
    captured = perceptron()
    wanted = request(captured, "linear_2", "gradient_moment")
    known = batches()
    loss = Loss.of(lambda output, labels: (output[:, 0] - labels).square().mean())
    data = Data.of(captured, known, loss=loss, labels=[(torch.zeros(len(x)),) for (x,) in known])
    found = collect(captured.module, data, [wanted]).answer(wanted)
    assert found[0, 0] > 0 and found.flatten()[1:].abs().max() == 0
    free = collect(captured.module, Data.of(captured, batches()), [wanted]).answer(wanted)
    assert free.diagonal().min() > 0


def test_gradients_are_remembered_by_the_labels_and_the_name_of_the_loss(tmp_path, monkeypatch) -> None:
    """The control is a loss of the user's own: its gradients are computed anew, other statistics are not."""
    captured = perceptron()
    known = batches()
    wanted = [request(captured, "linear_2", "gradient_moment"), request(captured)]
    asked: list[set[str]] = []
    monkeypatch.setattr(
        cache,
        "collect",
        lambda module, data, requests, *rest: (
            asked.append({one.kind for one in requests}) or collect(module, data, requests, *rest)
        ),
    )

    def found(loss, seed: int = 0):
        labels = [(drawn(len(x), 24, seed=seed + i),) for i, (x,) in enumerate(known)]
        data = Data.of(captured, known, loss=Loss.of(loss), labels=labels)
        answers = cache.collect_cached(captured.module, data, wanted, tmp_path)
        return answers.answer(wanted[0])

    named = [found("mse_loss"), found("mse_loss")]
    assert torch.equal(*named)
    assert not torch.equal(named[0], found("mse_loss", seed=50))
    assert not torch.equal(named[0], found("l1_loss"))
    own = [found(lambda output, labels: (output - labels).square().mean()) for _ in range(2)]
    assert torch.equal(named[0], own[0]) and torch.equal(*own)
    assert asked == [{one.kind for one in wanted}, *[{"gradient_moment"}] * 4]
