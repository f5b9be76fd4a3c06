"""Which freedoms a hidden axis has beside permutations: positive factors for each unit, orthogonal matrices.

A·D and B·D⁻¹ have the same product, but other cosines (Steck, Ekanadham, Kallus, "Is cosine-similarity of
embeddings really about similarity?", 2024): a freedom that reaches an output, a norm or a cosine is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import fx

from tdsl.ops.spec import Operator
from tdsl.ops.targets import operator_of
from tdsl.symmetry.hidden.infer import Inference, infer
from tdsl.symmetry.hidden.layout import Atom, atoms_in
from tdsl.symmetry.hidden.opposed import both_at_once
from tdsl.symmetry.hidden.pins import Pin
from tdsl.symmetry.hidden.roles import argument, places_of, touches

if TYPE_CHECKING:
    from tdsl.capture import Captured

BOTH, SCALING, ROTATION, NEITHER = (True, True), (True, False), (False, True), (False, False)
"""Whether positive factors, and whether orthogonal matrices, pass an operator."""

Passes = tuple[bool, bool]

_LINEAR = {
    *(
        "neg",
        "contiguous",
        "detach",
        "cast",
        "dropout",
        "reshape",
        "permute",
        "squeeze",
        "unsqueeze",
        "expand",
    ),
    *("concat", "stack", "slice", "split", "select", "unbind", "getitem", "flip", "roll", "pad"),
    *("linear", "addmm", "embedding", "index", "index_select", "gather"),
}
_PRODUCTS = {"matmul", "baddbmm", "einsum", "attention"}
_HOMOGENEOUS = {"relu", "leaky_relu", "abs", "prelu"}
_AVERAGES = ("avg_pool", "adaptive_avg", "upsample_", "conv")


@dataclass(frozen=True, slots=True)
class Gauge:
    """The freedoms of one hidden axis; `scaling` and `rotation` say what refuses them, if anything does.

    Positive factors scale what makes the units and divide what reads them; of two values that are multiplied
    along the axis (queries and keys) one is scaled and the other divided. An orthogonal matrix turns both.
    """

    name: str
    size: int
    scaling: Pin | None
    rotation: Pin | None


def gauges(model: Captured | fx.GraphModule, metric_only: Sequence[int] = ()) -> list[Gauge]:
    """The freedoms of every hidden axis that is a whole axis of a weight, in graph order.

    Outputs whose numbers are in `metric_only` are declared to be read by nothing but lengths and angles: a
    rotation may reach them. Raises `TdslError` where the graph has no shapes.
    """
    return [gauge for _, gauge in gauges_of(inferred(model, metric_only))]


def inferred(model: Captured | fx.GraphModule, metric_only: Sequence[int]) -> Inference:
    """The axes of a captured model, those of some outputs not pinned."""
    module = model if isinstance(model, fx.GraphModule) else model.module
    return infer(module, frozenset(metric_only))


def gauges_of(inference: Inference) -> list[tuple[int, Gauge]]:
    """The hidden axes of a graph, with their atoms."""
    names: dict[int, str] = {}
    for node in inference.weights():
        for axis, layout in enumerate(inference.axes(node)):
            if isinstance(layout, Atom):
                names.setdefault(layout.number, f"{node.target}[{axis}]")
    return [(atom, _gauge(inference, atom, name)) for atom, name in names.items()]


def _gauge(inference: Inference, atom: int, name: str) -> Gauge:
    size = inference.system.size(Atom(atom))
    pin = inference.system.pin_of(atom)
    if pin is not None:
        return Gauge(name, size, pin, pin)
    refused: list[Pin | None] = [None, None]
    output = inference.module.graph.output_node()
    if any(atom in _atoms(inference, node) for node in output.all_input_nodes):
        refused[0] = Pin(output, "what reads lengths and angles only sees a factor")
    for node in inference.module.graph.nodes:
        if node.op != "call_function" or not touches(inference, node, atom):
            continue
        op = operator_of(node.target)
        found = passes_on(inference, node, op, atom) if op is not None else NEITHER
        for i, (passes, what) in enumerate(zip(found, ("a factor", "a rotation"), strict=True)):
            if not passes and refused[i] is None:
                refused[i] = Pin(node, f"{op.name if op else node.target} does not pass {what} on")
    meeting = both_at_once(inference, atom) if refused[0] is None else None
    if meeting is not None:
        refused[0] = Pin(meeting, "one value would be scaled and divided")
    return Gauge(name, size, *refused)


def passes_on(inference: Inference, node: fx.Node, op: Operator, atom: int) -> Passes:
    """Whether an operator passes on positive factors, and orthogonal matrices, along a hidden axis."""
    name = op.name
    if _is_inner(inference, node, op, atom):
        return ROTATION
    if op.elementwise:
        return _elementwise(inference, node, op, atom)
    if name in _PRODUCTS:
        return _product(inference, node, op, atom)
    if name.startswith("conv") and argument(node, op, "groups") != 1:
        return SCALING
    if name == "pad" and argument(node, op, "value"):
        return NEITHER
    if name in _LINEAR or name.startswith(_AVERAGES):
        return BOTH
    if name in _HOMOGENEOUS or name.startswith("max_pool"):
        return SCALING
    if name in ("cosine_similarity", "norm", "rms_norm") or op.reduces:
        return _folded(inference, node, op, atom)
    uniform = [n for n in node.all_input_nodes if atom in _atoms(inference, n)]
    return BOTH if uniform and all(_uniform(inference, n, atom) for n in uniform) else NEITHER


def _is_inner(inference: Inference, node: fx.Node, op: Operator, atom: int) -> bool:
    """Whether it is a part of a sum of products along the axis, or of squares, or a Euclidean distance."""
    if op.name == "cdist":
        rows = [argument(node, op, name) for name in ("x", "y")]
        whole = [places_of(inference, one, atom) == [len(inference.axes(one)) - 1] for one in rows]
        return all(whole) and argument(node, op, "order") == 2
    if op.name == "sum":
        source = node.args[0]
        if not isinstance(source, fx.Node):
            return False
        folded = operator_of(source.target)
        return folded is not None and folded.name != "sum" and _is_inner(inference, source, folded, atom)
    if op.name == "pow":
        having = [argument(node, op, "x")] if argument(node, op, "exponent") == 2 else []
    else:
        having = (
            [argument(node, op, param.name) for param in op.operands] if op.name in ("mul", "square") else []
        )
    places = places_of(inference, node, atom)
    values = [one for one in having if isinstance(one, fx.Node) and one.op != "get_attr"]
    if not having or len(values) != len(having) or len(places) != 1:
        return False
    if any(not places_of(inference, one, atom) or _uniform(inference, one, atom) for one in values):
        return False
    return all(_sums_over(user, places[0], len(inference.axes(node))) for user in node.users)


def _sums_over(node: fx.Node, place: int, rank: int) -> bool:
    op = operator_of(node.target) if node.op == "call_function" else None
    if op is None or op.name != "sum":
        return False
    dims = argument(node, op, "dim")
    return (not dims and dims != 0) or place in {d % rank for d in _listed(dims)}


def _product(inference: Inference, node: fx.Node, op: Operator, atom: int) -> Passes:
    """Along a contracted axis, or one of a single operand; a batch of products is not mixed."""
    having = [n for n in node.all_input_nodes if atom in _atoms(inference, n)]
    if len(having) > 1 and atom in _atoms(inference, node):
        return NEITHER
    if op.name == "attention":
        query, key, value = (argument(node, op, name) for name in ("query", "key", "value"))
        allowed = {query, key} if atom not in _atoms(inference, node) else {value}
        last = all(places_of(inference, n, atom) == [len(inference.axes(n)) - 1] for n in having)
        return BOTH if last and set(having) <= allowed else NEITHER
    return BOTH


def _folded(inference: Inference, node: fx.Node, op: Operator, atom: int) -> Passes:
    """Folds over other axes leave the axis alone; over it, a length keeps under rotations only."""
    first: Any = node.args[0]
    rank = len(inference.axes(first))
    inside = set(places_of(inference, first, atom))
    if op.name == "rms_norm":
        over = {rank - 1 - i for i in range(len(argument(node, op, "shape")))} & inside
        if not over:
            return BOTH
        return ROTATION if argument(node, op, "weight") is None else NEITHER
    dims = argument(node, op, "dim")
    named = set(range(rank)) if not dims and dims != 0 else {d % rank for d in _listed(dims)}
    if not named & inside:
        return BOTH if op.linear_in or op.name == "cosine_similarity" else NEITHER
    length = op.name == "cosine_similarity" or (op.name == "norm" and argument(node, op, "order") == 2)
    return ROTATION if length else NEITHER


def _listed(dims: Any) -> list[int]:
    return [dims] if isinstance(dims, int) else list(dims)


def _elementwise(inference: Inference, node: fx.Node, op: Operator, atom: int) -> Passes:
    """Sums of what has the axis, and products with what has not."""
    operands = [argument(node, op, param.name) for param in op.operands]
    given = [operand for operand in operands if operand is not None]
    having = [
        n
        for n in given
        if isinstance(n, fx.Node) and atom in _atoms(inference, n) and not _uniform(inference, n, atom)
    ]
    if not having:
        return BOTH
    if op.name in ("add", "sub"):
        return BOTH if len(having) == len(given) else NEITHER
    if op.name in ("mul", "div") and given[0] in having:
        others = [n for n in having if n is not given[0]]
    elif op.name == "mul":
        others = having[1:]
    else:
        return NEITHER
    if not others and given.count(having[0]) == 1:
        return BOTH
    return SCALING if others and all(n.op == "get_attr" for n in others) else NEITHER


def _atoms(inference: Inference, node: fx.Node) -> set[int]:
    return {number for layout in inference.axes(node) for number in atoms_in(layout)}


def _uniform(inference: Inference, node: fx.Node, atom: int) -> bool:
    """Whether a value is the same all along the axis, as a norm is that was expanded."""
    op = operator_of(node.target) if node.op == "call_function" else None
    if op is None or not (op.name == "expand" or op.pointwise):
        return False
    first = node.args[0]
    return isinstance(first, fx.Node) and (
        atom not in _atoms(inference, first) or _uniform(inference, first, atom)
    )
