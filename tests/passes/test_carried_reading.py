"""What acts on a value is read from the graph as it is now, and from each constant once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from rule_cases import net, number
from tdsl.passes.commute import moves
from tdsl.passes.commute.moves import action_of
from torch import Tensor, fx, nn

from tdsl.capture import capture
from tdsl.engine.census import copied
from tdsl.engine.journal import Journal
from tdsl.engine.library import standard_library
from tdsl.engine.workspace import Workspace
from tdsl.symmetry.action import same

ORDER = torch.tensor([2, 0, 3, 1])
TURN = torch.linalg.qr(number(4, 4)).Q


def graph_of(function: Callable[..., Any], **parts: Any) -> fx.GraphModule:
    model = net(function, **parts)
    return copied(capture(model, (torch.randn(3, 4, dtype=torch.float64),)).module)


def acting(function: Callable[..., Any], **parts: Any) -> tuple[fx.GraphModule, fx.Node]:
    """A graph, and its last operator."""
    module = graph_of(function, **parts)
    return module, [node for node in module.graph.nodes if node.op == "call_function"][-1]


ACTING: dict[str, tuple[Callable[..., Any], dict[str, Any], Tensor]] = {
    "factors": (lambda m, x: x * m.a, {"a": number(4)}, number(4)),
    "divisors": (lambda m, x: x / m.a, {"a": number(4)}, number(4)),
    "an order": (lambda m, x: x.index_select(1, m.a), {"a": ORDER}, ORDER.flip(0)),
    "a rotation": (lambda m, x: x @ m.a, {"a": TURN}, TURN.T.clone()),
    "a layer": (lambda m, x: nn.functional.linear(x, m.a), {"a": TURN}, TURN.T.clone()),
}


@pytest.mark.parametrize("name", ACTING)
def test_a_reading_follows_the_constant_and_the_graph(name: str) -> None:
    """An entry that is kept for a node or a path, and not for the numbers behind it, fails here."""
    function, parts, other = ACTING[name]
    module, node = acting(function, **{one: values.clone() for one, values in parts.items()})
    [constant] = [one for one in node.all_input_nodes if one.op == "get_attr"]
    work = Workspace(module)

    def reads() -> Tensor:
        """The reading is what the node does, and what a fresh workspace reads."""
        found, fresh = action_of(work, node), action_of(Workspace(module), node)
        assert found is not None and fresh is not None
        assert found[0] is fresh[0] and same(found[1], fresh[1])
        x = torch.randn(3, 4, dtype=torch.float64)
        torch.testing.assert_close(found[1].apply(x), fx.Interpreter(module).run(x))
        return found[1].apply(torch.arange(12.0, dtype=torch.float64).reshape(3, 4))

    first = reads()
    with torch.no_grad():
        getattr(module, str(constant.target)).copy_(other)
    second = reads()
    assert not torch.equal(first, second)
    module.register_buffer("another", parts["a"].clone())
    with module.graph.inserting_before(constant):
        made = module.graph.get_attr("another")
    made.meta["val"] = constant.meta["val"]
    node.replace_input_with(constant, made)
    torch.testing.assert_close(reads(), first)
    source = node.all_input_nodes[0]
    with module.graph.inserting_before(node):
        between = module.graph.call_function(torch.ops.aten.neg.default, (source,))
    between.meta["val"] = source.meta["val"]
    node.replace_input_with(source, between)
    found = action_of(work, node)
    assert found is not None and found[0] is between


def test_numbers_that_no_longer_act_are_no_action() -> None:
    module, node = acting(lambda m, x: nn.functional.linear(x, m.a), a=TURN.clone())
    work = Workspace(module)
    assert action_of(work, node) is not None
    with torch.no_grad():
        getattr(module, str(node.args[1]))[1] *= 2  # the first row is as long as before
    assert action_of(work, node) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_rotation_is_told_in_the_type_of_its_weight(dtype: torch.dtype) -> None:
    assert moves._rotation_by(TURN.to(dtype), False) is not None
    tilted = TURN.clone()
    tilted[0] = tilted[0] + 1e-3 * tilted[1]
    assert moves._rotation_by(tilted.to(dtype), False) is None
    assert moves._rotation_by(number(4, 4).to(dtype), False) is None


def test_factors_that_many_layers_read_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six layers take the factors into their weights, as before; their numbers are looked at once."""
    asked: list[tuple[int, ...]] = []
    factors = moves._factors

    def counting(values: Tensor, *about: Any) -> Any:
        asked.append(tuple(values.shape))
        return factors(values, *about)

    monkeypatch.setattr(moves, "_factors", counting)
    layers = {f"l{i}": nn.Linear(4, 4) for i in range(6)}

    def readers(m: Any, x: Tensor) -> list[Tensor]:
        h = x.tanh() * m.a
        return [getattr(m, name)(h) for name in layers]

    module, journal = graph_of(readers, a=number(4), **layers), Journal()
    assert standard_library().graph_pass("commute.carried").rewrite(module, journal) == 6
    assert asked == [(4,)]
    assert not [n for n in module.graph.nodes if n.target is torch.ops.aten.mul.Tensor]
