"""Axes through recurrent layers: the hidden units of each layer and direction, gate by gate."""

from __future__ import annotations

from tdsl.ops.recurrent import GATES
from tdsl.symmetry.hidden.flow import Call, Value, axis_law
from tdsl.symmetry.hidden.layout import Atom, Axes, Choice, Layout, total
from tdsl.symmetry.hidden.system import System


@axis_law(*GATES)
def _recurrent(call: Call) -> Value | None:
    """Every gate has one row for each hidden unit, so all gates are permuted alike."""
    system = call.system
    weights = [axes for axes in call.arguments["weights"] if isinstance(axes, tuple)]
    layers, directions = call.arguments["num_layers"], 1 + bool(call.arguments["bidirectional"])
    each = 4 if call.arguments["has_biases"] else 2
    if len(weights) != each * layers * directions or call.arguments["train"]:
        return None
    x = call.axes("x")
    if len(x) != 3:
        return None
    batch_first = call.arguments["batch_first"]
    batch, steps = (x[0], x[1]) if batch_first else (x[1], x[0])
    call.pin(steps, "a recurrent layer reads it in order")
    hidden = system.size(weights[1][1])
    below: Layout = x[-1]
    units: list[Layout] = []
    for layer in range(layers):
        found: list[Layout] = []
        for direction in range(directions):
            own = weights[each * (layer * directions + direction) :][:each]
            unit = _unit(system, own, GATES[call.operator.name], hidden, below)
            call.relate(((own[1][1],), ["unit"]), ((own[0][1],), ["in"]))
            found.append(unit)
        units.extend(found)
        below = total(found)
    states = _states(call, units)
    if states is None:
        return None
    call.relate(((batch, below), ["batch", "unit"]), ((batch,), ["batch"]))
    outputs = (batch, steps, below) if batch_first else (steps, batch, below)
    first, last = states
    final = (first, batch, last)
    return [outputs, *[final] * (call.operator.results - 1)]


def _unit(system: System, weights: list[Axes], gates: int, hidden: int, below: Layout) -> Layout:
    """The hidden units of one layer and direction, all its weights bound to them."""
    unit = system.fresh(hidden)
    gated = total([unit] * gates)
    system.unify(weights[1][1], unit)
    system.unify(weights[0][1], below)
    for axes in weights:
        system.unify(axes[0], gated)
    return unit


def _states(call: Call, units: list[Layout]) -> tuple[Layout, Layout] | None:
    """The axes of layers and of units of the initial states, bound to the units of each layer."""
    states = call.arguments.get("states") or [call.arguments.get("state")]
    system = call.system
    selector = system.pinned(len(units), "tells layers and directions apart")
    last: Layout = Choice(selector.number, tuple(units)) if isinstance(selector, Atom) else units[0]
    for axes in states:
        if not isinstance(axes, tuple) or len(axes) != 3:
            return None
        system.unify(axes[0], selector)
        system.unify(axes[2], last)
    return selector, last
