"""The declarations `group`, `action` and `symmetry` of files, each checked when it is added."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from tdsl.errors import Span, TdslError
from tdsl.lang import tree
from tdsl.lang.imports import load_files
from tdsl.lang.terms import tensor_type
from tdsl.lang.walk import walk
from tdsl.spelling import did_you_mean
from tdsl.symmetry.contract import Acts, Contract, evaluated, free_sizes, names_in
from tdsl.symmetry.declared import FAMILIES, number_of
from tdsl.symmetry.element import Linear
from tdsl.symmetry.group import Group
from tdsl.symmetry.term import uses_element

FREE = 4
"""What stands for a size that only a contract gives, while declarations are checked."""


@dataclass
class Declarations:
    """The groups, actions and symmetries of some files, each checked as it is added."""

    groups: dict[str, tree.Group] = field(default_factory=dict)
    actions: dict[str, tree.Action] = field(default_factory=dict)
    symmetries: dict[str, tree.Symmetry] = field(default_factory=dict)

    def add(self, item: tree.Item) -> None:
        """Add a declaration; what is none of the three is passed over. Raises `TdslError` at a mistake."""
        match item:
            case tree.Group():
                self._new(item.name, self.groups, item.span)
                _check_group(item, self.groups)
                self.groups[item.name] = item
            case tree.Action():
                self._new(item.name, self.actions, item.span)
                _check_action(item, self.groups)
                self.actions[item.name] = item
            case tree.Symmetry():
                self._new(item.name, self.symmetries, item.span)
                self._check_symmetry(item)
                self.symmetries[item.name] = item
            case _:
                pass

    def extended(self, other: Declarations) -> Declarations:
        """These with another's added; the other's win."""
        return Declarations(
            {**self.groups, **other.groups},
            {**self.actions, **other.actions},
            {**self.symmetries, **other.symmetries},
        )

    def contract(self, name: str | None = None, span: Span | None = None) -> Contract:
        """The symmetry of that name, or the only one. Raises `TdslError`, where `span` names it."""
        if name is None:
            if not self.symmetries:
                raise TdslError(
                    "no symmetry is declared",
                    expected="`symmetry NAME { … }` in this file or one that it imports",
                )
            if len(self.symmetries) > 1:
                raise TdslError(
                    "several symmetries are declared",
                    expected=f"the name of one: {', '.join(self.symmetries)}",
                    hint="`--symmetry NAME` on the command line",
                )
            name = next(iter(self.symmetries))
        if name not in self.symmetries:
            raise TdslError(
                f"there is no symmetry `{name}`",
                span,
                expected=f"one of {', '.join(self.symmetries)}"
                if self.symmetries
                else f"`symmetry {name} {{ … }}` in this file or one that it imports",
                hint=did_you_mean(name, self.symmetries),
            )
        source = self.symmetries[name]
        return Contract(source, self.groups[source.group], self.actions, self.groups)

    def _new(self, name: str, known: Mapping[str, tree.Item], span: Span) -> None:
        if name in known:
            raise TdslError(f"`{name}` is declared twice", span, hint="give one of them another name")

    def _check_symmetry(self, item: tree.Symmetry) -> None:
        _known(item.group, self.groups, "group", item.span)
        seen: set[tuple[str, str]] = set()
        for edge in item.edges:
            if (edge.side, edge.name) in seen:
                raise TdslError(f"{edge.side} `{edge.name}` is there twice", edge.span)
            seen.add((edge.side, edge.name))
            if edge.action is None:
                continue
            _known(edge.action, self.actions, "action", edge.span)
            acting = self.actions[edge.action]
            if acting.group != item.group:
                raise TdslError(
                    f"`{edge.action}` is an action of {acting.group}, and this is a symmetry of {item.group}",
                    edge.span,
                    hint=f"declare `action … of {item.group}`",
                )
            _check_fit(edge, acting)
        for side in ("input", "output"):
            if not any(edge.side == side for edge in item.edges):
                raise TdslError(
                    f"this symmetry says nothing of any {side}",
                    item.span,
                    expected=f"`{side} NAME: [N, …] by ACTION`, or `invariant`",
                )
        if all(edge.action is None for edge in item.edges if edge.side == "input"):
            raise TdslError("nothing is done to any input, so that nothing is said", item.span)
        if item.tolerance is not None and number_of(item.tolerance, {}) <= 0:
            raise TdslError("a tolerance is a positive number", item.tolerance.span)


def _known(name: str, known: Mapping[str, object], kind: str, span: Span) -> None:
    if name not in known:
        raise TdslError(
            f"there is no {kind} `{name}`",
            span,
            expected=f"one that is declared before this: {', '.join(known)}"
            if known
            else f"`{kind} {name} …` before this",
            hint=did_you_mean(name, known),
        )


def _check_group(item: tree.Group, groups: Mapping[str, tree.Group]) -> Group:
    if item.name in FAMILIES:
        raise TdslError(f"`{item.name}` is a family of groups already", item.span, hint="use another name")
    free = {name for group in (*groups.values(), item) for name in free_sizes(group.value)}
    return evaluated(item, {**groups, item.name: item}, dict.fromkeys(free, FREE))


def _check_action(item: tree.Action, groups: Mapping[str, tree.Group]) -> None:
    _known(item.group, groups, "group", item.span)
    group = _check_group(groups[item.group], {k: v for k, v in groups.items() if k != item.group})
    terms = item.generators
    if item.type.dims is None:
        raise TdslError("this does not say on what it acts", item.type.span, expected="`on [..., H, W]`")
    if uses_element(terms[0].value):
        if len(terms) > 1:
            raise TdslError(
                "a term with `g` or `t` says what every element does, so there is one", terms[1].span
            )
    elif not group.finite:
        raise TdslError(
            f"{group.name} is not generated by finitely many elements",
            terms[0].span,
            expected="one term with `t`: `x + t`"
            if group.whole
            else "one term with `g`, its elements as matrices: `g @ x`",
        )
    elif len(terms) != len(group.generators):
        names = ", ".join(group.names)
        count = "is 1 term" if len(terms) == 1 else f"are {len(terms)} terms"
        has = "1 generator" if len(group.generators) == 1 else f"{len(group.generators)} generators"
        raise TdslError(
            f"{group.name} has {has} ({names}), and here {count}",
            item.span,
            expected="one term for each, in that order; or one with `g`, for every element",
        )
    mistakes: list[TdslError] = []  # of all sizes that the terms may be written for
    for size in dict.fromkeys([group.degree, *group.moved, FREE, *_lengths(item)]):
        try:
            _try_action(item, group, size)
            return
        except TdslError as mistake:
            mistakes.append(mistake)
    raise mistakes[0]


def _lengths(item: tree.Action) -> list[int]:
    """The lengths of lists of numbers in its terms."""
    lists = (node for term in item.generators for node in walk(term) if isinstance(node, tree.ListOf))
    return [len(one.items) for one in lists]


def _try_action(item: tree.Action, group: Group, size: int) -> None:
    """Act on a tensor whose sizes without a number have this one, to see that every term means something."""
    dims = item.type.dims or ()
    shape = [
        size if any(names_in(dim)) else int(number_of(dim, {}))
        for dim in dims
        if not isinstance(dim, tree.Ellipsis_)
    ]
    acts = Acts(item, group)
    if len(shape) < len(dims):
        shape = [2, *shape]
    for number in range(len(group.generators)):
        acts.generator(number, shape)
    if group.algebra:
        acts.element(Linear(torch.matrix_exp(group.algebra[0])), shape)
    acts.check(shape)


def _check_fit(edge: tree.Edge, acting: tree.Action) -> None:
    """Raise `TdslError` where an edge has too few axes for its action, as far as that is written."""
    have = edge.type.dims or ()
    want = acting.type.dims or ()
    open_end = any(isinstance(dim, tree.Ellipsis_) for dim in have)
    needed = sum(not isinstance(dim, tree.Ellipsis_) for dim in want)
    exact = needed == len(want)
    if not open_end and (len(have) < needed or (exact and len(have) != needed)):
        raise TdslError(
            f"`{acting.name}` acts on {tensor_type(acting.type)}, and {edge.name} is"
            f" {tensor_type(edge.type)}",
            edge.span,
        )


def declarations_of(paths: Sequence[str | os.PathLike[str]]) -> Declarations:
    """What `.tdsl` files and their imports declare of symmetry, checked. Raises `TdslError`."""
    found = Declarations()
    for file in load_files([Path(path) for path in paths]):
        for item in file.items:
            found.add(item)
    return found
