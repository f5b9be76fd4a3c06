"""A table whose rows repeat is a smaller file, looked up through a map; one of other rows stays as it is."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import tdsl

WORDS, WIDTH, ROWS = 400, 32, 20
PIPELINE = """
pipeline small {{
    repeat {step} until stable
    check error <= {error}
}}
"""


class Labels(nn.Module):
    """Tokens in, a label for each of them out."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.words = nn.Embedding.from_pretrained(table, freeze=False)
        self.head = nn.Linear(WIDTH, 5)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(torch.tanh(self.words(ids)))


def repeated() -> Tensor:
    """400 rows that are 20."""
    drawn = torch.Generator().manual_seed(1)
    return torch.randn(ROWS, WIDTH, generator=drawn)[torch.randint(ROWS, (WORDS,), generator=drawn)]


def random() -> Tensor:
    return torch.randn(WORDS, WIDTH, generator=torch.Generator().manual_seed(2))


def compiled(table: Tensor, path, step: str, error: str = "1e-6") -> tuple[tdsl.Result, onnx.ModelProto, int]:
    """What is reported, the file and its bytes; every token is looked up, and looked up as the model does."""
    torch.manual_seed(0)
    model, ids = Labels(table).eval(), torch.arange(WORDS).reshape(8, 50)
    file, rules = path / "model.onnx", path / "planted.tdsl"
    rules.write_text(PIPELINE.format(step=step, error=error))
    result = tdsl.compile(
        model,
        (ids,),
        rules=rules,
        pipeline="planted.small",
        calibration=[(ids,)],
        output=file,
    )
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: ids.numpy()})[0]
    wanted = model(ids).detach().numpy()
    assert wanted.std(axis=1).min() > 0.1  # tokens differ
    assert np.linalg.norm(found - wanted) <= float(error) * np.linalg.norm(wanted)
    return result, onnx.load(file), file.stat().st_size


@pytest.mark.parametrize("rule", ["shared_rows", "shared_rows_frequent(rank=20)"])
def test_repeated_rows_are_stored_once(rule, tmp_path):
    _, _, before = compiled(repeated(), tmp_path, "cleanup.identity.*")
    result, model, after = compiled(repeated(), tmp_path, f"factorize.embedding.{rule}")
    [rewrite] = result.report.rewrites
    assert rewrite.rule == f"factorize.embedding.{rule.split('(')[0]}" and rewrite.site == "words"
    shapes = {tuple(tensor.dims): tensor.data_type for tensor in model.graph.initializer}
    assert shapes[ROWS, WIDTH] == onnx.TensorProto.FLOAT and (WORDS, WIDTH) not in shapes
    assert after < before - 4 * WIDTH * (WORDS - ROWS) + 8 * WORDS + 1500  # names of values


def test_rows_that_differ_stay(tmp_path):
    result, model, _ = compiled(random(), tmp_path, "factorize.embedding.shared_rows")
    assert (WORDS, WIDTH) in {tuple(tensor.dims) for tensor in model.graph.initializer}
    assert result.report.rewrites == ()
