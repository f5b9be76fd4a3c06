"""A file run on many samples while it is open, and closed before anything else runs.

A session has a copy of the weights in the layout of its kernels, and the original, in float32 and in float64,
needs its own room: one after the other they take as much as the larger one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tdsl.memory import give_back
from tdsl.verify.runner import Runner, Tensors
from tdsl.verify.samples import Sample


class Ahead:
    """A runner for the inputs of `samples`, in their order; some may be left out.

    `open_file` gives the runner of a file, which lives as long as what it gave is used. It is opened at once,
    and again whenever `room` bytes of outputs have been used up. What it raises on a sample is raised when
    that sample is asked for.
    """

    def __init__(self, open_file: Callable[[], Runner], samples: Sequence[Sample], room: int) -> None:
        self._open = open_file
        self._inputs = [sample.inputs for sample in samples]
        self._room = room
        self._made: dict[int, Tensors | Exception] = {}
        self._run(0)

    def __call__(self, inputs: Tensors) -> Tensors:
        """The outputs for the inputs of a sample; those of the samples before it are forgotten."""
        place = next(i for i, known in enumerate(self._inputs) if known is inputs)
        if place not in self._made:
            self._run(place)
        made = self._made.pop(place)
        self._made = {later: outputs for later, outputs in self._made.items() if later > place}
        if isinstance(made, Exception):
            raise made
        return made

    def _run(self, first: int) -> None:
        """Run the samples from `first` on, as many as there is room for."""
        self._made.clear()
        run, taken = self._open(), 0
        for place in range(first, len(self._inputs)):
            try:
                outputs = run(self._inputs[place])
                self._made[place] = outputs
                taken += sum(value.nbytes for value in outputs)
            except Exception as error:  # a runtime may raise anything
                self._made[place] = error.with_traceback(None)  # which would keep the file open
            if taken >= self._room:
                break
        del run
        give_back()
