"""`tdsl sweep` and `tdsl profile`: the curve of a plan, and the latencies that plans go by."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tdsl.cli import terminal
from tdsl.cli.models import captured_model
from tdsl.cli.options import AsJson, Cache, Calibration, Loss, Mask, Model, Profile, Rules, Set
from tdsl.cli.settings import function_from, parameters_from, sizes_from
from tdsl.errors import TdslError
from tdsl.files import require_writable

if TYPE_CHECKING:
    from tdsl.sweeper import Curve

Pipeline = Annotated[
    str, typer.Option("--pipeline", "-p", metavar="NAME", help="A pipeline with a `choose` step.")
]


def sweep_model(
    model: Model,
    pipeline: Pipeline = "compact",
    rules: Rules = None,
    settings: Set = None,
    calibration: Calibration = None,
    mask: Mask = None,
    loss: Loss = None,
    cache: Cache = None,
    by: Annotated[
        str, typer.Option(help="The cost that is bounded: parameters, bytes, macs or latency.")
    ] = "parameters",
    shares: Annotated[
        str, typer.Option(metavar="LIST", help="Sizes, as shares of the model: `90%,75%,50%`.")
    ] = "90%,80%,70%,60%,50%,40%,30%,20%",
    profile: Profile = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.json", help="Write the curve here as well.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a plan for MODEL loses at each of several sizes.

    One calibration and one set of candidates give every point; nothing is compiled. A file is written after
    every point, so that a run that is cut off leaves what it found.
    """
    sizes = _shares(shares)
    if output is not None:
        require_writable(output)
    with terminal.stages() as progress:
        arguments = _arguments(model, pipeline, rules, settings, calibration, mask, loss, cache, progress)
        from tdsl.sweeper import sweep

        def keep(found: Curve) -> None:
            if output is not None:
                found.write(output)

        curve = sweep(by=by, shares=sizes, so_far=keep, profile=profile, **arguments)
    keep(curve)  # also one without a point
    if as_json:
        terminal.put_json({"format": "tdsl-sweep/1", **asdict(curve)})
    else:
        terminal.show(_table(curve))


def profile_model(
    model: Model,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE.json", help="The table to write.")
    ] = Path("profile.json"),
    size: Annotated[
        list[str] | None,
        typer.Option(
            metavar="AXIS=N",
            help="Size of a dynamic axis to time at: `batch=1`; the example's by default. May be repeated.",
        ),
    ] = None,
    pipeline: Pipeline = "compact",
    rules: Rules = None,
    settings: Set = None,
    calibration: Calibration = None,
    mask: Mask = None,
    loss: Loss = None,
    cache: Cache = None,
) -> None:
    """Time, on this machine, what a plan for MODEL may build.

    Every operator is timed at its exact shapes. Run it on the device that the file is
    for, and give the table to `tdsl compile --profile` elsewhere.
    """
    sizes = sizes_from(size or ())
    with terminal.stages() as progress:
        arguments = _arguments(model, pipeline, rules, settings, calibration, mask, loss, cache, progress)
        from tdsl.plan.latency import LatencyTable
        from tdsl.sweeper import profile

        table = profile(output, profile=LatencyTable(sizes=sizes), **arguments)
    terminal.say(f"wrote {output}: {len(table.seconds)} operators")


def _arguments(
    model: str,
    pipeline: str,
    rules: Path | None,
    settings: list[str] | None,
    calibration: str | None,
    mask: str | None,
    loss: str | None,
    cache: Path | None,
    progress: Any,
) -> dict[str, Any]:
    """What `tdsl.prepare` takes, from what the command line says."""
    progress("start torch")
    from tdsl.cli.samples import samples_from
    from tdsl.engine.library import load, standard_library
    from tdsl.verify import inputs_of

    library = standard_library()
    if rules is not None:
        library = library.extended(load(rules))
    chosen = library.pipeline(pipeline)
    parameters = parameters_from(settings or (), f"pipeline {chosen.name}", chosen.parameters)
    progress("capture")
    captured = captured_model(model)
    measured_by = function_from(loss)
    inputs = inputs_of(captured)[0]
    samples = samples_from(calibration, inputs, labelled=loss is not None, needed=True)
    return {
        "model": captured,
        "pipeline": pipeline,
        "parameters": parameters,
        "rules": library,
        "calibration": samples,
        "mask": mask,
        "loss": measured_by,
        "cache": cache,
        "progress": progress,
    }


def _shares(text: str) -> list[float]:
    """`90%,0.5` as numbers. Raises `TdslError` for anything else."""
    try:
        return [float(part.rstrip("% ")) / (100 if "%" in part else 1) for part in text.split(",")]
    except ValueError:
        raise TdslError(f"{text} is no list of sizes", expected="shares such as `90%,75%,50%`") from None


def _table(curve: Curve) -> Any:
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from tdsl.report import units

    timed = any(point.latency is not None for point in curve.points)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    columns = [
        curve.by,
        "bytes",
        "MACs",
        *(["latency"] if timed else []),
        "sites",
        "error",
        "cosine min",
        "mean",
    ]
    for i, name in enumerate(dict.fromkeys(columns)):
        table.add_column(name, justify="left" if i == 0 else "right")
    for p in curve.points:
        shown = {
            "parameters": units.percent(p.parameters),
            "bytes": units.percent(p.bytes),
            "MACs": units.percent(p.macs),
            "macs": units.percent(p.macs),
            "latency": units.percent(p.latency) if p.latency is not None else units.NONE,
            "sites": str(p.sites),
            "error": units.percent(p.error),
            "cosine min": units.cosine(p.cosine),
            "mean": units.cosine(p.mean_cosine),
        }
        table.add_row(*(shown[name] for name in dict.fromkeys(columns)))
    least = Text(f"these rules reach {units.percent(curve.least)} of the {curve.by} at the least", "dim")
    cautions = (Text(line, "dim") for line in curve.cautions)
    plans = table if curve.points else Text("no plan reaches any of these sizes")
    return Group(plans, Text(""), *(Text(line) for line in _symmetries(curve)), *cautions, least)


def _symmetries(curve: Curve) -> list[str]:
    """For each symmetry that the pipeline checks, how each plan keeps it."""
    from tdsl.report import units

    lines: dict[str, list[str]] = {}
    for point in curve.points:
        for one in point.symmetries:
            said = f"{one.verdict} at {units.percent(point.asked)} ({one.defect:.1e})"
            lines.setdefault(one.name, []).append(said)
    return [f"symmetry {name}: {', '.join(said)}" for name, said in lines.items()]
