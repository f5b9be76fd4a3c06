"""The one list of what a `where` block can call on weights: decompositions, numbers, predicates, rank rules.

Each is declared in the file that implements it, as an entry of that module's `DECLARED`. To add one, write
such a file in this folder; nothing else changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

import tdsl.factor
from tdsl.declared import declared_in
from tdsl.factor.declare import CompileTimeFunction, Decomposition, TermFunction
from tdsl.lang.vocabulary import Function, Vocabulary

_ALL: Mapping[str, Decomposition | CompileTimeFunction | TermFunction] = declared_in(tdsl.factor)

DECOMPOSITIONS: Mapping[str, Decomposition] = MappingProxyType(
    {name: one for name, one in _ALL.items() if isinstance(one, Decomposition)}
)
"""Every decomposition, by its name in the language."""

FUNCTIONS: Mapping[str, CompileTimeFunction] = MappingProxyType(
    {name: one for name, one in _ALL.items() if isinstance(one, CompileTimeFunction)}
)
"""Every other function on weights, and the rank rules, by name in the language."""

TERMS: Mapping[str, TermFunction] = MappingProxyType(
    {name: one for name, one in _ALL.items() if isinstance(one, TermFunction)}
)
"""Every term that a function builds, by name in the language."""


@cache
def vocabulary() -> Vocabulary:
    """Every name that a rule may use: operators, built-in functions, and what is declared here."""
    decompositions = [Function(f.name, f.kind, f.params, f.results, f.doc) for f in DECOMPOSITIONS.values()]
    functions = [Function(f.name, f.kind, f.params, f.results, f.doc) for f in FUNCTIONS.values()]
    terms = [Function(f.name, f.kind, f.params, f.results, f.doc, f.shape) for f in TERMS.values()]
    return Vocabulary.standard([*decompositions, *functions, *terms])
