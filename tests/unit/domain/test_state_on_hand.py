"""Which state a job has, by who said it: above all what Flink's HA metadata say where no JobManager answers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.domain.jobs import Job
from headrace.domain.state_on_hand import (
    Checkpoints,
    HaMetadata,
    Known,
    NeverHadAny,
    NotAsked,
    Unknown,
    ha_metadata_in,
    state_on_hand,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FLINK, OTHER = "a" * 32, "b" * 32


def ran(**facts: Any) -> Job:
    """A job of which nobody can say more than this: it has run since its state was learnt."""
    named = {"tenant": "default", "job_id": "orders", "cluster": "default", "namespace": "default"}
    times = {"created_at": NOW, "updated_at": NOW}
    facts = {"was_running": True, "ran_since_state": True, **facts}
    return Job(**named, deployment_name="orders", **times, **facts)  # type: ignore[arg-type]


@pytest.mark.parametrize("said", [NotAsked("refused"), Checkpoints(has_graph=False)])
def test_where_nobody_can_say_it_is_unknown(said: NotAsked | Checkpoints) -> None:
    assert isinstance(state_on_hand(ran(state_path=f"s3://b/{FLINK}/chk-7"), None, said), Unknown)


def test_without_a_checkpoint_in_the_ha_metadata_there_has_been_none() -> None:
    assert state_on_hand(ran(), None, HaMetadata(FLINK, None)) == NeverHadAny()


def test_a_run_that_was_never_restored_from_its_path_yet_still_has_that() -> None:
    assert state_on_hand(ran(state_path="s3://b/savepoint-1"), None, HaMetadata(FLINK, None)) == Known(
        "s3://b/savepoint-1", "savepoint"
    )


def test_where_runs_may_have_gone_unseen_empty_metadata_of_the_present_one_say_nothing_of_them() -> None:
    assert isinstance(state_on_hand(ran(is_gapped=True), None, HaMetadata(FLINK, None)), Unknown)


@pytest.mark.parametrize("seen_to_run", [True, False])
@pytest.mark.parametrize("newest", [7, 8, 12])
def test_the_newest_checkpoint_stands_beside_the_one_on_record(newest: int, seen_to_run: bool) -> None:
    job = ran(state_path=f"s3://b/{FLINK}/chk-7", ran_since_state=seen_to_run)
    assert state_on_hand(job, None, HaMetadata(FLINK, newest)) == Known(f"s3://b/{FLINK}/chk-{newest}", "checkpoint")


@pytest.mark.parametrize(
    "path",
    [None, f"s3://b/{OTHER}/chk-7", "s3://b/savepoint-aaaaaa-1", f"s3://b/{FLINK}/chk-8", f"s3://b/{FLINK}/chk-x"],
    ids=["none on record", "another job's", "a savepoint", "newer than the newest", "no number"],
)
def test_a_number_alone_is_no_path(path: str | None) -> None:
    found = state_on_hand(ran(state_path=path), None, HaMetadata(FLINK, 7))
    assert isinstance(found, Unknown)
    assert "number 7" in found.why


@given(st.dictionaries(st.text(max_size=30), st.text(max_size=5)), st.sets(st.integers(0, 2**63 - 1), max_size=5))
def test_keys_of_another_form_are_nobodys_checkpoint(others: dict[str, str], numbers: set[int]) -> None:
    odd = {f"checkpointID-{key}": value for key, value in others.items() if not key.isdigit()}
    data = {**others, **odd, **{f"checkpointID-{number:019d}": "handle" for number in numbers}}
    assert ha_metadata_in(FLINK, data) == HaMetadata(FLINK, max(numbers, default=None))
