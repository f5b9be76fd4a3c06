"""What the values of a rule can be: numbers, lists, tensors, truths; what operators and functions take.

A kind is the set of what a value may be at some match. What is refused is empty sets only, so a name of
which little is known (`x` in `x * 2`, a tensor or a number) is given the benefit of the doubt.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType

from tdsl.lang.vocabulary import Function
from tdsl.ops import Param


class Kind(enum.Flag):
    """What a value may be."""

    NUMBER = enum.auto()
    LIST = enum.auto()
    TENSOR = enum.auto()
    TENSORS = enum.auto()
    TRUTH = enum.auto()
    TEXT = enum.auto()
    DTYPE = enum.auto()
    NONE = enum.auto()
    RULE = enum.auto()
    GROUP = enum.auto()
    SPACE = enum.auto()
    SIDE = enum.auto()


ANY = ~Kind(0)

WORDS: Mapping[Kind, str] = MappingProxyType(
    {
        Kind.NUMBER: "a number",
        Kind.LIST: "a list of numbers",
        Kind.TENSOR: "a tensor",
        Kind.TENSORS: "a list of tensors",
        Kind.TRUTH: "true or false",
        Kind.TEXT: "a text",
        Kind.DTYPE: "an element type",
        Kind.NONE: "nothing",
        Kind.RULE: "a rank rule",
        Kind.GROUP: "a group",
        Kind.SPACE: "a space of matrices",
        Kind.SIDE: "a side of the rule",
    }
)


def described(kind: Kind) -> str:
    """A kind in words: `a tensor`, `a number or a list of numbers`."""
    words = [word for one, word in WORDS.items() if one in kind]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


# ---------------------------------------------------------------- parameters of operators, functions, rules

_OF_PARAMS: Mapping[str, Kind] = MappingProxyType(
    {
        "tensor": Kind.TENSOR,
        "tensors": Kind.TENSORS,
        "value": Kind.TENSOR | Kind.NUMBER,
        "int": Kind.NUMBER,
        "float": Kind.NUMBER,
        "scalar": Kind.NUMBER | Kind.TRUTH,
        "bool": Kind.TRUTH,
        "text": Kind.TEXT,
        "border": Kind.TEXT,
        "dtype": Kind.DTYPE,
        "dim": Kind.NUMBER,
        "newdim": Kind.NUMBER,
        "dims": Kind.LIST | Kind.NONE,
        "axes": Kind.LIST,
        "perm": Kind.LIST,
        "shape": Kind.LIST,
        "spread": Kind.LIST,
        "ints": Kind.LIST,
        "ints1": Kind.LIST,
        "ints2": Kind.LIST,
        "ints3": Kind.LIST,
        "extents": Kind.LIST | Kind.NONE,
        "scales": Kind.LIST | Kind.NONE,
    }
)
"""What stands in a graph in normal form for a parameter of an operator, by the parameter's kind."""

OF_PARAMETERS: Mapping[str, Kind] = MappingProxyType(
    {
        "Rank": Kind.NUMBER | Kind.RULE,
        "Real": Kind.NUMBER,
        "Ratio": Kind.NUMBER,
        "Int": Kind.NUMBER,
        "Bool": Kind.TRUTH,
        "Text": Kind.TEXT,
    }
)
"""The values of a parameter of a rule, by what it is declared as."""

AXES = Kind.NUMBER | Kind.LIST | Kind.NONE
"""One axis, some, or none for all."""

_TAKES: Mapping[str, Kind] = MappingProxyType(
    {
        "side": Kind.SIDE,
        "tensor": Kind.TENSOR | Kind.SIDE,
        "x": Kind.TENSOR,
        "y": Kind.TENSOR,
        "v": Kind.LIST | Kind.TENSOR,
        "p": Kind.LIST,
        "q": Kind.LIST,
        "pad": Kind.LIST,
        "shape": Kind.LIST,
        "axes": AXES,
        "dims": AXES,
        "others": AXES,
        "gone": AXES,
        "axis": Kind.NUMBER,
        "n": Kind.NUMBER,
        "size": Kind.NUMBER,
        "tolerance": Kind.NUMBER,
        "energy": Kind.NUMBER,
        "groups": Kind.NUMBER,
        "segments": Kind.NUMBER,
        "wide": Kind.DTYPE,
        "narrow": Kind.DTYPE,
        "index": Kind.LIST | Kind.TENSOR,
        "space": Kind.SPACE,
        "group": Kind.GROUP,
        "reference": Kind.TENSOR,
        "approximation": Kind.TENSOR,
        "rank": Kind.NUMBER | Kind.RULE,
    }
)
"""What a function takes for a parameter of that name; one capital letter is a weight, any other anything."""

_TAKES_IN: Mapping[tuple[str, str], Kind] = MappingProxyType(
    {
        ("all_equal", "values"): Kind.LIST,
        ("all_equal", "value"): Kind.NUMBER,
        ("includes", "values"): Kind.LIST | Kind.NONE,
        ("includes", "value"): Kind.NUMBER,
        ("covers", "axes"): Kind.LIST | Kind.NONE,
        ("unpermuted", "values"): Kind.LIST | Kind.NONE,
        ("entries", "values"): Kind.LIST,
        ("entries", "otherwise"): Kind.NUMBER,
        ("len", "values"): Kind.LIST | Kind.TENSORS,
        ("sqrt", "value"): Kind.NUMBER | Kind.TENSOR,
        ("log2", "value"): Kind.NUMBER | Kind.TENSOR,
        ("abs", "value"): Kind.NUMBER | Kind.TENSOR,
        ("same", "x"): ANY,
        ("same", "y"): ANY,
        ("product", "groups"): Kind.GROUP,
        ("is_positive", "a"): Kind.NUMBER | Kind.TENSOR,
        ("exchange", "a"): Kind.NUMBER,
        ("exchange", "b"): Kind.NUMBER,
        ("power", "order"): Kind.NUMBER,
    }
)
"""The exceptions, by function and parameter."""

_GIVES: Mapping[str, Kind] = MappingProxyType(
    {
        **dict.fromkeys(
            ("shape", "inverse", "compose", "exchange", "remaining", "entries", "apart", "reflected"),
            Kind.LIST,
        ),
        **dict.fromkeys(("sizes", "aligned"), Kind.LIST),
        **dict.fromkeys(("sources", "standing", "kept"), AXES),
        "unpermuted": Kind.LIST | Kind.NONE,
        "dtype": Kind.DTYPE,
    }
)
"""What functions of numbers give that is no number."""

_GIVEN_BY_KIND: Mapping[str, Kind] = MappingProxyType(
    {
        "number": Kind.NUMBER,
        "predicate": Kind.TRUTH,
        "tensor": Kind.TENSOR,
        "term": Kind.TENSOR,
        "decomposition": Kind.TENSOR | Kind.NUMBER | Kind.LIST,
        "rank": Kind.RULE,
        "group": Kind.GROUP,
        "space": Kind.SPACE,
    }
)

ON_NUMBERS_TOO = frozenset({"prod", "min", "max", "abs", "sqrt", "log2"})
"""Functions of numbers that, given a tensor, are the operator of that name."""


def takes(function: Function, param: str) -> Kind:
    """What an argument of a function may be."""
    if (function.name, param) in _TAKES_IN:
        return _TAKES_IN[function.name, param]
    if len(param) == 1 and param.isupper():
        return Kind.TENSOR
    if function.kind in ("decomposition", "term") and param not in ("x", "y", "rank", "space"):
        return ANY
    return _TAKES.get(param, ANY)


def gives(function: Function) -> Kind:
    """What a function gives."""
    return _GIVES.get(function.name) or _GIVEN_BY_KIND.get(function.kind, ANY)


def kind_of_param(param: Param) -> Kind:
    """What may stand in a graph in normal form for a parameter of an operator."""
    kind = _OF_PARAMS.get(param.kind, ANY)
    if param.name == "padding" and Kind.LIST in kind:
        kind |= Kind.TEXT  # "same", "valid"
    absent = param.default is None and not param.is_operand
    return kind | Kind.NONE if absent else kind


def written_for(param: Param) -> Kind:
    """What may be written for a parameter of an operator: one number too where a list of them is meant."""
    kind = kind_of_param(param)
    if param.kind in ("dims", "axes", "ints", "ints1", "ints2", "ints3", "extents", "scales"):
        kind |= Kind.NUMBER
    return kind | Kind.NONE if param.optional else kind
