"""One way to run a model, whatever it is: flat tensors in, flat tensors out.

Verification compares functions. A torch module with nested arguments and results, and an ONNX file in
onnxruntime, both become a `Runner` here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from tdsl.errors import TdslError

Tensors = tuple[Tensor, ...]

Runner = Callable[[Tensors], Tensors]
"""A model as a function: its tensor inputs in order → its tensor outputs in order."""


class NamedEdge(Protocol):
    """An input or output of an onnxruntime session: only its name is needed."""

    @property
    def name(self) -> str:
        """The name to feed or fetch it by."""
        ...


class Session(Protocol):
    """The part of `onnxruntime.InferenceSession` that a runner uses."""

    def get_inputs(self) -> Sequence[NamedEdge]:
        """The file's inputs, in order."""
        ...

    def run(self, output_names: list[str] | None, input_feed: dict[str, Any]) -> Sequence[Any]:
        """The outputs of those names (all for `None`), as arrays, for inputs by name."""
        ...


def module_runner(
    module: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
    own: Callable[[Tensor], Tensor] = Tensor.clone,
) -> Runner:
    """`module` as a `Runner`; `args` and `kwargs` are the pattern of its call.

    The tensors in them, in order, are the inputs; every other value is passed as it stands. Inputs are
    copied first, by `own`, so that a model that writes into them cannot disturb the run it is compared with.
    Tensors of a nested result become the outputs, in order; `None` and plain numbers are dropped, as
    in an exported file.
    """
    pattern, tree = pytree.tree_flatten((tuple(args), dict(kwargs or {})))

    def run(inputs: Tensors) -> Tensors:
        expected = sum(isinstance(leaf, Tensor) for leaf in pattern)
        if len(inputs) != expected:
            raise TdslError(f"the model takes {expected} tensors, {len(inputs)} were given")
        given = iter(inputs)
        leaves = [own(next(given)) if isinstance(leaf, Tensor) else leaf for leaf in pattern]
        call_args, call_kwargs = pytree.tree_unflatten(leaves, tree)
        with torch.no_grad():
            result = module(*call_args, **call_kwargs)
        return tuple(leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor))

    return run


def session_feed(
    session: Session, inputs: Tensors, input_names: Sequence[str] = ()
) -> dict[str, np.ndarray[Any, Any]]:
    """`inputs` as what `session.run` takes: by `input_names`, or in the file's order without these.

    With names, inputs that the file does not have (because the model does not read them) are left out.
    Raises `TdslError` when the file needs an input that is not there.
    """
    needed = [edge.name for edge in session.get_inputs()]
    names = list(input_names) or needed
    if len(names) != len(inputs) or not set(needed) <= set(names):
        raise TdslError(
            f"the file has {len(needed)} inputs ({', '.join(needed)}), {len(inputs)} tensors were given"
            + (f" ({', '.join(input_names)})" if input_names else ""),
            hint="both models must take the same inputs in the same order",
        )
    given = dict(zip(names, inputs, strict=True))
    return {name: given[name].detach().cpu().numpy() for name in needed}


def session_runner(
    session: Session, input_names: Sequence[str] = (), output_names: Sequence[str] = ()
) -> Runner:
    """An onnxruntime session as a `Runner`, inputs and outputs by name, or in the file's order without."""

    def run(inputs: Tensors) -> Tensors:
        outputs = session.run(list(output_names) or None, session_feed(session, inputs, input_names))
        return tuple(torch.from_numpy(np.array(value)) for value in outputs)

    return run
