"""What memory has no room for is read again where computing it takes longer, bit for bit and axis by axis."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from tdsl.factor.interpolative import _kept_in_place
from tdsl.factor.memo import Memory, digest
from tdsl.factor.moment import cholesky_in_place, new_root, solved_by_root


class Pair(NamedTuple):
    left: Tensor
    right: Tensor
    error: float


class Counted:
    """Makes a pair of 16 kB, slowly, and counts how often."""

    def __init__(self, number: int, seconds: float = 0.02) -> None:
        self.number, self.seconds, self.count = number, seconds, 0

    def __call__(self) -> Pair:
        self.count += 1
        time.sleep(self.seconds)
        base = torch.arange(1024, dtype=torch.float64).reshape(32, 32) + self.number
        return Pair(base, -base.T, 0.5)


class Place:
    """Keeps what is laid aside, and how many tensors that are."""

    def __init__(self) -> None:
        self.opened = self.tensors = 0

    def __call__(self) -> Callable[[Tensor], Callable[[], Tensor]]:
        self.opened += 1

        def put(tensor: Tensor) -> Callable[[], Tensor]:
            if not isinstance(tensor, Tensor):
                return lambda: tensor
            self.tensors += 1
            kept = tensor.clone(memory_format=torch.contiguous_format)
            return lambda: kept

        return put


def visited(memory: Memory, makers: list[Counted], rounds: int = 3) -> list[Pair]:
    return [memory.recall(maker.number, maker) for _ in range(rounds) for maker in makers]


def test_what_there_is_no_room_for_is_made_once_where_there_is_a_place_for_it() -> None:
    memory, place, makers = Memory(40_000), Place(), [Counted(i) for i in range(4)]
    with memory.limited(20_000, place):
        found = visited(memory, makers)
    assert [maker.count for maker in makers] == [1] * 4
    assert place.opened == 1 and place.tensors == 8
    for number, pair in enumerate(found):
        expected = Counted(number % 4, 0.0)()
        torch.testing.assert_close(pair.left, expected.left, rtol=0, atol=0)
        torch.testing.assert_close(pair.right, expected.right, rtol=0, atol=0)
        assert pair.right.stride() == expected.right.stride() and pair.error == 0.5
    assert not torch.equal(found[0].left, found[1].left)


def test_without_a_place_and_after_it_is_gone_it_is_made_again() -> None:
    memory, makers = Memory(20_000), [Counted(i) for i in range(3)]
    visited(memory, makers)
    assert [maker.count for maker in makers] == [3] * 3
    with memory.limited(20_000, Place()):
        visited(memory, makers)
    visited(memory, makers, rounds=1)
    assert min(maker.count for maker in makers) >= 4


def test_what_is_made_faster_than_it_is_read_is_not_laid_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tdsl.factor.memo.READ", 1.0)
    memory, place, makers = Memory(40_000), Place(), [Counted(i, 0.0) for i in range(3)]
    with memory.limited(20_000, place):
        visited(memory, makers)
    assert place.opened == 0
    assert [maker.count for maker in makers] == [3] * 3


def test_clearing_opens_another_place_and_a_full_one_takes_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    memory, place, makers = Memory(40_000), Place(), [Counted(i) for i in range(3)]
    with memory.limited(20_000, place):
        visited(memory, makers, rounds=1)
        memory.clear()
        visited(memory, makers, rounds=1)
        assert place.opened == 2 and [maker.count for maker in makers] == [2] * 3
        monkeypatch.setattr("tdsl.factor.memo.ASIDE", 0)
        before = place.tensors
        visited(memory, makers)
    assert place.tensors == before and max(maker.count for maker in makers) > 2


def test_a_digest_comes_back_with_its_tensor_unless_it_was_written_into() -> None:
    memory, makers = Memory(20_000), [Counted(i) for i in range(2)]
    with memory.limited(20_000, Place()):
        first = memory.recall(0, makers[0])
        known = digest(first.left)
        memory.recall(1, makers[1])
        again = memory.recall(0, makers[0]).left
        assert again is not first.left and digest(again) == known
        again[0, 0] += 1
        assert digest(again) != known


def test_a_view_of_all_numbers_has_their_digest_in_its_own_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.arange(12.0).reshape(3, 4).clone()
    for view in (weight.reshape(2, 6), weight.T, weight[1:], weight.flatten()[2:].view(2, 5)):
        assert digest(view) == digest(view.clone()) and digest(view)[1] == tuple(view.shape)
    assert digest(weight.reshape(2, 6)) != digest(weight.T.reshape(2, 6))
    before = digest(weight.reshape(2, 6))
    weight.detach()[0, 0] = 5
    assert digest(weight.reshape(2, 6)) != before
    monkeypatch.setattr("tdsl.factor.memo._hashed", lambda tensor: pytest.fail("it was read again"))
    assert digest(weight.reshape(4, 3)) != digest(weight.reshape(2, 6))


def start(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def moment(size: int, rank: int) -> Tensor:
    rows = torch.randn(rank, size, dtype=torch.float64)
    found = rows.T @ rows
    return (found + found.T) / 2


def test_a_moment_is_factored_in_its_own_memory() -> None:
    given = moment(40, 60)
    want, where = torch.linalg.cholesky(given), start(given)
    factor = cholesky_in_place(given)
    assert factor is not None and start(factor) == where
    assert torch.equal(factor, want)
    assert cholesky_in_place(-moment(40, 60)) is None  # the control


def test_a_root_leaves_the_moment_as_it_was() -> None:
    given = moment(40, 60)
    before = given.clone()
    assert start(new_root(given)) != start(given)
    assert torch.equal(given, before)


def test_what_is_left_of_a_matrix_moves_to_its_beginning() -> None:
    given = moment(300, 300)
    places = torch.randperm(300)[:170].sort().values
    want, where = given[places[:, None], places], start(given)
    kept = _kept_in_place(given, places)
    assert torch.equal(kept, want) and kept.is_contiguous()
    assert start(kept) == where


@pytest.mark.parametrize("rank", [60, 12])
def test_a_system_of_a_root_is_solved_whatever_its_form(rank: int) -> None:
    given = moment(40, rank)
    given -= 1e-7 * given.diagonal().mean() * torch.eye(40)  # which no Cholesky factor has if it lacks rank
    root, right = new_root(given), torch.randn(40, 3, dtype=torch.float64)
    assert bool(root.triu(1).any()) == (rank < 40)
    assert torch.allclose(root.T @ solved_by_root(root, right), right, atol=1e-6)
