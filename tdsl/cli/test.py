"""`tdsl test`: runs the examples of `.tdsl` files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tdsl.cli import terminal
from tdsl.cli.options import AsJson
from tdsl.errors import Span, TdslError

if TYPE_CHECKING:
    from tdsl.engine.example import Outcome
    from tdsl.lang import tree


@dataclass(frozen=True, slots=True)
class Result:
    """An example that was run, and what came of it: an outcome, or the mistake that kept it from running."""

    example: tree.Example
    outcome: Outcome | None
    mistake: TdslError | None = None

    @property
    def passed(self) -> bool:
        """Whether the example is as it says."""
        return self.outcome is not None and self.outcome.passed

    @property
    def span(self) -> Span:
        """The name of the rule, where a failure is shown."""
        return self.example.reference.span

    def record(self) -> dict[str, Any]:
        """The result as plain data."""
        found, mistake = self.outcome, self.mistake
        span = mistake.span if mistake is not None and mistake.span else self.span
        return {
            "file": span.source.name,
            "line": span.line,
            "rule": self.example.reference.pattern,
            "passed": self.passed,
            "applied": list(found.rules) if found else [],
            "problem": mistake.message if mistake else found.problem if found else "",
            "expected": _lines(found.expected) if found else [],
            "found": _lines(found.found) if found else [],
            "explanation": found.explanation if found else "",
        }


def run_tests(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILES...",
            help="Files and folders of them; without any, the standard library.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="N", help="Draws other weights and inputs.", min=0, max=2**31)
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Run the examples in `.tdsl` files.

    Does the rule fire, is this what it gives, are both the same?
    """
    files = list(_files(paths or ()))
    with terminal.stages() as progress:
        progress("start torch")
        results = [result for path in files for result in _run(path, seed, progress)]
    failed = [result for result in results if not result.passed]
    if as_json:
        counts = {"passed": len(results) - len(failed), "failed": len(failed)}
        records = [result.record() for result in results]
        terminal.put_json({"format": "tdsl-test/1", **counts, "examples": records})
    else:
        for result in results:
            _show(result)
        terminal.put(f"{_summary(len(results) - len(failed), len(failed))}\n")
    if failed:
        raise typer.Exit(1)


def _files(paths: Sequence[str]) -> Iterator[Path]:
    from tdsl.lang.library_files import standard_files

    if not paths:
        yield from (path for _, path in standard_files())
    for path in map(Path, dict.fromkeys(paths)):
        yield from sorted(path.rglob("*.tdsl")) if path.is_dir() else [path]


def _run(path: Path, seed: int, progress: terminal.Progress) -> Iterator[Result]:
    from tdsl.engine.example import run_example
    from tdsl.engine.library import load, standard_library
    from tdsl.lang import parse_file, tree
    from tdsl.lang.library_files import prefix_of, standard_files

    file = parse_file(path)
    examples = [item for item in file.items if isinstance(item, tree.Example)]
    standard = path.resolve() in {standard.resolve() for _, standard in standard_files()}
    if standard and not examples:
        return
    progress("read rules")
    own = None if standard else load(path)  # rules that are wrong do not load, and need no example for that
    if not examples:
        return
    library, prefix = standard_library(), prefix_of(path)
    if own is not None:
        library = library.extended(own)
    progress(f"run {path.name}")
    for example in examples:
        try:
            yield Result(example, run_example(example, library, prefix, seed))
        except TdslError as mistake:
            yield Result(example, None, mistake)


# ---------------------------------------------------------------- as text


def _show(result: Result) -> None:
    """A failure with its place and the difference; of an example that expects nothing, what came out."""
    if result.mistake is not None:
        terminal.put_error(result.mistake)
    elif result.outcome is not None and not result.passed:
        terminal.put_error(TdslError(result.outcome.problem, result.span))
        terminal.put("".join(f"{line}\n" for line in [*_difference(result.outcome), ""]))
    elif result.outcome is not None and result.example.arrow is None:
        lines = [f"{result.span}: {result.example.reference.pattern} gives"]
        lines += [f"    {line}" for line in _lines(result.outcome.found)]
        terminal.put("".join(f"{line}\n" for line in [*lines, ""]))


def _difference(outcome: Outcome) -> Iterator[str]:
    expected, found = _lines(outcome.expected), _lines(outcome.found)
    if expected != found and expected:
        yield from list(unified_diff(expected, found, "expected", "found", n=99, lineterm=""))[:2]
        yield from list(unified_diff(expected, found, n=99, lineterm=""))[3:]
    else:
        yield from (f" {line}" for line in found)
    if outcome.explanation:
        yield ""
        yield from outcome.explanation.rstrip().split("\n")


def _lines(side: Sequence[tree.Equation]) -> list[str]:
    from tdsl.lang.format import format_side

    return format_side(side)


def _summary(passed: int, failed: int) -> str:
    if not passed and not failed:
        return "no examples"
    count = f"{passed} example{'' if passed == 1 else 's'} passed"
    return f"{count}, {failed} failed" if failed else count
