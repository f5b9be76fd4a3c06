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
    from tdsl.engine.python_rule import Const, Optional, Site, Tensor, rule
    from tdsl.engine.subgraph import replace_pattern, replace_pattern_with_filters
    from tdsl.factorizer import factorize
    from tdsl.merging import Merged, merge
    from tdsl.sweeper import sweep

_HOMES = {
    "BrokenContract": "tdsl.compiler",
    "Const": "tdsl.engine.python_rule",
    "GraphPass": "tdsl.engine.passes",
    "Library": "tdsl.engine.library",
    "Merged": "tdsl.merging",
    "Optional": "tdsl.engine.python_rule",
    "Result": "tdsl.compiler",
    "RulePass": "tdsl.engine.passes",
    "Site": "tdsl.engine.python_rule",
    "Tensor": "tdsl.engine.python_rule",
    "compile": "tdsl.compiler",
    "factorize": "tdsl.factorizer",
    "graph_pass": "tdsl.engine.passes",
    "load": "tdsl.engine.library",
    "merge": "tdsl.merging",
    "replace_pattern": "tdsl.engine.subgraph",
    "replace_pattern_with_filters": "tdsl.engine.subgraph",
    "rule": "tdsl.engine.python_rule",
    "sweep": "tdsl.sweeper",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'tdsl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])


__all__ = [
    "BrokenContract",
    "Const",
    "GraphPass",
    "Library",
    "Merged",
    "NotSupportedYet",
    "Optional",
    "Result",
    "RulePass",
    "Site",
    "TdslError",
    "Tensor",
    "compile",
    "factorize",
    "graph_pass",
    "load",
    "merge",
    "replace_pattern",
    "replace_pattern_with_filters",
    "rule",
    "sweep",
]
