"""`tdsl certify`: an ONNX file against a symmetry contract, as it runs in onnxruntime."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tdsl.cli import terminal
from tdsl.cli.audit import finite, headline, number
from tdsl.cli.models import kind_of, onnx_model
from tdsl.cli.options import AsJson, Beside, Contract, Symmetry
from tdsl.errors import TdslError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tdsl.symmetry.certify import Certificate

REFUSED = 1


def certify_file(
    file: Annotated[str, typer.Argument(metavar="MODEL.onnx", help="An emitted file.", show_default=False)],
    contract: Contract,
    symmetry: Symmetry = None,
    inputs: Beside = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="PATH", help="Write the certificate to a file, as JSON."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Certify that an ONNX file keeps a symmetry.

    Runs it in onnxruntime under each generator, in float64 where there are kernels, else in float32 with the
    bound for rounding stated. Exit status 1 when the contract is broken, or when the outputs hardly vary: a
    file that is constant keeps every contract, and is not certified.
    """
    if kind_of(file) != "onnx":
        raise TdslError(
            f"{file} is no ONNX file", expected="an .onnx file", hint="`tdsl audit` takes PyTorch models"
        )
    if output is not None:
        from tdsl.files import require_writable

        require_writable(output)
    with terminal.stages() as progress:
        progress("read the file")
        from tdsl.symmetry.certify import certify
        from tdsl.symmetry.declarations import declarations_of

        wanted = declarations_of([contract]).contract(symmetry)
        model = onnx_model(file)
        given = _given(inputs, model) if inputs is not None else []
        progress("measure")
        found = certify(file, model, wanted, given)
    record = record_of(found)
    if output is not None:
        import json

        from tdsl.files import written

        with written(output) as path:
            path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if as_json:
        terminal.put_json(record)
    else:
        terminal.show(render(found), wrap=False)
    if found.verdict != "certified":
        raise typer.Exit(REFUSED)


def _given(spec: str, model: Any) -> list[Any]:
    """Samples by the file's own input names."""
    import numpy as np
    import onnx
    import torch

    from tdsl.cli.samples import read_samples
    from tdsl.verify import Input

    weights = {weight.name for weight in model.graph.initializer}
    inputs = []
    for edge in model.graph.input:
        if edge.name in weights:
            continue
        kind = edge.type.tensor_type
        dtype = torch.from_numpy(np.zeros((), onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))).dtype
        shape = [dim.dim_value or 1 for dim in kind.shape.dim]
        inputs.append(Input(edge.name, torch.zeros(shape, dtype=dtype)))
    return read_samples(spec, inputs)


def record_of(found: Certificate) -> dict[str, Any]:
    """The certificate as plain data; numbers that are infinite are `null`."""
    values = finite(asdict(found))
    return {"format": "tdsl-certificate/1", "verdict": found.verdict, **values}


def render(found: Certificate) -> RenderableType:
    """The verdict, each element, and in which precision it was measured."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    exact = found.measurements[-1]
    said = f"defect {number(exact.defect)}, tolerance {number(found.tolerance)}"
    control = min(one.control for one in found.measurements)
    if found.verdict == "vacuous":
        said += f", but another input's outputs are only {number(control)} away"
    head = headline(found.verdict, f"{found.file} against {found.contract} ({found.group})", said)
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_row("runtime", "precision", "element", *found.outputs, "control", style="dim")
    for one in found.measurements:
        place = (one.runtime, one.precision)
        for name, whole in one.elements.items():
            table.add_row(*place, name, *(number(d) for d in whole.defects), number(whole.control))
            place = ("", "")
        for name, defects in one.algebra.items():
            table.add_row(*place, f"{name} (Lie derivative)", *(number(d) for d in defects), "")
    seeds = f" (seeds {', '.join(map(str, found.seeds))})" if found.seeds else ""
    lines = [f"Measured on {found.samples} inputs{seeds}."]
    for one in found.measurements:
        if one.bound:
            lines.append(f"In {one.precision} defects below {number(one.bound)} are rounding.")
            lines.append(f"Not in float64 by onnxruntime: {found.reason}.")
    if found.verdict == "vacuous":
        lines.append("Outputs that hardly depend on the input keep every contract: this is no certificate.")
    lines.append(f"SHA-256 {found.sha256}")
    parts: list[RenderableType] = [head, table, Text("\n".join(lines))]
    return Group(*(Padding(part, (0, 0, 1, 0)) for part in parts[:-1]), parts[-1])
