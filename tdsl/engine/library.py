"""Rules, passes and pipelines by name: the standard library, and what users load beside it.

A declaration is called after its file: `passes/cleanup/identity.tdsl` declares
`cleanup.identity.double_relu`; one that has the file's own name is called like the file,
`pipelines.exact`. Pipelines refer to it by that name, by a glob (`cleanup.*`), or by its last
part where that is unambiguous. Every rule is resolved, type-checked and proved when its file is loaded.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from tdsl.engine.frame import Variant
from tdsl.engine.lower import lower
from tdsl.engine.parameters import parameter_values
from tdsl.engine.passes import GraphPass, RulePass, standard_passes
from tdsl.engine.rule import Rule
from tdsl.errors import Span, TdslError
from tdsl.factor.table import vocabulary
from tdsl.lang import tree
from tdsl.lang.groups import with_groups
from tdsl.lang.imports import load_files
from tdsl.lang.library_files import declared_twice, full_name, prefix_of
from tdsl.lang.resolve import Resolved, resolve
from tdsl.lang.standard_trees import standard_trees
from tdsl.lang.unsupported import refuse_unsupported
from tdsl.memory import uncollected
from tdsl.prove.check import new_verdict, refuse_refuted
from tdsl.prove.record import known, remember
from tdsl.prove.verdict import Verdict
from tdsl.spelling import asking_for, nearest
from tdsl.symmetry.declarations import Declarations


@dataclass(frozen=True)
class Declaration:
    """A rule or law as loaded, before its parameters have values."""

    name: str
    resolved: Resolved
    verdict: Verdict
    """Whether it is proved, tested, or neither."""

    @property
    def source(self) -> tree.Rule:
        """The syntax tree."""
        return self.resolved.rule

    @property
    def approximate(self) -> bool:
        """Whether the rule loses something (`~>`)."""
        return self.source.arrow == "~>"

    @property
    def parameters(self) -> tuple[tree.Parameter, ...]:
        """The parameters that take values; operator variables are bound by each match."""
        return tuple(p for p in self.source.parameters if p.name not in self.resolved.operators)

    def instantiate(self, arguments: Mapping[str, Any] | None = None, span: Span | None = None) -> Rule:
        """The rule with values for its parameters, defaults elsewhere; `span` is where they are given.

        Raises `TdslError` for a missing or unknown parameter, or a value of another kind.
        """
        if arguments or any(parameter.default is None for parameter in self.parameters):
            return self._lowered(arguments or {}, span)
        return self._by_default

    @cached_property
    def _by_default(self) -> Rule:
        """The rule with its default values, once for all pipelines."""
        return self._lowered({}, None)

    def _lowered(self, given: Mapping[str, Any], span: Span | None) -> Rule:
        values = parameter_values(
            f"rule {self.name}",
            self.parameters,
            given,
            span or self.source.span,
            dict.fromkeys(given, span) if span else {},
        )
        return Rule(self.name, self._variants(values), self.source, values, self.approximate, self.source.doc)

    def _variants(self, values: dict[str, Any]) -> tuple[Variant, ...]:
        """The variants for some values of the parameters: lowered once for all alike on the left side.

        The ranks of a plan are many, and none of them is part of a pattern.
        """
        for read, found in self._known_variants:
            if all(type(values[n]) is type(value) and values[n] == value for n, value in read.items()):
                return found
        asked = _Watched(values)
        found = lower(self.resolved, asked)
        self._known_variants.append(({name: values[name] for name in asked.read}, found))
        return found

    @cached_property
    def _known_variants(self) -> list[tuple[dict[str, Any], tuple[Variant, ...]]]:
        """What was lowered, with the values of the parameters that it was made from."""
        return []


class _Watched(dict[str, Any]):
    """Values of parameters, and the names of those that were read."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return super().__getitem__(name)


@dataclass
class Library:
    """Rules, laws, passes and pipelines under their full names."""

    rules: dict[str, Declaration] = field(default_factory=dict)
    passes: dict[str, type[GraphPass]] = field(default_factory=dict)
    pipelines: dict[str, tree.Pipeline] = field(default_factory=dict)
    python_rules: dict[str, Rule] = field(default_factory=dict)
    symmetry: Declarations = field(default_factory=Declarations)
    """Groups, actions and symmetry contracts."""

    def __repr__(self) -> str:
        kinds = {**vars(self), **vars(self.symmetry)}
        del kinds["symmetry"]
        parts = (f"{kind}={sorted(names)}" for kind, names in kinds.items() if names)
        return f"Library({', '.join(parts)})"

    def add(self, item: Rule | type[GraphPass]) -> None:
        """Add a rule written in Python (`tdsl.rule`) or a pass, so that pipelines can refer to its name."""
        if isinstance(item, Rule):
            self.python_rules[item.name] = item
        else:
            self.passes[item.name] = item

    def add_file(self, file: tree.File, prefix: str) -> None:
        """Check and add the declarations of a file under `prefix`.

        Raises `TdslError` at the first one that is wrong, with a counterexample where a rule is refuted,
        `NotSupportedYet` at what has no meaning yet.
        """
        refuse_unsupported(file)
        made: dict[str, Verdict] = {}
        for item in file.items:
            if not isinstance(item, tree.Rule | tree.Pipeline):
                self.symmetry.add(item)
                continue
            name = full_name(prefix, item.name)
            if name in self.rules or name in self.pipelines:
                raise declared_twice(name, item.span)
            if isinstance(item, tree.Rule):
                rule = with_groups(item, self.symmetry.groups)
                on_record = known(rule)
                resolved = resolve(rule, vocabulary(), makes_sense=on_record is not None)
                verdict = on_record or new_verdict(resolved, made)
                refuse_refuted(resolved.rule, verdict)
                self.rules[name] = Declaration(name, resolved, verdict)
            else:
                self.pipelines[name] = item
        remember(made)

    def extended(self, other: Library) -> Library:
        """This library with another's declarations added; the other's win."""
        return Library(
            {**self.rules, **other.rules},
            {**self.passes, **other.passes},
            {**self.pipelines, **other.pipelines},
            {**self.python_rules, **other.python_rules},
            self.symmetry.extended(other.symmetry),
        )

    def select(self, pattern: str, span: Span | None = None) -> list[str]:
        """Names of the rules and passes that a reference means, laws left out of globs.

        Raises `TdslError` with the nearest names when there is none.
        """
        names = self._rewriters
        if pattern in names:
            return [pattern]
        if "*" in pattern:
            found = [n for n in names if fnmatch.fnmatchcase(n, pattern) and not self._is_law(n)]
        else:
            found = _meant(pattern, names)
            if len(found) > 1:
                raise TdslError(
                    f"{pattern} is ambiguous", span, expected="one of " + ", ".join(sorted(found))
                )
        if not found:
            if _meant(pattern, self.pipelines):
                hint = None if span is None else f"`run {pattern}`"  # a step names it
                raise TdslError(f"{pattern} is a pipeline", span, expected="a rule or a pass", hint=hint)
            raise _unknown("rule or pass", pattern, names, span)
        return found

    def own_names(self) -> set[str]:
        """Names of the rules and passes that the standard library does not have, laws left out."""
        standard = standard_library()
        known = {*standard.rules, *standard.passes}
        return {name for name in self._rewriters if name not in known and not self._is_law(name)}

    @property
    def _own_pipelines(self) -> list[str]:
        """Names of the pipelines that the standard library does not have."""
        standard = standard_library().pipelines
        return [name for name in self.pipelines if name not in standard]

    @property
    def _rewriters(self) -> list[str]:
        """Names of all rules and passes."""
        return [*self.rules, *self.python_rules, *self.passes]

    def _is_law(self, name: str) -> bool:
        return name in self.rules and self.rules[name].source.arrow == "=="

    def rule(self, name: str, arguments: Mapping[str, Any] | None = None, span: Span | None = None) -> Rule:
        """The rule that `name` refers to, with `arguments`."""
        full = self.select(name, span)[0]
        if full in self.python_rules:
            parameter_values(f"rule {full}", (), arguments or {}, span)
            return self.python_rules[full]
        if full not in self.rules:
            raise TdslError(f"{full} is a pass, not a rule", span)
        if self._is_law(full):
            raise TdslError(
                f"{full} is a law: it holds both ways and never fires on its own",
                span,
                hint="state the direction you want as a rule with =>",
            )
        return self.rules[full].instantiate(arguments, span)

    def graph_pass(
        self, name: str, arguments: Mapping[str, Any] | None = None, span: Span | None = None
    ) -> GraphPass:
        """The pass of that full name, with `arguments`; raises `TdslError` for one that it does not take."""
        made = self.passes[name]
        if made.parameters:
            return made(arguments, span)
        parameter_values(f"pass {name}", (), arguments or {}, span)
        return made()

    def pipeline(self, name: str, span: Span | None = None) -> tree.Pipeline:
        """The pipeline of that name, or the only one whose name ends so; `span` says where it is named."""
        found = _meant(name, self.pipelines)
        if len(found) > 1 and name not in found:
            raise TdslError(
                f"pipeline {name} is ambiguous", span, expected="one of " + ", ".join(sorted(found))
            )
        if not found:
            if _meant(name, self._rewriters):
                raise TdslError(
                    f"{name} is a rule or a pass, and what is applied is a pipeline",
                    span,
                    expected="a name of `tdsl list pipelines`, or of a file of your own",
                    hint=f"`pipeline mine {{ repeat {name} until stable }}` is one that applies it",
                )
            raise _unknown("pipeline", name, list(self.pipelines), span, self._own_pipelines)
        return self.pipelines[name if name in found else found[0]]

    def as_pass(self, pattern: str = "*") -> RulePass:
        """The rules whose names match, approximate ones too, with default parameters: one PyTorch pass."""
        return RulePass([self.rule(n) for n in self.select(pattern) if n not in self.passes], name=pattern)


def _meant(name: str, names: Iterable[str]) -> list[str]:
    """Those of `names` that are `name`, or end so after a dot."""
    return [n for n in names if n == name or n.endswith("." + name)]


def _unknown(kind: str, name: str, known: list[str], span: Span | None, own: Iterable[str] = ()) -> TdslError:
    short = {n.rpartition(".")[2]: n for n in known}
    near = nearest(name, [*known, *short])
    everything = "`tdsl list pipelines`" if kind == "pipeline" else "`tdsl list`"
    hint = asking_for(short.get(near, near)) if near else f"{everything} shows all of them"
    expected = f"one of yours, {', '.join(own)}, or of the standard library" if own else None
    return TdslError(f"unknown {kind} {name}", span, expected=expected, hint=hint)


# ---------------------------------------------------------------- loading


@cache
def standard_library() -> Library:
    """Everything under `tdsl.passes`, checked."""
    library = Library(passes=dict(standard_passes()))
    with uncollected():
        for prefix, file in standard_trees():
            library.add_file(file, prefix)
    return library


def load(path: str | Path) -> Library:
    """The declarations of a `.tdsl` file and of what it imports, each checked; `tdsl.load` for users.

    Raises `TdslError` at the first mistake in it.
    """
    library = Library()
    for file in load_files([Path(path)]):
        library.add_file(file, prefix_of(Path(file.span.source.name)))
    return library
