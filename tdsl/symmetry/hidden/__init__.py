"""Weight-space symmetry: what may be permuted inside a model, inferred from its graph."""

from tdsl.capture.normal import weights_of
from tdsl.symmetry.hidden.align import Alignment, GroupAlignment, align
from tdsl.symmetry.hidden.canonical import Canonical, canonical
from tdsl.symmetry.hidden.gauge import Gauge, gauges
from tdsl.symmetry.hidden.groups import (
    AxisGroup,
    HiddenSymmetry,
    Member,
    PinnedAxis,
    axis_groups,
    hidden_symmetry,
    with_weights,
)
from tdsl.symmetry.hidden.merging import Merged, MergedGroup, merge_duplicates
from tdsl.symmetry.hidden.rotation import rotated

__all__ = [
    "Alignment",
    "AxisGroup",
    "Canonical",
    "Gauge",
    "GroupAlignment",
    "HiddenSymmetry",
    "Member",
    "Merged",
    "MergedGroup",
    "PinnedAxis",
    "align",
    "axis_groups",
    "canonical",
    "gauges",
    "hidden_symmetry",
    "merge_duplicates",
    "rotated",
    "weights_of",
    "with_weights",
]
