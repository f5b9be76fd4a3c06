"""What an operator costs on this machine, in seconds that it adds to a file (`timing`).

Timings are kept in a table by operator, shapes and attributes, so that each is measured once; a table that
was written on another device (`tdsl profile`) takes the place of this machine.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from torch import fx

from tdsl.capture.naming import Axis
from tdsl.engine.staged import Staged
from tdsl.engine.workspace import Workspace
from tdsl.errors import TdslError
from tdsl.files import written
from tdsl.plan.steps import Step, steps_of
from tdsl.plan.timing import measure
from tdsl.spelling import did_you_mean

FORMAT = "tdsl-profile/1"


@dataclass
class LatencyTable:
    """Seconds for each step, measured when first asked for unless the table is `fixed`."""

    seconds: dict[str, float] = field(default_factory=dict)
    spread: dict[str, float] = field(default_factory=dict)
    """By how much the timings of a step differed; nothing is known of one that is not here."""
    machine: str = ""
    fixed: bool = False
    sizes: dict[str, int] = field(default_factory=dict)
    """Sizes of dynamic axes, by name, at which steps are timed; the traced example's where not given."""
    symbols: dict[str, int] = field(default_factory=dict)
    """The same by the symbols of one captured model (`bind`)."""

    def bind(self, axes: Iterable[Axis]) -> None:
        """Take `sizes` for the dynamic axes of a model. Raises `TdslError` for an axis that it lacks."""
        known = {axis.name: axis.symbol for axis in axes}
        for name in self.sizes:
            if name not in known:
                raise TdslError(
                    f"latencies are to be timed at {name} = {self.sizes[name]}",
                    expected=f"a dynamic axis of the model: {', '.join(sorted(known)) or 'it has none'}",
                    hint=did_you_mean(name, known),
                )
            if self.sizes[name] < 1:
                raise TdslError(
                    f"latencies are to be timed at {name} = {self.sizes[name]}",
                    expected="a size of 1 or more",
                )
        self.symbols = {known[name]: size for name, size in self.sizes.items()}

    def steps(self, work: Workspace, values: Iterable[fx.Node | Staged]) -> list[Step]:
        """`steps_of` at the sizes at which this table times them."""
        return steps_of(work, values, self.symbols)

    def of(self, steps: Iterable[Step]) -> float:
        """The time of some steps, one after the other.

        Raises `TdslError` for a step that a fixed table does not have.
        """
        return sum(self._one(step) for step in steps)

    def gain(self, before: Iterable[Step], after: Iterable[Step]) -> float:
        """The time that is saved by some steps in place of others; 0 where chance might show as much.

        Spreads of single steps are independent, so that their squares add up.
        """
        old, new = list(before), list(after)
        gained = self.of(old) - self.of(new)
        noise = math.hypot(*(self.spread.get(str(step), 0.0) for step in (*old, *new)))
        return gained if abs(gained) > noise else 0.0

    def _one(self, step: Step) -> float:
        key = str(step)
        if key not in self.seconds:
            if self.fixed:
                raise TdslError(
                    f"the profile has no entry for {key}",
                    hint="run `tdsl profile` with the same model and pipeline on that device",
                )
            self.seconds[key], self.spread[key] = measure(step)
        return self.seconds[key]

    @classmethod
    def read(cls, path: Path) -> LatencyTable:
        """The table of a file that `write` made. Raises `TdslError` for any other file."""
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if (found := record["format"]) != FORMAT:
                raise _another_format(path, str(found))
            seconds = {str(key): float(value) for key, value in record["seconds"].items()}
            spread = {str(key): float(value) for key, value in record.get("spread", {}).items()}
            for key, value in (*seconds.items(), *spread.items()):
                if not 0 <= value < math.inf:
                    raise TdslError(f"{path} says that {key} takes {value} s", expected="a time")
            sizes = {str(name): int(size) for name, size in record.get("sizes", {}).items()}
            return cls(seconds, spread, str(record["machine"]), fixed=True, sizes=sizes)
        except OSError as reason:
            raise TdslError(f"cannot read {path}: {reason.strerror}") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise TdslError(f"{path} is no profile", expected="a file written by `tdsl profile`") from None

    def write(self, path: Path) -> None:
        """Write the table as JSON, whole or not at all."""
        tables = {"seconds": dict(sorted(self.seconds.items())), "spread": dict(sorted(self.spread.items()))}
        record = {"format": FORMAT, "machine": self.machine, "sizes": self.sizes, **tables}
        with written(path) as part:
            part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _another_format(path: Path, found: str) -> TdslError:
    """What is wrong with a file that is no table, or one of another version."""
    if found.partition("/")[0] == FORMAT.partition("/")[0]:
        return TdslError(
            f"{path} was written by another version of tdsl: its format is {found}",
            expected=FORMAT,
            hint="write it anew: `tdsl profile` on the device that it speaks of",
        )
    return TdslError(
        f"{path} is no profile: its format is {found}", expected="a file written by `tdsl profile`"
    )
