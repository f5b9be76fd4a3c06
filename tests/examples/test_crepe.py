"""The pitch tracker rebuilt from its state dict hears the pitch of tones whose truth is known."""

import crepe
import pytest
import torch
from torch.export import export


def test_network_hears_pitch_within_a_few_cents(pitch_tracker):
    network, _, _ = pitch_tracker
    assert crepe.pitch_error(network, count=32) < 5


def test_a_network_that_flattens_in_the_wrong_order_is_far_off():
    network, _, _ = crepe.tiny()
    weight = network.classifier.weight.data
    network.classifier.weight.data = weight.unflatten(1, (4, -1)).transpose(1, 2).flatten(1)
    assert crepe.pitch_error(network, count=32) > 100


def test_pitch_is_the_weighted_mean_around_the_strongest_bin():
    activation = torch.zeros(2, crepe.BINS)
    activation[0, 100] = 1.0
    activation[1, [100, 101]] = 0.5
    activation[1, 300] = 0.4  # an octave error elsewhere has no say
    cents = 1200 * torch.log2(crepe.pitch(activation) / 10) - crepe.CENTS_OF_FIRST_BIN
    torch.testing.assert_close(cents, torch.tensor([2000.0, 2010.0], dtype=torch.float64))


def test_pitch_error_counts_cents():
    _, hertz = crepe.tones(128, seed=2)
    pitches = iter(hertz.split(16))

    def a_semitone_sharp(batch):
        cents = 1200 * torch.log2(next(pitches) / 10) + 100 - crepe.CENTS_OF_FIRST_BIN
        bins = torch.arange(crepe.BINS)
        return torch.exp(-((bins - cents[:, None] / crepe.CENTS_PER_BIN) ** 2))

    assert crepe.pitch_error(a_semitone_sharp) == pytest.approx(100, abs=0.1)


def test_tones_are_normalised_and_have_the_pitch_they_claim():
    frames, hertz = crepe.tones(16, seed=1)
    torch.testing.assert_close(frames.mean(dim=1), torch.zeros(16), rtol=0, atol=1e-6)
    torch.testing.assert_close(frames.std(dim=1), torch.ones(16))
    period = (crepe.SAMPLE_RATE / hertz).round().long()
    for frame, lag in zip(frames, period.tolist(), strict=True):
        assert torch.corrcoef(torch.stack([frame[lag:], frame[:-lag]]))[0, 1] > 0.9
    calibration, held_out = crepe.calibration(), crepe.held_out()
    assert sum(len(f) for (f,) in calibration) == sum(len(f) for (f,) in held_out) == 128
    assert not torch.equal(calibration[0][0], held_out[0][0])


def test_export_serves_other_batches_than_the_example():
    network, args, dynamic_shapes = crepe.tiny()
    exported = export(network, args, dynamic_shapes=dynamic_shapes).module()
    for count in (1, 5):
        frames, _ = crepe.tones(count, seed=3)
        with torch.no_grad():
            torch.testing.assert_close(exported(frames), network(frames))
