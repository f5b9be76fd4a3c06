"""Every diagnostic as a whole: the texts in `diagnostics/` hold a mistake and what is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tdsl.errors import NotSupportedYet, TdslError
from tdsl.lang import parse, parse_file, tree
from tdsl.lang.example import check_example
from tdsl.lang.resolve import resolve
from tdsl.lang.typecheck import check_types
from tdsl.lang.unsupported import refuse_unsupported
from tdsl.lang.vocabulary import Function, Vocabulary

FOLDER = Path(__file__).parent / "diagnostics"
VOCABULARY = Vocabulary.standard(
    [Function("svd", "decomposition", ("W", "rank"), 2), Function("energy", "rank", ("v",))]
)


def cases() -> list[pytest.ParameterSet]:
    found = []
    for path in sorted(FOLDER.glob("*.txt")):
        for i, case in enumerate(path.read_text(encoding="utf-8").rstrip("\n").split("\n\n=====\n\n")):
            source, message = case.split("\n\n<string>:", 1)
            found.append(pytest.param(source, f"<string>:{message}", id=f"{path.stem}-{i}"))
    return found


def check(text: str) -> None:
    file = parse(text)
    refuse_unsupported(file)
    for item in file.items:
        if isinstance(item, tree.Rule):
            check_types(resolve(item, VOCABULARY))
        elif isinstance(item, tree.Example):
            check_example(item, VOCABULARY)


@pytest.mark.parametrize(("source", "message"), cases())
def test_a_mistake_is_named_with_its_place_and_its_remedy(source: str, message: str) -> None:
    with pytest.raises(TdslError) as caught:
        check(source)
    assert caught.value.render() == message


def test_every_folder_of_diagnostics_is_read() -> None:
    assert len(cases()) > 90


@pytest.mark.parametrize(
    "text",
    [
        "rule r { relu(relu(x)) => relu(x) }",
        "rule r { sub(x, y) => sub(y, x) where x == 3 }",
        "law commute { add(x, y) == add(y, x) }",
        "rule r(f: pointwise) { f(relu(x)) => f(x) }",
        "rule r { (relu(x: [n]) | gelu(x: [n])) => reshape(x, [n]) }",
        "rule r { relu(x: [n]) => x where k = n div 2\n k < n }",
        "rule r { relu(x: [n]) => x where n > 4 or n < 3 }",
        "rule r { relu(x: [n]) => x where n > 4\n n <= 5\n n != 7 }",
        "rule r { relu(x: [n, m]) => x where n < m\n m > 2 * n\n m % n == n - 1 }",
        "rule r { relu(x: [..., n]) => x where rank_of(x) > 1 and rank_of(x) < 3 }",
        "rule r { softmax(x, d) => x where d < 0\n d > -2 }",
        "rule r(least: Real = 0) { relu(x: [n]) => x where n > least\n n < least + 0.5 }",
        "rule r(on: Bool = true) { amax(x, d, k) => relu(amax(x, d, k)) where on and not k\n len(d) > 1 }",
        "rule r { cast(x, t) => x where dtype(x) == t or t == f32 }",
        "rule r { mul(x, s) => x where shape(s) == [1]\n all_equal(shape(x), 3) }",
        "pipeline p { repeat a until stable }",
        "example unchanged { relu(unchanged: [3]) => relu(unchanged) }",
        "rule r { relu(relu(unchanged)) => relu(unchanged) }",
        "example a.* { example = relu(x: f32 [2, 3])\n rule = cast(example, f16) => unchanged }",
        "example r(n=2) { linear(x: [3], W) => linear(x, V: const [2, 3]) where W = abs(U: const [2, 3]) }",
    ],
)
def test_near_misses_of_these_mistakes_are_accepted(text: str) -> None:
    check(text)


def test_what_is_not_supported_yet_says_so() -> None:
    with pytest.raises(NotSupportedYet):
        check("pipeline p { heal sgd }")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(TdslError, match="there is no file"):
        parse_file(tmp_path / "missing.tdsl")
    with pytest.raises(TdslError, match="is a directory"):
        parse_file(tmp_path)
    latin = tmp_path / "latin.tdsl"
    latin.write_bytes("// gut\n// schön".encode("latin-1"))
    with pytest.raises(TdslError, match=r"not UTF-8 text \(line 2, byte 13\)"):
        parse_file(latin)
    with pytest.raises(TdslError, match="not a path"):
        parse_file("a\0b")
