"""An orthogonal matrix folded into the weights around a hidden axis, so that nothing is computed for it.

Backward-compatible embeddings (Zhou et al., "BT²", 2023) turn an embedding so; slicing by principal
components starts so, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import fx

from tdsl.capture.normal import weights_of
from tdsl.errors import TdslError
from tdsl.symmetry.hidden.gauge import Gauge, gauges_of, inferred
from tdsl.symmetry.hidden.layout import Atom, atoms_in
from tdsl.symmetry.hidden.units import places_in

if TYPE_CHECKING:
    from tdsl.capture import Captured

ORTHOGONAL = 1e-10
"""Largest entry of RᵀR - 1 of a matrix that is orthogonal."""


def rotated(
    model: Captured | fx.GraphModule, axis: str, matrix: torch.Tensor, metric_only: Sequence[int] = ()
) -> dict[str, torch.Tensor]:
    """The weights of a captured model that change when the hidden axis called `axis` is turned: z → R·z.

    What makes the axis is multiplied by R, what reads it by Rᵀ, in float64; the function is the same.
    `axis` is the name of a gauge, `first.weight[0]`. Outputs whose numbers are in `metric_only` may be turned
    along with it: they are declared to be read by nothing but lengths and angles, and what is stored of them
    must be turned by the same R. Raises `TdslError` where something sees the rotation.
    """
    inference = inferred(model, metric_only)
    found: dict[str, tuple[int, Gauge]] = {gauge.name: (n, gauge) for n, gauge in gauges_of(inference)}
    if axis not in found:
        raise TdslError(f"{axis} is no hidden axis", expected=f"one of {', '.join(found)}")
    atom, gauge = found[axis]
    if gauge.rotation is not None:
        raise TdslError(f"{axis} cannot be rotated: {gauge.rotation}")
    size = gauge.size
    wide = matrix.detach().double()
    identity = torch.eye(size, dtype=torch.float64)
    if wide.shape != (size, size) or float((wide.T @ wide - identity).abs().max()) > ORTHOGONAL:
        raise TdslError(
            f"{axis} cannot be rotated by this matrix of shape {list(matrix.shape)}",
            expected=f"an orthogonal matrix of shape [{size}, {size}]",
        )
    weights = weights_of(inference.module)
    changed: dict[str, torch.Tensor] = {}
    for node in inference.weights():
        path = str(node.target)
        for position, layout in enumerate(inference.axes(node)):
            if atom not in set(atoms_in(layout)):
                continue
            sizes = {number: inference.system.size(Atom(number)) for number in atoms_in(layout)}
            places = torch.from_numpy(places_in(layout, atom, sizes))
            tensor = changed.get(path, weights[path])
            turned = tensor.double().movedim(position, 0).clone()
            turned[places] = torch.tensordot(wide, turned[places], dims=1)
            changed[path] = turned.movedim(0, position).to(tensor.dtype)
    return changed
