"""The same sentences padded to another length give the same plan, weight for weight."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tdsl

WORDS, WIDTH = 40, 16


class Reader(nn.Module):
    """Words that attend to one another, and the mean of what comes of it, padding left out."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.keys, self.values = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.wide, self.narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.words(ids)
        seen = mask[:, None, :].bool()
        x = x + F.scaled_dot_product_attention(x, self.keys(x), self.values(x), attn_mask=seen)
        x = x + self.narrow(F.gelu(self.wide(x)))
        kept = mask[..., None].to(x.dtype)
        return (x * kept).sum(1) / kept.sum(1)


class Unmarked(Reader):
    """The same; but nobody calls its second input a mask."""

    def forward(self, ids: Tensor, kept: Tensor) -> Tensor:
        return super().forward(ids, kept)


def sentences(length: int) -> list[tuple[Tensor, Tensor]]:
    """Sentences of 4 to 16 words, the same for every length that they are padded to."""
    drawn = torch.Generator().manual_seed(3)
    batches = []
    for _ in range(8):
        ids, mask = torch.zeros(8, length, dtype=torch.int64), torch.zeros(8, length, dtype=torch.int64)
        for row in range(8):
            count = int(torch.randint(4, 17, (1,), generator=drawn))
            ids[row, :count] = torch.randint(1, WORDS, (count,), generator=drawn)
            mask[row, :count] = 1
        batches.append((ids, mask))
    return batches


def smaller(kind: type[Reader], length: int) -> dict[str, Tensor]:
    torch.manual_seed(0)
    names = ("ids", "mask") if kind is Reader else ("ids", "kept")
    module = tdsl.factorize(
        kind().eval(),
        sentences(16)[0],
        rank=0.6,
        calibration=sentences(length),
        dynamic_shapes={name: {0: "batch", 1: "length"} for name in names},
    )
    return dict(module.state_dict())


def alike(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    same = one.keys() == other.keys() and all(one[name].shape == other[name].shape for name in one)
    return same and all(torch.allclose(one[name], other[name], atol=1e-5) for name in one)


def test_more_padding_gives_the_same_plan_where_a_mask_says_so() -> None:
    """The control has the same numbers, and an input whose name says nothing: padding counts there."""
    long = smaller(Reader, 64)
    assert alike(smaller(Reader, 16), long)
    assert not alike(smaller(Unmarked, 64), long)
