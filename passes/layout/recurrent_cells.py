"""Recurrent cells called in a loop, as the layer that they are: what is known of layers then holds of them.

A loop may have any number of steps, each of which reads what the one before gave, so no rule can say this.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import getitem
from typing import Any

import torch
from tdsl.passes.layout.lifting import Lifter, NotAlikeError, stacked
from torch import fx

from tdsl.engine.passes import graph_pass
from tdsl.engine.stage import stage
from tdsl.engine.staged import Staged, parts_of
from tdsl.engine.sweep import Change, SweepPass, with_unneeded
from tdsl.engine.workspace import Workspace
from tdsl.ops import OPERATORS

aten = torch.ops.aten

CELLS: dict[Any, str] = {
    aten.lstm_cell.default: "lstm",
    aten.gru_cell.default: "gru",
    aten.rnn_tanh_cell.default: "rnn_tanh",
    aten.rnn_relu_cell.default: "rnn_relu",
}
"""The layers of torch's cells."""


@graph_pass
class RecurrentCells(SweepPass):
    """Calls of one recurrent cell, each on the state that the one before gave, as one recurrent layer."""

    name = "layout.recurrent_cells"

    def at(self, work: Workspace, node: fx.Node) -> Change | None:
        """The layer of the loop whose last step a cell is."""
        if node.target not in CELLS or _next(node) is not None:
            return None
        steps = _loop(node)
        if not _independent(steps):
            return None
        outputs, cell = _layer(work, steps)
        values = dict(_results(work, steps, outputs, cell))
        if not values or any(_cells_read_apart(steps[:-1])):
            return None
        gone = with_unneeded([*steps, *(p for step in steps for p in step.users if _is_part(p)), *values])
        return Change(
            tuple(values),
            tuple(values.values()),
            tuple(sorted(gone)),
            saved_nodes=len(gone)
            - len([p for p in parts_of(tuple(values.values())) if isinstance(p, Staged)]),
            saved_parameters=None,
            saved_macs=None,
            details={"steps": len(steps)},
        )


# ---------------------------------------------------------------- the loop


def _is_part(node: fx.Node) -> bool:
    return node.target is getitem


def _states(step: fx.Node) -> tuple[Any, ...]:
    """The states that a step reads: one, or the state and the cell of an LSTM."""
    given = step.args[1]
    return tuple(given) if isinstance(given, list | tuple) else (given,)


def _given(step: fx.Node) -> list[fx.Node | None]:
    """The states that a step gives, as nodes; `None` where nobody asked."""
    if CELLS[step.target] != "lstm":
        return [step]
    parts = {user.args[1]: user for user in step.users if _is_part(user)}
    return [parts.get(0), parts.get(1)]


def _weights(step: fx.Node) -> tuple[Any, ...]:
    return step.args[2:]


def _before(step: fx.Node) -> fx.Node | None:
    """The step that gave all the states of this one."""
    first = _states(step)[0]
    earlier = first.args[0] if isinstance(first, fx.Node) and _is_part(first) else first
    if not isinstance(earlier, fx.Node) or earlier.target is not step.target:
        return None
    alike = _weights(earlier) == _weights(step) and list(_states(step)) == _given(earlier)
    return earlier if alike else None


def _next(step: fx.Node) -> fx.Node | None:
    """The step that goes on from this one, where it is the only one."""
    users = {user for part in _given(step) if part is not None for user in part.users}
    later = [user for user in users if user.target is step.target and _before(user) is step]
    return later[0] if len(later) == 1 else None


def _loop(last: fx.Node) -> list[fx.Node]:
    steps = [last]
    while (earlier := _before(steps[0])) is not None and _next(earlier) is steps[0]:
        steps.insert(0, earlier)
    return steps


def _independent(steps: list[fx.Node]) -> bool:
    """Whether no step reads as its input what follows from an earlier one."""
    later, waiting = set[fx.Node](), [*steps]
    while waiting:
        for user in waiting.pop().users:
            if user not in later:
                later.add(user)
                waiting.append(user)
    return not any(step.args[0] in later for step in steps)


def _cells_read_apart(steps: list[fx.Node]) -> Iterator[fx.Node]:
    """The cells of an LSTM that something else than its next step reads."""
    for step in steps:
        if CELLS[step.target] == "lstm":
            cell, later = _given(step)[1], _next(step)
            if cell is not None and any(user is not later for user in cell.users):
                yield cell


# ---------------------------------------------------------------- the layer


def _layer(work: Workspace, steps: list[fx.Node]) -> tuple[Any, Any]:
    """The outputs of all steps [steps, batch, units], the last cell [1, batch, units] of an LSTM."""
    first, name = steps[0], CELLS[steps[0].target]
    inputs = [step.args[0] for step in steps]
    states = [_call(work, "unsqueeze", x=state, dim=-3) for state in _states(first)]
    input_weight, recurrent, *biases = (*_weights(first), None, None)[:4]
    biased = biases[0] is not None
    result = stage(
        work,
        OPERATORS[name],
        {
            "x": _joined(work, inputs),
            **({"states": states} if name == "lstm" else {"state": states[0]}),
            "weights": [input_weight, recurrent, *(biases if biased else [])],
            "has_biases": biased,
            "num_layers": 1,
            "dropout": 0.0,
            "train": False,
            "bidirectional": False,
            "batch_first": False,
        },
    )
    return Staged(getitem, (result, 0), {}), Staged(getitem, (result, 2), {}) if name == "lstm" else None


def _joined(work: Workspace, inputs: list[Any]) -> Any:
    """The inputs of all steps, [steps, batch, features]."""
    try:
        return Lifter(work).lifted(inputs)
    except NotAlikeError:
        rows = [_call(work, "unsqueeze", x=x, dim=-3) for x in inputs]
        return rows[0] if len(rows) == 1 else _call(work, "concat", tensors=rows, dim=-3)


def _results(work: Workspace, steps: list[fx.Node], outputs: Any, cell: Any) -> Iterator[tuple[fx.Node, Any]]:
    """What is read of the loop, each with what it is of the layer; stacks of all steps as a whole."""
    given = [_given(step)[0] for step in steps]
    whole = []
    for user in dict.fromkeys(user for part in given if part is not None for user in part.users):
        put = stacked(user)
        if put is not None and list(put[0]) == given:
            order = [1, 2]
            order.insert(put[1] % 3, 0)
            whole.append(user)
            yield user, outputs if order[0] == 0 else _call(work, "permute", x=outputs, dims=order)
    for i, part in enumerate(given):
        if part is not None and any(
            user not in whole and user not in steps for user in part.users if not _is_part(user)
        ):
            yield part, _call(work, "select", x=outputs, dim=-3, index=i)
    if CELLS[steps[0].target] == "lstm" and (last := _given(steps[-1])[1]) is not None and last.users:
        yield last, _call(work, "squeeze", x=cell, dims=[-3])


def _call(work: Workspace, name: str, **arguments: Any) -> Any:
    return stage(work, OPERATORS[name], arguments)
