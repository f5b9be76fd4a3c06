"""Constant bilinear maps however they are written: as one `einsum`, where that leads to fewer operations."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from tdsl.passes.decompose.bilinear_forms import FIRST, MOVES, SECOND, Form, Forms
from torch import fx

from tdsl.engine.census import macs_of
from tdsl.engine.driver import Scope
from tdsl.engine.edit import Editor
from tdsl.engine.journal import Journal
from tdsl.engine.passes import GraphPass, graph_pass
from tdsl.engine.rule import Replacement, Rule
from tdsl.engine.sizes import same_shape
from tdsl.engine.staged import CannotStage, Constant, Staged
from tdsl.engine.workspace import Workspace
from tdsl.factor.bilinear import multiplications
from tdsl.ops.targets import operator_of

EQUATION = "...a,...b,abc->...c"
WIDEST = 512
"""Numbers of each of the two values, for each element of the batch."""
LARGEST = 2**21
"""Entries of the tensor of a map."""
LIMIT = 0.9
"""The new form has to cost less than this share of the old one."""

# Nanoseconds on one core, measured in onnxruntime (docs/bilinear.md); their ratios are what matters.
PER_OPERATOR = 300.0
EINSUM = 1500.0
PER_NUMBER = 0.4
PER_PRODUCT = 0.0125
PER_RUN = 5.0
PER_EINSUM = 80.0
BATCHES = (1, 1024)
"""Sizes that a dynamic batch is judged at: the new form has to be better at all of them."""


@graph_pass
class BilinearRegions(GraphPass):
    """Replace sums of products of two values by the bilinear map that they are, where that costs less."""

    name = "decompose.bilinear_regions"

    def rewrite(self, module: fx.GraphModule, journal: Journal, scope: Scope | None = None) -> int:
        """Look at every pair of values that some operator multiplies; the last values that are bilinear in
        them, for each element of a batch alike, become one `einsum` with a constant.
        """
        work = Workspace(module)
        if not work.typed:
            return 0
        editor = Editor(work)
        count = 0
        done: set[tuple[fx.Node, fx.Node, int]] = set()
        while not journal.full:
            found = next(_found(work, done, scope), None)
            if found is None:
                break
            root, value, matched = found
            saved = macs_of(work, tuple(matched)) - math.prod(_hinted(root.meta["val"].shape))
            editor.apply(
                Replacement(Rule(self.name, ()), (root,), (value,), tuple(matched)), journal.next_number
            )
            journal.note(
                self.name,
                root,
                matched,
                saved_nodes=len(matched) - 1,
                saved_parameters=None,
                saved_macs=saved,
            )
            count += 1
        if count:
            module.graph.lint()
        return count


Found = tuple[fx.Node, Staged, list[fx.Node]]


def _found(work: Workspace, done: set[tuple[fx.Node, fx.Node, int]], scope: Scope | None) -> Iterator[Found]:
    """Values that are worth replacing, with their replacements and the operators that these replace."""
    nodes = [node for node in work.module.graph.nodes if node.op in ("call_function", "get_attr")]
    for first, second in _pairs(nodes):
        one, two = first.meta["val"].shape, second.meta["val"].shape
        for leading in range(min(len(one), len(two)) - 1, -1, -1):
            if (first, second, leading) in done or not _alike(one, two, leading):
                continue
            done.add((first, second, leading))
            forms = Forms(work, first, second, leading)
            inside = [n for n in nodes if (form := forms.of(n)) is not None and form.kind]
            for root in reversed(inside):
                form = forms.of(root)
                if (
                    form is None
                    or form.kind != FIRST | SECOND
                    or not isinstance(form.values, torch.Tensor)
                    or all(user in inside for user in root.users)
                    or (scope is not None and not scope(root))
                ):
                    continue
                folded = [n for n in nodes if n.op == "call_function" and _is_constant(n)]
                matched = _matched(root, [*inside, *folded], (first, second))
                value = _replacement(work, root, form, first, second, leading, matched)
                if value is not None:
                    yield root, value, matched


def _pairs(nodes: list[fx.Node]) -> Iterator[tuple[fx.Node, fx.Node]]:
    """Every two values of which parts are multiplied, as they are and before constant products."""
    seen: set[tuple[fx.Node, fx.Node]] = set()
    for through in (MOVES | {"neg"}, MOVES | {"neg", "mul", "div", "linear", "matmul", "einsum"}):
        for node in nodes:
            operator = operator_of(node.target) if node.op == "call_function" else None
            if operator is None or operator.name not in ("mul", "matmul", "einsum"):
                continue
            roots = [_root(part, through) for part in node.all_input_nodes]
            varying = [root for root in dict.fromkeys(roots) if root is not None]
            if len(varying) != 2 or (varying[0], varying[1]) in seen:
                continue
            seen.add((varying[0], varying[1]))
            yield varying[0], varying[1]


def _root(node: fx.Node, through: frozenset[str]) -> fx.Node | None:
    """The value that a part belongs to; `None` for a constant."""
    if _is_constant(node):
        return None
    while True:
        operator = operator_of(node.target) if node.op == "call_function" else None
        inputs = [part for part in node.all_input_nodes if not _is_constant(part)]
        if operator is None or operator.name not in through or len(inputs) != 1:
            return node if isinstance(node.meta.get("val"), torch.Tensor) else None
        node = inputs[0]


def _is_constant(node: fx.Node) -> bool:
    """Whether a value depends on weights alone."""
    inputs = node.all_input_nodes
    return node.op == "get_attr" or (bool(inputs) and all(map(_is_constant, inputs)))


def _alike(one: Any, two: Any, leading: int) -> bool:
    """Whether two values have the same batch, and few enough features of known sizes."""
    same = all(a is b or a == b for a, b in zip(one[:leading], two[:leading], strict=True))
    features = (*one[leading:], *two[leading:])
    return (
        same
        and all(isinstance(size, int) for size in features)
        and math.prod(one[leading:]) <= WIDEST
        and math.prod(two[leading:]) <= WIDEST
    )


def _matched(root: fx.Node, inside: list[fx.Node], ends: tuple[fx.Node, fx.Node]) -> list[fx.Node]:
    """The operators that go with the root: those that nothing else reads."""
    dying = [root]
    for node in sorted(set(inside) - {root, *ends}, reverse=True):
        if node.users and all(user in dying for user in node.users):
            dying.append(node)
    return sorted(dying)


def _replacement(
    work: Workspace,
    root: fx.Node,
    form: Form,
    first: fx.Node,
    second: fx.Node,
    leading: int,
    matched: list[fx.Node],
) -> Staged | None:
    """The map as one `einsum`, `None` where the old form is as good."""
    val = root.meta["val"]
    sizes = [math.prod(node.meta["val"].shape[leading:]) for node in (first, second)]
    tensor = form.values.expand(*sizes, *form.values.shape[2:]).reshape(*sizes, -1)
    if not tensor.numel() or tensor.numel() > LARGEST or not val.dtype.is_floating_point:
        return None
    if len({node.meta["val"].dtype for node in (root, first, second)}) > 1:
        return None
    if not _pays(work, matched, tensor, val.shape[:leading]):
        return None
    operands = [_flattened(node, leading) for node in (first, second)]
    known = Constant(tensor.contiguous(), val.dtype, "bilinear")
    product = Staged(torch.ops.aten.einsum.default, (EQUATION, [*operands, known]), {})
    if len(matched) == 1 and operands == [first, second] and root.args[0] == EQUATION:
        return None  # it is one already
    result = product
    if val.ndim != leading + 1:
        result = Staged(torch.ops.aten.reshape.default, (product, list(val.shape)), {})
    try:
        return result if same_shape(work.val(result).shape, val.shape) else None
    except CannotStage:
        return None


def _flattened(node: fx.Node, leading: int) -> Any:
    """A value with its features in one axis."""
    shape = node.meta["val"].shape
    if len(shape) == leading + 1:
        return node
    sizes = [*shape[:leading], math.prod(shape[leading:])]
    return Staged(torch.ops.aten.reshape.default, (node, sizes), {})


# ---------------------------------------------------------------- costs


def _pays(work: Workspace, matched: list[fx.Node], tensor: torch.Tensor, batch: Any) -> bool:
    """Whether the map costs less than what it replaces, at every size that the batch may have."""
    hinted = max(1, math.prod(_hinted(batch)))
    counts = [hinted] if all(isinstance(size, int) for size in batch) else list(BATCHES)
    fixed = PER_OPERATOR * len(matched) + EINSUM * sum(map(_is_einsum, matched))
    each = (
        PER_PRODUCT * macs_of(work, tuple(matched)) + sum(map(_numbers_and_runs, matched))
    ) / hinted + PER_EINSUM * sum(map(_is_batched, matched))
    old = [fixed + count * each for count in counts]
    a, b, c = tensor.shape
    narrow = min(a, b)  # what `dense_product` makes of it
    written, multiplied = narrow * c + 2 * c, a * b * c + narrow * c
    dense = [
        5 * PER_OPERATOR + count * (PER_EINSUM + PER_PRODUCT * multiplied + PER_NUMBER * written)
        for count in counts
    ]
    if all(new < LIMIT * before for new, before in zip(dense, old, strict=True)):
        return True
    terms = multiplications(tensor)
    if terms * (a + b + c) > a * b * c + 5000:  # `bilinear_map` leaves it as it is
        return False
    few = [
        4 * PER_OPERATOR + count * (PER_NUMBER * (3 * terms + c) + PER_PRODUCT * terms * (a + b + c))
        for count in counts
    ]
    return all(new < LIMIT * before for new, before in zip(few, old, strict=True))


def _copies(node: fx.Node) -> bool:
    """Whether an operator writes anything."""
    operator = operator_of(node.target)
    return operator is None or operator.name not in ("reshape", "unsqueeze", "squeeze", "getitem")


def _is_einsum(node: fx.Node) -> bool:
    operator = operator_of(node.target)
    return operator is not None and operator.name == "einsum"


def _is_batched(node: fx.Node) -> bool:
    """Whether an operator is a small product for each element of the batch."""
    operator = operator_of(node.target)
    varying = [part for part in node.all_input_nodes if not _is_constant(part)]
    return operator is not None and operator.name in ("matmul", "einsum") and len(varying) > 1


def _numbers_and_runs(node: fx.Node) -> float:
    """Nanoseconds for the numbers that an operator writes, and for the runs in which it writes them."""
    if not _copies(node):
        return 0.0
    operator = operator_of(node.target)
    name = operator.name if operator is not None else ""
    val = node.meta.get("val")
    parts = val if isinstance(val, tuple | list) else (val,)
    varying = [part.meta["val"] for part in node.all_input_nodes if not _is_constant(part)]
    shapes = {tuple(_hinted(val.shape)) for val in varying if isinstance(val, torch.Tensor)}
    short = name in ("split", "slice", "select", "unbind", "concat", "stack") or len(shapes) > 1
    total = 0.0
    for part in parts:
        sizes = _hinted(part.shape)
        numbers = math.prod(sizes)
        run = 1 if name in ("select", "unbind", "stack") else max(1, sizes[-1] if sizes else 1)
        total += PER_NUMBER * numbers + (PER_RUN * numbers / run if short else 0.0)
    return total


def _hinted(sizes: Any) -> list[int]:
    """Sizes as numbers, dynamic ones as in the traced example."""
    return [int(size.node.hint) if isinstance(size, torch.SymInt) else int(size) for size in sizes]
