"""Text of a Python function of nested loops, in which a failed test goes on with the innermost loop."""

from __future__ import annotations

import itertools
from typing import Any

MAX_BLOCKS = 18
"""Most loops in one function; Python's own limit is 20."""


class LoopWriter:
    """Lines of a function that is being written, with the constants that it refers to by name."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.indent = 2
        self.constants: dict[str, Any] = {}
        self.counter = itertools.count()
        self.blocks = 1
        self.open_functions: list[tuple[str, int]] = []

    def put(self, line: str) -> None:
        """Write a line."""
        self.lines.append("    " * self.indent + line)

    def reject_if(self, test: str) -> None:
        """Go on with the innermost loop where a test holds."""
        self.put(f"if {test}: continue")

    def loop(self, header: str) -> None:
        """Open a loop; what is written next stands in it."""
        if self.blocks == MAX_BLOCKS:
            self.inner_function()
        self.put(f"{header}:")
        self.indent += 1
        self.blocks += 1

    def inner_function(self) -> None:
        """Go on in a function of its own: Python nests at most 20 loops in one."""
        name = self.fresh("more")
        self.open_functions.append((name, self.indent))
        self.put(f"def {name}():")
        self.indent += 1
        self.put("for _ in (0,):")
        self.indent += 1
        self.blocks = 1

    def close_functions(self) -> None:
        """End the inner functions, the innermost first, and call each where it stands."""
        while self.open_functions:
            name, self.indent = self.open_functions.pop()
            self.put("    return None")
            self.put(f"result = {name}()")
            self.put("if result is not None: return result")

    def fresh(self, stem: str) -> str:
        """A name that nothing else has."""
        return f"{stem}{next(self.counter)}"

    def constant(self, value: Any, stem: str = "K") -> str:
        """The name under which the function knows an object."""
        for name, known in self.constants.items():
            if known is value:
                return name
        name = self.fresh(stem)
        self.constants[name] = value
        return name
