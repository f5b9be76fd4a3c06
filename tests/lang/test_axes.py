"""Lists of axes as rules compute with them, against what torch does to tensors."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tdsl.lang import axes

PERMUTATIONS = st.integers(1, 5).flatmap(lambda n: st.permutations(range(n)))
SIZES = (2, 3, 5, 7, 11)


def values(count: int) -> torch.Tensor:
    return torch.arange(torch.Size(SIZES[:count]).numel()).reshape(SIZES[:count])


@given(PERMUTATIONS, st.data())
def test_permutations_compose_and_are_undone(p: list[int], data: st.DataObject) -> None:
    x, q = values(len(p)), data.draw(st.permutations(p))
    assert torch.equal(x.permute(p).permute(q), x.permute(axes.compose(p, q)))
    assert torch.equal(x.permute(p).permute(axes.inverse(p)), x)
    a, b = data.draw(st.tuples(*[st.integers(0, len(p) - 1)] * 2))
    assert torch.equal(x.transpose(a, b), x.permute(axes.exchange(len(p), a, b)))


@given(PERMUTATIONS, st.data())
def test_axes_that_go_are_found_and_the_others_keep_their_order(p: list[int], data: st.DataObject) -> None:
    places = data.draw(st.sets(st.integers(-len(p), -1), max_size=len(p) - 1).map(sorted))
    x, gone = values(len(p)), axes.sources(p, places)
    kept = axes.remaining(p, places)  # of none all go, as in a sum
    assert torch.equal(x.permute(p).sum(places), x.sum(gone).permute(kept))
    assert [axes.sources(p, place) for place in places] == gone
    assert axes.sources(p, None) is None and axes.remaining(p, None) == []


@given(st.permutations(range(3)), st.integers(1, 3), st.data())
def test_numbers_of_windows_go_back_with_the_axes(p: list[int], lead: int, data: st.DataObject) -> None:
    order = [*range(lead), *(lead + place for place in p)]
    widths = data.draw(st.lists(st.integers(1, 4), min_size=3, max_size=3))
    ones = torch.ones(*[1] * lead, *widths)
    assert list(ones.permute(axes.inverse(order)).shape[lead:]) == axes.unpermuted(widths, order)
    assert axes.unpermuted(None, order) is None
    with pytest.raises(ValueError, match="brings others"):
        axes.unpermuted(widths, [len(order) - 1, *range(len(order) - 1)])


@given(st.lists(st.integers(0, 4), min_size=1, max_size=3), st.data())
def test_borders_are_mirrored_with_their_image(widths: list[int], data: st.DataObject) -> None:
    rank = len(widths)
    pad = [width for after in widths for width in (after, data.draw(st.integers(0, 4)))]
    along = data.draw(st.sets(st.integers(-rank, -1)).map(sorted))
    x = values(rank)
    flipped = torch.nn.functional.pad(x.flip(along), axes.reflected(pad, along), value=-1)
    assert torch.equal(torch.nn.functional.pad(x, pad, value=-1).flip(along), flipped)


@given(st.integers(1, 5), st.data())
def test_axes_close_up_where_others_go(rank: int, data: st.DataObject) -> None:
    gone = data.draw(st.sets(st.integers(-rank, -1), min_size=1).map(sorted))
    x = values(rank)
    for axis in range(-rank, 0):
        if axis in gone:
            with pytest.raises(ValueError, match="some go"):
                axes.standing(axis, gone)
        else:
            assert torch.equal(x.flip(axis).sum(gone), x.sum(gone).flip(axes.standing(axis, gone)))
    with pytest.raises(ValueError, match="some go"):
        axes.standing([-1], None)


def test_lists_of_axes_and_sizes() -> None:
    assert axes.apart([-1, -3], [-3, -2]) == [-2, -1]
    assert axes.includes([1, 2], 2) and not axes.includes([1, 2], 3) and not axes.includes(2, 2)
    assert axes.covers([], [-1]) and axes.covers([-2, -1], [-1]) and not axes.covers([-2], [-1])
    assert axes.sizes((4, 5), [-1, -3]) == [5, 1]
    assert axes.entries([4, 5], [-1, -3, -2], 0) == [5, 0, 4]
    assert axes.aligned((4, 5), 4) == [1, 1, 4, 5]


def test_axes_of_a_reshape_are_found_where_they_are_left_alone() -> None:
    x = values(3)
    for shape in ((2, 3, 1, 5), (6, 5), (1, 2, 15)):
        found = 0
        for axis in (-3, -2, -1):
            try:
                place = axes.kept(x.shape, shape, axis)
            except ValueError:
                continue
            assert torch.equal(x.flip(axis).reshape(shape), x.reshape(shape).flip(place))
            found += 1
        assert found
    with pytest.raises(ValueError, match="none of"):
        axes.kept((2, 3, 5), (6, 5), [-1, -2])
    assert axes.kept((4, 1, 1), (4, 1, 1, 1), [-2, -1]) == [-1, -2]  # each has a place of its own
