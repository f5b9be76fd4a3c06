"""Laws of groups on generators, with what they do to weights and borders; without it they are refuted."""

from __future__ import annotations

import pytest

from tdsl.errors import TdslError
from tdsl.factor.table import vocabulary
from tdsl.lang import parse, tree
from tdsl.lang.resolve import resolve
from tdsl.prove.check import fresh_verdict

LAWS = {
    "a quarter turn": (
        "conv2d(rot90(x: [b, c, m, n], 1, [-2, -1]), W: const [o, c, h, w], padding=[p, q])"
        " == rot90(conv2d(x, rot90(W, 3, [-2, -1]), padding=[q, p]), 1, [-2, -1])",
        {
            "border condition": ("padding=[q, p]", "padding=[p, q]"),
            "action on weights": ("rot90(W, 3, [-2, -1])", "W"),
            "inverse": ("rot90(W, 3,", "rot90(W, 1,"),
        },
    ),
    "a translation": (
        'conv1d(pad(roll(x: [b, c, n], [s], [-1]), [1, 1], mode="circular"), W: const [o, c, 3])'
        ' == roll(conv1d(pad(x, [1, 1], mode="circular"), W), [s], [-1])',
        {
            "border condition": (', mode="circular"', ""),
            "whole kernel": ("[o, c, 3]", "[o, c, 2]"),
        },
    ),
    "a reflection": (
        "flip(conv1d(x: [b, c, n], W: const [o, c, k], padding=p), [-1])"
        " == conv1d(flip(x, [-1]), flip(W, [-1]), padding=p)",
        {"action on weights": ("flip(W, [-1])", "W"), "stride": ("padding=p)", "padding=p, stride=2)")},
    ),
}


def accepted(text: str) -> bool:
    """Whether a law is proved; it is refused with a counterexample otherwise."""
    (law,) = parse(f"law l {{ {text} }}").items
    assert isinstance(law, tree.Rule)
    try:
        verdict = fresh_verdict(resolve(law, vocabulary()))
    except TdslError as wrong:  # shapes differ
        assert "for " in str(wrong)
        return False
    if verdict.status == "refuted":
        assert verdict.counterexample is not None
        return False
    assert verdict.status == "proved", verdict
    return True


@pytest.mark.parametrize("name", LAWS)
def test_a_law_holds_and_without_one_of_its_conditions_does_not(name: str) -> None:
    text, changes = LAWS[name]
    assert accepted(text)
    for left_out, (before, after) in changes.items():
        assert before in text
        assert not accepted(text.replace(before, after)), left_out
