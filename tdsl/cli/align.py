"""`tdsl align`: what may be permuted in a model, and one checkpoint brought into the order of another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tdsl.cli import terminal
from tdsl.cli.models import captured_model
from tdsl.cli.options import SAMPLES, AsJson, Model
from tdsl.errors import TdslError
from tdsl.files import require_writable, written

if TYPE_CHECKING:
    from tdsl.capture import Captured
    from tdsl.symmetry.hidden import Alignment, AxisGroup, HiddenSymmetry

_WRITTEN = (".safetensors", ".pt2")


def align_models(
    a: Model,
    b: Annotated[
        str | None,
        typer.Argument(
            metavar="[B]",
            help="Another checkpoint of the same architecture: a MODEL, or a `.safetensors` file of weights.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write B in the order of MODEL: its weights (`.safetensors`) or a program (`.pt2`).",
        ),
    ] = None,
    inputs: Annotated[
        str | None,
        typer.Option(metavar="SAMPLES", help=f"Match by what units compute on these inputs: {SAMPLES}."),
    ] = None,
    pinned: Annotated[
        bool, typer.Option("--pinned", help="Show also what cannot be permuted, and which operator is why.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what may be permuted in MODEL; bring B into its order.

    With B its units are permuted until they are those of MODEL. It computes after that what it computed
    before: hidden units, channels, attention heads and the channels of residual streams have no order of
    their own.
    """
    if b is None and (output is not None or inputs is not None):
        raise TdslError("there is nothing to align", expected="two models: tdsl align MODEL B")
    if output is not None:
        _require_form(output)
    with terminal.stages() as progress:
        progress("start torch")
        from tdsl.symmetry.hidden import hidden_symmetry

        progress("capture")
        captured = captured_model(a)
        if b is None:
            symmetry = hidden_symmetry(captured)
            result = None
        else:
            symmetry, result = _aligned(captured, b, inputs, output, progress)
    if as_json:
        terminal.put_json(_record(a, b, symmetry, result, pinned))
        return
    terminal.show(_table(symmetry.groups, result))
    if pinned:
        terminal.put("".join(f"{pin}\n" for pin in symmetry.pinned))
    if output is not None:
        terminal.say(f"wrote {output}")


def _aligned(
    captured: Captured, b: str, inputs: str | None, output: Path | None, progress: Any
) -> tuple[HiddenSymmetry, Alignment]:
    """Align, and write what was asked for."""
    from tdsl.symmetry.hidden import align, checkpoint, hidden_symmetry

    other: Captured | None = None
    if b.endswith(".safetensors"):
        tensors = checkpoint.read_checkpoint(b)
        names = checkpoint.stored_names(captured)
        module = checkpoint.with_checkpoint(captured, tensors, b)
    else:
        other = captured_model(b)
        module = other.module
        names = checkpoint.stored_names(other)
        tensors = {
            name: tensor.detach() for name, tensor in other.user_model.state_dict(keep_vars=True).items()
        }
    program = output is not None and output.suffix == ".pt2"
    samples = _samples(inputs, captured) if inputs else None
    progress("align")
    fixed = frozenset() if program or output is None else checkpoint.not_stored(names)
    result = align(captured, module, samples, fixed)
    if output is not None:
        progress("write")
        with written(output) as part:
            if program:
                _save_program(other or captured, result, part)
            else:
                from safetensors.torch import save_file

                save_file(
                    checkpoint.distinct(checkpoint.aligned_checkpoint(result, tensors, names)), str(part)
                )
    return hidden_symmetry(captured), result


def _save_program(captured: Captured, result: Alignment, path: Path) -> None:
    import torch

    from tdsl.emit.program import exported_program

    with path.open("wb") as file:
        torch.export.save(exported_program(captured, result.module), file)


def _samples(spec: str, captured: Captured) -> list[tuple[Any, ...]]:
    """The samples as what the model takes, in order; what is no tensor as in the example."""
    import torch
    from torch.utils import _pytree as pytree

    from tdsl.cli.samples import read_samples
    from tdsl.verify import inputs_of

    found = []
    for sample in read_samples(spec, inputs_of(captured)[0]):
        tensors = iter(sample)
        leaves = pytree.tree_leaves((captured.args, captured.kwargs))
        found.append(tuple(next(tensors) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves))
    return found


def _require_form(output: Path) -> None:
    if output.suffix not in _WRITTEN:
        raise TdslError(f"{output} has no form that can be written", expected=" or ".join(_WRITTEN))
    require_writable(output)


def _record(
    a: str, b: str | None, symmetry: HiddenSymmetry, result: Alignment | None, pinned: bool
) -> dict[str, Any]:
    rows = result.groups if result is not None else ()
    groups = []
    for i, group in enumerate(symmetry.groups):
        record: dict[str, Any] = {
            "name": group.name,
            "size": group.size,
            "blocks": list(group.over_sizes),
            "members": [
                {"weight": member.path, "axis": member.axis, "places": member.places}
                for member in group.members
            ],
        }
        if rows:
            row = rows[i]
            record |= {"matched": row.matched, "before": row.before, "after": row.after}
        groups.append(record)
    found: dict[str, Any] = {"format": "tdsl-align/1", "a": a, "b": b, "groups": groups}
    if result is not None:
        found |= {"before": result.before, "after": result.after}
    if pinned:
        found["pinned"] = [
            {"weight": pin.path, "axis": pin.axis, "reason": pin.reason} for pin in symmetry.pinned
        ]
    return found


def _table(groups: tuple[AxisGroup, ...], result: Alignment | None) -> Any:
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from tdsl.report import units

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    table.add_column("group", overflow="fold")
    table.add_column("size", justify="right")
    table.add_column("weights", justify="right")
    rows = result.groups if result is not None else ()
    if result is not None:
        for name in ("matched", "before", "after"):
            table.add_column(name, justify="right")
    for i, group in enumerate(groups):
        cells = [group.name, _size(group), str(len(group.axes))]
        if result is not None:
            row = rows[i]
            cells += [units.percent(row.matched), units.percent(row.before), units.percent(row.after)]
        table.add_row(*cells)
    if result is None:
        note = f"{len(groups)} groups" if len(groups) != 1 else "1 group"
    else:
        before, after = units.percent(result.before), units.percent(result.after)
        note = f"distance of all weights: {before} before, {after} after"
    return Group(table, Text(""), Text(note, "dim"))


def _size(group: AxisGroup) -> str:
    """`8`, or `2 × 8` for eight in each of two blocks."""
    return " × ".join(map(str, (*group.over_sizes, group.size)))
