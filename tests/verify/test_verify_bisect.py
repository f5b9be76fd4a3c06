"""Bisection: the rewrite it names, for any pattern of breaking and mending."""

from hypothesis import given
from hypothesis import strategies as st

from tdsl.verify import guilty


@given(st.integers(1, 200), st.data())
def test_the_first_bad_rewrite_is_found_in_few_steps(count, data):
    bad = data.draw(st.integers(1, count))
    asked = []

    def broken(k):
        asked.append(k)
        return k >= bad

    assert guilty(count, broken) == bad
    assert len(asked) == len(set(asked)) <= count.bit_length() + 3


@given(st.lists(st.booleans(), min_size=1, max_size=30))
def test_the_answer_breaks_what_held_before_it_whatever_later_rewrites_mend(states):
    history = [False, *states]
    answer = guilty(len(states), history.__getitem__)
    if history[-1]:
        assert history[answer] and not history[answer - 1]
    else:
        assert answer is None


def test_a_contract_broken_without_rewrites_is_not_their_fault():
    assert guilty(8, lambda k: True) is None


def test_no_rewrite_is_guilty_where_none_breaks_anything_or_there_is_none():
    assert guilty(8, lambda k: False) is None
    assert guilty(0, lambda k: True) is None
