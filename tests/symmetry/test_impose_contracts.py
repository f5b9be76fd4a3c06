"""A declared symmetry that a model breaks is kept by the wrapped one: under audit, and as a file."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from imposed_models import classifier, images
from torch import nn

from tdsl.capture import capture
from tdsl.emit import emit
from tdsl.errors import TdslError
from tdsl.symmetry.audit import audit
from tdsl.symmetry.certify import certify
from tdsl.symmetry.contract import Contract
from tdsl.symmetry.declarations import declarations_of
from tdsl.symmetry.impose import Canonicalise, GenericScore, GroupAverage, declared_moves

TEXT = """
group D4 = dihedral(4)

action square of D4 on [..., H, W] {
    generator: rot90(x, dims=(H, W))
    generator: flip(x, dims=[W])
}

symmetry digits {
    group D4
    input x: [N, C, H, W] by square
    output OUT: [N, K] invariant
    tolerance 1e-5
}

group Turns = SO(3)

action pose of Turns on [..., n, 3] {
    generator: x @ g.T
}

symmetry poses {
    group Turns
    input x: [N, n, 3] by pose
    output OUT: [N, K] invariant
}
"""
X = images(2, 3, 9, 9)


def contract_of(module: nn.Module, folder: Path, name: str = "digits") -> tuple[Contract, str]:
    """The contract, with the name that capturing gives the output of the module."""
    [output] = capture(module.eval(), (X,)).output_names
    (folder / "contract.tdsl").write_text(TEXT.replace("OUT", output))
    return declarations_of([folder / "contract.tdsl"]).contract(name), output


def wrappers(folder: Path) -> list[nn.Module]:
    contract, output = contract_of(classifier(), folder)
    into, out = declared_moves(contract, {"x": X.shape}, {output: (2, 5)})
    assert out == (None,)
    return [
        GroupAverage(classifier(), into, out),
        Canonicalise(classifier(), into, out, score=GenericScore(X.shape[1:])),
    ]


@pytest.mark.parametrize("which", [0, 1])
def test_a_declared_symmetry_is_imposed_audited_and_certified(tmp_path, which) -> None:
    module = wrappers(tmp_path)[which]
    assert module.check(X).passed
    contract, _ = contract_of(module, tmp_path)
    assert audit(capture(module.eval(), (X,)), contract).verdict == "kept"
    path = tmp_path / "model.onnx"
    model = emit(capture(module.eval(), (X,)))
    onnx.save(model, path)
    assert certify(str(path), model, contract, [(X,)]).verdict == "certified"


def test_the_model_alone_breaks_it(tmp_path) -> None:
    class Alone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = classifier()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x)

    contract, _ = contract_of(Alone(), tmp_path)
    assert audit(capture(Alone().eval(), (X,)), contract).verdict == "broken"


def test_a_continuous_group_is_not_summed_over(tmp_path) -> None:
    contract, output = contract_of(classifier(), tmp_path, "poses")
    with pytest.raises(TdslError, match="infinitely many") as raised:
        declared_moves(contract, {"x": (2, 10, 3)}, {output: (2, 5)})
    assert "FrameAverage" in str(raised.value.hint)
