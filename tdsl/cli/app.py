"""The commands put together, and what becomes of an exception: a diagnostic, or a traceback if it is our bug.

Exit status: 0 done and kept, 1 a contract not kept or a mistake of the user's, 2 wrong usage, 130
interrupted, 141 nobody reads the output any more (as a shell counts them: 128 and the signal).
"""

from __future__ import annotations

import contextlib
import errno
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tdsl.cli import terminal
from tdsl.cli.align import align_models
from tdsl.cli.audit import audit_model
from tdsl.cli.certify import certify_file
from tdsl.cli.check import check_models
from tdsl.cli.compile import compile_model
from tdsl.cli.explain import explain_rule
from tdsl.cli.fmt import format_files
from tdsl.cli.list import list_names
from tdsl.cli.lsp import serve_editor
from tdsl.cli.merge import merge_models
from tdsl.cli.new import new
from tdsl.cli.options import JSON
from tdsl.cli.prove import prove_rules
from tdsl.cli.show import show_thing
from tdsl.cli.sweep import profile_model, sweep_model
from tdsl.cli.test import run_tests
from tdsl.errors import TdslError

FAILED, INTERRUPTED, NO_READER = 1, 130, 141

_FULL = (errno.ENOSPC, errno.EDQUOT)


class Commands(TyperGroup):
    """The group of all commands, which turns what went wrong into an exit status."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except TdslError as error:
            _report(error, ctx)
            status = FAILED
        except KeyboardInterrupt:
            terminal.say("interrupted")
            status = INTERRUPTED
        except BrokenPipeError:
            status = NO_READER
        except OSError as error:
            if error.errno not in _FULL:
                raise
            _report(TdslError(f"{error.filename or 'writing'}: {error.strerror}"), ctx)
            status = FAILED
        raise typer.Exit(status)


def _report(error: TdslError, ctx: Any) -> None:
    """For people on standard error, and for a program that waits for JSON on standard output."""
    terminal.say_error(error)
    if ctx.meta.get(JSON):
        with contextlib.suppress(TdslError, BrokenPipeError):  # standard output may be what failed
            terminal.put_json(terminal.error_record(error))


app = typer.Typer(
    cls=Commands,
    help="tdsl rewrites PyTorch models by rules, and writes ONNX files that were run against the original.",
    epilog="A MODEL is path/to/file.py:function, which returns (model, example inputs[, dynamic shapes]), "
    "or a .pt2 file.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("compile")(compile_model)
app.command("sweep")(sweep_model)
app.command("profile")(profile_model)
app.command("check")(check_models)
app.command("align")(align_models)
app.command("merge")(merge_models)
app.command("audit")(audit_model)
app.command("certify")(certify_file)
app.command("explain")(explain_rule)
app.command("list")(list_names)
app.command("show")(show_thing)
app.command("prove")(prove_rules)
app.command("test")(run_tests)
app.add_typer(new, name="new")
app.command("fmt")(format_files)
app.command("lsp")(serve_editor)


@app.callback(invoke_without_command=True)
def _tdsl(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as version_of

        terminal.put(f"tdsl {version_of('tdsl')}\n")
        raise typer.Exit
    if context.invoked_subcommand is None:
        context.fail("Missing command.")
