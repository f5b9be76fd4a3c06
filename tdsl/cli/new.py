"""`tdsl new rule`: a rule derived from two Python functions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tdsl.cli import terminal
from tdsl.cli.options import AsJson
from tdsl.errors import TdslError

if TYPE_CHECKING:
    from tdsl.derive import Derived

new = typer.Typer(
    help="Write something new.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@new.callback()
def _new() -> None:
    """Derive a rule from Python functions."""


@new.command("rule")
def new_rule(
    functions: Annotated[
        tuple[str, str],
        typer.Option(
            "--from",
            metavar="BEFORE AFTER",
            help="What the rule matches, and what it puts in place: `file.py` or `file.py:function`.",
        ),
    ],
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="What to call it; like a function by default.", show_default=False
        ),
    ] = "",
    constants: Annotated[
        str,
        typer.Option("--const", metavar="W,b", help="Operands that are weights.", show_default=False),
    ] = "",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE.tdsl", help="Write it there, not to standard output."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Derive a rule from two functions: BEFORE becomes AFTER.

    Operands have sizes by annotations (`x: Tensor["...", "n"]`, `W: Const["m", "n"]`) or by example defaults
    (`x=torch.ones(4, 8)`; an `nn.Parameter` is a weight). The rule is tried on models of several sizes.
    """
    if output is not None and output.exists():
        raise TdslError(f"{output} is there already", hint="leave --output out and paste the rule into it")
    with terminal.stages() as progress:
        progress("start torch")
        from tdsl.derive import derive

        progress("derive")
        given = [constant.strip() for constant in constants.split(",") if constant.strip()]
        derived = derive(*functions, name, given)
    if output is not None:
        _write(output, derived.text)
    if as_json:
        fixed = [{"operand": o, "axis": a, "size": s} for o, a, s in derived.fixed]
        terminal.put_json(
            {
                "format": "tdsl-new/1",
                "name": derived.name,
                "text": derived.text,
                "tried": derived.sizes,
                "verdict": derived.verdict,
                "fixed": fixed,
            }
        )
        return
    if output is None:
        terminal.put(derived.text)
    terminal.say(_summary(derived, output))


def _summary(derived: Derived, output: Path | None) -> str:
    where = f" in {output}" if output is not None else ""
    count = f"{derived.sizes} size{'' if derived.sizes == 1 else 's'}"
    lines = [f"{derived.name}{where}: holds on {count}, {derived.verdict}"]
    lines += [
        f"  axis {axis} of {operand} is {size} only: a function has that number"
        for operand, axis, size in derived.fixed
    ]
    return "\n".join(lines)


def _write(output: Path, text: str) -> None:
    from tdsl.files import written

    with written(output) as file:
        file.write_text(text, encoding="utf-8", newline="\n")
