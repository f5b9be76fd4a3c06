"""`--set`: values are expressions of the language, checked against what is declared."""

from __future__ import annotations

from textwrap import dedent

import pytest

from tdsl.cli.settings import parameters_from
from tdsl.errors import TdslError
from tdsl.factor.rank import Energy
from tdsl.lang import parse

[DECLARED] = parse(
    "pipeline p(rank: Rank = 50%, share: Ratio = 1%, times: Int = 1, fast: Bool = true, name: Text = none) {"
    " check error <= share }"
).items


def values(*settings):
    return parameters_from(settings, "pipeline p", DECLARED.parameters)


def refusal(*settings):
    with pytest.raises(TdslError) as caught:
        values(*settings)
    return caught.value.render() + "\n"


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("rank=64", 64),
        ("rank=50%", 0.5),
        ("rank = energy(0.9)", Energy(0.9)),
        ("share=99.9%", 0.999),
        ("times=2*3", 6),
        ("times=max(1, 2)", 2),
        ("fast=false", False),
        ('name="a=b"', "a=b"),
    ],
)
def test_values_are_expressions(setting, value):
    [found] = values(setting).values()
    assert (type(found), found) == (type(value), value)


def test_the_last_of_two_settings_counts():
    assert values("times=1", "times=2") == {"times": 2}


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        (
            "rnk=64",
            """
            error: pipeline p has no parameter rnk
              expected: one of rank, share, times, fast, name
              hint: did you mean `rank`?
            """,
        ),
        (
            "rank",
            """
            error: `--set rank` sets nothing
              expected: --set NAME=VALUE
            """,
        ),
        (
            "rank=energi(0.9)",
            """
            --set rank:1:1: error: unknown function energi
                energi(0.9)
                ^^^^^^^^^^^
              hint: did you mean `energy`?
            """,
        ),
        (
            "rank=energy()",
            """
            --set rank:1:1: error: wrong number of arguments: 0
                energy()
                ^^^^^^^^
              expected: energy(kept)
            """,
        ),
        (
            "rank=true",
            """
            --set rank:1:1: error: this is no value for rank
                true
                ^^^^
              expected: a rank: a number (64), a ratio (50%), or a rule such as energy(0.9)
            """,
        ),
        (
            "times=0.5",
            """
            --set times:1:1: error: this is no value for times
                0.5
                ^^^
              expected: a whole number
            """,
        ),
        (
            "share=1/0",
            """
            --set share:1:1: error: this has no value: division by zero
                1/0
                ^^^
            """,
        ),
        (
            "share=n",
            """
            --set share:1:1: error: unknown name n
                n
                ^
              expected: a value: nothing has a name here
            """,
        ),
        (
            "share=(",
            """
            --set share:1:2: error: the file ends in the middle of a declaration
                (
                 ^
              expected: a term
            """,
        ),
        ("share=relu(1)", "--set share:1:1: error: unknown function relu\n    relu(1)\n    ^^^^^^^\n"),
    ],
)
def test_what_is_wrong_is_shown(setting, text):
    assert refusal(setting) == dedent(text).lstrip("\n")


def test_a_value_runs_nothing(tmp_path):
    assert "error" in refusal("rank=__import__('os').mkdir('x')")
    assert "unknown function open" in refusal('rank=open("x")')
