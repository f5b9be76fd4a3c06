"""The networks trained on digits are accurate, repeatable, and what a compiler can take in."""

import digits
import pytest
import torch
from torch.export import export


def test_network_names_held_out_digits(digit_classifier):
    network, _, _ = digit_classifier
    assert digits.accuracy(network) >= 0.95


@pytest.mark.parametrize("build", [digits.Cnn, digits.Vit])
def test_an_untrained_network_does_not(build):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        assert digits.accuracy(build().eval()) < 0.3


def test_training_gives_the_same_weights_every_time_and_leaves_torch_as_it_was():
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    first, second = (digits.trained(digits.Cnn, epochs=1, rate=5e-3).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_export_serves_other_batches_than_the_example(digit_classifier):
    network, args, dynamic_shapes = digit_classifier
    exported = export(network, args, dynamic_shapes=dynamic_shapes).module()
    for (batch,) in (digits.held_out()[0], (digits.held_out()[0][0][:1],)):
        with torch.no_grad():
            torch.testing.assert_close(exported(batch), network(batch), rtol=1e-4, atol=1e-4)


def test_calibration_images_are_not_held_out():
    seen = {tuple(image.flatten().tolist()) for (batch,) in digits.calibration() for image in batch}
    kept = {tuple(image.flatten().tolist()) for (batch,) in digits.held_out() for image in batch}
    assert (len(seen), len(kept)) == (256, 450)
    assert not seen & kept
