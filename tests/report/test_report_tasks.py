"""Metrics of the user's task in the report: by labels, of the original and of the file."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

import tdsl
from tdsl.engine.library import Library
from tdsl.errors import TdslError
from tdsl.lang import parse
from tdsl.report import to_json, to_text
from tdsl.report.condition import condition
from tdsl.verify.task import TaskMetric, calibration_error

CLASSES, WIDTH = 4, 12
HALF = """
pipeline half(rank: Rank = 50%) { once factorize.linear.svd_linear(rank=rank) check error <= 1000% }
pipeline same() { repeat cleanup.* until stable check error <= 1% }
"""


def library() -> Library:
    found = Library()
    found.add_file(parse(HALF, "half"), "")
    return found


class Classifier(nn.Module):
    """Large in what all classes share, which says nothing; small in what tells them apart."""

    def __init__(self) -> None:
        super().__init__()
        weight = torch.zeros(CLASSES, WIDTH)
        weight[:, :CLASSES] = 2 * torch.eye(CLASSES)
        weight[:, CLASSES:] = 6.0
        self.dense = nn.Linear(WIDTH, CLASSES)
        self.dense.weight.data, self.dense.bias.data = weight, torch.zeros(CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(x)


def samples(count: int = 6) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(count, 50, WIDTH, generator=generator)
    with torch.no_grad():
        y = torch.distributions.Categorical(logits=Classifier()(x)).logits.exp()
    drawn = torch.multinomial(y.flatten(0, 1), 1, generator=generator).reshape(count, 50)
    return list(zip(x, drawn, strict=True))


def compiled(pipeline: str, **arguments: object) -> tdsl.Result:
    return tdsl.compile(
        Classifier().eval(),
        torch.zeros(2, WIDTH),
        dynamic_shapes=({0: "batch"},),
        pipeline=pipeline,
        rules=library(),
        latency=False,
        **arguments,
    )


def test_a_rewrite_that_keeps_the_output_and_loses_the_task_is_seen() -> None:
    """The mean cosine stays above 0.9, the accuracy falls to chance; the control changes nothing at all."""
    metric = ["accuracy", "calibration_error", agreement]
    known = samples()
    lost = compiled("half", held_out=known, metric=metric, parameters={"rank": 1}).report
    [judged] = [group for group in lost.correctness.errors if group.decides]
    assert judged.metrics.mean_cosine > 0.9 and judged.metrics.error < 0.2
    accuracy, off, own = lost.tasks
    assert (accuracy.metric, off.metric, own.metric) == ("accuracy", "calibration_error", "agreement")
    assert accuracy.samples == 300
    assert accuracy.original > 0.6 > 0.4 > accuracy.result
    assert own.original == pytest.approx(accuracy.original) and own.result == pytest.approx(accuracy.result)
    assert off.original < 0.1
    kept = compiled("same", held_out=known, metric=metric).report
    assert [one.result for one in kept.tasks] == pytest.approx([one.original for one in kept.tasks], abs=1e-6)
    assert json.loads(to_json(lost))["tasks"][0]["metric"] == "accuracy"
    lines = [line.split() for line in to_text(lost).splitlines()]
    assert ["by", "labels", "samples", "original", "result", "change"] in lines
    assert ["accuracy", "300"] in [line[:2] for line in lines]


def agreement(output: Tensor, labels: Tensor) -> Tensor:
    return (output.argmax(1) == labels).float().mean()


def test_labels_of_calibration_samples_that_are_held_out_serve_as_well() -> None:
    report = compiled("half", calibration=samples(8), metric="accuracy").report
    assert [one.samples for one in report.tasks] == [100]
    assert not compiled("half", calibration=[x for x, _ in samples(8)]).report.tasks


def test_an_approximate_rewrite_says_how_its_factors_are_conditioned() -> None:
    [entry] = compiled("half", parameters={"rank": 2}).report.rewrites
    assert 1 <= entry.condition < 1e6
    assert compiled("same").report.rewrites == ()


# ---------------------------------------------------------------- metrics


@pytest.mark.parametrize("by_hand", [1.0, 5.0, 300.0])
def test_a_condition_is_that_of_the_singular_values(by_hand: float) -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = (
        torch.linalg.qr(torch.randn(n, 3, generator=generator, dtype=torch.float64)).Q for n in (8, 40)
    )
    weight = (left * torch.tensor([by_hand, 2.0 if by_hand > 2 else 1.0, 1.0], dtype=torch.float64)) @ right.T
    narrow = left.T @ weight
    assert condition(narrow) == pytest.approx(by_hand, rel=1e-9)
    assert condition(weight) == float("inf")  # five directions of eight are not there
    assert condition(narrow.T.reshape(40, 3, 1).float()) == pytest.approx(by_hand, rel=1e-3)
    assert condition(torch.ones(5)) is None and condition(torch.ones(1, 5)) is None


def test_confidence_that_is_accuracy_has_no_calibration_error() -> None:
    generator = torch.Generator().manual_seed(1)
    sure = 0.5 + 0.5 * torch.rand(60_000, generator=generator, dtype=torch.float64)
    right = torch.rand(60_000, generator=generator, dtype=torch.float64) < sure
    assert calibration_error(sure, right) < 0.01
    assert calibration_error(sure, torch.ones(60_000, dtype=torch.bool)) == pytest.approx(0.25, abs=0.01)
    assert calibration_error(torch.tensor([0.0, 1.0]), torch.tensor([False, True])) == 0


def test_classes_run_along_the_last_or_the_second_axis_and_scores_may_be_probabilities() -> None:
    scores = torch.randn(6, 5, 7, generator=torch.Generator().manual_seed(3))  # 7 classes
    labels = scores.argmax(-1)
    labels[0] = (labels[0] + 1) % 7
    labels[1, 0] = -100
    for output in (scores, scores.movedim(-1, 1), scores.softmax(-1), scores.log_softmax(-1)):
        one = [((output,), (labels,), "a batch")]
        assert TaskMetric.of("accuracy").of_batches(one) == pytest.approx(24 / 29)
    off = [
        TaskMetric.of("calibration_error").of_batches([((s,), (labels,), "a batch")])
        for s in (scores, scores.softmax(-1))
    ]
    assert off[0] == pytest.approx(off[1], abs=1e-6)


def fails(output: Tensor, labels: Tensor) -> Tensor:
    return output @ labels


@pytest.mark.parametrize(
    ("arguments", "message", "taught"),
    [
        ({"metric": "acuracy", "held_out": samples()}, "no metric 'acuracy'", "did you mean `accuracy`?"),
        ({"metric": 3, "held_out": samples()}, "`metric` is an int", "a function of (output, labels)"),
        ({"metric": "accuracy"}, "needs held-out samples with labels", "--held-out"),
        ({"metric": "accuracy", "held_out": [x for x, _ in samples()]}, "no labels", "entry `labels`"),
        (
            {"metric": "accuracy", "held_out": [(x, x) for x, _ in samples()]},
            "labels that are classes",
            "`metric=`",
        ),
        (
            {"metric": fails, "held_out": samples()},
            "the metric fails fails on held-out sample 1: RuntimeError",
            "gives a number",
        ),
    ],
)
def test_mistakes_with_metrics_are_taught(arguments: dict, message: str, taught: str) -> None:
    with pytest.raises(TdslError) as caught:
        compiled("half", **arguments)
    assert message in caught.value.message
    assert taught in f"{caught.value.expected} {caught.value.hint}"
