"""Names for what goes in and out of a model, and for its dynamic axes, taken from what the user wrote.

An input is called as the parameter of `forward` that it arrives by, `state_0` inside a tuple and
`batch_ids` inside a dict; a symbol of torch's (`s23`) as the `Dim` that the user declared for it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import sympy
import torch
from torch.utils import _pytree as pytree

from tdsl.errors import TdslError


@dataclass(frozen=True, slots=True)
class Axis:
    """A dynamic axis: the user's name, torch's symbol, and the sizes allowed (`maximum` `None`: any).

    The axis has `times * size + more` places: of a `4 * Dim("chunks")`, `times` is 4.
    """

    name: str
    symbol: str
    minimum: int
    maximum: int | None
    times: int = 1
    more: int = 0


@dataclass(frozen=True, slots=True)
class Leaf:
    """One flat input: its name, example value, and what the user said of its sizes (or `None`)."""

    name: str
    value: Any
    sizes: Any


def _step(key: Any) -> Any:
    """The index, key or attribute name of one step of a pytree path."""
    for attribute in ("idx", "key", "name"):
        if hasattr(key, attribute):
            return getattr(key, attribute)
    return str(key)


def path_name(base: str, path: Sequence[Any]) -> str:
    """`base` and the steps of a path as one identifier: `state_0`, `past_key`."""
    text = "_".join([*([base] if base else []), *(str(_step(key)) for key in path)])
    return re.sub(r"\W", "_", text)


def _descend(spec: Any, path: Sequence[Any]) -> Any:
    for key in path:
        if spec is None:
            return None
        step = _step(key)
        if isinstance(spec, Mapping):
            spec = spec.get(step)
        elif isinstance(spec, Sequence):
            spec = spec[step] if isinstance(step, int) and step < len(spec) else None
        else:
            spec = getattr(spec, str(step), None)
    return spec


def unique(names: Sequence[str], taken: Sequence[str] = ()) -> tuple[str, ...]:
    """The names, with `_1`, `_2`, … appended where one would stand twice or is in `taken`."""
    seen, result = set(taken), []
    for name in names:
        candidate, count = name, 0
        while candidate in seen:
            count += 1
            candidate = f"{name}_{count}"
        seen.add(candidate)
        result.append(candidate)
    return tuple(result)


def flat_inputs(
    forward: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], dynamic_shapes: Any
) -> list[Leaf]:
    """Every leaf of `(args, kwargs)` in the order of the flattened call."""
    signature = inspect.signature(forward)
    order = list(signature.bind(*args, **kwargs).arguments)
    parameters = list(signature.parameters.values())

    def spec_of(parameter: str, *inner: Any) -> Any:
        spec = dynamic_shapes
        if isinstance(spec, Sequence) and parameter in order:
            spec = dict(zip(order, spec, strict=False))
        return _descend(spec.get(parameter) if isinstance(spec, Mapping) else None, inner)

    rows: list[tuple[str, Any, Any]] = []
    for i, value in enumerate(args):
        parameter = parameters[min(i, len(parameters) - 1)]
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            position = i - parameters.index(parameter)
            key: Any = pytree.SequenceKey(position)
            rows.append((f"{parameter.name}_{position}", value, spec_of(parameter.name, key)))
        else:
            rows.append((parameter.name, value, spec_of(parameter.name)))
    collector = next((p.name for p in parameters if p.kind is inspect.Parameter.VAR_KEYWORD), "")
    for name, value in kwargs.items():
        path: tuple[Any, ...] = () if name in signature.parameters else (pytree.MappingKey(name),)
        rows.append((name, value, spec_of(collector if path else name, *path)))
    leaves = [
        Leaf(path_name(name, path), leaf, _descend(spec, path))
        for name, value, spec in rows
        for path, leaf in pytree.tree_flatten_with_path(value)[0]
    ]
    names = unique([leaf.name for leaf in leaves])
    return [Leaf(name, leaf.value, leaf.sizes) for name, leaf in zip(names, leaves, strict=True)]


def output_leaf_names(out_spec: pytree.TreeSpec, taken: Sequence[str]) -> tuple[str, ...]:
    """A name for each leaf of the result: the keys on the way to it, `output` where there are none."""
    tree = pytree.tree_unflatten(list(range(out_spec.num_leaves)), out_spec)
    paths = [path for path, _ in pytree.tree_flatten_with_path(tree)[0]]
    names = [path_name("" if path and isinstance(_step(path[0]), str) else "output", path) for path in paths]
    return unique(names, taken)


def with_given(names: tuple[str, ...], given: Sequence[str] | None, what: str) -> tuple[str, ...]:
    """The names the user gives, one for each of `names`.

    Raises:
        TdslError: their number is wrong, or one stands twice.
    """
    if given is None:
        return names
    if len(given) != len(names):
        raise TdslError(
            f"{len(given)} {what} names given, but the model has {len(names)} tensor {what}s",
            expected=f"one name for each of {', '.join(names)}",
        )
    twice = next((name for i, name in enumerate(given) if name in given[:i]), None)
    if twice is not None:
        raise TdslError(f"the {what} name `{twice}` is given twice")
    return tuple(given)


def _declared_name(sizes: Any, axis: int) -> str | None:
    if isinstance(sizes, Mapping):
        dim = sizes.get(axis)
    elif isinstance(sizes, Sequence) and not isinstance(sizes, str):
        dim = sizes[axis] if axis < len(sizes) else None
    else:
        dim = None
    if isinstance(dim, str):
        return dim
    # A derived `2 * batch` is named by its root; hints (`Dim.AUTO`) have no name.
    name = getattr(getattr(dim, "root", dim), "__name__", None)
    return name if isinstance(name, str) and name.isidentifier() else None


def dynamic_axes(
    leaves: Sequence[Leaf], fakes: Sequence[Any], ranges: Mapping[sympy.Symbol, Any]
) -> tuple[dict[int, Axis], ...]:
    """For each flat input, its dynamic axes whose size is one symbol, or a multiple of one and a number.

    A symbol that no `Dim` names is called after the first axis it appears on, `tokens_dim_1`.
    """
    symbols: list[tuple[int, int, sympy.Symbol]] = []
    multiples: dict[tuple[int, int], list[int]] = {}
    for i, fake in enumerate(fakes):
        for axis, size in enumerate(
            cast(Sequence[Any], fake.shape if isinstance(fake, torch.Tensor) else ())
        ):
            found = _multiple(size.node.expr) if isinstance(size, torch.SymInt) else None
            if found is not None:
                symbol, *multiples[i, axis] = found
                symbols.append((i, axis, symbol))
    names: dict[sympy.Symbol, str] = {}
    for i, axis, symbol in symbols:
        declared = _declared_name(leaves[i].sizes, axis)
        if declared is not None:
            names.setdefault(symbol, declared)
    for i, axis, symbol in symbols:
        names.setdefault(symbol, f"{leaves[i].name}_dim_{axis}")
    for symbol, name in zip(names, unique(list(names.values())), strict=True):
        names[symbol] = name
    axes: tuple[dict[int, Axis], ...] = tuple({} for _ in fakes)
    for i, axis, symbol in symbols:
        low, high = _bounds(ranges.get(symbol))
        axes[i][axis] = Axis(names[symbol], str(symbol), low, high, *multiples[i, axis])
    return axes


def _multiple(size: sympy.Expr) -> tuple[sympy.Symbol, int, int] | None:
    """`s, a, b` of a size `a * s + b`; `None` for any other."""
    if len(size.free_symbols) != 1:
        return None
    (symbol,) = size.free_symbols
    more = size.subs(symbol, 0)
    times = size.subs(symbol, 1) - more
    if (
        not times.is_Integer
        or not more.is_Integer
        or times <= 0
        or sympy.expand(size - times * symbol) != more
    ):
        return None
    return symbol, int(times), int(more)


def _bounds(interval: Any) -> tuple[int, int | None]:
    """Smallest and largest size; torch writes the unbounded one as its own infinity."""
    if interval is None:
        return 0, None
    low, high = interval.lower, interval.upper
    return (int(low) if low.is_Integer else 0), (int(high) if high.is_Integer else None)
