"""Left sides as graphs: an instance staged operator by operator, without a trace."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from tdsl.engine.stage import stage
from tdsl.engine.staged import CannotStage, Filled, Staged, map_values
from tdsl.engine.workspace import Workspace
from tdsl.errors import TdslError
from tdsl.lang import tree
from tdsl.lang.assignment import DISTINCT_ATTEMPTS
from tdsl.lang.instance import Instance
from tdsl.lang.resolve import Resolved, Role
from tdsl.lang.shapes import Shaped, UnknownValueError
from tdsl.lang.typecheck import conditions_hold
from tdsl.lang.walk import walk
from tdsl.ops import OPERATORS, Operator
from tdsl.ops.shapes import ShapeMismatch
from tdsl.ops.targets import DTYPES, operator_of
from tdsl.prove.checker import Known
from tdsl.prove.facts import Facts
from tdsl.prove.kernel import NoMeaning
from tdsl.prove.numeric import NumericChecker
from tdsl.prove.values import Values

SIZES = (2, 3, 4, 6)
LARGEST = 4000
"""Most elements of all tensors of an instance."""
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True)
class Drawn:
    """A left side as a graph, with inputs to run it on."""

    module: fx.GraphModule
    inputs: tuple[Tensor, ...]


class _Coinciding(Instance):
    """An instance with few different sizes: overlapping patterns want many of them to be equal."""

    def __init__(self, resolved: Resolved, seed: int) -> None:
        super().__init__(resolved, seed + DISTINCT_ATTEMPTS)
        few = self.random.sample(SIZES, 1 + seed % 3) if seed % 8 != 7 else [1, *SIZES[:2]]
        sums = [a + b for a in few for b in few]
        self.draws.pool = sorted({*few, *sums} if seed % 4 > 1 else few)
        for name, role in resolved.roles.items():
            if role is Role.DIMENSION:
                self.set(name, self.random.choice(few if self.random.random() < 0.7 else self.draws.pool))
        self.draws.leading = tuple(self.random.choices(few, k=self.random.randint(0, 2)))
        self._split(resolved.rule.lhs, few)
        if seed % 2:
            self._solve()

    def _split(self, lhs: tuple[tree.Equation, ...], few: Sequence[int]) -> None:
        """Give the parts of what is split sizes that add up, parts of parts first."""
        totals: dict[str, int] = {}
        for equation in reversed(lhs):
            term = equation.term
            if not isinstance(term, tree.Call) or term.callee != "split":
                continue
            given = {a.name: a.value for a in term.arguments}
            x, sizes, dim = given["x"], given["sizes"], given.get("dim")
            items = sizes.items if isinstance(sizes, tree.ListOf) else ()
            total = 0
            for name, item in itertools.zip_longest(equation.names, items):
                if isinstance(item, tree.Name) and item.id not in self.env:
                    self.set(item.id, totals.get(name, self.random.choice(few)))
                value = self.env.get(item.id) if isinstance(item, tree.Name) else 0
                total += value if isinstance(value, int) else 0
            if isinstance(x, tree.Name) and self.resolved.roles.get(x.id) is Role.RESULT:
                totals[x.id] = total
            elif isinstance(x, tree.Name) and isinstance(dim, tree.Name) and x.id not in self.env:
                self.set(x.id, Shaped((*self.draws.leading, total)))
                self.set(dim.id, -1)


def drawn(resolved: Resolved, draws: int, shared: bool = True) -> Iterator[Drawn]:
    """Graphs of the left side of `resolved`, the same in every process, from that many draws.

    Equal terms are one node where they are `shared`, and a node each elsewhere.
    """
    facts = Facts(resolved)
    for seed in range(draws):
        try:
            instance = _Coinciding(resolved, seed)
            left = instance.left(resolved.rule.lhs)
            instance.env["lhs"] = next(iter(left.values()))
            if not conditions_hold(instance, resolved.rule):
                continue
            elements = sum(math.prod(v.shape) for v in instance.env.values() if isinstance(v, Shaped))
            if elements <= LARGEST:
                yield _Scene(instance, facts, shared).drawn()
        except (ShapeMismatch, UnknownValueError, NoMeaning, CannotStage, TdslError):
            continue


class _Stager:
    """Stages operators (`tdsl.prove.checker.Checker`, as far as left sides need it)."""

    def __init__(self, work: Workspace, shared: bool) -> None:
        self.work = work
        self.shared = shared
        self.made: dict[Any, Any] = {}

    def filled(self, shape: Sequence[int], value: float) -> Known:
        """A tensor of one number."""
        return Known(tuple(shape), Filled(value, tuple(shape), torch.float64), "f64")

    def apply(self, operator: Operator, arguments: Mapping[str, Any]) -> Any:
        """The operator, staged: `Known`, or a tuple of them."""
        if operator.name == "getitem" and isinstance(arguments["x"], tuple):
            return arguments["x"][arguments["index"]]
        plain = {name: _plain(value) for name, value in arguments.items()}
        key = (operator.name, _identity(plain))
        if key not in self.made or not self.shared:
            self.made[key] = self._known(stage(self.work, operator, plain))
        return self.made[key]

    def unnamed(self, name: str, operator: Operator, arguments: Mapping[str, Any]) -> Any:
        """The operator that was drawn."""
        return self.apply(operator, arguments)

    def _known(self, value: Any) -> Any:
        described = self.work.val(value)
        if isinstance(described, list | tuple):
            getitem = OPERATORS["getitem"]
            return tuple(
                self._known(stage(self.work, getitem, {"x": value, "index": i}))
                for i in range(len(described))
            )
        return Known(tuple(described.shape), value, _NAMES[described.dtype])

    def __getattr__(self, name: str) -> Any:
        raise UnknownValueError(f"a left side has no {name}")


class _Scene(Values):
    """The values of one instance as staged terms over inputs and weights."""

    def __init__(self, instance: Instance, facts: Facts, shared: bool) -> None:
        self.mode = FakeTensorMode()
        self.graph = fx.Graph()
        self.inputs: list[Tensor] = []
        self.generator = torch.Generator().manual_seed(0)
        self.last_input: fx.Node | None = None
        self.output = self.graph.output(())
        self.module = fx.GraphModule(nn.Module(), self.graph)
        work = Workspace(self.module)
        work._mode = self.mode
        super().__init__(instance, _Stager(work, shared), facts)

    def leaf(self, name: str, shaped: Shaped) -> Known:
        """A variable of the left side: a weight where it has to be one, an input, or by chance either."""
        random = self.instance.random
        written = self.facts.types.get(name)
        bound = self.selecting.get(name, 0)
        dtype = written.dtype if written is not None and written.dtype else "f64"
        if self.facts.sensitive and (written is None or not written.dtype):
            dtype = random.choice(("f64", "f32", "f16", "bool", "i64", "i32"))
        const = written is not None and written.const
        if written is not None and written.dims == () and not const and random.random() < 0.7:
            return Known((), 0.5, "f64")
        if written is None and not bound:
            const = random.random() < 0.25
        if name in self.facts.structured and (bound or const):
            values = self._structured(name, shaped.shape, bound)
        else:
            values = self._values(shaped.shape, "i64" if bound else dtype, bound, positive=const)
        node = self._weight(name, values) if const else self._input(values)
        with self.mode:
            node.meta["val"] = torch.empty(shaped.shape, dtype=values.dtype)
        return Known(shaped.shape, node, _NAMES[values.dtype])

    def _structured(self, name: str, shape: Sequence[int], bound: int) -> Tensor:
        """An index or a weight of a structure that a condition may ask for."""
        numbers = NumericChecker(self.instance.random.randrange(1 << 16), "normal", sensitive=False)
        family = self._family(name, selects=bound > 0)
        known = numbers.draw(shape, "i64", family, bound) if bound else numbers.structured(shape, family)
        values: Tensor = known.value
        return values

    def _values(self, shape: Sequence[int], dtype: str, bound: int, positive: bool) -> Tensor:
        wanted = DTYPES[dtype]
        if wanted is torch.bool:
            return torch.randint(0, 2, tuple(shape), generator=self.generator).bool()
        if not wanted.is_floating_point:
            return torch.randint(0, bound or 5, tuple(shape), generator=self.generator).to(wanted)
        values = torch.randn(tuple(shape), generator=self.generator, dtype=torch.float64)
        return (values.abs() + 0.5 if positive else values).to(wanted)

    def _input(self, values: Tensor) -> fx.Node:
        place = self.last_input
        before = self.graph.inserting_after(place) if place else self.graph.inserting_before()
        with before:
            node = self.graph.placeholder("xyzuvw"[len(self.inputs)] if len(self.inputs) < 6 else "x")
        self.inputs.append(values)
        self.last_input = node
        return node

    def _weight(self, name: str, values: Tensor) -> fx.Node:
        path = name.replace("′", "_")
        while hasattr(self.module, path):
            path += "_"
        if values.is_floating_point():
            self.module.register_parameter(path, nn.Parameter(values, requires_grad=False))
        else:
            self.module.register_buffer(path, values)
        with self.graph.inserting_before(self.output):
            return self.graph.get_attr(path)

    def drawn(self) -> Drawn:
        """The graph of the left side; what no other equation uses is an output."""
        values = self.left()
        results = [
            part
            for names, value in values.items()
            for name, part in zip(names or ("",), value if len(names) > 1 else (value,), strict=True)
            if not name or not self._used(name)
        ]
        nodes = tuple(self._node(_plain(self.argument(part, None))) for part in results)
        self.output.args = (nodes,)
        constant = set(self.graph.find_nodes(op="get_attr"))
        for node in self.graph.nodes:
            operands = node.all_input_nodes
            if node.op != "call_function" or not operands or not constant.issuperset(operands):
                continue
            if _would_be_folded(node):
                raise CannotStage("a constant that would have been folded")
            constant.add(node)
        if not self.inputs and not constant:
            raise CannotStage("a graph of numbers alone")
        return Drawn(self.module, tuple(self.inputs))

    def _used(self, name: str) -> bool:
        return any(
            isinstance(node, tree.Name) and node.id == name
            for equation in self.rule.lhs
            for node in walk(equation.term)
        )

    def _node(self, value: Any) -> Any:
        if isinstance(value, Filled):
            raise CannotStage("a left side of one number")
        if not isinstance(value, Staged):
            return value
        if value.node is None:
            args, kwargs = map_values(value.args, self._node), map_values(value.kwargs, self._node)
            operator = operator_of(value.target)
            with self.graph.inserting_before(self.output):
                name = operator.name if operator else None
                value.node = self.graph.create_node("call_function", value.target, args, kwargs, name)
            value.node.meta["val"] = self.checker.work.val(value)  # type: ignore[attr-defined]
        return value.node


def _would_be_folded(node: fx.Node) -> bool:
    """Whether an operator on constants is taken away: its value is no larger than its operands.

    A product of weights alone is left out as well: no model has one, and any rule makes it one weight. What
    reads a larger value, which was left, is not taken away.
    """
    if any(operand.op != "get_attr" for operand in node.all_input_nodes):
        return False
    operator = operator_of(node.target)
    if operator is not None and operator.macs is not None:
        return True
    known = node.meta["val"]
    stored = sum(operand.meta["val"].numel() for operand in node.all_input_nodes)
    return not isinstance(known, Tensor) or known.numel() <= max(stored, 16)


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, str) and value in DTYPES:
        return DTYPES[value]
    return value.value if isinstance(value, Known) else value


def _identity(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple((name, _identity(part)) for name, part in value.items())
    if isinstance(value, list | tuple):
        return tuple(_identity(part) for part in value)
    return value if value is None or isinstance(value, int | float | str | bool) else id(value)
