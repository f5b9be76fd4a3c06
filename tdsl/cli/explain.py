"""`tdsl explain`: why a rule applies where it does in a model, and why not elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tdsl.cli import terminal
from tdsl.cli.models import captured_model
from tdsl.cli.options import AsJson, Model, Rules, Set
from tdsl.cli.settings import parameters_from
from tdsl.errors import TdslError

if TYPE_CHECKING:
    from torch import fx

    from tdsl.engine.library import Library

CLEANUP = "cleanup.*"


def explain_rule(
    rule: Annotated[
        str, typer.Argument(metavar="RULE", help="A rule by name; see `tdsl list`.", show_default=False)
    ],
    model: Model,
    rules: Rules = None,
    settings: Set = None,
    limit: Annotated[int, typer.Option(metavar="N", help="Show at most so many places.", min=1)] = 3,
    no_cleanup: Annotated[
        bool, typer.Option("--no-cleanup", help=f"Take the graph as captured, before {CLEANUP}.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Explain where RULE applies in MODEL, and why not elsewhere.

    The graph is first cleaned up, as pipelines do before they factorize: by every cleanup rule but RULE.
    """
    with terminal.stages() as progress:
        progress("start torch")
        from tdsl.engine.census import copied
        from tdsl.engine.explain import explain
        from tdsl.engine.library import load, standard_library
        from tdsl.engine.passes import GraphPass

        progress("read rules")
        library = standard_library().extended(load(rules)) if rules else standard_library()
        full = _one(library.select(rule), rule)
        chosen: Any
        if full in library.passes:
            declared = library.passes[full].declared()
            chosen = library.graph_pass(full, parameters_from(settings or (), f"pass {full}", declared))
        else:
            declared = library.rules[full].parameters if full in library.rules else ()
            chosen = library.rule(full, parameters_from(settings or (), f"rule {full}", declared))
        progress("capture")
        module = copied(captured_model(model).module)
        state = "as captured"
        if not no_cleanup:
            progress("clean up")
            count = _clean_up(module, library, full)
            state = f"after {CLEANUP}{' without this rule' if full.startswith('cleanup.') else ''}"
            state += f", {count} rewrite{'' if count == 1 else 's'}"
        progress("explain")
        if isinstance(chosen, GraphPass):
            explanation = chosen.explain(module, limit)
        else:
            explanation = explain(chosen, module, limit)
    if as_json:
        record = {"model": model, "rule": full, "state": state, **explanation.to_dict()}
        terminal.put_json({"format": "tdsl-explain/1", **record})
    else:
        terminal.put(f"// {model}, {state}\n{explanation.render().rstrip()}\n")


def _one(names: list[str], asked: str) -> str:
    if len(names) > 1:
        raise TdslError(f"{asked} means {len(names)} rules", expected=f"one of {', '.join(names)}")
    return names[0]


def _clean_up(module: fx.GraphModule, library: Library, spared: str) -> int:
    """Run every cleanup rule but `spared` to a fixed point; returns the number of rewrites."""
    from tdsl.engine.journal import Journal
    from tdsl.engine.strategy import Runner
    from tdsl.lang import parse, tree

    names = [name for name in library.select(CLEANUP) if name != spared]
    [pipeline] = parse(f"pipeline cleanup {{\n    repeat {', '.join(names)} until stable\n}}\n").items
    assert isinstance(pipeline, tree.Pipeline)
    return Runner(library, pipeline).run(module, Journal(measure=False))
