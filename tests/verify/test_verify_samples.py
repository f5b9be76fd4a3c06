"""Samples: what is drawn, at which sizes, and which given samples are refused."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tdsl.errors import TdslError
from tdsl.verify import Input, draw_samples, samples

TOKENS = Input("ids", torch.tensor([[5, 9, 2], [7, 3, 4]]), {0: "batch", 1: "sequence"})
MASK = Input("mask", torch.tensor([[1, 1, 1], [1, 1, 0]]), {0: "batch", 1: "sequence"})


def by_name(samples):
    assert len({sample.name for sample in samples}) == len(samples)
    return {sample.name: sample for sample in samples}


def test_a_static_model_gets_its_example_a_draw_zeros_and_large_magnitudes():
    samples = draw_samples([Input("image", torch.rand(1, 3, 4))])
    assert [(s.name, s.kind) for s in samples] == [
        ("example", "example"),
        ("random", "random"),
        ("zeros", "hard"),
        ("large magnitudes", "hard"),
    ]


def test_dynamic_sizes_are_tried_at_both_ends_under_one_name_in_all_inputs():
    samples = by_name(draw_samples([TOKENS, MASK], ranges={"sequence": (1, 128)}))
    assert list(samples) == [
        "example",
        "random",
        "batch=1, sequence=1",
        "batch=512, sequence=3",
        "batch=2, sequence=128",
        "batch=1, sequence=3",
        "smallest integers",
        "largest integers",
    ]
    for name, sample in samples.items():
        ids, mask = sample.inputs
        assert ids.shape == mask.shape, name
    assert samples["batch=2, sequence=128"].inputs[0].shape == (2, 128)
    assert samples["batch=1, sequence=3"].kind == "hard"


def test_sizes_stop_where_an_input_would_have_too_many_elements():
    image = Input("image", torch.rand(2, 3, 32, 32), {0: "batch"})
    sizes = [s.inputs[0].shape[0] for s in draw_samples([image])]
    assert max(sizes) == 16  # eight times the example
    assert min(sizes) == 1


@pytest.mark.parametrize(("side", "most"), [(16, 16), (64, 5), (224, 4)])
def test_of_large_inputs_few_run_at_once(side, most):
    image = Input("image", torch.rand(2, 3, side, side), {0: "batch"})
    assert max(s.inputs[0].shape[0] for s in draw_samples([image])) == most


def test_a_batch_of_one_is_left_out_where_the_batch_has_a_larger_minimum():
    image = Input("image", torch.rand(4, 2), {0: "batch"})
    assert min(s.inputs[0].shape[0] for s in draw_samples([image], ranges={"batch": (2, 4)})) == 2


def test_integers_stay_within_the_range_seen_in_examples_and_samples():
    samples = draw_samples([TOKENS, MASK], held_out=[(torch.tensor([[11, 1]]), torch.tensor([[1, 1]]))])
    drawn = torch.cat([s.inputs[0].flatten() for s in samples if s.seed is not None])
    assert (drawn.min(), drawn.max()) == (1, 11)  # 11 and 1 come from the held-out sample only
    named = by_name(samples)
    assert (named["smallest integers"].inputs[0] == 1).all()
    assert (named["largest integers"].inputs[0] == 11).all()


@given(seed=st.integers(0, 2**32))
def test_masks_stay_masks_with_a_one_in_each_row(seed):
    for sample in draw_samples([TOKENS, MASK], ranges={"batch": (1, 8), "sequence": (1, 8)}, seed=seed):
        mask = sample.inputs[1]
        assert set(mask.unique().tolist()) <= {0, 1}
        assert (mask.sum(-1) >= 1).all(), sample.name


def test_drawn_masks_are_not_all_ones():
    masks = [s.inputs[1] for s in draw_samples([TOKENS, MASK]) if s.kind == "random"]
    assert any((mask == 0).any() for mask in masks)


def test_numbers_stay_within_the_range_seen_except_in_hard_samples():
    samples = by_name(draw_samples([Input("gray", torch.rand(64))]))
    seen, drawn = samples["example"].inputs[0], samples["random"].inputs[0]
    assert seen.min() <= drawn.min() and drawn.max() <= seen.max()
    assert drawn.std() > 0.1
    assert not samples["zeros"].inputs[0].any()
    assert samples["large magnitudes"].inputs[0].abs().max() > 100


def test_an_example_of_one_value_still_gives_draws_that_vary():
    samples = by_name(draw_samples([Input("x", torch.zeros(64))]))
    assert samples["random"].inputs[0].std() > 0.5


def test_the_same_seed_draws_the_same_and_another_seed_another():
    x = Input("x", torch.linspace(0, 1, 9))
    a, b, c = (draw_samples([x], seed=seed)[1].inputs[0] for seed in (3, 3, 4))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.complex64, torch.bool])
def test_every_sample_has_the_dtype_of_the_example(dtype):
    example = torch.tensor([[1, 0, 1]]).to(dtype)
    for sample in draw_samples([Input("x", example, {0: "batch"})]):
        assert sample.inputs[0].dtype == dtype, sample.name


def test_a_scalar_and_an_empty_input_are_drawn():
    for sample in draw_samples([Input("t", torch.tensor(3)), Input("e", torch.zeros(0, 2))]):
        assert sample.inputs[0].item() == 3
        assert sample.inputs[1].shape == (0, 2)


IDS = torch.tensor([[1, 2]])


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ((IDS,), "sample 'held-out 1' has 1 tensor"),
        ((IDS, IDS.float()), "input 'mask' is torch.float32"),
        ((IDS, IDS[0]), "input 'mask' has 1 axis"),
        ((IDS, torch.tensor([[1, 1, 1]])), "has sequence = 3, but an input before it has 2"),
        ((IDS, [[1, 1]]), "input 'mask' is a list"),
        ((IDS, IDS.to("meta")), "without numbers"),
        ((IDS, IDS.to_sparse()), "is torch.sparse_coo"),
        ((IDS[:0], IDS[:0]), "has no rows"),
    ],
)
def test_a_sample_that_does_not_fit_is_refused_by_name(sample, message):
    with pytest.raises(TdslError, match="held-out 1") as error:
        draw_samples([TOKENS, MASK], held_out=[sample])
    assert message in str(error.value)


def test_a_static_size_that_differs_is_refused():
    with pytest.raises(TdslError, match=r"has shape \[2, 4\]") as error:
        draw_samples([Input("x", torch.rand(2, 3), {0: "batch"})], calibration=[(torch.rand(2, 4),)])
    assert error.value.expected == "[batch, 3]"


def test_labels_beside_the_inputs_are_said_to_be_none() -> None:
    item = Input("x", torch.zeros(2, 3))
    with pytest.raises(TdslError, match="has 2 tensors") as refused:
        draw_samples([item], calibration=[(torch.ones(2, 3), torch.zeros(2))])
    assert refused.value.hint is not None and "labels" in refused.value.hint
    assert draw_samples([item], calibration=[(torch.ones(2, 3),)])


def test_what_inputs_look_like_does_not_depend_on_how_many_numbers_are_looked_at_together(monkeypatch):
    values = [torch.randn(7, 9), torch.tensor([1.0, torch.inf, -3.0])]
    whole = samples._Look.of(values)
    monkeypatch.setattr(samples, "PIECE", 5)
    parts = samples._Look.of(values)
    assert (parts.least, parts.most) == (whole.least, whole.most)
    assert (parts.mean, parts.deviation) == pytest.approx((whole.mean, whole.deviation), rel=1e-12)
