"""What parses and has no meaning yet: refused at its own line, never silently ignored."""

from __future__ import annotations

from tdsl.errors import NotSupportedYet
from tdsl.lang import tree
from tdsl.lang.recovery import RECOVERY, damping_of
from tdsl.lang.walk import walk


def refuse_unsupported(file: tree.File) -> None:
    """Raise `NotSupportedYet` at the first construct of `file` that this version does not implement.

    And `TdslError` at a recovery that is told what it does not know.
    """
    pipelines = (item for item in file.items if isinstance(item, tree.Pipeline))  # nothing else has steps
    for node in (node for pipeline in pipelines for node in walk(pipeline)):
        what = _unsupported(node)
        if what:
            raise NotSupportedYet(what, node.span)
        if isinstance(node, tree.Heal):
            damping_of(node)


def _unsupported(node: tree.Node) -> str:
    match node:
        case tree.Heal(method=method) if method not in RECOVERY:
            return f"recovery by `{method}` (factors can be solved anew by {', '.join(RECOVERY)})"
        case _:
            return ""
