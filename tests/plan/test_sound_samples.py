"""Samples and labels that are no numbers are named, before anything is computed from them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from plan_models import drawn
from torch import Tensor, nn

import tdsl

FREE = {"input": {0: torch.export.Dim("batch", min=1, max=64)}}
MODEL = nn.Sequential(nn.Linear(32, 48), nn.ReLU(), nn.Linear(48, 4)).eval()


def batches(count: int = 12) -> list[Tensor]:
    return [drawn(8, 4, seed=i) @ drawn(4, 32, seed=99) for i in range(count)]


def compiled(data: list[Any], model: nn.Module = MODEL, **options: Any) -> Any:
    return tdsl.compile(
        model,
        (drawn(8, 32),),
        dynamic_shapes=FREE,
        pipeline="pipelines.compact",
        parameters={"size": 0.6, "drop": 0.5},
        calibration=data,
        latency=False,
        **options,
    )


@pytest.mark.parametrize(
    "at", [0, 3, 9]
)  # what plans are fitted to, what the contract and what plans are judged by
@pytest.mark.parametrize(("bad", "held"), [(math.nan, "NaN"), (math.inf, "an infinity")])
def test_an_input_that_holds_no_number_is_named_with_its_sample_and_place(at, bad, held) -> None:
    data = batches()
    data[at][2, 5] = bad
    with pytest.raises(
        tdsl.TdslError, match=rf"calibration sample {at + 1}: its input input holds {held}"
    ) as told:
        compiled(data)
    assert "input[2, 5] is the first of 1" in (told.value.hint or "")


def test_so_is_one_that_is_held_out_and_one_of_a_single_batch_that_is_divided() -> None:
    held_out = batches(2)
    held_out[1][0, 0] = math.nan
    with pytest.raises(tdsl.TdslError, match="on held-out sample 2: its input input holds NaN"):
        compiled(batches(), held_out=held_out)
    one = torch.cat(batches())
    one[40, 1] = math.nan
    with pytest.raises(tdsl.TdslError, match="on rows 36 to 41 of calibration sample 1: its input") as told:
        tdsl.factorize(MODEL, (drawn(8, 32),), rank=0.6, calibration=[one], dynamic_shapes=FREE)
    assert "input[4, 1] is the first of 1" in (told.value.hint or "")


class Powers(nn.Module):
    """Logarithms of what may be 0, which are infinite, or of what may be less, which are NaN."""

    def __init__(self, lowest: float) -> None:
        super().__init__()
        self.net, self.lowest = MODEL, lowest

    def forward(self, input: Tensor) -> Tensor:
        return (self.net(input).relu() + self.lowest).log()


@pytest.mark.parametrize(("lowest", "what"), [(0.0, "infinite"), (-0.01, "NaN")])
def test_outputs_that_the_model_itself_makes_no_numbers_are_named(lowest, what) -> None:
    with pytest.raises(
        tdsl.TdslError, match=rf"is {what} on calibration sample \d+, though its inputs are numbers"
    ):
        compiled(batches(), Powers(lowest))
    # Control: numbers, and infinities where nothing is planned by them.
    compiled(batches(), Powers(0.5))
    exact = tdsl.compile(
        Powers(0.0), (drawn(8, 32),), dynamic_shapes=FREE, calibration=batches(), latency=False
    )
    assert exact.report.correctness.passed or lowest


class Masked(nn.Module):
    """Means over the positions at which an additive mask is 0."""

    def __init__(self) -> None:
        super().__init__()
        self.net = MODEL

    def forward(self, input: Tensor, mask: Tensor) -> Tensor:
        return torch.einsum("bs,bsn->bn", mask.softmax(-1), self.net(input))


def test_infinities_of_an_additive_mask_are_numbers_enough() -> None:
    def sample(seed: int) -> tuple[Tensor, Tensor]:
        mask = torch.zeros(3, 5)
        mask[:, 3:] = -math.inf
        return drawn(3, 5, 32, seed=seed), mask

    free = {"input": {0: "batch"}, "mask": {0: "batch"}}
    smaller = tdsl.factorize(
        Masked().eval(),
        sample(0),
        rank=0.7,
        calibration=[sample(i) for i in range(1, 12)],
        dynamic_shapes=free,
    )
    assert bool(smaller(*sample(20)).isfinite().all())


class Bounded(nn.Module):
    """Gives numbers even for an input that is infinite."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(32, 48), nn.Tanh(), nn.Linear(48, 4))

    def forward(self, input: Tensor) -> Tensor:
        return self.net(input)


@pytest.mark.parametrize("pipeline", ["pipelines.compact", "steps"])
def test_an_infinity_that_only_sums_feel_is_named_with_its_sample_and_place(pipeline, tmp_path) -> None:
    """By a plan, and by a rule that asks for statistics on its own."""
    path = tmp_path / "steps.tdsl"
    path.write_text(
        "pipeline steps { once factorize.linear.two_sided_linear(rank=2)\n check error <= 100% }\n"
    )
    data = batches()
    data[4][2, 5] = math.inf
    model = Bounded().eval()
    assert model(data[4]).isfinite().all()
    options = {"size": 0.6, "drop": 0.5} if pipeline != "steps" else {}

    def run() -> Any:
        return tdsl.compile(
            model,
            (drawn(8, 32),),
            dynamic_shapes=FREE,
            pipeline=pipeline,
            rules=path,
            parameters=options,
            calibration=data,
            latency=False,
        )

    with pytest.raises(tdsl.TdslError, match="on calibration sample 5: its input input holds an inf") as told:
        run()
    assert "input[2, 5] is the first of 1" in (told.value.hint or "")
    data[4][2, 5] = 1.0
    assert run().report.rewrites


class Scores(nn.Module):
    """Scores of actions, -inf for those that are ruled out."""

    def __init__(self) -> None:
        super().__init__()
        self.net = MODEL

    def forward(self, input: Tensor, out: Tensor) -> Tensor:
        return self.net(input).masked_fill(out, -math.inf)


def test_scores_of_what_is_ruled_out_are_planned_by_the_others() -> None:
    def sample(seed: int) -> tuple[Tensor, Tensor]:
        return drawn(8, 4, seed=seed) @ drawn(4, 32, seed=99), drawn(8, 4, seed=50 + seed) > 0.5

    smaller = tdsl.factorize(
        Scores().eval(),
        sample(0),
        rank=0.6,
        calibration=[sample(i) for i in range(1, 40)],
        dynamic_shapes={"input": {0: "batch"}, "out": {0: "batch"}},
    )
    inputs, out = sample(60)
    found, expected = smaller(inputs, out), Scores()(inputs, out)
    assert found.isinf().equal(out)
    assert float((found - expected).detach()[~out].norm() / expected[~out].norm()) < 0.05
    assert sum(p.numel() for p in smaller.parameters()) <= 0.6 * sum(p.numel() for p in MODEL.parameters())


def labelled(wrong: int | float, at: int) -> list[tuple[Tensor, Tensor]]:
    kind = torch.long if isinstance(wrong, int) else torch.float32
    data = [(x, torch.arange(8).to(kind) % 4) for x in batches()]
    data[at][1][3] = wrong
    return data


def test_samples_that_do_not_fit_are_counted_as_the_user_does() -> None:
    """The fourth of eight is held out, and the fifth is not the fourth for it."""
    with pytest.raises(tdsl.TdslError, match=r"sample 'calibration 5', input 'input' has shape \[8, 31\]"):
        compiled([*batches(4), drawn(8, 31), *batches(3)])
    with pytest.raises(tdsl.TdslError, match="the labels of calibration sample 6 have shape"):
        compiled([(x, torch.arange(8 - (i == 5)) % 4) for i, x in enumerate(batches())], loss="cross_entropy")


def test_a_sample_with_tensors_in_a_dict_is_told_what_they_are_called() -> None:
    with pytest.raises(tdsl.TdslError, match="calibration sample 1 holds a dict") as told:
        tdsl.factorize(
            Nested().eval(), ({"a": drawn(4, 8), "b": drawn(4, 8)},), calibration=[({"a": drawn(4, 8)},)]
        )
    assert "a dict by name has all: x_a, x_b" in (told.value.hint or "")


class Nested(nn.Module):
    """Two inputs in a dict."""

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        return x["a"] + x["b"]


@pytest.mark.parametrize("label", [4, -1])
def test_labels_out_of_range_are_named(label) -> None:
    with pytest.raises(
        tdsl.TdslError, match=rf"fails on calibration sample 6: .*Target {label} is out of bounds"
    ):
        compiled(labelled(label, 5), loss="cross_entropy")
    with pytest.raises(tdsl.TdslError, match=rf"count a label {label} of calibration sample 4: .* 4 classes"):
        compiled(labelled(label, 3), metric="accuracy")
    # Control: what torch ignores is not counted.
    assert compiled(labelled(-100, 3), metric="accuracy").report.tasks[0].samples == 24


def test_what_a_metric_cannot_judge_is_named_before_anything_is_planned() -> None:
    """The eighth is the second of those held out; control: a plan looks at labels for a loss alone."""
    said: list[str] = []
    with pytest.raises(tdsl.TdslError, match="count a label 9 of calibration sample 8"):
        compiled(labelled(9, 7), metric="accuracy", progress=said.append)
    assert "rewrite" not in said
    with pytest.raises(tdsl.TdslError, match="count a label 9 of held-out sample 2"):
        compiled(batches(), held_out=labelled(9, 1), metric="accuracy")
    compiled(labelled(9, 4), metric="accuracy")
    with pytest.raises(tdsl.TdslError, match="the metric share is nan on calibration sample 8"):
        compiled(labelled(9, 7), metric=share)
    silent = [(x, torch.full((8,), -100)) for x in batches()]
    with pytest.raises(tdsl.TdslError, match="accuracy has nothing to count"):
        compiled(silent, metric="accuracy")


def share(output: Tensor, labels: Tensor) -> float:
    """No number where some label is 9."""
    return math.nan if bool((labels == 9).any()) else 0.5


def test_a_loss_that_is_no_number_and_labels_that_are_none_are_named() -> None:
    with pytest.raises(tdsl.TdslError, match="the loss is nan on calibration sample 1"):
        compiled(labelled(0, 0), loss=lambda output, labels: output.sum() * math.nan)
    with pytest.raises(tdsl.TdslError, match="the labels of calibration sample 5 hold NaN"):
        compiled(labelled(math.nan, 4), loss=lambda output, labels: (output[:, 0] - labels).square().mean())
