"""Labels: gradients of a loss by them weigh errors by the task, whichever way the samples come."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import tdsl
from tdsl.cli.samples import samples_from
from tdsl.engine.census import copied
from tdsl.engine.journal import Journal
from tdsl.engine.library import Library
from tdsl.engine.statistics import request_of
from tdsl.errors import TdslError
from tdsl.lang import parse
from tdsl.plan.calibrate import Data, collect
from tdsl.plan.loss import Loss
from tdsl.prepare import prepare
from tdsl.verify import Input

SURE, HARD, TOPICS, NOISE = 12, 2, 2, 4
WIDTH = TOPICS + HARD + NOISE
BCE = "binary_cross_entropy_with_logits"


def pipeline(steps: str) -> Library:
    library = Library()
    library.add_file(parse(f"pipeline task(rank: Rank = 8) {{ {steps} check error <= 1000% }}", "task"), "")
    return library


WEIGHED = pipeline("once factorize.linear.two_sided_linear(rank=rank)")
BLIND = pipeline("once factorize.linear.svd_linear(rank=rank)")


class Answers(nn.Module):
    """Yes or no to 14 questions: twelve sure answers on two topics, with noise, and two quiet ones."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        weight = torch.zeros(SURE + HARD, WIDTH)
        weight[:SURE, :TOPICS] = 7 * torch.eye(TOPICS).repeat(SURE // TOPICS, 1)
        weight[:SURE, TOPICS + HARD :] = 0.6 * torch.randn(SURE, NOISE, generator=generator)
        weight[SURE:, TOPICS : TOPICS + HARD] = 1.2 * torch.eye(HARD)
        self.dense = nn.Linear(WIDTH, SURE + HARD)
        self.dense.weight.data, self.dense.bias.data = weight, torch.zeros(SURE + HARD)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(x)


def drawn(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Inputs, and labels as the answers say, one sure one in a hundred mistaken."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, WIDTH, generator=generator)
    x[:, :TOPICS] = x[:, :TOPICS].sign()
    with torch.no_grad():
        likely = torch.sigmoid(Answers()(x))
    likely[:, :SURE] = 0.98 * likely[:, :SURE].round() + 0.01
    return x, torch.bernoulli(likely, generator=generator)


def loader(seed: int = 3, *, shuffled: bool = False) -> DataLoader:
    x, y = drawn(768, seed)
    if shuffled:
        generator = torch.Generator().manual_seed(9)
        y = torch.stack([one[torch.randperm(len(y), generator=generator)] for one in y.T], 1)
    return DataLoader(TensorDataset(x, y), batch_size=96)


def run(data: object, rules: Library = WEIGHED, rank: int = 4, **arguments: object) -> tuple:
    """The truncated model, and what is said of the data."""
    made = prepare(
        Answers().eval(),
        torch.randn(4, WIDTH),
        dynamic_shapes=({0: "batch"},),
        pipeline="task",
        rules=rules,
        parameters={"rank": rank},
        calibration=data,
        verified=False,
        **arguments,
    )
    module = copied(made.captured.module)
    made.runner.run(module, Journal())
    return module, made.planner


def quiet_answers(module: nn.Module) -> float:
    """How many of the two quiet answers are right on other samples, where the sure ones are as they were."""
    x, y = drawn(2000, 77)
    with torch.no_grad():
        right = ((module(x) > 0) == (y > 0)).double().mean(0)
    assert right[:SURE].min() > 0.98
    return float(right[SURE:].mean())


def test_labels_keep_what_the_output_alone_and_wrong_labels_give_up() -> None:
    """The noise in sure answers is louder than the quiet answers, and no label is any different for it."""
    alone = quiet_answers(run([x for x, _ in loader()])[0])
    wrong = quiet_answers(run(loader(shuffled=True), loss=BCE)[0])
    right = quiet_answers(run(loader(), loss=BCE)[0])
    assert max(alone, wrong) < 0.55
    assert right > quiet_answers(Answers()) - 0.01 > 0.65


def test_a_file_comes_of_a_loader_of_labelled_samples() -> None:
    arguments = {"dynamic_shapes": ({0: "batch"},), "pipeline": "task", "rules": WEIGHED}
    arguments |= {"parameters": {"rank": 4}, "latency": False}
    x = torch.randn(4, WIDTH)
    made = tdsl.compile(Answers().eval(), x, calibration=loader(), loss=BCE, **arguments)
    assert [entry.rule for entry in made.report.rewrites] == ["factorize.linear.two_sided_linear"]
    assert quiet_answers(made.module) > 0.65
    with pytest.raises(TdslError, match="has 2 tensors") as caught:
        tdsl.compile(Answers().eval(), x, calibration=loader(), **arguments)
    assert "loss=" in caught.value.hint


class Two(nn.Module):
    """Of two inputs."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b


def both(count: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    a = torch.arange(12.0 * count).reshape(4 * count, 3)
    return a, a + 0.5, a[:, 0] * 2


def given_as(folder: Path, form: str) -> list:
    a, b, y = (list(one.split(4)) for one in both())
    match form:
        case "flat":
            return list(zip(a, b, y, strict=True))
        case "nested":
            return [((one, other), label) for one, other, label in zip(a, b, y, strict=True)]
        case "named":
            return [({"b": o, "a": x}, [label]) for x, o, label in zip(a, b, y, strict=True)]
        case "dict":
            return [{"labels": label, "b": o, "a": x} for x, o, label in zip(a, b, y, strict=True)]
        case _:
            stacked = {"a": torch.stack(a), "b": torch.stack(b), "labels": torch.stack(y)}
            path = str(folder / f"samples.{form}")
            if form == "npz":
                np.savez(path, **{name: one.numpy() for name, one in stacked.items()})
            else:
                save_file(stacked, path)
            inputs = [Input("a", a[0], {0: "n"}), Input("b", b[0], {0: "n"})]
            return samples_from(path, inputs, labelled=True, needed=True)


@pytest.mark.parametrize("form", ["flat", "nested", "named", "dict", "npz", "safetensors"])
@pytest.mark.parametrize("cut", [False, True])
def test_labels_go_with_their_inputs_through_every_split(tmp_path: Path, form: str, cut: bool) -> None:
    known = given_as(tmp_path, form)
    if cut:  # fewer than four batches are cut, into parts of two here
        known = known[:2]
    x = torch.zeros(4, 3)
    made = prepare(
        Two(),
        (x, x),
        dynamic_shapes=({0: "n"}, {0: "n"}),
        calibration=known,
        loss=lambda output, labels: (output.sum(1) - labels).square().mean(),
        input_names=("a", "b"),
    )
    data, kept = made.planner.data, [one for one in made.samples if one.kind == "held-out"]
    pairs = [*zip(data.batches, data.labels, strict=True), *((one.inputs, one.labels) for one in kept)]
    assert len(data.batches) > 1 and kept and len(made.planner.judged_on.batches) > 0
    for (a, b), (labels,) in pairs:
        assert torch.equal(b, a + 0.5) and torch.equal(labels, a[:, 0] * 2)


def test_every_sample_counts_alike_whatever_its_batch() -> None:
    """The moment is that of the gradients of single samples, of batches of 1, 3 and 8."""
    model, (x, y) = Answers().eval(), drawn(12, 5)
    captured = tdsl.capture.capture(model, x[:2], dynamic_shapes=({0: "batch"},))
    node = next(n for n in captured.module.graph.nodes if n.op == "call_function")
    wanted = request_of("gradient_moment", node, -1, node.meta["val"])
    sizes = [1, 3, 8]
    parts = [(one,) for one in x.split(sizes)]
    data = Data.of(captured, parts, loss=Loss.of("mse_loss"), labels=[(one,) for one in y.split(sizes)])
    with torch.no_grad():
        single = 2 * (model(x) - y).double() / (SURE + HARD)
    found = collect(captured.module, data, [wanted]).answer(wanted)
    assert torch.allclose(found, single.T @ single / 12, rtol=1e-4, atol=1e-9)


def test_a_loss_that_no_rule_asks_for_is_said_to_be_unused() -> None:
    assert "the loss was not used" in run(loader(), BLIND, loss=BCE)[1].cautions()[0]
    assert not run(loader(), loss=BCE)[1].cautions()


# ---------------------------------------------------------------- mistakes


def pairs(change: Callable[[Tensor], object] = lambda y: y) -> list:
    x, y = drawn(64, 3)
    return [(one, change(label)) for one, label in zip(x.split(8), y.split(8), strict=True)]


@pytest.mark.parametrize(
    ("data", "loss", "message", "taught"),
    [
        ([x for x, _ in pairs()], BCE, "calibration sample 1 has no labels", "an entry `labels`"),
        (pairs(lambda y: y[:5]), BCE, "shape [5, 14] where its inputs are 8 samples", "8 entries"),
        (pairs(lambda y: y.tolist()), BCE, "labels of calibration sample 1 are a list", "as_tensor"),
        (pairs(), "cross_entropi", "no loss 'cross_entropi'", "did you mean `cross_entropy`?"),
        (pairs(), 3, "`loss` is an int", "name of one of torch.nn.functional"),
        (pairs(lambda y: y[:, :2]), BCE, "fails on calibration sample 1: ValueError", "float32 [8, 14]"),
        (pairs(), lambda out, y: (out - y).square(), "gives a tensor [8, 14]", "mean over the batch"),
        (pairs(), lambda out, y: float((out - y).detach().mean()), "gives a float", "without gradients"),
        (pairs(), lambda out, y: (out.argmax(1) == 0).float().mean(), "no gradient", "argmax"),
        (pairs(), lambda out, y: (out - y).mean() / 0, "on calibration sample 1", "finite"),
    ],
)
def test_mistakes_with_labels_and_losses_are_taught(
    data: list, loss: object, message: str, taught: str
) -> None:
    with pytest.raises(TdslError) as caught:
        run(data, loss=loss)
    assert message in caught.value.message
    assert taught in f"{caught.value.expected} {caught.value.hint}"


def test_a_file_of_samples_is_told_what_its_labels_are_for(tmp_path: Path) -> None:
    path, inputs = str(tmp_path / "x.npz"), [Input("a", torch.zeros(4, 3), {0: "n"})]
    np.savez(path, a=np.zeros((6, 4, 3)), labels=np.zeros((5, 4)))
    with pytest.raises(TdslError, match="an array labels") as caught:
        samples_from(path, inputs, labelled=False)
    assert "--loss" in caught.value.hint
    with pytest.raises(TdslError, match="6 of a, 5 of labels"):
        samples_from(path, inputs, labelled=True)
    np.savez(path, a=np.zeros((6, 4, 3)))
    with pytest.raises(TdslError, match="has no labels"):
        samples_from(path, inputs, labelled=True, needed=True)
    assert len(samples_from(path, inputs, labelled=True)) == 6
