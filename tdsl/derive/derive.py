"""From two functions to a rule: traced for all sizes, written down, as general as trials allow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from tdsl.capture.failure import reason_of, span_of_exception
from tdsl.derive.function import Function, example_values, read_function
from tdsl.derive.lift import lifted
from tdsl.derive.sizes import Axis, Sizes
from tdsl.derive.trace import Traced, trace
from tdsl.derive.trial import PREFIX, Operands, Trial, refuted_by_functions, try_rule
from tdsl.derive.wording import Side, Wording, declared
from tdsl.engine.unparse import NOWHERE
from tdsl.errors import TdslError
from tdsl.lang import tree
from tdsl.lang.library_files import full_name
from tdsl.lang.walk import walk

_GENERIC = frozenset(
    {"before", "after", "pattern", "replacement", "lhs", "rhs", "left", "right", "f", "main"}
)

CLOSE = 1e-9
"""Largest relative difference between what the functions compute, in float64."""


@dataclass(frozen=True)
class Derived:
    """A rule derived from two functions, as text with an example, and how far it was tried."""

    name: str
    text: str
    sizes: int
    """On how many sizes it was tried."""
    fixed: tuple[tuple[str, int, int], ...]
    """Axes (operand, axis, size) that the rule asks to have that size, because the functions fix it."""
    verdict: str
    """What the prover says of the rule."""


def derive(before: str, after: str, name: str = "", constants: Sequence[str] = ()) -> Derived:
    """The rule that turns what the function `before` computes into what `after` does.

    Both are `file.py` or `file.py:function`; `constants` are operands that are weights. Raises `TdslError`
    at the user's line: for functions that cannot be traced, written in the language, or that differ.
    """
    first, second = read_function(before, constants), read_function(after, constants)
    _require_known_operands(first, second)
    values = example_values(first)
    _require_equal(first, second, values)
    values = _without_ones(first, second, values)
    traced = trace(first, values), trace(second, values)
    name = name or _name(first, second)
    if not name.isidentifier():
        raise TdslError(f"`{name}` is no name of a rule", expected="letters, digits and `_`")
    sizes = Sizes(*traced, values)
    failure: TdslError | None = None
    for rule, operands in _candidates(name, *traced, sizes):
        try:
            trial = try_rule(rule, operands)
        except TdslError as reason:
            failure = reason
            continue
        refuted = trial.refuted or refuted_by_functions(trial, name, first, second, values)
        if not refuted:
            return _derived(name, trial, operands)
        failure = TdslError(refuted)
    assert failure is not None
    raise TdslError(
        f"these functions make no rule: {failure.message}",
        first.span,
        expected=failure.expected,
        hint=failure.hint,
    )


def _derived(name: str, trial: Trial, operands: Operands) -> Derived:
    verdict = trial.library.rules[full_name(PREFIX, name)].verdict
    fixed = tuple(
        (operand, axis, dim.value)
        for operand, type_ in operands.types.items()
        for axis, dim in enumerate(type_.dims or ())
        if isinstance(dim, tree.Constant) and isinstance(dim.value, int) and dim.value > 1
    )
    return Derived(name, trial.text, trial.sizes, fixed, verdict.status)


# ---------------------------------------------------------------- the functions


def _require_known_operands(before: Function, after: Function) -> None:
    known = [operand.name for operand in before.operands]
    for operand in after.operands:
        if operand.name not in known:
            raise TdslError(
                f"`{operand.name}` of {after.name} is no operand of {before.name}",
                after.span,
                expected=f"some of {', '.join(known)}",
            )


def _require_equal(before: Function, after: Function, values: dict[str, torch.Tensor]) -> None:
    """Both functions compute the same, or a `TdslError` says on which sizes they do not."""
    shown = ", ".join(f"{name}: {list(value.shape)}" for name, value in values.items())
    given = {operand.name: values[operand.name] for operand in after.operands}
    with torch.no_grad():
        wanted = _flat(before.call(**values))
        try:
            found = _flat(after.call(**given))
        except Exception as error:  # the user's function raises whatever it likes
            span = span_of_exception(error, only=after.path) or after.span
            raise TdslError(f"{after.name} fails on {shown}: {reason_of(error)}", span) from None
    if len(wanted) != len(found):
        raise TdslError(
            f"{before.name} returns {len(wanted)} tensors, and {after.name} {len(found)}", after.span
        )
    for one, other in zip(wanted, found, strict=True):
        if one.shape != other.shape or one.dtype != other.dtype:
            raise TdslError(
                f"on {shown} {before.name} returns {_type(one)}, and {after.name} {_type(other)}", after.span
            )
        difference = (one.double() - other.double()).abs().max() if one.numel() else torch.zeros(())
        if not bool(difference <= CLOSE * max(1.0, float(one.double().abs().max()))):
            raise TdslError(
                f"{after.name} does not compute what {before.name} does: on random {shown} they differ by"
                f" {float(difference):.1e}",
                after.span,
            )


def _without_ones(
    before: Function, after: Function, values: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The operands with axes of size 1, which a trace takes for broadcasting, larger where they may be."""
    random = torch.Generator().manual_seed(1)
    for name, value in values.items():
        for axis in (axis for axis, size in enumerate(value.shape) if size == 1):
            more = value
            if value.is_floating_point():
                more = torch.randn(value.shape, generator=random, dtype=value.dtype)
            larger = {**values, name: torch.cat([values[name], more], axis)}
            try:
                _require_equal(before, after, larger)
            except Exception:  # the user's functions raise whatever they like
                continue
            return _without_ones(before, after, larger)
    return values


def _flat(value: object) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    return [t for item in value for t in _flat(item)] if isinstance(value, list | tuple) else []


def _type(value: torch.Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"


def _name(before: Function, after: Function) -> str:
    """The name of a function or of its file, whichever says something."""
    stems = [function.path.rpartition("/")[2].removesuffix(".py") for function in (after, before)]
    names = [after.name, before.name, *stems]
    return next((n for n in names if n not in _GENERIC and n.isidentifier()), PREFIX)


# ---------------------------------------------------------------- candidates


def _candidates(
    name: str, before: Traced, after: Traced, sizes: Sizes
) -> Iterator[tuple[tree.Rule, Operands]]:
    """Rules to try, the most general first."""
    looser = _loose(sizes)
    for loose in [looser, {}] if looser else [{}]:
        wording = Wording(before, after, sizes, loose)
        free = _alike(sizes, Sizes(before, before, _values(before)), loose)
        for relaxed in (True, False) if free else (False,):
            for shared in (False, True):
                lhs, rhs = wording.sides(shared)
                values = {wording.variables[root]: number for root, number in loose.items()}
                for left, right in lifted(lhs, rhs, values) if loose else [(lhs, rhs)]:
                    yield _candidate(name, wording, left, right, relaxed)


def _values(traced: Traced) -> dict[str, torch.Tensor]:
    """Stand-ins for the operands, of the sizes of the example."""
    return {
        name: torch.empty([int(_hint(size)) for size in node.meta["val"].shape])
        for name, node in traced.inputs.items()
    }


def _hint(size: int | torch.SymInt) -> int:
    return int(size.node.hint) if isinstance(size, torch.SymInt) else size


def _loose(sizes: Sizes) -> dict[Axis, int]:
    """Sizes that the functions fix to a number above 1, by writing it where they might have asked for it."""
    roots = dict.fromkeys(sizes.root(axis) for axis in sizes.example)
    return {root: sizes.numbers[root] for root in roots if sizes.numbers.get(root, 0) > 1}


def _alike(sizes: Sizes, alone: Sizes, loose: Mapping[Axis, int]) -> bool:
    """Whether `after` asks nothing of the sizes that `before` does not ask by itself."""
    axes = list(sizes.example)
    fixed = sizes.numbers.keys() - loose.keys()
    return all(
        (sizes.root(a) == sizes.root(b)) == (alone.root(a) == alone.root(b))
        and (sizes.root(a) in fixed) == (alone.root(a) in alone.numbers)
        for a in axes
        for b in axes
    )


def _candidate(
    name: str, wording: Wording, lhs: Side, rhs: Side, relaxed: bool
) -> tuple[tree.Rule, Operands]:
    function = wording.before.function
    types, full = wording.types(relaxed), wording.types(False)
    optional = frozenset(wording.operands[o.name] for o in function.operands if o.optional)
    used = {n.id for e in lhs for n in walk(e.term) if isinstance(n, tree.Name)}
    missing = [o.name for o in function.operands if wording.operands[o.name] not in used]
    if missing:
        raise TdslError(
            f"{function.name} does nothing with `{missing[0]}`",
            function.span,
            expected="operands that its result depends on",
        )
    rule = tree.Rule(
        name=name,
        parameters=(),
        lhs=declared(lhs, types, optional),
        arrow="=>",
        rhs=rhs,
        where=wording.conditions(),
        doc=function.doc or wording.after.function.doc,
        span=NOWHERE,
    )
    example = wording.sizes.example
    numbers = {n: example[root] for root, n in wording.variables.items()}
    bound = {n.id for t in full.values() if t for n in walk(t) if isinstance(n, tree.Name)}
    return rule, Operands(
        {n: t for n, t in full.items() if t is not None},
        {n: number for n, number in numbers.items() if n in bound},
        frozenset(n for n, t in types.items() if t != full[n]),
    )
