"""Hashes of whole numbers, by which what looks the same is found by sorting."""

from __future__ import annotations

from typing import Any

import numpy as np


def mixed(values: np.ndarray[tuple[int, ...], np.dtype[Any]]) -> np.ndarray[tuple[int, ...], np.dtype[Any]]:
    """A hash of 64 bits of each number (Steele, Lea & Flood, 2014)."""
    state = values.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
