"""Weight-space symmetry: what may be permuted inside a model, inferred from its graph."""

from tdsl.symmetry.hidden.groups import (
    AxisGroup,
    HiddenSymmetry,
    Member,
    PinnedAxis,
    axis_groups,
    hidden_symmetry,
    weights_of,
    with_weights,
)

__all__ = [
    "AxisGroup",
    "HiddenSymmetry",
    "Member",
    "PinnedAxis",
    "axis_groups",
    "hidden_symmetry",
    "weights_of",
    "with_weights",
]
