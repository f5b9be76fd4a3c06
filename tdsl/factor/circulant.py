"""Circulant structure of a weight matrix, whole or in blocks, diagonalised by a real Fourier transform.

A block that depends on (k − l) mod b alone multiplies frequencies one by one. With x̂ the b/2 + 1 frequencies
of each block of inputs, as pairs of a real and an imaginary part, W is a transform T, a small product for
every frequency, and a transform back. A circulant matrix of size b·s is circulant in blocks of size b as
well, its rows and columns taken in steps of s, so that no large transform is needed. Everything is computed
and returned in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tdsl.factor.declare import Decomposition, forms
from tdsl.factor.displaced import Orders, allowed, displacements
from tdsl.factor.matrix import checked
from tdsl.factor.rank import as_rank_rule
from tdsl.factor.splits import Way, best, divisors, enough

Factors = tuple[Tensor, Tensor, Tensor]

SAMPLED, ROWS = 2, 8
"""Blocks along each side, and rows of them, that are looked at first: what they lose, the whole loses."""


def block_circulant(weight: Tensor, rank: object) -> Factors:
    """The nearest matrix of circulant blocks (Ding et al., 2017), as products of frequencies.

    [m, n] → transform [b, f], spectrum [f/2, 2q, 2p], back [f, b] with m = p·b, n = q·b and f = 2(b/2 + 1),
    rounded down. `rank` is anything `as_rank_rule` takes; where it bounds the error, the block size with the
    fewest numbers and multiplications is taken (1 is always exact), and a rank of 1 is the block size of the
    smallest error. Raises `TdslError` for a weight that is no finite matrix.
    """
    return _factors(weight, rank, adjacent=True)


def circulant(weight: Tensor, rank: object) -> Factors:
    """The nearest matrix whose every s-th rows and columns are circulant: of a circulant one, itself.

    As `block_circulant`, for rows (k, p) and columns (l, q) with p and q running fastest: the polyphase form
    of circular convolution (Vaidyanathan, 1993).
    """
    return _factors(weight, rank, adjacent=False)


def _product(*, adjacent: bool) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    def product(transform: Tensor, spectrum: Tensor, back: Tensor) -> Tensor:
        """The matrix of three factors. [b, f], [f/2, 2q, 2p], [f, b] → [m, n]."""
        size, (count, width, height) = len(transform), spectrum.shape
        pairs = spectrum.reshape(count, width // 2, 2, height // 2, 2)
        whole = torch.einsum(
            "lfi,fqipo,fok->pkql" if adjacent else "lfi,fqipo,fok->kplq",
            transform.reshape(size, count, 2),
            pairs,
            back.reshape(count, 2, size),
        )
        return whole.reshape(size * height // 2, size * width // 2)

    return product


block_circulant_product = _product(adjacent=True)
circulant_product = _product(adjacent=False)


def _factors(weight: Tensor, rank: object, *, adjacent: bool) -> Factors:
    exact, rule = checked(weight, ndim=2), as_rank_rule(rank)
    ways: list[Way] = []
    total = float(exact.norm())
    sizes = sorted(
        divisors(math.gcd(*exact.shape)) if exact.numel() else (1,),
        key=lambda size: _cost(exact.shape, size),
    )
    turns = [_turned(exact.shape, size, adjacent=adjacent) for size in sizes]
    shown = displacements(exact, turns) if rule.spectral else [0.0] * len(sizes)
    for size, displacement in zip(sizes, shown, strict=True):
        if not allowed(rule, total, displacement):
            continue
        blocks = _blocks(exact, size, adjacent=adjacent)
        seen = min(total, _lost(blocks[:SAMPLED, :SAMPLED], range(0, size, -(-size // ROWS))))
        if not enough(rule, (total**2 - seen**2) ** 0.5, seen):
            continue
        steps = _steps(blocks)
        kept = float(steps.norm()) * size**0.5
        lost = float((blocks - _spread(steps)).norm()) if size > 1 else 0.0
        if enough(rule, kept, lost):
            relative = lost / math.hypot(kept, lost) if lost else 0.0
            ways.append(Way((size,), (1,), _numbers(exact.shape, size), relative))
            if rule.spectral:  # no other one costs less
                break
    chosen = best(rule, ways, exact.numel())
    size = chosen.sizes[0] if chosen else 1
    return _diagonalised(_steps(_blocks(exact, size, adjacent=adjacent)))


def _turned(shape: torch.Size, size: int, *, adjacent: bool) -> Orders:
    """The order of rows and columns when blocks are turned by a place, which circulant ones do not see."""
    rows, columns = (
        places.reshape(-1, size).roll(1, 1) if adjacent else places.reshape(size, -1).roll(1, 0)
        for places in map(torch.arange, shape)
    )
    return rows.flatten(), columns.flatten()


def _numbers(shape: torch.Size, size: int) -> int:
    frequencies = size // 2 + 1
    return 4 * size * frequencies + 4 * frequencies * math.prod(shape) // size**2


def _cost(shape: torch.Size, size: int) -> int:
    """Multiplications for a row of inputs, and numbers of the factors twice: they are stored, and read."""
    frequencies = size // 2 + 1
    multiplications = 2 * frequencies * sum(shape) + 4 * frequencies * math.prod(shape) // size**2
    return multiplications + 2 * _numbers(shape, size)


def _lost(blocks: Tensor, rows: range) -> float:
    """The norm of what some rows of blocks [p, q, b, b] lose at least where each diagonal is one number."""
    size = blocks.shape[-1]
    chosen = torch.tensor(rows)
    places = torch.arange(size)[:, None]
    wrapped = blocks[:, :, chosen, (chosen - places) % size]  # offset, row
    return float((wrapped - wrapped.mean(-1, keepdim=True)).norm())


def _blocks(weight: Tensor, size: int, *, adjacent: bool) -> Tensor:
    """[m, n] → [p, q, b, b]."""
    rows, columns = (length // size for length in weight.shape)
    if adjacent:
        return weight.reshape(rows, size, columns, size).transpose(1, 2)
    return weight.reshape(size, rows, size, columns).permute(1, 3, 0, 2)


def _steps(blocks: Tensor) -> Tensor:
    """The mean of every wrapped diagonal, by its offset (k − l) mod b. [p, q, b, b] → [p, q, b]."""
    size = blocks.shape[-1]
    places = torch.arange(size)
    wrapped = blocks[:, :, places, (places - places[:, None]) % size]  # offset, k
    return wrapped.mean(-1)


def _spread(steps: Tensor) -> Tensor:
    """Circulant blocks of given diagonals. [p, q, b] → [p, q, b, b]."""
    places = torch.arange(steps.shape[-1])
    return steps[:, :, (places[:, None] - places) % len(places)]


def _diagonalised(steps: Tensor) -> Factors:
    """The transform, the spectrum of the blocks and the transform back. [p, q, b] → see `block_circulant`."""
    size = steps.shape[-1]
    angles = 2 * math.pi * torch.outer(torch.arange(size), torch.arange(size // 2 + 1)).double() / size
    wave = torch.stack([angles.cos(), -angles.sin()], dim=2)  # l, frequency, part
    real, imaginary = torch.einsum("pqd,dfi->ifqp", steps, wave)
    spectrum = torch.stack(
        [torch.stack([real, imaginary], dim=3), torch.stack([-imaginary, real], dim=3)], dim=2
    )  # frequency, q, part of the input, p, part of the output
    twice = torch.full((size // 2 + 1, 1, 1), 2.0 / size, dtype=torch.float64)
    twice[0] = 1.0 / size
    if size % 2 == 0:
        twice[-1] = 1.0 / size
    back = wave.permute(1, 2, 0) * twice
    count, columns, _, rows, _ = spectrum.shape
    return (
        wave.reshape(size, -1),
        spectrum.reshape(count, 2 * columns, 2 * rows),
        back.reshape(2 * count, size),
    )


_FORMS = forms("[M, N] -> [b, f], [c, q, p], [f, b]")

DECLARED = (
    Decomposition(
        name="block_circulant",
        params=("W", "rank"),
        results=3,
        function=block_circulant,
        promise_text="W[(p, k), (q, l)] ≈ Σ_f T[l, f] · S[f, q, p] · B[f, k]",
        promise=block_circulant_product,
        forms=_FORMS,
        source="Ding et al., 2017 (block-circulant layers)",
        doc="Circulant blocks as a transform, a product for each frequency, and a transform back.",
    ),
    Decomposition(
        name="circulant",
        params=("W", "rank"),
        results=3,
        function=circulant,
        promise_text="W[(k, p), (l, q)] ≈ Σ_f T[l, f] · S[f, q, p] · B[f, k]",
        promise=circulant_product,
        forms=_FORMS,
        source="Vaidyanathan, 1993 (polyphase components of circular convolution)",
        doc="A circulant matrix as a transform, a product for each frequency, and a transform back.",
    ),
)
