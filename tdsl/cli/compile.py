"""`tdsl compile`: a model in, a verified ONNX file and its report out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tdsl.cli import terminal
from tdsl.cli.models import captured_model, default_output, short_name
from tdsl.cli.options import AsJson, Cache, Calibration, Loss, Mask, Metric, Model, Profile, Rules, Set
from tdsl.cli.settings import function_from, parameters_from
from tdsl.errors import TdslError


def compile_model(
    model: Model,
    pipeline: Annotated[
        str,
        typer.Option("--pipeline", "-p", metavar="NAME", help="What to apply; see `tdsl list pipelines`."),
    ] = "exact",
    rules: Rules = None,
    settings: Set = None,
    calibration: Calibration = None,
    held_out: Annotated[
        str | None,
        typer.Option(
            metavar="SAMPLES",
            help="Inputs that the contract is judged on; every fourth calibration sample by default.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT.onnx",
            help="The file to write; out/FILE/FUNCTION/model.onnx by default.",
        ),
    ] = None,
    mask: Mask = None,
    loss: Loss = None,
    metric: Metric = None,
    profile: Profile = None,
    cache: Cache = None,
    opset: Annotated[int | None, typer.Option(help="ONNX operator set.", min=1)] = None,
    metadata: Annotated[
        bool, typer.Option("--metadata", help="Keep the source of every node in the file.")
    ] = False,
    no_latency: Annotated[bool, typer.Option("--no-latency", help="Do not measure latency.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="List every rewrite and note.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compile MODEL into an ONNX file, verified against the original.

    Writes the file and report.json beside it when the contract holds; otherwise nothing, and exits with 1.
    """
    target = output or default_output(model)
    _require_file_name(target)
    with terminal.stages() as progress:
        progress("start torch")
        from tdsl.cli.samples import samples_from
        from tdsl.compiler import BrokenContract
        from tdsl.compiler import compile as run
        from tdsl.engine.library import load, standard_library
        from tdsl.engine.strategy import Runner
        from tdsl.report import render
        from tdsl.report.json_file import record
        from tdsl.verify import inputs_of

        progress("read rules")
        library = standard_library()
        if rules is not None:
            library = library.extended(load(rules))
        chosen = library.pipeline(pipeline)
        parameters = parameters_from(settings or (), f"pipeline {chosen.name}", chosen.parameters)
        Runner(library, chosen, parameters)  # whatever is wrong with it is said before the long work begins

        progress("capture")
        captured = captured_model(model)
        inputs, _ = inputs_of(captured)
        measured_by = function_from(loss)
        metrics = [function_from(one) or one for one in metric or ()]
        labelled = loss is not None or bool(metrics)
        known = samples_from(calibration, inputs, labelled=labelled, needed=loss is not None)
        kept_back = samples_from(held_out, inputs, labelled=labelled, needed=bool(metrics))
        broken: BrokenContract | None = None
        try:
            result = run(
                captured,
                pipeline=pipeline,
                parameters=parameters,
                rules=library,
                calibration=known,
                held_out=kept_back,
                output=target,
                opset=opset,
                mask=mask,
                loss=measured_by,
                metric=metrics,
                profile=profile,
                cache=cache,
                metadata=metadata,
                latency=not no_latency,
                name=short_name(model),
                progress=progress,
            )
            report = result.report
        except BrokenContract as reason:
            broken, report = reason, reason.report
    written = [] if broken else [target, target.parent / "report.json"]
    if as_json:
        terminal.put_json(
            {
                "format": "tdsl-compile/1",
                "written": [path.as_posix() for path in written],
                "report": record(report),
            }
        )
    else:
        terminal.show(render(report, everything=everything))
    if broken:
        terminal.say_error(
            TdslError(
                "the contract is not kept, and nothing was written",
                expected=broken.expected,
                hint=broken.hint,
            )
        )
        raise typer.Exit(1)
    terminal.say(f"wrote {' and '.join(map(str, written))}")


def _require_file_name(target: Path) -> None:
    """Refuse before the long work what could not be written after it."""
    if target.is_dir():
        raise TdslError(
            f"cannot write {target}: it is a directory", expected="a file name such as model.onnx"
        )
    if target.suffix != ".onnx":
        raise TdslError(f"cannot write {target}", expected="a file name such as model.onnx")
    above = next(folder for folder in target.absolute().parents if folder.exists())
    if not above.is_dir():
        raise TdslError(f"cannot write {target}: {above} is not a directory")
