"""Outputs in their principal coordinates, largest first, so that any prefix is the best of its length.

The basis is that of the outputs' second moment over data, so that encoders which differ by a rotation agree
up to signs, and a prefix of m coordinates keeps inner products as well as any m coordinates can (Eckart &
Young, 1936). It changes what the outputs mean: an index of stored vectors has to be mapped by that basis.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from tdsl.errors import TdslError


class PrincipalPrefix(nn.Module):
    """The first `width` principal coordinates of what `encoder` makes of an input. [B, …] → [B, width].

    The basis is found once, from the batches of `data`, in float64. Without a `width` all coordinates stay:
    inner products and distances are then what they were, and users of the vectors cut them to any length.
    With `centred=True` the mean over data is the origin, which keeps distances and not inner products.
    Compiling folds the basis into the last dense layer of the encoder. Raises `TdslError` for outputs that
    are no vectors, no data, and a width beyond that of the outputs.
    """

    basis: Tensor
    """[width, d], with orthonormal rows."""
    shift: Tensor
    """[width]; zeros unless centred."""
    lost: float
    """Share of the second moment of the outputs, or of their variance, that is beyond the width."""

    def __init__(
        self, encoder: nn.Module, data: Iterable[Tensor], width: int | None = None, *, centred: bool = False
    ) -> None:
        super().__init__()
        self.encoder = encoder
        total, mean, count, dtype = _moments(encoder, data)
        total, mean = total / count, mean / count
        if centred:
            total = total - torch.outer(mean, mean)
        size = len(mean)
        kept = size if width is None else width
        if not 1 <= kept <= size:
            raise TdslError(f"a prefix of {kept} of {size} coordinates", expected=f"a width from 1 to {size}")
        values, vectors = torch.linalg.eigh(total)
        basis = vectors.flip(1).T[:kept]
        basis = basis * basis.gather(1, basis.abs().argmax(1, keepdim=True)).sign()  # a choice of signs
        energy = values.clamp_min(0).flip(0)
        self.lost = float(energy[kept:].sum() / energy.sum()) if bool(energy.any()) else 0.0
        self.register_buffer("basis", basis.to(dtype).contiguous())
        self.register_buffer("shift", (-basis @ mean if centred else torch.zeros(kept)).to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        """The coordinates."""
        return linear(self.encoder(x), self.basis, self.shift)


def _moments(encoder: nn.Module, data: Iterable[Tensor]) -> tuple[Tensor, Tensor, int, torch.dtype]:
    """Sums of z·zᵀ [d, d] and z [d] over the outputs, their number and their element type."""
    second: Tensor | None = None
    first, count, dtype = torch.zeros(()), 0, torch.float32
    training = encoder.training
    encoder.eval()
    with torch.no_grad():
        for batch in data:
            if not isinstance(batch, Tensor):
                raise TdslError(
                    f"a batch of data is a {type(batch).__name__}",
                    expected="a tensor, as the encoder takes it",
                )
            encoded = encoder(batch)
            if encoded.ndim != 2:
                raise TdslError(
                    f"the encoder makes {list(encoded.shape)} of a batch", expected="vectors, [batch, d]"
                )
            exact, dtype = encoded.double(), encoded.dtype
            second = exact.T @ exact if second is None else second + exact.T @ exact
            first, count = first + exact.sum(0), count + len(exact)
    encoder.train(training)
    if second is None or not count:
        raise TdslError("principal coordinates of nothing", expected="at least one batch of inputs")
    if not bool(second.isfinite().all()):
        raise TdslError(
            "what the encoder makes of the data is not finite",
            expected="inputs for which the encoder gives numbers",
        )
    return second, first, count, dtype
