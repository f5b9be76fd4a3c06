"""tdsl: a declarative model-transformation compiler. Rules in, a verified ONNX file out.

    result = tdsl.compile(model, example_inputs, pipeline="pipelines.exact", output="model.onnx")

Importing the package is cheap: what needs torch is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tdsl.errors import NotSupportedYet, TdslError

if TYPE_CHECKING:
    from tdsl.compiler import BrokenContract, Result, compile
    from tdsl.engine.library import Library, load
    from tdsl.engine.passes import GraphPass, RulePass, graph_pass
    from tdsl.engine.subgraph import replace_pattern

_HOMES = {
    "BrokenContract": "tdsl.compiler",
    "GraphPass": "tdsl.engine.passes",
    "Library": "tdsl.engine.library",
    "Result": "tdsl.compiler",
    "RulePass": "tdsl.engine.passes",
    "compile": "tdsl.compiler",
    "graph_pass": "tdsl.engine.passes",
    "load": "tdsl.engine.library",
    "replace_pattern": "tdsl.engine.subgraph",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'tdsl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])


__all__ = [
    "BrokenContract",
    "GraphPass",
    "Library",
    "NotSupportedYet",
    "Result",
    "RulePass",
    "TdslError",
    "compile",
    "graph_pass",
    "load",
    "replace_pattern",
]
