"""From rules as text and a function to the rewritten graph as text, in a line or two."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import dedent
from typing import Any

import torch
from torch import Tensor, fx, nn

from tdsl import Library, load
from tdsl.capture import Captured, capture
from tdsl.engine.census import copied
from tdsl.engine.driver import Settings, rewrite
from tdsl.engine.journal import Journal
from tdsl.engine.library import standard_library
from tdsl.engine.strategy import Runner
from tdsl.engine.text import graph_text
from tdsl.engine.weights import prune_weights


class Net(nn.Module):
    """A function of inputs and weights as a module; the keyword arguments are its last parameters."""

    def __init__(self, function: Callable[..., Any], **weights: Tensor) -> None:
        super().__init__()
        self.function = function
        for name, value in weights.items():
            if value.is_floating_point():
                self.register_parameter(name, nn.Parameter(value))
            else:
                self.register_buffer(name, value)
        self.weights = tuple(weights)
        parameters = [p for p in inspect.signature(function).parameters.values() if p.name not in weights]

        def forward(*inputs: Tensor) -> Any:
            return function(*inputs, **{name: getattr(self, name) for name in self.weights})

        # The inputs are called like the function's parameters, in the graph as well.
        forward.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        self.forward = forward


def library(text: str, name: str = "rules") -> Library:
    """The declarations of a `.tdsl` text, loaded from a file as a user's are."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.tdsl"
        path.write_text(dedent(text), encoding="utf-8")
        return load(path)


class Rewritten:
    """A captured model beside what rules made of it."""

    def __init__(self, captured: Captured, module: fx.GraphModule, journal: Journal) -> None:
        self.captured = captured
        self.module = module
        self.journal = journal

    @property
    def rules(self) -> list[str]:
        """Names of the rules applied, in order, without their file."""
        return [entry.rule.rpartition(".")[2] for entry in self.journal.entries]

    @property
    def text(self) -> str:
        """The operators of the rewritten graph, one a line, without types."""
        lines = graph_text(self.module, types=False).splitlines()
        names = {n.name for n in self.module.graph.find_nodes(op="placeholder")}
        return "\n".join(line for line in lines if line not in names)

    @property
    def operators(self) -> list[str]:
        """Names of the operators of the rewritten graph, in order."""
        calls = (line.partition(" = ")[2] for line in self.text.splitlines() if " = " in line)
        return [call.partition("(")[0] for call in calls]

    def assert_equal(self, *args: Any, tolerance: float = 1e-5) -> None:
        """The rewritten module computes what the original does, on the example or on `args`."""
        args = args or self.captured.args
        with torch.no_grad():
            wanted, got = self.captured.original(*args), self.module(*args)
        torch.testing.assert_close(got, wanted, rtol=0, atol=tolerance)


def graph_of(
    model: nn.Module | Callable[..., Any], *args: Tensor, dynamic: Any = None, **weights: Tensor
) -> Captured:
    """A module, or a function of inputs and weights, in normal form; `dynamic` as for `torch.export`."""
    module = model if isinstance(model, nn.Module) else Net(model, **weights)
    return capture(module.eval(), args, dynamic_shapes=dynamic)


def apply(
    rules: str | Library, captured: Captured, *, settings: Settings | None = None, select: str = "*"
) -> Rewritten:
    """Apply the rules of a text (or a library) to a copy of a captured model, to a fixed point."""
    loaded = rules if isinstance(rules, Library) else library(rules)
    chosen = [loaded.rule(name) for name in loaded.select(select)]
    module, journal = copied(captured.module), Journal()
    rewrite(module, chosen, settings, journal)
    module.graph.lint()
    prune_weights(module)
    module.recompile()
    return Rewritten(captured, module, journal)


def run_pipeline(text: str | Library, captured: Captured, name: str = "p", **parameters: Any) -> Rewritten:
    """Run a pipeline of a text, beside the standard library, on a copy of a captured model."""
    loaded = text if isinstance(text, Library) else library(text)
    everything = standard_library().extended(loaded)
    module, journal = copied(captured.module), Journal()
    Runner(everything, everything.pipeline(name), parameters).run(module, journal)
    module.graph.lint()
    return Rewritten(captured, module, journal)
