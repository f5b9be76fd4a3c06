"""`check symmetry` in a pipeline: the graph is audited and its file certified, or nothing is written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from contracts import D4
from p4m import P4M
from torch import Tensor, nn

import tdsl
from tdsl.compiler import Result
from tdsl.errors import TdslError
from tdsl.lang import format_file, parse
from tdsl.sweeper import Point
from tdsl.symmetry.kept import BrokenSymmetry

IMAGE = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))
CLEAN = "    repeat cleanup.*, fold.* until stable\n"


def compiled(folder: Path, model: nn.Module, steps: str, parameters: str = "") -> Result:
    path = folder / "net.tdsl"
    path.write_text(f"{D4}\npipeline p{parameters} {{\n{steps}}}\n", encoding="utf-8")
    return tdsl.compile(
        model.eval(),
        (IMAGE,),
        pipeline="net.p",
        rules=path,
        output=folder / "net.onnx",
        latency=False,
        input_names=["image"],
        output_names=["output"],
    )


def test_a_symmetric_net_is_certified(tmp_path: Path) -> None:
    result = compiled(tmp_path, P4M((2, 2)), CLEAN + "    check symmetry invariant\n")
    [note] = [note for note in result.report.notes if note.kind == "symmetry"]
    assert note.text.startswith("invariant (dihedral(4)) is kept: defect ")
    assert "onnxruntime" in note.text and "float32" in note.text and "reference, float64" in note.text
    assert (tmp_path / "net.onnx").exists()


def test_what_the_model_breaks_is_named(tmp_path: Path) -> None:
    """A stride that ends before the border: the operator, its line, and why."""
    model = P4M((2, 2))
    model.layers[3].stride = (2, 2)
    with pytest.raises(BrokenSymmetry, match="does not keep invariant") as broken:
        compiled(tmp_path, model, CLEAN + "    check symmetry invariant\n")
    assert "net.tdsl:17:11" in str(broken.value.span)
    hint = broken.value.hint or ""
    assert hint.startswith("r breaks first at conv2d (layers.3, ") and "stride 2, kernel 3" in hint
    assert "the model as it was given does not keep it either" in hint
    assert not (tmp_path / "net.onnx").exists()


def test_the_rewrite_that_breaks_it_is_named(tmp_path: Path) -> None:
    """A truncated convolution is no longer equivariant; the model that was given is."""
    steps = (
        CLEAN + "    once factorize.conv.spatial_svd(rank=1)\n    check error <= 100%, symmetry invariant\n"
    )
    with pytest.raises(BrokenSymmetry) as broken:
        compiled(tmp_path, P4M((4, 4)), steps)
    hint = broken.value.hint or ""
    assert "breaks first at conv2d (layers." in hint
    assert "factorize.conv.spatial_svd at layers." in hint and "is the one that breaks it" in hint


def test_a_bound_of_its_own(tmp_path: Path) -> None:
    """What a symmetry declares is too strict for weights that are tied up to 1e-3, and `within` is not."""
    model = P4M((2, 2))
    with torch.no_grad():
        model.layers[3].weight[3, 1, 0, 1] += 1e-3
    with pytest.raises(BrokenSymmetry, match="does not keep"):
        compiled(tmp_path, model, CLEAN + "    check symmetry invariant\n")
    steps = CLEAN + "    check symmetry invariant within slack\n"
    result = compiled(tmp_path, model, steps, "(slack: Real = 1e-3)")
    assert any("tolerance 1.0e-03" in note.text for note in result.report.notes)


class Constant(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) * 1e-30 + 1.0


def test_a_constant_keeps_everything_for_no_reason(tmp_path: Path) -> None:
    with pytest.raises(BrokenSymmetry, match="for no reason"):
        compiled(tmp_path, Constant(), "    check symmetry invariant\n")


@pytest.mark.parametrize(
    ("check", "said"),
    [
        ("symmetry invarant", "there is no symmetry `invarant`"),
        ("symmetry invariant within 0", "a symmetry holds within a relative defect"),
        ("symmetry invariant within true", "a symmetry holds within a relative defect"),
    ],
)
def test_mistakes_are_found_before_the_model_is_looked_at(tmp_path: Path, check: str, said: str) -> None:
    with pytest.raises(TdslError, match=said) as wrong:
        compiled(tmp_path, P4M((2, 2)), f"    check {check}\n")
    assert wrong.value.span is not None


def test_form() -> None:
    text = "pipeline p {\n    check error <= 1%, symmetry upright, symmetry digits within 0.01\n}\n"
    assert format_file(parse(text)) == text
    loose = "pipeline p { check symmetry digits  within 0.01,error<=1%, symmetry upright }"
    assert format_file(parse(loose)).splitlines()[1] == (
        "    check error <= 1%, symmetry digits within 0.01, symmetry upright"
    )


def swept(folder: Path, rule: str, share: float, check: str) -> Point:
    """The plan of a size that one rule gives."""
    path = folder / "net.tdsl"
    steps = (
        f"    choose {rule} minimize error subject to parameters <= 50%\n    check error <= 1000%{check}\n"
    )
    path.write_text(f"{D4}\npipeline p {{\n{steps}}}\n", encoding="utf-8")
    curve = tdsl.sweep(
        P4M((4, 4)).eval(),
        (IMAGE,),
        pipeline="net.p",
        rules=path,
        calibration=[IMAGE, IMAGE.flip(0), IMAGE.mT],
        input_names=["image"],
        output_names=["output"],
        shares=(share,),
    )
    [point] = curve.points
    assert point.sites and point.error > 1e-3
    return point


def test_a_sweep_says_which_plans_keep_a_symmetry(tmp_path: Path) -> None:
    """Truncated convolutions break it; a truncated classifier of invariant features does not."""
    wide = swept(tmp_path, "factorize.linear.svd_linear", 0.99, ", symmetry invariant")
    [kept] = wide.symmetries
    assert (kept.name, kept.verdict) == ("invariant", "kept") and kept.defect < kept.tolerance == 1e-9
    [broken] = swept(
        tmp_path, "factorize.conv.spatial_svd", 0.5, ", symmetry invariant within 1e-6"
    ).symmetries
    assert broken.verdict == "broken" and broken.defect > 1e-3 and broken.tolerance == 1e-6
    assert swept(tmp_path, "factorize.conv.spatial_svd", 0.5, "").symmetries == ()
