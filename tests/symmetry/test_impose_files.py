"""Wrapped models as ONNX files: plain operators, the same numbers, and the law in onnxruntime too."""

from __future__ import annotations

import functools

import onnx
import pytest
import torch
from imposed_models import Forces, classifier, images, segmenter, turns
from torch import nn
from torch.export import Dim

from tdsl.capture import capture
from tdsl.emit import emit, run, session
from tdsl.symmetry.group import special_orthogonal
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
    "average, weighted": (
        GroupAverage(classifier(), D4, weights=SCORE),
        IMAGES,
    ),
    "canonical, invariant": (Canonicalise(classifier(), D4, score=SCORE), IMAGES),
    "canonical, equivariant": (Canonicalise(segmenter(), D4, D4, score=SCORE), IMAGES),
    "frames, points and their gap": (FrameAverage(Forces(10), "SE", "points", gap=True), POINTS),
    "Gram–Schmidt": (GramSchmidt(Forces(10), "SE", "points"), POINTS),
    "sorted": (SortPoints(Forces(10), PointKey(3), "points"), POINTS),
}


def in_file(model: onnx.ModelProto, x: torch.Tensor) -> list[torch.Tensor]:
    return [torch.tensor(y) for y in run(session(model), {model.graph.input[0].name: x}).values()]


def in_torch(module: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    with torch.no_grad():
        result = module(x)
    return list(result) if isinstance(result, tuple) else [result]


@functools.cache
def written(name: str) -> onnx.ModelProto:
    module, x = WRAPPED[name]
    return emit(capture(module.eval(), (x,), dynamic_shapes={"x": {0: Dim("batch")}}))


@pytest.mark.parametrize("name", WRAPPED)
def test_the_file_computes_what_the_module_computes(name) -> None:
    (module, x), model = WRAPPED[name], written(name)
    assert not FORBIDDEN & {node.op_type for node in model.graph.node}
    for batch in (1, 2, 5):
        given = images(batch, *x.shape[1:], seed=batch)
        for one, other in zip(in_file(model, given), in_torch(module, given), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_the_file_keeps_the_law_in_single_precision() -> None:
    x, model = IMAGES, written("average, invariant")
    first, last = in_file(model, x)[0], in_file(model, D4.generators[0].apply(x).contiguous())[0]
    alone = in_torch(classifier(), x)[0] - in_torch(classifier(), D4.generators[0].apply(x))[0]
    assert (first - last).abs().max() < 1e-6 < 1e-2 < alone.abs().max()


def test_frames_keep_the_law_in_single_precision_in_the_file() -> None:
    x, model = POINTS, written("frames, points and their gap")
    turn = special_orthogonal(3).sample(1)[0].float()
    (first, gap), (last, same_gap) = in_file(model, x), in_file(model, x @ turn + 1.0)
    alone = in_torch(Forces(10), x)[0] @ turn + 1.0 - in_torch(Forces(10), x @ turn + 1.0)[0]
    assert (first @ turn + 1.0 - last).abs().max() < 1e-5 < 0.1 < alone.abs().max()
    torch.testing.assert_close(gap, same_gap, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", WRAPPED)
def test_a_wrapped_model_can_be_trained(name) -> None:
    module, x = WRAPPED[name]
    module.zero_grad()
    result = module(x)
    whole = result if isinstance(result, torch.Tensor) else result[0]
    whole.square().sum().backward()
    gradients = [p.grad for p in module.parameters()]
    assert gradients and all(g is not None and g.isfinite().all() and g.any() for g in gradients)
