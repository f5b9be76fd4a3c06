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
    """A convolution with one kernel that nothing else reads; borders of zeros, known sizes."""

    node: fx.Node
    x: fx.Node
    weight: fx.Node
    bias: fx.Node | None
    padding: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]

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
            if op is None or op.name != "conv2d" or (scope is not None and not scope(node)):
                continue
            one = _read(node)
            if isinstance(one, str):
                yield node, None, None, one
                continue
            least = self.values["saved"]
            outputs = one.weight.meta["val"].shape[0]
            if outputs < least:  # every form saves less
                yield node, one, None, f"its {outputs} outputs are too few"
                continue
            found = turned_taps(work.evaluate(one.weight))
            if found is None:
                yield node, one, None, "its kernel is not tied by symmetries of the square"
                continue
            if max(one.stride) > 1:  # of strided shifts the numbers lie apart, which takes longer to read
                least = least * 3 // 2
            products, inner, outer = found.products.shape
            few = products * (inner * (outer + found.places) + outer * found.places)
            saved = (found.places**2 * inner * outer - few) // (found.places * inner)
            reason = f"{saved} products are saved for each shifted number, and {least} would pay"
            yield node, one, found, "" if saved >= least else reason


def _read(node: fx.Node) -> _Convolution | str:
    """A convolution, or the reason why its kernel is not looked at."""
    given: dict[str, Any] = dict(
        zip((param.name for param in OPERATORS["conv2d"].params), node.args, strict=False)
    )
    x, weight, bias = given["x"], given["weight"], given.get("bias")
    groups = given.get("groups", 1)
    if groups != 1:
        return f"it has {groups} groups of channels, and one would be looked at"
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
    padding, stride, dilation = (
        tuple(given.get(name, [default] * 2))
        for name, default in (("padding", 0), ("stride", 1), ("dilation", 1))
    )
    return _Convolution(node, x, weight, bias, padding, stride, dilation)


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
    products, inner, outer = found.products.shape
    features = _shifted(work, one, found)
    mixed = of(
        "matmul", x=known(found.into, "into"), y=of("reshape", x=features, shape=[count, found.places, -1])
    )
    mixed = of("reshape", x=mixed, shape=[count, products, inner, rows * columns])
    mixed = of("matmul", x=known(found.products.transpose(1, 2), "products"), y=mixed)
    mixed = of("reshape", x=mixed, shape=[count, products, outer * rows * columns])
    mixed = of("matmul", x=known(found.back, "back"), y=mixed)
    if found.inside:
        mixed = of("reshape", x=mixed, shape=[count, found.places, outer, rows * columns])
        mixed = of("permute", x=mixed, dims=[0, 2, 1, 3])
    mixed = of("reshape", x=mixed, shape=[count, found.places * outer, rows, columns])
    if one.bias is None:
        return mixed
    return of("add", x=mixed, y=of("reshape", x=one.bias, shape=[found.places * outer, 1, 1]))


def _shifted(work: Workspace, one: _Convolution, found: TurnedTaps) -> Any:
    """[n, d·k²·q, H, W]: the channels of each place, at its own tap for each tap of the kernel."""

    def of(name: str, **arguments: Any) -> Any:
        return stage(work, OPERATORS[name], arguments)

    count, channels, height, width = one.x.meta["val"].shape
    rows, columns = one.node.meta["val"].shape[2:]
    size = one.weight.meta["val"].shape[2]
    wide: Any = one.x
    if any(one.padding):
        above, beside = one.padding
        wide = of("pad", x=wide, pad=[beside, beside, above, above])
        height, width = height + 2 * above, width + 2 * beside
    each = channels // found.places
    if found.inside:
        wide = of("reshape", x=wide, shape=[count, each, found.places, height, width])

    def tap(x: Any, axis: int, at: int, length: int) -> Any:
        step, start = one.stride[axis], at * one.dilation[axis]
        return of("slice", x=x, dim=2 + axis, start=start, end=start + step * (length - 1) + 1, step=step)

    parts = []
    for place in range(found.places):
        if found.inside:
            own = of("select", x=wide, dim=2, index=place)
        else:
            own = of("slice", x=wide, dim=1, start=place * each, end=(place + 1) * each)
        lines = [tap(own, 0, at, rows) for at in range(size)]
        for place_of_tap in found.taps[place].tolist():
            at, beside = divmod(place_of_tap, size)
            parts.append(tap(lines[at], 1, beside, columns))
    return of("concat", tensors=parts, dim=1)
