"""Tests of the values that the names and literals of a pattern stand for, written as Python."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from tdsl.engine.loops import LoopWriter
from tdsl.engine.matching import depends_on_rank, is_plain, rank_of_first, same_attributes, same_chain
from tdsl.engine.pattern import ELLIPSIS, Bind, Literal, Type
from tdsl.engine.sizes import dtype_named, same, same_value, sizes_of
from tdsl.errors import TdslError


class ValueTests(LoopWriter):
    """Binds names to local variables, and tests what is bound already, literals, types and sizes."""

    def __init__(self, optional: Collection[str]) -> None:
        """`optional` are the names of operands that may be absent."""
        super().__init__()
        self.optional = optional
        self.bound: dict[str, str] = {}
        self.late: list[tuple[str, Type, bool]] = []
        """Types to be tested when everything is bound: variable, type, whether it may be absent."""
        self.chained: set[str] = set()
        """Operator variables that stand for the operators of a chain."""

    def literal(self, literal: Literal, value: str, arguments: str) -> None:
        """`value` equals a literal; axes are counted from the end by the rank of the first of `arguments`."""
        constant = repr(literal.value) if is_plain(literal.value) else self.constant(literal.value)
        if literal.param is not None and depends_on_rank(literal.param, literal.value):
            test, rank = (
                self.constant(same_value, "same_value"),
                self.constant(rank_of_first, "rank_of_first"),
            )
            axes = f"{self.constant(literal.param, 'P')}.canonical({constant}, {rank}({arguments}))"
            self.reject_if(f"not {test}({value}, {axes})")
        elif literal.value is None or isinstance(literal.value, bool):
            self.reject_if(f"{value} is not {constant}")
        elif isinstance(literal.value, list | tuple):
            test = self.constant(same_value, "same_value")
            self.reject_if(f"not {test}({value}, {constant})")
        elif literal.exact and type(literal.value) in (int, float):
            kind = type(literal.value)
            self.constants.setdefault(kind.__name__, kind)
            self.reject_if(f"{value}.__class__ is not {kind.__name__} or {value} != {constant}")
        else:
            # `True == 1` in Python, but a flag is not a number; a node never equals a literal.
            self.reject_if(f"{value}.__class__ in (bool, Node) or {value} != {constant}")
            self.constants.setdefault("bool", bool)

    def attribute(self, name: str, value: str) -> None:
        """`value` is what the attribute variable stands for."""
        if name in self.bound:
            test = self.constant(same_value, "same_value")
            self.reject_if(f"not {test}({value}, {self.bound[name]})")
        else:
            self.bound[name] = self.rename(value, name)

    def bind(self, bind: Bind, value: str) -> None:
        """`value` is what the variable stands for; its type is tested when all is bound."""
        optional = bind.name in self.optional
        if bind.name in self.bound:
            known = self.bound[bind.name]
            test = self.constant(same_value, "same_value")
            self.reject_if(f"{value} is not {known} and not {test}({value}, {known})")
        else:
            if not optional:
                self.reject_if(f"{value} is None")
            self.bound[bind.name] = self.rename(value, bind.name)
        if bind.type is not None:
            if bind.type.const:
                test = f"{value}.__class__ is not Node or {value}.op != 'get_attr'"
                self.reject_if(f"{value} is not None and ({test})" if optional else test)
            self.late.append((self.bound[bind.name], bind.type, optional))

    def rename(self, value: str, name: str) -> str:
        """A local variable for a value, which reads as the name of the rule."""
        local = self.fresh(f"b_{name}_" if name.isidentifier() and name.isascii() else "b")
        self.put(f"{local} = {value}")
        return local

    def operator_variable(self, variable: str, value: str, *, chained: bool = False) -> None:
        """The same operator variable twice means the same operator with the same attributes."""
        if chained or variable in self.chained:
            self.reject_if(f"not {self.constant(same_chain, 'same_chain')}({value}, {self.bound[variable]})")
        elif variable in self.bound:
            known = self.bound[variable]
            self.reject_if(f"{value}.target is not {known}.target or {value}.kwargs != {known}.kwargs")
            test = self.constant(same_attributes, "same_attributes")
            self.reject_if(f"not {test}({value}, {known})")
        else:
            self.bound[variable] = value

    def check_type(self, value: str, type_: Type, optional: bool) -> None:
        """`value` has the element type and the sizes of a type; sizes without a value are bound."""
        if type_.dims is None and type_.dtype is None:
            return
        if optional:
            # An absent operand has no sizes to compare: the tests stand inside an `if`.
            self.put(f"ok = {value} is None")
            self.put("for _ in (0,) if not ok else ():")
            self.indent += 1
        if type_.dtype is not None:
            test = self.constant(dtype_named, "dtype_named")
            self.reject_if(f"not {test}({value}, {type_.dtype!r})")
        if type_.dims is not None:
            sizes = self.fresh("z")
            self.put(f"{sizes} = {self.constant(sizes_of, 'sizes_of')}({value})")
            self.reject_if(f"{sizes} is None")
            self.check_dims(type_.dims, sizes, optional)
        if optional:
            self.put("ok = True")
            self.indent -= 1
            self.reject_if("not ok")

    def check_dims(self, dims: tuple[Any, ...], sizes: str, optional: bool) -> None:
        """The sizes of a value are those of its type."""
        dots = dims.index(ELLIPSIS) if ELLIPSIS in dims else None
        count = len(dims) - (dots is not None)
        self.reject_if(f"len({sizes}) {'!=' if dots is None else '<'} {count}")
        test = self.constant(same, "same")
        for i, dim in enumerate(dims):
            if i == dots:
                continue
            size = f"{sizes}[{i if dots is None or i < dots else i - len(dims)}]"
            if isinstance(dim, int):
                self.reject_if(f"not {test}({size}, {dim})")
            elif dim in self.bound:
                known = self.bound[dim]
                self.reject_if(f"{size} is not {known} and not {test}({size}, {known})")
            elif optional:
                raise TdslError(
                    f"the size {dim} is bound only by an optional operand",
                    hint="write it in the type of an operand that is always there, too",
                )
            else:
                self.bound[dim] = self.rename(size, dim)
