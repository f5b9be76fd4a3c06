"""`tdsl explain`: why a rule applies where it does in a model, and why not elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tdsl.cli import terminal
from tdsl.cli.models import captured_model, kind_of
from tdsl.cli.options import AsJson, Calibration, Loss, Mask, Model, Rules, Set
from tdsl.cli.settings import function_from, parameters_from
from tdsl.errors import TdslError
from tdsl.spelling import some_of

if TYPE_CHECKING:
    from torch import fx

    from tdsl.capture import Captured
    from tdsl.engine.library import Library
    from tdsl.planner import DataPlanner

CLEANUP = "cleanup.*"


def explain_rule(
    rule: Annotated[
        str, typer.Argument(metavar="RULE", help="A rule by name; see `tdsl list`.", show_default=False)
    ],
    model: Model,
    rules: Rules = None,
    settings: Set = None,
    calibration: Calibration = None,
    mask: Mask = None,
    loss: Loss = None,
    limit: Annotated[int, typer.Option(metavar="N", help="Show at most so many places.", min=1)] = 3,
    no_cleanup: Annotated[
        bool, typer.Option("--no-cleanup", help=f"Take the graph as captured, before {CLEANUP}.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Explain where RULE applies in MODEL, and why not elsewhere.

    The graph is first cleaned up, as pipelines do before they factorize: by every cleanup rule but RULE.
    A rule that asks about the values of a model fires nowhere without --calibration.
    """
    if kind_of(rule) is not None:
        raise TdslError(f"{rule} is a model, and the rule comes first", expected="tdsl explain RULE MODEL")
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
        captured = captured_model(model)
        planner = _planner(captured, library, calibration, mask, loss, progress)
        module = copied(captured.module)
        state = "as captured"
        if not no_cleanup:
            progress("clean up")
            count = _clean_up(module, library, full)
            state = f"after {CLEANUP}{' without this rule' if full.startswith('cleanup.') else ''}"
            state += f", {count} rewrite{'' if count == 1 else 's'}"
        progress("explain")
        if isinstance(chosen, GraphPass):
            if planner is not None:
                chosen.statistics = planner.answers  # type: ignore[method-assign]
            explanation = chosen.explain(module, limit)
        else:
            known = None if planner is None else planner.statistics(module, [chosen], None)
            explanation = explain(chosen, module, limit, known)
    if as_json:
        record = {"model": model, "rule": full, "state": state, **explanation.to_dict()}
        terminal.put_json({"format": "tdsl-explain/1", **record})
    else:
        terminal.put(f"// {model}, {state}\n{explanation.render().rstrip()}\n")


def _planner(
    captured: Captured,
    library: Library,
    calibration: str | None,
    mask: str | None,
    loss: str | None,
    progress: terminal.Progress,
) -> DataPlanner | None:
    """What answers questions about calibration data; `None` without any."""
    if calibration is None:
        for option, value in (("--mask", mask), ("--loss", loss)):
            if value is not None:
                raise TdslError(
                    f"{option} is about calibration data", expected="--calibration SAMPLES beside it"
                )
        return None
    from tdsl.cli.samples import samples_from
    from tdsl.prepare import prepare
    from tdsl.verify import inputs_of

    samples = samples_from(calibration, inputs_of(captured)[0], labelled=loss is not None, needed=True)
    prepared = prepare(
        captured,
        rules=library,
        calibration=samples,
        mask=mask,
        loss=function_from(loss),
        verified=False,
        progress=progress,
    )
    return prepared.planner


def _one(names: list[str], asked: str) -> str:
    if len(names) > 1:
        raise TdslError(
            f"{asked} means {len(names)} rules",
            expected=f"one of {some_of(names)}",
            hint=f"`tdsl list '{asked}'` says what each does",
        )
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
