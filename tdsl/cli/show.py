"""`tdsl show`: a rule or pipeline as text, a model as a graph in the same notation, a file at a glance."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tdsl.catalog import catalog, named
from tdsl.cli import terminal
from tdsl.cli.models import captured_model, kind_of, onnx_model
from tdsl.cli.options import AsJson, Rules, Set
from tdsl.cli.settings import parameters_from
from tdsl.errors import TdslError


def show_thing(
    thing: Annotated[
        str,
        typer.Argument(
            metavar="THING",
            help="A rule, pass or pipeline by name; a MODEL; or an `.onnx` file.",
            show_default=False,
        ),
    ],
    matcher: Annotated[
        bool, typer.Option("--matcher", help="Of a rule: the Python that its pattern compiles to.")
    ] = False,
    examples: Annotated[
        bool, typer.Option("--examples", help="Of a rule or pipeline: also the examples beside it.")
    ] = False,
    pipeline: Annotated[
        str | None,
        typer.Option("--pipeline", "-p", metavar="NAME", help="Of a model: also what this makes of it."),
    ] = None,
    rules: Rules = None,
    settings: Set = None,
    as_json: AsJson = False,
) -> None:
    """Show a rule, a pipeline, a model's graph, or an ONNX file."""
    kind = kind_of(thing)
    _require_sense(kind, matcher, examples, pipeline, settings)
    if kind == "onnx":
        from tdsl.cli.onnx_summary import Summary

        summary = Summary.of(onnx_model(thing, weights=False))
        record, text = summary.record(), summary.text()
    elif kind is not None:
        record = _graphs(thing, pipeline, rules, settings)
        text = _graphs_text(record)
    else:
        record = _declaration(thing, rules, settings, matcher, examples)
        text = record["matcher" if matcher else "source"]
        if record.get("examples"):
            text += "\n" + record["examples"]
    if as_json:
        terminal.put_json({"format": "tdsl-show/1", **record})
    else:
        terminal.put(text)


def _require_sense(
    kind: str | None, matcher: bool, examples: bool, pipeline: str | None, settings: list[str] | None
) -> None:
    model = kind in ("function", "program")
    if examples and kind is not None:
        raise typer.BadParameter("only what is declared in a file has examples", param_hint="--examples")
    if matcher and kind is not None:
        raise typer.BadParameter("only a rule has a matcher", param_hint="--matcher")
    if pipeline and not model:
        raise typer.BadParameter("only a model goes through a pipeline", param_hint="--pipeline")
    if settings and not (matcher or pipeline):
        raise typer.BadParameter("it sets a parameter for --pipeline or --matcher", param_hint="--set")


# ---------------------------------------------------------------- declarations


def _declaration(
    name: str, rules: Any, settings: list[str] | None, matcher: bool, examples: bool
) -> dict[str, Any]:
    entry = named(catalog(rules), name)
    record: dict[str, Any] = {
        "name": entry.name,
        "kind": entry.kind,
        "file": str(entry.path),
        "line": entry.line,
        "source": entry.source(),
    }
    if examples:
        record["examples"] = entry.examples()
    if matcher:
        if entry.kind != "rule":
            raise TdslError(f"{entry.name} is a {entry.kind}, and only a rule has a matcher")
        record["matcher"] = _matcher(entry.name, rules, settings)
    return record


def _matcher(name: str, rules: Any, settings: list[str] | None) -> str:
    """The generated source; of a rule with alternatives, one function for each choice."""
    from tdsl.engine.library import load, standard_library

    library = standard_library().extended(load(rules)) if rules else standard_library()
    declared = library.rules[name].parameters
    rule = library.rule(name, parameters_from(settings or (), f"rule {name}", declared))
    return "\n\n".join(_source(variant.matcher(rule.name)) for variant in rule.variants)


def _source(matcher: Any) -> str:
    return f"{matcher.source.strip()}\n"


# ---------------------------------------------------------------- models


def _graphs(spec: str, pipeline: str | None, rules: Any, settings: list[str] | None) -> dict[str, Any]:
    """The graph of a model in normal form, and what a pipeline makes of it."""
    with terminal.stages() as progress:
        progress("start torch")
        from tdsl.engine.census import copied
        from tdsl.engine.journal import Journal
        from tdsl.engine.library import load, standard_library
        from tdsl.engine.strategy import Runner
        from tdsl.engine.text import graph_text

        runner = None
        if pipeline is not None:
            library = standard_library().extended(load(rules)) if rules else standard_library()
            chosen = library.pipeline(pipeline)
            parameters = parameters_from(settings or (), f"pipeline {chosen.name}", chosen.parameters)
            runner = Runner(library, chosen, parameters)
        progress("capture")
        captured = captured_model(spec)
        record: dict[str, Any] = {"model": spec, "graph": graph_text(captured.module)}
        if runner is not None:
            progress("rewrite")
            module, journal = copied(captured.module), Journal()
            runner.run(module, journal)
            record |= {
                "pipeline": pipeline,
                "rewrites": len(journal.entries),
                "rewritten": graph_text(module),
            }
    return record


def _graphs_text(record: dict[str, Any]) -> str:
    if "rewritten" not in record:
        return str(record["graph"])
    count = record["rewrites"]
    how = f"pipeline {record['pipeline']}, {count} rewrite{'' if count == 1 else 's'}"
    return f"// as captured\n{record['graph']}\n// after {how}\n{record['rewritten']}"
