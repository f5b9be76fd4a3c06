"""Given what acts on the inputs of a graph, what acts on every edge of it, and where that ends.

Each operator's transfer says what becomes of the action: for any weights (structural), for these weights
because they are tied, or for these weights approximately, with the residual as certificate. Where an operator
breaks the action, what would act on its result is carried on, marked as nominal, so that later layers can be
judged on their own.
"""

from __future__ import annotations

import operator as python_operator
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from tdsl.errors import TdslError
from tdsl.ops import Operator
from tdsl.ops.targets import operator_of
from tdsl.symmetry import (  # noqa: F401  (each declares transfers)
    transfer_constants,
    transfer_convolution,
    transfer_dense,
    transfer_elements,
    transfer_folds,
    transfer_index,
    transfer_moves,
    transfer_norms,
    transfer_opaque,
    transfer_products,
    transfer_recurrent,
    transfer_reshape,
    transfer_windows,
)
from tdsl.symmetry.action import Action, identity_on
from tdsl.symmetry.region import Measure, behind, inside
from tdsl.symmetry.step import Inference, Known, Step, Strength, results_read
from tdsl.symmetry.transfer import Breaks, Law, Site, Value, transfer_of, untouched
from tdsl.symmetry.transfer_opaque import opaque

Fallback = Callable[[Site, fx.Node], Law | None]
"""A second opinion where no transfer passes an action: laws that a library declares."""


def infer(
    module: fx.GraphModule,
    inputs: Sequence[Action | None],
    *,
    fallback: Fallback | None = None,
    measure: Measure | None = None,
) -> Inference:
    """What acts on every edge of a graph in normal form; `inputs` are the actions on its tensor inputs.

    `None` leaves an input alone. Where no law is known, nor declared (`fallback`), `measure` is asked; it
    alone follows translations. Sizes are those of the example that was captured. Raises `TdslError` when
    there are more actions than inputs, or one does not fit the shape of its input.
    """
    known: dict[fx.Node, Known] = {}
    steps: dict[fx.Node, Step] = {}
    waiting = list(inputs)
    met: set[fx.Node] = set()
    outputs: tuple[Action | None, ...] = ()
    for node in module.graph.nodes:
        value = node.meta.get("val")
        if node.op == "placeholder":
            if not isinstance(value, Tensor):
                known[node] = Known((None,), _hint(value) if _is_number(value) else None, True)
                continue
            acting = waiting.pop(0) if waiting else None
            known[node] = Known((_fitting(acting, node, _shape(value)),))
        elif node.op == "get_attr":
            known[node] = Known((None,), _attribute(module, node), True)
        elif node.op == "output":
            leaves = pytree.tree_leaves(node.args[0])
            outputs = tuple(
                known[leaf].actions[0]
                for leaf in leaves
                if isinstance(leaf, fx.Node) and isinstance(leaf.meta.get("val"), Tensor)
            )
        else:
            known[node], step = _call(node, known, fallback, measure)
            if step is not None and measure is not None and (step.nominal or step.action is None):
                again = behind(node, known, measure)
                known[node], step = (known[node], step) if again is None else again
                met.update({node} if again is not None else ())
            if step is not None:
                steps[node] = step
    if waiting:
        raise TdslError(f"{len(inputs)} actions were given for {len(inputs) - len(waiting)} inputs")
    return Inference({**steps, **inside(steps, met)}, outputs)


def _call(
    node: fx.Node, known: Mapping[fx.Node, Known], fallback: Fallback | None, measure: Measure | None
) -> tuple[Known, Step | None]:
    sources = [known[source] for source in node.all_input_nodes]
    if all(source.is_constant for source in sources):
        return Known((None,), _computed(node, known), True), None
    if _is_number(node.meta.get("val")):  # a size: the one of the example
        return Known((None,), _hint(node.meta["val"]), True), None
    varying = [source for source in sources if not source.is_constant]
    origins = tuple(source for source in node.all_input_nodes if not known[source].is_constant)
    taken = tuple(source.actions[0] for source in varying)
    nominal = any(source.nominal for source in varying)
    if node.target is python_operator.getitem:
        return _item(node, known)
    shapes = None if any(map(_is_open, (node, *origins))) else _shapes(node)
    if shapes is None or any(source.actions[0] is None for source in varying):
        unknown: tuple[Action | None, ...] = (None,) * max(len(_results(node)), 1)
        return Known(unknown, nominal=True), Step(node, origins, taken, unknown, "unknown", nominal=True)
    read = results_read(node, len(shapes))
    try:
        law = _law(node, known, shapes, read, fallback)
    except Breaks as why:
        measured = measure(node, origins, taken) if measure is not None else None
        if measured is not None:
            step = Step(node, origins, taken, measured, "measured", nominal=nominal)
            return Known(measured, nominal=nominal), step
        after = tuple(
            why.nominal if why.nominal is not None and _fits(why.nominal, shape) else None for shape in shapes
        )
        step = Step(
            node, origins, taken, after, "broken", why.residual or 0.0, reason=why.reason, nominal=nominal
        )
        return Known(after, nominal=True), step
    strength: Strength = "structural"
    if law.weights:
        strength = "weights" if law.residual.exact else "approximate"
    acting = tuple(one if is_read else None for one, is_read in zip(law.actions, read, strict=True))
    step = Step(
        node, origins, taken, acting, strength, law.residual.norm, law.residual.worst, nominal=nominal
    )
    return Known(acting, nominal=nominal), step


def passing(
    module: fx.GraphModule,
    node: fx.Node,
    acting: Mapping[fx.Node, Action],
    alike: Collection[fx.Node] = (),
) -> tuple[Action | None, ...] | None:
    """What acts on the results of one call, given what acts on its operands; nothing acts on the others.

    A result that nothing reads has `None`. So has the call where they do not pass exactly, whatever the
    weights. Constants in `alike` follow what acts on the first operand: they are taken for equal numbers.
    """
    known: dict[fx.Node, Known] = {}
    for source in node.all_input_nodes:
        value = source.meta.get("val")
        if source in acting:
            known[source] = Known((acting[source],))
        elif source.op == "get_attr":
            attribute = _attribute(module, source)
            known[source] = Known((None,), torch.ones_like(attribute) if source in alike else attribute, True)
        elif not isinstance(value, Tensor):
            known[source] = Known((None,), _hint(value), True)
        elif source.op == "call_function" and not source.all_input_nodes and not _is_random(source):
            known[source] = Known((None,), _computed(source, {}), True)
        else:
            known[source] = Known((identity_on(value.ndim),))
    _, step = _call(node, known, None, None)
    if step is None or step.residual or step.strength not in ("structural", "weights"):
        return None
    return step.actions


def _is_random(node: fx.Node) -> bool:
    operator = operator_of(node.target)
    return operator is None or operator.random


def _item(node: fx.Node, known: Mapping[fx.Node, Known]) -> tuple[Known, Step | None]:
    """One of several results: what acts on it was found where it was computed."""
    source, index = node.args
    assert isinstance(source, fx.Node) and isinstance(index, int)
    whole = known[source]
    actions = whole.actions if index < len(whole.actions) else (None,) * (index + 1)
    return Known((actions[index],), nominal=whole.nominal), None


def _law(
    node: fx.Node,
    known: Mapping[fx.Node, Known],
    shapes: tuple[tuple[int, ...], ...],
    read: tuple[bool, ...],
    fallback: Fallback | None,
) -> Law:
    operator = operator_of(node.target)
    for source in node.all_input_nodes:
        moved = known[source].actions[0]
        if moved is not None and moved.offset is not None:
            raise Breaks(_shifting(node, moved))
    if operator is None:
        return opaque(node, shapes, [known[source].actions[0] for source in node.all_input_nodes])
    site = Site(operator, _arguments(operator, node, known), shapes, read)
    passes = transfer_of(operator)
    if operator.random and passes is None:
        raise Breaks(f"{operator.name} draws random numbers")
    if all(value.still for value in site.values()) and not operator.random:
        return untouched(site)
    try:
        if passes is None:
            raise Breaks(f"no law of {operator.name} is known")
        return passes(site)
    except Breaks:
        found = fallback(site, node) if fallback is not None else None
        if found is None:
            raise
        return found


def _arguments(operator: Operator, node: fx.Node, known: Mapping[fx.Node, Known]) -> dict[str, Any]:
    """The arguments of a call by name, tensors as `Value`, left-out ones with their defaults."""
    found: dict[str, Any] = {}
    schema = {a.name: p.name for a, p in _keywords(operator, node)}
    for i, param in enumerate(operator.params):
        if param.keyword_only:
            spelt = next((name for name, own in schema.items() if own == param.name), param.name)
            value = node.kwargs.get(spelt, node.kwargs.get(param.name, param.default))
        elif i < len(node.args):
            value = node.args[i]
        else:
            value = node.kwargs.get(param.name, param.default)
        found[param.name] = _argument(value, known)
    return found


def _keywords(operator: Operator, node: fx.Node) -> list[tuple[Any, Any]]:
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return []
    given = [argument for argument in schema.arguments if argument.kwarg_only]
    wanted = [param for param in operator.params if param.keyword_only]
    return list(zip(given, wanted, strict=False))


def _argument(value: Any, known: Mapping[fx.Node, Known]) -> Any:
    if isinstance(value, fx.Node):
        what = known[value]
        if what.is_constant:
            if isinstance(what.constant, Tensor):
                shape = tuple(what.constant.shape)
                return Value(shape, identity_on(len(shape)), what.constant)
            return _hint(what.constant if what.constant is not None else value.meta.get("val"))
        sample = value.meta.get("val")
        if not isinstance(sample, Tensor):
            return _hint(sample)
        shape = _shape(sample)
        acting = what.actions[0]
        assert acting is not None
        return Value(shape, acting, expanded=_expanded(value, shape))
    if isinstance(value, list | tuple):
        return [_argument(one, known) for one in value]
    return _hint(value)


def _shifting(node: fx.Node, moved: Action) -> str:
    name = str(node.target).removeprefix("aten.").partition(".")[0]
    return (
        f"{name} does not pass {moved}: its result changes by what depends on the input; differences of"
        " places, or places relative to their mean, are not translated"
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool | int | float)


def _hint(value: Any) -> Any:
    """The size of the example; `None` where values decide it."""
    return value.node.hint if isinstance(value, torch.SymInt) else value


def _is_open(node: fx.Node) -> bool:
    """Whether values decide a size of a result, as the number of entries that are not zero."""
    return any(isinstance(one, Tensor) and None in map(_hint, one.shape) for one in _results(node))


def _shape(value: Tensor) -> tuple[int, ...]:
    """The sizes of a tensor, those of the example where they are dynamic."""
    return tuple(int(_hint(size)) for size in value.shape)


def _shapes(node: fx.Node) -> tuple[tuple[int, ...], ...]:
    return tuple(_shape(one) if isinstance(one, Tensor) else () for one in _results(node))


def _results(node: fx.Node) -> Sequence[Any]:
    value = node.meta.get("val")
    return value if isinstance(value, list | tuple) else [value]


def _computed(node: fx.Node, known: Mapping[fx.Node, Known]) -> Any:
    """The value of a node that depends on constants alone."""
    if not callable(node.target):
        return None
    args = fx.node.map_arg(node.args, lambda source: known[source].constant)
    kwargs = fx.node.map_arg(node.kwargs, lambda source: known[source].constant)
    with torch.no_grad():
        try:
            return node.target(*args, **kwargs)
        except Exception:  # sizes that are not known here; its users will not find a constant
            return None


def _attribute(module: fx.GraphModule, node: fx.Node) -> Any:
    value: Any = module
    for part in str(node.target).split("."):
        value = getattr(value, part)
    return value.detach() if isinstance(value, Tensor) else value


def _fits(acting: Action, shape: tuple[int, ...]) -> bool:
    return acting.rank == len(shape) and all(element.size == shape[axis] for axis, element in acting.parts)


def _expanded(node: fx.Node, shape: tuple[int, ...]) -> frozenset[int]:
    """The axes along which `expand` or `repeat` made all places of one."""
    operator = operator_of(node.target)
    if operator is None or operator.name not in ("expand", "repeat"):
        return frozenset()
    source = node.all_input_nodes[0].meta["val"]
    before = (1,) * (len(shape) - source.ndim) + _shape(source)
    return frozenset(axis for axis, size in enumerate(shape) if before[axis] == 1 != size)


def _fitting(acting: Action | None, node: fx.Node, shape: tuple[int, ...]) -> Action:
    """The action on an input, which has to fit its shape."""
    if acting is None:
        return identity_on(len(shape))
    if not _fits(acting, shape):
        raise TdslError(f"{acting} does not act on input {node.name}, whose shape is {list(shape)}")
    return acting


__all__ = ["Fallback", "Inference", "Measure", "Step", "Strength", "infer", "passing"]
