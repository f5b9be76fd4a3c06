"""What a workspace remembers of a graph is what the graph says now: constants that change are asked again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from rewriting import Net
from torch import Tensor, fx

from tdsl.capture import capture
from tdsl.engine.census import copied
from tdsl.engine.staged import CannotStage, Constant
from tdsl.engine.workspace import Workspace


def scaled() -> tuple[fx.GraphModule, fx.Node]:
    """x · f, and the node of the factors f [3, 3]."""
    factors = torch.arange(9.0).reshape(3, 3)
    captured = capture(Net(lambda x, f: x * f, f=factors), (torch.randn(3, 3),))
    module = copied(captured.module)
    return module, module.graph.find_nodes(op="get_attr")[0]


def first_row(values: Tensor, times: int) -> list[float]:
    return [float(value) for value in values[0] * times]


CHANGES: dict[str, Callable[[Any, str], object]] = {
    "in place": lambda module, path: getattr(module, path).detach().mul_(2),
    "another weight": lambda module, path: setattr(module, path, torch.nn.Parameter(torch.ones(3, 3))),
    "other data": lambda module, path: setattr(getattr(module, path), "data", torch.ones(3, 3)),
    "the same memory turned": lambda module, path: setattr(
        module, path, torch.nn.Parameter(getattr(module, path).detach().T)
    ),
    "another type": lambda module, path: setattr(
        module, path, torch.nn.Parameter(getattr(module, path).detach().half())
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_constant_that_changes_is_asked_again(change: str) -> None:
    module, node = scaled()
    work = Workspace(module)
    assert work.asked(first_row, node, 10) == [0, 10, 20]
    CHANGES[change](module, str(node.target))
    asked = work.asked(first_row, node, 10)
    assert asked == first_row(work.tensor(node), 10) and (asked != [0, 10, 20] or change == "another type")


def test_a_node_that_names_another_constant_is_asked_again() -> None:
    module, node = scaled()
    work = Workspace(module)
    assert work.asked(first_row, node, 1) == [0, 1, 2]
    module.register_buffer("other", torch.full((3, 3), 7.0))
    node.target = "other"
    assert work.asked(first_row, node, 1) == [7, 7, 7]


def test_a_constant_that_stays_is_asked_once_for_each_question() -> None:
    module, node = scaled()
    heard: list[int] = []

    def total(values: Tensor, times: int) -> float:
        heard.append(times)
        return float(values.sum()) * times

    work = Workspace(module)
    assert [work.asked(total, node, times) for times in (1, 2, 1, 2)] == [36, 72, 36, 72]
    assert heard == [1, 2]
    assert work.asked(first_row, node, 1) == [0, 1, 2]  # another question


def test_constants_whose_changes_are_not_counted_are_asked_every_time() -> None:
    module, node = scaled()
    with torch.inference_mode():
        module.register_buffer("inner", torch.ones(3, 3))
        node.target = "inner"
        work = Workspace(module)
        assert work.asked(first_row, node, 1) == [1, 1, 1]
        module.get_buffer("inner").mul_(2)
        assert work.asked(first_row, node, 1) == [2, 2, 2]


def test_a_call_like_one_of_the_graph_gives_what_that_gives() -> None:
    weight = torch.randn(5, 4)
    captured = capture(Net(lambda x, w: torch.nn.functional.linear(x, w), w=weight), (torch.randn(2, 4),))
    module = copied(captured.module)
    call = module.graph.find_nodes(op="call_function", target=torch.ops.aten.linear.default)[0]
    work, ran = Workspace(module), []
    run = work._run
    work._run = lambda target, args, kwargs: (ran.append(target), run(target, args, kwargs))[1]  # type: ignore[method-assign]

    same = Constant(torch.randn(5, 4, dtype=torch.float64), torch.float32)
    assert work.infer(call.target, (call.args[0], same, *call.args[2:]), {}) is call.meta["val"]
    assert not ran
    wider = Constant(torch.randn(6, 4, dtype=torch.float64), torch.float32)
    assert list(work.infer(call.target, (call.args[0], wider, *call.args[2:]), {}).shape) == [2, 6]
    assert len(ran) == 1
    longer = Constant(torch.randn(5, 3, dtype=torch.float64), torch.float32)
    with pytest.raises(CannotStage, match="linear refuses"):
        work.infer(call.target, (call.args[0], longer, *call.args[2:]), {})
