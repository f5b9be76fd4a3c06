"""The canonical form: text in, text out."""

from __future__ import annotations

import pytest

from tdsl.lang import format_file, parse

CASES = {
    "spaces and brackets": (
        "rule   r{relu( (x) )=>((x)+(y*z))-(w-v)}",
        "rule r {\n    relu(x)\n  =>\n    x + y * z - (w - v)\n}\n",
    ),
    "numbers": (
        "rule r { f(1e-06, 0.50, 1E3, 50.0%, 0.1%) => x }",
        "rule r {\n    f(1e-6, 0.5, 1000.0, 50%, 0.1%)\n  =>\n    x\n}\n",
    ),
    "a law on one line": (
        "law r {\n f(x)\n ==\n x }",
        "law r {\n    f(x) == x\n}\n",
    ),
    "declarations stand apart, imports together": (
        'import a.b import "c.tdsl"\nrule r { f(x) => x } rule s { f(x) => x }',
        'import a.b\nimport "c.tdsl"\n\nrule r {\n    f(x)\n  =>\n    x\n}\n\n'
        "rule s {\n    f(x)\n  =>\n    x\n}\n",
    ),
    "an empty file": ("\n\n", ""),
    "only comments": ("\n// one\n\n// two\n", "// one\n\n// two\n"),
    "comments keep their places": (
        """// header

// about r
rule r { // opening
    // before the left side
    relu(x)  // dense
    // before the arrow
  =>  // arrow
    x
  where // conditions
    // first
    n < 3 // small
    // last
} // closing
// end
""",
        """// header

// about r
rule r {  // opening
    // before the left side
    relu(x)  // dense
  // before the arrow
  =>  // arrow
    x
  where  // conditions
    // first
    n < 3  // small
    // last
}  // closing

// end
""",
    ),
    "comments inside a term that is joined": (
        "rule r {\n    linear(\n        x, // input\n        // the weight\n        W // weight\n"
        "    )\n  =>\n    x\n}\n",
        "rule r {\n    // input\n    // the weight\n    linear(x, W)  // weight\n  =>\n    x\n}\n",
    ),
}


@pytest.mark.parametrize(("before", "after"), CASES.values(), ids=CASES.keys())
def test_canonical_form(before: str, after: str) -> None:
    assert format_file(parse(before)) == after
    assert format_file(parse(after)) == after


def test_long_terms_wrap_at_their_outermost_brackets() -> None:
    name = "a_rather_long_operand_name"
    text = (
        f"rule r {{ concat(linear({name}, {name}_two), relu({name}), {name}_three, dim=-1) "
        f"=> {name} * {name} + {name} * {name} - {name} * {name} }}"
    )
    formatted = format_file(parse(text))
    assert (
        formatted
        == f"""rule r {{
    concat(
        linear({name}, {name}_two),
        relu({name}),
        {name}_three,
        dim=-1,
    )
  =>
    {name} * {name}
        + {name} * {name}
        - {name} * {name}
}}
"""
    )
    assert parse(formatted) == parse(text)
    assert max(map(len, formatted.splitlines())) <= 100


def test_pipelines() -> None:
    text = (
        "pipeline p(size: Ratio=50%) { repeat a.*,b until stable limit 3 first { once a } else { }"
        ' at "x","y" { top_down { once c(rank=3) } } choose a,b minimize latency subject to bytes<=size }'
    )
    assert (
        format_file(parse(text))
        == """pipeline p(size: Ratio = 50%) {
    repeat a.*, b until stable limit 3
    first {
        once a
    } else {
    }
    at "x", "y" {
        top_down {
            once c(rank=3)
        }
    }
    choose a, b
        minimize latency
        subject to bytes <= size
}
"""
    )


def test_long_lists_of_rules_wrap() -> None:
    rules = [f"factorize.linear.rule_number_{i}" for i in range(7)]
    formatted = format_file(parse(f"pipeline p {{ once {', '.join(rules)} }}"))
    assert parse(formatted).items[0].steps[0].rules[6].pattern == rules[6]  # type: ignore[union-attr]
    assert len(formatted.splitlines()) == 6
    assert max(map(len, formatted.splitlines())) <= 100
