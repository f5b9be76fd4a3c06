"""`tdsl merge`: several checkpoints of one architecture made one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tdsl.cli import terminal
from tdsl.cli.models import captured_model
from tdsl.cli.options import SAMPLES, AsJson, Mask
from tdsl.errors import TdslError
from tdsl.files import require_writable, written

if TYPE_CHECKING:
    import torch

    from tdsl.capture import Captured
    from tdsl.merging import Merged

_WRITTEN = (".safetensors", ".pt2")
_WEIGHTS = ".safetensors"


def merge_models(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODELS",
            help="Two or more: each a MODEL, or a `.safetensors` file of weights.",
            show_default=False,
        ),
    ],
    samples: Annotated[
        list[str] | None,
        typer.Option(
            "--samples",
            metavar="SAMPLES",
            help=f"Inputs of each model's task, once for each in their order, or once for all: {SAMPLES}.",
        ),
    ] = None,
    by: Annotated[
        str,
        typer.Option(
            help="What is kept: what layers compute (gram), that as outputs feel it (kronecker), outputs "
            "weight by weight (fisher), or the weights themselves (average, which needs no samples)."
        ),
    ] = "gram",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write what is merged: its weights (`.safetensors`) or a program (`.pt2`).",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="MODEL",
            help="The model that the `.safetensors` files are weights of; by default the first MODEL.",
        ),
    ] = None,
    align: Annotated[
        bool | None,
        typer.Option(
            "--align/--no-align",
            help="Bring the units of all models into the order of the first, or do not look at their order; "
            "by default models in another order are refused.",
            show_default=False,
        ),
    ] = None,
    damping: Annotated[
        float, typer.Option(help="Draws towards the average, as a share of the mean of each moment.")
    ] = 0.01,
    steps: Annotated[
        int, typer.Option(help="Steps of the conjugate gradient method for one weight, at most.")
    ] = 100,
    mask: Mask = None,
    as_json: AsJson = False,
) -> None:
    """Make one model of several of one architecture.

    They were trained from one start, each for a task of its own. Each weight is put where the sum of what
    all of them lose on their own samples is least.
    """
    if output is not None:
        if output.suffix not in _WRITTEN:
            raise TdslError(f"{output} has no form that can be written", expected=" or ".join(_WRITTEN))
        require_writable(output)
    with terminal.stages() as progress:
        progress("start torch")
        from tdsl.merging import merge
        from tdsl.symmetry.hidden import checkpoint

        progress("capture")
        graph = captured_model(_graph_of(models, model))
        state, captured = _read(models, model, graph)
        names = checkpoint.stored_names(graph)
        merged = merge(
            captured,
            samples=_samples(samples or (), graph),
            by=by,  # type: ignore[arg-type]  # anything else is refused there
            align=align,
            damping=damping,
            steps=steps,
            mask=mask,
            names=models,
            state_names=names,
            progress=progress,
        )
        if output is not None:
            progress("write")
            _write(output, merged, graph, state)
    if as_json:
        record = {"format": "tdsl-merge/1", "models": models, **merged.record()}
        terminal.put_json({**record, "written": None if output is None else str(output)})
    else:
        terminal.show(_table(merged))
    for warning in merged.warnings:
        terminal.say(f"warning: {warning}")
    if not as_json:
        terminal.say(
            f"wrote {output}" if output else "nothing was written; `--output FILE` writes the weights"
        )


def _graph_of(models: Sequence[str], model: str | None) -> str:
    """The model whose graph is merged: what is named, or the first that has one."""
    found = model or next((spec for spec in models if not spec.endswith(_WEIGHTS)), None)
    if found is None:
        raise TdslError(
            "weights alone do not say which model they are of",
            expected="a MODEL among those to merge, or `--model MODEL`",
        )
    return found


def _read(
    models: Sequence[str], model: str | None, graph: Captured
) -> tuple[dict[str, torch.Tensor], list[Captured]]:
    """The state dict of the first model, and all models as captured."""
    from tdsl.symmetry.hidden import checkpoint

    found: list[Captured] = []
    state: dict[str, torch.Tensor] = {}
    shared = _graph_of(models, model)
    for spec in models:
        if spec.endswith(_WEIGHTS):
            tensors = checkpoint.read_checkpoint(spec)
            captured = replace(graph, module=checkpoint.with_checkpoint(graph, tensors, spec))
        else:
            captured = graph if spec == shared else captured_model(spec)
            tensors = dict(captured.user_model.state_dict())
        state = state or tensors
        found.append(captured)
    return state, found


def _samples(specs: Sequence[str], graph: Captured) -> list[list[tuple[torch.Tensor, ...]]]:
    from tdsl.cli.samples import read_samples
    from tdsl.verify import inputs_of

    inputs = inputs_of(graph)[0]
    return [read_samples(spec, inputs) for spec in specs]


def _write(output: Path, merged: Merged, graph: Captured, state: dict[str, torch.Tensor]) -> None:
    """The merged weights under the names that the first model's file has; or the merged program."""
    from tdsl.symmetry.hidden import checkpoint

    with written(output) as part:
        if output.suffix == ".pt2":
            import torch

            from tdsl.emit.program import exported_program

            with part.open("wb") as file:
                torch.export.save(exported_program(graph, merged.module), file)
        else:
            from safetensors.torch import save_file

            tensors = {
                name: merged.state[name].to(tensor.dtype) if name in merged.state else tensor
                for name, tensor in state.items()
            }
            save_file(checkpoint.distinct(tensors), str(part))


def _table(merged: Merged) -> Any:
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from tdsl.report import units

    weights = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    weights.add_column("weight", overflow="fold")
    weights.add_column("by")
    for name in ("numbers", "loss", "steps", "residual"):
        weights.add_column(name, justify="right")
    for row in merged.rows:
        weights.add_row(
            row.name,
            row.method,
            units.count(row.parameters),
            units.percent(row.objective),
            str(row.steps) if row.steps else units.NONE,
            units.significant(row.residual) if row.steps else units.NONE,
        )
    equal = f"{merged.equal} weights are" if merged.equal != 1 else "1 weight is"
    parts: list[Any] = [
        weights,
        Text(""),
        Text(f"loss: of the average is 100 %; {equal} the same in all", "dim"),
    ]
    if merged.tasks:
        tasks = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
        tasks.add_column("on the samples of", overflow="fold")
        for name in ("merged", "average", "nearest other"):
            tasks.add_column(name, justify="right")
        for task in merged.tasks:
            errors = (task.merged, task.average, task.nearest)
            tasks.add_row(task.model, *(units.percent(error) for error in errors))
        note = Text("relative error of the outputs to those of that model", "dim")
        parts += [Text(""), tasks, Text(""), note]
    return Group(*parts)
