"""Every construct of the language parses into the tree that says what was written."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tdsl.errors import TdslError
from tdsl.lang import parse, parse_file, tree


def term(text: str) -> tree.Expr:
    """The condition `text` as a tree; conditions allow every expression."""
    rule = parse(f"rule r {{\n relu(x)\n =>\n x\n where\n f({text})\n}}").items[0]
    assert isinstance(rule, tree.Rule)
    clause = rule.where[0]
    assert isinstance(clause, tree.Condition) and isinstance(clause.test, tree.Call)
    return clause.test.arguments[0].value


def outline(node: object) -> str:
    """An expression with every bracket written."""
    match node:
        case tree.Name(id=name):
            return name
        case tree.Constant(value=value):
            return repr(value)
        case tree.Unary(operator=sign, operand=operand):
            return f"({sign} {outline(operand)})"
        case tree.Binary(operator=sign, left=left, right=right):
            return f"({outline(left)} {sign} {outline(right)})"
    raise AssertionError(node)


@pytest.mark.parametrize(
    ("text", "grouping"),
    [
        ("a + b * c", "(a + (b * c))"),
        ("a - b - c", "((a - b) - c)"),
        ("a @ b + c", "((a @ b) + c)"),
        ("a ** b ** c", "(a ** (b ** c))"),
        ("-a ** b", "(- (a ** b))"),
        ("a ** -b", "(a ** (- b))"),
        ("W.T @ x", "((T W) @ x)"),
        ("m div 2 * k", "((m // 2) * k)"),
        ("H % s == 0", "((H % s) == 0)"),
        ("not a < b and c or d", "(((not (a < b)) and c) or d)"),
        ("(a + b) * c", "((a + b) * c)"),
    ],
)
def test_operators_bind_as_in_python(text: str, grouping: str) -> None:
    assert outline(term(text)) == grouping


@pytest.mark.parametrize(
    ("text", "value", "percent"),
    [
        ("3", 3, False),
        ("1e-6", 1e-6, False),
        ("50%", 0.5, True),
        ("7%", 0.07, True),
        ('"a\\"b"', 'a"b', False),
        ("true", True, False),
        ("none", None, False),
    ],
)
def test_literals(text: str, value: object, percent: bool) -> None:
    found = term(text)
    assert isinstance(found, tree.Constant)
    assert (found.value, type(found.value), found.percent) == (value, type(value), percent)


def test_a_remainder_is_no_percentage() -> None:
    assert outline(term("50 % s")) == "(50 % s)"
    with pytest.raises(TdslError, match="unexpected"):
        parse("rule r { relu(x) => x where 50%s == 0 }")


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("f{*}(x)", 0, None),
        ("f{+}(x)", 1, None),
        ("f{2}(x)", 2, 2),
        ("f{1,3}(x)", 1, 3),
        ("f{2,}(x)", 2, None),
    ],
)
def test_repetition(text: str, least: int, most: int | None) -> None:
    call = term(text)
    assert isinstance(call, tree.Call) and call.repeat is not None
    assert (call.repeat.least, call.repeat.most) == (least, most)


def test_declared_variables_and_splats() -> None:
    call = term("f(x: [..., 2 * n], W: const f32 [m, n], b?, c?: [m], d: const, e: f16, xs..., g(xs)...)")
    assert isinstance(call, tree.Call)
    x, w, b, c, d, e, xs, g = (a.value for a in call.arguments)
    assert (
        isinstance(x, tree.Declared) and x.type and x.type.dims and isinstance(x.type.dims[0], tree.Ellipsis_)
    )
    assert isinstance(w, tree.Declared) and w.type and w.type.const and w.type.dtype == "f32"
    assert isinstance(b, tree.Declared) and b.optional and b.type is None
    assert isinstance(c, tree.Declared) and c.optional and c.type is not None
    assert isinstance(d, tree.Declared) and d.type and d.type.const and d.type.dims is None
    assert isinstance(e, tree.Declared) and e.type and e.type.dtype == "f16"
    assert isinstance(xs, tree.Splat) and isinstance(xs.value, tree.Name)
    assert isinstance(g, tree.Splat) and isinstance(g.value, tree.Call)


def test_alternatives_carry_their_own_conditions() -> None:
    found = term("(relu(x) | gelu(x: [..., n]) where n > 8, k = n div 2)")
    assert isinstance(found, tree.Alternatives)
    first, second = found.options
    assert first.where == ()
    assert [type(c) for c in second.where] == [tree.Condition, tree.Definition]


def test_sides_of_several_equations_need_only_new_lines() -> None:
    rule = parse(
        """rule r {
            p = linear(x, A)
            (q, s) = split(
                p, [k, m],
                dim=-1)
          =>
            p = relu(x)
              + x
        }"""
    ).items[0]
    assert isinstance(rule, tree.Rule)
    assert [e.names for e in rule.lhs] == [("p",), ("q", "s")]
    assert len(rule.rhs) == 1 and isinstance(rule.rhs[0].term, tree.Binary)


def test_a_line_that_begins_with_an_operator_continues_and_one_with_a_bracket_does_not() -> None:
    rule = parse(
        """rule r { relu(x) => x where
            k = m
            (U, V) = svd(W, k)
            a
            - b < c
            -b < c
            a < b // a comment between

            and c < d
        }"""
    ).items[0]
    assert isinstance(rule, tree.Rule)
    assert [type(c).__name__ for c in rule.where] == ["Definition", "Definition", *["Condition"] * 3]


def test_two_conditions_on_one_line_are_refused() -> None:
    with pytest.raises(TdslError, match="unexpected `c`"):
        parse("rule r { relu(x) => x where a < b c < d }")


def test_parameters() -> None:
    rule = parse("rule r(rank: Rank = energy(0.95), pool: max_pool2d | avg_pool2d) { pool(x) => x }").items[0]
    assert isinstance(rule, tree.Rule)
    rank, pool = rule.parameters
    assert rank.kinds == ("Rank",) and isinstance(rank.default, tree.Call)
    assert pool.kinds == ("max_pool2d", "avg_pool2d") and pool.default is None


def test_doc_comments_belong_to_the_declaration_and_others_to_the_file() -> None:
    file = parse("// a file\n/// One.\n///   Two.\nrule r { relu(x) => x } // behind\n")
    rule = file.items[0]
    assert isinstance(rule, tree.Rule) and rule.doc == "One.\n  Two."
    assert file.comments == ((1, "// a file"), (4, "// behind"))


def test_where_is_an_operator_where_its_bracket_touches_it() -> None:
    text = "rule r {\n    p = relu(x)\n    where(c, p, y)\n  =>\n    p\n  where\n    (a == 1 or b == 2)\n}\n"
    (rule,) = parse(text).items
    assert [equation.term.callee for equation in rule.lhs] == ["relu", "where"]
    assert len(rule.where) == 1
    chosen = term("(relu(x) where n > 8 | where(c, x, y))")
    assert [len(option.where) for option in chosen.options] == [1, 0]
    with pytest.raises(TdslError):
        parse("rule r { where => x }")


def test_keywords_are_names_where_they_mean_nothing() -> None:
    rule = parse("rule limit { conv(input, group, first=at) => check(output) }").items[0]
    assert isinstance(rule, tree.Rule) and rule.name == "limit"


def test_groups_actions_and_contracts() -> None:
    group, action, contract = parse(
        """group C4 = cyclic(4)
        action rot90 of C4 on [..., H, W] { generator: rot90(x, dims=(H, W)) }
        symmetry s { group C4 input x: [N, H, W] by rot90 output y: [N, K] invariant tolerance 1e-5 }"""
    ).items
    assert isinstance(group, tree.Group) and group.name == "C4"
    assert isinstance(action, tree.Action) and (action.group, len(action.generators)) == ("C4", 1)
    assert isinstance(contract, tree.Symmetry) and contract.tolerance is not None
    assert [(e.side, e.action) for e in contract.edges] == [("input", "rot90"), ("output", None)]


def test_every_strategy() -> None:
    pipeline = parse(
        """pipeline p(size: Ratio = 50%) {
            repeat cleanup.*, a.b until stable limit 100
            once factorize.linear.svd_linear(rank=energy(0.9))
            run pipelines.edge(kept=99%)
            first { once a } else { once b }
            top_down { once a }
            bottom_up { once b }
            at "encoder.*", "head" { once c }
            choose f.*, g minimize latency subject to bytes <= size, error <= 1%
            heal least_squares
            quantize int8(per_channel=true)
            check error <= 2%, cosine >= 0.999
        }"""
    ).items[0]
    assert isinstance(pipeline, tree.Pipeline)
    assert [type(s).__name__ for s in pipeline.steps] == [
        *(
            "Repeated",
            "Once",
            "Run",
            "First",
            "Ordered",
            "Ordered",
            "At",
            "Choose",
            "Heal",
            "Quantize",
            "Check",
        )
    ]
    repeated, once, *_, choose, _, quantize, check = pipeline.steps
    assert isinstance(repeated, tree.Repeated) and repeated.limit == 100
    assert [r.pattern for r in repeated.rules] == ["cleanup.*", "a.b"]
    assert isinstance(once, tree.Once) and once.rules[0].arguments[0].name == "rank"
    assert isinstance(choose, tree.Choose) and len(choose.budgets) == 2
    assert isinstance(quantize, tree.Quantize) and quantize.arguments
    assert isinstance(check, tree.Check) and len(check.bounds) == 2


def test_imports_of_files_and_of_the_library() -> None:
    file, library = parse('import "blocks.tdsl"\nimport cleanup.identity').items
    assert isinstance(file, tree.Import) and (file.path, file.library) == ("blocks.tdsl", False)
    assert isinstance(library, tree.Import) and (library.path, library.library) == ("cleanup.identity", True)


def test_windows_line_ends_and_a_byte_order_mark_change_nothing() -> None:
    text = "/// Doc.\nrule r {\n    relu(x)\n  =>\n    x\n}\n"
    assert parse("\ufeff" + text.replace("\n", "\r\n")) == parse(text)


def test_spans_point_into_the_text() -> None:
    rule = parse("\n  rule r { relu(x) => x }").items[0]
    assert (rule.span.line, rule.span.column, rule.span.end_column) == (2, 3, 26)


def test_a_chain_of_thousands_of_brackets_is_no_crash() -> None:
    many = 3000
    parse("rule r { relu(" + "(" * many + "x" + ")" * many + ") => x }")
    for opening, closing in (("f(", ")"), ("[", "]"), ("-", ""), ("x + (", ")")):
        with pytest.raises(TdslError, match="levels deep"):
            parse("rule r { relu(" + opening * many + "x" + closing * many + ") => x }")


def test_files_are_read_as_utf8(tmp_path) -> None:
    good = tmp_path / "good.tdsl"
    good.write_text("/// W ≈ U·V\nrule r { relu(x) => x }", encoding="utf-8")
    assert parse_file(good).span.source.name == str(good)


def test_the_front_end_starts_without_torch() -> None:
    code = "import sys, tdsl.lang, tdsl.lang.typecheck, tdsl.lang.imports; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    control = "import sys, tdsl.ops.targets; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", control], check=False).returncode == 1
