"""Why an axis cannot be permuted, for people."""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx

from tdsl.provenance import module_path, source_line


@dataclass(frozen=True, slots=True)
class Pin:
    """The operator that sees the order of an axis, and how, in words."""

    node: fx.Node
    reason: str

    def __str__(self) -> str:
        module, line = module_path(self.node), source_line(self.node)
        inside = f" in {module}" if module else ""
        at = f" at {line}" if line else ""
        return f"{self.node.name}{inside}{at}: {self.reason}"
