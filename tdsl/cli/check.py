"""`tdsl check`: two models on the same samples, and whether they agree."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tdsl.cli import terminal
from tdsl.cli.models import FORMS_OR_ONNX, captured_model, kind_of, onnx_model
from tdsl.cli.options import AsJson
from tdsl.errors import TdslError

if TYPE_CHECKING:
    from tdsl.capture import Captured
    from tdsl.verify import Input, Runner, Verdict
    from tdsl.verify.samples import Range

SEED = 0
_SIDE = "`file.py:function`, a `.pt2` or an `.onnx` file."


def check_models(
    a: Annotated[str, typer.Argument(metavar="A", help=f"The reference: {_SIDE}", show_default=False)],
    b: Annotated[
        str, typer.Argument(metavar="B", help=f"What is compared with it: {_SIDE}", show_default=False)
    ],
    contract: Annotated[
        list[str] | None,
        typer.Option(
            metavar="BOUND",
            help="`error <= 1%`, `cosine >= 0.99`, …; repeatable. Without any: equal up to rounding.",
        ),
    ] = None,
    inputs: Annotated[
        str | None,
        typer.Option(
            metavar="SAMPLES", help="`.npz`, `.safetensors` or `file.py:function`; B is judged on these."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check that B computes what A does.

    Runs both on A's example inputs, on random and hard ones, and on those given. Exits with 1 when they
    differ by more than they may.
    """
    for spec in (a, b):
        if kind_of(spec) is None:
            raise TdslError(f"{spec} is no model", expected=FORMS_OR_ONNX)
    with terminal.stages() as progress:
        progress("start torch")
        from tdsl.report import correctness_of, notes_of, render_verdict
        from tdsl.report.json_file import plain
        from tdsl.verify import Contract

        bounds = Contract.parse(*(contract or ()))
        progress("read the models")
        reference, other = _side(a), _side(b)
        progress("compare")
        verdict = _verdict(reference, other, bounds, inputs)
        found, notes = correctness_of(verdict), notes_of(verdict)
    if as_json:
        record = {
            "a": a,
            "b": b,
            "correctness": plain(found),
            "notes": plain(notes),
            "seeds": {"samples": SEED},
        }
        terminal.put_json({"format": "tdsl-check/1", **record})
    else:
        terminal.show(render_verdict(f"{b} against {a}", found, notes))
    if not found.passed:
        raise typer.Exit(1)


@dataclass(frozen=True)
class _Side:
    """A model to run, with what its inputs look like; `legal`: their examples are known to be accepted."""

    spec: str
    inputs: tuple[Input, ...]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    steps: int
    legal: bool = True
    ranges: dict[str, Range] = field(default_factory=dict)
    captured: Captured | None = None
    session: Any = None

    def runner(self, like: _Side) -> Runner:
        """Runs the model on samples of `like`: by name where these agree, else in order."""
        from tdsl.verify import original_runner, session_runner

        if self.captured is not None:
            return original_runner(self.captured)
        # A file may lack inputs that the model does not read, but has no others.
        inputs = like.input_names if set(self.input_names) <= set(like.input_names) else ()
        outputs = like.output_names if set(self.output_names) == set(like.output_names) else ()
        return session_runner(self.session, inputs, outputs)


def _side(spec: str) -> _Side:
    if kind_of(spec) == "onnx":
        return _file(spec)
    from tdsl.verify import inputs_of

    captured = captured_model(spec)
    inputs, ranges = inputs_of(captured)
    steps = sum(node.op == "call_function" for node in captured.module.graph.nodes)
    return _Side(
        spec, inputs, captured.input_names, captured.output_names, steps, ranges=ranges, captured=captured
    )


def _file(path: str) -> _Side:
    from onnxruntime.capi import onnxruntime_pybind11_state as ort

    from tdsl.emit import session

    model = onnx_model(path, weights=False)
    refusals = (ort.Fail, ort.InvalidArgument, ort.InvalidGraph, ort.InvalidProtobuf, ort.NotImplemented)
    try:
        opened = session(path)
    except (*refusals, ort.NoSuchFile, ort.RuntimeException) as reason:
        raise TdslError(f"onnxruntime does not load {path}: {str(reason).splitlines()[0]}") from None
    inputs = tuple(_drawn(edge) for edge in opened.get_inputs())
    return _Side(
        path,
        inputs,
        tuple(item.name for item in inputs),
        tuple(edge.name for edge in opened.get_outputs()),
        len(model.graph.node),
        legal=all(item.example.is_floating_point() for item in inputs),
        session=opened,
    )


def _drawn(edge: Any) -> Input:
    """An input of a file, of numbers from a normal distribution: a file carries no example.

    A dynamic size is 2. Which integers are legal (token ids?) a file does not say: they are 0.
    """
    import torch

    from tdsl.verify import Input

    found = re.fullmatch(r"tensor\((\w+)\)", edge.type)
    name = found[1] if found else ""
    dtype = getattr(torch, {"float": "float32", "double": "float64"}.get(name, name), None)
    if dtype is None:
        raise TdslError(f"input {edge.name} is a {edge.type}", expected="tensors of numbers")
    sizes = [size if isinstance(size, int) else 2 for size in edge.shape]
    dynamic = {
        axis: size or f"{edge.name}_{axis}"
        for axis, size in enumerate(edge.shape)
        if not isinstance(size, int)
    }
    if not dtype.is_floating_point:
        return Input(edge.name, torch.zeros(sizes, dtype=dtype), dynamic)
    generator = torch.Generator().manual_seed(SEED)
    example = torch.randn(sizes, generator=generator, dtype=torch.float64)
    return Input(edge.name, example.to(dtype), dynamic)


def _verdict(reference: _Side, other: _Side, contract: Any, given: str | None) -> Verdict:
    from tdsl.cli.samples import read_samples
    from tdsl.verify import NotInDouble, double_of, draw_samples, verify

    counts = len(reference.output_names), len(other.output_names)
    if counts[0] != counts[1]:
        raise TdslError(f"{reference.spec} has {counts[0]} outputs, {other.spec} {counts[1]}")
    source = next((side for side in (reference, other) if side.captured is not None), reference)
    inputs = source.inputs
    kept = read_samples(given, inputs) if given else []
    if not source.legal:
        if not kept:
            raise TdslError(
                f"{source.spec} does not say which integers its inputs may hold",
                hint="give samples with --inputs, or a PyTorch model as one of the two",
            )
        inputs = tuple(replace(item, example=value) for item, value in zip(inputs, kept[0], strict=True))
    samples = draw_samples(inputs, ranges=source.ranges, held_out=kept, seed=SEED)
    double, reason = None, f"{reference.spec} is no PyTorch model"
    exact = not contract.bounds
    if exact and reference.captured is not None:
        try:
            double, reason = double_of(reference.captured), ""
        except NotInDouble as why:
            reason = str(why)
    return verify(
        reference.runner(source),
        other.runner(source),
        samples,
        contract,
        exact=exact,
        double=double,
        not_in_double=reason,
        output_names=reference.output_names,
        steps=max(reference.steps, other.steps),
    )
