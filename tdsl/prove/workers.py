"""Rules proved anew, many of them by several processes at once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

from tdsl.errors import TdslError
from tdsl.lang import tree
from tdsl.prove.verdict import Verdict

FEW = 24
"""So many rules are proved sooner than other processes have started."""

Outcome = Verdict | TdslError
"""What is known of a rule, or what is wrong with it."""


def outcomes_of(rules: Sequence[tree.Rule]) -> Iterator[Outcome]:
    """The outcomes of rules in their order, by a process for each core where there are many rules.

    What goes wrong in such a process is raised here, with the trace from there.
    """
    count = os.cpu_count() or 1
    if len(rules) <= FEW or count == 1:
        yield from map(_outcome, rules)
        return
    way = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(way)
    if way == "forkserver":  # what all of them need is loaded once
        context.set_forkserver_preload(["tdsl.factor.table", "tdsl.prove.proof"])
    with ProcessPoolExecutor(count, context, initializer=_begin) as pool:
        waiting = [pool.submit(_outcome, rule) for rule in rules]
        try:
            for future in waiting:
                yield future.result()
        finally:  # on an error, and when the user stops it
            pool.shutdown(wait=False, cancel_futures=True)


def _begin() -> None:
    """One thread for each process; the process that started it is told to stop, not this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import torch

    torch.set_num_threads(1)
    sys.stdout = sys.stderr  # standard output belongs to the result


def _outcome(rule: tree.Rule) -> Outcome:
    from tdsl.factor.table import vocabulary  # torch, where there is something to prove
    from tdsl.lang.resolve import resolve
    from tdsl.prove.check import fresh_verdict

    try:
        return fresh_verdict(resolve(rule, vocabulary()))
    except TdslError as mistake:
        return mistake
