"""Decompositions of convolution kernels that know how the values in a window depend on each other.

`conv_data` takes the moment of the input channels alone, as if values at different positions of a window were
independent. Those of images are not. Here the moment of a window is taken for a Kronecker product: of the
moment V [S·kh, S·kh] of its columns with the dependence between columns, [kw, kw], that is told by the moment
H [S·kw, S·kw] of its rows seen through the inverse of the moment of the channels (the nearest such product in
the metric in which channels are white). Outputs are weighted by the moment of their gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor.conv import checked_kernel, spatial_product, tucker2_product
from tdsl.factor.conv_data import spatial_factors, tucker_chain
from tdsl.factor.declare import Decomposition, forms
from tdsl.factor.matrix import principal_rows
from tdsl.factor.memo import memoised
from tdsl.factor.moment import checked_moment, root, root_of
from tdsl.factor.tucker import Seen
from tdsl.factor.whitened import Terms

DAMPING = 1e-3
"""Share of the mean energy of a channel that is added to each where channels are made white."""


def windowed_spatial(
    kernel: Tensor, columns: Tensor, rows: Tensor, gradients: Tensor, rank: object
) -> tuple[Tensor, Tensor]:
    """`spatial_svd` of least error in the moments of windows and of gradients (after Jaderberg et al., 2014).

    K [T, S, kh, kw], V [S, kh, S, kh] of the columns of a window, H [S, kw, S, kw] of its rows, G [T, T] of
    the gradients at the outputs → vertical [r, S, kh, 1], horizontal [T, r, 1, kw]. Rank rules see singular
    values in this metric. Full rank is exact: V is not inverted, the other roots are damped. Raises
    `TdslError` as `spatial_svd` does, and for moments of other sizes.
    """
    exact = checked_kernel(kernel, least_axes=2)
    return spatial_factors(exact, rank, lambda gram: _separated(kernel, columns, rows, gradients, gram))


@memoised
def _separated(kernel: Tensor, columns: Tensor, rows: Tensor, gradients: Tensor, gram: bool) -> Terms:
    """Every term of `windowed_spatial`, remembered: each rank is a prefix. [S·kh, k], [k, T·kw]."""
    exact = checked_kernel(kernel, least_axes=2)
    outputs, inputs, along, across = _window(exact)
    mixing = root_of(gradients, outputs, "output channels")
    between = root(dependence(rows, _channels(columns, inputs, along), across))
    weighted = torch.einsum("tshw,tu,wv->shuv", exact, mixing, between).reshape(inputs * along, -1)
    seen = root_of(_square(columns, inputs, along), inputs * along, "numbers in a column").T @ weighted
    right, values = principal_rows(seen, by_gram=gram)
    apart = right.reshape(len(right), outputs, across)
    apart = torch.linalg.solve(mixing.T, apart)
    apart = torch.linalg.solve(between.T, apart.mT).mT
    return Terms(weighted @ right.T, apart.reshape(right.shape), values)


def windowed_tucker2(
    kernel: Tensor, columns: Tensor, rows: Tensor, gradients: Tensor, rank_out: object, rank_in: object = None
) -> tuple[Tensor, Tensor, Tensor]:
    """`tucker2` of least error in the moments of windows and of gradients (after Grosse & Martens, 2016).

    K [T, S, kh, kw], V [S, kh, S, kh], H [S, kw, S, kw], G [T, T] → first [q, S, 1, 1], core [r, q, kh, kw],
    last [T, r, 1, 1]. Rank rules are those of `tucker2`. Raises `TdslError` as `two_sided_tucker2` does.
    """
    exact = checked_kernel(kernel, least_axes=2)
    outputs, inputs, along, across = _window(exact)
    channels = _channels(columns, inputs, along)
    axes = root(dependence(columns, channels, along)), root(dependence(rows, channels, across))
    mixing = root_of(gradients, outputs, "output channels")
    seen = Seen(_spaced(kernel, *axes), root_of(channels, inputs, "input channels"), mixing)
    first, core, last = tucker_chain(seen, rank_out, rank_in)
    core = torch.linalg.solve(axes[1].T, core.mT).mT
    return first, torch.linalg.solve(axes[0].T, core), last


@memoised
def _spaced(kernel: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    """A kernel with roots on the axes of its window, remembered. [T, S, kh, kw], [kh, kh], [kw, kw]."""
    return torch.einsum("tshw,ha,wb->tsab", checked_kernel(kernel, least_axes=2), vertical, horizontal)


def dependence(moment: Tensor, channels: Tensor, size: int) -> Tensor:
    """How values at the positions of a line depend on each other, channels made white by C [S, S].

    M [S, k, S, k] → T [k, k] with M ≈ C ⊗ T.
    """
    inputs = len(channels)
    blocks = _square(moment, inputs, size).reshape(inputs, size, inputs, size)
    inverse = torch.cholesky_inverse(root(channels, DAMPING))
    found = torch.einsum("satb,st->ab", blocks, inverse) / max(1, inputs)
    return (found + found.T) / 2


def window_error(difference: Tensor, columns: Tensor, rows: Tensor, gradients: Tensor) -> float:
    """The squared error in the Kronecker product of V, of what H tells of columns, and of G."""
    outputs, inputs, along, across = _window(difference)
    between = dependence(rows, _channels(columns, inputs, along), across)
    flat = difference.movedim(0, 2).reshape(inputs * along, outputs * across)
    weighted = torch.einsum("tshw,tu,wv->shuv", difference, gradients, between).reshape(flat.shape)
    return float((flat * (_square(columns, inputs, along) @ weighted)).sum())


def window_core_error(difference: Tensor, columns: Tensor, rows: Tensor, gradients: Tensor) -> float:
    """The same with what V tells of rows in the place of V itself: C ⊗ T_v ⊗ T_h on inputs, G on outputs."""
    _, inputs, along, across = _window(difference)
    channels = _channels(columns, inputs, along)
    axes = dependence(columns, channels, along), dependence(rows, channels, across)
    weighted = torch.einsum("tshw,sz,ha,wb->tzab", difference, channels, *axes)
    return float((torch.einsum("tu,tzab->uzab", gradients, weighted) * difference).sum())


def _window(kernel: Tensor) -> tuple[int, int, int, int]:
    if kernel.dim() != 4:
        raise TdslError(f"a kernel of shape {list(kernel.shape)}", expected="[T, S, kh, kw]")
    outputs, inputs, along, across = kernel.shape
    return outputs, inputs, along, across


def _square(moment: Tensor, inputs: int, size: int) -> Tensor:
    """M [S, k, S, k] as a matrix [S·k, S·k]. Raises `TdslError` for another shape."""
    if tuple(moment.shape) != (inputs, size, inputs, size):
        raise TdslError(
            f"a moment of shape {list(moment.shape)} for {inputs} channels in lines of {size}",
            expected=f"a moment [{inputs}, {size}, {inputs}, {size}]",
        )
    return moment.reshape(inputs * size, inputs * size)


def _channels(columns: Tensor, inputs: int, along: int) -> Tensor:
    """The moment of the channels, the mean over the positions of a column. [S, k, S, k] → [S, S]."""
    whole = checked_moment(_square(columns, inputs, along), inputs * along, "numbers in a column")
    return whole.reshape(inputs, along, inputs, along).diagonal(dim1=1, dim2=3).mean(-1)


_MOMENTS = forms("[T, S, kh, kw] -> [S, kh, S, kh], [S, kw, S, kw], [T, T]")

DECLARED = (
    Decomposition(
        name="windowed_spatial",
        params=("K", "V", "H", "G", "rank"),
        results=2,
        function=windowed_spatial,
        promise_text="K[t, s, i, j] ≈ Σ_r horizontal[t, r, 0, j] · vertical[r, s, i, 0]",
        promise=spatial_product,
        forms=forms("[T, S, kh, kw] -> [r, S, kh, 1], [T, r, 1, kw]"),
        moments=_MOMENTS,
        metric=window_error,
        source="Jaderberg, Vedaldi & Zisserman, 2014, in the metric of Grosse & Martens, 2016, with windows",
        doc="`spatial_svd` weighted by moments of columns (V) and rows (H) of windows and of gradients (G).",
    ),
    Decomposition(
        name="windowed_tucker2",
        params=("K", "V", "H", "G", "rank_out", "rank_in?"),
        results=3,
        function=windowed_tucker2,
        promise_text="K[t, s, …] ≈ Σ_r Σ_q last[t, r] · core[r, q, …] · first[q, s]",
        promise=tucker2_product,
        forms=forms("[T, S, kh, kw] -> [q, S, 1, 1], [r, q, kh, kw], [T, r, 1, 1]"),
        moments=_MOMENTS,
        metric=window_core_error,
        source="Tucker, 1966, in the metric of Grosse & Martens, 2016, with windows",
        doc="`tucker2` weighted by moments of the columns (V) and rows (H) of windows and of gradients (G).",
    ),
)
