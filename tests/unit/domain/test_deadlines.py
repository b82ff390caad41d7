"""A deadline is time spent: by whatever clocks those go that look at an operation in turns."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from headrace.domain.operations.operation import LONGEST_LOOK_SECONDS, LONGEST_SKEW_SECONDS
from tests.support.given import OPERATION

BEGUN = OPERATION.accepted_at


@given(st.lists(st.tuples(st.floats(0.1, 30), st.sampled_from([-180, 0, 240])), min_size=1, max_size=60))
def test_clocks_that_differ_spend_their_difference_once_at_most(looks: list[tuple[float, int]]) -> None:
    operation, passed = replace(OPERATION, looked_at=None, spent_seconds=0.0), 0.0
    for seconds, ahead in looks:
        passed += seconds
        operation = operation.looked(BEGUN + timedelta(seconds=passed + ahead))
    assert operation.spent_seconds <= passed + 2 * LONGEST_LOOK_SECONDS  # there are two differences


def test_one_clock_spends_what_passes() -> None:
    operation = replace(OPERATION, looked_at=None, spent_seconds=0.0)
    for n in range(11):
        operation = operation.looked(BEGUN + timedelta(seconds=10 * n))
    assert operation.spent_seconds == 100


def test_a_look_by_a_clock_that_was_wrong_stops_no_deadline() -> None:
    wrong = replace(OPERATION, looked_at=BEGUN + timedelta(seconds=2 * LONGEST_SKEW_SECONDS), spent_seconds=0.0)
    looked = wrong.looked(BEGUN).looked(BEGUN + timedelta(seconds=30))
    assert looked.spent_seconds == 30
