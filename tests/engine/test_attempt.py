"""`attempt`: moves that lead somewhere are carried out, others never happened."""

from __future__ import annotations

import pytest
import torch
from rewriting import Net, library
from torch import Tensor

from tdsl.capture import capture
from tdsl.engine.attempt import attempted
from tdsl.engine.census import copied
from tdsl.engine.journal import Journal
from tdsl.engine.library import standard_library
from tdsl.engine.nodes import erase, insert_after
from tdsl.engine.strategy import Context, Runner
from tdsl.engine.text import graph_text
from tdsl.errors import TdslError

RULES = """
rule sink {
    h = flip(x, d)
    y = relu(h)
  =>
    y = flip(relu(x), d)
}

rule cancel {
    flip(flip(x, d), d)
  =>
    x
}

rule enlarge {
    h = flip(x, d)
    y = repeat(h, r)
  =>
    y = flip(repeat(x, r), d)
}

pipeline tried {
    attempt {
        repeat sink, cancel, enlarge until stable
    }
}

pipeline untried {
    repeat sink, cancel until stable
}
"""


def rewritten(function, pipeline: str = "rules.tried", limit: int | None = None) -> tuple[str, Journal]:
    known = standard_library().extended(library(RULES))
    captured = capture(Net(function), (torch.randn(3, 4),))
    module, journal = copied(captured.module), Journal(limit)
    Runner(known, known.pipeline(pipeline)).run(module, journal)
    x = torch.randn(3, 4)
    for one, other in zip([captured.original(x)], [module(x)], strict=True):
        torch.testing.assert_close(one, other)
    return graph_text(module, types=False), journal


def test_a_move_that_leads_to_nothing_is_not_made() -> None:
    text, journal = rewritten(lambda x: x.flip(0).relu().exp())
    assert "relu(flip)" in text and not journal.entries
    text, journal = rewritten(lambda x: x.flip(0).relu().exp(), "rules.untried")
    assert "flip(relu" in text and len(journal.entries) == 1


def test_moves_that_end_in_a_cancellation_are_made() -> None:
    text, journal = rewritten(lambda x: x.flip(0).relu().relu().flip(0))
    assert "flip" not in text
    assert [e.rule for e in journal.entries] == ["rules.sink", "rules.sink", "rules.cancel"]
    assert [e.number for e in journal.entries] == [1, 2, 3]


def test_each_group_of_rewrites_is_judged_by_itself() -> None:
    def both(x: Tensor) -> Tensor:
        return x.flip(0).relu().flip(0).exp() + x.flip(1).relu().exp()

    text, journal = rewritten(both)
    assert text.count("flip(") == 1 and "relu(flip" in text
    assert [e.rule for e in journal.entries] == ["rules.sink", "rules.cancel"]


def test_a_value_with_two_readers_is_moved_for_each_of_them() -> None:
    def forked(x: Tensor) -> Tensor:
        h = x.flip(0)
        return h.relu().flip(0) + h.flip(0)

    text, _ = rewritten(forked)
    assert "flip" not in text


def test_fewer_operators_that_write_more_are_no_gain() -> None:
    def wider(x: Tensor) -> Tensor:
        return x.flip(0).repeat(4, 4).flip(0)

    text, journal = rewritten(wider)
    assert "flip" not in text and journal.entries

    def still_there(x: Tensor) -> tuple[Tensor, Tensor]:
        small = x.flip(0)[:1]
        return small, small.repeat(8, 8).flip(1)

    assert not rewritten(still_there)[1].entries


def test_a_limit_stops_an_attempt_where_it_would_stop_other_steps() -> None:
    whole = rewritten(lambda x: x.flip(0).relu().relu().flip(0))[1].entries
    for limit in range(4):
        text, journal = rewritten(lambda x: x.flip(0).relu().relu().flip(0), limit=limit)
        assert [e.rule for e in journal.entries] == [e.rule for e in whole[:limit]]
        assert text.count("flip(") == (0 if limit == 3 else 2)


def tried(function, *, limit: int | None = None, hear: bool = False, **weights: Tensor):
    """A module after an attempt, its journal, how often the steps ran, the module before, what it told."""
    known = standard_library().extended(library(RULES))
    captured = capture(Net(function, **weights), (torch.randn(3, 4),))
    module, journal, ran, told = copied(captured.module), Journal(limit), [], []
    if hear:
        module._register_erase_node_hook(lambda node: told.append(node.name))
    runner = Runner(known, known.pipeline("rules.untried"))

    def run(on, log, scope) -> int:
        ran.append(on)
        return runner._steps(runner.pipeline.steps, on, log, Context(scope=scope))

    count = attempted(module, journal, run)
    module.graph.lint()
    module.recompile()
    assert count == len(journal.entries)
    return module, journal, ran, captured, told


CANCELLING = {"both": lambda x: x.flip(0).relu().relu().flip(0).exp() + x.flip(1).relu().flip(1)}


def test_steps_run_once_where_nothing_happens_or_all_of_it_pays() -> None:
    assert len(tried(lambda x: x.exp())[2]) == 1
    assert len(tried(lambda x: x.flip(0).relu().exp())[2]) == 1  # a move that leads to nothing
    module, journal, ran, _, _ = tried(CANCELLING["both"])
    assert len(ran) == 1 and ran[0] is not module and len(journal.entries) == 5
    some = tried(lambda x: x.flip(0).relu().flip(0).exp() + x.flip(1).relu().exp())
    assert len(some[2]) == 3 and some[2][2] is some[0] and len(some[1].entries) == 2


def test_a_copy_that_takes_over_is_what_the_steps_would_make_in_place() -> None:
    over, in_place = tried(CANCELLING["both"]), tried(CANCELLING["both"], limit=100)
    assert [len(one[2]) for one in (over, in_place)] == [1, 2] and in_place[2][1] is in_place[0]
    assert graph_text(over[0]) == graph_text(in_place[0]) and "flip" not in graph_text(over[0])
    assert over[1].entries == in_place[1].entries
    x = torch.randn(3, 4)
    torch.testing.assert_close(over[0](x), over[3].original(x))


def test_a_module_that_tells_of_changes_is_changed_in_place() -> None:
    module, journal, ran, _, told = tried(CANCELLING["both"], hear=True)
    assert ran[-1] is module and {*told} >= {name for entry in journal.entries for name in entry.replaced}


def test_weights_made_on_the_copy_are_those_of_the_module_and_no_name_is_given_twice() -> None:
    def model(x: Tensor, v: Tensor, w: Tensor, f: Tensor) -> Tensor:
        h = x.tanh() * f
        return torch.nn.functional.linear(h, v).sum() + torch.nn.functional.linear(h, w).sum()

    weights = {"v": torch.randn(2, 4), "w": torch.randn(5, 4), "f": torch.rand(4) + 0.5}
    captured = capture(Net(model, **weights), (torch.randn(3, 4),))
    module, journal = copied(captured.module), Journal()
    first = next(node for node in module.graph.nodes if node.op == "call_function")
    gone = insert_after(first, "call_function", first.target, first.args, {}, "linear").name
    erase([first.next])
    assert attempted(module, journal, standard_library().graph_pass("commute.carried").rewrite) == 2
    names = {path for path, _ in module.named_parameters()}
    assert names == {"v", "w", "f", "v_carried", "w_carried"}
    made = [name for entry in journal.entries for name in entry.created]
    assert len(made) == len(set(made)) == 4 and gone.startswith("linear") and gone not in made
    x = torch.randn(3, 4)
    torch.testing.assert_close(module(x), captured.original(x))


def test_what_cannot_be_forgotten_is_refused() -> None:
    text = "pipeline p {\n    attempt {\n        check error <= 1%\n    }\n}\n"
    known = standard_library().extended(library(text))
    with pytest.raises(TdslError, match="stands inside `attempt`"):
        Runner(known, known.pipeline("rules.p"))
