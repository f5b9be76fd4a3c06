"""A small CNN and a small vision transformer, trained here in seconds on scikit-learn's digits.

    python examples/digits.py                                  # leaves out/digits/cnn and out/digits/vit
    tdsl compile examples/digits.py:cnn --pipeline pipelines.edge

The digits are 1797 images of 8×8 pixels (Alpaydin and Kaynak, 1998); a quarter of them is held out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.export import Dim

OUT = Path("out/digits")
CLASSES = 10
SIDE = 8  # pixels


class Cnn(nn.Module):
    """Three convolutions with batch norm, two of them followed by pooling, and a classifier."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()

        def block(inputs: int, outputs: int) -> list[nn.Module]:
            return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

        self.features = nn.Sequential(
            *block(1, width),
            *block(width, width),
            nn.MaxPool2d(2),
            *block(width, 2 * width),
            nn.AdaptiveAvgPool2d(1),
        )
        self.classifier = nn.Linear(2 * width, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        """Images `[batch, 1, 8, 8]` in 0…1 to logits `[batch, 10]`."""
        return self.classifier(self.features(image).flatten(1))


class Attention(nn.Module):
    """Multi-head self-attention over `[batch, tokens, width]`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))


class Block(nn.Module):
    """Attention and a two-layer perceptron, each on a normalised residual branch."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Vit(nn.Module):
    """A vision transformer (Dosovitskiy et al., 2020): 2×2 patches, mean over the tokens, a classifier."""

    def __init__(self, width: int = 64, heads: int = 4, depth: int = 3, patch: int = 2) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, patch, stride=patch)
        # Wide apart from the start: there is too little data to learn where a patch is from small values.
        self.position = nn.Parameter(0.5 * torch.randn(1, (SIDE // patch) ** 2, width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        """Images `[batch, 1, 8, 8]` in 0…1 to logits `[batch, 10]`."""
        tokens = self.patches(image).flatten(2).transpose(1, 2) + self.position
        return self.classifier(self.norm(self.blocks(tokens)).mean(dim=1))


@functools.cache
def images() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images, held-out images `[n, 1, 8, 8]` in 0…1, training labels, held-out labels `[n]`."""
    data = load_digits()
    split = train_test_split(data.images, data.target, test_size=0.25, random_state=0, stratify=data.target)
    train, test, train_labels, test_labels = map(torch.from_numpy, split)
    return train.float()[:, None] / 16, test.float()[:, None] / 16, train_labels, test_labels


def trained(build: Callable[[], nn.Module], epochs: int, rate: float) -> nn.Module:
    """Train from a fixed seed on one thread, where sums have one order: the same weights every time."""
    image, _, label, _ = images()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = build().train()
            optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=0.01)
            steps = epochs * -(-len(image) // 64)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
            for _ in range(epochs):
                for batch in torch.randperm(len(image)).split(64):
                    optimizer.zero_grad()
                    F.cross_entropy(network(image[batch]), label[batch]).backward()
                    optimizer.step()
                    schedule.step()
    finally:
        torch.set_num_threads(threads)
    return network.eval()


def with_inputs(network: nn.Module) -> tuple[nn.Module, tuple[Tensor, ...], dict[str, Any]]:
    """A network of digits with example inputs, and which of their axes vary."""
    return network, (images()[0][:2],), {"image": {0: Dim("batch", min=1, max=64)}}


def cnn() -> tuple[nn.Module, tuple[Tensor, ...], dict[str, Any]]:
    """The trained CNN, example inputs, and which of their axes vary."""
    return with_inputs(trained(Cnn, epochs=8, rate=5e-3))


def vit() -> tuple[nn.Module, tuple[Tensor, ...], dict[str, Any]]:
    """The trained vision transformer, example inputs, and which of their axes vary."""
    return with_inputs(trained(Vit, epochs=20, rate=2e-3))


def calibration() -> list[tuple[Tensor, ...]]:
    """256 training images that the compiler may look at when it decides what to give up."""
    return [(batch,) for batch in images()[0][:256].split(32)]


def held_out() -> list[tuple[Tensor, ...]]:
    """The 450 held-out images, on which the result is judged."""
    return [(batch,) for batch in images()[1].split(50)]


def accuracy(network: Callable[[Tensor], Tensor]) -> float:
    """Share of the held-out images that are named right."""
    _, image, _, label = images()
    with torch.no_grad():
        answers = torch.cat([network(batch).argmax(dim=1) for batch in image.split(50)])
    return float((answers == label).double().mean())


def loaded(path: Path) -> Callable[[Tensor], Tensor]:
    """The compiled file as a function of images."""
    session = onnxruntime.InferenceSession(path)
    return lambda image: torch.from_numpy(session.run(None, {"image": image.numpy()})[0])


def main() -> None:
    """Train both, compile them under `passes/pipelines/edge.tdsl`, and compare their accuracies."""
    import tdsl

    for name, build in {"cnn": cnn, "vit": vit}.items():
        network, args, dynamic_shapes = build()
        path = OUT / name / "model.onnx"
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
        before, after = accuracy(network), accuracy(loaded(path))
        print(f"{name}: held-out accuracy {before:.1%}, compiled {after:.1%}\n")


if __name__ == "__main__":
    main()
