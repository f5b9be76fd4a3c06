"""What the language server knows: the words of the language at once, the rest as soon as it is loaded.

Operators need no torch. Factorizations, metrics and the checked standard library do, and take seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tdsl.lang.vocabulary import Vocabulary

if TYPE_CHECKING:
    from tdsl.engine.library import Library
    from tdsl.factor.declare import Decomposition
    from tdsl.quantise.declare import Scheme


@dataclass(frozen=True, eq=False)
class Knowledge:
    """Names and what they mean; `complete` once every name that a rule may use is among them."""

    vocabulary: Vocabulary = field(default_factory=Vocabulary.standard)
    complete: bool = False
    decompositions: Mapping[str, Decomposition] = field(default_factory=dict)
    metrics: Mapping[str, str] = field(default_factory=dict)
    """What `check` and `subject to` bound, with its meaning."""
    objectives: Iterable[str] = ()
    """What `choose` can make small."""
    schemes: Mapping[str, Scheme] = field(default_factory=dict)
    """What `quantize` can do."""
    library: Library | None = None
    """The standard library, checked."""

    def with_functions(self) -> Knowledge:
        """This, and the functions on weights; imports torch."""
        from tdsl.engine.strategy import OBJECTIVES
        from tdsl.factor.table import DECOMPOSITIONS, vocabulary
        from tdsl.quantise.table import SCHEMES
        from tdsl.verify.contract import METRICS

        return replace(
            self,
            vocabulary=vocabulary(),
            complete=True,
            decompositions=DECOMPOSITIONS,
            metrics={name: metric.meaning for name, metric in METRICS.items()},
            objectives=OBJECTIVES,
            schemes=SCHEMES,
        )

    def with_library(self) -> Knowledge:
        """This, and the standard library. Raises `TdslError` when it has a mistake."""
        from tdsl.engine.library import standard_library

        return replace(self, library=standard_library())
