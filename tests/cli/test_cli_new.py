"""`tdsl new rule`: functions in, rules as text out, and what is said where there is none."""

from __future__ import annotations

import re
from textwrap import dedent

import pytest
import torch

from tdsl import load
from tdsl.capture import capture
from tdsl.derive import derive
from tdsl.engine.census import copied
from tdsl.engine.driver import rewrite
from tdsl.engine.text import graph_text
from tdsl.lang import format_file, parse

HEAD = """\
import torch
import torch.nn.functional as F
from torch import nn
from tdsl import Const, Optional, Tensor


"""


@pytest.fixture
def new(tdsl, folder):
    """Writes two functions into a file each and derives a rule from them."""

    def new(before, after, *options):
        (folder / "before.py").write_text(HEAD + dedent(before), encoding="utf-8")
        (folder / "after.py").write_text(HEAD + dedent(after), encoding="utf-8")
        return tdsl("new", "rule", *options, "--from", "before.py", "after.py")

    return new


def rule_of(outcome):
    assert outcome.status == 0, outcome.err
    return outcome.out.split("\n\nexample ")[0] + "\n"


def text(value):
    return dedent(value).lstrip("\n")


# ---------------------------------------------------------------- what is derived

DERIVED = {
    "dense layers": (
        """
        def before(x: Tensor["b", "n"], A: Const["k", "n"], B: Const["m", "k"]):
            return F.linear(F.linear(x, A), B)
        """,
        """
        def merge(x, A, B):
            return F.linear(x, B @ A)
        """,
        """
        rule merge {
            linear(linear(x: [..., n], A: const [k, n]), B: const [m, k])
          =>
            linear(x, B @ A)
        }
        """,
    ),
    # Sizes that are equal by chance are not taken for one.
    "equal numbers": (
        """
        def before(x: Tensor[8, 8], A: Const[8, 8], B: Const[8, 8]):
            return F.linear(F.linear(x, A), B)
        """,
        """
        def merge(x, A, B):
            return F.linear(x, B @ A)
        """,
        """
        rule merge {
            linear(linear(x: [..., m], A: const [k, m]), B: const [l, k])
          =>
            linear(x, B @ A)
        }
        """,
    ),
    "absent biases": (
        """
        def before(x: Tensor["b", "n"], A: Const["k", "n"], a: Optional[Const["k"]], B: Const["m", "k"]):
            return F.linear(F.linear(x, A, a), B)
        """,
        """
        def merge(x, A, a, B):
            return F.linear(x, B @ A, B @ a)
        """,
        """
        rule merge {
            linear(linear(x: [..., n], A: const [k, n], a?: const [k]), B: const [m, k])
          =>
            linear(x, B @ A, B @ a)
        }
        """,
    ),
    "permutations": (
        "def before(x: Tensor[2, 3, 4]): return x.permute(1, 2, 0).transpose(1, 2)",
        "def permute(x): return x.transpose(0, 1)",
        """
        rule permute {
            permute(permute(x, [1, 2, 0]), [0, 2, 1])
          =>
            permute(x, [1, 0, 2])
        }
        """,
    ),
    "relu": (
        "def before(x: Tensor[3]): return torch.relu(x.relu())",
        "def after(x): return F.relu(x)",
        """
        rule derived {
            relu(relu(x))
          =>
            relu(x)
        }
        """,
    ),
    "a scaled convolution": (
        """
        def before(x: Tensor[2, 3, 8, 8], W: Const[4, 3, 3, 3], b: Const[4], s: Const[4, 1, 1]):
            return F.conv2d(x, W, b, padding=1) * s
        """,
        """
        def scaled(x, W, b, s):
            return F.conv2d(x, W * s.reshape(-1, 1, 1, 1), b * s.reshape(-1), padding=1)
        """,
        """
        rule scaled {
            conv2d(x: [..., m, k, l], W: const [h, m, w, i], b: const [h], padding=1) * (s: const [h, 1, 1])
          =>
            conv2d(x, W * reshape(s, [h, 1, 1, 1]), b * reshape(s, [h]), padding=1)
        }
        """,
    ),
    "siblings": (
        """
        def before(x: Tensor["b", "n"], A: Const["k", "n"], B: Const["m", "n"]):
            return F.linear(x, A), F.linear(x, B)
        """,
        """
        def siblings(x, A, B):
            return F.linear(x, torch.cat([A, B])).split([A.shape[0], B.shape[0]], -1)
        """,
        """
        rule siblings {
            p = linear(x: [..., n], A: const [k, n])
            q = linear(x, B: const [m, n])
          =>
            (p, q) = split(linear(x, concat(A, B, dim=-2)), [k, m], dim=-1)
        }
        """,
    ),
    # Numbers that could be sizes are sizes, and not the same one, though both are 8.
    "siblings of eight": (
        """
        def before(x: Tensor[2, 6], A: Const[8, 6], B: Const[8, 6]):
            return F.linear(x, A), F.linear(x, B)
        """,
        """
        def siblings(x, A, B):
            return F.linear(x, torch.cat([A, B])).split([8, 8], -1)
        """,
        """
        rule siblings {
            p = linear(x: [..., m], A: const [k, m])
            q = linear(x, B: const [l, m])
          =>
            (p, q) = split(linear(x, concat(A, B, dim=-2)), [k, l], dim=-1)
        }
        """,
    ),
    "a value that is used twice": (
        """
        def before(x: Tensor["b", "n"], W: Const["m", "n"]):
            h = F.linear(x, W)
            return h * h.sigmoid()
        """,
        "def gate(x, W): return F.silu(F.linear(x, W))",
        """
        rule gate {
            h = linear(x: [..., n], W: const [m, n])
            p = h * sigmoid(h)
          =>
            p = silu(h)
        }
        """,
    ),
    "sizes in attributes": (
        """
        def before(x: Tensor["b", "t", "n"], W: Const["m", "n"]):
            b, t, n = x.shape
            return F.linear(x.reshape(-1, n), W).reshape(b, t, -1)
        """,
        "def flat(x, W): return F.linear(x, W)",
        """
        rule flat {
            reshape(linear(reshape(x: [b, t, n], [k, n]), W: const [m, n]), [b, t, m])
          =>
            linear(x, W)
          where
            k == b * t
        }
        """,
    ),
    "sizes that must be large enough": (
        "def before(x: Tensor[3, 9]): return x[:, :6][:, 2:4]",
        "def cut(x): return x[:, 2:4]",
        """
        rule cut {
            slice(slice(x: [n, m], dim=-1, start=0, end=6), dim=-1, start=2, end=4)
          =>
            slice(x, dim=-1, start=2, end=4)
          where
            m >= 6
        }
        """,
    ),
    "example tensors, indices, a parameter": (
        """
        def before(ids=torch.zeros(2, 3).long(), E=nn.Parameter(torch.ones(9, 4)), s=torch.ones(4), k=2.0):
            return F.embedding(ids, E) * s * k
        """,
        "def table(E, s, ids): return F.embedding(ids, E * s) * 2.0",
        """
        rule table {
            embedding(E: const [k, l], ids: i64) * (s: const [l]) * 2.0
          =>
            embedding(E * s, ids) * 2.0
        }
        """,
    ),
    # A batch of one need not be one; a kernel of one tap must be.
    "axes of size one": (
        "def before(x: Tensor[1, 3, 6], W: Const[4, 3, 1]): return F.conv1d(F.avg_pool1d(x, 2), W)",
        "def pooled(x, W): return F.avg_pool1d(F.conv1d(x, W), 2)",
        """
        rule pooled {
            conv1d(avg_pool1d(x: [..., m, k], 2, stride=2), W: const [l, m, 1])
          =>
            avg_pool1d(conv1d(x, W), 2, stride=2)
        }
        """,
    ),
    "words of the language as names": (
        "def before(linear: Tensor[2, 3], const: Const[4, 3]): return F.linear(linear, const).relu().relu()",
        "def after(linear, const): return F.linear(linear, const).relu()",
        """
        rule derived {
            relu(relu(linear(linear_: [..., m], const_: const [k, m])))
          =>
            relu(linear(linear_, const_))
        }
        """,
    ),
}


@pytest.mark.parametrize("case", DERIVED)
def test_a_rule_is_derived(new, tdsl, folder, case):
    before, after, expected = DERIVED[case]
    options = ("--const", "s") if "indices" in case else ()
    outcome = new(before, after, *options)
    assert rule_of(outcome) == text(expected)
    assert format_file(parse(outcome.out)) == outcome.out
    (folder / "made.tdsl").write_text(outcome.out, encoding="utf-8")
    assert tdsl("test", "made.tdsl").out == "1 example passed\n"


def test_the_rule_turns_one_graph_into_the_other(folder):
    (folder / "pair.py").write_text(
        HEAD
        + dedent(
            """
            def before(x: Tensor["b", "n"], A: Const["k", "n"], a: Const["k"], B: Const["m", "k"]):
                return F.linear(F.linear(x, A, a).relu().relu(), B)


            def after(x, A, a, B):
                return F.linear(F.linear(x, A, a).relu(), B)
            """
        ),
        encoding="utf-8",
    )
    derived = derive("pair.py:before", "pair.py:after", "once")
    (folder / "once.tdsl").write_text(derived.text, encoding="utf-8")

    class Model(torch.nn.Module):
        def __init__(self, times):
            super().__init__()
            self.first, self.second, self.times = torch.nn.Linear(8, 6), torch.nn.Linear(6, 4, False), times

        def forward(self, x):
            h = self.first(x)
            for _ in range(self.times):
                h = torch.relu(h)
            return self.second(h)

    def captured(times):
        return capture(Model(times).eval(), (torch.zeros(2, 5, 8),)).module

    module = copied(captured(2))
    assert rewrite(module, [load("once.tdsl").rule("once")]) == 1
    assert operators(module) == operators(captured(1))


def operators(module):
    """The graph as text, without the numbers of its nodes."""
    return re.sub(r"_\d+", "", graph_text(module, types=False))


def test_the_trials_tell_a_general_rule_from_a_special_one(new):
    """What holds for square matrices only is not said of others."""
    outcome = new(
        "def before(x: Tensor[5, 5]): return (x + x.T).relu().relu()", "def after(x): return (x + x.T).relu()"
    )
    assert "x: [n, n]" in rule_of(outcome)
    outcome = new(
        "def before(x: Tensor[4, 4], y: Tensor[4, 4]): return (x.relu().relu(), y.relu())",
        "def after(x, y): return (x.relu(), y.relu())",
    )
    assert outcome.status == 1  # the two results have nothing in common


def test_numbers_that_cannot_be_sizes_are_reported(new):
    outcome = new(
        "def before(x: Tensor[3, 4]): return x.relu().relu().relu()",
        "def after(x): return x.reshape(12).reshape(3, 4).relu()",
    )
    assert "relu(relu(relu(x: [3, 4])))" in rule_of(outcome)
    assert outcome.err.endswith(
        "  axis 0 of x is 3 only: a function has that number\n"
        "  axis 1 of x is 4 only: a function has that number\n"
    )


def test_options(new, tdsl, folder):
    before, after, _ = DERIVED["dense layers"]
    found = new(before, after, "other", "--json").json
    assert found["format"] == "tdsl-new/1"
    assert (found["name"], found["fixed"]) == ("other", [])
    assert found["text"].startswith("rule other {\n")
    assert found["tried"] >= 4
    outcome = new(before, after, "--output", "made.tdsl")
    assert (outcome.status, outcome.out) == (0, "")
    assert outcome.err.startswith("merge in made.tdsl: holds on ")
    assert (folder / "made.tdsl").read_text(encoding="utf-8").startswith("rule merge {\n")
    again = new(before, after, "--output", "made.tdsl")
    assert (again.status, again.err.partition("\n")[0]) == (1, "error: made.tdsl is there already")
    assert tdsl("new", "rule", "--from", "before.py").status == 2


# ---------------------------------------------------------------- what is not

ONE = "def before(x: Tensor[2, 3]): return x.relu().relu()"

MISTAKES = {
    "no sizes": (
        "def before(x, W): return x @ W",
        ONE,
        "before.py:7:1: error: nothing says which sizes `x` has",
    ),
    "another operand": (
        ONE,
        "def after(x, y): return x + y",
        "after.py:7:1: error: `y` of after is no operand of before",
    ),
    "other numbers": (
        ONE,
        "def after(x): return x.abs()",
        "after.py:7:1: error: after does not compute what before does: on random x: [2, 3] they differ by",
    ),
    "other shapes": (
        ONE,
        "def after(x): return x.relu().T",
        "after.py:7:1: error: on x: [2, 3] before returns float64 [2, 3], and after float64 [3, 2]",
    ),
    "too few results": (
        ONE,
        "def after(x): return ()",
        "after.py:7:1: error: before returns 1 tensors, and after 0",
    ),
    "sizes that do not fit": (
        "def before(x: Tensor[2, 3], W: Const[4, 5]):\n    return F.linear(x, W)",
        ONE,
        "before.py:8:5: error: before fails on x: [2, 3], W: [4, 5]: mat1 and mat2",
    ),
    "a branch": (
        "def before(x: Tensor[2, 3]):\n    y = x.relu()\n    return y if y.sum() > 0 else y.relu()",
        "def after(x): return x.relu()",
        "before.py:9:5: error: before cannot be traced",
    ),
    "no operator": (
        "def before(x: Tensor[4, 4]): return torch.linalg.inv(x).relu().relu()",
        "def after(x):\n    y = torch.linalg.inv(x)\n    return y.relu()",
        "before.py:7:1: error: no rule can say this: `aten.linalg_inv.default` is no operator",
    ),
    "a tensor from nowhere": (
        "def before(x: Tensor[2]): return (x + torch.tensor([1.0, 2.0], dtype=torch.float64)).relu().relu()",
        "def after(x):\n    c = torch.tensor([1.0, 2.0], dtype=torch.float64)\n    return (x + c).relu()",
        "before.py:7:1: error: no rule can say this: a tensor that is neither an operand nor computed",
    ),
    "an idle operand": (
        "def before(x: Tensor[2], W: Const[2]): return x.relu().relu()",
        "def after(x): return x.relu()",
        "before.py:7:1: error: before does nothing with `W`",
    ),
    "the same again": (
        ONE,
        "def after(x): return torch.relu(torch.relu(x))",
        "before.py:7:1: error: these functions make no rule: the rule would fire for ever",
    ),
    "several functions": (
        f"{ONE}\ndef other(x): return x",
        ONE,
        "error: before.py has 2 functions\n  expected: one of before.py:before, before.py:other",
    ),
    "many operands": (
        "def before(*xs): return xs",
        ONE,
        "before.py:7:1: error: `xs` is any number of operands",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_what_makes_no_rule_is_told_at_the_line(new, case):
    before, after, message = MISTAKES[case]
    outcome = new(before, after)
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.startswith(message), outcome.err


def test_what_differs_by_less_than_rounding_is_refuted_by_the_prover(new):
    outcome = new(
        "def before(x: Tensor[2, 3], W: Const[3, 3]): return F.linear(x, W) + x * 1e-14",
        "def after(x, W): return F.linear(x, W)",
    )
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.startswith("before.py:7:1: error: these functions make no rule: rule derived is wrong")
    assert "W = [[" in outcome.err  # its counterexample


def test_what_the_prover_says_is_passed_on(new):
    before, after, _ = DERIVED["relu"]
    assert new(before, after).err.endswith(" sizes, proved\n")
    assert new(before, after, "--json").json["verdict"] == "proved"
