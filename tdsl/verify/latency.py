"""Latency of the original's export and of the result, measured in turn in one run.

In turn, because a machine's speed drifts (frequency, neighbours): the two sides of a pair see the same
weather, and the order within a pair alternates. Medians and quartiles, because the noise is one-sided.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tdsl.verify.runner import Session, Tensors, session_feed

SHORTEST = 1e-3
"""Seconds that one timing lasts at least: faster models are run several times in a row."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds for one inference (medians); `ratio` is result / original, the median over pairs.

    `original_spread_ms`, `result_spread_ms` and `spread` (of the ratio) are interquartile ranges.
    """

    original_ms: float
    result_ms: float
    ratio: float
    spread: float
    original_spread_ms: float
    result_spread_ms: float
    pairs: int


def session_latency(
    original: Session,
    result: Session,
    inputs: Tensors,
    input_names: Sequence[str] = (),
    *,
    budget: float = 4.0,
) -> Latency:
    """Latency of two onnxruntime sessions on the same inputs; open both with one thread."""
    first, second = (session_feed(side, inputs, input_names) for side in (original, result))
    return in_turn(lambda: original.run(None, first), lambda: result.run(None, second), budget=budget)


def in_turn(
    original: Callable[[], object],
    result: Callable[[], object],
    *,
    budget: float = 4.0,
    least: int = 5,
    most: int = 200,
    clock: Callable[[], float] = time.perf_counter,
) -> Latency:
    """Time two calls in turn: warm-up, then pairs until `budget` seconds or `most` pairs are spent.

    At least `least` pairs are timed, however slow the calls are.
    """
    start = clock()
    repeats = [_repeats(call, clock) for call in (original, result)]
    times: tuple[list[float], list[float]] = ([], [])
    while len(times[0]) < most and (len(times[0]) < least or clock() - start < budget):
        order = (0, 1) if len(times[0]) % 2 == 0 else (1, 0)
        for side in order:
            call = (original, result)[side]
            times[side].append(_seconds(call, repeats[side], clock))
    ratios = [b / a if a else math.nan for a, b in zip(*times, strict=True)]
    return Latency(
        original_ms=1e3 * statistics.median(times[0]),
        result_ms=1e3 * statistics.median(times[1]),
        ratio=statistics.median(ratios),
        spread=_interquartile_range(ratios),
        original_spread_ms=1e3 * _interquartile_range(times[0]),
        result_spread_ms=1e3 * _interquartile_range(times[1]),
        pairs=len(ratios),
    )


def _repeats(call: Callable[[], object], clock: Callable[[], float]) -> int:
    """How often to run `call` in one timing; finding that out is the warm-up."""
    call()  # the first run allocates, and is not typical
    repeats = 1
    while (elapsed := repeats * _seconds(call, repeats, clock)) < SHORTEST and repeats < 1024:
        repeats = min(1024, max(2 * repeats, math.ceil(repeats * SHORTEST / elapsed) if elapsed else 0))
    return repeats


def _seconds(call: Callable[[], object], repeats: int, clock: Callable[[], float]) -> float:
    """Seconds that one of `repeats` calls in a row takes."""
    start = clock()
    for _ in range(repeats):
        call()
    return (clock() - start) / repeats


def _interquartile_range(values: list[float]) -> float:
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return high - low
