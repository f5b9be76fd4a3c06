"""Recurrent layers described without running them, so that sequences of every length are one graph.

torch describes them by their loop over the steps, which makes a number of the length of the example.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._C import DispatchKey

aten = torch.ops.aten

RECURRENT = (aten.lstm.input, aten.gru.input, aten.rnn_tanh.input, aten.rnn_relu.input)
_LOOPS = (DispatchKey.CompositeImplicitAutograd, DispatchKey.Autograd)
"""Where torch keeps the loops."""


@contextlib.contextmanager
def any_length() -> Iterator[None]:
    """While tracing, recurrent layers have shapes, and no loop over their steps is run."""
    saved = {op: dict(op.py_kernels) for op in RECURRENT}
    try:
        for op in RECURRENT:
            op.py_kernels.update(dict.fromkeys(_LOOPS, described))
            op._dispatch_cache.clear()
        yield
    finally:
        for op, kernels in saved.items():
            op.py_kernels.clear()
            op.py_kernels.update(kernels)
            op._dispatch_cache.clear()


def described(
    x: Tensor, states: Tensor | Sequence[Tensor], weights: Sequence[Tensor], *options: Any
) -> tuple[Tensor, ...]:
    """Tensors of the shapes of the results: the outputs, and the last states, which are like the first.

    Raises `ValueError` for inputs that the weights do not fit.
    """
    if x.shape[2] != weights[0].shape[1]:
        raise ValueError(f"inputs of {x.shape[2]} features for a weight of {weights[0].shape[1]}")
    first = [states] if isinstance(states, Tensor) else list(states)
    directions = 2 if options[-2] else 1
    outputs = x.new_empty((*x.shape[:2], first[0].shape[2] * directions))
    return outputs, *(state.new_empty(state.shape) for state in first)
