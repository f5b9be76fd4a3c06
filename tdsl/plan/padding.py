"""Which positions an input declares to be padding: by zeros among ones, or by what is added to scores."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from tdsl.errors import TdslError

SHUT_OUT = -1e4
"""What is added to the scores of padding is this or less: -1e9, the lowest number of a type, -inf."""


def named_mask(names: Sequence[str], batches: Sequence[Sequence[Tensor]]) -> int | None:
    """The position of the input that is called a mask and holds what only a mask of padding does.

    That is zeros and ones with some zeros, or zeros beside what shuts out, in two axes and more. A
    `padding_mask` is none: in some models its ones are the padding.
    """
    for position, name in enumerate(names):
        values = [batch[position] for batch in batches]
        if (
            "mask" in name
            and "pad" not in name
            and values
            and all(v.dim() > 1 for v in values)
            and _says(values)
        ):
            return position
    return None


def require_mask(name: str, values: Sequence[Tensor]) -> None:
    """Raise `TdslError` for an input that is named as the mask and does not say which positions are padding.

    Whole numbers do: 0 is padding. Others have to be 0 and 1, or 0 and what shuts out.
    """
    if all(not value.is_floating_point() and not value.is_complex() for value in values):
        return
    if values[0].is_complex() or not (all(map(_ones, values)) or added(values)):
        raise TdslError(
            f"the input {name} is no mask of padding: it holds numbers beside 0 and 1",
            expected="0 where the others are padding and 1 elsewhere; or, where they are padding, "
            f"{SHUT_OUT:g} and less, such as -inf, and 0 elsewhere",
        )
    if added(values) and _axes(values) != 2:
        raise TdslError(
            f"the input {name} is no mask of padding: it has {_axes(values)} axes that are longer than 1",
            expected="two: a batch, and the positions of each sample",
            hint="what some positions may not see of others does not say which are padding",
        )


def added(values: Sequence[Tensor]) -> bool:
    """Whether a mask is added to scores: numbers that are not whole, each 0 or what shuts out."""
    return all(
        value.is_floating_point() and bool(((value == 0) | (value <= SHUT_OUT)).all()) for value in values
    )


def spread(sizes: Sequence[object]) -> tuple[int, ...]:
    """The axes of a mask that other axes are as long as they like along."""
    return tuple(axis for axis, size in enumerate(sizes) if axis and isinstance(size, int) and size == 1)


def _axes(values: Sequence[Tensor]) -> int:
    """How many axes a mask has that it is not spread along."""
    return max(value.dim() - len(spread(value.shape)) for value in values)


def _ones(value: Tensor) -> bool:
    return bool(((value == 0) | (value == 1)).all())


def _says(values: Sequence[Tensor]) -> bool:
    if any(value.is_complex() for value in values) or not any(bool((value == 0).any()) for value in values):
        return False
    if added(values):
        return any(bool((value != 0).any()) for value in values) and _axes(values) == 2
    return all(map(_ones, values))
