"""`tdsl test`: examples that hold, examples that do not, and what is said of them."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent

import pytest

MERGE = """
rule merge {
    linear(linear(x: [..., n], A: const [k, n], a?: const), B: const [m, k], b?: const)
  =>
    linear(x, B @ A, B @ a + b)
  where
    m * n <= k * (m + n)
}
"""
FORGETFUL = """
rule forgetful {
    mul(linear(x, W: const [m, n], b: const), a: const [m])
  =>
    linear(x, W * reshape(a, [m, 1]), b)
}
"""

SVD = """
example svd_linear(rank=2) {
    linear(x: [4, 8], W: const [6, 8])
  =>
    linear(linear(x, V: const [2, 8]), U: const [6, 2])
}
"""


@pytest.fixture
def run(tdsl, folder):
    """Writes a file of rules and examples, and tests it."""

    def run(text, *options):
        (folder / "rules.tdsl").write_text(dedent(text), encoding="utf-8")
        return tdsl("test", "rules.tdsl", *options)

    return run


def problems(outcome):
    return [line.partition(" error: ")[2] for line in outcome.out.splitlines() if " error: " in line]


# ---------------------------------------------------------------- what holds


@pytest.mark.parametrize(
    "example",
    [
        """
        example merge {
            linear(linear(x: [4, 8], A: const [6, 8], a: const [6]), B: const [5, 6])
          =>
            linear(x, B @ A, B @ a)
        }
        """,
        """
        // The order of a sum and names do not matter, nor does how a weight is computed.
        example merge {
            y = linear(linear(z: [4, 8], A: const [6, 8], a: const [6]), B: const [5, 6]) + (w: [5])
          =>
            y = w + linear(z, (A.T @ B.T).T, (a @ B.T) / 1)
        }
        """,
        "example merge { linear(linear(x: [2, 8], A: const [3, 8]), B: const [5, 3]) => unchanged }",
        "example merge { linear(relu(linear(x: [2, 8], A: const [6, 8])), B: const [5, 6]) => unchanged }",
        # A weight of any values.
        """
        example merge {
            linear(linear(x: [4, 8], A: const [6, 8]), B: const [5, 6])
          =>
            linear(x, C: const [5, 8])
        }
        """,
        # A glob of the file, of the library, an import, a pipeline, a pass.
        "example mer* { linear(linear(x: [4, 8], A: const [6, 8]), B: const [5, 6]) => linear(x, B @ A) }",
        "example cleanup.* { tanh(relu(relu(x: [3]) * 1)) => tanh(relu(x)) }",
        "import cleanup.identity\nexample double_relu { relu(relu(x: [3])) => relu(x) }",
        """
        pipeline both {
            repeat merge, cleanup.identity.* until stable
        }

        example both {
            linear(relu(relu(linear(linear(x: [2, 8], A: const [6, 8]), B: const [5, 6]))), C: const [2, 5])
          =>
            linear(relu(linear(x, B @ A)), C)
        }
        """,
        """
        example cleanup.common_subexpressions {
            p = relu(x: [3])
            q = -relu(x)
          =>
            p = relu(x)
            q = -p
        }
        """,
        # Nothing is lost of a matrix of rank 2.
        """
        example svd_linear(rank=2) {
            linear(x: [4, 8], W, b: const [6])
          =>
            linear(linear(x, V: const [2, 8]), U: const [6, 2], b)
          where
            W = (P: const [6, 2]) @ (Q: const [2, 8])
        }
        """,
        """
        example svd_linear(rank=2) {
            linear(x: [64, 8], W: const [6, 8])
          ~>
            linear(linear(x, V: const [2, 8]), U: const [6, 2])
        }
        """,
        # What is not named stays, and what another line uses is no output.
        """
        example cleanup.identity.* {
            h = exp(x: [3])
            p = relu(relu(h))
            q = neg(h)
          =>
            p = relu(h)
        }
        """,
        # Element types.
        "example identity_cast { relu(cast(x: f16 [3], f16)) => relu(x) }",
        "example add_zero { relu((x: i64 [3]) + 0.0) => unchanged }",
    ],
)
def test_examples_that_hold(run, example):
    outcome = run(MERGE + dedent(example))
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out == "1 example passed\n"


def test_without_an_arrow_it_shows_what_comes_out(run):
    outcome = run(MERGE + "example merge { linear(linear(x: [4, 8], A: const [6, 8]), B: const [5, 6]) }\n")
    assert outcome.status == 0
    assert outcome.out == (
        "rules.tdsl:9:9: merge gives\n    linear(x, c1: const [5, 8])\n\n1 example passed\n"
    )


def test_what_is_shown_can_be_expected(run):
    """A graph with shared values and several results, as text, is an expectation that holds."""
    left = """
        x = relu(relu(y: [4, 6]))
        (p, q) = split(neg(x), [2, 4], dim=1)
        r = exp(x)
        s = linear(r * r, W: const [2, 6]) - 1.5
    """
    shown = run(f"example cleanup.identity.* {{\n{left}\n}}\n").out.split("gives\n")[1].split("\n\n")[0]
    outcome = run(f"example cleanup.identity.* {{\n{left}\n  =>\n{shown}\n}}\n")
    assert outcome.out == "1 example passed\n", shown


# ---------------------------------------------------------------- what does not hold


def test_a_wrong_expectation_is_shown_at_its_line(run):
    outcome = run(
        MERGE
        + """
example merge {
    linear(linear(x: [4, 8], A: const [6, 8]), B: const [5, 6])
  =>
    linear(x, (B @ A) * 2)
}
"""
    )
    assert outcome.status == 1
    assert outcome.out == (
        "rules.tdsl:10:9: error: merge gives another graph\n"
        "    example merge {\n"
        "            ^^^^^\n"
        "--- expected\n"
        "+++ found\n"
        "-linear(x, B @ A * 2)\n"
        "+linear(x, B @ A)\n"
        "\n"
        "0 examples passed, 1 failed\n"
    )


def test_a_rule_that_does_not_fire_is_explained(run):
    text = "example merge { linear(linear(x: [2, 8], A: const [3, 8]), B: const [5, 3]) => linear(x, B @ A) }"
    outcome = run(MERGE + text)
    assert problems(outcome) == ["merge did not fire"]
    assert "-linear(x, B @ A)\n+linear(linear(x, A), B)\n" in outcome.out
    assert "failed   m * n <= k * (m + n)\n             m = 5, n = 8, k = 3\n" in outcome.out


def test_a_rule_that_fires_where_it_should_not(run):
    outcome = run(
        MERGE + "example merge { linear(linear(x: [2, 8], A: const [6, 8]), B: const [5, 6]) => unchanged }"
    )
    assert outcome.status == 1
    assert problems(outcome) == ["rules.merge fired"]


@pytest.fixture
def unproved(monkeypatch):
    """Rules are loaded without a proof, as one is that the prover cannot decide."""
    monkeypatch.setattr("tdsl.engine.library.refuse_refuted", lambda rule, verdict: None)


def test_a_wrong_rule_is_refused_before_its_examples(run):
    outcome = run(FORGETFUL + "example forgetful { relu(x: [3]) => unchanged }")
    assert (outcome.status, outcome.out) == (1, "")
    assert "rule forgetful is wrong" in outcome.err


def test_a_wrong_rule_is_caught_by_its_numbers(run, unproved):
    """The example agrees with the rule, and both are wrong."""
    outcome = run(
        FORGETFUL
        + """
example forgetful {
    linear(x: [4, 8], W: const [6, 8], b: const [6]) * (a: const [6])
  =>
    linear(x, W * reshape(a, [6, 1]), b)
}
"""
    )
    [problem] = problems(outcome)
    assert problem.startswith("forgetful changes the outputs by ")
    assert problem.endswith(", more than what rounding explains")


def test_exact_means_exact_for_an_approximate_rule_too(run):
    [problem] = problems(run(SVD))
    assert problem.endswith("more than what rounding explains")


def test_an_approximation_is_held_to_the_error_that_it_states(run, unproved):
    """A factor that belongs to nothing: the weight is approximated well, the output is not."""
    rule = """
    rule lossy(rank: Rank = 5) {
        linear(x: [..., n], W: const [m, n])
      ~>
        100 * linear(linear(x, V), U)
      where
        (U: [m, r], V: [r, n]) = svd(W, rank)
    }

    example lossy {
        linear(x: [4, 8], W: const [6, 8])
      ~>
        100 * linear(linear(x, V: const [5, 8]), U: const [6, 5])
    }
    """
    [problem] = problems(run(rule))
    assert ", more than an approximation that states " in problem


@pytest.mark.parametrize(
    ("example", "message"),
    [
        ("example mergee { relu(x: [3]) }", "unknown rule or pass mergee"),
        ("example merge(rank=2) { relu(x: [3]) }", "rule rules.merge has no parameter rank"),
        ("example merge { relu(x) }", "`x` is an input or weight without sizes"),
        (
            "example merge { linear(x: [3], W: const [3, 4]) }",
            "this cannot be computed: linear refuses these operands",
        ),
        ("example merge { relu(x: [3]) => (p, q) = x }", "the result without a name is missing"),
        (
            "example merge { log(x: const [3]) + (y: [3]) => unchanged\n}",
            None,
        ),
        ("example cleanup.* { relu(relu(log(x: [9]))) }", "the outputs of this model are not numbers"),
        ("example pipelines.compact { relu(x: [3]) }", "compact looks at calibration data"),
        ("law l { add(x, y) == add(y, x) }\nexample l { (x: [3]) + (y: [3]) }", "rules.l is a law"),
    ],
)
def test_examples_that_cannot_be_run(run, example, message):
    outcome = run(MERGE + example)
    if message is None:  # the control: numbers need not be finite where nothing is compared
        assert outcome.status == 0
        return
    assert outcome.status == 1
    [problem] = problems(outcome)
    assert problem.startswith(message)
    assert outcome.out.endswith("0 examples passed, 1 failed\n")


def test_a_mistake_in_the_file_itself(run):
    outcome = run("example merge { relu(x: [3]) -> x }")
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.startswith("rules.tdsl:1:31: error: unexpected `>`") or "the arrows are" in outcome.err


# ---------------------------------------------------------------- files and forms


def test_the_same_seed_draws_the_same_numbers(run):
    first, again, other = run(SVD).out, run(SVD).out, run(SVD, "--seed", "1").out
    assert first == again != other


def test_as_json(run):
    text = """
example merge { linear(linear(x: [2, 8], A: const [6, 8]), B: const [5, 6]) => linear(x, B @ A) }
example merge { linear(linear(x: [2, 8], A: const [3, 8]), B: const [5, 3]) => linear(x, B @ A) }
"""
    found = run(MERGE + text, "--json").json
    assert (found["format"], found["passed"], found["failed"]) == ("tdsl-test/1", 1, 1)
    good, bad = found["examples"]
    assert good == {
        "file": "rules.tdsl",
        "line": 10,
        "rule": "merge",
        "passed": True,
        "applied": ["rules.merge"],
        "problem": "",
        "expected": ["linear(x, B @ A)"],
        "found": ["linear(x, B @ A)"],
        "explanation": "",
    }
    assert (bad["line"], bad["passed"], bad["problem"]) == (11, False, "merge did not fire")
    assert "params" not in bad["explanation"] and "m * n <= k * (m + n)" in bad["explanation"]


def test_files_without_examples(run, tdsl):
    assert run(MERGE).out == "no examples\n"
    assert tdsl("test", "missing.tdsl").err.startswith("error: there is no file missing.tdsl")


def test_a_wrong_rule_is_refused_without_an_example_as_well(run):
    outcome = run("rule wrong {\n    relu(x)\n  =>\n    tanh(x)\n}\n")
    assert outcome.status == 1 and "rule wrong is wrong: the sides differ" in outcome.err


def test_a_folder_means_every_file_below_it(run, folder, tdsl):
    run(MERGE)
    (folder / "more").mkdir()
    for name in ("one", "two"):
        text = "example double_relu { relu(relu(x: [3])) => relu(x) }"
        (folder / "more" / f"{name}.tdsl").write_text(text, encoding="utf-8")
    assert tdsl("test", "more").out == "2 examples passed\n"


def test_list_and_show_know_the_file(run, tdsl):
    """Examples have no names; what stands before and after them is found and shown as before."""
    run(MERGE + "\n/// An example.\nexample merge { relu(x: [3]) ~> x }\n" + FORGETFUL)
    listed = tdsl("list", "--rules", "rules.tdsl", "rules.*").out
    assert [line.split()[:2] for line in listed.splitlines()[1:3]] == [["merge", "=>"], ["forgetful", "=>"]]
    assert tdsl("show", "--rules", "rules.tdsl", "forgetful").out == FORGETFUL.lstrip()


def test_the_examples_of_the_reference_hold(run):
    reference = (Path(__file__).parents[2] / "docs" / "language.md").read_text(encoding="utf-8")
    blocks = [b for b in re.findall(r"```tdsl\n(.*?)```", reference, re.DOTALL) if "\nexample " in b]
    assert [run(block).out for block in blocks] == ["2 examples passed\n"] * 2
