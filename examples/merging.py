"""Two classifiers fine-tuned from one, each for half of the digits, merged into one that knows all of them.

    python examples/merging.py                                 # prints the table; trains for some seconds
    cd examples && tdsl merge merging.py:low merging.py:high -o merged.safetensors \\
        --samples merging.py:low_samples --samples merging.py:high_samples

Fine-tuned on the digits 0 to 4 alone, a model forgets the others, and the other way round. Labels are used
for that training and for the table, not for merging.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from digits import CLASSES, SIDE, images
from torch import Tensor, nn
from torch.export import Dim

Model = tuple[nn.Module, tuple[Tensor, ...], dict[str, Any]]
HALF = CLASSES // 2


class Mlp(nn.Module):
    """Three dense layers."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(SIDE * SIDE, width), nn.Linear(width, width)
        self.classifier = nn.Linear(width, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        """Images `[batch, 1, 8, 8]` in 0…1 to logits `[batch, 10]`."""
        hidden = torch.relu(self.first(image.flatten(1)))
        return self.classifier(torch.relu(self.second(hidden)))


def _of(task: int | None, *, held_out: bool) -> tuple[Tensor, Tensor]:
    """Images and labels of one half of the digits, or of all."""
    train, test, train_labels, test_labels = images()
    image, label = (test, test_labels) if held_out else (train, train_labels)
    kept = torch.ones_like(label, dtype=torch.bool) if task is None else (label >= HALF) == bool(task)
    return image[kept], label[kept]


def _trained(network: nn.Module, task: int | None, epochs: int, rate: float, seed: int) -> nn.Module:
    image, label = _of(task, held_out=False)
    network = copy.deepcopy(network).train()
    optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=0.01)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for batch in torch.randperm(len(image), generator=generator).split(64):
            optimizer.zero_grad()
            F.cross_entropy(network(image[batch]), label[batch]).backward()
            optimizer.step()
    return network.eval()


@functools.cache
def base() -> nn.Module:
    """Trained a little on all digits."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _trained(Mlp(), None, epochs=3, rate=1e-3, seed=0)


@functools.cache
def tuned(task: int) -> nn.Module:
    """The base trained on for one half of the digits: 0 the low ones, 1 the high ones."""
    return _trained(base(), task, epochs=15, rate=2e-3, seed=1 + task)


def low() -> Model:
    """The model for the digits 0 to 4, example inputs, and which of their axes vary."""
    return tuned(0), (images()[0][:2],), {"image": {0: Dim("batch", min=1, max=64)}}


def high() -> Model:
    """The model for the digits 5 to 9."""
    return tuned(1), (images()[0][:2],), {"image": {0: Dim("batch", min=1, max=64)}}


def low_samples() -> list[tuple[Tensor, ...]]:
    """256 training images of the digits 0 to 4."""
    return [(batch,) for batch in _of(0, held_out=False)[0][:256].split(32)]


def high_samples() -> list[tuple[Tensor, ...]]:
    """256 training images of the digits 5 to 9."""
    return [(batch,) for batch in _of(1, held_out=False)[0][:256].split(32)]


def judged(network: Callable[[Tensor], Tensor], task: int | None) -> tuple[float, float]:
    """Cross-entropy and accuracy on the held-out images of a task; of all without one."""
    image, label = _of(task, held_out=True)
    with torch.no_grad():
        logits = torch.cat([network(batch) for batch in image.split(50)])
    return float(F.cross_entropy(logits, label)), float((logits.argmax(1) == label).double().mean())


def table() -> dict[str, list[tuple[float, float]]]:
    """For both parents and each way to merge them: loss and accuracy on low digits, high digits, and all."""
    import tdsl
    from tdsl.capture import capture
    from tdsl.merging import METHODS

    models = [capture(network, args, dynamic_shapes=shapes) for network, args, shapes in (low(), high())]
    networks: dict[str, Callable[[Tensor], Tensor]] = {"low digits": tuned(0), "high digits": tuned(1)}
    for by in reversed(METHODS):
        networks[by] = tdsl.merge(models, samples=[low_samples(), high_samples()], by=by).module
    return {name: [judged(network, task) for task in (0, 1, None)] for name, network in networks.items()}


def main() -> None:
    """Print the table."""
    print(f"{'':14}{'0 to 4':>18}{'5 to 9':>18}{'all':>18}    (held-out loss, accuracy)")
    for name, row in table().items():
        print(f"{name:14}" + "".join(f"{loss:10.3f}{accuracy:8.1%}" for loss, accuracy in row))


if __name__ == "__main__":
    main()
