"""Latency of the original's export and of the result, measured in turn in one run.

In turn, because a machine's speed drifts (frequency, neighbours): the two sides of a round see the same
weather, and the order within a round alternates. Medians and quartiles, because the noise is one-sided.
Each side is opened anew in each round, and closed before the other is opened: two models at once need the
memory of two, and where a session happens to put its buffers changes its speed for as long as it lives.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from tdsl.verify.runner import Session, Tensors, session_feed

Call = Callable[[], object]

SHORTEST = 1e-3
"""Seconds that one timing lasts at least: faster models are run several times in a row."""

SHARE = 3
"""How many times as long as opening a side its timings in a round take."""


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
    original: Callable[[], Session],
    result: Callable[[], Session],
    inputs: Tensors,
    *,
    budget: float = 4.0,
) -> Latency:
    """Latency of two models on the same inputs, each given by what opens a session of it, with one thread."""

    def opened(side: Callable[[], Session]) -> Call:
        session = side()
        feed = session_feed(session, inputs)
        return lambda: session.run(None, feed)

    return in_turn(lambda: opened(original), lambda: opened(result), budget=budget)


def in_turn(
    original: Callable[[], Call],
    result: Callable[[], Call],
    *,
    budget: float = 4.0,
    least: int = 5,
    most: int = 200,
    clock: Callable[[], float] = time.perf_counter,
) -> Latency:
    """Time two calls in turn, each opened anew every round, until `budget` seconds or `most` pairs are spent.

    A side is timed as often in a round as takes `SHARE` times as long as opening it and warming it up, or a
    quarter of the budget. At least `least` pairs are timed, in two rounds or more, however slow calls are.
    """
    start = clock()
    times: tuple[list[float], list[float]] = ([], [])
    count = 0
    for turn in itertools.count():
        for side in (0, 1) if turn % 2 == 0 else (1, 0):
            begin = clock()
            call = (original, result)[side]()
            repeats = _repeats(call, clock)
            first = _seconds(call, repeats, clock)
            if not count:
                opening = clock() - begin - first * repeats
                once = first * repeats
                wanted = min(SHARE * opening, budget / 4) / once if once else 1
                count = max(math.ceil(least / 2), min(most // 4, math.ceil(wanted)))
            times[side].append(first)
            times[side].extend(_seconds(call, repeats, clock) for _ in range(count - 1))
            del call
        pairs = len(times[0])
        if pairs >= least and (pairs + count > most or clock() - start >= budget):
            break
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
