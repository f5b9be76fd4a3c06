"""Group convolutions as shifted features and few products, where that is faster."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, fx

from tdsl.engine.census import macs_of
from tdsl.engine.driver import Scope
from tdsl.engine.edit import Editor
from tdsl.engine.explain import Explanation, Failure, Site, place_of
from tdsl.engine.journal import Journal
from tdsl.engine.passes import GraphPass, graph_pass
from tdsl.engine.rule import Replacement, Rule
from tdsl.engine.stage import stage
from tdsl.engine.staged import Constant
from tdsl.engine.workspace import Workspace
from tdsl.factor.turned_taps import TurnedTaps, turned_taps
from tdsl.ops import OPERATORS
from tdsl.ops.targets import operator_of


@dataclass(frozen=True, slots=True)
class _Convolution:
    """A convolution with one kernel that nothing else reads; borders of zeros, known sizes.

    One that is transposed and has no stride is a convolution whose kernel runs backwards.
    """

    node: fx.Node
    x: fx.Node
    weight: fx.Node
    bias: fx.Node | None
    padding: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    transposed: bool

    def kernel(self, weight: Tensor) -> Tensor:
        """The kernel of the convolution, from what is stored. → [g·O, I, k, k]"""
        if not self.transposed:
            return weight
        apart = weight.reshape(self.groups, -1, *weight.shape[1:])
        return apart.transpose(1, 2).flip(-2, -1).reshape(-1, apart.shape[1], *weight.shape[2:])

    @property
    def outputs(self) -> int:
        """How many outputs each group has."""
        return int(self.node.meta["val"].shape[1]) // self.groups

    @property
    def dtype(self) -> torch.dtype:
        """The element type of the kernel."""
        found: torch.dtype = self.weight.meta["val"].dtype
        return found


@graph_pass
class TurnedConvolutions(GraphPass):
    """Write convolutions that commute with turns and mirrors as features shifted by place, and few products.

    Their kernels are found to be tied by symmetries of the square, in whatever order these stand. The group
    acts on channels as for 1×1 convolutions, and on the taps of the kernel, too. `saved` says how many
    multiply-accumulates have to be saved for each number of the shifted features, which is written, joined
    and transformed, half as many more where there is a stride (measured: docs/finite-groups.md); 1 where
    the file counts.
    """

    name = "decompose.turned_convolutions"
    parameters = "saved: Int = 250"
    approximate = True

    def rewrite(self, module: fx.GraphModule, journal: Journal, scope: Scope | None = None) -> int:
        """Rewrite every convolution where it pays."""
        work = Workspace(module)
        editor = Editor(work)
        count = 0
        for _, convolution, found, reason in list(self._found(work, scope)) if work.typed else ():
            if journal.full:
                break
            if convolution is None or found is None or reason:
                continue
            _rewrite(editor, convolution, found, journal)
            count += 1
        if count:
            module.graph.lint()
        return count

    def explain(self, module: fx.GraphModule, limit: int = 5) -> Explanation:
        """Which convolutions would be rewritten, and why the others are not."""
        found = list(self._found(Workspace(module), None))
        fired = [place_of(node) for node, _, _, reason in found if not reason]
        left = [(place_of(node), reason) for node, _, _, reason in found if reason]
        sites = [
            Site(place, 1, 2, (), (Failure("condition", reason, "", "", "", place, (), "", ""),), 0)
            for place, reason in left[:limit]
        ]
        return Explanation(
            rule=self.name,
            candidates=len(found),
            fires=len(fired),
            fired=tuple(fired[:limit]),
            sites=tuple(sites),
            root="conv2d",
            nearest=(),
            otherwise=(),
        )

    def _found(
        self, work: Workspace, scope: Scope | None
    ) -> Iterator[tuple[fx.Node, _Convolution | None, TurnedTaps | None, str]]:
        """Convolutions, their forms, and the reason why they are left alone."""
        for node in work.module.graph.nodes:
            op = operator_of(node.target) if node.op == "call_function" else None
            if op is None or op.name not in _SIGNATURES or (scope is not None and not scope(node)):
                continue
            one = _read(node, op.name)
            if isinstance(one, str):
                yield node, None, None, one
                continue
            least = self.values["saved"]
            if one.outputs < least:  # every form saves less
                of_group = " of each group" if one.groups > 1 else ""
                yield node, one, None, f"its {one.outputs} outputs{of_group} are too few"
                continue
            found = turned_taps(one.kernel(work.evaluate(one.weight)), groups=one.groups)
            if found is None:
                yield node, one, None, _untied(one)
                continue
            if max(one.stride) > 1:  # of strided shifts the numbers lie apart, which takes longer to read
                least = least * 3 // 2
            _, products, inner, outer = found.products.shape
            few = products * (inner * (outer + found.places) + outer * found.places)
            saved = (found.places**2 * inner * outer - few) // (found.places * inner)
            reason = f"{saved} products are saved for each shifted number, and {least} would pay"
            yield node, one, found, "" if saved >= least else reason


_SIGNATURES = {name: OPERATORS[name].params for name in ("conv2d", "conv_transpose2d")}


def _untied(one: _Convolution) -> str:
    alike = " in all groups alike" if one.groups > 1 else ""
    return f"its kernel is not tied by symmetries of the square{alike}"


def _read(node: fx.Node, name: str) -> _Convolution | str:
    """A convolution, or the reason why its kernel is not looked at."""
    given: dict[str, Any] = dict(zip((param.name for param in _SIGNATURES[name]), node.args, strict=False))
    x, weight, bias = given["x"], given["weight"], given.get("bias")
    if not isinstance(weight, fx.Node) or weight.op != "get_attr":
        return "its kernel is computed"
    if len(weight.users) != 1:
        return "its kernel is read by others, too"
    sizes, kernel = x.meta["val"].shape, weight.meta["val"].shape
    if kernel[2] != kernel[3] or kernel[2] < 2:
        return f"its kernel has {kernel[2]} × {kernel[3]} taps, which do not turn"
    if len(sizes) != 4:
        return "its input is one image and no batch"
    if not all(isinstance(size, int) for size in sizes[1:]) or not weight.meta["val"].is_floating_point():
        return "its sizes depend on the input"
    padding, stride, dilation, more = (
        tuple(given.get(key, [default] * 2))
        for key, default in (("padding", 0), ("stride", 1), ("dilation", 1), ("output_padding", 0))
    )
    if transposed := name == "conv_transpose2d":
        if max(stride) > 1:
            return "it is transposed and has a stride: its shifts are of results, which are not joined"
        padding = tuple(d * (kernel[2] - 1) - p for d, p in zip(dilation, padding, strict=True))
        if min(padding) < 0 or any(more):
            return "it is transposed, and its borders are cut or widened"
    groups = given.get("groups", 1)
    return _Convolution(node, x, weight, bias, padding, stride, dilation, groups, transposed)


def _rewrite(editor: Editor, one: _Convolution, found: TurnedTaps, journal: Journal) -> None:
    work = editor.work
    value = _value(work, one, found)
    before = macs_of(work, (one.node,))
    rule = Rule(TurnedConvolutions.name, (), approximate=True)
    edit = editor.apply(Replacement(rule, (one.node,), (value,), (one.node,)), journal.next_number)
    made = [node for node in edit.created if node.op == "call_function"]
    numbers = found.into.numel() + found.products.numel() + found.back.numel()
    journal.note(
        TurnedConvolutions.name,
        one.node,
        saved_nodes=1 - len(made),
        saved_parameters=prod(one.weight.meta["val"].shape) - numbers,
        saved_macs=before - macs_of(work, tuple(made)),
        details={"places": found.places, "products": len(found.into)},
        error=found.error,
    )


def _value(work: Workspace, one: _Convolution, found: TurnedTaps) -> Any:
    """The convolution as one product on the places, one for each space of the group, and one back."""

    def of(name: str, **arguments: Any) -> Any:
        return stage(work, OPERATORS[name], arguments)

    def known(values: Tensor, name: str) -> Constant:
        return Constant(values.contiguous(), one.dtype, name, one.weight)

    count, _, rows, columns = one.node.meta["val"].shape
    groups, products, inner, outer = found.products.shape
    each = [count, groups] if groups > 1 else [count]
    features = of("reshape", x=_shifted(work, one, found), shape=[*each, found.places, -1])
    mixed = of("matmul", x=known(found.into, "into"), y=features)
    mixed = of("reshape", x=mixed, shape=[*each, products, inner, rows * columns])
    kernels = found.products.transpose(2, 3)
    mixed = of("matmul", x=known(kernels if groups > 1 else kernels[0], "products"), y=mixed)
    mixed = of("reshape", x=mixed, shape=[*each, products, outer * rows * columns])
    mixed = of("matmul", x=known(found.back, "back"), y=mixed)
    if found.inside:
        mixed = of("reshape", x=mixed, shape=[*each, found.places, outer, rows * columns])
        ahead = list(range(len(each)))
        mixed = of("permute", x=mixed, dims=[*ahead, len(each) + 1, len(each), len(each) + 2])
    outputs = groups * found.places * outer
    mixed = of("reshape", x=mixed, shape=[count, outputs, rows, columns])
    if found.orders is not None:
        order = _in_groups(found.orders.places, groups)
        places_of_rows = Constant(order, torch.int64, "rows", one.weight)
        mixed = of("index_select", x=mixed, dim=1, index=places_of_rows)
    if one.bias is None:
        return mixed
    return of("add", x=mixed, y=of("reshape", x=one.bias, shape=[outputs, 1, 1]))


def _in_groups(order: Tensor, groups: int) -> Tensor:
    """An order of the channels of a group as that of all groups. [n] → [groups·n]"""
    return (order + len(order) * torch.arange(groups)[:, None]).flatten()


def _shifted(work: Workspace, one: _Convolution, found: TurnedTaps) -> Any:
    """[n, (g,) d·k²·q, H, W]: the channels of each place, at its own tap for each tap of the kernel."""

    def of(name: str, **arguments: Any) -> Any:
        return stage(work, OPERATORS[name], arguments)

    count, channels, height, width = one.x.meta["val"].shape
    rows, columns = one.node.meta["val"].shape[2:]
    size = one.weight.meta["val"].shape[2]
    groups = one.groups
    wide: Any = one.x
    if found.orders is not None:
        order = _in_groups(found.orders.columns.flatten(), groups)
        wide = of("index_select", x=wide, dim=1, index=Constant(order, torch.int64, "columns", one.weight))
    if any(one.padding):
        above, beside = one.padding
        wide = of("pad", x=wide, pad=[beside, beside, above, above])
        height, width = height + 2 * above, width + 2 * beside
    each = channels // groups // found.places
    apart = [groups] if groups > 1 else []
    axis = len(apart) + 1  # of channels
    if found.inside:
        wide = of("reshape", x=wide, shape=[count, *apart, each, found.places, height, width])
    elif apart:
        wide = of("reshape", x=wide, shape=[count, *apart, found.places * each, height, width])

    def tap(x: Any, side: int, at: int, length: int) -> Any:
        step, start = one.stride[side], at * one.dilation[side]
        end = start + step * (length - 1) + 1
        return of("slice", x=x, dim=axis + 1 + side, start=start, end=end, step=step)

    parts = []
    for place in range(found.places):
        if found.inside:
            own = of("select", x=wide, dim=axis + 1, index=place)
        else:
            own = of("slice", x=wide, dim=axis, start=place * each, end=(place + 1) * each)
        lines = [tap(own, 0, at, rows) for at in range(size)]
        for place_of_tap in found.taps[place].tolist():
            at, beside = divmod(place_of_tap, size)
            parts.append(tap(lines[at], 1, beside, columns))
    return of("concat", tensors=parts, dim=axis)
