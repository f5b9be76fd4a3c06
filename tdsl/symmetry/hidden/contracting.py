"""Axes through products: linear layers, matrix products, einsum, convolutions, attention."""

from __future__ import annotations

from tdsl.symmetry.hidden.flow import Call, Value, axis_law
from tdsl.symmetry.hidden.layout import UNIT, Axes, Layout, product
from tdsl.symmetry.hidden.relation import Letter, Named


def _contract(call: Call, operands: list[Named], result: list[Letter]) -> Axes:
    """Sum of products over the letters that the result lacks."""
    letters = call.relate(*operands)
    axes = tuple(letters.get(letter, UNIT) for letter in result)
    call.relate(*operands, (axes, result))
    return axes


def _batch(count: int, kept: int) -> list[Letter]:
    """Letters of the leading axes of a tensor, counted from the last of them, as broadcasting aligns them."""
    return [("batch", i) for i in range(kept - count, 0)]


@axis_law("linear")
def _linear(call: Call) -> Value:
    x = call.axes("x")
    batch = _batch(len(x), 1)
    operands: list[Named] = [(x, [*batch, "in"]), (call.axes("weight"), ["out", "in"])]
    if call.given("bias"):
        operands.append((call.axes("bias"), ["out"]))
    if len(call.axes("weight")) == 1:
        operands[1] = (call.axes("weight"), ["in"])
        return _contract(call, operands[:2], batch)
    return _contract(call, operands, [*batch, "out"])


@axis_law("matmul")
def _matmul(call: Call) -> Value:
    x, y = call.axes("x"), call.axes("y")
    left: list[Letter] = ["in"] if len(x) == 1 else [*_batch(len(x), 2), "row", "in"]
    right: list[Letter] = ["in"] if len(y) == 1 else [*_batch(len(y), 2), "in", "column"]
    rank = max(len(left), len(right))
    result = [
        *(_batch(rank, 2) if rank > 2 else []),
        *(["row"] if len(x) > 1 else []),
        *(["column"] if len(y) > 1 else []),
    ]
    return _contract(call, [(x, left), (y, right)], result)


@axis_law("cdist")
def _cdist(call: Call) -> Value:
    """Distances between all rows of one and of the other; their entries in any order."""
    x, y = call.axes("x"), call.axes("y")
    batch = _batch(max(len(x), len(y)), 2)
    left: list[Letter] = [*_batch(len(x), 2), "row", "in"]
    return _contract(call, [(x, left), (y, [*_batch(len(y), 2), "column", "in"])], [*batch, "row", "column"])


@axis_law("addmm", "baddbmm")
def _addmm(call: Call) -> Value:
    x, weight, bias = call.axes("x"), call.axes("weight"), call.axes("bias")
    batch: list[Letter] = [0] if len(x) == 3 else []
    result = [*batch, "row", "column"]
    operands: list[Named] = [(x, [*batch, "row", "in"]), (weight, [*batch, "in", "column"])]
    operands.append((bias, result[len(result) - len(bias) :]))
    return _contract(call, operands, result)


@axis_law("outer")
def _outer(call: Call) -> Value:
    return _contract(call, [(call.axes("x"), ["row"]), (call.axes("y"), ["column"])], ["row", "column"])


@axis_law("einsum")
def _einsum(call: Call) -> Value | None:
    equation = call.arguments["equation"].replace(" ", "")
    left, arrow, right = equation.partition("->")
    operands: list[Named] = []
    for term, axes in zip(left.split(","), call.operands(), strict=True):
        operands.append((axes, _letters(term, len(axes))))
    if not arrow:
        flat = left.replace("...", "").replace(",", "")
        right = "..." * ("..." in left) + "".join(sorted(c for c in set(flat) if flat.count(c) == 1))
    return _contract(call, operands, _letters(right, len(call.shape)))


def _letters(term: str, rank: int) -> list[Letter]:
    head, dots, tail = term.partition("...")
    spread = rank - len(head) - len(tail) if dots else 0
    return [*head, *_batch(spread, 0), *tail]


@axis_law(*(f"conv{n}d" for n in (1, 2, 3)), *(f"conv_transpose{n}d" for n in (1, 2, 3)))
def _convolution(call: Call) -> Value | None:
    """Channels are contracted, within their group; windows slide over the positions."""
    x, weight, groups = call.axes("x"), call.axes("weight"), call.arguments["groups"]
    if not isinstance(groups, int):
        return None
    system, spatial = call.system, len(weight) - 2
    transposed = call.operator.name.startswith("conv_transpose")
    batch = x[: len(x) - spatial - 1]
    channels = x[len(batch)]
    for layout in x[len(batch) + 1 :]:
        call.pin(layout, "a convolution slides over it")
    for layout in weight[2:]:
        call.pin(layout, "the places of a kernel")
    size = system.size(channels)
    inputs = system.split(channels, groups, size // groups)
    whole = weight[0]
    parts = system.split(whole, groups, system.size(whole) // groups)
    if inputs is None or parts is None:
        return None
    # The axis of all channels, on the side where the weight has it whole, and the one within a group.
    outer: Layout = parts[1] if not transposed else weight[1]
    inner = weight[1] if not transposed else parts[1]
    leading: list[Letter] = [("batch", i) for i in range(len(batch))]
    operands: list[Named] = [
        ((*batch, *inputs), [*leading, "group", "in"]),
        ((parts[0], outer, inner), ["group", "out", "in"]),
    ]
    if call.given("bias"):
        bias = call.axes("bias")[0]
        pair = system.split(bias, groups, system.size(bias) // groups)
        if pair is None:
            return None
        operands.append((pair, ["group", "out"]))
    *_, group, out = _contract(call, operands, [*leading, "group", "out"])
    result = system.resolve(product([group, out]))
    positions = call.shape[len(batch) + 1 :]
    return (*batch, result, *(call.pinned(n, "the positions of a convolution") for n in positions))


@axis_law("attention")
def _attention(call: Call) -> Value | None:
    """Scores contract the width of queries and keys, a softmax sums over keys whatever their order."""
    query, key, value = call.axes("query"), call.axes("key"), call.axes("value")
    mask = call.axes("mask")
    if call.arguments.get("dropout"):
        return None
    system = call.system
    batches = [axes[:-2] for axes in (query, key, value)]
    if call.arguments.get("enable_gqa") and query[-3] != UNIT:
        many, few = system.size(query[-3]), system.size(key[-3])
        parts = system.split(query[-3], few, many // few)
        if parts is None:
            return None
        batches = [(*batches[0][:-1], *parts), *((*batch, UNIT) for batch in batches[1:])]
        if mask and len(mask) > 2 and system.size(mask[-3]) != 1:
            system.unify(mask[-3], query[-3])
        mask = (*mask[:-3], UNIT, UNIT, *mask[-2:]) if len(mask) > 2 else mask
    count = max(map(len, batches))
    batch = _batch(count, 0)
    named = [(axes, batch[count - len(axes) :]) for axes in batches]
    if call.arguments.get("causal"):
        for axes in (query, key):
            call.pin(axes[-2], "the causal mask depends on the order of the tokens")
    operands: list[Named] = [
        ((*named[0][0], *query[-2:]), [*named[0][1], "row", "width"]),
        ((*named[1][0], *key[-2:]), [*named[1][1], "key", "width"]),
    ]
    if mask:
        operands.append((mask, [*batch, "row", "key"][count + 2 - len(mask) :]))
    scores = _contract(call, operands, [*batch, "row", "key"])
    sums: Named = (scores[:-1], [*batch, "row"])
    operands = [
        (scores, [*batch, "row", "key"]),
        sums,
        ((*named[2][0], *value[-2:]), [*named[2][1], "key", "out"]),
    ]
    result = _contract(call, operands, [*batch, "row", "out"])
    if call.arguments.get("enable_gqa") and query[-3] != UNIT:
        return (*result[: count - 2], query[-3], *result[count:])
    return result
