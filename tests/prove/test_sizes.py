"""Arithmetic on sizes that stand for every number, against the same arithmetic on numbers."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tdsl.prove.assumptions import ONE, Assumptions, Contradiction
from tdsl.prove.polynomial import Join, Polynomial
from tdsl.prove.size import Path, Size

POSITIVE = ("a", "b", "c")
ANY = "u"
POINTS = [
    dict(zip((*POSITIVE, ANY), point, strict=True))
    for point in itertools.product((1, 2, 3, 5), (1, 2, 4), (1, 3, 6), (-2, 0, 1, 4))
]
MOST_PATHS = 40
UNDEFINED = "not defined"

Point = Mapping[str, int]


def size(source: random.Random, depth: int) -> str:
    """The text of a random size, `j` for what the first two sizes broadcast to."""
    if depth == 0 or source.random() < 0.15:
        return source.choice((*POSITIVE, ANY, "j", str(source.randint(-2, 4))))
    one, other = size(source, depth - 1), size(source, depth - 1)
    divisor = source.choice(("2", "3", "a", "b", "j", "(a + c)", "(2 * b)", ANY))
    return source.choice(
        (
            f"({one} + {other})",
            f"({one} - {other})",
            f"({one} * {other})",
            f"({one} // {divisor})",
            f"({one} % {divisor})",
            f"max({one}, {other})",
            f"min({one}, {other})",
            f"abs({one})",
            f"({one} if {condition(source, depth - 1)} else {other})",
        )
    )


def condition(source: random.Random, depth: int = 1) -> str:
    sign = source.choice(("==", "!=", "<", "<=", ">", ">="))
    return f"{size(source, depth)} {sign} {size(source, depth)}"


def computed(text: str, names: Mapping[str, Any]) -> Any:
    return eval(text, {"max": max, "min": min, "abs": abs}, dict(names))


def at(text: str, point: Point) -> Any:
    """What a text says of numbers."""
    try:
        return computed(text, point)
    except ZeroDivisionError:
        return UNDEFINED


def holds(decided: Any, point: Point) -> bool:
    try:
        return bool(decided.holds_at(point))
    except ZeroDivisionError:
        return False


def with_join(joined: tuple[str, str], point: Point) -> dict[str, int] | None:
    """A point with what two sizes broadcast to there."""
    one, other = (computed(text, point) for text in joined)
    return {**point, "j": max(one, other)} if one == other or 1 in (one, other) else None


def found_on(path: Path, joined: tuple[str, str], said: list[str], text: str) -> Any:
    """The size along a path, `UNDEFINED` where the path is that of no point."""
    names: dict[str, Any] = {n: Size(path, Polynomial.variable(n)) for n in (*POSITIVE, ANY)}
    try:
        one, other = (computed(each, names) for each in joined)
        names["j"] = one.joined(other)
        for each in said:
            value = computed(each, names)
            if not (value if isinstance(value, bool) else value.assumed()):
                return UNDEFINED
        path.matching = False
        return computed(text, names)
    except (ZeroDivisionError, Contradiction):
        return UNDEFINED


def paths(start: Point, joined: tuple[str, str], said: list[str], text: str) -> Iterator[tuple[Path, Any]]:
    """Every way through the conditions that a text asks about, with the size along it; none of too many."""
    pending: list[tuple[bool, ...]] = [()]
    found: list[tuple[Path, Any]] = []
    while pending:
        path = Path(POSITIVE, {n: v for n, v in start.items() if n != "j"}, pending.pop())
        found.append((path, found_on(path, joined, said, text)))
        taken = tuple(decision.outcome for decision in path.decisions)
        pending += [(*taken[:i], not taken[i]) for i in range(len(path.forced), len(taken))]
        if len(found) > MOST_PATHS:
            return
    yield from found


def compared(seed: int) -> int:
    """At how many points a random size is what it is along the path that leads there."""
    source = random.Random(seed)
    joined = source.choice(POSITIVE), source.choice((*POSITIVE, "1", "2", "(a * c)"))
    said = [condition(source) for _ in range(source.choice((0, 0, 1, 1, 2)))]
    text = size(source, 3)
    whole = [point for point in (with_join(joined, each) for each in POINTS) if point is not None]
    here = [point for point in whole if all(at(each, point) is True for each in said)]
    reached: set[tuple[int, ...]] = set()
    every = list(paths(source.choice(here), joined, said, text)) if here else []
    for path, found in every:
        for point in (p for p in here if all(holds(each, p) for each in (*path.taken, *path.decisions))):
            what = f"seed {seed}: {text} where {said} and {joined}, {list(map(str, path.decisions))}, {point}"
            number = found.x.at(point) if isinstance(found, Size) else found
            assert number == at(text, point), what
            reached.add(tuple(point.values()))
    assert len(reached) == len(here) * bool(every), f"seed {seed}: points on no path, {text} where {said}"
    return len(reached)


@pytest.mark.parametrize("first", range(0, 300, 100))
def test_along_every_path_a_size_is_what_it_is_of_numbers(first: int) -> None:
    assert sum(compared(seed) for seed in range(first, first + 100)) > 1000


def test_what_divides_is_not_zero_afterwards() -> None:
    known = Assumptions()
    divisor, size = Polynomial.variable("u"), Polynomial.variable("n")
    known.add(divisor, "zero", False)
    known.add(divisor, "least")
    known.add(known.divided(size, divisor) - size, "least")
    with pytest.raises(Contradiction):
        known.add(-divisor, "least")


def test_an_equation_is_not_solved_for_what_stands_on_both_sides() -> None:
    """`n + m == k * n` says of a broadcast size n only what it says."""
    known = Assumptions(POSITIVE)
    joined = Join.of((Polynomial.variable("a"), Polynomial.variable("c")))
    known.add(joined + Polynomial.variable("a") - Polynomial.variable("b") * joined, "zero")
    assert known.normal(joined) == joined


def test_what_is_not_negative_and_not_zero_is_one_at_least() -> None:
    known = Assumptions(POSITIVE)
    x = Polynomial.variable("a") - Polynomial.variable("b")
    known.add(x, "least")
    assert known.known(x - ONE, "least") is None
    known.add(x, "zero", False)
    assert known.known(x - ONE, "least") is True
    assert known.known(x - ONE - ONE, "least") is None


def test_a_number_broadcasts_with_one_and_itself_and_perhaps_with_a_size() -> None:
    known = Assumptions(POSITIVE)
    two, three, size = ONE + ONE, ONE + ONE + ONE, Polynomial.variable("a")
    assert known.fit(two, three) is False
    assert known.fit(two, size) is None and known.fit(size, two) is None
    assert known.fit(ONE, size) is True and known.fit(two, two) is True
