"""What the table claims of its operators, in float64 against torch; a false claim fails the same test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from operator_samples import SAMPLES, Draw, Sample, T, called

from tdsl.ops import OPERATORS, Operator

DRAWS = 15
WITHOUT_VALUES = {"empty", "empty_like", "new_empty"}

Check = Callable[[Operator, Sample, torch.Generator], int]
"""Asserts a fact on one sample of tensors; the number of elements that were compared."""


def tensors(found: Sample, generator: torch.Generator) -> Sample:
    """The sample with its tensors made."""

    def value(given: Any) -> Any:
        if isinstance(given, T):
            return given.make(generator)
        return [value(item) for item in given] if isinstance(given, list) else given

    return {name: value(given) for name, given in found.items()}


def apply(op: Operator, found: Sample) -> list[torch.Tensor]:
    """The results of `op`, always as a list."""
    result = called(op, found, lambda t: t.make())
    return list(result) if isinstance(result, (list, tuple)) else [result]


def compare(found: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> int:
    for left, right in zip(found, expected, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-9, equal_nan=True, check_dtype=False)
    return sum(t.numel() for t in expected)


def claimed(fact: str) -> list[str]:
    return [name for name, op in OPERATORS.items() if getattr(op, fact) and op.target.startswith("aten")]


def hold(check: Check, op: Operator) -> None:
    """`check` holds on every sample of `op`, and compared something."""
    compared = 0
    for seed in range(DRAWS):
        generator = torch.Generator().manual_seed(seed)
        compared += check(op, tensors(SAMPLES[op.name](Draw(seed)), generator), generator)
    assert compared > 0


def real_operands(op: Operator, found: Sample) -> list[str]:
    def real(value: Any) -> bool:
        return isinstance(value, torch.Tensor) and value.is_floating_point()

    def carried(value: Any) -> bool:
        return all(real(t) for t in value) if isinstance(value, list) else real(value)

    return [p.name for p in op.operands if carried(found.get(p.name))]


def changed(given: Any, function: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    return [function(t) for t in given] if isinstance(given, list) else function(given)


# ---------------------------------------------------------------- the facts


def commutes(op: Operator, found: Sample, generator: torch.Generator) -> int:
    first, second = (p.name for p in op.operands[:2])
    if not all(isinstance(found[name], torch.Tensor) for name in (first, second)):
        return 0
    given = {name: found[name] for name in (first, second)}
    swapped = {first: found[second], second: found[first]}
    return compare(apply(op, swapped), apply(op, given))


def associates(op: Operator, found: Sample, generator: torch.Generator) -> int:
    first, second = (p.name for p in op.operands[:2])

    def f(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return apply(op, {first: x, second: y})[0]

    if op.name == "matmul":
        x, y, z = (
            torch.rand(shape, generator=generator, dtype=torch.float64)
            for shape in ((2, 3), (5, 3, 4), (4, 2))
        )
    else:
        x, y = found[first], found[second]
        if not isinstance(x, torch.Tensor) or not isinstance(y, torch.Tensor):
            return 0
        z = x.flip(list(range(x.dim()))) - (2 if not x.is_floating_point() else 0.5)
    return compare([f(f(x, y), z)], [f(x, f(y, z))])


def acts_on_each_element(op: Operator, found: Sample, generator: torch.Generator) -> int:
    """The result on all elements is that on each element alone, operands stretched to one shape first."""
    names = [n for n, v in found.items() if isinstance(v, torch.Tensor)]
    whole = apply(op, found)[0]
    flat = dict(zip(names, torch.broadcast_tensors(*(found[n] for n in names)), strict=True))
    scalar = {n for n in names if op.name == "masked_fill" and n == "value"}
    single = [
        apply(op, {**found, **{n: t if n in scalar else t.reshape(-1)[i].reshape(1) for n, t in flat.items()},
                   **{n: found[n] for n in scalar}})[0]
        for i in range(whole.numel())
    ]  # fmt: skip
    return compare([torch.cat(single)], [whole.reshape(-1)]) if single else 0


def acts_on_the_first_operand_only(op: Operator, found: Sample, generator: torch.Generator) -> int:
    assert [p.name for p in op.operands] == [op.params[0].name]
    return acts_on_each_element(op, found, generator)


def moves(op: Operator, found: Sample, generator: torch.Generator) -> int:
    """It commutes with the cube, which is not linear and leaves 0 where it is."""

    def cube(t: torch.Tensor) -> torch.Tensor:
        return t * t * t

    cubed = {name: changed(found[name], cube) for name in real_operands(op, found)}
    return compare(apply(op, {**found, **cubed}), [cube(t) for t in apply(op, found)])


def folds_in_any_order(op: Operator, found: Sample, generator: torch.Generator) -> int:
    """Elements that are folded together may change places; what is left keeps its size."""
    x, rank = found["x"], found["x"].dim()
    named = found["dim"] if isinstance(found["dim"], list) else [found["dim"]]
    gone = [d % rank for d in named] if named and rank else list(range(rank))
    kept = [i for i in range(rank) if i not in gone]
    rows = x.permute(kept + gone).reshape([x.shape[i] for i in kept] + [-1])
    order = torch.rand(rows.shape, generator=generator).argsort(-1)
    mixed = rows.gather(-1, order).reshape([x.shape[i] for i in kept + gone])
    back = torch.tensor(kept + gone, dtype=torch.int64).argsort().tolist()
    expected = apply(op, found)
    for result in apply(op, {**found, "keepdim": True}):
        assert result.shape == tuple(1 if i in gone else n for i, n in enumerate(x.shape))
    return compare(apply(op, {**found, "x": mixed.permute(back)}), expected)


def treats_rows_alike(op: Operator, found: Sample, generator: torch.Generator) -> int:
    """Rows in another order give results in that order; every result has the axes of x."""
    x, rank = found["x"], found["x"].dim()
    expected, compared = apply(op, found), 0
    assert all(result.dim() == rank for result in expected)
    for axis in range(rank):
        if axis == found.get("dim", -1) % rank:
            continue
        order = torch.rand(x.shape[axis], generator=generator).argsort()
        mixed = apply(op, {**found, "x": x.index_select(axis, order)})
        compared += compare(mixed, [result.index_select(axis, order) for result in expected])
    return compared


def is_linear_in(name: str) -> Check:
    def check(op: Operator, found: Sample, generator: torch.Generator) -> int:
        absent: Sample = {p.name: None for p in op.operands if p.optional and p.name != name}
        if op.name in ("addmm", "baddbmm"):
            absent["bias"] = torch.zeros_like(found["bias"])
        if not isinstance(found[name], (torch.Tensor, list)):
            return 0

        def f(value: Any) -> list[torch.Tensor]:
            return apply(op, {**found, **absent, name: value})

        def random(like: torch.Tensor) -> torch.Tensor:
            return torch.rand(like.shape, generator=generator, dtype=torch.float64) - 0.5

        u, v = (changed(found[name], random) for _ in range(2))
        if isinstance(u, list):
            mixed: Any = [2.0 * a - 3.0 * b for a, b in zip(u, v, strict=True)]
        else:
            mixed = 2.0 * u - 3.0 * v
        return compare(f(mixed), [2.0 * a - 3.0 * b for a, b in zip(f(u), f(v), strict=True)])

    return check


# ---------------------------------------------------------------- the claims, and planted false ones


@pytest.mark.parametrize("name", claimed("commutative"))
def test_commutative(name: str) -> None:
    hold(commutes, OPERATORS[name])


@pytest.mark.parametrize("name", claimed("associative"))
def test_associative(name: str) -> None:
    hold(associates, OPERATORS[name])


@pytest.mark.parametrize("name", claimed("pointwise"))
def test_pointwise(name: str) -> None:
    hold(acts_on_the_first_operand_only, OPERATORS[name])


@pytest.mark.parametrize("name", claimed("elementwise"))
def test_elementwise(name: str) -> None:
    hold(acts_on_each_element, OPERATORS[name])


@pytest.mark.parametrize("name", claimed("moves"))
def test_movement(name: str) -> None:
    hold(moves, OPERATORS[name])


@pytest.mark.parametrize("name", claimed("reduces"))
def test_reduction(name: str) -> None:
    hold(folds_in_any_order, OPERATORS[name])


@pytest.mark.parametrize("name", claimed("rowwise"))
def test_rows(name: str) -> None:
    hold(treats_rows_alike, OPERATORS[name])


@pytest.mark.parametrize(
    ("name", "operand"), [(n, o) for n in claimed("linear_in") for o in OPERATORS[n].linear_in]
)
def test_linear(name: str, operand: str) -> None:
    hold(is_linear_in(operand), OPERATORS[name])


@pytest.mark.parametrize(
    ("check", "name"),
    [
        (commutes, "sub"),
        (commutes, "lt"),
        (commutes, "matmul"),
        (associates, "sub"),
        (associates, "atan2"),
        (acts_on_the_first_operand_only, "softmax"),
        (acts_on_the_first_operand_only, "roll"),
        (acts_on_the_first_operand_only, "maximum"),
        (acts_on_each_element, "cosine_similarity"),
        (moves, "avg_pool2d"),
        (moves, "upsample_bilinear2d"),
        (moves, "exp"),
        (folds_in_any_order, "argmax"),
        (folds_in_any_order, "cumsum"),
        (treats_rows_alike, "flip"),
        (treats_rows_alike, "unfold"),
        (treats_rows_alike, "argmax"),
        (is_linear_in("x"), "add"),
        (is_linear_in("x"), "relu"),
        (is_linear_in("x"), "layer_norm"),
        (is_linear_in("query"), "attention"),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "__name__", "check"),
)
def test_a_false_claim_fails(check: Check, name: str) -> None:
    with pytest.raises((AssertionError, RuntimeError)):
        hold(check, OPERATORS[name])


# ---------------------------------------------------------------- randomness


def differs_between_seeds(op: Operator, found: Sample) -> bool:
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        results.append(apply(op, found))
    return any(not torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("name", claimed("random"))
def test_random_operators_draw(name: str) -> None:
    shape = [4, 20, 5]
    x = torch.full(shape, 0.5, dtype=torch.float64)
    given: Sample = {"x": x, "p": 0.5, "train": True, "size": shape}
    op = OPERATORS[name]
    assert differs_between_seeds(op, {p.name: given[p.name] for p in op.params if p.name in given})


@pytest.mark.parametrize("name", [n for n, op in OPERATORS.items() if not op.random and n in SAMPLES])
def test_other_operators_do_not_draw(name: str) -> None:
    if name in WITHOUT_VALUES | {"size", "item"}:
        return
    for seed in range(3):
        found = tensors(SAMPLES[name](Draw(seed)), torch.Generator().manual_seed(seed))
        assert not differs_between_seeds(OPERATORS[name], found)
