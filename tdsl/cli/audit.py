"""`tdsl audit`: a model against a symmetry contract, layer by layer."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tdsl.cli import terminal
from tdsl.cli.models import FORMS, captured_model, kind_of
from tdsl.cli.options import AsJson, Beside, Contract, Model, Symmetry
from tdsl.errors import TdslError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tdsl.symmetry.audit import Audit, Element, Layer

FAILED = 1
_COLOURS = {"kept": "green", "certified": "green", "vacuous": "yellow", "broken": "red", "refused": "red"}
_WEAKEST = ("unknown", "broken", "approximate", "inside", "measured", "weights", "structural")


def audit_model(
    model: Model,
    contract: Contract,
    symmetry: Symmetry = None,
    inputs: Beside = None,
    every: Annotated[
        bool, typer.Option("--all", help="List every operator, those that any weights would pass, too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say how well MODEL keeps a symmetry, and what breaks it.

    The action on every edge is inferred, and its defect measured in float64 on random inputs, for each
    generator. Exit status 1 when the contract is broken, or kept only because the outputs hardly vary.
    """
    if kind_of(model) == "onnx":
        raise TdslError(f"{model} is a compiled file", expected=FORMS, hint="`tdsl certify` takes ONNX files")
    with terminal.stages() as progress:
        progress("start torch")
        from tdsl.engine.law_transfer import laws_of
        from tdsl.engine.library import load
        from tdsl.symmetry.audit import audit
        from tdsl.verify.captured import inputs_of

        library = load(contract)
        wanted = library.symmetry.contract(symmetry)
        progress("capture the model")
        captured = captured_model(model)
        given = []
        if inputs is not None:
            from tdsl.cli.samples import read_samples

            given = read_samples(inputs, inputs_of(captured)[0])
        progress("measure")
        found = audit(captured, wanted, given=given, fallback=laws_of(library))
    if as_json:
        terminal.put_json(record_of(found, model))
    else:
        terminal.show(render(found, model, every), wrap=False)
    if found.verdict != "kept":
        raise typer.Exit(FAILED)


# ---------------------------------------------------------------- as data


def record_of(found: Audit, model: str) -> dict[str, Any]:
    """The audit as plain data; numbers that are infinite or not measured are `null`."""
    first = found.first_broken
    return {
        "format": "tdsl-audit/1",
        "model": model,
        "contract": found.contract,
        "group": found.group,
        "tolerance": found.tolerance,
        "verdict": found.verdict,
        "defect": finite(found.defect),
        "control": finite(found.control),
        "inputs": list(found.inputs),
        "outputs": list(found.outputs),
        "samples": found.samples,
        "seeds": list(found.seeds),
        "broken_at": None if first is None else {"element": first[0].name, "node": first[1].node},
        "elements": [finite(asdict(element)) for element in found.elements],
        "lie_derivatives": [finite(asdict(one)) for one in found.algebra],
    }


def finite(value: Any) -> Any:
    """Plain data that JSON can hold: infinite numbers are `None`."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    return [finite(one) for one in value] if isinstance(value, list | tuple) else value


# ---------------------------------------------------------------- as tables


def render(found: Audit, model: str, every: bool = False) -> RenderableType:
    """The verdict, the elements of the group, the layers that matter, and where it breaks."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    parts: list[RenderableType] = [_headline(found, model), _elements(found), _layers(found, every)]
    for said in _remarks(found):
        parts.append(Text(said))
    return Group(*(Padding(part, (0, 0, 1, 0)) for part in parts[:-1]), parts[-1])


def headline(verdict: str, title: str, said: str) -> RenderableType:
    """`KEPT  model keeps …`."""
    from rich.text import Text

    return Text.assemble((verdict.upper(), f"bold {_COLOURS[verdict]}"), "  ", title, ": ", said)


def _headline(found: Audit, model: str) -> RenderableType:
    claimed = f"{found.contract} ({found.group})"
    worst = f"defect {number(found.defect)}, tolerance {number(found.tolerance)}"
    said = {
        "kept": worst,
        "broken": worst,
        "vacuous": f"{worst}, but another input's outputs are only {number(found.control)} away",
    }[found.verdict]
    return headline(found.verdict, f"{model} against {claimed}", said)


def number(value: float | None) -> str:
    """A defect in two digits; empty where none was measured."""
    if value is None:
        return ""
    if math.isinf(value):
        return "∞"
    return "0" if value == 0 else f"{value:.1e}"


def _elements(found: Audit) -> RenderableType:
    from rich.table import Table

    table = Table.grid(padding=(0, 2, 0, 0))
    names = [name for name, on in zip(found.outputs, found.claimed, strict=True) if on]
    table.add_row("element", "on the inputs", *names, "control", "inferred", style="dim")
    for element in found.elements:
        kept = [d for d, on in zip(element.defects, found.claimed, strict=True) if on]
        control = min(c for c, on in zip(element.controls, found.claimed, strict=True) if on)
        shown = [number(defect) for defect in kept]
        table.add_row(element.name, element.action, *shown, number(control), _inferred(element))
    for one in found.algebra:
        kept = [d for d, on in zip(one.defects, found.claimed, strict=True) if on]
        table.add_row(one.name, "Lie derivative", *(number(d) for d in kept), "", "")
    return table


def _inferred(element: Element) -> str:
    """Whether laws alone show it."""
    return "follows from exact laws" if element.proved else weakest(element)


def weakest(element: Element) -> str:
    """The weakest link of the laws that carry the action to the outputs."""
    found = {layer.strength for layer in element.layers}
    worst = next((one for one in _WEAKEST if one in found), "structural")
    if worst == "approximate":
        residual = max(layer.residual for layer in element.layers)
        return f"approximate, residual {number(residual)}"
    return {
        "unknown": "does not reach the outputs",
        "broken": "breaks",
        "inside": "as measured where no law is known",
        "measured": "as measured where no law is known",
        "weights": "other actions on the outputs",
        "structural": "other actions on the outputs",
    }[worst]


def _layers(found: Audit, every: bool) -> RenderableType:
    """Worst over the elements; operators that pass any action with any weights are counted only."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_row("layer", "operator", "law", "own defect", "up to here", "acts on the result", style="dim")
    hidden = 0
    for layers in zip(*(element.layers for element in found.elements), strict=True):
        worst = min(layers, key=lambda layer: (_WEAKEST.index(layer.strength), -(layer.own or 0.0)))
        own = max((layer.own for layer in layers if layer.own is not None), default=None)
        total = max((layer.total for layer in layers if layer.total is not None), default=None)
        if not every and worst.strength == "structural" and (own or 0.0) <= found.tolerance:
            hidden += 1
            continue
        colour = {"broken": "red", "unknown": "dim", "approximate": "yellow"}.get(worst.strength, "")
        table.add_row(
            Text(worst.module or worst.node, "cyan"),
            worst.operator,
            Text(_law(worst), colour),
            number(own),
            number(total),
            worst.action,
        )
    listed = table.row_count > 1
    rest = Text(f"{'and ' * listed}{hidden} operators that any weights would pass", "dim")
    return Group(*[table] * listed, *[rest] * (hidden > 0))


def _law(layer: Layer) -> str:
    if layer.strength == "approximate":
        return f"approximate, residual {number(layer.residual)}"
    return {
        "weights": "these weights",
        "structural": "any weights",
        "inside": "with what follows",
    }.get(layer.strength, layer.strength)


def _remarks(found: Audit) -> list[str]:
    said = []
    first = found.first_broken
    if first is not None:
        element, layer = first
        place = f" ({layer.module})" if layer.module else ""
        line = f", {layer.source}" if layer.source else ""
        said.append(f"{element.name} breaks first at {layer.operator}{place}{line}:\n  {layer.why}")
    said += [f"{element.name}: {element.reason}" for element in found.elements if element.reason]
    if found.verdict == "vacuous":
        said.append(
            "Outputs that hardly depend on the input keep every contract, so that this one says nothing."
        )
    if not said:
        said.append(
            f"Measured in float64 on {found.samples} inputs (seeds {', '.join(map(str, found.seeds))});"
            " the control is the same against another input's output."
        )
    return said
