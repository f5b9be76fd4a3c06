"""Rules as text in, loops and critical pairs as text out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tdsl.cli.app import app
from tdsl.engine.driver import rewrite
from tdsl.engine.library import Declaration, Library
from tdsl.errors import TdslError
from tdsl.factor.table import vocabulary
from tdsl.interplay.analysis import Together, analyse
from tdsl.interplay.forms import forms_of
from tdsl.interplay.overlap import alone
from tdsl.interplay.scene import drawn
from tdsl.interplay.text import loop_text, may_loop_text, pair_text, summary
from tdsl.lang import parse, tree
from tdsl.lang.resolve import resolve
from tdsl.prove.verdict import Verdict


def library(text: str) -> Library:
    found = Library()
    found.add_file(parse(text), "r")
    return found


def together(text: str) -> Together:
    return analyse(library(text).rules)


# ---------------------------------------------------------------- loops

UNDO = """
rule twice { mul(x, 2) => x + x }
rule once { x + x => mul(x, 2) }
"""


def test_two_rules_that_undo_each_other() -> None:
    found = together(UNDO)
    (loop,) = found.loops
    assert (
        loop_text(loop)
        == """\
loop: r.once → r.twice → r.once
    x: f64[3]
    add = add(x, x)  f64[3]
    return (add)
  r.once
    x: f64[3]
    mul = mul(x, 2)  f64[3]
    return (mul)
  r.twice
    x: f64[3]
    add_1 = add(x, x)  f64[3]
    return (add_1)
  as at the start
"""
    )
    assert summary(found) == "2 rules: 1 loop, no critical pairs"


def test_three_rules_in_a_circle() -> None:
    found = together("""
rule spelt { square(x) => x * x }
rule power { x * x => x ** 2 }
rule named { x ** 2 => square(x) }
""")
    (loop,) = found.loops
    assert loop.kind == "repeats"
    assert sorted(loop.circle) == ["r.named", "r.power", "r.spelt"]


def test_rules_that_feed_themselves_growing_terms() -> None:
    found = together("""
rule subtract { x - y => x + neg(y) }
rule negate { neg(x) => 0 - x }
""")
    (loop,) = found.loops
    assert loop.kind == "grows"
    assert set(loop.circle) == {"r.subtract", "r.negate"}
    assert "and so on, without an end after 60 rewrites" in loop_text(loop)


@pytest.mark.parametrize(
    "text",
    [
        # one of the two is gone
        "rule twice { mul(x, 2) => x + x }",
        # each enables the other, and operators become fewer
        "rule down { relu(neg(relu(x))) => 0 * relu(x) where nodes(rhs) < nodes(lhs) }",
        "rule through { permute(permute(x, p), q) => permute(x, compose(p, q)) }",
    ],
)
def test_what_only_looks_like_a_loop(text: str) -> None:
    found = together(text.replace("}  rule", "}\nrule"))
    assert not found.loops
    assert not found.may_loop


def test_a_circle_without_a_witness_is_said_to_be_one() -> None:
    """Each makes what looks like the other's left side, but for a number."""
    found = together("""
rule twice { mul(x, 2) => x + x }
rule once { x + x => mul(x, 4) * 0.5 }
""")
    assert not found.loops
    (circle,) = found.may_loop
    assert circle.rules == ("r.once", "r.twice")
    assert (
        may_loop_text(circle)
        == """\
may loop: r.once, r.twice
  r.once may make more operators, and no other measure decreases; no graph tried runs into a loop
"""
    )


def test_the_driver_points_here() -> None:
    loaded = library(UNDO)
    rules = [declared.instantiate() for declared in loaded.rules.values()]
    form = forms_of("r.once", loaded.rules["r.once"].resolved)[0]
    graph = next(drawn(alone(form), 10))
    with pytest.raises(TdslError) as error:
        rewrite(graph.module, rules)
    assert "tdsl prove --together" in (error.value.hint or "")


# ---------------------------------------------------------------- critical pairs

INVERSE = """
rule inverse { exp(neg(x)) => 1 / exp(x) }
rule difference { neg(x) => 0 - x }
"""


def test_a_pair_that_does_not_join() -> None:
    found = together(INVERSE)
    (pair,) = found.pairs
    assert (
        pair_text(pair)
        == """\
order matters: r.inverse and r.difference at
    x: f64[3]
    neg = neg(x)    f64[3]
    exp = exp(neg)  f64[3]
    return (exp)
  r.inverse first: 2 operators
    x: f64[3]
    exp_1 = exp(x)       f64[3]
    div = div(1, exp_1)  f64[3]
    return (div)
  r.difference first: 2 operators
    x: f64[3]
    sub = sub(0, x)  f64[3]
    exp = exp(sub)   f64[3]
    return (exp)
"""
    )


def test_the_rule_that_joins_it() -> None:
    found = together(INVERSE + "rule inverted { exp(0 - x) => 1 / exp(x) }\n")
    assert not found.pairs
    assert found.joinable == 1


def test_a_rule_overlaps_itself_below_its_root() -> None:
    found = together("rule pairs { neg(neg(x)) => x }")
    assert (found.joinable, found.apart, found.overlaps) == (1, 0, 1)
    found = together("rule permuted { permute(permute(x, p), q) => permute(x, compose(p, q)) }")
    assert (found.joinable, found.apart, found.overlaps) == (1, 0, 1)
    found = together("rule nested { relu(tanh(relu(x))) => tanh(relu(x)) }")
    assert (found.joinable, found.apart, found.overlaps) == (0, 1, 1)
    assert "r.nested, there first: 3 operators" in pair_text(found.pairs[0])


def test_sums_are_compared_whatever_their_brackets_and_order() -> None:
    text = """
rule minus { a - neg(b) => b + a }
rule negative { neg(neg(x)) => x }
"""
    assert together(text).apart == 1
    assert together(text + "rule plus { a + neg(b) => a - b }\n").apart == 0


def test_conditions_are_asked_on_the_graph() -> None:
    """The overlap is there, but no graph on which both rules fire."""
    text = """
rule wide {{
    relu(relu(linear(x, W: const [m, n])))
  =>
    relu(linear(x, W))
  where
    m > n
}}
rule narrow {{
    relu(linear(x, W: const [m, n]))
  =>
    (linear(x, W) + abs(linear(x, W))) * 0.5
  where
    m {sign} n
}}
"""
    found = together(text.format(sign="<"))
    assert (found.joinable, found.apart, found.overlaps) == (0, 0, 1)
    assert summary(found) == "2 rules: no loop, no critical pairs, 1 overlap without a graph"
    assert together(text.format(sign=">")).apart == 1


def test_a_rule_that_wants_two_equal_nodes_is_looked_at() -> None:
    found = together("rule reuse { p = exp(x)\nq = neg(exp(x)) => q = neg(p) }")
    assert not found.left_out


def test_a_rule_without_a_graph_is_not_looked_at() -> None:
    found = together("rule never { relu(x: [n]) => maximum(x, 0) where n > 1000000000 }")
    assert found.left_out == {"r.never": "no graph was found on which it fires"}


def test_numbers_that_differ_are_an_error_of_their_own() -> None:
    """A wrong rule, which no file could declare: it is refuted when it is loaded."""
    text = "rule odd { relu(neg(x)) => relu(x) }\nrule fine { neg(x) => 0 - x }\n"
    declared = {
        item.name: Declaration(item.name, resolve(item, vocabulary()), Verdict("unchecked", ""))
        for item in parse(text).items
        if isinstance(item, tree.Rule)
    }
    (pair,) = analyse(declared).pairs
    assert pair.result == "wrong"
    assert pair_text(pair).startswith("wrong: odd and fine compute other numbers than\n")


def test_an_operator_variable_meets_every_operator_of_its_class() -> None:
    found = together("""
rule twice(f: relu | abs | sign) { f(f(x)) => f(x) }
rule positive { sign(abs(x)) => sign(square(x)) }
""")
    assert [pair.rules for pair in found.pairs] == [("r.positive", "r.twice")]
    assert "abs(" in found.pairs[0].peak


def test_the_result_is_the_same_every_time() -> None:
    one, other = together(INVERSE + UNDO), together(INVERSE + UNDO)
    assert one == other


# ---------------------------------------------------------------- the command


def test_the_command(tmp_path: Path) -> None:
    looping = tmp_path / "undo.tdsl"
    looping.write_text(UNDO)
    done = CliRunner().invoke(app, ["prove", "--together", str(looping)])
    assert done.exit_code == 1
    assert done.stdout.startswith("loop: undo.once → undo.twice → undo.once\n")
    fine = tmp_path / "fine.tdsl"
    fine.write_text(INVERSE)
    done = CliRunner().invoke(app, ["prove", "--together", "--json", str(fine)])
    assert done.exit_code == 0
    record = json.loads(done.stdout)
    assert record["format"] == "tdsl-together/1"
    assert [pair["rules"] for pair in record["pairs"]] == [["fine.inverse", "fine.difference"]]
    done = CliRunner().invoke(app, ["prove", "--together", "--with", "cleanup.identity.*", str(fine)])
    assert done.exit_code == 0
    assert "order matters: cleanup.identity.double_negation and fine.difference at" in done.stdout
