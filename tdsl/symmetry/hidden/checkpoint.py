"""Weights in a file beside the weights of a captured model: by name, tied ones under each of their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import fx

from tdsl.capture.normal import weights_of
from tdsl.errors import TdslError
from tdsl.spelling import did_you_mean
from tdsl.symmetry.hidden.align import Alignment
from tdsl.symmetry.hidden.groups import with_weights

if TYPE_CHECKING:
    from tdsl.capture import Captured

Names = Mapping[str, tuple[str, ...]]
"""Path of a weight in the captured module → its names in the state dict, none if it is not stored."""


def stored_names(captured: Captured) -> dict[str, tuple[str, ...]]:
    """What the weights of a captured model are called in the state dict of the model."""
    stored: dict[tuple[object, ...], list[str]] = {}
    for name, tensor in captured.user_model.state_dict(keep_vars=True).items():
        stored.setdefault(_memory(tensor), []).append(name)
    return {
        path: tuple(stored.get(_memory(tensor), ())) for path, tensor in weights_of(captured.module).items()
    }


def with_checkpoint(captured: Captured, tensors: Mapping[str, torch.Tensor], source: str) -> fx.GraphModule:
    """The graph of a captured model with the weights that a file holds for it.

    Raises `TdslError` where one is missing or has another shape; `source` is what the file is called.
    """
    found: dict[str, torch.Tensor] = {}
    own = weights_of(captured.module)
    for path, names in stored_names(captured).items():
        if not names:
            continue
        name = next((name for name in names if name in tensors), None)
        if name is None:
            raise TdslError(
                f"{source} has no weight {names[0]}",
                expected=f"a state dict of {captured.name}",
                hint=did_you_mean(names[0], tensors),
            )
        if tensors[name].shape != own[path].shape:
            raise TdslError(
                f"{name} is {list(own[path].shape)} in the model and {list(tensors[name].shape)} in {source}",
                expected=f"a state dict of {captured.name}",
            )
        found[path] = tensors[name].to(own[path].dtype)
    return with_weights(captured.module, found)


def aligned_checkpoint(
    result: Alignment, tensors: Mapping[str, torch.Tensor], names: Names
) -> dict[str, torch.Tensor]:
    """The tensors of a file permuted as an alignment says, bit by bit the same numbers in another order."""
    weights: dict[str, torch.Tensor] = {}
    for path, known in names.items():
        name = next((name for name in known if name in tensors), None)
        if name is not None:
            weights[path] = tensors[name]
    for group, permutation in result.permutations:
        weights |= group.permute(permutation, weights)
    changed = {name: tensor for path, tensor in weights.items() for name in names[path] if name in tensors}
    return {name: changed.get(name, tensor) for name, tensor in tensors.items()}


def not_stored(names: Names) -> frozenset[str]:
    """The weights that a state dict does not hold: constants, and buffers that are not persistent."""
    return frozenset(path for path, known in names.items() if not known)


def read_checkpoint(path: str) -> dict[str, torch.Tensor]:
    """The tensors in a `.safetensors` file. Raises `TdslError`."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except FileNotFoundError:
        raise TdslError(f"there is no file {path}") from None
    except (OSError, SafetensorError) as reason:
        raise TdslError(f"{path} cannot be read as .safetensors: {reason}") from None


def distinct(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors as a file takes them: contiguous, none sharing memory with another."""
    return {name: tensor.detach().contiguous().clone() for name, tensor in sorted(tensors.items())}


def _memory(tensor: torch.Tensor) -> tuple[object, ...]:
    return tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride()
