"""Axes through movement: reshape, permute, expand, concatenation, slices, shuffles."""

from __future__ import annotations

from tdsl.symmetry.hidden.flow import Call, Value, axis_law
from tdsl.symmetry.hidden.layout import UNIT, Atom, Axes, Layout, case_of, product, total
from tdsl.symmetry.hidden.system import System


def regroup(system: System, axes: Axes, sizes: tuple[int, ...]) -> Axes:
    """The axes of a reshape: blocks that end together are followed factor by factor, others are pinned."""
    inside = [(layout, system.size(layout)) for layout in axes if system.size(layout) != 1]
    places = [i for i, size in enumerate(sizes) if size != 1]
    result: list[Layout] = [UNIT] * len(sizes)
    first = 0
    while places or first < len(inside):
        block: list[Layout] = []
        wanted: list[int] = []
        have, want = 1, 1
        while have != want or not block:
            if have <= want and first < len(inside):
                block.append(inside[first][0])
                have *= inside[first][1]
                first += 1
            elif places and have > want:
                wanted.append(places.pop(0))
                want *= sizes[wanted[-1]]
            else:
                break
        if have != want:
            wanted, places = wanted + places, []
            block, first = block + [layout for layout, _ in inside[first:]], len(inside)
            have = -1
        found = None if have == -1 else _divide(system, block, [sizes[i] for i in wanted])
        if found is None:
            for layout in block:
                system.pin(layout, "the reshape takes blocks of the axis apart")
            found = [system.pinned(sizes[i], "the reshape mixes axes") for i in wanted]
        for i, layout in zip(wanted, found, strict=True):
            result[i] = layout
    return tuple(result)


def _divide(system: System, block: list[Layout], sizes: list[int]) -> list[Layout] | None:
    """A block of axes as axes of these sizes, whose product is its own; `None` if it cannot."""
    rest = system.resolve(product(block))
    found: list[Layout] = []
    for size in sizes:
        halves = system.split(rest, size, system.size(rest) // size)
        if halves is None:
            return None
        found.append(halves[0])
        rest = halves[1]
    return found


@axis_law("reshape")
def _reshape(call: Call) -> Value:
    return regroup(call.system, call.axes("x"), call.shape)


@axis_law("permute")
def _permute(call: Call) -> Value:
    axes = call.axes("x")
    return tuple(axes[i] for i in call.arguments["dims"])


@axis_law("expand")
def _expand(call: Call) -> Value:
    """Copies are all equal: the new axis is free."""
    axes = call.axes("x")
    added = len(call.shape) - len(axes)
    old = (UNIT,) * added + axes
    return tuple(
        call.system.fresh(size) if call.system.size(layout) != size else layout
        for layout, size in zip(old, call.shape, strict=True)
    )


@axis_law("squeeze")
def _squeeze(call: Call) -> Value:
    axes = call.axes("x")
    gone = [i for i in call.dims("dims") or [] if axes and call.system.size(axes[i]) == 1]
    return tuple(layout for i, layout in enumerate(axes) if i not in gone)


@axis_law("unsqueeze")
def _unsqueeze(call: Call) -> Value:
    axes = call.axes("x")
    dim = call.arguments["dim"] % (len(axes) + 1)
    return (*axes[:dim], UNIT, *axes[dim:])


@axis_law("flip", "roll", "rot90", "tril", "triu")
def _displaced(call: Call) -> Value:
    """The order along these axes changes, in a way that depends on it."""
    axes = call.axes("x")
    name = call.operator.name
    dims = [len(axes) - 2, len(axes) - 1] if name in ("tril", "triu") else call.dims("dims")
    dims = dims or list(range(len(axes)))
    call.along(axes, dims, f"{name} depends on the order of the axis")
    if name != "rot90" or call.arguments["k"] % 2 == 0:
        return axes
    turned = list(axes)
    turned[dims[0]], turned[dims[1]] = axes[dims[1]], axes[dims[0]]
    return tuple(turned)


@axis_law("repeat")
def _repeat(call: Call) -> Value:
    axes = call.axes("x")
    old = (UNIT,) * (len(call.shape) - len(axes)) + axes
    return tuple(
        call.system.resolve(product([call.system.fresh(size // call.system.size(layout)), layout]))
        for layout, size in zip(old, call.shape, strict=True)
    )


@axis_law("repeat_interleave")
def _interleave(call: Call) -> Value | None:
    dims, axes = call.dims(), call.axes("x")
    repeats = call.arguments["repeats"]
    if dims is None or not isinstance(repeats, int):
        return None
    inner = call.system.fresh(repeats)
    return tuple(product([layout, inner]) if i in dims else layout for i, layout in enumerate(axes))


@axis_law("concat")
def _concat(call: Call) -> Value:
    tensors = [axes for axes in call.operands() if axes != () or len(call.shape) == 0]
    rank = len(call.shape)
    dim = call.arguments["dim"] % rank
    letters = call.relate(
        *(
            (axes, [(dim, number) if i == dim else i for i in range(rank)])
            for number, axes in enumerate(tensors)
        )
    )
    whole = total([axes[dim] for axes in tensors])
    return tuple(whole if i == dim else letters[i] for i in range(rank))


@axis_law("stack")
def _stack(call: Call) -> Value:
    tensors = call.operands()
    rank = len(call.shape)
    dim = call.arguments["dim"] % rank
    letters = call.relate(*((axes, range(rank - 1)) for axes in tensors))
    axes = [letters[i] for i in range(rank - 1)]
    axes.insert(dim, call.pinned(len(tensors), "stacks tensors that are not alike"))
    return tuple(axes)


@axis_law("split")
def _split(call: Call) -> Value | None:
    axes, dims = call.axes("x"), call.dims()
    assert dims is not None
    rest: Layout = axes[dims[0]]
    pieces: list[Layout] = []
    sizes = [shape[dims[0]] for shape in call.shapes()]
    if 0 in sizes:
        return None
    for size in sizes[:-1]:
        cut = call.system.cut(rest, size)
        if cut is None:
            return None
        pieces.append(cut[0])
        rest = cut[1]
    return [(*axes[: dims[0]], piece, *axes[dims[0] + 1 :]) for piece in [*pieces, rest]]


@axis_law("slice")
def _slice(call: Call) -> Value | None:
    axes, dims = call.axes("x"), call.dims()
    assert dims is not None
    dim = dims[0]
    start, step = call.arguments["start"] or 0, call.arguments["step"]
    layout, own, size = axes[dim], call.system.size(axes[dim]), call.shape[dim]
    if size == own and step == 1:
        return axes
    kept: Layout | None = None
    if step == 1 and isinstance(start, int) and size > 0 and start + size <= own:
        kept = _segment(call.system, layout, start, size)
    elif isinstance(start, int) and isinstance(step, int) and start < step and size * step == own:
        parts = call.system.split(layout, size, step)  # every step-th place: one place of each block
        if parts is not None:
            call.pin(parts[1], "a slice tells the places apart")
            kept = parts[0]
    if kept is None:
        call.pin(layout, "a slice takes places along the axis")
        kept = call.pinned(size, "a slice takes places along the axis")
    return (*axes[:dim], kept, *axes[dim + 1 :])


def _segment(system: System, layout: Layout, start: int, size: int) -> Layout | None:
    """`size` consecutive indices of the axis."""
    if start:
        cut = system.cut(layout, start)
        if cut is None:
            return None
        layout = cut[1]
    if size == system.size(layout):
        return layout
    cut = system.cut(layout, size)
    return None if cut is None else cut[0]


def _chosen(call: Call, axes: Axes, dim: int, index: int, reason: str) -> Axes:
    """One slice along an axis: of a selector the case, of any other axis a part of size 1."""
    system = call.system
    resolved = tuple(system.resolve(layout) for layout in axes)
    layout = resolved[dim]
    rest = (*resolved[:dim], *resolved[dim + 1 :])
    if isinstance(layout, Atom):
        rest = tuple(case_of(other, layout.number, index) for other in rest)
        if system.is_outer(layout.number):
            system.pin(layout, reason)  # its blocks are not alike: they are followed one by one
    if system.is_free(layout) and _segment(system, layout, index, 1) is None:
        system.pin(layout, reason)
    return rest


@axis_law("select")
def _select(call: Call) -> Value | None:
    axes, dims = call.axes("x"), call.dims()
    assert dims is not None
    index = call.arguments["index"]
    if not isinstance(index, int) or index < 0:
        return None
    return _chosen(call, axes, dims[0], index, "one place along the axis is selected")


@axis_law("unbind")
def _unbind(call: Call) -> Value:
    axes, dims = call.axes("x"), call.dims()
    assert dims is not None
    call.pin(axes[dims[0]], "the places along the axis are taken apart")
    count = len(call.shapes())
    return [
        _chosen(call, axes, dims[0], i, "the places along the axis are taken apart") for i in range(count)
    ]


@axis_law("pad")
def _pad(call: Call) -> Value | None:
    """A constant border is the same in all its places."""
    axes, pad = call.axes("x"), call.arguments["pad"]
    if not all(isinstance(width, int) for width in pad):
        return None
    result = list(axes)
    for k in range(len(pad) // 2):
        i = len(axes) - 1 - k
        before, after = pad[2 * k], pad[2 * k + 1]
        if before == after == 0:
            continue
        if call.arguments["mode"] != "constant" or min(before, after) < 0:
            call.along(axes, [i], "the border depends on the order of the axis")
            result[i] = call.pinned(call.shape[i], "the border depends on the order of the axis")
        else:
            parts = [axes[i]]
            parts[:0] = [call.system.fresh(before)] * bool(before)
            parts += [call.system.fresh(after)] * bool(after)
            result[i] = total(parts)
    return tuple(result)


@axis_law("pixel_shuffle")
def _pixel_shuffle(call: Call) -> Value | None:
    *batch, c, h, w = call.axes("x")
    factor = call.arguments["factor"]
    parts = call.system.split(c, call.system.size(c) // factor**2, factor**2)
    if parts is None:
        return None
    call.pin(parts[1], "pixel_shuffle makes positions of it")
    for layout in (h, w):
        call.pin(layout, "pixel_shuffle puts positions between its places")
    call.relate(((*batch, parts[0]), range(len(batch) + 1)))
    return (*batch, parts[0], *(call.pinned(size, "positions") for size in call.shape[-2:]))


@axis_law("pixel_unshuffle")
def _pixel_unshuffle(call: Call) -> Value:
    *batch, c, h, w = call.axes("x")
    factor = call.arguments["factor"]
    for layout in (h, w):
        call.pin(layout, "pixel_unshuffle takes positions apart")
    call.relate(((*batch, c), range(len(batch) + 1)))
    inner = call.pinned(factor**2, "pixel_unshuffle makes channels of positions")
    return (*batch, product([c, inner]), *(call.pinned(size, "positions") for size in call.shape[-2:]))


@axis_law("channel_shuffle")
def _channel_shuffle(call: Call) -> Value | None:
    """Groups × members become members × groups."""
    x, groups = call.axes("x"), call.arguments["groups"]
    parts = call.system.split(x[1], groups, call.system.size(x[1]) // groups)
    if parts is None:
        return None
    return (x[0], call.system.resolve(product([parts[1], parts[0]])), *x[2:])


@axis_law("im2col")
def _windows_as_columns(call: Call) -> Value:
    *batch, c, h, w = call.axes("x")
    for layout in (h, w):
        call.pin(layout, "windows slide over it")
    channels, columns = call.shape[-2:]
    taps = call.pinned(channels // call.system.size(c), "the places of a window")
    call.relate(((*batch, c), range(len(batch) + 1)))
    return (*batch, product([c, taps]), call.pinned(columns, "the places of the windows"))


@axis_law("unfold")
def _unfold(call: Call) -> Value:
    axes, dims = call.axes("x"), call.dims()
    assert dims is not None
    call.along(axes, dims, "windows slide over it")
    kept = tuple(
        call.pinned(size, "the places of the windows") if i in dims else layout
        for i, (layout, size) in enumerate(zip(axes, call.shape[:-1], strict=True))
    )
    return (*kept, call.pinned(call.shape[-1], "the places of a window"))


@axis_law("meshgrid")
def _meshgrid(call: Call) -> Value | None:
    """Along the other axes of each result, copies."""
    vectors = call.operands()
    if call.arguments["indexing"] != "ij" or any(len(axes) != 1 for axes in vectors):
        return None
    return [
        tuple(axes[0] if i == number else call.system.fresh(size) for i, size in enumerate(shape))
        for number, (axes, shape) in enumerate(zip(vectors, call.shapes(), strict=True))
    ]
