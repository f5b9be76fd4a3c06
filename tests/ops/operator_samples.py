"""Random arguments for every operator of the table: all the samples together."""

from __future__ import annotations

import samples_of_elements
import samples_of_movement
import samples_of_sums
import samples_of_windows
from operator_draws import SAMPLES, Draw, Sample, T, called, shapes

FILES = (samples_of_elements, samples_of_movement, samples_of_sums, samples_of_windows)

__all__ = ["FILES", "SAMPLES", "Draw", "Sample", "T", "called", "shapes"]
