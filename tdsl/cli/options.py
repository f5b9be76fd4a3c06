"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

JSON = "tdsl.json"
"""Key of the click context's `meta` under which `--json` is remembered for errors."""


def _remember(ctx: typer.Context, wanted: bool) -> bool:
    ctx.meta[JSON] = wanted
    return wanted


AsJson = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print one JSON document on standard output, and nothing else there.",
        callback=_remember,
    ),
]
Model = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="`path/to/file.py:function` or a `.pt2` file.", show_default=False),
]
Rules = Annotated[
    Path | None,
    typer.Option(
        "--rules",
        metavar="FILE.tdsl",
        help="Rules and pipelines beside the standard library's; they win over these.",
    ),
]
SAMPLES = "`.npz`, `.safetensors` or `file.py:function`"
Calibration = Annotated[
    str | None,
    typer.Option(metavar="SAMPLES", help=f"Inputs that decisions may be based on: {SAMPLES}."),
]
Mask = Annotated[
    str | None,
    typer.Option(
        metavar="INPUT",
        help="The input that is 0 where the others are padding; one called a mask by default.",
    ),
]
Loss = Annotated[
    str | None,
    typer.Option(
        metavar="LOSS",
        help="What `labels` among the samples are for: a function of torch.nn.functional such as "
        "`cross_entropy`, or `file.py:function`.",
    ),
]
Metric = Annotated[
    list[str] | None,
    typer.Option(
        metavar="METRIC",
        help="What to measure by the labels of held-out samples: `accuracy`, `calibration_error`, or "
        "`file.py:function`. May be repeated.",
    ),
]
Profile = Annotated[
    Path | None,
    typer.Option(metavar="FILE.json", help="Latencies measured elsewhere by `tdsl profile`."),
]
Cache = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Where statistics of calibration data are kept, and found by a later call with the same ones.",
    ),
]
Contract = Annotated[
    Path,
    typer.Argument(metavar="FILE.tdsl", help="A file that declares a symmetry.", exists=True, dir_okay=False),
]
Symmetry = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="The symmetry, where the file declares several."),
]
Beside = Annotated[
    str | None,
    typer.Option(metavar="SAMPLES", help=f"Inputs to measure on beside the random ones: {SAMPLES}."),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="A parameter, its value written as in the language: `kept=99%`, `rank=64`, `rank=energy(0.9)`. "
        "May be repeated.",
    ),
]
