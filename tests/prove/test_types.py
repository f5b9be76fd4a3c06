"""Both sides have the same shapes for all sizes, not only for those that were drawn."""

from __future__ import annotations

import pytest

from tdsl.errors import TdslError
from tdsl.factor.table import vocabulary
from tdsl.lang import parse, tree
from tdsl.lang.resolve import Resolved, resolve
from tdsl.lang.typecheck import check_types
from tdsl.prove.check import fresh_verdict
from tdsl.prove.polynomial import Polynomial, quotient


def resolved_from(text: str) -> Resolved:
    (rule,) = parse(text).items
    assert isinstance(rule, tree.Rule)
    return resolve(rule, vocabulary())


@pytest.mark.parametrize(
    "text",
    [
        "rule r { relu(x: [n]) => slice(relu(x), dim=0, start=0, end=n - n div 40) }",
        "rule r { relu(x: [n, m]) => reshape(relu(x), [n, (m div 25) * 25 + m % 24]) }",
        "rule r { relu(x: [n]) => slice(relu(x), dim=0, start=max(n - 30, 0)) }",
        "rule r { avg_pool1d(x: [b, c, n], [1]) => slice(x, dim=-1, start=0, end=min(n, 20)) }",
        "rule r { concat(x: [n], y: [m], dim=0) => slice(concat(x, y, dim=0), dim=0, end=min(n + m, 31)) }",
        "rule r { mul(x: [n], a: const [n]) => x * V where V: [n - n div 40] = a + 0 }",
        "rule r(k: Int = 2) { slice(x: [n], dim=0, end=k) + 0 => slice(x, dim=0, end=min(k, 40)) }",
        "rule r { relu(pad(x: [n], [p, q])) => relu(slice(pad(x, [p, q]), dim=0, end=p + q + n - n div 64)) }",  # noqa: E501
    ],
)
def test_a_rule_that_is_right_on_small_instances_alone_is_refused_with_large_sizes(text: str) -> None:
    resolved = resolved_from(text)
    assert check_types(resolved) == ""  # no drawn size is large enough
    with pytest.raises(TdslError, match=r"different shapes|cannot be computed") as refusal:
        fresh_verdict(resolved)
    assert "for " in str(refusal.value)


@pytest.mark.parametrize(
    "text",
    [
        "rule r { relu(x: [n]) => slice(relu(x), dim=0, start=0, end=n - n div 40) where n < 40 }",
        "rule r { relu(x: [n]) => slice(relu(x), dim=0, start=max(n - 30, 0)) where n <= 30 }",
        "rule r { relu(x: [n]) => slice(relu(x), dim=0, end=n - n div 40) where shape(rhs) == shape(lhs) }",
        "rule r { max_pool1d(relu(x: [b, c, n]), k, s, p) => relu(max_pool1d(x, k, s, p)) where all_equal(p, 0) }",  # noqa: E501
        "rule r { linear(linear(x: [..., n], A: const [k, n], a?), B: const [m, k], b?) "
        "=> linear(x, B @ A, B @ a + b) }",
        "rule r { reshape(reshape(x, s), t) => reshape(x, t) }",
        "rule r { slice(relu(x: [n]), dim=0, end=e) => relu(slice(x, dim=0, end=e)) }",
        "rule r { relu(x: [n, m]) => reshape(relu(x), [n, 2 * (m div 2)]) where m % 2 == 0 }",
        "rule r { max_pool1d(relu(x: [b, c, n]), k, s, p) => relu(max_pool1d(x, k, s, p)) }",
        "rule r(k: Int = 2) { slice(x: [n], dim=0, end=k) + 0 => slice(x, dim=0, end=k) }",
        "rule r(f: elementwise) { f(neg(neg(x)), y) => f(x, y) }",
        "rule r { flip(conv1d(x, W: const [o, i, k], b?, padding=p), [-1]) "
        "=> conv1d(flip(x, [-1]), flip(W, [-1]), b, padding=p) }",
    ],
)
def test_types_are_known_for_all_sizes(text: str) -> None:
    verdict = fresh_verdict(resolved_from(text))
    assert verdict.status in ("proved", "tested"), verdict
    assert verdict.types == "for all sizes"


def test_what_sizes_alone_do_not_tell_is_known_of_the_instances() -> None:
    text = "rule r { reshape(x: [n, m], [m, n]) => reshape(x, [m, n + 0 * 2 ** m]) }"
    verdict = fresh_verdict(resolved_from(text))
    assert verdict.types.startswith(f"on {verdict.instances} instances: ")


def test_quotients_have_a_normal_form() -> None:
    n, s = Polynomial.variable("n"), Polynomial.variable("s")
    two, three, six = (Polynomial.constant(i) for i in (2, 3, 6))

    def div(x: Polynomial, y: Polynomial) -> Polynomial:
        return quotient(x, y, lambda _: True)

    assert div(div(n, two), three) == div(n, six)
    assert div(n * s + n, s) == n + div(n, s)
    assert div(six * n + three, six) == n
    assert div(two * n + three, six) == div(n + Polynomial.constant(1), three)
    assert div(n, two) != div(n + Polynomial.constant(1), two)
