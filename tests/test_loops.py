"""Text that goes round in circles is found; text that repeats itself a little is left alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyloom.core.loops import LONGEST, going_round


@pytest.mark.parametrize(
    ("ids", "length"),
    [
        ([], 0),
        ([5] * 11, 0),
        ([5] * 12, 1),
        ([1, 2] * 5, 0),
        ([9, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2], 2),
        ([1, 2, 3] * 4, 3),
        ([1, 2, 3] * 4 + [4], 0),
        (list(range(40)) * 4, 0),
    ],
)
def test_rounds_are_counted_at_the_end_alone(ids, length):
    assert going_round(ids) == length


@given(st.lists(st.integers(), max_size=20), st.lists(st.integers(), min_size=3, max_size=LONGEST, unique=True))
def test_any_round_of_different_tokens_is_found_the_fourth_time(before, said):
    assert going_round(before + said * 4) == len(said)


@given(st.lists(st.integers(), max_size=200, unique=True))
def test_text_without_repetition_is_none(ids):
    assert going_round(ids) == 0


@pytest.mark.parametrize(
    ("ids", "length"),
    [
        ([n for k in (6, 7, 8, 9) for n in (100 + k, 1, 2, 3)], 3),
        ([n for k in ((8,), (9,), (1, 0), (1, 1)) for n in (*(100 + d for d in k), 1, 2, 3)], 3),
        ([n for k in range(20) for n in (*(int(d) + 100 for d in str(k)), 1, 2)], 0),  # counting: "6, 7, 8, 9, "
        ([n for k in (6, 7, 8, 9) for n in (100 + k, 1, 2, k)], 0),
    ],
)
def test_rounds_that_are_numbered_are_rounds(ids, length):
    assert going_round(ids, frozenset(range(100, 110))) == length
