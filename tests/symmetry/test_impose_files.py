"""Wrapped models as ONNX files: plain operators, the same numbers, and the law in onnxruntime too."""

from __future__ import annotations

import onnx
import pytest
import torch
from imposed_models import Cloud, Forces, classifier, images, segmenter, turns
from torch import nn
from torch.export import Dim

from tdsl.capture import capture
from tdsl.emit import emit, run, session
from tdsl.symmetry.impose import (
    Canonicalise,
    FrameAverage,
    GenericScore,
    GramSchmidt,
    GroupAverage,
    PointKey,
    SortPoints,
)

IMAGES, POINTS = images(2, 3, 9, 9), images(2, 10, 3)
D4 = turns(IMAGES)
SCORE = GenericScore(IMAGES.shape[1:])
FORBIDDEN = {"DFT", "Einsum", "GatherND", "ScatterElements", "ScatterND", "Loop", "If", "Scan"}

WRAPPED = {
    "average, invariant": (GroupAverage(classifier(), D4), IMAGES),
    "average, equivariant": (GroupAverage(segmenter(), D4, D4), IMAGES),
    "canonical, invariant": (Canonicalise(classifier(), D4, score=SCORE), IMAGES),
    "canonical, equivariant": (Canonicalise(segmenter(), D4, D4, score=SCORE), IMAGES),
    "frames with their gap": (FrameAverage(Cloud(10), "O", gap=True), POINTS),
    "frames, points": (FrameAverage(Forces(10), "SE", "points"), POINTS),
    "Gram–Schmidt": (GramSchmidt(Forces(10), "SE", "points"), POINTS),
    "sorted": (SortPoints(Forces(10), PointKey(3), "points"), POINTS),
}


def in_file(model: onnx.ModelProto, x: torch.Tensor) -> list[torch.Tensor]:
    return [torch.tensor(y) for y in run(session(model), {model.graph.input[0].name: x}).values()]


def in_torch(module: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    with torch.no_grad():
        result = module(x)
    return list(result) if isinstance(result, tuple) else [result]


@pytest.mark.parametrize("name", WRAPPED)
def test_the_file_computes_what_the_module_computes(name) -> None:
    module, x = WRAPPED[name]
    shapes = {"x": ({0: Dim("batch")},) if x is IMAGES else {0: Dim("batch")}}
    model = emit(capture(module.eval(), (x,), dynamic_shapes=shapes))
    assert not FORBIDDEN & {node.op_type for node in model.graph.node}
    for batch in (1, 2, 5):
        given = images(batch, *x.shape[1:], seed=batch)
        for one, other in zip(in_file(model, given), in_torch(module, given), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_the_file_keeps_the_law_in_single_precision() -> None:
    module, x = WRAPPED["average, invariant"]
    model = emit(capture(module.eval(), (x,)))
    first, last = in_file(model, x)[0], in_file(model, D4.generators[0].apply(x).contiguous())[0]
    alone = in_torch(classifier(), x)[0] - in_torch(classifier(), D4.generators[0].apply(x))[0]
    assert (first - last).abs().max() < 1e-6 < 1e-2 < alone.abs().max()
