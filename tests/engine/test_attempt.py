"""`attempt`: moves that lead somewhere are carried out, others never happened."""

from __future__ import annotations

import pytest
import torch
from rewriting import Net, library
from torch import Tensor

from tdsl.capture import capture
from tdsl.engine.census import copied
from tdsl.engine.journal import Journal
from tdsl.engine.library import standard_library
from tdsl.engine.strategy import Runner
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


def test_what_cannot_be_forgotten_is_refused() -> None:
    text = "pipeline p {\n    attempt {\n        check error <= 1%\n    }\n}\n"
    known = standard_library().extended(library(text))
    with pytest.raises(TdslError, match="stands inside `attempt`"):
        Runner(known, known.pipeline("rules.p"))
