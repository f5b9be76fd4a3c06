"""`tdsl audit`: kept contracts, the layer at which one breaks, controls, continuous groups, messages."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from contracts import D4, O3, SETS, DeepSet, Weighted, contract
from p4m import P4M
from torch import Tensor, nn
from typer.testing import CliRunner

from tdsl.capture import capture
from tdsl.cli.app import app
from tdsl.errors import TdslError
from tdsl.symmetry.audit import Audit, Element, Lie, audit
from tdsl.symmetry.probe import relative

IMAGE = (2, 3, 12, 12)


def held(model: nn.Module, text: str, *shapes: tuple[int, ...]) -> Audit:
    generator = torch.Generator().manual_seed(3)
    example = tuple(torch.randn(shape, generator=generator) for shape in shapes)
    return audit(capture(model.eval(), example), contract(text))


def test_a_planted_symmetry_is_kept_and_follows_from_exact_laws() -> None:
    found = held(P4M((2, 2)), D4, IMAGE)
    assert found.verdict == "kept"
    assert found.defect < 1e-14
    assert found.control > 1e-3
    assert found.first_broken is None
    assert [element.name for element in found.elements] == ["r", "s"]
    assert all(element.proved for element in found.elements)


@pytest.mark.parametrize("layer", [0, 3])
def test_a_layer_that_is_broken_is_found_at_that_layer(layer: int) -> None:
    model = P4M((2, 2))
    with torch.no_grad():
        model.layers[layer].weight[3, 1, 0, 1] += 0.05
    found = held(model, D4, IMAGE)
    assert found.verdict == "broken"
    assert found.first_broken is not None
    element, at = found.first_broken
    assert (element.name, at.module, at.operator) == ("r", f"layers.{layer}", "conv2d")
    assert at.own is not None and at.own > 1e-4
    assert at.source.endswith(".py:95") or "p4m.py:" in at.source
    others = [one for one in element.layers if one.node != at.node]
    assert all(one.own is not None and one.own < 1e-12 for one in others)  # not blamed for what came before


def test_weights_that_are_tied_up_to_float32_are_told_from_those_that_are_not() -> None:
    """A layer that was averaged in float32 is not blamed for a later one whose weight is off by more."""
    model = P4M((2, 2))
    with torch.no_grad():
        model.layers[0].weight *= 1 + 3e-7 * torch.randn_like(model.layers[0].weight)
    rounded = held(model, D4, IMAGE).first_broken
    assert rounded is not None and rounded[1].module == "layers.0"
    assert "tied up to rounding in float32; a tolerance of 1e-06 allows it" in rounded[1].why
    with torch.no_grad():
        model.layers[3].weight[3, 1, 0, 1] *= 1 + 1e-3
    both = held(model, D4, IMAGE).first_broken
    assert both is not None and both[1].module == "layers.3"
    assert "its weights are tied up to" in both[1].why


def test_a_stride_is_blamed_with_its_reason() -> None:
    model = P4M((2, 2))
    model.layers[3].stride = (2, 2)
    found = held(model, D4, IMAGE)
    assert found.first_broken is not None
    at = found.first_broken[1]
    assert at.module == "layers.3"
    assert at.reason == (
        "stride 2, kernel 3, padding 1 on even width 12: rot90(height, width) does not commute;"
        " width 13, kernel 4 or stride 1 does"
    )


def test_random_weights_keep_nothing() -> None:
    model = P4M((2, 2))
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.1)
    found = held(model, D4, IMAGE)
    assert found.verdict == "broken"
    assert found.first_broken is not None
    assert found.first_broken[1].module == "layers.0"


def test_what_does_not_vary_is_vacuous() -> None:
    model = P4M((2, 2))
    nn.init.zeros_(model.classifier.weight)
    found = held(model, D4, IMAGE)
    assert (found.verdict, found.defect, found.control) == ("vacuous", 0.0, 0.0)
    nn.init.zeros_(model.classifier.bias)  # zero itself
    assert held(model, D4, IMAGE).verdict == "vacuous"


def test_what_the_contract_leaves_alone_is_no_reason_to_vary() -> None:
    class Beside(nn.Module):
        def __init__(self, seen: float) -> None:
            super().__init__()
            self.seen = seen

        def forward(self, points: Tensor, offset: Tensor) -> Tensor:
            return offset + self.seen * points.sum(1)

    text = SETS.replace("output output: [b, n, k] by shuffle", "output output: [b, d] invariant")
    shapes = (2, 5, 4), (2, 4)
    assert held(Beside(1.0), text, *shapes).verdict == "kept"
    assert held(Beside(0.0), text, *shapes).verdict == "vacuous"


@pytest.mark.parametrize("count", [1, 2])
def test_a_group_that_moves_nothing_says_nothing(count: int) -> None:
    text = """\
group Two = cyclic(2)
action turn of Two on [..., n] { generator: flip(x, dims=[n]) }
symmetry even { group Two input x: [b, n] by turn output output: [b] invariant }
"""

    class Product(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(x).prod(1)

    if count > 1:
        assert held(Product(), text, (3, count)).verdict == "kept"
    else:
        with pytest.raises(TdslError, match="leaves inputs of these sizes as they are"):
            held(Product(), text, (3, count))


def audited(
    *defects: tuple[float, float], controls: tuple[float, float] = (1.0, 0.0), lie: Any = ()
) -> Audit:
    """Of a model whose second output nothing is claimed of."""
    elements = [Element(f"g{i}", "", (), one, controls, proved=False) for i, one in enumerate(defects)]
    slopes = [Lie(f"A{i}", one) for i, one in enumerate(lie)]
    known = ("c", "G", 1e-9, ("x",), ("y", "z"), (True, False), tuple(elements), tuple(slopes))
    return Audit(*known, samples=2)


FINE = (1e-12, 0.0)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (audited(FINE, FINE), "kept"),
        (audited(FINE, (2e-9, 0.0)), "broken"),
        (audited((2e-9, 0.0), FINE), "broken"),
        (audited((float("inf"), 0.0), FINE, controls=(0.0, 0.0)), "broken"),
        (audited(FINE, controls=(1.1e-8, 0.0)), "kept"),  # ten tolerances
        (audited(FINE, controls=(0.9e-8, 1.0)), "vacuous"),
        (audited(FINE, lie=((0.9e-7, 0.0), FINE)), "kept"),  # a hundred
        (audited(FINE, lie=((1.1e-7, 0.0), FINE)), "broken"),
        (audited(FINE, lie=(FINE, (1.1e-7, 0.0))), "broken"),
    ],
)
def test_every_element_and_every_derivative_must_be_small_and_controls_large(
    found: Audit, verdict: str
) -> None:
    assert found.verdict == verdict


def test_how_far_two_tensors_are_apart() -> None:
    one, inf = torch.ones(4, dtype=torch.float64), float("inf")
    assert relative(one, one) == relative(0 * one, 0 * one) == 0
    assert relative(1.5 * one, one) == 0.5 and relative(1e-6 * one, 0 * one) == inf
    assert relative(one[:3], one) == relative(one * float("nan"), one) == relative(one * inf, one) == inf
    masked = torch.tensor([1.0, -inf])
    assert relative(masked, masked) == 0 and relative(masked, -masked) == inf
    near = 1e-10 * one  # of operands of norm 10³ that is rounding, of others it is not
    assert relative(near, 0 * one, 1e4) == pytest.approx(2e-14)
    assert relative(near, 0 * one, 1e2) == inf
    assert relative(one + near, one, 1e4) == pytest.approx(2e-14)
    assert relative(one + near, one, 1e2) == pytest.approx(1e-10)


def test_permutations_of_points_for_any_weights() -> None:
    found = held(DeepSet(), SETS, (2, 5, 4))
    assert found.verdict == "kept" and all(element.proved for element in found.elements)
    claimed = held(DeepSet(), SETS.replace("[b, n, k] by shuffle", "[b, n, k] invariant"), (2, 5, 4))
    assert claimed.verdict == "broken" and not any(element.proved for element in claimed.elements)
    assert {layer.strength for element in found.elements for layer in element.layers} == {"structural"}

    class Ordered(DeepSet):
        def forward(self, points: Tensor) -> Tensor:
            return super().forward(points) + 1e-3 * torch.cumsum(points.sum(-1, keepdim=True), 1)

    broken = held(Ordered(), SETS, (2, 5, 4))
    assert broken.first_broken is not None
    assert broken.first_broken[1].operator == "cumsum"


def test_another_law_than_the_declared_one_is_named() -> None:
    class Mirrored(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return image.relu().transpose(-1, -2)

    turned = D4.replace("[N, K] invariant", "[N, C, H, W] by square")
    found = held(Mirrored(), turned, IMAGE)
    assert found.verdict == "broken" and found.first_broken is None
    assert [element.reason for element in found.elements] == [
        "rot90(-1, -2) acts on output, and the contract says rot90(-2, -1)",
        "flip(-2) acts on output, and the contract says flip(-1)",
    ]

    class Relu(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return image.relu()

    still = held(Relu(), D4.replace("[N, K]", "[N, C, H, W]"), IMAGE)
    assert still.elements[1].reason == "flip(-1) acts on output, and the contract says that it is invariant"
    kept = held(Relu(), turned, IMAGE)
    assert kept.verdict == "kept" and not any(element.reason for element in kept.elements)


def test_several_inputs_and_outputs_move_in_their_own_ways() -> None:
    text = (
        SETS.partition("symmetry")[0]
        + """\
action pairs of Sn on [..., n, n] { generator: g @ x @ g.T }

symmetry graph {
    group Sn
    input nodes: [b, n, d] by shuffle
    input edges: [b, n, n] by pairs
    output states: [b, n, k] by shuffle
    output total: [b, k] invariant
}
"""
    )

    class Passing(nn.Module):
        def __init__(self, wrong: bool = False) -> None:
            super().__init__()
            self.dense, self.wrong = nn.Linear(3, 4), wrong

        def forward(self, nodes: Tensor, edges: Tensor) -> dict[str, Tensor]:
            weights = edges.softmax(1 if self.wrong else -1)
            states = torch.relu((weights.mT if self.wrong else weights) @ self.dense(nodes))
            return {"states": states, "total": states[:, 0] if self.wrong else states.sum(1)}

    found = held(Passing(), text, (2, 5, 3), (2, 5, 5))
    assert found.verdict == "kept"
    assert found.claimed == (True, True)
    assert all(element.proved for element in found.elements)
    broken = held(Passing(wrong=True), text, (2, 5, 3), (2, 5, 5))
    assert broken.elements[0].defects[0] < 1e-12 < broken.elements[0].defects[1]
    assert broken.first_broken is not None
    assert broken.first_broken[1].operator == "select"


def test_a_matrix_group_that_is_infinite() -> None:
    text = """\
group Shears = generated([[1, 1], [0, 1]])
action shear of Shears on [..., 2] { generator: x @ g.T }
symmetry second { group Shears input x: [n, 2] by shear output output: [n] invariant }
"""

    class Second(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(x[:, 1])

    assert held(Second(), text, (4, 2)).verdict == "kept"


def test_a_continuous_group_by_random_elements_and_its_algebra() -> None:
    found = held(Weighted(), O3, (2, 5, 3))
    assert [element.name for element in found.elements] == ["mirror", "random 1", "random 2"]
    assert [one.name for one in found.algebra] == ["A1", "A2", "A3"]
    assert found.verdict == "kept"
    assert all(one.defects[0] < 1e-11 for one in found.algebra)
    broken = held(Weighted(1e-5), O3, (2, 5, 3))
    assert broken.verdict == "broken"
    assert all(1e-8 < one.defects[0] < 1e-2 for one in broken.algebra)
    assert broken.first_broken is not None
    assert broken.first_broken[1].reason == "relu is not odd: relu(-x) is not -relu(x)"


def test_lie_derivatives_alone_see_what_generators_miss() -> None:
    """SO(2) by its algebra: a function that only quarter turns leave alone."""
    text = """\
group R = SO(2)
action rotate of R on [..., 2] { generator: x @ g.T }
symmetry flat { group R input x: [n, 2] by rotate output output: [n] invariant tolerance 1e-9 }
"""

    class Quartic(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x**4).sum(-1)

    class Square(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.linalg.vector_norm(x, dim=-1)

    quartic = held(Quartic(), text, (3, 2))
    assert quartic.algebra[0].defects[0] > 1e-2
    assert held(Square(), text, (3, 2)).verdict == "kept"


def test_a_derivative_that_is_no_number_is_measured_by_differences() -> None:
    """Forward differentiation says NaN of √0, which is no small number."""

    class Clipped(Weighted):
        def forward(self, points: Tensor) -> Tensor:
            squares = (points * points).sum(-1, keepdim=True)
            return super().forward(points + points * torch.sqrt(torch.relu(squares - 100)))

    kept, broken = held(Clipped(), O3, (2, 5, 3)), held(Clipped(1e-3), O3, (2, 5, 3))
    assert (kept.verdict, broken.verdict) == ("kept", "broken")
    assert all(0 < one.defects[0] < 1e-9 for one in kept.algebra)
    assert all(1e-6 < one.defects[0] < 1 for one in broken.algebra)


def test_an_input_whose_shape_must_not_change() -> None:
    class Fixed(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return image.reshape(2, 3, 4, 6).mean((1, 2, 3))[:, None]

    found = held(Fixed(), D4, (2, 3, 4, 6))
    assert found.verdict == "kept" or found.elements[0].reason  # the mean does not mind


def test_of_several_outputs_a_contract_names_one_and_a_single_one_has_any_name() -> None:
    class Two(nn.Module):
        def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
            return image.mean((-2, -1)), image.amax((-2, -1))

    image = (torch.randn(2, 3, 4, 4),)
    with pytest.raises(TdslError, match="the model has no output `output`"):
        audit(capture(Two(), image, output_names=["mean", "peak"]), contract(D4))
    named = D4.replace("output output", "output peak")
    assert audit(capture(Two(), image, output_names=["mean", "peak"]), contract(named)).verdict == "kept"

    class One(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return image.mean((-2, -1))

    assert (
        audit(capture(One(), image), contract(D4.replace("output output", "output logits"))).verdict == "kept"
    )


# ---------------------------------------------------------------- the command

MODELS = """\
import sys

import torch
from torch import nn

sys.path.insert(0, {tests!r})

from p4m import P4M


def good():
    return P4M((2, 2)).eval(), (torch.randn(2, 3, 12, 12),)


def strided():
    model, example = good()
    model.layers[3].stride = (2, 2)
    return model, example


def constant():
    model, example = good()
    nn.init.zeros_(model.classifier.weight)
    return model, example


class Outer(nn.Module):
    def forward(self, x):
        return torch.outer(x, x.abs().sum()[None]).sum(1)


def outer():
    return Outer(), (torch.randn(6),)
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(MODELS.format(tests=str(Path(__file__).parent)), encoding="utf-8")
    Path("d4.tdsl").write_text(D4, encoding="utf-8")

    def invoke(*arguments: str) -> Any:
        result = CliRunner().invoke(app, list(arguments), prog_name="tdsl")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


def test_the_command_says_kept_broken_or_vacuous(run: Callable[..., Any]) -> None:
    good = run("audit", "net.py:good", "d4.tdsl")
    assert good.exit_code == 0
    assert good.stdout.startswith("KEPT  net.py:good against invariant (dihedral(4)): defect ")
    assert good.stdout.count("follows from exact laws") == 2
    assert "and 3 operators that any weights would pass" in good.stdout
    broken = run("audit", "net.py:strided", "d4.tdsl", "--all")
    assert broken.exit_code == 1
    assert broken.stdout.startswith("BROKEN  ")
    assert "r breaks first at conv2d (layers.3), " in broken.stdout
    assert (
        "\n  stride 2, kernel 3, padding 1 on even width 12: rot90(height, width) does not" in broken.stdout
    )
    vacuous = run("audit", "net.py:constant", "d4.tdsl")
    assert vacuous.exit_code == 1
    assert vacuous.stdout.startswith("VACUOUS  ")


def test_the_audit_as_data(run: Callable[..., Any]) -> None:
    result = run("audit", "net.py:strided", "d4.tdsl", "--json")
    found = json.loads(result.stdout)
    assert found["format"] == "tdsl-audit/1"
    assert found["verdict"] == "broken"
    assert found["broken_at"] == {"element": "r", "node": "conv2d_1"}
    assert found["seeds"] == [0, 1]
    layers = found["elements"][0]["layers"]
    assert [layer["strength"] for layer in layers][:3] == ["weights", "weights", "structural"]


def test_given_inputs_are_measured_too(run: Callable[..., Any]) -> None:
    import numpy as np

    np.savez("images.npz", image=np.random.default_rng(0).standard_normal((3, *IMAGE)).astype("float32"))
    assert "on 5 inputs" in run("audit", "net.py:good", "d4.tdsl", "--inputs", "images.npz").stdout


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("input image", "input picture"), "the model has no input `picture`"),
        (("[N, C, H, W] by", "[N, 4, H, W] by"), "this size of image is 3 in the model"),
        (("output output: [N, K]", "output output: [N, K, L]"), "output output has shape [2, 5]"),
        (("symmetry invariant {", "symmetry invariant { }\n{"), "unexpected `}`"),
    ],
)
def test_a_contract_that_does_not_fit_says_why(
    run: Callable[..., Any], change: tuple[str, str], message: str
) -> None:
    Path("wrong.tdsl").write_text(D4.replace(*change), encoding="utf-8")
    result = run("audit", "net.py:good", "wrong.tdsl")
    assert result.exit_code == 1
    assert message in result.stderr
    assert "wrong.tdsl:" in result.stderr


def test_a_compiled_file_is_for_the_other_command(run: Callable[..., Any]) -> None:
    result = run("audit", "net.onnx", "d4.tdsl")
    assert "error: net.onnx is a compiled file" in result.stderr
    assert "hint: `tdsl certify` takes ONNX files" in result.stderr


def test_a_file_without_a_symmetry(run: Callable[..., Any]) -> None:
    Path("none.tdsl").write_text("group C4 = cyclic(4)\n", encoding="utf-8")
    said = run("audit", "net.py:good", "none.tdsl").stderr
    assert "error: no symmetry is declared" in said and "expected: `symmetry NAME { … }`" in said
    two = D4 + D4[D4.index("symmetry ") :].replace("symmetry ", "symmetry another_", 1)
    Path("two.tdsl").write_text(two, encoding="utf-8")
    assert "hint: `--symmetry NAME`" in run("audit", "net.py:good", "two.tdsl").stderr


LAW = """\
/// A flip of the first factor is one of the rows.
law outer_flip {
    outer(flip(x, [-1]), y) == flip(outer(x, y), [-2])
}

"""

MIRROR = """\
group C2 = cyclic(2)

action mirror of C2 on [n] {
    generator: flip(x, dims=[n])
}

symmetry even {
    group C2
    input x: [n] by mirror
    output output: [n] by mirror
}
"""


def test_a_law_of_the_file_passes_what_no_transfer_does(run: Callable[..., Any]) -> None:
    Path("mirror.tdsl").write_text(MIRROR, encoding="utf-8")
    Path("law.tdsl").write_text(LAW + MIRROR, encoding="utf-8")
    without = run("audit", "net.py:outer", "mirror.tdsl", "--all")
    assert without.exit_code == 0
    assert "as measured where no law is known" in without.stdout
    assert "follows from exact laws" not in without.stdout
    with_law = run("audit", "net.py:outer", "law.tdsl", "--all")
    assert "follows from exact laws" in with_law.stdout
    wrong = LAW.replace("[-2])\n}", "[-1])\n}")
    Path("wrong.tdsl").write_text(wrong + MIRROR, encoding="utf-8")
    assert run("audit", "net.py:outer", "wrong.tdsl").exit_code == 1  # a law that is wrong does not load
