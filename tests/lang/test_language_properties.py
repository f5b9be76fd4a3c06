"""Laws of parser and formatter: round trip, idempotence, and no failure but `TdslError`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tdsl.errors import Source, Span, TdslError
from tdsl.lang import format_file, parse, tree

HERE = Span(Source("generated", ""), 1, 1, 1, 1)
NAMES = st.sampled_from(
    ["x", "W", "n", "linear", "group", "input", "long_name_of_a_variable", "σ", "limit", "div2"]
)
RESERVED_FREE_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=8)


def made(kind: type, **parts: Any) -> st.SearchStrategy:
    @st.composite
    def build(draw: st.DrawFn) -> tree.Node:
        node: tree.Node = kind(span=HERE, **{name: draw(part) for name, part in parts.items()})
        return node

    return build()


def tuples(of: st.SearchStrategy, least: int = 0, most: int = 3) -> st.SearchStrategy:
    return st.lists(of, min_size=least, max_size=most).map(tuple)


CONSTANTS = made(
    tree.Constant,
    value=st.one_of(
        st.integers(0, 10**12),
        st.floats(0, 1e30, allow_nan=False),
        st.booleans(),
        st.none(),
        RESERVED_FREE_TEXT,
        st.sampled_from(['"', "\\", "a\nb", "\t", "// no comment"]),
    ),
) | made(tree.Constant, value=st.integers(0, 999).map(lambda i: i / 1000), percent=st.just(True))

REPEATS = st.none() | st.tuples(st.integers(0, 3), st.none() | st.integers(0, 3)).map(
    lambda t: tree.Repeat(least=t[0], most=None if t[1] is None else t[0] + t[1], span=HERE)
)


def extend(inner: st.SearchStrategy) -> st.SearchStrategy:
    dims = tuples(inner | made(tree.Ellipsis_))
    types = made(
        tree.TensorType,
        const=st.booleans(),
        dtype=st.none() | st.sampled_from(["f32", "i64"]),
        dims=st.none() | dims,
    ).filter(lambda t: t.const or t.dtype or t.dims is not None)
    declared = made(tree.Declared, name=NAMES, type=st.none() | types, optional=st.booleans()).filter(
        lambda d: d.optional or d.type
    )
    conditions = made(tree.Condition, test=inner)
    element = inner | declared | made(tree.Splat, value=inner)
    arguments = tuples(made(tree.Argument, value=element, name=st.none() | NAMES), most=4)
    options = made(tree.Option, term=inner, where=tuples(conditions | definitions(inner), most=2))
    return st.one_of(
        element,
        made(tree.ListOf, items=tuples(element)),
        made(tree.TupleOf, items=tuples(element, least=2)),
        made(tree.Call, callee=NAMES, arguments=arguments, repeat=REPEATS),
        made(tree.Unary, operator=st.sampled_from(["-", "not", "T"]), operand=element),
        made(
            tree.Binary,
            operator=st.sampled_from(
                ["+", "-", "*", "/", "//", "%", "@", "**", "<", "<=", ">", ">=", "==", "!=", "and", "or"]
            ),
            left=element,
            right=element,
        ),
        made(tree.Alternatives, options=tuples(options, least=2)),
    )


def definitions(inner: st.SearchStrategy) -> st.SearchStrategy:
    target = made(tree.Declared, name=NAMES) | made(
        tree.Declared, name=NAMES, type=made(tree.TensorType, dims=tuples(inner))
    )
    return made(tree.Definition, targets=tuples(target, least=1), value=inner)


EXPRESSIONS = st.recursive(made(tree.Name, id=NAMES) | CONSTANTS, extend, max_leaves=12)
CLAUSES = made(tree.Condition, test=EXPRESSIONS) | definitions(EXPRESSIONS)
EQUATIONS = made(tree.Equation, names=tuples(NAMES), term=EXPRESSIONS)
PARAMETERS = tuples(
    made(tree.Parameter, name=NAMES, kinds=tuples(NAMES, least=1), default=st.none() | EXPRESSIONS)
)
DOCS = st.sampled_from(["", "One line.", "Two\n\n  lines: a ≈ b // no comment", "/// quoted"])
RULES = made(
    tree.Rule,
    name=NAMES,
    parameters=PARAMETERS,
    lhs=tuples(EQUATIONS, least=1, most=2),
    arrow=st.sampled_from(["=>", "~>", "=="]),
    rhs=tuples(EQUATIONS, least=1, most=2),
    where=tuples(CLAUSES),
    doc=DOCS,
)
REFERENCES = tuples(
    made(
        tree.RuleRef,
        pattern=st.sampled_from(["cleanup.*", "a.b_c.d", "*", "factorize.*_linear"]),
        arguments=tuples(made(tree.Argument, value=EXPRESSIONS, name=NAMES), most=2),
    ),
    least=1,
    most=5,
)
METHODS = tuples(made(tree.Argument, value=EXPRESSIONS, name=NAMES), most=2)
STEPS = st.recursive(
    st.one_of(
        made(tree.Repeated, rules=REFERENCES, limit=st.none() | st.integers(0, 99)),
        made(tree.Once, rules=REFERENCES),
        made(tree.Choose, rules=REFERENCES, objective=NAMES, budgets=tuples(EXPRESSIONS)),
        made(tree.Heal, method=NAMES, arguments=METHODS),
        made(tree.Quantize, scheme=NAMES, arguments=METHODS),
        made(tree.Check, bounds=tuples(EXPRESSIONS, least=1)),
    ),
    lambda steps: st.one_of(
        made(tree.First, attempt=tuples(steps), otherwise=tuples(steps)),
        made(tree.Attempt, steps=tuples(steps)),
        made(tree.Ordered, order=st.sampled_from(["top_down", "bottom_up"]), steps=tuples(steps)),
        made(tree.At, paths=tuples(RESERVED_FREE_TEXT, least=1, most=2), steps=tuples(steps)),
    ),
    max_leaves=4,
)
SHAPES = made(tree.TensorType, dims=tuples(EXPRESSIONS | made(tree.Ellipsis_)))
EDGES = made(
    tree.Edge, side=st.sampled_from(["input", "output"]), name=NAMES, type=SHAPES, action=st.none() | NAMES
)
EXAMPLES = st.tuples(
    made(
        tree.Example,
        reference=REFERENCES.map(lambda references: references[0]),
        lhs=tuples(EQUATIONS, least=1, most=2),
        arrow=st.sampled_from(["=>", "~>"]),
        rhs=tuples(EQUATIONS, least=1, most=2),
        where=tuples(CLAUSES),
        doc=DOCS,
    ),
    st.sampled_from([{}, {"arrow": None, "rhs": ()}, {"rhs": (), "unchanged": True}]),
).map(lambda drawn: replace(drawn[0], **drawn[1]))
ITEMS = st.one_of(
    RULES,
    EXAMPLES,
    made(tree.Pipeline, name=NAMES, parameters=PARAMETERS, steps=tuples(STEPS), doc=DOCS),
    made(tree.Group, name=NAMES, value=EXPRESSIONS, doc=DOCS),
    made(
        tree.Action,
        name=NAMES,
        group=NAMES,
        type=SHAPES,
        generators=tuples(made(tree.Generator, value=EXPRESSIONS), least=1),
        doc=DOCS,
    ),
    made(
        tree.Symmetry,
        name=NAMES,
        group=NAMES,
        edges=tuples(EDGES, least=1),
        tolerance=st.none() | EXPRESSIONS,
        doc=DOCS,
    ),
    made(tree.Import, path=st.just("cleanup.identity"), library=st.just(True)),
    made(tree.Import, path=RESERVED_FREE_TEXT),
)
FILES = made(tree.File, items=tuples(ITEMS))


@given(FILES)
@settings(max_examples=250, deadline=None, derandomize=True)
def test_parsing_what_was_formatted_gives_the_tree_back(file: tree.File) -> None:
    text = format_file(file)
    again = parse(text)
    assert again == file, text
    assert format_file(again) == text


SAMPLE = """// A file.
import cleanup.identity

/// Truncated SVD.
rule svd_linear(rank: Rank = energy(0.95)) {
    linear(x: [..., n], W: const [m, n], b?)  // dense
  ~>
    linear(linear(x, V), U, b)
  where
    // the promise
    (U: [m, r], V: [r, n]) = svd(W, rank)
    r * (m + n) < m * n and not n == 3
}

law commute(f: pointwise) {
    f(permute(x, p)) == permute(f(x), p)
}

rule several {
    p = linear(x, A)
    (q, s) = split((relu(x) | gelu{1,3}(x) where n > 8), [k, m], dim=-1)
  =>
    p = concat(f(xs)..., "text", 50%, none)
}

pipeline edge(size: Ratio = 50%) {
    repeat cleanup.*, layout.* until stable limit 9
    first {
        once a
    } else {
        at "encoder.*" {
            once b(rank=3)
        }
    }
    check error <= 2%, cosine >= 0.999
}
"""
FRAGMENTS = st.sampled_from(
    [
        *'(){}[]=+-*/%@.,:?|<>~"\\\n\t\r\x00#$é',
        "//",
        "///",
        "=>",
        "~>",
        "==",
        "...",
        "where",
        "rule",
        "law",
        "1e999",
        "const",
        "x: ",
        "{*}",
        "50%",
        "import",
        "\u2028",
        "9" * 50,
        " and ",
        ".T",
    ]
)
EDITS = st.lists(
    st.tuples(st.integers(0, len(SAMPLE)), st.integers(0, 12), FRAGMENTS), min_size=1, max_size=4
)


@given(EDITS)
@settings(max_examples=400, deadline=None, derandomize=True)
def test_damaged_files_parse_or_are_refused_with_a_diagnostic(edits: list[tuple[int, int, str]]) -> None:
    text = SAMPLE
    for at, length, fragment in edits:
        text = text[:at] + fragment + text[at + length :]
    try:
        file = parse(text)
    except TdslError as error:
        assert error.span is not None and error.render().startswith("<string>:")
        return
    formatted = format_file(file)
    assert parse(formatted) == file
    assert format_file(parse(formatted)) == formatted


COMMENTS = st.lists(st.tuples(st.integers(0, SAMPLE.count("\n")), st.booleans()), max_size=6)


@given(COMMENTS)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_no_comment_is_lost_wherever_it_stands(places: list[tuple[int, bool]]) -> None:
    lines = SAMPLE.split("\n")
    texts = []
    for i, (at, behind) in enumerate(places):
        texts.append(f"// comment {i}.")
        if behind and "//" not in lines[at]:
            lines[at] += f"  {texts[-1]}"
        else:
            lines.insert(at, texts[-1])
    text = "\n".join(lines)
    formatted = format_file(parse(text))
    assert all(comment in formatted for comment in texts), formatted
    assert parse(formatted) == parse(text)
    assert format_file(parse(formatted)) == formatted


def test_the_sample_is_canonical() -> None:
    assert format_file(parse(SAMPLE)) == SAMPLE
