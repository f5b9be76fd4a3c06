"""From a rewritten module to a file whose weights are stored as a pipeline says, and what that lost where."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import fx

from tdsl.capture import Captured
from tdsl.emit import Emitted, emit_apart
from tdsl.emit.moments import Samples
from tdsl.emit.storage import Storage, require_opset, store
from tdsl.engine.storing import StorageStep
from tdsl.memory import give_back
from tdsl.plan.calibrate import Data, Progress
from tdsl.report import Note, RewriteRecord, units


@dataclass
class Storing:
    """How files are emitted under a pipeline: its `quantize` steps and the data that they may look at.

    Raises `TdslError` where the operator set that is asked for has no form for a scheme.
    """

    steps: Sequence[StorageStep]
    data: Data
    opset: int | None
    """As asked for, then the one that the schemes need, or `None` for torch's choice."""
    metadata: bool
    progress: Progress

    def __post_init__(self) -> None:
        for step in self.steps:
            least = step.scheme.opset(step.arguments)
            self.opset = require_opset(step.scheme.name, least, step.span, self.opset)

    def emit(
        self, captured: Captured, module: fx.GraphModule, *, lossy: bool = True
    ) -> tuple[Emitted, list[Storage]]:
        """The ONNX model of `module`, and what storing its weights changed.

        Unless `lossy`, steps that change weights are left out.
        """
        emitted = emit_apart(captured, module, opset=self.opset, metadata=self.metadata)
        names = captured.input_names
        batches = [dict(zip(names, batch, strict=True)) for batch in self.data.batches]
        samples = Samples(batches, [self.data.kept(batch) for batch in self.data.batches])
        stored: list[Storage] = []
        for step in self.steps:
            if lossy or not step.scheme.lossy:
                self.progress(f"store weights as {step.scheme.name}")
                made = {name for one in stored for name in one.arrays}
                stored.append(store(emitted, step.scheme, step.arguments, samples, made, step.takes))
                give_back()
        return emitted, stored


def stored_records(stored: Sequence[Storage], emitted: Emitted, first: int) -> Iterator[RewriteRecord]:
    """What was lost weight by weight, numbered after the `first` rewrites."""
    for one in stored:
        for weight in one.weights if one.lossy else ():
            first += 1
            place = emitted.places.get(weight.reader)
            site, source = (place.module, place.source) if place else (weight.name, "")
            yield RewriteRecord(first, f"quantize.{one.scheme}", site, source, weight.error)


def storage_notes(stored: Sequence[Storage]) -> Iterator[Note]:
    """What each step did; one that changes no number, and found nothing to do, is not worth a line."""
    return (_storage_note(one) for one in stored if one.weights or one.lossy)


def _storage_note(stored: Storage) -> Note:
    """How many weights are stored otherwise, what that saves, and what it loses at worst."""
    count = len(stored.weights)
    if not count:
        return Note("storage", f"no weight is stored as {stored.scheme}: none is smaller within its error")
    weights = "1 weight is" if count == 1 else f"{count} weights are"
    text = f"{weights} stored as {stored.scheme}, {units.of_bytes(stored.saved_bytes)} less"
    if not stored.lossy:
        return Note("storage", f"{text}, and no number is another one")
    text += f"; none loses more than {units.percent(stored.error)}"
    by_data = sum(weight.by_data for weight in stored.weights)
    if by_data:
        known = "" if by_data == count else f", of {by_data} of them"
        text += f" of its layer's output (on calibration data{known})"
    fed = sum(weight.how == "error feedback" for weight in stored.weights)
    if fed:
        text += f"; {fed} by error feedback"
    return Note("storage", text)


def shared_notes(emitted: Emitted) -> Iterator[Note]:
    """Which weights are not stored, having the numbers of another one."""
    for one in emitted.shared:
        place = emitted.places.get(one.reader.name or "") if one.reader is not None else None
        name = f"the weight of {place.module}" if place and place.module else one.name
        like = "the transpose of" if one.turned else "a copy of"
        saved = units.of_bytes(one.nbytes)
        yield Note("storage", f"{name} is {like} {one.source}, which is stored once: {saved} less")


def blame_of_storage(stored: Sequence[Storage]) -> str:
    """The step that rounded weights, and the weight that lost most."""
    worst = max((one for one in stored if one.weights), key=lambda one: one.error)
    weight = max(worst.weights, key=lambda one: one.error)
    return (
        f"without `quantize {worst.scheme}` it is kept; {weight.name} lost most, {weight.error:.3g}: "
        "allow less by its argument `error`, or more by `check`"
    )
