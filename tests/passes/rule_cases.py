"""The notation of the rule tests: a few lines of PyTorch in, the expected graph as text out.

    fires(
        "fold.batch_norm.batch_norm_of_conv",
        lambda m, x: m.bn(m.conv(x)),
        (2, 4, 5, 7),
        conv=nn.Conv2d(4, 6, 3), bn=nn.BatchNorm2d(6),
        expect="conv2d_1 = conv2d(x, conv.weight_batch_norm_of_conv, conv.bias_batch_norm_of_conv)",
    )

`fires` is a positive case, `leaves` a negative one: a near miss, with the reason why it is one. The first
parameter of the function is the module, whose parts are the keyword arguments; the others are its inputs,
given by their sizes (float64) or as tensors. Everything is drawn at random from a fixed seed, statistics and
affine parameters of normalisations too.
"""

from __future__ import annotations

import inspect
import itertools
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _NormBase

from tdsl.capture import Captured, capture
from tdsl.engine.census import copied
from tdsl.engine.driver import rewrite
from tdsl.engine.journal import Journal
from tdsl.engine.library import standard_library
from tdsl.engine.text import graph_text
from tdsl.engine.weights import prune_weights
from tdsl.plan.calibrate import Data, collect
from tdsl.plan.candidates import Choice, requests_of

ROUNDING = 1e-12
"""Largest relative difference in float64 between an exact rule's sides."""

_numbers = torch.Generator().manual_seed(0)


@dataclass(frozen=True)
class Case:
    """One test of one rule or pass; `expect` is the graph after it, `None` where nothing may happen."""

    rule: str
    model: nn.Module
    inputs: tuple[Any, ...]
    expect: str | None
    because: str = ""
    times: int = 1
    dynamic: Mapping[str, Mapping[int, Any]] | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    precision: float = ROUNDING
    more_operators: str = ""
    """Why an exact rule may take more operators than it finds."""
    more_bytes: str = ""
    """Why more may be stored than was."""
    prepare: Callable[[fx.Graph], None] | None = None
    """Changes the captured graph first, for what no captured graph has (dead code)."""


def fires(
    rule: str,
    forward: Callable[..., Any],
    *inputs: Any,
    expect: str,
    times: int = 1,
    dynamic: Mapping[str, Mapping[int, Any]] | None = None,
    parameters: Mapping[str, Any] | None = None,
    precision: float = ROUNDING,
    more_operators: str = "",
    more_bytes: str = "",
    prepare: Callable[[fx.Graph], None] | None = None,
    **parts: Any,
) -> Case:
    """A positive case: the rule applies `times` times and leaves the operators of `expect`."""
    model = net(forward, **parts)
    return Case(
        rule,
        model,
        inputs,
        expect,
        "",
        times,
        dynamic,
        parameters or {},
        precision,
        more_operators,
        more_bytes,
        prepare,
    )


def leaves(
    rule: str,
    forward: Callable[..., Any],
    *inputs: Any,
    because: str,
    dynamic: Mapping[str, Mapping[int, Any]] | None = None,
    parameters: Mapping[str, Any] | None = None,
    **parts: Any,
) -> Case:
    """A negative case: the rule does not apply, `because` of what differs from a positive one."""
    return Case(rule, net(forward, **parts), inputs, None, because, 0, dynamic, parameters or {})


def net(forward: Callable[..., Any], **parts: Any) -> nn.Module:
    """A module that computes `forward(self, *inputs)`; modules among the parts get random weights.

    Tensors are its weights, parameters that are frozen; masks, and numbers that are no floats, are buffers.
    """
    module: nn.Module = type("Net", (nn.Module,), {"forward": forward})()
    for name, part in parts.items():
        if isinstance(part, nn.Module):
            setattr(module, name, randomised(part))
        elif isinstance(part, Tensor) and not isinstance(part, nn.Parameter):
            if part.is_floating_point() and bool(part.isfinite().all()):
                module.register_parameter(name, nn.Parameter(part, requires_grad=False))
            else:
                module.register_buffer(name, part)
        else:
            setattr(module, name, part)
    return module.eval()


def number(*sizes: int) -> Tensor:
    """A float64 constant of random numbers, none of them near zero."""
    signs = torch.randint(0, 2, sizes, generator=_numbers, dtype=torch.float64) * 2 - 1
    return signs * (0.5 + torch.rand(sizes, generator=_numbers, dtype=torch.float64))


def low_rank(rows: int, columns: int, rank: int) -> Tensor:
    """A random matrix of that rank, float64."""
    return number(rows, rank) @ number(rank, columns)


def randomised(module: nn.Module) -> nn.Module:
    """`module` in float64 with random parameters and statistics: nothing starts as a zero or a one."""
    module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(number(*parameter.shape) / max(1, parameter[0].numel()) ** 0.5)
        for part in module.modules():
            if isinstance(part, _NormBase) and part.running_var is not None:
                part.running_mean.copy_(number(part.num_features))
                part.running_var.copy_(number(part.num_features).abs())
    return module


# ---------------------------------------------------------------- running a case


def check(case: Case) -> None:
    """Rewrite, compare the graph as text, run both modules; raises `AssertionError` on any difference."""
    captured = capture(case.model, draw(case, 0), dynamic_shapes=_dynamic_shapes(case))
    module, journal = copied(captured.module), Journal()
    if case.prepare is not None:
        case.prepare(module.graph)
    before = text_of(module)
    assert all_operators_present(case, module), f"no near miss: operators of {case.rule} are absent\n{before}"
    count = apply_rule(case, captured, module, journal)
    after = text_of(module)
    assert count == len(journal.entries) == case.times, f"{count} rewrites:\n{before}\nbecame\n{after}"
    assert {entry.rule for entry in journal.entries} <= {case.rule}
    if case.expect is None:
        assert after == before
        return
    assert body(after) == textwrap.dedent(case.expect).strip(), f"{before}\nbecame\n{after}"
    assert apply_rule(case, captured, module, Journal()) == 0, "a second run still finds something"
    assert_equal_outputs(case, captured, module)
    exact = all(entry.error is None for entry in journal.entries)
    fewer = operators(module) <= operators(captured.module)
    assert fewer != bool(case.more_operators) or not exact
    assert stored_bytes(module) <= stored_bytes(captured.module) or case.more_bytes


def draw(case: Case, number_of_draw: int) -> tuple[Tensor, ...]:
    """Inputs of the case; a later draw has other values and is larger in dynamic axes."""
    generator = torch.Generator().manual_seed(number_of_draw)
    names = list(inspect.signature(case.model.forward).parameters)
    values = []
    for name, given in zip(names, case.inputs, strict=True):
        if isinstance(given, Tensor):
            values.append(given.flip(0) if number_of_draw else given)
            continue
        grown = (case.dynamic or {}).get(name, {})
        sizes = [size + number_of_draw * (axis in grown) for axis, size in enumerate(given)]
        values.append(torch.randn(sizes, generator=generator, dtype=torch.float64))
    return tuple(values)


def apply_rule(case: Case, captured: Captured, module: fx.GraphModule, journal: Journal) -> int:
    """Apply the case's rule or pass alone, to its fixed point; a rule that asks for data gets some draws."""
    library = standard_library()
    data = Data.of(captured, [draw(case, n) for n in range(4)])
    if case.rule in library.passes:
        made = library.graph_pass(case.rule, case.parameters)
        if made.approximate:
            made.statistics = lambda graph, asked: collect(graph, data, asked)  # type: ignore[method-assign]
        count = made.rewrite(module, journal)
    else:
        rule = library.rule(case.rule, case.parameters)
        asked = requests_of(module, [Choice(rule.name, rule.parameters, rule)], None)
        count = rewrite(module, [rule], None, journal, collect(module, data, asked) if asked else None)
    prune_weights(module)
    module.recompile()
    return count


def all_operators_present(case: Case, module: fx.GraphModule) -> bool:
    """Whether every operator of some variant of the rule is in the graph.

    Passes ask for nothing; nor does a rule about a single operator, which may have no near miss.
    """
    library = standard_library()
    if case.rule in library.passes:
        return True
    present = {node.target for node in module.graph.nodes}

    def needed(variant: Any) -> list[set[Any]]:
        terms = [t for t in variant.pattern.terms() if getattr(t, "least", 1)]
        return [{t.target} if hasattr(t, "target") else set(t.targets) for t in terms]

    variants = library.rule(case.rule, case.parameters).variants
    return any(len(needed(v)) == 1 or all(targets & present for targets in needed(v)) for v in variants)


def assert_equal_outputs(case: Case, captured: Captured, module: fx.GraphModule) -> None:
    """Original and rewritten module agree on two draws, between which the outputs differ."""
    outputs = []
    for number_of_draw in range(2):
        inputs = draw(case, number_of_draw)
        with torch.no_grad():
            expected, result = flat(captured.original(*inputs)), flat(module(*inputs))
        assert len(expected) == len(result)
        for one, other in zip(expected, result, strict=True):
            assert one.dtype == other.dtype and one.shape == other.shape
            assert relative_error(one, other) <= case.precision
        outputs.append(expected)
    assert any(a.shape != b.shape or not torch.equal(a, b) for a, b in zip(*outputs, strict=True)), (
        "the outputs say nothing: they do not depend on the inputs"
    )


def operators(module: fx.GraphModule) -> int:
    """Operators that a file needs: taking a result out of several is none, a quarter turn is two."""
    calls = (node for node in module.graph.nodes if node.op == "call_function")
    weight = {"getitem": 0, "rot90.default": 2}
    return sum(weight.get(getattr(node.target, "__name__", ""), 1) for node in calls)


def stored_bytes(module: nn.Module) -> int:
    """Bytes of the distinct parameters and buffers that a rewritten module holds."""
    tensors = {t.data_ptr(): t for t in itertools.chain(module.parameters(), module.buffers()) if t.numel()}
    return sum(t.numel() * t.element_size() for t in tensors.values())


def relative_error(expected: Tensor, result: Tensor) -> float:
    """Largest difference over the largest value; infinite where one side is no number."""
    if not expected.numel():
        return 0.0
    difference = (expected.double() - result.double()).abs().max()
    error = float(difference / expected.double().abs().max().clamp_min(1e-30))
    return error if error == error else float("inf")


def flat(value: Any) -> list[Tensor]:
    """The tensors of an output, in order."""
    if isinstance(value, Tensor):
        return [value]
    return [tensor for item in value for tensor in flat(item)]


def text_of(module: fx.GraphModule) -> str:
    """The graph as text, without types."""
    return graph_text(module, types=False)


def body(text: str) -> str:
    """The lines of a graph's text between its inputs and its outputs; the outputs, if there are none."""
    lines = text.strip().split("\n")
    inner = [line for line in lines if " = " in line]
    return "\n".join(inner) if inner else lines[-1]


def _dynamic_shapes(case: Case) -> Any:
    if case.dynamic is None:
        return None
    names = list(inspect.signature(case.model.forward).parameters)
    return {name: dict(case.dynamic.get(name, {})) or None for name in names}
