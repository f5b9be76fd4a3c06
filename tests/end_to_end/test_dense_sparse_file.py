"""A layer as a sparse times a dense factor, the zeros left out of its file."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

import tdsl

PIPELINE = """
import factorize.sparse

pipeline few {
    once factorize.sparse.dense_sparse_linear
    quantize sparse
    check error <= 0.001%
}

pipeline without_zeros_left_out {
    once factorize.sparse.dense_sparse_linear
    check error <= 0.001%
}
"""


def compiled(weight: torch.Tensor, pipeline: str, folder: Path) -> tuple[int, int]:
    """Rewrites that were made, and the bytes of the file."""
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight = nn.Parameter(weight)
    (folder / "rules.tdsl").write_text(PIPELINE)
    rules = tdsl.load(folder / "rules.tdsl")
    file = folder / "layer.onnx"
    result = tdsl.compile(
        layer, (torch.randn(3, weight.shape[1]),), rules=rules, pipeline=pipeline, output=file, latency=False
    )
    return len(result.report.rewrites), file.stat().st_size


def test_planted_codes_make_the_file_smaller_than_their_rank_does(tmp_path):
    few = torch.rand(256, 32).argsort(1) < 3
    weight = (torch.randn(256, 32) * few) @ torch.randn(32, 192)
    rewrites, size = compiled(weight, "few", tmp_path)
    assert rewrites == 1 and size < 4 * (32 * 192 + 1.25 * 3 * 256 + 256) + 3000
    plain, larger = compiled(weight, "without_zeros_left_out", tmp_path)
    assert plain == 1 and larger > 4 * 32 * (192 + 256)
    left_alone, _ = compiled(torch.randn(256, 192), "few", tmp_path)
    assert left_alone == 0
